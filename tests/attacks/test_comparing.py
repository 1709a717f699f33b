"""All bytes that an answer has, compared between who is hidden and who is not there (goal G15).

The same request goes out for Ben, who opted out and has studies at two trusts, and for Faith, who has none anywhere;
for a study of Ben's and for a study that nobody has. Whatever the caller adds to it, the answers are the same bytes but
for the date and the request's own id.
"""

from __future__ import annotations

import re

import pytest

from gateway.demo import cast
from gateway.demo.cast import BEN, CLARA, FAITH, SENSITIVE
from gateway.demo.configuration import CLINICIAN, SURGERY, VIEWER
from gateway.demo.images import study_instance_uid
from tests.attacks.attacked import AttackedRegion, Reply

pytestmark = pytest.mark.asyncio(loop_scope="session")

BENS_STUDY = study_instance_uid(cast.BEN_BODY_CT)
NO_STUDY = "1.2.826.0.1.3680043.8.498.9"
IVYS_LABELLED_STUDY = study_instance_uid(SENSITIVE)
CLARAS_STUDY = study_instance_uid(cast.CLARA_BRAIN_MR)

VARIATIONS = [
    "",
    "&limit=0",
    "&limit=1",
    "&limit=1&offset=1",
    "&offset=1000000",
    "&limit=99999999999999999999",
    "&fuzzymatching=true",
    "&includefield=all",
    "&includefield=00081030,PatientName&includefield=NoSuchField",
    "&NoSuchKey=1&99999999=2",
    "&PatientName=*a*",
    "&PatientBirthDate=19000102",
    "&PatientBirthDate=19000102-20991231",
    "&PatientSex=F",
    "&StudyDate=20250101-",
    "&StudyDescription=CT*",
    "&ModalitiesInStudy=CT",
    "&ModalitiesInStudy=CT%5CMR",
    "&AccessionNumber=E26031201",
    "&ReferringPhysicianName=*DUNN*&StudyID=1",
    "&OtherPatientIDsSequence.PatientID=*1*",
    "&accept=application/json",
    "&accept=image/png",
    "&limit=x",
    "&StudyDate=yesterday",
    "&PatientID=9990000018",
]
HEADERS = [
    b"Accept: application/json",
    b"Accept: image/png",
    b"Accept-Encoding: gzip",
    b"Gateway-Purpose: ETREAT",
    b"Gateway-Purpose: HRESCH",
    b"Gateway-Purpose: BTG",
    b"Gateway-Snapshot: abc",
    b"Gateway-Snapshot: not a token",
    b"Gateway-Hops: 1",
    b"Gateway-Hops: 2",
    b"Gateway-Correlation: mine",
    b"Origin: https://viewer.example",
    b"Range: bytes=0-1",
    b"If-None-Match: *",
    b"If-Modified-Since: Sat, 21 Nov 2026 00:00:00 GMT",
]


def comparable(reply: Reply) -> object:
    """The answer but for what every answer has of its own."""
    own = {b"date", b"gateway-correlation"}
    headers = [(name, value if name.lower() not in own else b"") for name, value in reply.headers]
    return reply.status_line, headers, re.sub(rb'"requestId":"[^"]*"', b"", reply.body)


async def same(region: AttackedRegion, hidden: str, absent: str, *headers: bytes, method: bytes = b"GET") -> int:
    """Ask for both, and hold the answers against each other; their status."""
    answers = [await region.get(target, *headers, method=method) for target in (hidden, absent)]
    assert comparable(answers[0]) == comparable(answers[1]), (hidden, absent)
    return answers[0].status


@pytest.mark.parametrize("variation", VARIATIONS)
async def test_a_hidden_patient_looks_like_one_without_studies(attacked: AttackedRegion, variation: str) -> None:
    await same(
        attacked,
        f"/dicom-web/studies?PatientID={BEN.nhs_number}{variation}",
        f"/dicom-web/studies?PatientID={FAITH.nhs_number}{variation}",
    )


@pytest.mark.parametrize("variation", VARIATIONS)
async def test_a_hidden_study_looks_like_no_study(attacked: AttackedRegion, variation: str) -> None:
    for hidden in (BENS_STUDY, IVYS_LABELLED_STUDY, CLARAS_STUDY):
        await same(
            attacked,
            f"/dicom-web/studies?StudyInstanceUID={hidden}{variation}",
            f"/dicom-web/studies?StudyInstanceUID={NO_STUDY}{variation}",
        )


@pytest.mark.parametrize("header", HEADERS)
async def test_no_header_makes_a_difference(attacked: AttackedRegion, header: bytes) -> None:
    for hidden, absent in (
        (f"PatientID={BEN.nhs_number}", f"PatientID={FAITH.nhs_number}"),
        (f"StudyInstanceUID={BENS_STUDY}", f"StudyInstanceUID={NO_STUDY}"),
    ):
        await same(attacked, f"/dicom-web/studies?{hidden}", f"/dicom-web/studies?{absent}", header)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"POST", b"PUT", b"DELETE", b"TRACE"])
async def test_no_method_makes_a_difference(attacked: AttackedRegion, method: bytes) -> None:
    await same(
        attacked,
        f"/dicom-web/studies?PatientID={BEN.nhs_number}",
        f"/dicom-web/studies?PatientID={FAITH.nhs_number}",
        method=method,
    )


@pytest.mark.parametrize(
    "path",
    [
        "/dicom-web/studies/{study}/series",
        "/dicom-web/studies/{study}/instances",
        "/dicom-web/studies/{study}/series/1.2.3/instances",
        "/dicom-web/series?StudyInstanceUID={study}",
        "/dicom-web/instances?StudyInstanceUID={study}",
        "/dicom-web/trust/RZ2/studies?StudyInstanceUID={study}",
        "/dicom-web/trust/RZ2/studies/{study}/series",
        "/dicom-web/trust/RZ3/studies/{study}/instances",
        "/dicom-web/studies/{study}/series?BodyPartExamined=HEAD&Modality=CT",
        "/dicom-web/studies/{study}/instances?InstanceNumber=1&SOPClassUID=1.2.3",
        "/dicom-web/studies/{study}/series?RequestAttributesSequence.ScheduledProcedureStepID=x",
        "/dicom-web/studies/{study}",
        "/dicom-web/studies/{study}/metadata",
        "/dicom-web/studies/{study}/rendered",
    ],
)
async def test_no_level_and_no_trust_makes_a_difference(attacked: AttackedRegion, path: str) -> None:
    for hidden in (BENS_STUDY, IVYS_LABELLED_STUDY, CLARAS_STUDY):
        await same(attacked, path.format(study=hidden), path.format(study=NO_STUDY))


@pytest.mark.parametrize("level", ["studies", "series", "instances"])
@pytest.mark.parametrize("trust", ["", "trust/RZ2/", "trust/RZ3/"])
async def test_a_hidden_patient_is_hidden_at_every_level_and_trust(
    attacked: AttackedRegion, level: str, trust: str
) -> None:
    status = await same(
        attacked,
        f"/dicom-web/{trust}{level}?PatientID={BEN.nhs_number}",
        f"/dicom-web/{trust}{level}?PatientID={FAITH.nhs_number}",
    )
    assert status == 200


async def test_a_caller_who_may_ask_for_neither_is_told_the_same_of_both(attacked: AttackedRegion) -> None:
    """No care relationship, no trust, no known certificate: refused before anything of the patient is looked at."""
    for caller, expected in ((SURGERY, 403), (CLINICIAN, 403), ("stranger", 401)):
        answers = [
            await attacked.get(f"/dicom-web/studies?PatientID={patient.nhs_number}", certificate=caller)
            for patient in (BEN, FAITH, CLARA)
        ]
        assert [answer.status for answer in answers[:2]] == [expected, expected]
        assert comparable(answers[0]) == comparable(answers[1])


async def test_connections_live_on_alike(attacked: AttackedRegion) -> None:
    """Two questions on one kept connection: where the hidden one ended it, a caller could tell."""
    for subject in (f"PatientID={BEN.nhs_number}", f"PatientID={FAITH.nhs_number}", f"StudyInstanceUID={BENS_STUDY}"):
        request = f"GET /dicom-web/studies?{subject} HTTP/1.1\r\nHost: a\r\n".encode()
        found = await attacked.replies(request + b"\r\n" + request + b"Connection: close\r\n\r\n")
        assert [reply.status for reply in found] == [200, 200]
        assert comparable(found[0])[2] == comparable(found[1])[2] == b"[]"  # type: ignore[index]  # a tuple


async def test_when_trusts_fail_they_fail_for_all_alike(attacked: AttackedRegion) -> None:
    archive = attacked.archives["RZ3"]
    for behaviour in ({"lies": ["garbled"]}, {"dead": "closed"}, {"lies": ["server-error"]}):
        await archive.behave(**behaviour)
        # Once for the gateway to learn of it; what it expects of a trust is what the trust last did.
        await attacked.get(f"/dicom-web/studies?PatientID={FAITH.nhs_number}")
        hidden, absent = (f"/dicom-web/studies?PatientID={patient.nhs_number}" for patient in (BEN, FAITH))
        await same(attacked, hidden, absent)
    await archive.behave()
    await attacked.until_all_answer()


async def test_health_and_figures_say_nothing_of_anybody(attacked: AttackedRegion) -> None:
    await attacked.get(f"/dicom-web/studies?PatientID={BEN.nhs_number}", certificate=VIEWER)
    exposition = await attacked.figures()
    for word in (BEN.nhs_number, BEN.family_name, BENS_STUDY, "9990000"):
        assert word not in exposition
