"""A report that another trust wrote is never released by whoever keeps a copy of it and sends that on."""

from __future__ import annotations

from datetime import timedelta

import orjson
import pytest
from pydicom.dataset import Dataset
from structlog.testing import capture_logs

from gateway.jobs.runner import JobFailed
from gateway.model.errors import Unwanted
from gateway.model.imaging import Attributes
from gateway.model.reporting.incoming import ReportSource
from gateway.model.reporting.seams import FeedMessage, MessageState
from gateway.model.work.transfers import InstanceRef, Standing
from gateway.release.clinicians.arriving import CLAIMED, LOOKED_FOR, NOBODY_KNOWS_WHOSE
from gateway.release.clinicians.custodians import Elsewhere, Organisations, Whose, custodian
from gateway.release.letters import Letters
from policy.parties import PatientId, TrustId
from policy.release.circumstances import HoldKind
from storage.registers.state import Author
from storage.release import holds, messages, reports
from storage.release.messages import KeptMessage
from tests.clinicians.documents import observer, structured
from tests.clinicians.test_stored_reports import filed, stored
from tests.clinicians.ward import Ward, reported
from tests.clock import NOON
from tests.instances.test_coercion import encoded
from tests.memory_archive import Image
from tests.retrieval.pushing import LITTLE
from tests.retrieval.test_freshness import due
from tests.retrieval.travels import image_row, whole
from tests.sharing.rows import ANNE, RZ2

OFFICER = Author("J Doe", "request-1", "it is ours")
THERE = "1.2.9"


def issuer(name: str) -> Dataset:
    """Who issued an accession number."""
    found = Dataset()
    found.LocalNamespaceEntityID = name
    return found


def organisation(name: str = "", code: str = "", scheme: str = "99ODS") -> Dataset:
    """An institution, by its name or its code."""
    found = Dataset()
    if name:
        found.InstitutionName = name
    if code:
        coded = Dataset()
        coded.CodeValue, coded.CodingSchemeDesignator, coded.CodeMeaning = code, scheme, name or code
        found.InstitutionCodeSequence = [coded]
    return found


def signed(**values: object) -> Dataset:
    """A verified report of Anne's."""
    return structured(observers=[observer("20261120091500+0000")], PatientID=ANNE.digits, **values)


def elsewhere(**values: object) -> Dataset:
    """One of a study that RZ3 holds."""
    there = {"StudyInstanceUID": THERE, "SeriesInstanceUID": f"{THERE}.9", "SOPInstanceUID": f"{THERE}.5"}
    return signed(PatientName="SMITH^ANNE", PatientBirthDate="19580314", **{**there, **values})


async def arrived(ward: Ward, dataset: Dataset, after: timedelta = timedelta(seconds=2)) -> None:
    """RZ2 stores it, and it is looked at."""
    await stored(ward, dataset, ref=InstanceRef("", "", dataset.SOPInstanceUID, dataset.SOPClassUID))
    await ward.travels.clock.advance(after.total_seconds())
    await due(ward.travels, ward.handlers)


async def waiting(ward: Ward) -> tuple[KeptMessage, ...]:
    """The dead letters."""
    return await ward.store.read(messages.dead_letters)


def letters(ward: Ward) -> Letters:
    """Those in a person's hands."""

    def unread(*_: object) -> None:
        raise AssertionError("no feed reads it")

    return Letters(ward.store, ward.keys, ward.intake, unread)  # type: ignore[arg-type]  # never called


ANOTHERS = [
    {"IssuerOfAccessionNumberSequence": [issuer("RZ3")]},
    {"CustodialOrganizationSequence": [organisation("Trust RZ3")]},
    {"CustodialOrganizationSequence": [organisation(code="RZ301")]},
]
DOUBTFUL = [
    {"CustodialOrganizationSequence": [organisation("A clinic abroad")]},
    {"IssuerOfAccessionNumberSequence": [issuer("NOBODY KNOWS")]},
    {"InstitutionName": "Trust RZ3"},
    {"InstitutionCodeSequence": organisation(code="RZ3").InstitutionCodeSequence},
    {"IssuerOfPatientID": "RZ3"},
    {"InstitutionName": "Trust RZ2", "IssuerOfAccessionNumberSequence": [issuer("RZ3")]},
]
OWN = [
    {},
    {"IssuerOfAccessionNumberSequence": [issuer("RZ2")]},
    {"InstitutionName": "St Elsewhere"},
    {"InstitutionCodeSequence": organisation(code="X1", scheme="LOCAL").InstitutionCodeSequence},
    {"InstitutionName": "Trust RZ3", "CustodialOrganizationSequence": [organisation(code="RZ2")]},
]


@pytest.mark.parametrize("says", ANOTHERS)
async def test_what_says_that_another_trust_keeps_it_is_no_report_of_whoever_stores_it(
    ward: Ward, says: dict[str, object]
) -> None:
    ward.region.trust("RZ3")
    await arrived(ward, signed(**says))
    assert await filed(ward) is None
    assert await waiting(ward) == ()


@pytest.mark.parametrize("says", DOUBTFUL)
async def test_a_report_of_nobody_knows_whom_waits_for_a_person(ward: Ward, says: dict[str, object]) -> None:
    ward.region.trust("RZ3")
    await arrived(ward, signed(**says))
    assert await filed(ward) is None
    assert [each.problem for each in await waiting(ward)] == [NOBODY_KNOWS_WHOSE]


@pytest.mark.parametrize("says", OWN)
async def test_a_report_of_its_own_is_filed(ward: Ward, says: dict[str, object]) -> None:
    ward.region.trust("RZ3")
    await arrived(ward, signed(**says))
    assert await filed(ward) is not None
    assert await waiting(ward) == ()


def held_by_rz3(ward: Ward, dataset: Dataset) -> InstanceRef:
    """RZ3's archive holds it, and an image of the same study."""
    ref = InstanceRef(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID, dataset.SOPClassUID)
    image = Image(ref, encoded(dataset, LITTLE))
    ward.region.trust("RZ3").pacs.with_image(image_row(ref, ANNE.digits), image)
    ward.travels.hold("RZ3", f"{THERE}.1.1", study=THERE)
    return ref


async def given(ward: Ward, to: str) -> None:
    """A trust has RZ3's study brought."""
    await ward.region.refer(ANNE, to=to)
    await ward.travels.brought(whole(THERE), by=to)


async def test_what_a_trust_was_given_here_is_no_report_of_its_own(ward: Ward) -> None:
    held_by_rz3(ward, elsewhere())
    await given(ward, "RZ2")
    await arrived(ward, elsewhere(PatientComments="imported"))
    assert await filed(ward) is None
    assert await waiting(ward) == ()


async def test_the_same_bytes_that_came_from_their_own_trust_are_no_lost_object(ward: Ward) -> None:
    held_by_rz3(ward, elsewhere())
    await given(ward, "RZ2")
    await arrived(ward, elsewhere(), LOOKED_FOR)
    assert await filed(ward) is None
    assert await waiting(ward) == ()


async def test_bytes_that_another_archive_gave_somebody_else_are_of_nobody_knows_whom(ward: Ward) -> None:
    held_by_rz3(ward, elsewhere())
    await given(ward, "RZ1")
    await arrived(ward, elsewhere(), LOOKED_FOR)
    assert [each.problem for each in await waiting(ward)] == [NOBODY_KNOWS_WHOSE]


async def test_a_report_on_images_that_were_given_is_its_own_only_if_it_says_so(ward: Ward) -> None:
    ward.travels.hold("RZ3", f"{THERE}.1.1", study=THERE)
    await given(ward, "RZ2")
    await arrived(ward, elsewhere())
    assert [each.problem for each in await waiting(ward)] == [NOBODY_KNOWS_WHOSE]
    second = elsewhere(SOPInstanceUID=f"{THERE}.6")
    second.VerifyingObserverSequence[0].VerifyingOrganization = "Trust RZ2"
    await arrived(ward, second)
    assert len(await waiting(ward)) == 1
    assert await filed(ward) is not None


async def test_a_study_that_another_trust_has_reported_is_not_taken_for_its_own(ward: Ward) -> None:
    await ward.file(reported(trust=TrustId("RZ3"), study_uids=(THERE,)))
    await arrived(ward, elsewhere())
    assert await filed(ward) is None
    assert [each.problem for each in await waiting(ward)] == [NOBODY_KNOWS_WHOSE]


async def test_a_person_says_that_a_doubtful_report_is_its_own(ward: Ward) -> None:
    await arrived(ward, signed(InstitutionName="Trust RZ3"))
    [letter] = await waiting(ward)
    taken = await letters(ward).replay(letter.row_id, OFFICER)
    assert taken.state is MessageState.DEAD
    assert await due(ward.travels, ward.handlers) == ["report-arrived"]
    assert await filed(ward) is not None
    kept = await ward.store.read(lambda read: messages.get(read, letter.row_id))
    assert (kept.state, kept.settled_by, kept.reason) == (MessageState.REPLAYED, "J Doe", "it is ours")
    await arrived(ward, signed(InstitutionName="Trust RZ3"))
    assert await waiting(ward) == ()


async def test_a_report_that_its_own_trust_stores_too_is_held_where_it_was_filed_by_mistake(ward: Ward) -> None:
    rz3 = TrustId("RZ3")
    mistaken = reported(trust=rz3, source=ReportSource.DICOM_SR, message_id="1.2.3.1", study_uids=("1.2.3",))
    [report_id] = (
        await ward.intake.take(FeedMessage(rz3, "dicom", "1.2.3.1", "DICOM SR", NOON, (mistaken,)))
    ).report_ids
    with capture_logs() as heard:
        for _ in range(2):
            await arrived(ward, signed(InstitutionName="Trust RZ2"))
    assert [each["event"] for each in heard if each.get("alarm")] == ["stored report of two trusts"]
    assert await filed(ward) is not None
    [hold] = await ward.store.read(lambda read: holds.holds(read, report_id))
    assert (hold.kind, hold.reason) == (HoldKind.IDENTITY, CLAIMED)


async def test_nobody_makes_another_trusts_report_its_own(ward: Ward) -> None:
    held_by_rz3(ward, elsewhere())
    await given(ward, "RZ1")
    await arrived(ward, elsewhere(), LOOKED_FOR)
    [letter] = await waiting(ward)
    await given(ward, "RZ2")
    await letters(ward).replay(letter.row_id, OFFICER)
    with pytest.raises(JobFailed, match="another trust's"):
        await due(ward.travels, ward.handlers)
    assert await filed(ward) is None
    assert len(await waiting(ward)) == 1


async def test_an_object_that_is_kept_no_more_is_asked_for_again(ward: Ward) -> None:
    await arrived(ward, signed(InstitutionName="Trust RZ3"))
    [letter] = await waiting(ward)
    kept = await ward.travels.cache.instance("1.2.3", "1.2.3.1")
    assert kept is not None
    await ward.travels.cache.stand(kept, Standing.QUARANTINED, "damaged")
    await letters(ward).replay(letter.row_id, OFFICER)
    with capture_logs() as heard, pytest.raises(JobFailed, match="have it stored again"):
        await due(ward.travels, ward.handlers)
    assert [each["event"] for each in heard if each["log_level"] == "warning"] == ["dead letter not replayed"]
    assert await waiting(ward) == (letter,)


async def test_a_letter_of_what_may_not_be_kept_holds_the_object_itself(ward: Ward) -> None:
    await ward.region.opt_out(ANNE)
    row = await ward.region.store.patient_row(PatientId("NHS", ANNE.digits))
    with pytest.raises(Unwanted):
        await stored(ward, signed(InstitutionName="Trust RZ3"), frozenset({row}))
    [letter] = await waiting(ward)
    shown = orjson.loads(await letters(ward).show(letter.row_id, OFFICER))
    assert (shown["instance"], shown["syntax"]) == ("1.2.3.1", LITTLE)
    await letters(ward).replay(letter.row_id, OFFICER)
    await due(ward.travels, ward.handlers)
    kept = await filed(ward)
    assert kept is not None
    [version] = await ward.store.read(lambda read: reports.versions(read, kept.report_id))
    assert (await ward.contents.open(version.version_id)).content.text == "Findings: No lesion."


def test_a_name_that_two_trusts_share_is_each_ones_own() -> None:
    shared = Organisations({"HIS": frozenset({RZ2, TrustId("RZ3")})}, {})
    row: Attributes = {"00080051": {"vr": "SQ", "Value": [{"00400031": {"vr": "UT", "Value": ["HIS"]}}]}}
    assert custodian(RZ2, row, Elsewhere(), shared) is Whose.OWN
    assert custodian(TrustId("RZ4"), row, Elsewhere(), shared) is Whose.ANOTHERS
