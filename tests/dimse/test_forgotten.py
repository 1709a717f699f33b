"""An association that is over is forgotten at once, without waiting for the collector of cycles (G17).

Over TLS each holds hundreds of kilobytes, and the gateway lets the collector look seldom (`gateway/app.py`): what only
it could find would be gigabytes after some thousand associations of callers that open one for each question.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
import trustme

from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association, AssociationLimits, AssociationRejected, accepting
from dimse.upper_layer.requestor import NotConnected, associate
from dimse.upper_layer.wire import Wire
from tests.dimse.pair import ECHO, VERIFICATION, Listening, answer, context_of, proposal

HANG_S = 30.0

End = Callable[[Association, Listening], Awaitable[object]]


async def released(association: Association, _acceptor: Listening) -> None:
    await association.release()


async def aborted(association: Association, _acceptor: Listening) -> None:
    association.abort("done")


async def aborted_by_peer(_association: Association, acceptor: Listening) -> None:
    acceptor.associations[-1].abort("done")


async def given_up_while_receiving(association: Association, _acceptor: Listening) -> None:
    receiving = asyncio.create_task(association.receive())
    await asyncio.sleep(0)
    association.abort("done")
    await asyncio.gather(receiving, return_exceptions=True)


WAYS: dict[str, End] = {
    "released": released,
    "aborted": aborted,
    "aborted by the peer": aborted_by_peer,
    "given up while receiving": given_up_while_receiving,
}


def known() -> list[Association | Wire]:
    """Every association and every wire of this process."""
    return [each for each in gc.get_objects() if isinstance(each, Association | Wire)]


@pytest.fixture
def before() -> Iterator[list[Association | Wire]]:
    """What earlier tests still hold; cycles stay from here on."""
    gc.collect()
    gc.disable()
    yield known()
    gc.enable()


@pytest.fixture(params=["plain", "TLS"])
def contexts(request: pytest.FixtureRequest) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """The acceptor's and the requestor's; none for plain."""
    if request.param == "plain":
        return None, None
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@asynccontextmanager
async def acceptor(tls: ssl.SSLContext | None, reject: pdu.AssociateReject | None = None) -> AsyncIterator[Listening]:
    """An acceptor while the context is open, over TLS if that is given."""
    listening = Listening(answer, None, reject)
    new_protocol = accepting(listening, AssociationLimits())
    server = await asyncio.get_running_loop().create_server(new_protocol, "127.0.0.1", 0, ssl=tls)
    listening.port = int(server.sockets[0].getsockname()[1])
    try:
        yield listening
    finally:
        server.close()


async def wanted(port: int, tls: ssl.SSLContext | None) -> Association:
    """An association with the acceptor there."""
    return await associate("127.0.0.1", port, proposal(), AssociationLimits(), tls=tls, connect_timeout_s=HANG_S)


async def all_are_forgotten(before: list[Association | Wire]) -> None:
    """Return once there is no new association and no new wire; what only the collector could find would stay."""
    held = {id(each) for each in before}
    async with asyncio.timeout(HANG_S):
        while True:
            if all(id(each) in held for each in known()):
                return
            await asyncio.sleep(0.01)  # a connection has last words


@pytest.mark.parametrize("way", WAYS)
async def test_an_association_that_is_over_is_forgotten_at_both_ends(
    contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None], way: str, before: list[Association | Wire]
) -> None:
    async with acceptor(contexts[0]) as listening:

        async def used() -> None:
            association = await wanted(listening.port, contexts[1])
            await association.send(context_of(association, VERIFICATION), ECHO)
            await association.receive()
            await WAYS[way](association, listening)
            await association.over()
            listening.associations.clear()

        await used()
        await all_are_forgotten(before)


async def test_an_association_that_is_refused_is_forgotten_at_both_ends(
    contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None], before: list[Association | Wire]
) -> None:
    async with acceptor(contexts[0], pdu.LOCAL_LIMIT_EXCEEDED) as listening:
        with suppress(AssociationRejected):
            await wanted(listening.port, contexts[1])
        listening.associations.clear()
        await all_are_forgotten(before)


async def test_an_association_without_a_connection_is_forgotten(before: list[Association | Wire]) -> None:
    async with acceptor(None) as listening:
        with suppress(NotConnected):
            await wanted(listening.port, ssl.create_default_context())  # which plain DICOM does not speak
    with suppress(NotConnected):
        await wanted(listening.port, None)
    await all_are_forgotten(before)
