"""Open an association as requestor: connect, TLS if asked, propose, and wait for the answer; each with its time."""

from __future__ import annotations

import asyncio
import ssl

from dimse.upper_layer.association import (
    RECEIVE_BUFFER_BYTES,
    Association,
    AssociationEnded,
    AssociationFailure,
    AssociationLimits,
    requesting,
)
from dimse.upper_layer.pdu import AssociateRequest
from dimse.upper_layer.wire import LINGER_S, Ended


class NotConnected(AssociationFailure):
    """Nobody could be reached at the address, or not as TLS wants it. The text says which, without addresses."""


def receive_buffer() -> memoryview:
    """A buffer for all associations of one requestor on one loop."""
    return memoryview(bytearray(RECEIVE_BUFFER_BYTES))


async def associate(
    host: str,
    port: int,
    request: AssociateRequest,
    limits: AssociationLimits,
    *,
    tls: ssl.SSLContext | None,
    connect_timeout_s: float,
    buffer: memoryview | None = None,
    takes_inflows: bool = False,
) -> Association:
    """An established association; `takes_inflows`: see `Association`.

    Raises `NotConnected`, `AssociationRejected`, or `AssociationEnded` where the other end hung up, aborted or said
    nothing within ARTIM's time.
    """
    association, wire = requesting(request, limits, buffer if buffer is not None else receive_buffer())
    association.takes_inflows = takes_inflows
    is_connected = False
    try:
        async with asyncio.timeout(connect_timeout_s):
            await asyncio.get_running_loop().create_connection(
                lambda: wire,
                host,
                port,
                ssl=tls,
                server_hostname=host if tls is not None else None,
                ssl_shutdown_timeout=LINGER_S if tls is not None else None,
            )
        is_connected = True
    except OSError as error:  # TimeoutError and ssl.SSLError are such
        # What it came through holds the connection, and that would hold the error.
        raise NotConnected(_why(error)) from error.with_traceback(None)
    finally:
        if not is_connected:
            del association.wire  # they know each other, and no end will come that parts them
    try:
        async with asyncio.timeout(limits.wire.artim_timeout_s):
            await association.established()
    except TimeoutError:
        association.abort("no answer to the association request")
        raise AssociationEnded(Ended.ABORTED_HERE, "no answer to the association request") from None
    except asyncio.CancelledError:
        association.abort("given up")
        raise
    return association


def _why(error: OSError) -> str:
    match error:
        case TimeoutError():
            return "no connection in time"
        case ssl.SSLError():
            return f"no TLS connection: {error.reason or 'refused'}"
        case _:
            return "no connection"
