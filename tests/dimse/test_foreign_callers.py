"""Other people's software at our door: DCMTK's tools and pynetdicom, with the habits that they have."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from dimse.scp.profiles import CallerProfile
from dimse.status import MissingSources
from gateway import tls
from gateway.model.errors import QueryTooBroad
from gateway.model.imaging import Level, Match, Source, SourceState
from policy.identity import CallerBinding
from policy.parties import TrustId
from tests.dimse.door import HANG_S, PACS, PATIENT_ROOT, STUDY_ROOT, VERIFICATION, Doorkeeper, Shelf, identifier, opened
from tests.gateway.certificates import Authority
from tests.sharing.rows import ANNE, RZ2, row

PATIENT_STUDY_ONLY = "1.2.840.10008.5.1.4.1.2.3.1"
ROWS = CallerProfile(MissingSources.ROW)
FOR_ANNE = identifier("STUDY", PatientID=ANNE.digits, StudyInstanceUID=None, PatientName=None)
SLOW = Source(TrustId("RZ3"), "Southbridge", SourceState.TIMED_OUT, "020 7946 0003")
T = TypeVar("T")


def shelf(count: int = 2, *, level: Level = Level.STUDY) -> Shelf:
    uids = [f"1.2.{number}" for number in range(1, count + 1)]
    return Shelf(*(Match(level, ANNE, uid, "", "", (RZ2,), row(uid, ANNE, date="20260101")) for uid in uids))


# --- DCMTK ---


async def dcmtk(
    tool: str, port: int, *options: str, calling: str = "RZ1_PACS", called: str = "GATEWAY"
) -> tuple[int, str]:
    """Run a tool against the door: its exit code, and all that it prints."""
    path = shutil.which(tool, path="/usr/bin:/usr/local/bin")
    assert path is not None, f"{tool} is not installed: see .ci/apt-packages"
    process = await asyncio.create_subprocess_exec(
        path, "-v", "-aet", calling, "-aec", called, *options, "127.0.0.1", str(port),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(HANG_S):
        printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode("utf-8", errors="replace")


@pytest.mark.peer
async def test_echoscu_is_answered() -> None:
    async with opened(shelf(), Doorkeeper(PACS)) as house:
        code, printed = await dcmtk("echoscu", house.port)
    assert code == 0 and "Received Echo Response (Success)" in printed


@pytest.mark.peer
@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [
        ("STRANGER", "GATEWAY", "Calling AE Title Not Recognized"),
        ("RZ1_PACS", "GATEWAY2", "Called AE Title Not Recognized"),
    ],
)
async def test_echoscu_with_a_wrong_title_is_told_which(calling: str, called: str, reason: str) -> None:
    async with opened(shelf(), Doorkeeper(PACS)) as house:
        code, printed = await dcmtk("echoscu", house.port, calling=calling, called=called)
    assert code != 0 and reason in printed


@pytest.mark.peer
@pytest.mark.parametrize(("model", "level"), [("-P", "PATIENT"), ("-P", "STUDY"), ("-S", "STUDY"), ("-O", "STUDY")])
async def test_findscu_lists_every_match_in_each_model(model: str, level: str) -> None:
    keys = ("-k", f"QueryRetrieveLevel={level}", "-k", f"PatientID={ANNE.digits}", "-k", "StudyInstanceUID")
    async with opened(shelf(3), Doorkeeper(PACS)) as house:
        code, printed = await dcmtk("findscu", house.port, model, *keys)
    assert code == 0 and re.findall(r"\(0020,000d\) UI \[([0-9.]+)", printed) == ["1.2.1", "1.2.2", "1.2.3"]
    assert "Received Final Find Response (Success)" in printed


@pytest.mark.peer
async def test_findscu_asks_one_trust_by_its_title() -> None:
    found = shelf(1)
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientID={ANNE.digits}", "-k", "StudyInstanceUID")
    async with opened(found, Doorkeeper(PACS)) as house:
        code, printed = await dcmtk("findscu", house.port, "-S", *keys, called="RZ2_ONLY")
    assert code == 0 and "Received Final Find Response (Success)" in printed
    assert [query.only_trust for _, query in found.asked] == [RZ2]


@pytest.mark.peer
async def test_findscu_shows_the_row_of_a_missing_trust() -> None:
    keys = (
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        f"PatientID={ANNE.digits}",
        "-k",
        "PatientName",
        "-k",
        "StudyDescription",
    )
    found = shelf(1)
    found.answer = replace(found.answer, sources=(SLOW,))
    async with opened(found, Doorkeeper(PACS), ROWS) as house:
        code, printed = await dcmtk("findscu", house.port, "-S", *keys)
    assert code == 0 and "SOURCE UNAVAILABLE" in printed
    assert "RZ3 Southbridge: did not answer in time; ring 020 7946 0003" in printed


@pytest.mark.peer
async def test_findscu_is_told_what_to_change() -> None:
    refusing = shelf()
    refusing.error = QueryTooBroad("pin somebody")
    async with opened(refusing, Doorkeeper(PACS)) as house:
        _, printed = await dcmtk(
            "findscu", house.port, "-S", "-d", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=*"
        )
    assert "a900" in printed.lower() and "name one NHS number, study UID or whole accession number" in printed


@pytest.mark.peer
async def test_findscu_that_cancels_gets_no_more_rows() -> None:
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientID={ANNE.digits}")
    async with opened(shelf(20_000), Doorkeeper(PACS)) as house:
        _, printed = await dcmtk("findscu", house.port, "-S", "--cancel", "3", *keys)
        [(_, status)] = house.figures.answered
    assert status == 0xFE00 and printed.count("Find Response:") < 20_000


@pytest.mark.peer
async def test_termscu_changes_nothing() -> None:
    async with opened(shelf(), Doorkeeper(PACS)) as house:
        await dcmtk("termscu", house.port)
        code, _ = await dcmtk("echoscu", house.port)
    assert code == 0


@pytest.mark.peer
async def test_echoscu_and_findscu_come_over_tls_with_their_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours, theirs = authority.issue("gateway", "127.0.0.1"), authority.issue("rz1.example")
    secure = tls.server_context(tls.ServerFiles(ours.certificate, ours.private_key, authority.certificate))
    bound = CallerBinding("rz1-pacs", TrustId("RZ1"), certificate_name="rz1.example", ae_titles=("RZ1_PACS",))
    shown = ("+tls", str(theirs.private_key), str(theirs.certificate), "+cf", str(authority.certificate))
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientID={ANNE.digits}", "-k", "StudyInstanceUID")
    async with opened(shelf(), Doorkeeper(bound), secure=secure) as house:
        code, printed = await dcmtk("echoscu", house.port, *shown)
        assert code == 0, printed
        code, printed = await dcmtk("findscu", house.port, *shown, "-S", *keys)
    assert code == 0 and "1.2.2" in printed


# --- pynetdicom ---


def viewer(*contexts: str, maximum_pdu_size: int = 16_382) -> AE:
    ae = AE("RZ1_PACS")
    ae.maximum_pdu_size = maximum_pdu_size
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = HANG_S
    for context in contexts or (VERIFICATION, STUDY_ROOT, PATIENT_ROOT):
        ae.add_requested_context(context)
    return ae


async def using(ae: AE, port: int, act: Callable[[Association], T], **options: object) -> T:
    """Associate, act, release; in a thread, for pynetdicom blocks."""

    def associated() -> T:
        association = ae.associate("127.0.0.1", port, ae_title="GATEWAY", **options)  # type: ignore[arg-type]  # options differ in kind
        try:
            assert association.is_established
            return act(association)
        finally:
            association.release()

    return await asyncio.to_thread(associated)


def found(association: Association, question: Dataset = FOR_ANNE, model: str = STUDY_ROOT) -> list[tuple[int, str]]:
    """Each response: its status, and the study it names."""
    return [
        (status.Status, str(match.StudyInstanceUID) if match is not None else "")
        for status, match in association.send_c_find(question, model)
    ]


@pytest.mark.parametrize("maximum_pdu_size", [0, 4_096, 131_072])
async def test_pynetdicom_finds_again_and_again_on_one_association(maximum_pdu_size: int) -> None:
    def act(association: Association) -> list[list[tuple[int, str]]]:
        assert association.send_c_echo().Status == 0x0000
        return [found(association), found(association, model=PATIENT_ROOT), found(association)]

    expected = [[(0xFF00, "1.2.1"), (0xFF00, "1.2.2"), (0x0000, "")]] * 3
    # Its two threads now and then take a response for unexpected that comes before it has looked: then once more.
    for is_last in (False, False, True):
        async with opened(shelf(), Doorkeeper(PACS)) as house:
            answers = await using(viewer(maximum_pdu_size=maximum_pdu_size), house.port, act)
            assert house.figures.answered == [("C_ECHO_RQ", 0x0000), *[("C_FIND_RQ", 0x0000)] * 3]
        if answers == expected:
            break
        assert not is_last, answers


async def test_extended_negotiation_window_and_user_identity_are_answered_honestly() -> None:
    asked = SOPClassExtendedNegotiation()
    asked.sop_class_uid, asked.service_class_application_information = STUDY_ROOT, b"\1\1\1\1\1"
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 8, 8
    user = UserIdentityNegotiation()
    user.user_identity_type, user.positive_response_requested, user.primary_field = 5, True, b"a.b.c"
    answers: dict[str, object] = {}

    def act(association: Association) -> None:
        for item in association.acceptor.user_information:
            match item:
                case SOPClassExtendedNegotiation():
                    answers["extended"] = item.service_class_application_information
                case AsynchronousOperationsWindowNegotiation():
                    answers["window"] = (
                        item.maximum_number_operations_invoked,
                        item.maximum_number_operations_performed,
                    )
                case UserIdentityNegotiation():
                    answers["user"] = item.server_response
                case _:
                    pass
        assert found(association, identifier("SERIES", PatientID=ANNE.digits, StudyInstanceUID=None))[-1][0] == 0x0000

    finder = shelf(0)
    async with opened(finder, Doorkeeper(PACS)) as house:
        await using(viewer(), house.port, act, ext_neg=[asked, window, user])
    assert answers == {"extended": b"\1\1\0\0\0", "window": (1, 1), "user": b""}
    assert finder.asked[0][0].stated_identity.startswith("jwt sha256:")


async def test_pynetdicom_cancels() -> None:
    held = shelf()
    held.may_answer.clear()

    def act(association: Association) -> list[int]:
        responses = association.send_c_find(FOR_ANNE, STUDY_ROOT, msg_id=77)
        association.send_c_cancel(77, None, STUDY_ROOT)
        return [status.Status for status, _ in responses]

    async with opened(held, Doorkeeper(PACS)) as house:
        assert await using(viewer(), house.port, act) == [0xFE00]


async def test_the_retired_model_is_taken_and_storage_is_not() -> None:
    ct = "1.2.840.10008.5.1.4.1.1.2"
    async with opened(shelf(), Doorkeeper(PACS)) as house:
        accepted = await using(
            viewer(PATIENT_STUDY_ONLY, ct),
            house.port,
            lambda association: [str(context.abstract_syntax) for context in association.accepted_contexts],
        )
    assert accepted == [PATIENT_STUDY_ONLY]
