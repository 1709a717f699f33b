"""How one caller's system is to be answered (`[[caller]]`), and where images may be sent for it (SAF-13).

Choices of on-boarding that each service reads its part of; nothing here decides who may see what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from dimse.status import MissingSources, Refusal
from gateway.model.work.retrievals import Destination

if TYPE_CHECKING:  # the configuration reads its choices here, and needs no sockets for that
    from dimse.scu.send import Receiver

_NOWHERE: Mapping[str, MoveDestination] = MappingProxyType({})


class OnDisconnect(StrEnum):
    """What becomes of a C-MOVE whose caller goes away (`on_disconnect`, product 3.2)."""

    STOP = "stop"
    """No further image is sent."""
    FINISH = "finish"
    """The destination gets the rest."""


@dataclass(frozen=True, slots=True)
class MoveDestination:
    """An application entity that takes images, whose it is, and how it is reached."""

    destination: Destination
    receiver: Receiver
    associations_max: int = 1
    """Some PACSs take one association from a sender, and no second."""


@dataclass(frozen=True, slots=True)
class CallerProfile:
    """How one caller's system is to be answered."""

    missing_sources: MissingSources
    refusal: Refusal = Refusal.STATUS
    is_lenient: bool = False
    """Takes the forgiving reading of what its system gets wrong: levels without their keys, Modality of a study."""
    character_set: str = "ISO_IR 100"
    """What its text means where it declares nothing."""
    destinations: Mapping[str, MoveDestination] = field(default_factory=lambda: _NOWHERE)
    """Where it may have images sent, by AE title."""
    on_disconnect: OnDisconnect = OnDisconnect.STOP
    may_be_urgent: bool = False
    """Whether its priority HIGH is believed."""
