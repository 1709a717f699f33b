"""A PACS workstation at a trust, as the region's gateway sees it, over mutual TLS, by pynetdicom: it asks by C-FIND,
fetches by C-GET, has images sent by C-MOVE, and tells of studies that arrived by Instance Availability Notification.

Shares no protocol code with the gateway. The demonstration's check and the story tests act through it as through
`viewer`. Associations are kept for the next question, and each question at the same time has one of its own.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # pynetdicom makes these names at run time
    InstanceAvailabilityNotification,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from gateway.demo.callers import retriever
from gateway.demo.callers.answer import Outcome, Row, studies_in, text_of
from gateway.demo.callers.retriever import Retrieved, Shelf
from gateway.demo.certificates import KeyPair
from gateway.demo.pausing import pause_soundly

ANSWER_TIMEOUT_S: Final = 30.0

_SUCCESS: Final = 0x0000
_PENDING: Final = (0xFF00, 0xFF01)
_UNABLE_TO_PROCESS: Final = 0xC000
_OUTCOMES: Final = {
    _SUCCESS: Outcome.ANSWERED,
    0x0124: Outcome.DENIED,
    0xA700: Outcome.FAULT,
    0xA900: Outcome.INVALID,
    _UNABLE_TO_PROCESS: Outcome.ANSWERED,
}
_NOBODY: Final = "no answer"
"""How the comment begins when no trust could be asked; with any other, C000 follows rows that are not all."""

_AVAILABILITY, _STUDY_TEXT, _SERIES_TEXT, _NAME = "00080056", "00081030", "0008103E", "00100010"
_UNAVAILABLE: Final = "SOURCE UNAVAILABLE"
_ODS_CODE: Final = re.compile(r"\bR[A-Z0-9]{2}\b")
_WANTED: Final = {
    "STUDY": (
        *("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyDescription", "ModalitiesInStudy"),
        *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"),
        *("ReferringPhysicianName", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
        "InstanceAvailability",
    ),
    "SERIES": ("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "InstanceAvailability"),
    "IMAGE": ("SOPInstanceUID", "SOPClassUID", "InstanceNumber", "InstanceAvailability"),
}
"""What a workstation's list shows, and so asks for, at each level."""


class NoAssociation(ConnectionError):
    """The gateway took no association, or ended it before it had answered."""


@dataclass(frozen=True, slots=True)
class FindAnswer:
    """One answer: the final status with its comment, and what came before it."""

    status: int
    comment: str
    rows: tuple[Row, ...]
    marks: tuple[Row, ...]
    """Rows that stand for something missing (SAF-04)."""
    asked: frozenset[str]
    """The values that were asked for: a mark stands under them, and so says nothing by them."""

    @property
    def outcome(self) -> Outcome:
        """How the question ended."""
        if self.status == _UNABLE_TO_PROCESS and self.comment.startswith(_NOBODY):
            return Outcome.UNREACHED
        return _OUTCOMES.get(self.status, Outcome.OTHER)

    @property
    def studies(self) -> frozenset[str]:
        """The Study Instance UIDs answered."""
        return studies_in(self.rows)

    @property
    def told(self) -> str:
        """The error comment of what is no answer."""
        return "" if self.outcome is Outcome.ANSWERED else self.comment

    @property
    def notices(self) -> tuple[str, ...]:
        """The texts of the marks, and the error comment of an answer."""
        texts = tuple(f"{text_of(row, _NAME)}: {_text(row)}" for row in self.marks)
        is_noted = self.comment and self.outcome is Outcome.ANSWERED
        return (*texts, self.comment) if is_noted else texts

    @property
    def missing(self) -> frozenset[str]:
        """The trusts that the marks or the comment name as unavailable."""
        marks = " ".join(_text(row) for row in self.marks if text_of(row, _NAME).startswith(_UNAVAILABLE))
        listed = self.comment.partition("missing: ")[2].partition(";")[0]
        return frozenset(_ODS_CODE.findall(f"{marks} {listed}"))

    @property
    def comparable(self) -> object:
        """Everything but what was asked itself: a C-FIND response has neither time nor request id."""
        marks = [{tag: row[tag] for tag in row if text_of(row, tag) not in self.asked} for row in self.marks]
        return self.status, self.comment, self.rows, marks


class Workstation:
    """Asks one gateway under one AE title and client certificate. Use `async with`."""

    def __init__(self, port: int, called_ae_title: str, ae_title: str, authority: Path, pair: KeyPair | None) -> None:
        context = ssl.create_default_context(cafile=str(authority))
        self._receiving_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._receiving_context.verify_mode = ssl.CERT_REQUIRED
        self._receiving_context.load_verify_locations(authority)
        if pair is not None:
            for each in (context, self._receiving_context):
                each.load_cert_chain(pair.certificate, pair.private_key)
        self._port = port
        self._called_ae_title = called_ae_title
        self._context = context
        self._ae = AE(ae_title)
        self._ae.requested_contexts = []
        for sop_class in (
            Verification,
            StudyRootQueryRetrieveInformationModelFind,
            retriever.MOVE,
            InstanceAvailabilityNotification,
        ):
            self._ae.add_requested_context(sop_class)
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.connection_timeout = ANSWER_TIMEOUT_S
        self._idle: list[Association] = []
        self._sockets: list[socket.socket] = []

    async def __aenter__(self) -> Workstation:
        return self

    async def __aexit__(self, *_: object) -> None:
        idle, self._idle = self._idle, []
        for association in idle:
            await asyncio.to_thread(association.release)
        # pynetdicom leaves one open that the other end has reset.
        for opened in self._sockets:
            opened.close()

    async def echo(self) -> int:
        """The status of a C-ECHO; raises `NoAssociation`."""
        return await asyncio.to_thread(self._echo)

    async def tell_of(self, study_uid: str, sop_class_uid: str) -> int:
        """Tell the gateway of a study that arrived (PS3.4 R): the status of the N-CREATE; raises `NoAssociation`."""
        return await asyncio.to_thread(self._tell_of, study_uid, sop_class_uid)

    async def studies(self, **keys: str) -> FindAnswer:
        """Search studies with these keys, by keyword; raises `NoAssociation`."""
        return await self.find("STUDY", **keys)

    async def find(self, level: str, **keys: str) -> FindAnswer:
        """Search at a level with these keys, by keyword; raises `NoAssociation`."""
        identifier = Dataset()
        identifier.SpecificCharacterSet = "ISO_IR 192"
        identifier.QueryRetrieveLevel = level
        for keyword, value in {**dict.fromkeys(_WANTED[level], ""), **keys}.items():
            setattr(identifier, keyword, value)
        return await asyncio.to_thread(self._find, identifier, frozenset(keys.values()))

    async def get(self, level: str = "STUDY", **keys: str | list[str]) -> Retrieved:
        """Fetch what these unique keys name; raises `NoAssociation`."""
        return await asyncio.to_thread(self._get, _naming(level, keys))

    async def move(self, destination: str, shelf: Shelf, level: str = "STUDY", **keys: str | list[str]) -> Retrieved:
        """Have what these unique keys name sent to an AE title; raises `NoAssociation`."""
        return await asyncio.to_thread(self._move, _naming(level, keys), destination, shelf)

    @contextmanager
    def receiving(self, port: int) -> Iterator[Shelf]:
        """Take what is sent to this workstation at this port, as long as the block lasts."""
        shelf = Shelf()
        with retriever.receiving(self._ae.ae_title, port, self._receiving_context, shelf):
            yield shelf

    def _echo(self) -> int:
        association = self._associated()
        with _told_apart():
            status = _status_of(association.send_c_echo())
        self._idle.append(association)
        return status

    def _tell_of(self, study_uid: str, sop_class_uid: str) -> int:
        notice, series, instance = Dataset(), Dataset(), Dataset()
        instance.ReferencedSOPClassUID = sop_class_uid
        instance.ReferencedSOPInstanceUID = f"{study_uid}.1"
        instance.InstanceAvailability, instance.RetrieveAETitle = "ONLINE", self._ae.ae_title
        series.SeriesInstanceUID, series.ReferencedSOPSequence = f"{study_uid}.2", [instance]
        notice.ReferencedPerformedProcedureStepSequence = []
        notice.StudyInstanceUID, notice.ReferencedSeriesSequence = study_uid, [series]
        association = self._associated()
        with _told_apart():
            status, _ = association.send_n_create(notice, InstanceAvailabilityNotification)
        self._idle.append(association)
        return _status_of(status)

    def _find(self, identifier: Dataset, asked: frozenset[str]) -> FindAnswer:
        association = self._associated()
        with _told_apart():
            model = StudyRootQueryRetrieveInformationModelFind
            responses = [
                (_status_of(status), status, match) for status, match in association.send_c_find(identifier, model)
            ]
        self._idle.append(association)
        matches = [match.to_json_dict() for code, _, match in responses if code in _PENDING and match is not None]
        is_mark = [text_of(row, _AVAILABILITY) == "UNAVAILABLE" for row in matches]
        final, last, _ = responses[-1]
        return FindAnswer(
            final,
            str(last.get("ErrorComment", "")),
            tuple(row for row, marks in zip(matches, is_mark, strict=True) if not marks),
            tuple(row for row, marks in zip(matches, is_mark, strict=True) if marks),
            asked,
        )

    def _get(self, identifier: Dataset) -> Retrieved:
        # An association of its own: storage contexts with both roles stand in no other's way.
        ae, shelf = AE(self._ae.ae_title), Shelf()
        ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = ANSWER_TIMEOUT_S
        association = self._associate(ae, retriever.roles_for_get(ae), [(evt.EVT_C_STORE, shelf.take)])
        with _told_apart():
            retrieved = retriever.get(association, identifier, shelf)
        association.release()
        return retrieved

    def _move(self, identifier: Dataset, destination: str, shelf: Shelf) -> Retrieved:
        association = self._associated()
        with _told_apart():
            retrieved = retriever.move(association, identifier, destination, shelf)
        self._idle.append(association)
        return retrieved

    def _associated(self) -> Association:
        while self._idle:
            association = self._idle.pop()
            if association.is_established:
                return association
        return self._associate(self._ae, [], [])

    def _associate(
        self, ae: AE, roles: Sequence[SCP_SCU_RoleSelectionNegotiation], handlers: Sequence[evt.EventHandlerType]
    ) -> Association:
        association = ae.associate(
            "localhost",
            self._port,
            ae_title=self._called_ae_title,
            ext_neg=list(roles),
            tls_args=(self._context, "localhost"),
            evt_handlers=[(evt.EVT_CONN_OPEN, pause_soundly), (evt.EVT_CONN_OPEN, self._remember), *handlers],
        )
        if not association.is_established:
            raise NoAssociation("the gateway rejected the association" if association.is_rejected else "no connection")
        return association

    def _remember(self, event: evt.Event) -> None:
        transport = event.assoc.dul.socket
        if transport is not None and transport.socket is not None:
            self._sockets.append(transport.socket)


def _naming(level: str, keys: Mapping[str, str | list[str]]) -> Dataset:
    """An identifier of unique keys alone."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


@contextmanager
def _told_apart() -> Iterator[None]:
    """An association that ended while it lay idle is no mistake of the caller's, which pynetdicom takes it for."""
    try:
        yield
    except (RuntimeError, retriever.NoAnswer) as error:
        raise NoAssociation("the association had ended") from error


def _status_of(status: Dataset) -> int:
    """The status of a response; raises `NoAssociation` for the empty one that stands for none."""
    if "Status" not in status:
        raise NoAssociation("the association ended before the answer")
    return int(status.Status)


def _text(mark: Mapping[str, object]) -> str:
    return text_of(mark, _STUDY_TEXT) or text_of(mark, _SERIES_TEXT)
