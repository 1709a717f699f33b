"""Which reports a clinician's question is about, and who was given and told what, on both engines."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import timedelta
from functools import partial

from gateway.model.reporting.seams import FeedMessage
from gateway.release.clinicians import telling
from gateway.release.intake import Intake
from policy.parties import TrustId
from storage.clinical import finding, readers
from storage.registers import patients
from storage.store import SqlStore, new_id
from tests.clinicians.ward import reported
from tests.clock import NOON
from tests.sharing.rows import ANNE, RZ1
from tests.storage.cache_rig import FixedKeys

RZ3 = TrustId("RZ3")


async def filed(store: SqlStore, number: str, *, study: str = "", accession: str = "") -> str:
    """A report of Anne's that names these; its id."""
    intake = Intake(store, FixedKeys(), telling.queue, random=os.urandom, new_id=new_id, elsewhere=asyncio.to_thread)
    named = (study,) if study else ()
    numbers = (accession,) if accession else ()
    one = replace(reported(report_number=number), study_uids=named, accessions=numbers)
    taken = await intake.take(FeedMessage(one.trust, "ris", number, "ORU^R01", one.received_at, (one,), raw=b"MSH"))
    return taken.report_ids[0]


async def test_a_report_is_found_by_patient_study_and_accession_number(store: SqlStore) -> None:
    linked = await filed(store, "R1", study="1.2.3", accession="ACC00001")
    alone = await filed(store, "R2", accession="ACC00002")
    rows = await store.patient_rows([patients.nhs(ANNE)])

    async def ids(which: finding.Which) -> set[str]:
        return {each.report_id for each in await store.read(which)}

    own = finding.own_study_uid(alone)
    assert await ids(partial(finding.of_patients, patient_rows=rows)) == {linked, alone}
    assert await ids(partial(finding.of_studies, study_uids=["1.2.3"])) == {linked}
    assert await ids(partial(finding.of_studies, study_uids=[own, "1.9"])) == {alone}
    assert await ids(partial(finding.of_accession, number="ACC00002")) == {alone}
    assert await ids(partial(finding.of_patients, patient_rows=())) == set()


async def test_a_report_of_a_known_study_stands_under_no_other(store: SqlStore) -> None:
    linked = await filed(store, "R1", study="1.2.3")
    own = finding.own_study_uid(linked)
    assert await store.read(partial(finding.studies_of, report_id=linked)) == ("1.2.3",)
    assert await store.read(partial(finding.of_studies, study_uids=[own])) == ()
    assert await store.read(partial(finding.is_own_study, study_uid=own))
    for other in ("1.2.3", "2.25.1", "2.25.37", f"{own}0", finding.own_study_uid("0" * 40)):
        assert not await store.read(partial(finding.is_own_study, study_uid=other))


async def test_each_recipient_is_told_of_one_thing_once(store: SqlStore) -> None:
    for recipient in (RZ1, RZ3, RZ1):
        await store.write(partial(readers.give, report_id="r", named="first", recipient=recipient))
    outdated = partial(readers.outdated, report_id="r", present="second")
    assert await store.read(outdated) == [RZ1, RZ3]
    assert await store.read(partial(readers.outdated, report_id="r", present="first")) == []
    await store.write(partial(readers.tell, report_id="r", present="second", recipients=[RZ1]))
    assert await store.read(outdated) == [RZ3]
    told = partial(readers.tell_of, report_id="r", sop_uid="1.2.3.4", recipient=RZ1)
    asked = [NOON, NOON, NOON + timedelta(hours=1)]
    assert [await store.write(partial(told, asked_at=at)) for at in asked] == [True, False, True]


async def test_who_is_given_anew_what_they_were_told_of_is_told_again(store: SqlStore) -> None:
    given = partial(readers.give, report_id="r", named="first", recipient=RZ1)
    await store.write(given)
    await store.write(partial(readers.tell, report_id="r", present="second", recipients=[RZ1]))
    await store.write(given)
    assert await store.read(partial(readers.outdated, report_id="r", present="third")) == [RZ1]
