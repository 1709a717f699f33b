"""What instances say of themselves, in the DICOM JSON model, remembered while their caller sits over the study.

A viewer asks for all attributes of a study, and for them again. Describing an instance is most of what that costs, and
instances of one study have most in common. Each description is bound to the bytes it was read from and to the identity
that this caller is shown. It is plain text, so all of them together have little room, and none outlives the sitting.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.instances.description import Describer
from gateway.model.imaging import Attributes

ROOM_BYTES = 64 * 1024 * 1024
"""Of all sittings together; what finds no room is described anew."""


@dataclass(slots=True)
class Room:
    """How much may still be remembered."""

    left_bytes: int = ROOM_BYTES


class Descriptions:
    """Those of one study for one caller. `forget` them in the end."""

    def __init__(self, room: Room | None = None) -> None:
        """Without room nothing is remembered but what the instances have in common."""
        self._room = room or Room(0)
        self._describers: dict[str, Describer] = {}
        self._by_object: dict[str, tuple[Attributes, bytes]] = {}

    def describer(self, transfer_syntax: str) -> Describer:
        """The one for this transfer syntax."""
        if transfer_syntax not in self._describers:
            self._describers[transfer_syntax] = Describer(transfer_syntax)
        return self._describers[transfer_syntax]

    def find(self, object_id: str, shown: Attributes) -> bytes:
        """What this object says where its patient is shown as `shown`; empty: it is not remembered."""
        known, json = self._by_object.get(object_id, (shown, b""))
        return json if known is shown or known == shown else b""

    def keep(self, object_id: str, shown: Attributes, json: bytes) -> None:
        """Remember it, if there is room."""
        self._drop(object_id)
        if len(json) <= self._room.left_bytes:
            self._room.left_bytes -= len(json)
            self._by_object[object_id] = (shown, json)

    def forget(self) -> None:
        """Remember nothing any more."""
        for object_id in list(self._by_object):
            self._drop(object_id)
        self._describers.clear()

    def _drop(self, object_id: str) -> None:
        _, json = self._by_object.pop(object_id, ({}, b""))
        self._room.left_bytes += len(json)
