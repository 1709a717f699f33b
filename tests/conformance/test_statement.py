"""docs/conformance.md says what the code does: names that stand in both are compared."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from dicomweb.answer import INSTANCE_RETURN, SERIES_RETURN, STUDY_RETURN
from dicomweb.bodies import multipart
from dicomweb.connector import PAGE_ROWS_MAX, Quirk
from dicomweb.listener import CORRELATION_HEADER, HEADER_LINES_MAX, HOPS_HEADER, PURPOSE_HEADER
from dicomweb.notices import FUZZY_NOT_SUPPORTED, NOTICE_HEADER, SENTENCE, SNAPSHOT_HEADER, SOURCES_HEADER
from dicomweb.problem import FORMS
from dicomweb.qido import RESOURCES
from dicomweb.stow import service as stow
from dicomweb.stow.outcome import FailureReason
from dicomweb.wado import images
from dicomweb.wado.negotiation import MEDIA_TYPES
from dimse.availability import NoticeStatus
from dimse.commitment import CommitmentStatus
from dimse.connector import Quirk as DimseQuirk
from dimse.identifier import EXTENDED
from dimse.notices import CONFLICT, CUT, NOT_SHARED, UNAVAILABLE
from dimse.scp.endings import SUBOPERATIONS_MAX, RetrieveStatus, StoreStatus
from dimse.scp.find_scp import FIND_CLASSES
from dimse.scp.wishes import EXTENDED as RETRIEVE_EXTENDED
from dimse.scp.wishes import GET_CLASSES, MOVE_CLASSES
from dimse.sop_classes import (
    INSTANCE_AVAILABILITY_NOTIFICATION,
    PATIENT_ROOT_FIND,
    STORAGE_COMMITMENT,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    VERIFICATION,
)
from dimse.status import MissingSources, Status
from dimse.upper_layer import pdu
from dimse.upper_layer.negotiation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from gateway.model.attributes import MATCHING, keyword_of
from gateway.model.imaging import Level, NotAskedReason, SourceState
from gateway.model.settings import Limits
from gateway.model.work import commitments
from gateway.tls import TLS_1_2_SUITES

STATEMENT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
ONE_LINE = re.sub(r"\n(> )?", " ", STATEMENT)


def row(level: str, section: str) -> str:
    """The table row of a level in a section."""
    return next(line for line in STATEMENT.split(section)[1].splitlines() if line.startswith(f"| {level} |"))


@pytest.mark.parametrize(
    ("level", "name"), [(Level.STUDY, "study"), (Level.SERIES, "series"), (Level.IMAGE, "instance")]
)
def test_the_matching_keys_of_each_level_are_stated(level: Level, name: str) -> None:
    above = {Level.STUDY: frozenset(), Level.SERIES: MATCHING[Level.STUDY], Level.IMAGE: MATCHING[Level.SERIES]}
    stated = set(re.findall(r"[A-Z][A-Za-z.]+", row(name, "### 1.3")))
    assert stated == {".".join(map(keyword_of, path)) for path in MATCHING[level] - above[level]}


@pytest.mark.parametrize(
    ("name", "returned"), [("study", STUDY_RETURN), ("series", SERIES_RETURN), ("instance", INSTANCE_RETURN)]
)
def test_the_returned_attributes_of_each_level_are_stated(name: str, returned: tuple[str, ...]) -> None:
    assert re.findall(r"\b[0-9A-F]{8}\b", row(name, "### 1.4")) == list(returned)


def test_resources_quirks_headers_states_and_statuses_are_stated() -> None:
    names = [resource.path for resource in RESOURCES]
    names += [*Quirk, *SourceState, *NotAskedReason]
    names += [NOTICE_HEADER, SOURCES_HEADER, SNAPSHOT_HEADER, CORRELATION_HEADER, HOPS_HEADER, PURPOSE_HEADER]
    assert [name for name in names if f"`{name}`" not in STATEMENT] == []
    assert [form.status for form in FORMS.values() if not re.search(rf"\b{form.status}\b", STATEMENT)] == []


def test_the_resources_media_types_and_failure_reasons_of_images_are_stated() -> None:
    wado, store = STATEMENT.split("### 1.10 WADO-RS")[1].split("## 2. ")[0].split("### 1.11 STOW-RS")
    assert [path for _, path in images.PATHS if f"`{path}`" not in wado] == []
    assert [name for name in MEDIA_TYPES.values() if f"`{name}`" not in wado] == []
    assert [path for path in stow.PATHS if f"/dicom-web{path}`" not in store] == []
    stated = set(re.findall(r"^\| ([0-9A-F]{4}) \|", store, re.MULTILINE))
    assert stated == {f"{int(reason):04X}" for reason in FailureReason}


def test_files_and_associations_name_one_implementation() -> None:
    assert (multipart.IMPLEMENTATION_CLASS_UID, multipart.IMPLEMENTATION_VERSION) == (
        IMPLEMENTATION_CLASS_UID,
        IMPLEMENTATION_VERSION,
    )


def test_quoted_texts_and_figures_are_those_of_the_code() -> None:
    assert SENTENCE in ONE_LINE and FUZZY_NOT_SUPPORTED in ONE_LINE
    assert f"`limit` of at most {PAGE_ROWS_MAX}" in STATEMENT and f"at most {HEADER_LINES_MAX} headers" in ONE_LINE


# --- DIMSE ---

SCP = STATEMENT.split("## 3. DIMSE")[1].split("## 4. DIMSE")[0]
FIND, NOTICES, RETRIEVE, STORE = re.split(
    r"### 3\.4 Instance Availability Notification|### 3\.5 C-MOVE and C-GET|### 3\.6 C-STORE",
    SCP.split("### 3.7")[0],
)
COMMITMENT = SCP.split("### 3.9 Storage Commitment")[1]
SCU = STATEMENT.split("## 4. DIMSE")[1]


def cells(text: str) -> set[str]:
    """What stands in the first column of the tables, unquoted."""
    return {line.split("|")[1].strip(" `") for line in text.splitlines() if line.startswith("| ")}


def statuses(text: str) -> set[int]:
    """The codes in the first column of the tables."""
    return {int(code, 16) for cell in cells(text) for code in re.findall(r"\b[0-9A-F]{4}\b", cell)}


def test_the_sop_classes_taken_and_asked_are_stated() -> None:
    lines = [line for line in SCP.splitlines() if re.match(r"\| [^|]*\| 1\.2\.840\.10008\.[0-9.]+ \|", line)]
    rows = [line.split("|")[2:5] for line in lines]
    stated = {uid.strip(): (scp.strip(), scu.strip()) for uid, scp, scu in rows}
    assert {uid for uid, (scp, _) in stated.items() if scp == "yes"} == {
        VERIFICATION,
        *FIND_CLASSES,
        *MOVE_CLASSES,
        *GET_CLASSES,
        INSTANCE_AVAILABILITY_NOTIFICATION,
        STORAGE_COMMITMENT,
    }
    assert {uid for uid, (_, scu) in stated.items() if scu == "yes"} == {
        VERIFICATION,
        STUDY_ROOT_FIND,
        PATIENT_ROOT_FIND,
        STUDY_ROOT_MOVE,
        STUDY_ROOT_GET,
        STORAGE_COMMITMENT,
    }


def test_what_is_answered_to_extended_negotiation_is_stated() -> None:
    [line] = [line for line in SCP.splitlines() if line.startswith("| extended negotiation")]
    stated = [int(figure) for figure in re.findall(r" ([01])[,;]", line)]
    assert {bytes(stated)} == set(EXTENDED.values())
    [line] = [line for line in SCP.splitlines() if line.startswith("| relational retrieval")]
    assert {bytes(int(figure) for figure in re.findall(r" ([01])[,;]", line))} == set(RETRIEVE_EXTENDED.values())


def test_the_statuses_of_c_find_are_stated_and_no_others() -> None:
    assert statuses(FIND) == {int(status) for status in Status}


def test_the_statuses_of_retrieval_and_storage_are_stated_and_no_others() -> None:
    assert statuses(RETRIEVE) == {int(status) for status in RetrieveStatus}
    assert statuses(STORE) == {int(status) for status in StoreStatus}
    assert f"{SUBOPERATIONS_MAX:,}" in RETRIEVE


def test_the_statuses_of_n_create_are_stated_and_no_others() -> None:
    assert statuses(NOTICES) == {int(status) for status in NoticeStatus}


def test_the_statuses_and_reasons_of_storage_commitment_are_stated_and_no_others() -> None:
    known = {int(status) for status in CommitmentStatus} | {int(reason) for reason in commitments.FailureReason}
    assert statuses(COMMITMENT) == known
    reasons = {int(reason, 16) for reason in re.findall(r"\| Failure Reason ([0-9A-F]{4}) \|", COMMITMENT)}
    assert reasons == {int(reason) for reason in commitments.FailureReason}


def test_the_ways_of_telling_what_is_missing_are_stated() -> None:
    assert {how.value for how in MissingSources} <= cells(SCP)
    for name in (UNAVAILABLE, CONFLICT, CUT, NOT_SHARED):
        assert f"`{name}`" in SCP


def test_the_rejections_are_stated() -> None:
    given = [
        pdu.CALLING_AE_TITLE_NOT_RECOGNISED,
        pdu.CALLED_AE_TITLE_NOT_RECOGNISED,
        pdu.APPLICATION_CONTEXT_NOT_SUPPORTED,
        pdu.PROTOCOL_VERSION_NOT_SUPPORTED,
        pdu.NO_REASON_GIVEN,
        pdu.LOCAL_LIMIT_EXCEEDED,
        pdu.TEMPORARY_CONGESTION,
    ]
    stated = {figures for cell in cells(SCP) for figures in re.findall(r"\d, \d, \d", cell)}
    assert stated == {f"{one.result}, {one.source}, {one.reason}" for one in given}


def test_the_identity_of_the_implementation_and_its_cipher_suites_are_stated() -> None:
    assert f"`{IMPLEMENTATION_CLASS_UID}`" in SCP and f"`{IMPLEMENTATION_VERSION}`" in SCP
    assert [suite for suite in TLS_1_2_SUITES if f"`{suite}`" not in SCP] == []


def test_the_quirks_of_c_find_archives_are_stated_and_no_others() -> None:
    table = SCU.split("### 4.1")[1].split("### 4.2")[0]
    assert cells(table) - {"quirk", "---"} == {quirk.value for quirk in DimseQuirk}


def test_every_limit_named_in_the_statement_is_a_setting() -> None:
    names = set(re.findall(r"`(?:limits\.)?([a-z_]+_(?:max|s|bytes_max))`", STATEMENT))
    known = {each.name for each in fields(Limits)}
    assert names <= known
