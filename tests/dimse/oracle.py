"""Our PDUs read and written by an independent implementation: pynetdicom.

Its decoders fail in many ways on bad input (struct.error, AssertionError, ValueError), so that it judges good input
only: what is bad, the standard's tables say.
"""

from dataclasses import replace
from typing import TypeVar

from pynetdicom import pdu as theirs
from pynetdicom import pdu_items

from dimse.upper_layer import pdu as ours

_T = TypeVar("_T")
_CLASSES: dict[int, type[theirs.PDU]] = {
    1: theirs.A_ASSOCIATE_RQ,
    2: theirs.A_ASSOCIATE_AC,
    3: theirs.A_ASSOCIATE_RJ,
    5: theirs.A_RELEASE_RQ,
    6: theirs.A_RELEASE_RP,
    7: theirs.A_ABORT_RQ,
}


def written_anew(encoded: bytes) -> bytes:
    """Read a PDU by pynetdicom and write by pynetdicom what it read."""
    return _read(encoded).encode()


def read(encoded: bytes) -> ours.Pdu:
    """Read a PDU by pynetdicom, and say in our words what it saw."""
    match _read(encoded):
        case theirs.A_ASSOCIATE_RQ() as request:
            return ours.AssociateRequest(
                request.called_ae_title,
                request.calling_ae_title,
                tuple(map(_proposed, request.presentation_context)),
                _user(_known(request.user_information)),
                str(request.application_context_name),
                request.protocol_version,
            )
        case theirs.A_ASSOCIATE_AC() as accept:
            return ours.AssociateAccept(
                accept.called_ae_title,
                accept.calling_ae_title,
                tuple(map(_answer, accept.presentation_context)),
                _user(_known(accept.user_information)),
                str(accept.application_context_name),
                accept.protocol_version,
            )
        case theirs.A_ASSOCIATE_RJ() as reject:
            return ours.AssociateReject(_known(reject.result), _known(reject.source), _known(reject.reason_diagnostic))
        case theirs.A_RELEASE_RQ():
            return ours.ReleaseRequest()
        case theirs.A_RELEASE_RP():
            return ours.ReleaseReply()
        case theirs.A_ABORT_RQ() as abort:
            return ours.Abort(_known(abort.source), _known(abort.reason_diagnostic))
        case unknown:
            raise AssertionError(f"not a PDU of an association: {type(unknown)}")


def _read(encoded: bytes) -> theirs.PDU:
    pdu = _CLASSES[encoded[0]]()
    pdu.decode(encoded)
    return pdu


def _known(value: _T | None) -> _T:
    assert value is not None
    return value


def _proposed(context: pdu_items.PresentationContextItemRQ) -> ours.ProposedContext:
    syntaxes = tuple(map(str, context.transfer_syntax))
    return ours.ProposedContext(_known(context.context_id), str(context.abstract_syntax), syntaxes)


def _answer(context: pdu_items.PresentationContextItemAC) -> ours.ContextAnswer:
    result = ours.ContextResult(_known(context.result))
    return ours.ContextAnswer(_known(context.context_id), result, str(context.transfer_syntax or ""))


def _user(item: pdu_items.UserInformationItem) -> ours.UserInformation:
    user = ours.UserInformation(0, "")
    for sub in item.user_data:
        match sub:
            case pdu_items.MaximumLengthSubItem():
                user = replace(user, pdu_bytes_max=_known(sub.maximum_length_received))
            case pdu_items.ImplementationClassUIDSubItem():
                user = replace(user, implementation_class_uid=str(sub.implementation_class_uid))
            case pdu_items.ImplementationVersionNameSubItem():
                user = replace(user, implementation_version=_known(sub.implementation_version_name))
            case pdu_items.AsynchronousOperationsWindowSubItem():
                window = (sub.maximum_number_operations_invoked, sub.maximum_number_operations_performed)
                user = replace(user, window=ours.AsynchronousWindow(*map(_known, window)))
            case pdu_items.SCP_SCU_RoleSelectionSubItem():
                roles = ours.Roles(str(sub.sop_class_uid), bool(sub.scu_role), bool(sub.scp_role))
                user = replace(user, roles=(*user.roles, roles))
            case pdu_items.SOPClassExtendedNegotiationSubItem():
                information = _known(sub.service_class_application_information)
                extended = ours.ExtendedNegotiation(str(sub.sop_class_uid), information)
                user = replace(user, extended=(*user.extended, extended))
            case pdu_items.SOPClassCommonExtendedNegotiationSubItem():
                related = tuple(map(str, sub.related_general_sop_class_identification))
                common = ours.CommonExtendedNegotiation(str(sub.sop_class_uid), str(sub.service_class_uid), related)
                user = replace(user, common_extended=(*user.common_extended, common))
            case pdu_items.UserIdentitySubItemRQ():
                identity = ours.UserIdentity(
                    _known(sub.user_identity_type),
                    bool(sub.positive_response_requested),
                    _known(sub.primary_field),
                    sub.secondary_field or b"",
                )
                user = replace(user, identity=identity)
            case pdu_items.UserIdentitySubItemAC():
                user = replace(user, identity_response=_known(sub.server_response))
            case _:
                raise AssertionError(f"not a part of user information: {type(sub)}")
    return user
