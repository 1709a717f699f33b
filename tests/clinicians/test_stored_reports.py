"""A report that a trust stores as a DICOM object is taken in, and a store neither waits for that nor fails by it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from pydicom.dataset import Dataset
from structlog.testing import capture_logs

from gateway.instances.reporting.reading import BASIC_TEXT_SR
from gateway.instances.reporting.writing import MANUFACTURER
from gateway.jobs.runner import JobFailed
from gateway.keeping.cache import KeptCache
from gateway.model.errors import OverCapacity, Unwanted
from gateway.model.work.jobs import Lane, RetryTerms
from gateway.model.work.transfers import InstanceRef
from gateway.release import intake
from gateway.release.clinicians.arriving import ARRIVED, NOT_KEPT
from gateway.release.naming import report_id_of
from gateway.sharing.intake.reception import Reception
from policy.parties import PatientId, TrustId
from policy.release.reports import Said
from storage.release import messages, reports
from storage.release.reports import KeptReport
from storage.work import jobs
from tests.clinicians.documents import observer, structured, text_item
from tests.clinicians.ward import Ward
from tests.instances.test_coercion import encoded
from tests.retrieval.pushing import LITTLE
from tests.retrieval.test_freshness import Errand, due
from tests.sharing.rows import ANNE, RZ2

REF = InstanceRef("1.2.3", "1.2.3.9", "1.2.3.1", BASIC_TEXT_SR)


async def nobody() -> frozenset[TrustId]:
    """Of nobody is anything unread."""
    return frozenset()


async def stored(ward: Ward, dataset: Dataset, opted_out: frozenset[str] = frozenset(), ref: InstanceRef = REF) -> None:
    """Have RZ2 store this."""
    region, travels = ward.region, ward.travels
    await region.prepare()
    cache = KeptCache(lambda: travels.cache, lambda: None, lambda: opted_out, nobody)
    reception = Reception(
        region.gate, region.directory, region.store, cache, travels.clock, region.limits, ward.arrivals
    )
    async with reception.of(region.caller("RZ2")).take(ref.sop_class_uid, ref.sop_uid, LITTLE) as taking:
        taking.add(encoded(dataset, LITTLE))
        await taking.keep()
    await reception.close()


async def filed(ward: Ward) -> KeptReport | None:
    """The report as it was taken in."""
    return await ward.store.read(lambda read: reports.get(read, report_id_of(RZ2, "F1")))


async def test_a_stored_report_is_taken_in(ward: Ward) -> None:
    await stored(ward, structured(observers=[observer("20261120091500+0000")]))
    await ward.travels.clock.advance(2)
    assert await due(ward.travels, ward.handlers) == ["report-arrived"]
    kept = await filed(ward)
    assert kept is not None and kept.study_uid == "1.2.3"
    [version] = await ward.store.read(lambda read: reports.versions(read, kept.report_id))
    opened = await ward.contents.open(version.version_id)
    assert (version.said, opened.subject.family_name) == (Said.VERIFIED, "TEST")
    assert opened.subject.nhs_number is not None and opened.content.text == "Findings: No lesion."


async def test_storing_it_again_changes_nothing(ward: Ward) -> None:
    for _ in range(2):
        await stored(ward, structured(observers=[observer("20261120091500+0000")]))
        await ward.travels.clock.advance(2)
        await due(ward.travels, ward.handlers)
    kept = await filed(ward)
    assert kept is not None
    assert len(await ward.store.read(lambda read: reports.versions(read, kept.report_id))) == 1


async def test_what_cannot_be_read_as_a_report_is_stored_all_the_same_and_a_person_sees_it(ward: Ward) -> None:
    await stored(ward, structured(text_item("Findings", "word " * 20_000), observers=[observer("20261120091500+0000")]))
    assert await ward.travels.cache.instance("1.2.3", REF.sop_uid) is not None
    await ward.travels.clock.advance(2)
    await due(ward.travels, ward.handlers)
    assert await filed(ward) is None
    assert await ward.store.read(lambda read: messages.dead_count(read, RZ2)) == 1


@pytest.mark.parametrize("words", [1, 12_000], ids=["small", "sealed as it comes"])
async def test_an_opt_out_of_sharing_keeps_no_report_from_its_own_trust(ward: Ward, words: int) -> None:
    dataset = structured(
        *(text_item("Findings", "word " * 1_000) for _ in range(words // 1_000 or 1)),
        observers=[observer("20261120091500+0000")],
    )
    dataset.PatientID = ANNE.digits
    await ward.region.opt_out(ANNE)
    row = await ward.region.store.patient_row(PatientId("NHS", ANNE.digits))
    with pytest.raises(Unwanted):
        await stored(ward, dataset, frozenset({row}))
    assert await ward.travels.cache.instance("1.2.3", REF.sop_uid) is None
    kept = await filed(ward)
    assert kept is not None
    [version] = await ward.store.read(lambda read: reports.versions(read, kept.report_id))
    opened = await ward.contents.open(version.version_id)
    assert (version.said, opened.subject.nhs_number) == (Said.VERIFIED, ANNE)
    assert "word" in opened.content.text


async def test_a_written_copy_that_a_recipient_stores_is_no_report_of_its_own(ward: Ward) -> None:
    copy = structured(observers=[observer("20261120091500+0000")])
    copy.Manufacturer = MANUFACTURER
    await stored(ward, copy)
    assert await ward.travels.cache.instance("1.2.3", REF.sop_uid) is not None
    await ward.travels.clock.advance(2)
    assert await due(ward.travels, ward.handlers) == ["report-arrived"]
    assert await filed(ward) is None
    assert await ward.store.read(lambda read: messages.dead_count(read, RZ2)) == 0


async def test_an_object_that_is_not_kept_yet_is_looked_for_again(ward: Ward) -> None:
    await ward.arrivals.coming(REF, RZ2)
    await ward.travels.clock.advance(2)
    with pytest.raises(JobFailed, match="not kept yet"):
        await due(ward.travels, ward.handlers)


async def test_an_object_that_never_came_is_seen_by_a_person(ward: Ward) -> None:
    await ward.arrivals.coming(REF, RZ2)
    await ward.travels.clock.advance(timedelta(hours=2).total_seconds())
    assert await due(ward.travels, ward.handlers) == ["report-arrived"]
    assert await filed(ward) is None
    [letter] = await ward.store.read(messages.dead_letters)
    assert (letter.trust, letter.problem) == (RZ2, NOT_KEPT)
    await stored(ward, structured(observers=[observer("20261120091500+0000")]))
    await ward.travels.clock.advance(2)
    await due(ward.travels, ward.handlers)
    assert await filed(ward) is not None
    assert await ward.store.read(messages.dead_letters) == ()


async def test_what_cannot_be_taken_in_is_tried_for_days_and_then_alarms(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "DEAD_LETTERS_MAX", 0)
    await stored(ward, structured(text_item("Findings", "word " * 20_000), observers=[observer("20261120091500+0000")]))
    lease = timedelta(seconds=60)
    await ward.travels.clock.advance(2)
    claim = partial(jobs.claim, owner="north", limit=1, lease=lease, kinds=[ARRIVED], lane=Lane.BACKGROUND)
    [job] = await ward.store.write(lambda tx: claim(tx, lease_now=tx.now))
    pauses = [RetryTerms().pause(attempts) for attempts in range(1, job.attempts_max)]
    assert sum(pauses, timedelta()) > timedelta(days=3)
    with capture_logs() as heard:
        for attempts in (1, job.attempts_max):
            with pytest.raises(OverCapacity):
                await ward.arrivals(Errand(replace(job, attempts=attempts)))
    assert [each["event"] for each in heard if each.get("alarm")] == ["stored report not taken in"]


async def test_images_are_none_of_its_business(ward: Ward) -> None:
    await ward.arrivals.coming(InstanceRef("1.2.3", "1.2.3.9", "1.2.3.1", "1.2.840.10008.5.1.4.1.1.2"), RZ2)
    await ward.travels.clock.advance(2)
    assert await due(ward.travels, ward.handlers) == []
