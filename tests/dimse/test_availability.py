"""Instance Availability Notification at the DIMSE door: what is taken, and how the rest is refused (PS3.4 R)."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode

from dimse.availability import NoticeStatus, UnreadableNotice, parse_notice
from dimse.scp.availability_scp import READ_AT_ONCE_BYTES_MAX, Reading, availability_services, buffers
from dimse.upper_layer.commands import Command, CommandField
from gateway import tls
from gateway.model.errors import (
    AuditUnavailable,
    GatewayError,
    InvalidRequest,
    NotIdentified,
    OverCapacity,
    StoreUnavailable,
)
from gateway.model.locations import Notice
from policy.identity import CallerBinding
from policy.parties import Caller, TrustId
from tests.dimse.door import (
    EXPLICIT,
    HANG_S,
    IMPLICIT,
    PACS,
    VERIFICATION,
    Client,
    Doorkeeper,
    House,
    Shelf,
    client,
    opened,
    proposal,
)
from tests.gateway.certificates import Authority, Files

IAN = "1.2.840.10008.5.1.4.33"
CT = "1.2.840.10008.5.1.4.1.1.2"
DEFLATED, BIG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
STUDY, SERIES, INSTANCE = "1.2.9", "1.2.9.1", "1.2.9.1.1"
BYTES_MAX = 256 * 1024


def instance(number: int = 1, availability: str = "ONLINE", title: str = "EASTVALE_PACS") -> Dataset:
    """What a notice says of one instance."""
    found = Dataset()
    found.ReferencedSOPClassUID = CT
    found.ReferencedSOPInstanceUID = f"{SERIES}.{number}"
    found.InstanceAvailability = availability
    found.RetrieveAETitle = title
    return found


def notice(*instances: Dataset) -> Dataset:
    """A notice of a study with one series."""
    series = Dataset()
    series.SeriesInstanceUID = SERIES
    series.ReferencedSOPSequence = list(instances or (instance(),))
    found = Dataset()
    found.ReferencedPerformedProcedureStepSequence = []
    found.StudyInstanceUID = STUDY
    found.ReferencedSeriesSequence = [series]
    return found


def encoded(dataset: Dataset, syntax: str = EXPLICIT) -> bytes:
    """As pydicom writes it."""
    body = encode(dataset, syntax == IMPLICIT, syntax != BIG, syntax == DEFLATED)
    assert body is not None
    return body


def read(dataset: Dataset, syntax: str = EXPLICIT) -> Notice:
    """The notice."""
    return parse_notice(encoded(dataset, syntax), syntax, BYTES_MAX)


def refusal(change: Callable[[Dataset], object]) -> tuple[NoticeStatus, str]:
    """Why a notice with this change is not taken."""
    changed = notice()
    change(changed)
    with pytest.raises(UnreadableNotice) as refused:
        read(changed)
    return refused.value.status, str(refused.value)


def first(dataset: Dataset) -> Dataset:
    """The notice's first instance."""
    found: Dataset = dataset.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    return found


# --- what is read ---


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED, BIG])
def test_a_notice_says_of_which_study_it_is_and_of_how_many_instances(syntax: str) -> None:
    assert read(notice(instance(1), instance(2, "NEARLINE")), syntax) == Notice(STUDY, 2, is_available=True)


@pytest.mark.parametrize(
    ("availabilities", "is_available"),
    [
        (("UNAVAILABLE",), False),
        (("UNAVAILABLE", "UNAVAILABLE"), False),
        (("UNAVAILABLE", "OFFLINE"), True),
        (("NEARLINE",), True),
    ],
)
def test_a_study_is_there_if_any_instance_can_be_had_now_or_later(
    availabilities: tuple[str, ...], is_available: bool
) -> None:
    instances = [instance(number, each) for number, each in enumerate(availabilities)]
    assert read(notice(*instances)).is_available is is_available


def test_what_the_standard_forbids_or_leaves_open_is_passed_over() -> None:
    more = notice()
    more.PatientID, more.PatientName, more.SpecificCharacterSet = "9990000018", "WHITFIELD^ANNE", "ISO_IR 100"
    first(more).RetrieveURI = "https://pacs.example/1"
    first(more).RetrieveAETitle = ["ONE", "TWO"]
    del more.ReferencedPerformedProcedureStepSequence
    assert read(more) == Notice(STUDY, 1, is_available=True)


MISSING, EMPTY, INVALID = NoticeStatus.MISSING_ATTRIBUTE, NoticeStatus.MISSING_VALUE, NoticeStatus.INVALID_VALUE


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        (lambda it: delattr(it, "StudyInstanceUID"), MISSING, "StudyInstanceUID is missing"),
        (lambda it: delattr(it, "ReferencedSeriesSequence"), MISSING, "ReferencedSeriesSequence is missing"),
        (
            lambda it: delattr(it.ReferencedSeriesSequence[0], "SeriesInstanceUID"),
            MISSING,
            "SeriesInstanceUID is missing",
        ),
        (
            lambda it: delattr(it.ReferencedSeriesSequence[0], "ReferencedSOPSequence"),
            MISSING,
            "ReferencedSOPSequence is missing",
        ),
        (lambda it: delattr(first(it), "ReferencedSOPClassUID"), MISSING, "ReferencedSOPClassUID is missing"),
        (lambda it: delattr(first(it), "ReferencedSOPInstanceUID"), MISSING, "ReferencedSOPInstanceUID is missing"),
        (lambda it: delattr(first(it), "InstanceAvailability"), MISSING, "InstanceAvailability is missing"),
        (lambda it: delattr(first(it), "RetrieveAETitle"), MISSING, "RetrieveAETitle is missing"),
        (lambda it: setattr(it, "StudyInstanceUID", ""), EMPTY, "StudyInstanceUID is empty"),
        (lambda it: setattr(it, "ReferencedSeriesSequence", []), EMPTY, "ReferencedSeriesSequence is empty"),
        (lambda it: setattr(first(it), "InstanceAvailability", ""), EMPTY, "InstanceAvailability is empty"),
        (lambda it: setattr(first(it), "RetrieveAETitle", ""), EMPTY, "RetrieveAETitle is empty"),
        (lambda it: setattr(first(it), "InstanceAvailability", "SOON"), INVALID, "InstanceAvailability is not valid"),
        (lambda it: setattr(it, "StudyInstanceUID", ["1.2", "1.3"]), INVALID, "StudyInstanceUID is not valid"),
        (lambda it: setattr(first(it), "RetrieveAETitle", ["A", ""]), INVALID, "RetrieveAETitle is not valid"),
    ],
)
def test_what_a_notice_lacks_is_named(change: Callable[[Dataset], object], status: NoticeStatus, text: str) -> None:
    assert refusal(change) == (status, text)


def test_bytes_that_are_no_data_set_are_no_notice() -> None:
    body = encoded(notice())
    for broken in (body[:-3], body + b"\x08", body + body, b"\xff" * 40):
        with pytest.raises(UnreadableNotice):
            parse_notice(broken, EXPLICIT, BYTES_MAX)


def test_a_notice_that_would_grow_beyond_its_limit_is_not_inflated() -> None:
    body = encoded(notice(*map(instance, range(100))), DEFLATED)
    assert len(body) < 4_096
    with pytest.raises(UnreadableNotice):
        parse_notice(body, DEFLATED, 4_096)


@functools.cache
def _bodies() -> tuple[bytes, ...]:
    return tuple(encoded(notice(instance(1), instance(2)), syntax) for syntax in (IMPLICIT, EXPLICIT))


@given(st.sampled_from([0, 1]), st.integers(0, 400), st.binary(max_size=6), st.integers(0, 6))
def test_a_spoilt_notice_is_read_or_refused_and_never_anything_else(
    which: int, at: int, put: bytes, taken: int
) -> None:
    body = _bodies()[which]
    spoilt = body[:at] + put + body[at + taken :]
    try:
        found = parse_notice(spoilt, (IMPLICIT, EXPLICIT)[which], BYTES_MAX)
    except UnreadableNotice as error:
        assert error.status is not NoticeStatus.SUCCESS
    else:
        assert found.study_uid and found.instances


# --- at the door ---


class Desk:
    """Who is told; keeps it, or fails as a test says."""

    def __init__(self) -> None:
        self.told: list[tuple[TrustId, Notice | None]] = []
        self.beats: list[TrustId] = []
        self.error: Exception | None = None

    async def take(self, caller: Caller, notice: Notice) -> None:
        """See `TakesNotices`."""
        self._fail()
        self.told.append((caller.principal.trust, notice))

    async def not_read(self, caller: Caller) -> None:
        """See `TakesNotices`."""
        self._fail()
        self.told.append((caller.principal.trust, None))

    async def heartbeat(self, caller: Caller) -> None:
        """See `TakesNotices`."""
        self._fail()
        self.beats.append(caller.principal.trust)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def house_of(desk: Desk, doorkeeper: Doorkeeper | None = None, **more: object) -> AsyncIterator[House]:
    """A door that takes notices of at most `BYTES_MAX`; long ones are read in a thread."""

    async def elsewhere(reading: Reading) -> Notice:
        return await asyncio.to_thread(reading)

    services = availability_services(desk, bytes_max=BYTES_MAX, new_uid=lambda: "2.25.7", elsewhere=elsewhere)
    arguments = {"services": services, "sink_for": buffers(BYTES_MAX), **more}
    async with opened(Shelf(), doorkeeper or Doorkeeper(PACS), **arguments) as house:  # type: ignore[arg-type]  # by name
        yield house


async def send(
    caller: Client,
    body: bytes | None,
    sop_instance_uid: str = "1.2.3.4",
    field: CommandField = CommandField.N_CREATE_RQ,
) -> Command:
    """Send a notice; the response."""
    command = Command(
        field,
        caller.association.next_message_id(),
        sop_class_uid=IAN,
        sop_instance_uid=sop_instance_uid,
        has_data=body is not None,
    )
    await caller.association.send(caller.context(IAN), command, *([] if body is None else [body]))
    return (await caller.hear()).last


async def answered(desk: Desk, body: bytes | None, sop_instance_uid: str = "1.2.3.4") -> Command:
    """What is answered to one notice."""
    async with house_of(desk) as house, client(house.port, proposal(IAN)) as caller:
        response = await send(caller, body, sop_instance_uid)
        assert house.figures.answered == [("N_CREATE_RQ", response.status)]
        return response


async def test_a_notice_is_taken_for_the_callers_trust_and_answered_under_its_own_uid() -> None:
    desk = Desk()
    response = await answered(desk, encoded(notice()))
    assert (response.field, response.status, response.error_comment) == (CommandField.N_CREATE_RSP, 0, "")
    assert (response.sop_class_uid, response.sop_instance_uid) == (IAN, "1.2.3.4")
    assert desk.told == [(TrustId("RZ1"), Notice(STUDY, 1, is_available=True))]


async def test_a_notice_without_a_uid_is_given_one() -> None:
    assert (await answered(Desk(), encoded(notice()), sop_instance_uid="")).sop_instance_uid == "2.25.7"


async def test_the_same_notice_sent_again_is_taken_again() -> None:
    desk = Desk()
    async with house_of(desk) as house, client(house.port, proposal(IAN)) as caller:
        statuses = [(await send(caller, encoded(notice()))).status for _ in range(2)]
    assert statuses == [0, 0] and len(desk.told) == 2


async def test_what_cannot_be_read_is_refused_in_words_and_noted() -> None:
    desk, empty = Desk(), Dataset()
    empty.StudyInstanceUID = STUDY
    response = await answered(desk, encoded(empty))
    assert (response.status, response.error_comment) == (0x0120, "ReferencedSeriesSequence is missing")
    assert (await answered(desk, None)).status == 0x0120
    assert (await answered(desk, b"\xff" * 40)).status == 0x0110
    assert desk.told == [(TrustId("RZ1"), None)] * 3


async def test_a_long_notice_is_read_and_one_beyond_the_limit_refused_while_the_association_lives_on() -> None:
    desk = Desk()
    whole = encoded(notice(*map(instance, range(500))))
    assert READ_AT_ONCE_BYTES_MAX < len(whole) < BYTES_MAX
    async with house_of(desk) as house, client(house.port, proposal(IAN)) as caller:
        assert (await send(caller, whole)).status == 0
        refused = await send(caller, whole.ljust(BYTES_MAX + 2, b"\0"))
        assert (refused.status, refused.error_comment) == (0x0213, f"the notice is longer than {BYTES_MAX} bytes")
        assert (await send(caller, encoded(notice()))).status == 0
    assert [told and told.instances for _, told in desk.told] == [500, None, 1]


@pytest.mark.parametrize(
    ("error", "status", "comment"),
    [
        (OverCapacity("too many wait"), 0x0213, "too many wait"),
        (InvalidRequest("no archive of your trust is known here"), 0x0124, "no archive of your trust is known here"),
        (StoreUnavailable("the database is gone"), 0x0110, "the gateway cannot work at this moment"),
        (RuntimeError("a bug"), 0x0110, ""),
    ],
)
async def test_what_was_not_heard_is_told_so(error: Exception, status: int, comment: str) -> None:
    desk = Desk()
    desk.error = error
    response = await answered(desk, encoded(notice()))
    assert (response.status, response.error_comment) == (status, comment)


@pytest.mark.parametrize(("error", "status"), [(NotIdentified("gone"), 0x0124), (AuditUnavailable("full"), 0x0110)])
async def test_a_notifier_is_identified_anew_for_each_notice(error: GatewayError, status: int) -> None:
    desk, doorkeeper = Desk(), Doorkeeper(PACS)
    async with house_of(desk, doorkeeper) as house, client(house.port, proposal(IAN)) as caller:
        assert (await send(caller, encoded(notice()))).status == 0
        doorkeeper.error = error
        assert (await send(caller, encoded(notice()))).status == status
    assert len(desk.told) == 1


async def test_another_command_is_none_of_this_class() -> None:
    async with house_of(Desk()) as house, client(house.port, proposal(IAN)) as caller:
        assert (await send(caller, None, field=CommandField.N_GET_RQ)).status == 0x0211


async def test_an_echo_is_a_heartbeat_only_on_a_notifiers_association() -> None:
    desk = Desk()
    async with house_of(desk) as house:
        async with client(house.port) as viewer:
            assert await viewer.echo() == 0
        assert desk.beats == []
        async with client(house.port, proposal(VERIFICATION, IAN)) as notifier:
            assert await notifier.echo() == 0
            desk.error = StoreUnavailable("the database is gone")
            assert await notifier.echo() == 0
    assert desk.beats == [TrustId("RZ1")]


# --- a foreign notifier ---


BOUND = CallerBinding(
    "rz2-pacs", TrustId("RZ2"), certificate_name="pacs.eastvale.example", ae_titles=("EASTVALE_PACS",)
)


def notified(port: int, title: str, authority: Authority, files: Files | None, attributes: Dataset) -> int | None:
    """The status that pynetdicom gets for a notice, by TLS with this certificate; None: no association."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if files is not None:
        context.load_cert_chain(files.certificate, files.private_key)
    notifier = AE(title)
    notifier.requested_contexts = []
    notifier.add_requested_context(IAN)
    notifier.acse_timeout = notifier.dimse_timeout = notifier.connection_timeout = HANG_S
    opened_sockets: list[socket.socket] = []
    # pynetdicom leaves one open that the other end has closed.
    association = notifier.associate(
        "localhost",
        port,
        ae_title="GATEWAY",
        tls_args=(context, "localhost"),
        evt_handlers=[(evt.EVT_CONN_OPEN, lambda event: opened_sockets.append(event.assoc.dul.socket.socket))],
    )
    try:
        if not association.is_established:
            return None
        status, _ = association.send_n_create(attributes, IAN, "1.2.3.4")
        association.release()
        return int(status.Status)
    finally:
        for each in opened_sockets:
            each.close()


@pytest.mark.peer
async def test_pynetdicom_notifies_by_tls_with_the_certificate_of_its_trust_alone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    own, pacs, other = (authority.issue(name) for name in ("localhost", "pacs.eastvale.example", "x.example"))
    secure = tls.server_context(tls.ServerFiles(own.certificate, own.private_key, authority.certificate))
    desk = Desk()
    async with house_of(desk, Doorkeeper(BOUND), secure=secure) as house:

        async def status(title: str, files: Files | None) -> int | None:
            return await asyncio.to_thread(notified, house.port, title, authority, files, notice())

        assert await status("EASTVALE_PACS", pacs) == 0
        for title, files in (("EASTVALE_PACS", other), ("SOMEBODY", pacs), ("EASTVALE_PACS", None)):
            assert await status(title, files) is None
    assert [trust for trust, _ in desk.told] == [TrustId("RZ2")]
