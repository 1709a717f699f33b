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
) -> Association:
    """An established association.

    Raises `NotConnected`, `AssociationRejected`, or `AssociationEnded` where the other end hung up, aborted or said
    nothing within ARTIM's time.
    """
    association, wire = requesting(request, limits, buffer if buffer is not None else receive_buffer())
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(connect_timeout_s):
            await loop.create_connection(
                lambda: wire,
                host,
                port,
                ssl=tls,
                server_hostname=host if tls is not None else None,
                ssl_shutdown_timeout=LINGER_S if tls is not None else None,
            )
    except TimeoutError as error:
        raise NotConnected("no connection in time") from error
    except ssl.SSLError as error:
        raise NotConnected(f"no TLS connection: {error.reason or 'refused'}") from error
    except OSError as error:
        raise NotConnected("no connection") from error
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
