"""One C-FIND asked of an archive to see how it takes it: what came back, not what it means.

Bounded in rows and time. The rows are read as a connector reads them, but nothing is refused: what cannot be read is
counted. Every number sent is one that cannot exist, save where the operator named a labelled test patient.
PS3.4 C.4.1, PS3.7 9.1.2.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dimse.elements import Reading, RowDecoder, encode_dataset
from dimse.upper_layer.association import Association, AssociationFailure
from dimse.upper_layer.commands import Command, CommandField
from dimse.upper_layer.negotiation import Context
from gateway.instances.encoding.structure import DatasetError
from gateway.model.attributes import vr_of
from gateway.model.imaging import OTHER_PATIENT_IDS, PATIENT_ID, Attributes, Element, Level

ROWS_MAX = 200
"""Rows after which a trial has seen enough."""
LEVEL_TAG = "00080052"
_MEDIUM = 0x0000
_CANCEL_WAIT_S = 2.0


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int | None = None
    """The final one; None: there was none."""
    comment: str = ""
    rows: list[Attributes] = field(default_factory=list)
    declared: set[bool] = field(default_factory=set)
    """Whether rows with text beyond ASCII declared a character set; empty: there was no such text."""
    unreadable: str = ""
    """Why a row could not be read."""
    is_cut: bool = False
    """More rows came than a trial takes."""
    ended: str = ""
    """Why the association ended; empty while it lives."""
    duration_s: float = 0.0

    @property
    def succeeded(self) -> bool:
        """Whether it was answered, with rows or without."""
        return self.status == 0 or self.is_cut

    @property
    def outcome(self) -> str:
        """How it ended, in words."""
        if self.ended:
            return self.ended
        if self.status is None:
            return "no final status in time"
        return f"status {self.status:04X}" + (f" ({self.comment})" if self.comment else "")


@dataclass(frozen=True, slots=True)
class Trial:
    """What is asked: keys by tag (several values are a UID list), and attributes to return."""

    level: Level
    keys: Mapping[str, Sequence[str]]
    wanted: frozenset[str] = frozenset()

    def encoded(self, transfer_syntax: str) -> bytes:
        """The identifier; all its values are ASCII."""
        elements: dict[str, Element] = {tag: {"vr": vr_of(tag)} for tag in self.wanted}
        elements |= {tag: {"vr": vr_of(tag), "Value": [*values]} for tag, values in self.keys.items()}
        elements[LEVEL_TAG] = {"vr": "CS", "Value": [self.level.value]}
        return encode_dataset(elements, transfer_syntax, ())


async def ask(association: Association, context: Context, trial: Trial, timeout_s: float) -> Answer:
    """Ask, and read what comes; raises nothing but cancellation."""
    answer, began = Answer(), time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            message_id = association.next_message_id()
            command = Command(
                CommandField.C_FIND_RQ,
                message_id,
                sop_class_uid=context.abstract_syntax,
                has_data=True,
                priority=_MEDIUM,
            )
            await association.send(context.context_id, command, trial.encoded(context.transfer_syntax))
            await _read(association, context, answer)
        if answer.is_cut:
            await _cancel(association, context, message_id)
    except TimeoutError:
        association.abort("no answer in time")
    except AssociationFailure as error:
        answer.ended = f"the association ended: {error}"
    answer.duration_s = time.monotonic() - began
    return answer


def bears(row: Attributes, number: str) -> bool:
    """Whether a row says that it is of the patient of this number: as Patient ID, or among the other numbers."""
    others = row.get(OTHER_PATIENT_IDS, {}).get("Value")
    items = others if isinstance(others, list) else []
    numbers = [item.get(PATIENT_ID, {}) for item in items if isinstance(item, dict)]
    return any(
        element.get("Value") == [number] for element in (row.get(PATIENT_ID, {}), *numbers) if isinstance(element, dict)
    )


async def _read(association: Association, context: Context, answer: Answer) -> None:
    # Latin-1 reads any bytes: what they mean is not judged here.
    decoder = RowDecoder(context.transfer_syntax, Reading(fallback_charset="ISO_IR 100"))
    while True:
        message = await association.receive()
        command = message.command
        if not command.is_pending:
            answer.status, answer.comment = command.status, command.error_comment
            return
        try:
            row = decoder.row(message.data_set)
        except DatasetError as error:
            answer.unreadable = str(error)
            continue
        answer.rows.append(row)
        data = bytes(message.data_set)
        if not data.isascii() and _has_text_beyond_ascii(row):
            answer.declared.add(_declares_character_set(data))
        if len(answer.rows) >= ROWS_MAX:
            answer.is_cut = True
            return


async def _cancel(association: Association, context: Context, message_id: int) -> None:
    try:
        async with asyncio.timeout(_CANCEL_WAIT_S):
            await association.send(context.context_id, Command(CommandField.C_CANCEL_RQ, message_id))
            while (await association.receive()).command.is_pending:
                pass
    except TimeoutError:
        association.abort("goes on after C-CANCEL")


def _has_text_beyond_ascii(row: Attributes) -> bool:
    return any(not repr(element.get("Value", "")).isascii() for element in row.values())


def _declares_character_set(data: bytes) -> bool:
    """Whether (0008,0005) stands in a little-endian data set with a value."""
    at = data.find(b"\x08\x00\x05\x00")
    return at >= 0 and b"ISO" in data[at : at + 40]
