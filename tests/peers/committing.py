"""A foreign archive of pynetdicom that stores and commits, as a test says, and a foreign sender that asks for it.

Shares no protocol code with us. An archive reports on the association it was asked by, or on one of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from queue import Queue

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.presentation import build_role
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance  # type: ignore[attr-defined]  # made at import

from gateway.demo.pausing import pause_soundly

HANG_S = 20.0
NO_ANSWER = -1
"""In place of a status, where the other end was gone."""


class Reports(Enum):
    """How an archive reports."""

    BY_OWN_ASSOCIATION = auto()
    ON_THE_SAME = auto()
    NEVER = auto()


@dataclass
class CommittingArchive:
    """What an archive does, and what it got."""

    reports: Reports = Reports.BY_OWN_ASSOCIATION
    answers_action: int = 0x0000
    stores: int = 0x0000
    does_not_commit: set[str] = field(default_factory=set)
    """SOP Instance UIDs that it fails, with 0110."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """The data sets by SOP Instance UID."""
    asked: Queue[Dataset] = field(default_factory=Queue)
    """Each request."""
    answered: Queue[int] = field(default_factory=Queue)
    """The status of the answer to each report."""
    port: int = 0
    gateway_port: int = 0
    ae_title: str = "RZ1_PACS"

    def report(self, request: Dataset) -> tuple[int, Dataset]:
        """What it reports to a request: event type and argument."""
        told = Dataset()
        told.TransactionUID = request.TransactionUID
        committed, failed = [], []
        for item in request.ReferencedSOPSequence:
            each = Dataset()
            each.ReferencedSOPClassUID = item.ReferencedSOPClassUID
            each.ReferencedSOPInstanceUID = item.ReferencedSOPInstanceUID
            if str(item.ReferencedSOPInstanceUID) in self.does_not_commit:
                each.FailureReason = 0x0110
                failed.append(each)
            else:
                committed.append(each)
        if committed:
            told.ReferencedSOPSequence = committed
        if failed:
            told.FailedSOPSequence = failed
        return (2 if failed else 1), told

    def tell(self, request: Dataset) -> int:
        """Report on an association of its own; the status of the answer."""
        ae = AE(self.ae_title)
        ae.add_requested_context(StorageCommitmentPushModel, ExplicitVRLittleEndian)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        handlers: list[evt.EventHandlerType] = [(evt.EVT_CONN_OPEN, pause_soundly)]
        association = ae.associate(
            "127.0.0.1", self.gateway_port, ext_neg=[role], ae_title="GATEWAY", evt_handlers=handlers
        )
        assert association.is_established
        event_type, told = self.report(request)
        answer, _ = association.send_n_event_report(
            told, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        association.release()
        status = int(answer.get("Status", NO_ANSWER))
        self.answered.put(status)
        return status


@contextmanager
def committing(archive: CommittingArchive) -> Iterator[CommittingArchive]:
    """The archive, listening."""
    ae = AE(archive.ae_title)
    ae.supported_contexts = StoragePresentationContexts
    ae.add_supported_context(StorageCommitmentPushModel, ExplicitVRLittleEndian)

    def on_store(event: Event) -> int:
        if archive.stores == 0:
            request = event.request
            assert isinstance(request, C_STORE) and request.DataSet is not None
            archive.stored[str(request.AffectedSOPInstanceUID)] = request.DataSet.getvalue()
        return archive.stores

    def on_action(event: Event) -> tuple[int, None]:
        request = event.action_information
        archive.asked.put(request)
        if archive.answers_action == 0:
            match archive.reports:
                case Reports.BY_OWN_ASSOCIATION:
                    threading.Thread(target=archive.tell, args=(request,), daemon=True).start()
                case Reports.ON_THE_SAME:
                    threading.Thread(target=same, args=(event.assoc, request), daemon=True).start()
                case Reports.NEVER:
                    pass
        return archive.answers_action, None

    def same(association: object, request: Dataset) -> None:
        event_type, told = archive.report(request)
        answer, _ = association.send_n_event_report(  # type: ignore[attr-defined]  # pynetdicom's own
            told, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        archive.answered.put(int(answer.get("Status", NO_ANSWER)))

    handlers: list[evt.EventHandlerType] = [(evt.EVT_C_STORE, on_store), (evt.EVT_N_ACTION, on_action)]
    server = ae.start_server(("127.0.0.1", archive.port), block=False, evt_handlers=handlers)
    assert server is not None
    archive.port = int(server.server_address[1])
    try:
        yield archive
    finally:
        ae.shutdown()


@dataclass
class Told:
    """What a sender was told."""

    event_type: int
    committed: list[str]
    failed: dict[str, int]
    transaction_uid: str
    is_same_association: bool


class Sender:
    """A foreign sender, that may listen for reports as well."""

    def __init__(self, gateway_port: int, ae_title: str = "RZ1_PACS") -> None:
        self.gateway_port = gateway_port
        self.told: Queue[Told] = Queue()
        self.answers = 0x0000
        """The status with which it answers reports."""
        self._answering: Queue[Told] = Queue()
        """Heard, and our answer to it not yet sent: whoever released now would have taken nothing."""
        self.port = 0
        self._ae = AE(ae_title)
        self._ae.add_requested_context(StorageCommitmentPushModel, ExplicitVRLittleEndian)
        self._ae.add_supported_context(
            StorageCommitmentPushModel, ExplicitVRLittleEndian, scu_role=False, scp_role=True
        )

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[Sender]:
        """Taking reports on associations of others."""
        handlers = self._handlers(is_same_association=False)
        server = self._ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        assert server is not None
        self.port = int(server.server_address[1])
        try:
            yield self
        finally:
            self._ae.shutdown()

    @contextmanager
    def asking(self, transaction_uid: str, *instances: tuple[str, str]) -> Iterator[int]:
        """Ask for commitment; the status that it was answered with, and the association open meanwhile."""
        handlers = [(evt.EVT_CONN_OPEN, pause_soundly), *self._handlers(is_same_association=True)]
        association = self._ae.associate("127.0.0.1", self.gateway_port, ae_title="GATEWAY", evt_handlers=handlers)
        assert association.is_established
        try:
            answer, _ = association.send_n_action(
                request_of(transaction_uid, *instances),
                1,
                StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            )
            yield int(answer.Status)
        finally:
            association.release()

    def _handlers(self, *, is_same_association: bool) -> list[evt.EventHandlerType]:
        on_report = self._on_report(is_same_association=is_same_association)
        return [(evt.EVT_N_EVENT_REPORT, on_report), (evt.EVT_PDU_SENT, self._on_sent)]

    def _on_sent(self, _event: Event) -> None:
        while not self._answering.empty():
            self.told.put(self._answering.get())

    def _on_report(self, *, is_same_association: bool):  # type: ignore[no-untyped-def]  # pynetdicom's handler
        def on_report(event: Event) -> tuple[int, None]:
            told = event.event_information
            committed = [str(each.ReferencedSOPInstanceUID) for each in told.get("ReferencedSOPSequence", [])]
            failed = {
                str(each.ReferencedSOPInstanceUID): int(each.FailureReason)
                for each in told.get("FailedSOPSequence", [])
            }
            uid = str(told.TransactionUID)
            if self.answers == 0:
                self._answering.put(Told(int(event.event_type or 0), committed, failed, uid, is_same_association))
            return self.answers, None

        return on_report


def request_of(transaction_uid: str, *instances: tuple[str, str]) -> Dataset:
    """A request, as pydicom writes it."""
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = []
    for sop_class_uid, sop_uid in instances:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class_uid
        item.ReferencedSOPInstanceUID = sop_uid
        request.ReferencedSOPSequence.append(item)
    return request
