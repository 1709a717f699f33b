"""What goes wrong in an exchange with an archive over HTTP, in the core's words: statuses, and a library's exceptions.

An address holds a patient's number and a library's exception may quote one: neither is ever part of what is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import aiohttp

from gateway.model.errors import PeerProtocolError, PeerRefused, PeerTimeout, PeerUnavailable
from policy.parties import TrustId

_RETRY_LATER = frozenset({408, 425, 429})
_ANSWERS = frozenset({HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.PARTIAL_CONTENT})


@contextmanager
def told_as_peer_errors(trust: TrustId) -> Iterator[None]:
    """Raise what aiohttp raises as the `PeerError` that it means."""
    try:
        yield
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
        raise PeerUnavailable(trust, "no connection") from error
    except TimeoutError as error:
        raise PeerTimeout(trust, "the archive stopped answering") from error
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, OSError) as error:
        raise PeerUnavailable(trust, "the connection broke") from error
    except aiohttp.ClientError as error:
        raise PeerProtocolError(trust, "the answer is not HTTP as it should be") from error


def check_status(trust: TrustId, status: int) -> None:
    """Raise the `PeerError` that a status means, but for one that announces an answer (200, 204, 206)."""
    if status in _ANSWERS:
        return
    if 300 <= status < 400:
        raise PeerProtocolError(trust, "the answer is a redirect to elsewhere")
    if status in _RETRY_LATER or status >= 500:
        raise PeerUnavailable(trust, f"the archive answered with status {status}")
    if status >= 400:
        raise PeerRefused(trust, f"the archive refused with status {status}")
    raise PeerProtocolError(trust, f"the answer has the unexpected status {status}")
