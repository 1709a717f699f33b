"""`gateway doctor` at archives behind C-FIND: what is wrong is said in words, and habits become settings."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dimse.sop_classes import PATIENT_ROOT_FIND
from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association
from dimse.upper_layer.commands import CommandField
from dimse.upper_layer.messages import Message
from gateway.doctor.findings import Report, Verdict, profile
from gateway.model.imaging import PATIENT_ID, STUDY_UID
from tests.doctor.archives import bad, dimse_peer, examined, of
from tests.peers.dimse_archive import Archive, Script, listening, study, text

ANNE = "9990000018"
NAMED = study(1, t00100010={"vr": "PN", "Value": [{"Alphabetic": "Ó BRIAIN^Ève"}]})


async def doctor(folder: Path, archive: Archive, *, test_patient: str = "") -> Report:
    """Examine this archive."""
    async with listening(archive):
        return await examined(folder, dimse_peer(archive.port), test_patient=test_patient)


def unless(is_borne: Script, when: str) -> Script:
    """Honest, but for identifiers in which `when` is asked for."""

    async def answer(archive: Archive, association: Association, message: Message) -> None:
        is_find = message.command.field is CommandField.C_FIND_RQ
        is_meant = is_find and when in archive.asked[-1]
        await (is_borne if is_meant else Archive.be_honest)(archive, association, message)

    return answer


async def failing(archive: Archive, association: Association, message: Message) -> None:
    """Answer that it cannot."""
    await archive.end(association, message, 0xC001)


async def test_an_archive_that_keeps_to_the_standard_has_nothing_to_mend(tmp_path: Path) -> None:
    report = await doctor(tmp_path, Archive())
    assert bad(report) == [] and not report.quirks
    assert of(report, "information models").found == "study-root, patient-root"


async def test_nobody_is_asked_for_but_a_patient_who_was_named(tmp_path: Path) -> None:
    archive = Archive(rows=[study(1)])
    await doctor(tmp_path, archive)
    assert {text(asked, PATIENT_ID) for asked in archive.asked} == {""}
    assert all(text(asked, STUDY_UID).startswith("2.25.") for asked in archive.asked)


@pytest.mark.parametrize(
    ("reject", "words"),
    [
        (pdu.AssociateReject(1, 1, 3), "calling AE title"),
        (pdu.AssociateReject(1, 1, 7), "set ae_title"),
        (pdu.AssociateReject(2, 3, 2), "limit of associations"),
    ],
)
async def test_a_rejection_is_explained(tmp_path: Path, reject: pdu.AssociateReject, words: str) -> None:
    report = await doctor(tmp_path, Archive(reject=reject))
    finding = of(report, "request")
    assert finding.verdict is Verdict.FAILED and words in f"{finding.found} {finding.advice}"
    assert report.has_failed


async def test_a_port_at_which_nobody_listens_is_said(tmp_path: Path) -> None:
    archive = Archive()
    async with listening(archive):
        pass
    report = await examined(tmp_path, dimse_peer(archive.port))
    assert of(report, "connect").found == "connection refused" and report.has_failed


async def test_an_archive_of_patient_root_alone_is_to_be_asked_in_it(tmp_path: Path) -> None:
    report = await doctor(tmp_path, Archive(models=(PATIENT_ROOT_FIND,)))
    assert report.settings == {"model": "patient-root"} and not report.has_failed


async def test_an_archive_that_cannot_search_fails(tmp_path: Path) -> None:
    report = await doctor(tmp_path, Archive(models=()))
    assert of(report, "information models").verdict is Verdict.FAILED


async def test_an_archive_that_ignores_unique_keys_is_warned_of(tmp_path: Path) -> None:
    async def everything(archive: Archive, association: Association, message: Message) -> None:
        if message.command.field is CommandField.C_FIND_RQ:
            for number in range(3):
                await archive.give(association, message, study(number))
        await archive.end(association, message)

    finding = of(await doctor(tmp_path, Archive(script=everything)), "study that cannot exist")
    assert finding.verdict is Verdict.WARNING and finding.found == "3 rows that were not asked for"


async def test_rows_that_cannot_be_read_are_told_once(tmp_path: Path) -> None:
    async def cut(archive: Archive, association: Association, message: Message) -> None:
        if message.command.field is CommandField.C_FIND_RQ:
            await archive.give(association, message, b"\x08\x00\x20")
        await archive.end(association, message)

    finding = of(await doctor(tmp_path, Archive(script=cut)), "rows")
    assert finding.verdict is Verdict.WARNING and "incomplete" in (finding.advice or "")


async def test_one_that_never_stops_is_stopped(tmp_path: Path) -> None:
    async def endless(archive: Archive, association: Association, message: Message) -> None:
        if message.command.field is not CommandField.C_FIND_RQ:
            await archive.end(association, message)
            return
        number = 0
        while not association.cancelled(message.command.message_id).is_set():
            number += 1
            await archive.give(association, message, study(number))
            await asyncio.sleep(0)
        await archive.end(association, message, 0xFE00)

    finding = of(await doctor(tmp_path, Archive(script=endless)), "study that cannot exist")
    assert finding.found == "200 or more rows that were not asked for"


async def test_a_second_query_that_fails_becomes_a_quirk(tmp_path: Path) -> None:
    served: set[Association] = set()

    async def once(archive: Archive, association: Association, message: Message) -> None:
        if message.command.field is CommandField.C_FIND_RQ and association in served:
            association.abort("once is enough")
            return
        if message.command.field is CommandField.C_FIND_RQ:
            served.add(association)
        await archive.be_honest(association, message)

    report = await doctor(tmp_path, Archive(script=once))
    assert report.quirks == {"one-query-per-association"}


async def test_modalities_that_may_not_be_asked_for_become_a_quirk(tmp_path: Path) -> None:
    report = await doctor(tmp_path, Archive(script=unless(failing, "00080061")))
    assert report.quirks == {"modalities-by-series"}


async def test_explicit_vr_that_fails_becomes_a_quirk(tmp_path: Path) -> None:
    async def implicit_alone(archive: Archive, association: Association, message: Message) -> None:
        is_explicit = message.context.transfer_syntax != "1.2.840.10008.1.2"
        is_find = message.command.field is CommandField.C_FIND_RQ
        await (failing if is_find and is_explicit else Archive.be_honest)(archive, association, message)

    report = await doctor(tmp_path, Archive(script=implicit_alone))
    assert "implicit-vr-only" in report.quirks and not report.has_failed


async def test_a_test_patient_shows_what_is_found_and_in_which_character_set(tmp_path: Path) -> None:
    report = await doctor(tmp_path, Archive(rows=[NAMED, study(2)], charset=("ISO_IR 100",)), test_patient=ANNE)
    assert of(report, "test patient").found == "2 studies"
    assert of(report, "declared").verdict is Verdict.GOOD
    assert bad(report) == []


async def test_text_that_declares_no_character_set_is_warned_of(tmp_path: Path) -> None:
    report = await doctor(tmp_path, Archive(rows=[NAMED]), test_patient=ANNE)
    assert of(report, "declared").verdict is Verdict.WARNING


async def test_uid_lists_that_find_nothing_become_a_quirk(tmp_path: Path) -> None:
    async def no_lists(archive: Archive, association: Association, message: Message) -> None:
        asked = archive.asked[-1] if archive.asked else {}
        values = asked.get(STUDY_UID, {}).get("Value")
        is_list = isinstance(values, list) and len(values) > 1
        await (Archive.end(association, message) if is_list else archive.be_honest(association, message))

    report = await doctor(tmp_path, Archive(rows=[study(1)], script=no_lists), test_patient=ANNE)
    assert report.quirks == {"no-uid-lists"}


async def test_modalities_left_out_become_a_quirk(tmp_path: Path) -> None:
    row = {tag: value for tag, value in study(1).items() if tag != "00080061"}
    report = await doctor(tmp_path, Archive(rows=[row]), test_patient=ANNE)
    assert report.quirks == {"modalities-by-series"}


async def test_padded_patient_ids_become_a_quirk(tmp_path: Path) -> None:
    async def padded(archive: Archive, association: Association, message: Message) -> None:
        if message.command.field is CommandField.C_FIND_RQ and text(archive.asked[-1], PATIENT_ID).startswith("*"):
            await archive.give(association, message, study(3, patient=f"00{ANNE}"))
        await archive.end(association, message)

    report = await doctor(tmp_path, Archive(script=padded), test_patient=ANNE)
    assert report.quirks == {"wildcard-patient-id"}


class Narrow(Archive):
    """Takes two associations at once from one title, and rejects the third."""

    async def admit(
        self, association: Association, request: pdu.AssociateRequest
    ) -> pdu.AssociateAccept | pdu.AssociateReject:
        if sum(each.is_open for each in self.associations) >= 2:
            return pdu.AssociateReject(2, 3, 2)
        return await super().admit(association, request)


async def test_an_archive_that_takes_few_associations_at_once_is_to_be_asked_less(tmp_path: Path) -> None:
    report = await doctor(tmp_path, Narrow())
    finding = of(report, "associations at once")
    assert finding.verdict is Verdict.SET and finding.found.startswith("2 of 8: ")
    assert "peer_requests_at_once_max = 2" in finding.advice
    assert profile(report, frozenset())["limits"] == {"peer_requests_at_once_max": 2}


async def test_a_limit_that_was_set_before_is_what_is_tried_and_is_kept(tmp_path: Path) -> None:
    async with listening(Narrow()) as archive:
        peer = dimse_peer(archive.port, "[peer.limits]", "peer_requests_at_once_max = 2")
        report = await examined(tmp_path, peer)
    assert of(report, "associations at once").found == "2, which is as many as it is asked"
    assert profile(report, frozenset())["limits"] == {"peer_requests_at_once_max": 2}


async def test_the_longest_pdu_that_an_archive_takes_is_told(tmp_path: Path) -> None:
    assert (
        of(await doctor(tmp_path, Archive(pdu_bytes_max=16_384)), "longest PDU that it takes").found == "16,384 bytes"
    )


async def test_no_word_of_a_report_names_the_test_patient(tmp_path: Path) -> None:
    report = await doctor(tmp_path, Archive(rows=[NAMED]), test_patient=ANNE)
    assert ANNE not in repr(report) and "BRIAIN" not in repr(report)


async def test_who_agrees_to_relational_queries_is_not_taken_to_keep_to_them(tmp_path: Path) -> None:
    hierarchical, relational = Archive(), Archive(is_relational=True)
    assert "no-relational-negotiation" in (await doctor(tmp_path, hierarchical)).quirks_refuted
    assert "no-relational-negotiation" not in (await doctor(tmp_path, relational)).quirks_refuted
