"""What a proven caller may try with a question: to harvest, to inject, to lead links astray, to write into the log."""

from __future__ import annotations

import json

import pytest

from gateway.demo.cast import ANNE, BEN, PATIENTS, STUDIES
from gateway.demo.images import study_instance_uid
from tests.attacks.attacked import AttackedRegion

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOO_BROAD = [
    "",
    "limit=100",
    "PatientID=*",
    "PatientID=",
    "PatientID=999*",
    "PatientID=999000001?",
    "PatientID=%2A9990000018%2A9",
    "PatientName=*",
    "PatientName=WHITFIELD%5EAnne&PatientBirthDate=19580314&PatientSex=F",
    "PatientBirthDate=19580314",
    "StudyDate=20260101-20261231",
    "StudyDate=20260217&ModalitiesInStudy=CT",
    "AccessionNumber=*",
    "AccessionNumber=E26*",
    "AccessionNumber=A12",
    "StudyInstanceUID=*",
    "StudyInstanceUID=",
    "StudyInstanceUID=,,%5C",
    "OtherPatientIDsSequence.PatientID=9990000018",
    "IssuerOfPatientID=NHS",
    "ReferringPhysicianName=*&StudyID=*",
    "SeriesInstanceUID=1.2.3",
    "NoSuchKey=9990000018",
]

# Each names Anne's number, or part of it, or nothing, in a way that a careless reader takes for more.
INJECTED = [
    "PatientID=9990000018%00",
    "PatientID=9990000018%00%27",
    "PatientID=9990000018%27%20OR%20%271%27=%271",
    "PatientID=9990000018;DROP%20TABLE%20patient",
    "PatientID=9990000018%5C9990000034",
    "PatientID=9990000018,9990000034",
    "PatientID=9990000018%0d%0aX:%201",
    "PatientID=9990000018%26StudyInstanceUID=1.2",
    "PatientID=%EF%BC%99990000018",
    "PatientID=99900%C2%A000018",
    "PatientID=%ff%fe",
    "PatientID=9990000018&PatientID=9990000034",
    "PatientID=9990000018&00100020=9990000034",
    "StudyInstanceUID=1.2.3%2F..%2F..",
    "StudyInstanceUID=1.2.3'--",
    "StudyInstanceUID=1.2.3&0020000D=1.2.4",
    "PatientID=9990000018&limit=-1",
    "PatientID=9990000018&limit=1e9",
    "PatientID=9990000018&offset=0x10",
    "PatientID=9990000018&limit=1&limit=2",
    "PatientID=9990000018&StudyDate=20261301",
    "PatientID=9990000018&StudyDate=20260101-20260102-20260103",
    "PatientID=9990000018&StudyTime=2561",
    "PatientID=9990000018&fuzzymatching=perhaps",
    "PatientID=9990000018&PatientName=a%00b",
    "PatientID=9990000018&" + "a=b&" * 400,
    "PatientID=9990000018&StudyInstanceUID=" + ",".join(f"1.2.{n}" for n in range(300)),
    "PatientID=9990000018&StudyDescription=" + "x" * 2_000,
    "PatientID=9990000018&" + "&".join(f"includefield=0010{n:04X}" for n in range(300)),
]


@pytest.mark.parametrize("question", TOO_BROAD)
async def test_a_question_that_pins_nobody_is_refused_in_words(attacked: AttackedRegion, question: str) -> None:
    for level in ("studies", "series", "instances"):
        refusal = await attacked.get(f"/dicom-web/{level}?{question}")
        assert refusal.status == 400
        assert refusal.header(b"content-type").startswith(b"application/problem+json")
        assert json.loads(refusal.body)["detail"]


@pytest.mark.parametrize("question", INJECTED)
async def test_a_value_is_taken_whole_or_refused(attacked: AttackedRegion, question: str) -> None:
    refusal = await attacked.get(f"/dicom-web/studies?{question}")
    assert refusal.status in (400, 413)
    # What was sent does not stand in the refusal.
    assert b"9990000" not in refusal.body and b"DROP" not in refusal.body and b"<" not in refusal.body


@pytest.mark.parametrize("key", ["StudyDescription", "StudyID", "ReferringPhysicianName"])
@pytest.mark.parametrize(
    "value", ["%25", "_", "' OR ''='", ".*", "(a%2B)%2B$", "%5B%5E%5D%5D", "${jndi:ldap://x}", "{{7*7}}", "<script>"]
)
async def test_a_pattern_is_a_pattern_of_dicom_and_of_nothing_else(
    attacked: AttackedRegion, key: str, value: str
) -> None:
    found = await attacked.get(f"/dicom-web/studies?PatientID={ANNE.nhs_number}&{key}={value.replace(' ', '%20')}")
    assert found.status == 200
    assert found.body == b"[]"


@pytest.mark.parametrize(
    "uid",
    [
        "..%2f..%2fetc%2fpasswd",
        "1.2.3%00",
        "1.2.3%0a",
        "1.2.3;ls",
        "$(id)",
        "1" * 65,
        "-1",
        "*",
        "1.2.3%5C1.2.4",
        "%31%2e%32a",
    ],
)
async def test_a_uid_in_the_path_is_digits_and_full_stops(attacked: AttackedRegion, uid: str) -> None:
    for path in (f"studies/{uid}/series", f"studies/1.2/series/{uid}/instances", f"trust/{uid}/studies"):
        assert (await attacked.get(f"/dicom-web/{path}")).status in (400, 404)


async def test_links_lead_to_the_gateway_by_its_own_name_whatever_the_host_header_says(
    attacked: AttackedRegion,
) -> None:
    target = f"/dicom-web/studies?PatientID={ANNE.nhs_number}&includefield=all".encode()
    for lines in (
        b"Host: evil.example",
        b"Host: localhost\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: http",
        b"Host: localhost\r\nForwarded: host=evil.example;proto=http",
        b'Host: localhost"><x',
    ):
        replies = await attacked.replies(b"GET " + target + b" HTTP/1.1\r\n" + lines + b"\r\nConnection: close\r\n\r\n")
        [reply] = replies
        assert b"evil.example" not in reply.body + reply.header(b"warning")
        if reply.status == 200:
            for row in json.loads(reply.body):
                assert row["00081190"]["Value"][0].startswith(f"{attacked.machines_url}/dicom-web/studies/")
    absolute = b"GET https://evil.example" + target + b" HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    for reply in await attacked.replies(absolute):
        assert b"evil.example" not in reply.body


async def test_the_log_of_all_this_names_nobody(attacked: AttackedRegion) -> None:
    """Questions that find, questions that fail, names in headers: the log has lines of JSON, and no patient in them."""
    nasty = b'Gateway-Correlation: x\\u000a{"event":"forged"}'
    studies = "/dicom-web/studies"
    for one in PATIENTS:
        await attacked.get(f"{studies}?PatientID={one.nhs_number}&PatientName=*{one.family_name}*", nasty)
    for plan in STUDIES:
        await attacked.get(f"{studies}/{study_instance_uid(plan)}/series?AccessionNumber={plan.accession_number}")
    await attacked.get(f"/dicom-web/{ANNE.nhs_number}/{ANNE.family_name}")
    await attacked.get(f"{studies}?PatientID={BEN.nhs_number}%0a%0d", b"User-Agent: " + BEN.family_name.encode())
    await attacked.get(f"{studies}?PatientID={ANNE.nhs_number}", certificate="stranger")
    await attacked.replies(b"GET /dicom-web/studies?PatientID=" + ANNE.nhs_number.encode() + b"\nHost: a\n\n")
    log = (attacked.folder / "gateway.log").read_text(encoding="utf-8")
    events = [json.loads(line)["event"] for line in log.splitlines() if not line.startswith("ready machines=")]
    assert events.count("request answered") > len(PATIENTS) and "forged" not in events
    known = {
        *(word for one in PATIENTS for word in (one.nhs_number, f"{one.nhs_number[:3]} {one.nhs_number[3:6]}")),
        *(
            number
            for one in PATIENTS
            for numbers in one.local_numbers.values()
            for number in numbers
            if len(number) > 5
        ),
        *(word for plan in STUDIES for word in (study_instance_uid(plan), plan.accession_number) if len(word) > 5),
    }
    assert [word for word in known if word in log] == []
    assert [one.family_name for one in PATIENTS if one.family_name.lower() in log.lower()] == []


async def test_no_file_of_the_gateway_holds_a_question_but_the_audit(attacked: AttackedRegion) -> None:
    await attacked.get(f"/dicom-web/studies?PatientID={ANNE.nhs_number}&StudyDescription=canary-7c1f")
    holding = {
        path.relative_to(attacked.folder).parts[0]
        for path in attacked.folder.rglob("*")
        if path.is_file() and b"canary-7c1f" in path.read_bytes()
    }
    assert holding == {"data"}
