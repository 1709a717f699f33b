"""The DIMSE door of the simulated PACS: C-ECHO, C-FIND, C-MOVE, C-GET and C-STORE on pynetdicom's own `AE`.

Strict about the hierarchy of unique keys (PS3.4 C.4.1.3.1) as most archives are. pynetdicom calls the handlers in
threads of its own, one association each; they share the index and the switches with the event loop.
"""

import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # pynetdicom makes these names at run time
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)
from pynetdicom.transport import ThreadedAssociationServer

from gateway.demo.pacs.behaviour import Charset, Lie, Switches
from gateway.demo.pacs.images.spoiling import chosen
from gateway.demo.pacs.images.sub_operations import contexts_of, name_originator, sub_operations
from gateway.demo.pacs.index import SUPPORTED, UNIQUE_KEYS, Index, Instance, Level, NotAnInstance, Row, read_instance
from gateway.demo.pacs.journal import Door, Journal
from gateway.demo.pacs.lies import HUGE_ROWS, falsify, many_rows
from gateway.demo.pacs.matching import keys_of, matches, texts
from gateway.demo.pausing import pause_soundly

_SUCCESS: Final = 0x0000
_PENDING: Final = 0xFF00
_PENDING_KEY_UNSUPPORTED: Final = 0xFF01
_CANCELLED: Final = 0xFE00
_IDENTIFIER_DOES_NOT_MATCH: Final = 0xA900
_UNABLE_TO_PROCESS: Final = 0xC001
_PATIENT_ROOT: Final = frozenset(
    (
        PatientRootQueryRetrieveInformationModelFind,
        PatientRootQueryRetrieveInformationModelMove,
        PatientRootQueryRetrieveInformationModelGet,
    )
)
_STUDY_ROOT: Final = frozenset(
    (
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelMove,
        StudyRootQueryRetrieveInformationModelGet,
    )
)
_NEVER_KEYS: Final = ("QueryRetrieveLevel", "SpecificCharacterSet", "RetrieveAETitle")

Destination = tuple[str, int]
Answer = tuple[int, Dataset | None]


class DimseDoor:
    """Listens, and can close and open again on the same port."""

    def __init__(
        self,
        ae_title: str,
        index: Index,
        switches: Switches,
        journal: Journal,
        host: str,
        tls: ssl.SSLContext | None,
        calling_tls: ssl.SSLContext | None,
    ) -> None:
        self._ae_title = ae_title
        self._index = index
        self._switches = switches
        self._journal = journal
        self._host = host
        self._tls = tls
        self._calling_tls = calling_tls
        self._destinations: Mapping[str, Destination] = {}
        self._ae: AE | None = None
        self.port = 0

    @property
    def destinations(self) -> Mapping[str, Destination]:
        """Where each AE title listens that C-MOVE may send to."""
        return self._destinations

    def set_destinations(self, destinations: Mapping[str, Destination]) -> None:
        """Know these move destinations from now on, and no others."""
        self._destinations = dict(destinations)

    def open(self, port: int) -> None:
        """Listen on this port, 0 for any."""
        ae = AE(ae_title=self._ae_title)
        ae.maximum_associations = self._switches.behaviour.associations_max
        for sop_class in (Verification, *_PATIENT_ROOT, *_STUDY_ROOT):
            ae.add_supported_context(sop_class)
        for context in AllStoragePresentationContexts:
            # Both roles, so that a C-GET requestor may take the SCP role for what we send.
            ae.add_supported_context(context.abstract_syntax or "", AllTransferSyntaxes, scp_role=True, scu_role=True)
        server = ae.start_server((self._host, port), block=False, ssl_context=self._tls, evt_handlers=self._handlers())
        assert isinstance(server, ThreadedAssociationServer) and server.socket is not None
        self._ae = ae
        self.port = int(server.socket.getsockname()[1])

    def limit_associations(self) -> None:
        """Take as many at a time from now on as the behaviour has it."""
        if self._ae is not None:
            self._ae.maximum_associations = self._switches.behaviour.associations_max

    def close(self) -> None:
        """Refuse associations and abort those that are open."""
        if self._ae is not None:
            self._ae.shutdown()
            self._ae = None

    def _handlers(self) -> list[evt.EventHandlerType]:
        return [
            (evt.EVT_ACCEPTED, self._on_association),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_C_MOVE, self._on_move),
            (evt.EVT_C_GET, self._on_get),
            (evt.EVT_C_STORE, self._on_store),
        ]

    def _on_association(self, event: evt.Event) -> None:
        self._journal.record(Door.ASSOCIATION, _who(event))

    def _on_echo(self, event: evt.Event) -> int:
        self._journal.record(Door.ECHO, _who(event))
        self._hold(event)
        return _SUCCESS

    def _on_find(self, event: evt.Event) -> Iterator[Answer]:
        identifier = event.identifier
        self._journal.record(Door.FIND, {**_who(event), "keys": _keys_as_json(identifier)})
        self._hold(event)
        behaviour = self._switches.behaviour
        level = _level(event, identifier)
        if level is None or not _names_all_above(identifier, level, _sop_class_uid(event)):
            yield _IDENTIFIER_DOES_NOT_MATCH, None
            return
        if behaviour.body_lie is Lie.SERVER_ERROR:
            yield _UNABLE_TO_PROCESS, None
            return
        keys = [key for key in keys_of(identifier) if key.tag in SUPPORTED[level]]
        held = self._index.rows(level)
        true = [row for row in held if matches(row.attributes, keys)]
        rows: Sequence[Row] | Iterator[Row] = falsify(behaviour.lies, level, true, held)
        if behaviour.body_lie in (Lie.ENDLESS, Lie.HUGE):
            rows = many_rows(list(rows), None if behaviour.body_lie is Lie.ENDLESS else HUGE_ROWS)
        for row in rows:
            if event.is_cancelled or self._switches.is_stopping:
                yield _CANCELLED, None
                return
            yield _answer(row, identifier, self._ae_title, behaviour.charset)

    def _on_move(self, event: evt.Event) -> Iterator[object]:
        identifier, title = event.identifier, str(event.move_destination).strip()
        self._journal.record(Door.MOVE, {**_who(event), "destination": title, "keys": _keys_as_json(identifier)})
        self._hold(event)
        instances = self._selected(event, identifier)
        if instances is None:
            # pynetdicom associates with the destination before it takes a status from here; an error it answers with
            # C514, unable to process, and calls nobody.
            raise ValueError("identifier does not match the SOP class")
        if title not in self._destinations:
            yield None, None
            return
        host, port = self._destinations[title]
        sending: list[Association] = []

        def begin(begun: evt.Event) -> None:
            sending.append(begun.assoc)
            name_originator(begun.assoc, event.assoc.requestor.ae_title)

        options: dict[str, object] = {
            "contexts": contexts_of(chosen(self._switches.behaviour.lies, instances, self._index.instances())),
            "evt_handlers": [(evt.EVT_CONN_OPEN, pause_soundly), (evt.EVT_ESTABLISHED, begin)],
        }
        if self._calling_tls is not None:
            options["tls_args"] = (self._calling_tls, host)
        yield host, port, options
        yield from sub_operations(event, instances, self._index, self._switches, lambda: sending[0])

    def _on_get(self, event: evt.Event) -> Iterator[object]:
        identifier = event.identifier
        self._journal.record(Door.GET, {**_who(event), "keys": _keys_as_json(identifier)})
        self._hold(event)
        instances = self._selected(event, identifier)
        if instances is None:
            yield 1
            yield _IDENTIFIER_DOES_NOT_MATCH, None
            return
        yield from sub_operations(event, instances, self._index, self._switches, lambda: event.assoc)

    def _on_store(self, event: evt.Event) -> int:
        assert isinstance(event.request, C_STORE)
        self._journal.record(Door.STORE, {**_who(event), "sop_instance_uid": str(event.request.AffectedSOPInstanceUID)})
        self._hold(event)
        content = event.encoded_dataset()
        try:
            instance = read_instance(content)
        except NotAnInstance:
            return _UNABLE_TO_PROCESS
        if instance.uid(Level.IMAGE) != event.request.AffectedSOPInstanceUID:
            return _IDENTIFIER_DOES_NOT_MATCH
        self._index.add(instance, content)
        return _SUCCESS

    def _hold(self, event: evt.Event) -> None:
        """Be slow or silent; a request that must never be answered ends with its association."""
        if not self._switches.hold():
            event.assoc.abort()

    def _selected(self, event: evt.Event, identifier: Dataset) -> list[Instance] | None:
        """The instances that a retrieval names by unique keys, None if the identifier does not fit the model."""
        level = _level(event, identifier)
        if level is None or not _names_all_above(identifier, level, _sop_class_uid(event)):
            return None
        unique = [key for key in keys_of(identifier) if key.tag in _unique_tags(level)]
        if not any(key.values for key in unique if key.tag == Tag(UNIQUE_KEYS[level])):
            return None
        return [one for one in self._index.instances() if matches(one.attributes, unique)]


def _who(event: evt.Event) -> Mapping[str, object]:
    requestor, acceptor = event.assoc.requestor, event.assoc.acceptor
    called = acceptor.primitive.called_ae_title if acceptor.primitive else ""
    return {"calling_ae": requestor.ae_title, "called_ae": called, "address": requestor.address}


def _sop_class_uid(event: evt.Event) -> str:
    return str(event.request.AffectedSOPClassUID)


def _keys_as_json(identifier: Dataset) -> Mapping[str, object]:
    """The identifier's elements by keyword, an unknown one by its tag; sequences by their first item."""
    keys: dict[str, object] = {}
    for element in identifier:
        name = element.keyword or f"{element.tag:08X}"
        if element.VR == "SQ":
            keys[name] = _keys_as_json(element.value[0]) if element.value else {}
        else:
            keys[name] = list(texts(element))
    return keys


def _level(event: evt.Event, identifier: Dataset) -> Level | None:
    try:
        level = Level[str(identifier.get("QueryRetrieveLevel", "")).strip()]
    except KeyError:
        return None
    return None if level is Level.PATIENT and _sop_class_uid(event) in _STUDY_ROOT else level


def _names_all_above(identifier: Dataset, level: Level, sop_class_uid: str) -> bool:
    """True if each level above is named by a single value of its unique key; study root starts at the study."""
    top = Level.PATIENT if sop_class_uid in _PATIENT_ROOT else Level.STUDY
    above = (UNIQUE_KEYS[each] for each in Level if top <= each < level)
    return all(keyword in identifier and len(texts(identifier[keyword])) == 1 for keyword in above)


def _unique_tags(level: Level) -> set[int]:
    return {Tag(UNIQUE_KEYS[each]) for each in Level if each <= level}


def _answer(row: Row, identifier: Dataset, ae_title: str, charset: Charset) -> Answer:
    """The attributes that were asked for, empty where we know none, and what every C-FIND response carries."""
    answer = Dataset()
    status = _PENDING
    if charset is not Charset.LATIN_1_UNDECLARED:
        answer.SpecificCharacterSet = "ISO_IR 192" if charset is Charset.UTF_8 else "ISO_IR 100"
    for key in identifier:
        if key.keyword in _NEVER_KEYS:
            continue
        if key.tag in row.attributes:
            answer.add(row.attributes[key.tag])
        else:
            answer.add_new(key.tag, key.VR, None)
            if key.tag not in SUPPORTED[row.level]:
                status = _PENDING_KEY_UNSUPPORTED
    for each in Level:
        if each <= row.level and UNIQUE_KEYS[each] in row.attributes:
            answer.add(row.attributes[UNIQUE_KEYS[each]])
    answer.QueryRetrieveLevel = row.level.name
    answer.RetrieveAETitle = ae_title
    answer.InstanceAvailability = "ONLINE"
    return status, answer
