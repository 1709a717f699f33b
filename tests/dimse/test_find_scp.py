"""C-FIND as a caller sees it: rows, statuses and comments, whatever stands behind the door (PS3.4 C.4.1)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset

from dimse.scp.find_scp import ROWS_A_BATCH, unless
from dimse.scp.profiles import CallerProfile
from dimse.status import MissingSources, Refusal
from dimse.upper_layer.association import AssociationFailure
from dimse.upper_layer.commands import Command, CommandField
from dimse.upper_layer.negotiation import IMPLEMENTATION_CLASS_UID
from gateway.model import errors
from gateway.model.imaging import Level, Match, Source, SourceState
from gateway.sharing.directory import Directory
from policy.access import Decision, Effect, Reason, Telling
from policy.parties import TrustId
from tests.dimse.door import (
    EXPLICIT,
    HANG_S,
    IMPLICIT,
    PACS,
    PATIENT_ROOT,
    STUDY_ROOT,
    Answer,
    Doorkeeper,
    Shelf,
    client,
    identifier,
    opened,
    proposal,
)
from tests.sharing.rows import ANNE, RZ2, row

ANNES = identifier("STUDY", PatientID=ANNE.digits, StudyInstanceUID=None, PatientName=None, StudyDate=None)
ROW, FAILURE, COMMENT = (
    CallerProfile(how) for how in (MissingSources.ROW, MissingSources.FAILURE, MissingSources.COMMENT)
)
SLOW = Source(TrustId("RZ3"), "Southbridge", SourceState.TIMED_OUT, "020 7946 0003")
HEARD = Source(RZ2, "Eastvale", SourceState.ANSWERED, "020 7946 0002")


def studies(count: int) -> list[Match]:
    return [
        Match(Level.STUDY, ANNE, uid, "", "", (RZ2,), row(uid, ANNE, date="20260101"))
        for uid in (f"1.2.{number}" for number in range(1, count + 1))
    ]


async def answer(shelf: Shelf, question: Dataset | bytes = ANNES, profile: CallerProfile = COMMENT) -> Answer:
    """All that a caller gets for one question, and that the figures say the same."""
    async with opened(shelf, Doorkeeper(PACS), profile) as house:
        async with client(house.port) as caller:
            found = await caller.find(question)
        assert house.figures.answered == [("C_FIND_RQ", found.last.status)]
        return found


async def refusal(error: Exception, profile: CallerProfile = COMMENT) -> Answer:
    shelf = Shelf(*studies(1))
    shelf.error = error
    found = await answer(shelf, profile=profile)
    assert found.rows == []
    return found


def denied(telling: Telling) -> errors.Denied:
    reason = Reason("a-rule", Effect.FORBID, "no-care-relationship", "none is recorded", telling)
    return errors.Denied(Decision("d1", Effect.FORBID, (reason,), "rules"), "", "020 7946 0001")


# --- rows ---


async def test_every_match_is_a_row_with_every_key_that_was_asked() -> None:
    found = await answer(Shelf(*studies(2)))
    assert [each.StudyInstanceUID for each in found.rows] == ["1.2.1", "1.2.2"]
    assert found.pending == [0xFF00, 0xFF00] and found.end == (0x0000, "")
    first = found.rows[0]
    assert (first.PatientID, first.PatientName, first.StudyDate) == (ANNE.digits, "SMITH^ANNE", "20260101")
    assert (first.QueryRetrieveLevel, first.RetrieveAETitle) == ("STUDY", "GATEWAY")
    assert first.SpecificCharacterSet


async def test_a_key_that_nobody_knows_comes_back_empty_and_the_row_says_so() -> None:
    found = await answer(
        Shelf(*studies(1)), identifier("STUDY", PatientID=ANNE.digits, NumberOfPatientRelatedStudies=None)
    )
    assert found.pending == [0xFF01]
    assert "NumberOfPatientRelatedStudies" in found.rows[0] and found.rows[0].NumberOfPatientRelatedStudies is None


async def test_a_key_that_an_archive_could_not_match_is_told_with_every_row() -> None:
    shelf = Shelf(*studies(2))
    shelf.answer = replace(shelf.answer, unsupported_keys=("00080050",))
    assert (await answer(shelf)).pending == [0xFF01, 0xFF01]


async def test_nothing_found_ends_in_success() -> None:
    found = await answer(Shelf())
    assert found.rows == [] and found.end == (0x0000, "")


async def test_the_question_reaches_the_door_as_its_caller_put_it() -> None:
    shelf = Shelf()
    await answer(shelf)
    [(caller, query)] = shelf.asked
    assert (caller.principal.subject, caller.principal.trust) == ("rz1-pacs", TrustId("RZ1"))
    assert caller.principal.proven_by == {"dimse", "loopback", "ae-title"}
    assert query.level is Level.STUDY and [(key.path, key.values) for key in query.keys] == [
        (("00100020",), (ANNE.digits,))
    ]


async def test_who_calls_a_trusts_own_title_asks_that_trust_alone() -> None:
    shelf = Shelf(*studies(1))
    async with opened(shelf, Doorkeeper(PACS)) as house:
        for called in ("RZ2_ONLY", "GATEWAY"):
            async with client(house.port, proposal(called=called)) as caller:
                found = await caller.find(ANNES)
                assert [each.RetrieveAETitle for each in found.rows] == ["GATEWAY"]
    assert [query.only_trust for _, query in shelf.asked] == [RZ2, None]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
@pytest.mark.parametrize("pdu_bytes_max", [0, 4_096, 16_384, 131_072])
async def test_an_answer_is_the_same_in_every_encoding_and_pdu_length(syntax: str, pdu_bytes_max: int) -> None:
    async with opened(Shelf(*studies(300)), Doorkeeper(PACS)) as house:
        request = proposal(STUDY_ROOT, syntaxes=(syntax,), pdu_bytes_max=pdu_bytes_max)
        async with client(house.port, request) as caller:
            found = await caller.find(ANNES)
    assert [each.StudyInstanceUID for each in found.rows] == [match.study_uid for match in studies(300)]
    assert found.end == (0x0000, "")


@pytest.mark.parametrize("count", [ROWS_A_BATCH - 1, ROWS_A_BATCH, ROWS_A_BATCH + 1, 2 * ROWS_A_BATCH])
async def test_no_row_is_lost_between_batches(count: int) -> None:
    found = await answer(Shelf(*studies(count)))
    assert len({each.StudyInstanceUID for each in found.rows}) == len(found.rows) == count
    assert found.end == (0x0000, "")


# --- refusals, in the caller's sight ---


@pytest.mark.parametrize(
    ("question", "offending"),
    [
        (identifier("STUDIES", PatientID=ANNE.digits), ("00080052",)),
        (identifier("PATIENT", PatientID=ANNE.digits), ("00080052",)),
        (identifier("SERIES", PatientID=ANNE.digits), ("0020000D",)),
        (Dataset(), ("00080052",)),
        (b"", ("00080052",)),
        (b"no data set at all", ()),
    ],
)
async def test_a_wrong_identifier_is_refused_with_the_element_and_the_reason(
    question: Dataset | bytes, offending: tuple[str, ...]
) -> None:
    found = await answer(Shelf(*studies(1)), question)
    assert found.rows == [] and found.last.status == 0xA900
    assert found.last.offending_elements == offending and found.last.error_comment


async def test_a_request_without_an_identifier_is_refused() -> None:
    async with opened(Shelf(*studies(1)), Doorkeeper(PACS)) as house, client(house.port) as caller:
        request = Command(CommandField.C_FIND_RQ, 5, sop_class_uid=STUDY_ROOT, priority=0)
        await caller.association.send(caller.context(STUDY_ROOT), request)
        assert (await caller.hear()).last.status == 0xA900


async def test_a_lenient_caller_may_leave_out_the_levels_above() -> None:
    question = identifier("SERIES", PatientID=ANNE.digits, SeriesInstanceUID=None)
    assert (await answer(Shelf(), question, replace(COMMENT, is_lenient=True))).end == (0x0000, "")


async def test_too_broad_a_question_is_refused_in_words_never_with_an_empty_list() -> None:
    found = await refusal(errors.QueryTooBroad("a question names one patient"))
    assert found.end == (0xA900, "name one NHS number, study UID or whole accession number")


async def test_another_gateway_may_echo_and_is_told_to_ask_by_qido_rs() -> None:
    shelf = Shelf(*studies(1))
    gateway = proposal(implementation_class_uid=IMPLEMENTATION_CLASS_UID)
    async with opened(shelf, Doorkeeper(PACS)) as house, client(house.port, gateway) as caller:
        assert await caller.echo() == 0x0000
        found = await caller.find(ANNES)
    assert found.rows == [] and found.end == (0xA900, "a gateway is asked by QIDO-RS: C-FIND has no hop count")
    assert not shelf.asked


async def test_a_denial_that_may_be_told_is_0124_with_its_reason() -> None:
    assert (await refusal(denied(Telling.CALLER))).end == (0x0124, "no care relationship recorded; ring 020 7946 0001")


async def test_a_caller_who_chose_silence_gets_an_answer_without_rows() -> None:
    silent = replace(COMMENT, refusal=Refusal.SILENT)
    assert (await refusal(denied(Telling.CALLER), silent)).end == (0x0000, "")


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (errors.RegisterUnavailable("opt-outs"), (0xA700, "sharing not checked")),
        (errors.AuditUnavailable("disk full"), (0xA700, "not recorded")),
        (errors.OverCapacity("too many questions are under way"), (0xA700, "too many questions are under way")),
        (errors.ServiceFault("closed"), (0xA700, "the gateway cannot work at this moment")),
        (errors.PeerTimeout(RZ2, "slow", (SLOW,)), (0xC000, "no answer: RZ3 020 7946 0003")),
        (errors.NotFound("no such trust"), (0x0000, "")),
        (KeyError("SMITH^ANNE"), (0xC001, "")),
    ],
)
async def test_a_fault_is_told_and_a_bug_shows_nothing(error: Exception, end: tuple[int, str]) -> None:
    assert (await refusal(error)).end == end


# --- missing trusts (SAF-04) ---


async def test_a_missing_trust_is_a_row_for_a_caller_who_wants_rows() -> None:
    found = await answer(Shelf(*studies(1), sources=(HEARD, SLOW)), profile=ROW)
    names = [str(each.PatientName) for each in found.rows]
    assert names == ["SMITH^ANNE", "SOURCE UNAVAILABLE"] and found.end == (0x0000, "")
    assert found.rows[1].StudyInstanceUID.startswith("2.25.") and found.rows[1].PatientID == ANNE.digits


async def test_a_row_for_a_missing_trust_says_whom_to_ring_and_cannot_be_retrieved() -> None:
    question = identifier("STUDY", PatientID=ANNE.digits, StudyDescription=None, InstanceAvailability=None)
    found = await answer(Shelf(sources=(SLOW,)), question, ROW)
    [told] = found.rows
    assert told.StudyDescription == "RZ3 Southbridge: did not answer in time; ring 020 7946 0003"
    assert told.InstanceAvailability == "UNAVAILABLE"


async def test_a_missing_trust_is_a_failure_behind_the_rows_for_a_caller_who_wants_that() -> None:
    found = await answer(Shelf(*studies(1), sources=(HEARD, SLOW)), profile=FAILURE)
    assert len(found.rows) == 1 and found.end == (0xC000, "missing: RZ3 020 7946 0003")


async def test_a_missing_trust_is_a_comment_for_a_caller_who_reads_them() -> None:
    found = await answer(Shelf(*studies(1), sources=(HEARD, SLOW)), profile=COMMENT)
    assert len(found.rows) == 1 and found.end == (0x0000, "missing: RZ3 020 7946 0003")


@pytest.mark.parametrize("profile", [ROW, FAILURE, COMMENT])
async def test_found_or_not_the_same_trusts_are_named_in_the_same_way(profile: CallerProfile) -> None:
    some = await answer(Shelf(*studies(1), sources=(HEARD, SLOW)), profile=profile)
    none = await answer(Shelf(sources=(HEARD, SLOW)), profile=profile)
    assert some.end == none.end and some.rows[1:] == none.rows


# --- C-CANCEL, and callers who are gone ---


async def test_a_cancel_after_the_third_row_stops_the_rows() -> None:
    async with opened(Shelf(*studies(5_000)), Doorkeeper(PACS)) as house, client(house.port) as caller:
        message_id = await caller.ask(ANNES)

        async def stop_at_three(rows: int) -> None:
            if rows == 3:
                await caller.cancel(message_id)

        found = await caller.hear(stop_at_three)
        assert found.end == (0xFE00, "") and 3 <= len(found.rows) < 5_000
        assert (await caller.find(identifier("STUDY", PatientID=ANNE.digits))).last.status == 0x0000


async def test_a_cancel_while_trusts_are_asked_stops_the_asking() -> None:
    shelf = Shelf(*studies(1))
    shelf.may_answer.clear()
    async with opened(shelf, Doorkeeper(PACS)) as house, client(house.port) as caller:
        message_id = await caller.ask(ANNES)
        await shelf.is_asked.wait()
        await caller.cancel(message_id)
        found = await caller.hear()
    assert found.rows == [] and found.end == (0xFE00, "")
    assert shelf.is_stopped.is_set()


async def test_a_cancel_of_another_message_changes_nothing() -> None:
    shelf = Shelf(*studies(1))
    shelf.may_answer.clear()
    async with opened(shelf, Doorkeeper(PACS)) as house, client(house.port) as caller:
        message_id = await caller.ask(ANNES)
        await shelf.is_asked.wait()
        await caller.cancel(message_id + 1)
        await caller.association.send(caller.context(STUDY_ROOT), Command(CommandField.C_CANCEL_RQ, message_id + 2))
        shelf.may_answer.set()
        assert (await caller.hear()).end == (0x0000, "")


async def test_a_question_that_was_cancelled_while_it_waited_is_never_asked() -> None:
    shelf = Shelf(*studies(1))
    shelf.may_answer.clear()
    async with opened(shelf, Doorkeeper(PACS)) as house, client(house.port) as caller:
        await caller.ask(ANNES)
        await shelf.is_asked.wait()
        waiting = await caller.ask(ANNES)
        await caller.cancel(waiting)
        # Behind the cancel on the same wire, and answered at once: by now the cancel has been heard.
        await caller.cancel(waiting - 1)
        assert (await caller.hear()).end == (0xFE00, "")
        assert (await caller.hear()).end == (0xFE00, "")
    assert len(shelf.asked) == 1


async def test_a_caller_who_aborts_stops_the_asking() -> None:
    shelf = Shelf(*studies(1))
    shelf.may_answer.clear()
    async with opened(shelf, Doorkeeper(PACS)) as house:
        async with client(house.port) as caller:
            await caller.ask(ANNES)
            await shelf.is_asked.wait()
        async with asyncio.timeout(HANG_S):
            await shelf.is_stopped.wait()


async def test_a_caller_who_aborts_among_the_rows_is_forgotten() -> None:
    async with opened(Shelf(*studies(5_000)), Doorkeeper(PACS)) as house:
        async with client(house.port) as caller:

            async def hang_up(rows: int) -> None:
                if rows == 3:
                    caller.association.abort()

            await caller.ask(ANNES)
            with pytest.raises(AssociationFailure):
                await caller.hear(hang_up)
        async with asyncio.timeout(HANG_S):
            await house.door.stop()
        assert house.figures.open == 0 and house.figures.answered == []


async def test_work_that_nobody_gave_up_ends_as_it_does() -> None:
    async def slow() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await unless(asyncio.Event(), slow)


# --- several questions ---


async def test_one_association_asks_as_often_as_it_likes() -> None:
    async with opened(Shelf(*studies(2)), Doorkeeper(PACS)) as house, client(house.port) as caller:
        for _ in range(3):
            assert len((await caller.find(ANNES)).rows) == 2
        assert len((await caller.find(identifier("PATIENT", PatientID=ANNE.digits), PATIENT_ROOT)).rows) == 2
        assert await caller.echo() == 0x0000


@pytest.mark.parametrize("message_id", [1, 255, 256, 65_535])
async def test_every_message_id_comes_back(message_id: int) -> None:
    async with opened(Shelf(*studies(1)), Doorkeeper(PACS)) as house, client(house.port) as caller:
        for _ in range(2):
            await caller.ask(ANNES, message_id=message_id)
            assert (await caller.hear()).last.message_id == message_id


async def test_a_question_that_comes_while_one_is_answered_waits_for_its_turn() -> None:
    shelf = Shelf(*studies(1))
    shelf.may_answer.clear()
    async with opened(shelf, Doorkeeper(PACS)) as house, client(house.port) as caller:
        first, second = await caller.ask(ANNES), await caller.ask(ANNES)
        await shelf.is_asked.wait()
        shelf.may_answer.set()
        assert [(await caller.hear()).last.message_id for _ in range(2)] == [first, second]


async def test_a_third_question_at_once_ends_the_association() -> None:
    shelf = Shelf()
    shelf.may_answer.clear()
    async with opened(shelf, Doorkeeper(PACS)) as house, client(house.port) as caller:
        for _ in range(3):
            await caller.ask(ANNES)
        with pytest.raises(AssociationFailure):
            await caller.hear()


async def test_a_caller_who_is_struck_off_is_refused_at_its_next_question() -> None:
    directory = Doorkeeper(PACS)
    async with opened(Shelf(*studies(1)), directory) as house, client(house.port) as caller:
        assert len((await caller.find(ANNES)).rows) == 1
        directory.directory = Directory([], [])
        found = await caller.find(ANNES)
    assert found.rows == [] and found.end == (0x0124, "the caller is not identified")
