"""What honest peers send, PDU by PDU, written by pynetdicom: an association, queries, an image, a release.

The start of every mutation. Both directions: what a requestor says to us, and what an acceptor answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import dimse_messages as messages
from pynetdicom import dimse_primitives as primitives
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ABORT_RQ, A_RELEASE_RP, A_RELEASE_RQ, P_DATA_TF

from dimse.upper_layer import pdu
from dimse.upper_layer.negotiation import Offer, negotiate
from tests.dimse import oracle
from tests.dimse.door import EXPLICIT, IMPLICIT, OURS, PATIENT_ROOT, STUDY_ROOT, VERIFICATION, proposal

CT = "1.2.840.10008.5.1.4.1.1.2"
ECHO_CONTEXT, STUDY_CONTEXT, PATIENT_CONTEXT = 1, 3, 5
PDU_BYTES = 256
"""So short that every message has several fragments."""

_ASKED = proposal(
    *(VERIFICATION, STUDY_ROOT, PATIENT_ROOT, CT),
    syntaxes=(IMPLICIT, EXPLICIT),
    identity=pdu.UserIdentity(2, True, b"anne", b"secret"),
)
REQUEST = oracle.written_anew(pdu.encode(_ASKED))
ACCEPT = oracle.written_anew(
    pdu.encode(
        negotiate(
            _ASKED,
            Offer(frozenset({OURS}), dict.fromkeys((VERIFICATION, STUDY_ROOT, PATIENT_ROOT), (EXPLICIT,))),
        )
    )
)


def _questions() -> Iterator[Dataset]:
    study = Dataset()
    study.QueryRetrieveLevel = "STUDY"
    study.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    study.PatientID = "9990000018"
    study.PatientName = "YAMADA^TAROU=\u5c71\u7530^\u592a\u90ce*"
    study.StudyDate = "20180811-"
    study.StudyTime = "101500-"
    study.ModalitiesInStudy = ["CT", "MR"]
    study.StudyInstanceUID = ["1.2.3", "1.2.4"]
    study.NumberOfStudyRelatedInstances = None
    item = Dataset()
    item.ScheduledProcedureStepID = "S1"
    item.AccessionNumber = None
    study.RequestAttributesSequence = Sequence([item])
    study.add_new(0x00090010, "LO", "ACME")
    study.add_new(0x00091001, "UN", b"")
    yield study
    image = Dataset()
    image.QueryRetrieveLevel = "IMAGE"
    image.PatientID = "9990000018"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = "1.2", "1.2.3", ""
    image.InstanceNumber = None
    yield image


def identifiers(transfer_syntax: str) -> list[bytes]:
    """The identifiers of a study query and of an image query."""
    encoded = [encode(each, transfer_syntax == IMPLICIT, True) for each in _questions()]
    return [each for each in encoded if each]


def _fragments(message: messages.DIMSEMessage, context_id: int) -> list[bytes]:
    written = []
    for primitive in message.encode_msg(context_id, PDU_BYTES):
        p_data = P_DATA_TF()
        p_data.from_primitive(primitive)
        written.append(p_data.encode())
    return written


def echo(message_id: int = 1) -> list[bytes]:
    """C-ECHO-RQ."""
    primitive = primitives.C_ECHO()
    primitive.MessageID, primitive.AffectedSOPClassUID = message_id, VERIFICATION
    message = messages.C_ECHO_RQ()
    message.primitive_to_message(primitive)
    return _fragments(message, ECHO_CONTEXT)


def find(identifier: bytes, context_id: int = STUDY_CONTEXT, message_id: int = 2) -> list[bytes]:
    """C-FIND-RQ."""
    primitive = primitives.C_FIND()
    primitive.MessageID, primitive.Priority = message_id, 2
    primitive.AffectedSOPClassUID = STUDY_ROOT if context_id == STUDY_CONTEXT else PATIENT_ROOT
    primitive.Identifier = BytesIO(identifier)
    message = messages.C_FIND_RQ()
    message.primitive_to_message(primitive)
    return _fragments(message, context_id)


def found(identifier: bytes | None, status: int, message_id: int) -> list[bytes]:
    """C-FIND-RSP."""
    primitive = primitives.C_FIND()
    primitive.MessageIDBeingRespondedTo, primitive.AffectedSOPClassUID, primitive.Status = (
        message_id,
        STUDY_ROOT,
        status,
    )
    if identifier is not None:
        primitive.Identifier = BytesIO(identifier)
    message = messages.C_FIND_RSP()
    message.primitive_to_message(primitive)
    return _fragments(message, STUDY_CONTEXT)


def store(context_id: int = 7, message_id: int = 3) -> list[bytes]:
    """C-STORE-RQ with an image of some kilobytes."""
    primitive = primitives.C_STORE()
    primitive.MessageID, primitive.Priority = message_id, 0
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CT, "1.2.3.4"
    primitive.DataSet = BytesIO(bytes(range(256)) * 4)
    message = messages.C_STORE_RQ()
    message.primitive_to_message(primitive)
    return _fragments(message, context_id)


def cancel(message_id: int = 2) -> list[bytes]:
    """C-CANCEL-RQ."""
    primitive = primitives.C_CANCEL()
    primitive.MessageIDBeingRespondedTo = message_id
    message = messages.C_CANCEL_RQ()
    message.primitive_to_message(primitive)
    return _fragments(message, STUDY_CONTEXT)


def release() -> bytes:
    """A-RELEASE-RQ."""
    return A_RELEASE_RQ().encode()


def release_reply() -> bytes:
    """A-RELEASE-RP."""
    return A_RELEASE_RP().encode()


def abort() -> bytes:
    """A-ABORT by the user."""
    written = A_ABORT_RQ()
    written.source, written.reason_diagnostic = 0, 0
    return written.encode()
