"""The DIMSE door: who is let in, how many at once, what answers, and how it closes (PS3.7 D.3; threats.md 2)."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest
from structlog.testing import capture_logs

from dimse.server import LOGGED_PER_MINUTE_MAX, stated_identity
from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association, AssociationEnded, AssociationFailure, AssociationRejected
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import Message
from dimse.upper_layer.wire import Ended
from gateway import tls
from gateway.model import errors
from gateway.model.errors import AuditUnavailable
from gateway.model.settings import Limits
from gateway.sharing.directory import Directory
from policy.identity import CallerBinding
from policy.parties import TrustId
from tests.dimse.door import (
    EXPLICIT,
    HANG_S,
    IMPLICIT,
    PACS,
    STUDY_ROOT,
    VERIFICATION,
    Doorkeeper,
    House,
    Shelf,
    client,
    identifier,
    opened,
    proposal,
)
from tests.gateway.certificates import Authority, Files
from tests.sharing.rows import ANNE

OTHER = CallerBinding("rz1-viewer", TrustId("RZ1"), loopback_only=True, ae_titles=("RZ1_VIEWER",))
CT = "1.2.840.10008.5.1.4.1.1.2"
FIND = identifier("STUDY", PatientID=ANNE.digits)
CALLING, CALLED = pdu.CALLING_AE_TITLE_NOT_RECOGNISED, pdu.CALLED_AE_TITLE_NOT_RECOGNISED


async def rejection(house: House, request: pdu.AssociateRequest) -> pdu.AssociateReject:
    with pytest.raises(AssociationRejected) as rejected:
        async with client(house.port, request):
            pass
    return rejected.value.reject


# --- who is let in ---


async def test_a_known_caller_is_let_in_and_echoes() -> None:
    async with opened(Shelf(), Doorkeeper(PACS)) as house, client(house.port) as caller:
        assert await caller.echo() == 0x0000
        assert house.figures.open == 1 and house.figures.answered == [("C_ECHO_RQ", 0x0000)]


@pytest.mark.parametrize(
    ("request_", "reject", "reason"),
    [
        (proposal(called="GATEWAY2"), CALLED, "called-ae-title"),
        (proposal(called="gateway"), CALLED, "called-ae-title"),
        (proposal(calling="STRANGER"), CALLING, "caller-not-identified"),
        (proposal(calling="rz1_pacs"), CALLING, "caller-not-identified"),
        (replace(proposal(), calling_ae_title=""), CALLING, "caller-not-identified"),
        (replace(proposal(), protocol_version=2), pdu.PROTOCOL_VERSION_NOT_SUPPORTED, "not-negotiated"),
        (replace(proposal(), application_context="1.2.3"), pdu.APPLICATION_CONTEXT_NOT_SUPPORTED, "not-negotiated"),
    ],
)
async def test_whoever_is_not_let_in_learns_why_by_the_standards_numbers(
    request_: pdu.AssociateRequest, reject: pdu.AssociateReject, reason: str
) -> None:
    async with opened(Shelf(), Doorkeeper(PACS)) as house:
        assert await rejection(house, request_) == reject
        assert house.figures.refused == {reason: 1} and house.figures.open == 0


async def test_a_stranger_is_recorded_with_all_that_it_showed() -> None:
    directory = Doorkeeper(PACS)
    identity = pdu.UserIdentity(1, False, b"consultant")
    async with opened(Shelf(), directory) as house:
        await rejection(house, proposal(calling="STRANGER", identity=identity))
    [shown] = directory.strangers
    assert (shown.ae_title, shown.called_ae_title, shown.address) == ("STRANGER", "GATEWAY", "127.0.0.1")
    assert shown.stated_identity == "username consultant"


@pytest.mark.parametrize("error", [errors.AuditUnavailable("disk full"), errors.ServiceFault("starting")])
async def test_where_nobody_can_be_identified_or_recorded_callers_are_asked_to_come_later(
    error: errors.GatewayError,
) -> None:
    directory = Doorkeeper(PACS)
    directory.error = error
    async with opened(Shelf(), directory) as house:
        assert await rejection(house, proposal()) == pdu.TEMPORARY_CONGESTION


@pytest.mark.parametrize(("calling", "called"), [("rz1_pacs", "GATEWAY"), ("RZ1_PACS", "Gateway")])
async def test_a_title_that_differs_in_case_alone_is_worth_a_word(calling: str, called: str) -> None:
    async with opened(Shelf(), Doorkeeper(PACS)) as house:
        with capture_logs() as logs:
            await rejection(house, proposal(calling=calling, called=called))
    [line] = [each for each in logs if each["event"] == "association rejected"]
    assert line["log_level"] == "warning"
    assert (line["shown"], line["differs_in_case_from"]) in [("rz1_pacs", "RZ1_PACS"), ("Gateway", "GATEWAY")]


async def test_many_rejections_do_not_fill_the_log() -> None:
    async with opened(Shelf(), Doorkeeper(PACS)) as house:
        with capture_logs() as logs:
            for _ in range(LOGGED_PER_MINUTE_MAX + 5):
                await rejection(house, proposal(called="NOBODY"))
    assert len([each for each in logs if each["event"] == "association rejected"]) == LOGGED_PER_MINUTE_MAX
    assert house.figures.refused["called-ae-title"] == LOGGED_PER_MINUTE_MAX + 5


@pytest.mark.parametrize(
    ("identity", "stated"),
    [
        (None, ""),
        (pdu.UserIdentity(1, False, b""), ""),
        (pdu.UserIdentity(1, True, "Łucja".encode()), "username Łucja"),
        (pdu.UserIdentity(1, False, b"a\r\nb\x00"), "username a??b?"),
        (pdu.UserIdentity(1, False, b"\xff" * 100), "username " + "�" * 64),
        (pdu.UserIdentity(2, False, b"user", b"secret"), "username user"),
        (pdu.UserIdentity(5, False, b"a.b.c"), f"jwt sha256:{hashlib.sha256(b'a.b.c').hexdigest()}"),
        (pdu.UserIdentity(3, False, b"t"), f"kerberos sha256:{hashlib.sha256(b't').hexdigest()}"),
        (pdu.UserIdentity(4, False, b"t"), f"saml sha256:{hashlib.sha256(b't').hexdigest()}"),
        (pdu.UserIdentity(99, False, b"t"), f"kind 99 sha256:{hashlib.sha256(b't').hexdigest()}"),
    ],
)
def test_a_claimed_user_is_kept_as_a_name_or_as_a_digest_of_what_may_be_a_secret(
    identity: pdu.UserIdentity | None, stated: str
) -> None:
    assert stated_identity(identity) == stated


async def test_a_claimed_user_goes_with_the_question_and_changes_nothing_else() -> None:
    shelf = Shelf()
    identity = pdu.UserIdentity(1, True, b"consultant")
    async with opened(shelf, Doorkeeper(PACS)) as house, client(house.port, proposal(identity=identity)) as caller:
        await caller.find(FIND)
    [(asker, _)] = shelf.asked
    assert asker.stated_identity == "username consultant" and asker.principal.subject == "rz1-pacs"


# --- over TLS ---


@dataclass(frozen=True)
class Keys:
    """Certificates of a region: the gateway's, and those of two callers."""

    authority: Authority
    gateway: Files
    rz1: Files
    rz2: Files

    def secure(self) -> ssl.SSLContext:
        """What the door shows, and asks for."""
        ours = tls.ServerFiles(self.gateway.certificate, self.gateway.private_key, self.authority.certificate)
        return tls.server_context(ours)

    def of(self, files: Files) -> ssl.SSLContext:
        """What a caller shows."""
        return tls.client_context(tls.ClientFiles(files.certificate, files.private_key, self.authority.certificate))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    gateway = authority.issue("gateway", "127.0.0.1")
    return Keys(authority, gateway, authority.issue("rz1.example"), authority.issue("rz2.example"))


BOUND = CallerBinding("rz1-pacs", TrustId("RZ1"), certificate_name="rz1.example", ae_titles=("RZ1_PACS",))
NEIGHBOUR = CallerBinding("rz2-pacs", TrustId("RZ2"), certificate_name="rz2.example", ae_titles=("RZ2_PACS",))


async def test_a_caller_is_its_certificate_with_its_title(keys: Keys) -> None:
    shelf, shown = Shelf(), keys.of(keys.rz1)
    over_tls = opened(shelf, Doorkeeper(BOUND, NEIGHBOUR), secure=keys.secure())
    async with over_tls as house, client(house.port, secure=shown) as caller:
        assert (await caller.find(FIND)).last.status == 0x0000
    [(asker, _)] = shelf.asked
    assert asker.principal.subject == "rz1-pacs"
    assert asker.principal.proven_by == {"dimse", "certificate", "ae-title"}


async def test_one_trusts_certificate_with_anothers_title_is_nobody(keys: Keys) -> None:
    directory = Doorkeeper(BOUND, NEIGHBOUR)
    async with opened(Shelf(), directory, secure=keys.secure()) as house:
        with pytest.raises(AssociationRejected) as rejected:
            async with client(house.port, proposal(calling="RZ2_PACS"), secure=keys.of(keys.rz1)):
                pass
    assert rejected.value.reject == CALLING
    assert directory.strangers[0].certificate_sha256 == keys.rz1.fingerprint


async def test_a_title_without_its_certificate_is_nobody() -> None:
    async with opened(Shelf(), Doorkeeper(BOUND)) as house:
        assert await rejection(house, proposal()) == CALLING


# --- how many at once ---


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(dimse_associations_max=2), "too-many-associations"),
        (Limits(dimse_associations_per_address_max=2), "too-many-associations-from-one-address"),
        (Limits(dimse_associations_per_caller_max=2), "too-many-associations-of-one-caller"),
    ],
)
async def test_one_association_past_a_limit_is_rejected_at_once_until_another_ends(limits: Limits, reason: str) -> None:
    async with opened(Shelf(), Doorkeeper(PACS), limits=limits) as house, client(house.port) as first:
        async with client(house.port) as second:
            assert await rejection(house, proposal()) == pdu.LOCAL_LIMIT_EXCEEDED
            assert house.figures.refused == {reason: 1}
            assert (await first.echo(), await second.echo()) == (0x0000, 0x0000)
            await second.association.release()
        async with client(house.port) as third:
            assert await third.echo() == 0x0000


async def test_one_callers_associations_leave_room_for_anothers() -> None:
    limits = Limits(dimse_associations_per_caller_max=1)
    viewer = proposal(calling="RZ1_VIEWER")
    of_two = opened(Shelf(), Doorkeeper(PACS, OTHER), limits=limits)
    async with of_two as house, client(house.port), client(house.port, viewer) as other:
        assert await other.echo() == 0x0000


async def test_associations_that_end_in_any_way_give_their_places_back() -> None:
    async with opened(Shelf(), Doorkeeper(PACS)) as house:
        for end in (Association.abort, Association.release):
            async with client(house.port) as caller:
                found = end(caller.association)
                if found is not None:
                    await found
        async with client(house.port, proposal(CT)):
            pass  # nothing of it was accepted, and it is an association all the same
        await house_is_empty(house)
        assert house.figures.open == 0


async def house_is_empty(house: House) -> None:
    """Stop the door, which returns when the last association is gone."""
    async with asyncio.timeout(HANG_S):
        await house.door.stop()


# --- what answers ---


async def test_what_is_not_offered_is_refused_context_by_context() -> None:
    async with opened(Shelf(), Doorkeeper(PACS)) as house, client(house.port, proposal(CT, VERIFICATION)) as caller:
        accepted = caller.association.terms.contexts.values()
        assert [each.abstract_syntax for each in accepted] == [VERIFICATION]


@pytest.mark.parametrize(("asked", "taken"), [((IMPLICIT,), IMPLICIT), ((IMPLICIT, EXPLICIT), EXPLICIT)])
async def test_implicit_vr_is_always_taken_and_explicit_preferred(asked: tuple[str, ...], taken: str) -> None:
    request = proposal(VERIFICATION, STUDY_ROOT, syntaxes=asked)
    async with opened(Shelf(), Doorkeeper(PACS)) as house, client(house.port, request) as caller:
        assert {each.transfer_syntax for each in caller.association.terms.contexts.values()} == {taken}
        assert await caller.echo() == 0x0000


@pytest.mark.parametrize(
    ("context", "field", "sop_class", "status"),
    [
        (VERIFICATION, CommandField.C_ECHO_RQ, STUDY_ROOT, 0x0122),
        (STUDY_ROOT, CommandField.C_FIND_RQ, CT, 0x0122),
        (STUDY_ROOT, CommandField.C_ECHO_RQ, STUDY_ROOT, 0x0211),
        (STUDY_ROOT, CommandField.C_MOVE_RQ, STUDY_ROOT, 0x0211),
        (VERIFICATION, CommandField.N_GET_RQ, VERIFICATION, 0x0211),
    ],
)
async def test_a_request_that_its_context_does_not_have_is_refused_and_the_next_one_answered(
    context: str, field: CommandField, sop_class: str, status: int
) -> None:
    async with opened(Shelf(), Doorkeeper(PACS)) as house, client(house.port) as caller:
        request = Command(field, 7, sop_class_uid=sop_class, sop_instance_uid="1.2.3", move_destination="X")
        await caller.association.send(caller.context(context), request)
        found = await caller.hear()
        assert (found.last.status, found.last.message_id) == (status, 7)
        assert found.last.field == field | 0x8000
        assert await caller.echo() == 0x0000


async def test_a_response_that_nobody_waits_for_ends_the_association() -> None:
    async with opened(Shelf(), Doorkeeper(PACS)) as house, client(house.port) as caller:
        await caller.association.send(
            caller.context(VERIFICATION), Command(CommandField.C_ECHO_RSP, 1, sop_class_uid=VERIFICATION, status=0)
        )
        with pytest.raises(AssociationEnded) as ended:
            await caller.hear()
        assert ended.value.why is Ended.ABORTED_BY_PEER


class Keeps:
    """A service of another class."""

    command = CommandField.C_STORE_RQ
    transfer_syntaxes = (EXPLICIT,)

    async def answer(self, association: Association, message: Message, identify: Callable[[], object]) -> int:
        """See `Service`."""
        await association.send(message.context.context_id, response(message.command, 0xB007))
        return 0xB007


async def test_a_service_that_is_given_answers_its_own_class() -> None:
    services = {CT: Keeps()}
    async with (
        opened(Shelf(), Doorkeeper(PACS), services=services) as house,
        client(house.port, proposal(CT)) as caller,
    ):
        request = Command(CommandField.C_STORE_RQ, 1, sop_class_uid=CT, sop_instance_uid="1.2.3", has_data=True)
        await caller.association.send(caller.context(CT), request, b"\0" * 8)
        assert (await caller.hear()).last.status == 0xB007


# --- reload and drain ---


async def test_a_reload_ends_the_associations_of_callers_who_are_gone_and_no_others() -> None:
    directory = Doorkeeper(PACS, OTHER)
    viewer = proposal(calling="RZ1_VIEWER")
    async with opened(Shelf(), directory) as house, client(house.port) as gone, client(house.port, viewer) as stays:
        directory.directory = Directory([], [OTHER])
        await house.door.rejudge()
        with pytest.raises(AssociationFailure):
            await gone.echo()
        assert await stays.echo() == 0x0000


async def test_a_reload_while_nothing_can_be_recorded_ends_nobodys_association() -> None:
    directory = Doorkeeper(PACS)
    async with opened(Shelf(), directory) as house, client(house.port) as caller:
        directory.error = AuditUnavailable("not recorded")
        await house.door.rejudge()
        assert await caller.echo() == 0x0000


async def test_a_reload_ends_the_associations_to_a_title_that_means_another_trust_now_and_no_others() -> None:
    aliases = {"RZ2_ONLY": TrustId("RZ2"), "RZ3_ONLY": TrustId("RZ3"), "RZ4_ONLY": TrustId("RZ4")}
    async with opened(Shelf(), Doorkeeper(PACS), aliases=aliases) as house, AsyncExitStack() as stack:
        titles = [*aliases, "GATEWAY"]
        callers = [await stack.enter_async_context(client(house.port, proposal(called=title))) for title in titles]
        del aliases["RZ2_ONLY"]
        aliases["RZ3_ONLY"] = TrustId("RZ2")
        await house.door.rejudge()
        for gone in callers[:2]:
            with pytest.raises(AssociationFailure):
                await gone.echo()
        assert [await kept.echo() for kept in callers[2:]] == [0, 0]
        assert await rejection(house, proposal(called="RZ2_ONLY")) == CALLED


async def test_a_reload_that_gives_a_title_to_another_caller_ends_its_associations() -> None:
    directory = Doorkeeper(PACS)
    async with opened(Shelf(), directory) as house, client(house.port) as caller:
        directory.directory = Directory([], [replace(PACS, name="rz1-new-pacs")])
        await house.door.rejudge()
        with pytest.raises(AssociationFailure):
            await caller.echo()


async def test_a_door_that_stops_releases_who_is_idle_and_finishes_who_is_at_work() -> None:
    shelf = Shelf()
    shelf.may_answer.clear()
    async with opened(shelf, Doorkeeper(PACS)) as house, client(house.port) as idle, client(house.port) as busy:
        await busy.ask(FIND)
        await shelf.is_asked.wait()
        stopping = asyncio.create_task(house.door.stop())
        async with asyncio.timeout(HANG_S):
            assert (await idle.association.over()).why is Ended.RELEASED
        assert await rejection(house, proposal()) == pdu.TEMPORARY_CONGESTION
        assert not stopping.done()
        shelf.may_answer.set()
        assert (await busy.hear()).end == (0x0000, "")
        async with asyncio.timeout(HANG_S):
            assert (await busy.association.over()).why is Ended.RELEASED
            await stopping


async def test_a_door_that_is_closed_aborts_who_is_still_there() -> None:
    shelf = Shelf()
    shelf.may_answer.clear()
    async with opened(shelf, Doorkeeper(PACS)) as house, client(house.port) as busy:
        await busy.ask(FIND)
        await shelf.is_asked.wait()
        house.door.close()
        async with asyncio.timeout(HANG_S):
            assert (await busy.association.over()).why is Ended.ABORTED_BY_PEER
            await shelf.is_stopped.wait()
