"""More of other people's software: gdcm, dcmjs-dimse, Orthanc as requestor, DCMTK over TLS both ways (G10, DEC-37).

gdcm's client ends in an exception of its own whatever it is answered, so that it is judged at the door. Images come and
go as far as the upper layer is concerned: the services that keep them come with retrieval.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pynetdicom.dsutils import encode

from dimse.sop_classes import TRANSFER_SYNTAXES
from dimse.upper_layer.association import Association, AssociationFailure, AssociationLimits
from dimse.upper_layer.commands import Command, CommandField
from dimse.upper_layer.negotiation import propose
from dimse.upper_layer.pdu import AssociateRequest
from dimse.upper_layer.requestor import NotConnected, associate
from gateway import tls
from gateway.model.imaging import Level, Match
from policy.identity import CallerBinding
from policy.parties import TrustId
from tests.dimse.door import (
    HANG_S,
    OURS,
    PACS,
    THEIRS,
    VERIFICATION,
    Doorkeeper,
    Shelf,
    opened,
)
from tests.dimse.storing import CT, Storing
from tests.gateway.certificates import NOW, Authority, Files
from tests.peers import dcmjs, dcmtk
from tests.peers.orthanc import running_orthanc
from tests.sharing.rows import ANNE, RZ2, row

pytestmark = pytest.mark.peer

NAMES = ("MÜLLER^JÖRG", "ΔΙΟΝΥΣΙΟΣ", "YAMADA^TAROU=山田^太郎")
KEYS = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientID={ANNE.digits}", "-k", "StudyInstanceUID")
MR = "1.2.840.10008.5.1.4.1.1.4"


def shelf(*names: str) -> Shelf:
    """A study for each name."""
    return Shelf(*(_study(f"1.2.{number}", name) for number, name in enumerate(names or ("SMITH^ANNE",) * 2, start=1)))


def _study(uid: str, name: str) -> Match:
    groups = dict(zip(("Alphabetic", "Ideographic"), name.split("="), strict=False))
    return Match(
        Level.STUDY, ANNE, uid, "", "", (RZ2,), {**row(uid, ANNE), "00100010": {"vr": "PN", "Value": [{**groups}]}}
    )


def studies_in(printed: str) -> list[str]:
    """The studies in what findscu printed, but for the question that it prints first."""
    return re.findall(r"\(0020,000d\) UI \[([0-9.]+)", printed)


# --- gdcm ---


async def gdcmscu(port: int, *options: str) -> None:
    program = shutil.which("gdcmscu")
    if program is None:
        pytest.skip("libgdcm-tools is not installed")
    process = await asyncio.create_subprocess_exec(
        *(program, *options, "--aetitle", THEIRS, "--call", OURS, "127.0.0.1", str(port)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(HANG_S):
        await process.wait()


@pytest.mark.parametrize(
    ("options", "command"),
    [
        (("--echo",), "C_ECHO_RQ"),
        (("--find", "--studyroot", "--study"), "C_FIND_RQ"),
        (("--find", "--patientroot", "--patient"), "C_FIND_RQ"),
        (("--find", "--patientroot", "--study"), "C_FIND_RQ"),
    ],
    ids=" ".join,
)
async def test_gdcm_is_answered(options: tuple[str, ...], command: str) -> None:
    keys = ("--key", f"0010,0020={ANNE.digits}", "--key", "0020,000d") if "--find" in options else ()
    finder = shelf()
    async with opened(finder, Doorkeeper(PACS)) as house:
        await gdcmscu(house.port, *options, *keys)
        assert house.figures.answered == [(command, 0x0000)]
    assert len(finder.asked) == options.count("--find")


# --- dcmjs-dimse ---


async def test_dcmjs_asks_again_and_again_on_one_association() -> None:
    questions = [
        dcmjs.find("STUDY", PatientID=ANNE.digits, StudyInstanceUID="", PatientName=""),
        dcmjs.find("SERIES", PatientID=ANNE.digits, StudyInstanceUID="1.2.1", SeriesInstanceUID=""),
        dcmjs.find("STUDY", PatientID=ANNE.digits, NumberOfPatientRelatedStudies=""),
    ]
    async with opened(shelf(), Doorkeeper(PACS)) as house:
        said = await dcmjs.converse(house.port, dcmjs.ECHO, *questions, dcmjs.ECHO, calling=THEIRS, called=OURS)
        commands = [command for command, _ in house.figures.answered]
    assert said.ended == "" and commands == ["C_ECHO_RQ", *["C_FIND_RQ"] * 3, "C_ECHO_RQ"]
    assert [answer.statuses[-1] for answer in said.answers] == [0x0000] * 5
    assert [found["StudyInstanceUID"] for found in said.answers[1].rows] == ["1.2.1", "1.2.2"]


async def test_dcmjs_reads_names_of_every_script() -> None:
    question = dcmjs.find("STUDY", PatientID=ANNE.digits, PatientName="")
    async with opened(shelf(*NAMES), Doorkeeper(PACS)) as house:
        said = await dcmjs.converse(house.port, question, calling=THEIRS, called=OURS)
    names = [found["PatientName"] for found in said.answers[0].rows]
    assert [["=".join(group.values()) for group in each] for each in names] == [[name] for name in NAMES]  # type: ignore[attr-defined]  # JSON as dcmjs writes it


@pytest.mark.parametrize(("calling", "called", "reason"), [("STRANGER", OURS, "1/1/3"), (THEIRS, "OTHER", "1/1/7")])
async def test_dcmjs_is_told_which_title_is_wrong(calling: str, called: str, reason: str) -> None:
    async with opened(shelf(), Doorkeeper(PACS)) as house:
        said = await dcmjs.converse(house.port, dcmjs.ECHO, calling=calling, called=called)
    assert said.ended == f"rejected: {reason}"


async def test_dcmjs_sends_an_image() -> None:
    storing = Storing(*TRANSFER_SYNTAXES)
    image = get_testdata_file("CT_small.dcm")
    async with opened(shelf(), Doorkeeper(PACS), services={CT: storing}) as house:
        said = await dcmjs.converse(house.port, {"kind": "store", "file": image}, calling=THEIRS, called=OURS)
    assert said.answers[0].statuses == [0x0000] and len(storing.sizes) == 1


# --- Orthanc as requestor ---


async def test_orthanc_echoes_and_finds(tmp_path: Path) -> None:
    def rest(port: int, path: str, body: object = None) -> object:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", None if body is None else json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=HANG_S) as answer:
            return json.loads(answer.read() or b"null")

    bound = replace(PACS, ae_titles=("ORTHANC",))
    question = {"Level": "Study", "Query": {"PatientID": ANNE.digits, "PatientName": ""}}
    # As it is installed Orthanc keeps answers in Latin-1, and drops what that has not.
    names = ("MÜLLER^JÖRG", "SMITH^ANNE")
    async with opened(shelf(*names), Doorkeeper(bound)) as house:

        def act() -> tuple[object, list[object]]:
            with running_orthanc(tmp_path, {"gateway": [OURS, "127.0.0.1", house.port]}) as orthanc:
                echoed = rest(orthanc.port, "/modalities/gateway/echo", {})
                query = rest(orthanc.port, "/modalities/gateway/query", question)
                assert isinstance(query, dict)
                answers = rest(orthanc.port, f"{query['Path']}/answers?expand&simplify")
                assert isinstance(answers, list)
                return echoed, answers

        echoed, answers = await asyncio.to_thread(act)
    assert echoed == {}
    assert [each["PatientName"] for each in answers] == [*names]  # type: ignore[index]  # JSON as Orthanc writes it
    assert [each["StudyInstanceUID"] for each in answers] == ["1.2.1", "1.2.2"]  # type: ignore[index]  # as above


# --- DCMTK ---


@pytest.mark.parametrize("proposing", ["-xe", "-xb", "-xd", "-xi"])
async def test_findscu_finds_in_every_transfer_syntax(proposing: str) -> None:
    async with opened(shelf(), Doorkeeper(PACS)) as house:
        done = await dcmtk.run("findscu", house.port, "-S", proposing, *KEYS, calling=THEIRS, called=OURS)
    assert done.status == 0 and studies_in(done.printed) == ["1.2.1", "1.2.2"]


@pytest.mark.parametrize(
    "options", [("--repeat", "5"), ("-to", "5", "-ta", "5", "-td", "5"), ("-pdu", "4096"), ("-pdu", "131072")]
)
async def test_findscu_finds_with_every_habit(options: tuple[str, ...]) -> None:
    async with opened(shelf(), Doorkeeper(PACS)) as house:
        done = await dcmtk.run("findscu", house.port, "-S", *options, *KEYS, calling=THEIRS, called=OURS)
        count = 5 if "--repeat" in options else 1
        assert house.figures.answered == [("C_FIND_RQ", 0x0000)] * count
    assert done.status == 0 and studies_in(done.printed) == ["1.2.1", "1.2.2"] * count


async def test_findscu_that_aborts_is_forgotten() -> None:
    async with opened(shelf(), Doorkeeper(PACS)) as house:
        await dcmtk.run("findscu", house.port, "-S", "--abort", *KEYS, calling=THEIRS, called=OURS)
        done = await dcmtk.run("echoscu", house.port, "--repeat", "3", calling=THEIRS, called=OURS)
        assert done.status == 0
        assert house.figures.open == 0


async def test_echoscu_proposes_as_much_as_it_can() -> None:
    options = ("--propose-ts", "38", "--propose-pc", "128")
    async with opened(shelf(), Doorkeeper(PACS)) as house:
        done = await dcmtk.run("echoscu", house.port, *options, calling=THEIRS, called=OURS)
    assert done.status == 0, done.printed


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CT_small.dcm", ()),
        ("CT_small.dcm", ("-pdu", "4096")),
        ("CT_small.dcm", ("--max-send-pdu", "4096")),
        ("CT_small.dcm", ("-xi",)),
        ("MR_small_bigendian.dcm", ("-xb",)),
        ("MR_small_RLE.dcm", ("-xr",)),
        ("MR_small_jp2klossless.dcm", ("-xv",)),
    ],
)
async def test_storescu_sends_images_of_every_kind(name: str, options: tuple[str, ...]) -> None:
    image = Path(str(get_testdata_file(name)))
    storing = Storing(*TRANSFER_SYNTAXES)
    async with opened(shelf(), Doorkeeper(PACS), services={CT: storing, MR: storing}) as house:
        done = await dcmtk.run("storescu", house.port, *options, calling=THEIRS, called=OURS, files=(image,) * 3)
    assert done.status == 0, done.printed
    assert len(storing.sizes) == 3 and len(set(storing.sizes)) == 1


# --- TLS ---


@dataclass(frozen=True)
class Keys:
    """Certificates of every kind, and the context of the door."""

    authority: Authority
    theirs: Files
    context: ssl.SSLContext
    bad: Mapping[str, Files | None]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("certificates")
    authority, other = Authority(folder), Authority(folder / "other", "other")
    ours, theirs, revoked = authority.issue("gateway", "127.0.0.1"), authority.issue("rz1"), authority.issue("revoked")
    day = timedelta(days=1)
    bad = {
        "none": None,
        "of another authority": other.issue("rz1"),
        "expired": authority.issue("expired", "rz1", not_before=NOW - 2 * day, not_after=NOW - day),
        "not yet valid": authority.issue("early", "rz1", not_before=NOW + day, not_after=NOW + 2 * day),
        "revoked": revoked,
    }
    files = tls.ServerFiles(ours.certificate, ours.private_key, authority.certificate, authority.revoke(revoked))
    return Keys(authority, theirs, tls.server_context(files), bad)


async def reach(port: int, request: AssociateRequest, context: ssl.SSLContext | None) -> Association:
    """An association with the acceptor there."""
    return await associate("127.0.0.1", port, request, AssociationLimits(), tls=context, connect_timeout_s=HANG_S)


BOUND = CallerBinding("rz1-pacs", TrustId("RZ1"), certificate_name="rz1", ae_titles=(THEIRS,))
KINDS = ["none", "of another authority", "expired", "not yet valid", "revoked"]


@pytest.mark.parametrize("kind", KINDS)
async def test_dcmtk_with_a_bad_certificate_gets_no_answer(keys: Keys, kind: str) -> None:
    async with opened(shelf(), Doorkeeper(BOUND), secure=keys.context) as house:
        for shown, is_answered in ((keys.bad[kind], False), (keys.theirs, True)):
            options = dcmtk.with_tls(keys.authority.certificate, shown)
            done = await dcmtk.run("echoscu", house.port, *options, calling=THEIRS, called=OURS)
            assert (done.status == 0) is is_answered
        assert house.figures.answered == [("C_ECHO_RQ", 0x0000)] and not house.figures.refused


@pytest.mark.parametrize("kind", KINDS)
async def test_dcmjs_with_a_bad_certificate_gets_no_answer(keys: Keys, kind: str) -> None:
    async with opened(shelf(), Doorkeeper(BOUND), secure=keys.context) as house:
        for shown, is_answered in ((keys.bad[kind], False), (keys.theirs, True)):
            tls_files = {"authority": str(keys.authority.certificate)}
            if shown is not None:
                tls_files |= {"certificate": str(shown.certificate), "key": str(shown.private_key)}
            said = await dcmjs.converse(house.port, dcmjs.ECHO, calling=THEIRS, called=OURS, tls=tls_files)
            assert said.answers[0].statuses == ([0x0000] if is_answered else [])
        assert house.figures.answered == [("C_ECHO_RQ", 0x0000)] and not house.figures.refused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_older_than_1_2_is_not_spoken(keys: Keys, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(keys.authority.certificate))
    context.load_cert_chain(keys.theirs.certificate, keys.theirs.private_key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version

    request = propose(THEIRS, OURS, [(VERIFICATION, ("1.2.840.10008.1.2",))], pdu_bytes_max=16_384)
    async with opened(shelf(), Doorkeeper(BOUND), secure=keys.context) as house:
        if version is ssl.TLSVersion.TLSv1_2:
            await (await reach(house.port, request, context)).release()
        else:
            with pytest.raises(NotConnected):
                await reach(house.port, request, context)


async def test_plain_dicom_at_the_tls_door_gets_no_answer(keys: Keys) -> None:
    async with opened(shelf(), Doorkeeper(BOUND), secure=keys.context) as house:
        done = await dcmtk.run("echoscu", house.port, calling=THEIRS, called=OURS)
        assert done.status != 0 and not house.figures.answered


async def test_images_come_and_questions_are_answered_over_tls(keys: Keys) -> None:
    storing = Storing(*TRANSFER_SYNTAXES)
    options = dcmtk.with_tls(keys.authority.certificate, keys.theirs)
    image = Path(str(get_testdata_file("CT_small.dcm")))
    async with opened(shelf(), Doorkeeper(BOUND), secure=keys.context, services={CT: storing}) as house:
        sent = await dcmtk.run("storescu", house.port, *options, calling=THEIRS, called=OURS, files=(image,) * 5)
        found = await dcmtk.run("findscu", house.port, *options, "-S", *KEYS, calling=THEIRS, called=OURS)
        await dcmtk.run("termscu", house.port, *options, calling=THEIRS, called=OURS)
        assert house.figures.answered == [*[("C_STORE_RQ", 0x0000)] * 5, ("C_FIND_RQ", 0x0000)]
    assert sent.status == 0 and found.status == 0 and studies_in(found.printed) == ["1.2.1", "1.2.2"]


# --- our requestor at DCMTK's acceptor ---


def client_context(keys: Keys, shown: Files | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(keys.authority.certificate))
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.private_key)
    return context


@pytest.mark.parametrize("is_secure", [False, True])
async def test_storescp_takes_our_images(keys: Keys, tmp_path: Path, is_secure: bool) -> None:
    image = dcmread(str(get_testdata_file("CT_small.dcm")))
    syntax = str(image.file_meta.TransferSyntaxUID)
    data = encode(image, image.file_meta.TransferSyntaxUID.is_implicit_VR, True)
    assert data is not None
    server = keys.authority.issue("storescp", "127.0.0.1")
    options = dcmtk.with_tls(keys.authority.certificate, server) if is_secure else ()
    request = propose(OURS, "STORESCP", [(CT, (syntax,)), (VERIFICATION, (syntax,))], pdu_bytes_max=16_384)
    async with dcmtk.storescp(tmp_path, *options) as port:
        context = client_context(keys, keys.theirs) if is_secure else None
        association = await reach(port, request, context)
        for number in range(1, 4):
            command = Command(
                CommandField.C_STORE_RQ,
                number,
                sop_class_uid=CT,
                sop_instance_uid=f"{image.SOPInstanceUID}",
                has_data=True,
                priority=0,
            )
            await association.send(1, command, data)
            assert (await association.receive()).command.status == 0x0000
        await association.release()
    [filed] = os.listdir(tmp_path)
    assert dcmread(tmp_path / filed).PixelData == image.PixelData


async def test_an_acceptor_that_wants_a_certificate_is_not_reached_without_one(keys: Keys, tmp_path: Path) -> None:
    server = keys.authority.issue("storescp", "127.0.0.1")
    request = propose(OURS, "STORESCP", [(VERIFICATION, ("1.2.840.10008.1.2",))], pdu_bytes_max=16_384)
    async with dcmtk.storescp(tmp_path, *dcmtk.with_tls(keys.authority.certificate, server)) as port:
        with pytest.raises(AssociationFailure):
            await associate(
                "127.0.0.1",
                port,
                request,
                AssociationLimits(),
                tls=client_context(keys, None),
                connect_timeout_s=HANG_S,
            )


async def test_an_acceptor_of_another_authority_is_not_believed(keys: Keys, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "other")
    server = other.issue("storescp", "127.0.0.1")
    request = propose(OURS, "STORESCP", [(VERIFICATION, ("1.2.840.10008.1.2",))], pdu_bytes_max=16_384)
    async with dcmtk.storescp(tmp_path, *dcmtk.with_tls(other.certificate, server)) as port:
        with pytest.raises(NotConnected, match="no TLS connection"):
            await associate(
                "127.0.0.1",
                port,
                request,
                AssociationLimits(),
                tls=client_context(keys, keys.theirs),
                connect_timeout_s=HANG_S,
            )
