"""A workstation's C-GET and C-MOVE (PS3.4 C.4.2, C.4.3), and what takes the images that a C-MOVE sends, by pynetdicom.

Takes every SOP class and transfer syntax of the demo region's images and reports, each syntax in a context of its own,
so that what an archive keeps can come as it is kept. Runs in threads; `workstation` awaits them.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # pynetdicom makes these names at run time
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)
from pynetdicom.transport import ThreadedAssociationServer

from gateway.demo.callers.answer import Outcome
from gateway.demo.callers.received import Image, image_of

CLASSES: Final = (
    CTImageStorage,
    ComputedRadiographyImageStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
)
SYNTAXES: Final = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEG2000Lossless,
    JPEG2000,
    RLELossless,
)
GET: Final = StudyRootQueryRetrieveInformationModelGet
MOVE: Final = StudyRootQueryRetrieveInformationModelMove

_SUCCESS, _PENDING, _SOME_FAILED = 0x0000, 0xFF00, 0xB000
_OUTCOMES: Final = {
    _SUCCESS: Outcome.ANSWERED,
    _SOME_FAILED: Outcome.ANSWERED,
    0xFE00: Outcome.ANSWERED,
    0x0124: Outcome.DENIED,
    0xA702: Outcome.FAULT,
    0xA801: Outcome.INVALID,
    0xA900: Outcome.INVALID,
    0xC000: Outcome.UNREACHED,
}


class NoAnswer(ConnectionError):
    """The association ended before the final response."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Numbers of sub-operations, as one response gives them; None: not given."""

    remaining: int | None
    completed: int | None
    failed: int | None
    warning: int | None


@dataclass(frozen=True, slots=True)
class Retrieved:
    """How a C-GET or C-MOVE ended, and what arrived."""

    status: int
    comment: str
    counters: Counters
    """Of the final response."""
    pending: tuple[Counters, ...]
    """Of the responses before it."""
    failed_uids: tuple[str, ...]
    images: Mapping[str, Image]

    @property
    def outcome(self) -> Outcome:
        """See `Received.outcome`."""
        return _OUTCOMES.get(self.status, Outcome.OTHER)

    @property
    def is_whole(self) -> bool:
        """See `Received.is_whole`."""
        return self.status == _SUCCESS

    @property
    def told(self) -> str:
        """See `Received.told`."""
        return self.comment

    @property
    def comparable(self) -> object:
        """See `Received.comparable`."""
        images = {uid: image.encoded for uid, image in self.images.items()}
        return self.status, self.comment, self.counters, self.pending, self.failed_uids, images


@dataclass(slots=True)
class Shelf:
    """Images that were sent to an application entity, from whatever association."""

    images: dict[str, Image] = field(default_factory=dict)
    originators: set[str] = field(default_factory=set)
    """Who asked for them to be sent, as each C-STORE says."""
    refuses: Callable[[str], int] = field(default=lambda _: _SUCCESS)
    """The status for an instance, before it is kept."""

    def take(self, event: evt.Event) -> int:
        """Answer one C-STORE."""
        uid, image = image_of(event.encoded_dataset())
        status = self.refuses(uid)
        if status == _SUCCESS:
            self.images[uid] = image
            self.originators.add(str(getattr(event.request, "MoveOriginatorApplicationEntityTitle", "") or ""))
        return status


@contextmanager
def receiving(ae_title: str, port: int, context: ssl.SSLContext, shelf: Shelf) -> Iterator[int]:
    """Take images at this port, 0 for any, over TLS, as long as the block lasts; the port."""
    ae = AE(ae_title)
    for sop_class in CLASSES:
        ae.add_supported_context(sop_class, list(SYNTAXES))
    handlers: list[evt.EventHandlerType] = [(evt.EVT_C_STORE, shelf.take)]
    server = ae.start_server(("127.0.0.1", port), block=False, ssl_context=context, evt_handlers=handlers)
    assert isinstance(server, ThreadedAssociationServer) and server.socket is not None
    try:
        yield int(server.socket.getsockname()[1])
    finally:
        server.shutdown()


def roles_for_get(ae: AE) -> list[SCP_SCU_RoleSelectionNegotiation]:
    """Let `ae` propose C-GET and contexts for what it brings; the roles to be negotiated with them."""
    ae.add_requested_context(GET)
    for sop_class in CLASSES:
        for syntax in SYNTAXES:
            ae.add_requested_context(sop_class, syntax)
    return [build_role(sop_class, scp_role=True) for sop_class in CLASSES]


def get(association: Association, identifier: Dataset, shelf: Shelf) -> Retrieved:
    """Ask for images on this association, into a shelf that it was opened with."""
    return _told(association.send_c_get(identifier, GET), shelf)


def move(association: Association, identifier: Dataset, destination: str, shelf: Shelf) -> Retrieved:
    """Have images sent to a destination, where they end on `shelf` if it is ours."""
    return _told(association.send_c_move(identifier, destination, MOVE), shelf)


def _told(responses: Iterable[tuple[Dataset, Dataset | None]], shelf: Shelf) -> Retrieved:
    pending: list[Counters] = []
    final, identifier = Dataset(), None
    for response, rest in responses:
        if "Status" in response and response.Status == _PENDING:
            pending.append(_counters(response))
        final, identifier = response, rest
    if "Status" not in final:
        raise NoAnswer("the association ended before the answer")
    failed = identifier.get("FailedSOPInstanceUIDList") if identifier is not None else None
    uids = () if not failed else (failed,) if isinstance(failed, str) else tuple(failed)
    return Retrieved(
        int(final.Status),
        str(final.get("ErrorComment", "")),
        _counters(final),
        tuple(pending),
        tuple(map(str, uids)),
        dict(shelf.images),
    )


def _counters(response: Dataset) -> Counters:
    named = (f"NumberOf{what}Suboperations" for what in ("Remaining", "Completed", "Failed", "Warning"))
    return Counters(*(None if response.get(name) is None else int(response[name].value) for name in named))
