"""Read and write every PDU of an association, good and bad, with pynetdicom as judge of the good (PS3.8 9.3)."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimse.upper_layer.items import ITEMS_MAX, item
from dimse.upper_layer.pdu import (
    AbortReason,
    AssociateAccept,
    AssociateRequest,
    ContextAnswer,
    ContextResult,
    Pdu,
    PduError,
    PduType,
    ProposedContext,
    ReleaseRequest,
    UserIdentity,
    UserInformation,
    decode,
    encode,
)
from tests.dimse import oracle
from tests.dimse.associations import PDUS

HEADER_BYTES = 6
FIXED = struct.pack(">H2x16s16s32x", 1, b"GATEWAY".ljust(16), b"CT1".ljust(16))
APPLICATION_CONTEXT = item(0x10, b"1.2.840.10008.3.1.1.1")
ABSTRACT = item(0x30, b"1.2.840.10008.1.1")
TRANSFER = item(0x40, b"1.2.840.10008.1.2")
CONTEXT = item(0x20, b"\1\0\0\0" + ABSTRACT + TRANSFER)
ANSWER = item(0x21, b"\1\0\0\0" + TRANSFER)
MAXIMUM_LENGTH = item(0x51, b"\0\0\x40\0")
IMPLEMENTATION = item(0x52, b"1.2.3")
USER = item(0x50, MAXIMUM_LENGTH + IMPLEMENTATION)
REQUEST = AssociateRequest(
    "GATEWAY",
    "CT1",
    (ProposedContext(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),),
    UserInformation(16_384, "1.2.3"),
)
ACCEPT = AssociateAccept(
    "GATEWAY",
    "CT1",
    (ContextAnswer(1, ContextResult.ACCEPTED, "1.2.840.10008.1.2"),),
    UserInformation(16_384, "1.2.3"),
)


def read(pdu_type: int, *pieces: bytes) -> Pdu:
    return decode(pdu_type, b"".join(pieces))


def read_request(*items: bytes, fixed: bytes = FIXED) -> AssociateRequest:
    pdu = read(PduType.ASSOCIATE_RQ, fixed, *items)
    assert isinstance(pdu, AssociateRequest)
    return pdu


def read_accept(*items: bytes, fixed: bytes = FIXED) -> AssociateAccept:
    pdu = read(PduType.ASSOCIATE_AC, fixed, *items)
    assert isinstance(pdu, AssociateAccept)
    return pdu


def user_of(*sub_items: bytes) -> UserInformation:
    return read_request(APPLICATION_CONTEXT, CONTEXT, item(0x50, b"".join(sub_items))).user


# Good PDUs


@given(PDUS)
def test_what_is_written_is_read_again(pdu: Pdu) -> None:
    encoded = encode(pdu)
    assert struct.unpack_from(">xxI", encoded) == (len(encoded) - HEADER_BYTES,)
    assert decode(encoded[0], encoded[HEADER_BYTES:]) == pdu


@given(PDUS)
def test_the_other_implementation_reads_what_we_mean(pdu: Pdu) -> None:
    assert oracle.read(encode(pdu)) == pdu


@given(PDUS)
def test_we_read_what_the_other_implementation_means(pdu: Pdu) -> None:
    encoded = oracle.written_anew(encode(pdu))
    assert decode(encoded[0], encoded[HEADER_BYTES:]) == pdu


def test_the_smallest_association_is_as_the_standard_prints_it() -> None:
    assert read_request(APPLICATION_CONTEXT, CONTEXT, USER) == REQUEST
    assert read_accept(APPLICATION_CONTEXT, ANSWER, USER) == ACCEPT


def test_the_largest_association_is_read() -> None:
    contexts = tuple(
        ProposedContext(number, "1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.1.2",)) for number in range(1, 256, 2)
    )
    request = replace(REQUEST, contexts=contexts)
    assert decode(PduType.ASSOCIATE_RQ, encode(request)[HEADER_BYTES:]) == request


@pytest.mark.parametrize("padded", [b"CT1".ljust(16), b"CT1".rjust(16), b"  CT1           "])
def test_spaces_around_a_title_mean_nothing(padded: bytes) -> None:
    fixed = struct.pack(">H2x16s16s32x", 1, padded, padded)
    request = read_request(APPLICATION_CONTEXT, CONTEXT, USER, fixed=fixed)
    assert (request.called_ae_title, request.calling_ae_title) == ("CT1", "CT1")


def test_a_blank_title_is_read_so_that_it_can_be_rejected() -> None:
    fixed = struct.pack(">H2x16s16s32x", 1, b" " * 16, b" " * 16)
    assert read_request(APPLICATION_CONTEXT, CONTEXT, USER, fixed=fixed).calling_ae_title == ""


def test_nobody_tests_the_titles_of_an_acceptance() -> None:
    fixed = struct.pack(">H2x16s16s32x", 1, b"\xff" * 16, b"\0" * 16)
    assert read_accept(APPLICATION_CONTEXT, ANSWER, USER, fixed=fixed).called_ae_title == ""


@pytest.mark.parametrize("rest", [b"", item(0x40, b""), item(0x40, b"any thing"), TRANSFER + TRANSFER])
def test_nobody_tests_the_transfer_syntax_of_a_refusal(rest: bytes) -> None:
    (answer,) = read_accept(APPLICATION_CONTEXT, item(0x21, b"\1\0\3\0" + rest), USER).contexts
    assert answer.result is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED


def test_reserved_bytes_mean_nothing() -> None:
    fixed = struct.pack(">H2s16s16s32s", 1, b"\xff\xff", b"GATEWAY".ljust(16), b"CT1".ljust(16), b"\xff" * 32)
    context = b"\x20\xff" + CONTEXT[2:4] + b"\1\xff\xff\xff" + CONTEXT[8:]
    assert read_request(APPLICATION_CONTEXT, context, USER, fixed=fixed) == REQUEST


def test_items_that_nobody_knows_are_skipped() -> None:
    unknown = item(0x77, b"anything at all")
    context = item(0x20, b"\1\0\0\0" + unknown + ABSTRACT + TRANSFER)
    user = item(0x50, unknown + MAXIMUM_LENGTH + IMPLEMENTATION)
    assert read_request(unknown, APPLICATION_CONTEXT, context, user, unknown) == REQUEST


def test_items_may_come_in_any_order() -> None:
    context = item(0x20, b"\1\0\0\0" + TRANSFER + ABSTRACT)
    assert read_request(USER, context, APPLICATION_CONTEXT) == REQUEST


def test_as_many_items_as_anybody_needs_are_read() -> None:
    unknown = [item(0x77, b"")] * (ITEMS_MAX - 3)
    assert read_request(APPLICATION_CONTEXT, CONTEXT, USER, *unknown) == REQUEST


def test_a_uid_padded_to_even_length_is_forgiven() -> None:
    context = item(0x20, b"\1\0\0\0" + item(0x30, b"1.2.840.10008.1.1\0") + TRANSFER)
    assert read_request(APPLICATION_CONTEXT, context, USER) == REQUEST


def test_an_association_that_says_nothing_of_lengths_sets_no_limit() -> None:
    assert user_of().pdu_bytes_max == 0


def test_a_product_name_for_a_version_is_read() -> None:
    assert user_of(item(0x55, b"V" * 64)).implementation_version == "V" * 64


def test_a_later_version_of_a_sub_item_may_say_more() -> None:
    uid = b"\0\0031.2"
    sub_item = item(0x57, uid + uid + b"\0\0" + b"more")
    assert user_of(b"\x57\1" + sub_item[2:]).common_extended[0].sop_class_uid == "1.2"
    with pytest.raises(PduError):
        user_of(sub_item)


def test_who_the_user_is_does_not_show_in_a_log() -> None:
    identity = UserIdentity(2, False, b"anne", b"secret")
    shown = repr(replace(REQUEST, user=replace(REQUEST.user, identity=identity, identity_response=b"ticket")))
    assert "anne" not in shown and "secret" not in shown and "ticket" not in shown


# Bad PDUs

UID_65 = b"1." + b"2" * 63
NOT_A_REQUEST = {
    "nothing": b"",
    "fixed fields cut off": FIXED[:-1],
    "no items": FIXED,
    "no application context": FIXED + CONTEXT + USER,
    "no context": FIXED + APPLICATION_CONTEXT + USER,
    "no user information": FIXED + APPLICATION_CONTEXT + CONTEXT,
    "two application contexts": FIXED + APPLICATION_CONTEXT * 2 + CONTEXT + USER,
    "two user informations": FIXED + APPLICATION_CONTEXT + CONTEXT + USER * 2,
    "header of an item cut off": FIXED + APPLICATION_CONTEXT + CONTEXT + USER + b"\x50\0\0",
    "item longer than the PDU": FIXED + APPLICATION_CONTEXT + CONTEXT + b"\x50\0\xff\xff",
    "item shorter than what it holds": FIXED + APPLICATION_CONTEXT + CONTEXT + USER + b"\0",
    "control character in a title": FIXED[:4] + b"GATE\nWAY" + FIXED[12:] + APPLICATION_CONTEXT + CONTEXT + USER,
    "foreign character in a title": FIXED[:4] + b"GATE\xe9WAY" + FIXED[12:] + APPLICATION_CONTEXT + CONTEXT + USER,
    "letters in a UID": FIXED + item(0x10, b"1.2.a") + CONTEXT + USER,
    "UID of 65 characters": FIXED + item(0x10, UID_65) + CONTEXT + USER,
    "too many items": FIXED + APPLICATION_CONTEXT + CONTEXT + USER + item(0x77, b"") * (ITEMS_MAX - 2),
}
BAD_CONTEXTS = {
    "empty": b"",
    "cut off": b"\1\0\0",
    "number even": b"\2\0\0\0" + ABSTRACT + TRANSFER,
    "number zero": b"\0\0\0\0" + ABSTRACT + TRANSFER,
    "no abstract syntax": b"\1\0\0\0" + TRANSFER,
    "two abstract syntaxes": b"\1\0\0\0" + ABSTRACT * 2 + TRANSFER,
    "no transfer syntax": b"\1\0\0\0" + ABSTRACT,
    "transfer syntax longer than the context": b"\1\0\0\0" + ABSTRACT + b"\x40\0\0\x121.2.840.10008.1.2",
    "transfer syntax with a space": b"\1\0\0\0" + ABSTRACT + item(0x40, b"1.2 "),
}
BAD_USER_INFORMATION = {
    "maximum length of three bytes": item(0x51, b"\0\0\0"),
    "maximum length of five bytes": item(0x51, b"\0\0\0\0\0"),
    "maximum length twice": MAXIMUM_LENGTH * 2,
    "implementation class that is no UID": item(0x52, b"GATEWAY"),
    "window of three bytes": item(0x53, b"\0\1\0"),
    "window of five bytes": item(0x53, b"\0\1\0\1\0"),
    "role without a length": item(0x54, b"\0"),
    "role without roles": item(0x54, b"\0\0031.2"),
    "role with one role": item(0x54, b"\0\0031.2\1"),
    "role with three roles": item(0x54, b"\0\0031.2\1\1\1"),
    "role neither yes nor no": item(0x54, b"\0\0031.2\2\0"),
    "role whose UID is longer than it": item(0x54, b"\0\x091.2\1\1"),
    "version with a line break": item(0x55, b"V1\r\nroot logged in"),
    "version of 65 bytes": item(0x55, b"V" * 65),
    "extended negotiation without a length": item(0x56, b""),
    "extended negotiation whose UID is longer than it": item(0x56, b"\0\x091.2"),
    "common extended negotiation cut off": item(0x57, b"\0\0031.2\0\0031.2"),
    "related class longer than the list": item(0x57, b"\0\0031.2\0\0031.2\0\5\0\x091.2"),
    "related class cut off": item(0x57, b"\0\0031.2\0\0031.2\0\1\0"),
    "identity cut off": item(0x58, b"\1"),
    "identity without a secondary length": item(0x58, b"\1\0\0\4anne"),
    "identity longer than it says": item(0x58, b"\1\0\0\4anne\0\0!"),
    "identity whose wish is neither yes nor no": item(0x58, b"\1\7\0\4anne\0\0"),
    "identity twice": item(0x58, b"\1\0\0\0\0\0") * 2,
    "identity response cut off": item(0x59, b"\0"),
    "identity response longer than it says": item(0x59, b"\0\1ab"),
}
BAD_ANSWERS = {
    "empty": b"",
    "cut off": b"\1\0\0",
    "result that does not exist": b"\1\0\5\0" + TRANSFER,
    "accepted without transfer syntax": b"\1\0\0\0",
    "accepted with two transfer syntaxes": b"\1\0\0\0" + TRANSFER * 2,
    "accepted with no UID": b"\1\0\0\0" + item(0x40, b"JPEG"),
}


def _named(cases: dict[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bad", list(cases.values()), ids=list(cases))


def _assert_invalid(pdu_type: int, body: bytes) -> None:
    with pytest.raises(PduError) as caught:
        decode(pdu_type, body)
    assert caught.value.reason is AbortReason.INVALID_PARAMETER


@_named(NOT_A_REQUEST)
def test_a_malformed_request_is_invalid(bad: bytes) -> None:
    _assert_invalid(PduType.ASSOCIATE_RQ, bad)


@_named(BAD_CONTEXTS)
def test_a_malformed_context_makes_the_request_invalid(bad: bytes) -> None:
    _assert_invalid(PduType.ASSOCIATE_RQ, FIXED + APPLICATION_CONTEXT + item(0x20, bad) + USER)


@_named(BAD_USER_INFORMATION)
def test_malformed_user_information_makes_the_request_invalid(bad: bytes) -> None:
    _assert_invalid(PduType.ASSOCIATE_RQ, FIXED + APPLICATION_CONTEXT + CONTEXT + item(0x50, bad))


@_named(BAD_ANSWERS)
def test_a_malformed_answer_makes_the_acceptance_invalid(bad: bytes) -> None:
    _assert_invalid(PduType.ASSOCIATE_AC, FIXED + APPLICATION_CONTEXT + item(0x21, bad) + USER)


def test_two_contexts_of_one_number_are_invalid() -> None:
    _assert_invalid(PduType.ASSOCIATE_RQ, FIXED + APPLICATION_CONTEXT + CONTEXT * 2 + USER)
    _assert_invalid(PduType.ASSOCIATE_AC, FIXED + APPLICATION_CONTEXT + ANSWER * 2 + USER)


def test_more_contexts_than_numbers_are_invalid() -> None:
    contexts = [item(0x20, bytes((number, 0, 0, 0)) + ABSTRACT + TRANSFER) for number in range(1, 256, 2)]
    assert len(read_request(APPLICATION_CONTEXT, *contexts, USER).contexts) == 128
    _assert_invalid(PduType.ASSOCIATE_RQ, FIXED + APPLICATION_CONTEXT + b"".join(contexts) + CONTEXT + USER)


@pytest.mark.parametrize("pdu_type", [3, 5, 6, 7])
@pytest.mark.parametrize("length", [0, 3, 5])
def test_a_short_pdu_has_four_bytes_exactly(pdu_type: int, length: int) -> None:
    decode(pdu_type, bytes(4))
    _assert_invalid(pdu_type, bytes(length))


@pytest.mark.parametrize("pdu_type", [0, 4, 8, 255])
def test_another_type_is_not_recognised(pdu_type: int) -> None:
    # P-DATA among them: it never comes here.
    with pytest.raises(PduError) as caught:
        decode(pdu_type, b"")
    assert caught.value.reason is AbortReason.UNRECOGNISED_PDU


@given(PDUS, st.data())
def test_damaged_bytes_give_a_value_or_the_one_error(pdu: Pdu, data: st.DataObject) -> None:
    encoded = encode(pdu)
    body = bytearray(encoded[HEADER_BYTES:])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(start + 4, len(body))))
        body[start:end] = data.draw(st.binary(max_size=4))
    try:
        read_back = decode(encoded[0], bytes(body))
    except PduError:
        return
    assert decode(encoded[0], encode(read_back)[HEADER_BYTES:]) == read_back


@given(st.integers(0, 8), st.sampled_from([b"", FIXED, FIXED + APPLICATION_CONTEXT + CONTEXT]), st.binary(max_size=200))
def test_any_bytes_give_a_value_or_the_one_error(pdu_type: int, known: bytes, rest: bytes) -> None:
    try:
        decode(pdu_type, known + rest)
    except PduError as error:
        assert error.reason in AbortReason


@given(st.integers(0, 130), st.sampled_from([PduType.ASSOCIATE_RQ, PduType.ASSOCIATE_AC]))
def test_an_association_cut_off_anywhere_is_invalid(at: int, pdu_type: PduType) -> None:
    whole = encode(REQUEST if pdu_type is PduType.ASSOCIATE_RQ else ACCEPT)[HEADER_BYTES:]
    if at < len(whole):
        _assert_invalid(pdu_type, whole[:at])


def test_what_cannot_be_written_is_our_mistake() -> None:
    for pdu in (
        replace(REQUEST, called_ae_title="SEVENTEEN_LETTERS"),
        replace(REQUEST, calling_ae_title="ÅNGSTRÖM"),
        replace(REQUEST, contexts=()),
        replace(REQUEST, contexts=REQUEST.contexts * 129),
        replace(REQUEST, application_context="not a UID"),
        replace(REQUEST, user=UserInformation(2**32, "1.2.3")),
    ):
        with pytest.raises(ValueError):
            encode(pdu)
    assert encode(ReleaseRequest()) == b"\5\0\0\0\0\4\0\0\0\0"
