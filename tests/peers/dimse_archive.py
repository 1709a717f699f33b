"""A C-FIND archive on a socket of loopback that does what a test tells it, bytes and all; honest until told otherwise.

Strict like the strictest: below STUDY it answers only under the unique keys above, and refuses attributes of another
level, unless it negotiated relational queries (PS3.4 C.4.1.2).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from dimse.elements import Reading, decode_dataset, encode_dataset
from dimse.sop_classes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PATIENT_ROOT_FIND,
    STUDY_ROOT_FIND,
    VERIFICATION,
)
from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association, AssociationLimits, accepting
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import Message
from dimse.upper_layer.negotiation import Offer, negotiate
from gateway.model.imaging import PATIENT_ID, SERIES_UID, SOP_UID, STUDY_UID, Attributes, Element

LEVEL = "00080052"
AE_TITLE = "ARCHIVE"
_BOTH = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
_UNIQUE = {"STUDY": STUDY_UID, "SERIES": SERIES_UID, "IMAGE": SOP_UID}
_PENDING, _SUCCESS, _CANCELLED, _DOES_NOT_MATCH = 0xFF00, 0x0000, 0xFE00, 0xA900


def element(vr: str, *values: str | int) -> Element:
    """One attribute; without values, an empty one."""
    return {"vr": vr, "Value": [*values]} if values else {"vr": vr}


def study(number: int, patient: str = "9990000018", **more: Element) -> dict[str, Element]:
    """A study. Keywords `t00081030=element(...)` add attributes."""
    row: dict[str, Element] = {
        PATIENT_ID: element("LO", patient),
        "00100021": element("LO", "NHS"),
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "ONE^ANNE"}]},
        "00100030": element("DA", "19700101"),
        "00080020": element("DA", f"202501{number % 28 + 1:02}"),
        "00080050": element("SH", f"ACC{number:05}"),
        "00080061": element("CS", "CT"),
        STUDY_UID: element("UI", f"1.2.{number}"),
    }
    return row | {name[1:].upper(): value for name, value in more.items()}


def series(of: int, number: int, modality: str = "CT") -> dict[str, Element]:
    """A series of study `of`."""
    return {
        STUDY_UID: element("UI", f"1.2.{of}"),
        SERIES_UID: element("UI", f"1.2.{of}.{number}"),
        "00080060": element("CS", modality),
    }


def image(of: int, of_series: int, number: int) -> dict[str, Element]:
    """An instance of series `of_series` of study `of`."""
    return {
        STUDY_UID: element("UI", f"1.2.{of}"),
        SERIES_UID: element("UI", f"1.2.{of}.{of_series}"),
        SOP_UID: element("UI", f"1.2.{of}.{of_series}.{number}"),
    }


Script = Callable[["Archive", Association, Message], Awaitable[None]]


@dataclass
class Archive:
    """What it holds, how it behaves, and what it heard."""

    rows: Sequence[Attributes] = ()
    """Of all levels; the deepest unique key says which."""
    script: Script | None = None
    """Answers a request in place of honesty."""
    models: Sequence[str] = (STUDY_ROOT_FIND, PATIENT_ROOT_FIND)
    transfer_syntaxes: tuple[str, ...] = _BOTH
    is_relational: bool = False
    charset: tuple[str, ...] = ()
    """Written as Specific Character Set and used for text; empty: none is declared."""
    reject: pdu.AssociateReject | None = None
    """What it says to associations, or to those beyond `associations_max`."""
    associations_max: int = 0
    """How many it takes before it rejects: none."""
    pdu_bytes_max: int = 131_072
    port: int = 0
    asked: list[Attributes] = field(default_factory=list)
    """Identifiers, oldest first."""
    asked_in: list[str] = field(default_factory=list)
    """The SOP class of each."""
    under_way: dict[Association, Attributes] = field(default_factory=dict)
    """The latest identifier of each association."""
    requests: list[pdu.AssociateRequest] = field(default_factory=list)
    associations: list[Association] = field(default_factory=list)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    was_cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def levels(self) -> list[str]:
        """The levels that were asked, oldest first."""
        return [text(asked, LEVEL) for asked in self.asked]

    async def admit(
        self, association: Association, request: pdu.AssociateRequest
    ) -> pdu.AssociateAccept | pdu.AssociateReject:
        """See `Acceptor`."""
        self.requests.append(request)
        if self.reject is not None and len(self.associations) >= self.associations_max:
            return self.reject
        self.associations.append(association)
        syntaxes = dict.fromkeys(self.models, self.transfer_syntaxes) | {VERIFICATION: _BOTH}
        extended = dict.fromkeys(self.models, b"\x01" if self.is_relational else b"\x00")
        return negotiate(
            request, Offer(frozenset({AE_TITLE}), syntaxes, extended=extended, pdu_bytes_max=self.pdu_bytes_max)
        )

    async def serve(self, association: Association) -> None:
        """See `Acceptor`."""
        while True:
            message = await association.receive()
            if message.command.field is CommandField.C_FIND_RQ:
                reading = Reading(fallback_charset="ISO_IR 100")
                self.asked.append(decode_dataset(message.data_set, message.context.transfer_syntax, reading))
                self.under_way[association] = self.asked[-1]
                self.asked_in.append(message.command.sop_class_uid)
                self.was_asked.set()
            try:
                await (self.script or Archive.be_honest)(self, association, message)
            finally:
                association.answered(message.command.message_id)

    async def be_honest(self, association: Association, message: Message) -> None:
        """Answer as the standard says."""
        if message.command.field is CommandField.C_ECHO_RQ:
            await self.end(association, message)
            return
        asked = self.under_way[association]
        level = text(asked, LEVEL)
        if not self.is_relational and not _is_hierarchical(asked, level, message.command.sop_class_uid):
            await self.end(association, message, _DOES_NOT_MATCH)
            return
        for row in self.matching(asked, level):
            if association.cancelled(message.command.message_id).is_set():
                self.was_cancelled.set()
                await self.end(association, message, _CANCELLED)
                return
            await self.give(association, message, row)
            await asyncio.sleep(0)
        await self.end(association, message)

    def matching(self, asked: Attributes, level: str) -> list[Attributes]:
        """The rows of a level that have the identifiers asked for, with the attributes asked for and no others."""
        return [
            {tag: row.get(tag, {"vr": asked[tag]["vr"]}) for tag in asked}
            for row in self.rows
            if _level(row) == level and all(_has(row, asked, tag) for tag in (PATIENT_ID, *_UNIQUE.values()))
        ]

    async def give(
        self, association: Association, message: Message, row: Attributes | bytes, status: int = _PENDING
    ) -> None:
        """Send one pending response, of a row or of bytes as they are."""
        if not isinstance(row, bytes):
            declared: Attributes = {"00080005": element("CS", *self.charset)} if self.charset else {}
            charset = self.charset or ("ISO_IR 100",)
            levelled = {LEVEL: element("CS", text(self.under_way[association], LEVEL)), **row, **declared}
            row = encode_dataset(levelled, message.context.transfer_syntax, charset)
        command = response(message.command, status, has_data=True)
        await association.send(message.context.context_id, command, row)

    @staticmethod
    async def end(association: Association, message: Message, status: int = _SUCCESS) -> None:
        """Send the final response."""
        await association.send(message.context.context_id, response(message.command, status))

    @staticmethod
    async def say(association: Association, message: Message, command: Command, data: bytes | None = None) -> None:
        """Send any other message in the same context."""
        await association.send(message.context.context_id, command, data)


def text(row: Attributes, tag: str) -> str:
    """The first value of an attribute as text; empty if there is none."""
    values = row.get(tag, {}).get("Value")
    return str(values[0]) if isinstance(values, list) and values else ""


def _level(row: Attributes) -> str:
    return "IMAGE" if SOP_UID in row else "SERIES" if SERIES_UID in row else "STUDY"


def _has(row: Attributes, asked: Attributes, tag: str) -> bool:
    wanted = asked.get(tag, {}).get("Value")
    return not wanted or tag not in row or text(row, tag) in wanted  # type: ignore[operator]  # a list by the reader's contract


def _is_hierarchical(asked: Attributes, level: str, sop_class: str) -> bool:
    """Whether an identifier names all above its level by one value, and nothing else of other levels."""
    levels = list(_UNIQUE)
    above = levels[: levels.index(level)]
    pins = [_UNIQUE[each] for each in above] + [PATIENT_ID] * (sop_class == PATIENT_ROOT_FIND)
    if any(len(asked.get(tag, {}).get("Value") or ()) != 1 for tag in pins):  # type: ignore[arg-type]  # as above
        return False
    of_study = {tag for tag in asked if tag[:4] == "0010"} | (asked.keys() & {"00080020", "00080050", "00080061"})
    is_stray = bool(above) and bool(of_study - set(pins))
    return not is_stray and not any(_UNIQUE[each] in asked for each in levels[levels.index(level) + 1 :])


@asynccontextmanager
async def listening(archive: Archive, tls: ssl.SSLContext | None = None) -> AsyncIterator[Archive]:
    """The archive while the context is open."""
    new_protocol = accepting(archive, AssociationLimits())
    server = await asyncio.get_running_loop().create_server(new_protocol, "127.0.0.1", 0, ssl=tls)
    archive.port = int(server.sockets[0].getsockname()[1])
    try:
        yield archive
    finally:
        server.close()
        for association in archive.associations:
            association.abort("the test is over")


async def ended(associations: Sequence[Association]) -> None:
    """Wait until all of them are over, however."""
    for association in associations:
        await association.over()
