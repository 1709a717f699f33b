"""What another gateway is told beside a question, and what it says beside its rows (DEC-01).

Reads `Gateway-Sources` (RFC 9651, as `dicomweb.notices` writes it), `Warning` and problem bodies as a stranger's: with
limits, and not at all where they are not what they should be. A gap there is a gap here: a trust whose gateway does not
say what became of it has not answered. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from dicomweb.listener import ASKING_TRUST_HEADER, PURPOSE_HEADER
from dicomweb.notices import CHECKED_OPENING, CONFLICT_OPENING, COVERAGE_OPENING, HELD_OPENING, MISSING_OPENING
from dicomweb.problem import TYPE_PREFIX
from gateway.model.errors import PeerError, PeerProtocolError, PeerRefused, PeerTimeout, PeerUnavailable
from gateway.model.imaging import SourceState
from gateway.model.seams import PeerRequest, ToldByGateway
from gateway.model.work.transfers import FetchRequest
from policy.parties import TrustId

FIELD_CHARS_MAX = 64 * 1024
"""Of all `Gateway-Sources` lines of one answer: far more than a hundred trusts need."""
PROBLEM_BYTES_MAX = 16 * 1024
MODALITIES_MAX = 100

_MEMBER = re.compile(
    r"""[ \t]*(?P<item>[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*")"""
    r"""(?P<parameters>(?:;[ ]*[a-z*][a-z0-9_.*-]*(?:=(?:[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*"""
    r"""|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"))?)*)[ \t]*(?:,|$)"""
)
_PARAMETER = re.compile(r"""([a-z*][a-z0-9_.*-]*)(?:=([^;"]+|"(?:[^"\\]|\\.)*"))?""")
_MODALITY = re.compile(r"[A-Z0-9_]{1,16}")
_PROBLEMS: Mapping[str, type[PeerError]] = {
    "peer-timeout": PeerTimeout,
    "peer-refused": PeerRefused,
    "peer-protocol": PeerProtocolError,
    "denied": PeerRefused,
}


@dataclass(frozen=True, slots=True)
class Said:
    """What a gateway says of one trust in a whole answer."""

    state: SourceState
    told: ToldByGateway

    @property
    def is_gap(self) -> bool:
        """Whether something of the trust may be missing, although it shares with the asker."""
        return self.state.is_missing


def asking_headers(request: PeerRequest | FetchRequest, trust: TrustId) -> dict[str, str]:
    """For whom it is asked, and why; raises `PeerRefused` for a question that nobody asks."""
    if request.asking_trust is None:
        raise PeerRefused(trust, "another gateway is asked for a trust, never for this gateway itself")
    return {ASKING_TRUST_HEADER: request.asking_trust.code, PURPOSE_HEADER: request.purpose.value}


def read_sources(lines: Sequence[str], trust: TrustId) -> Said:
    """What the gateway says of this trust; raises `PeerProtocolError` where it says nothing that can be read."""
    text = ", ".join(lines)
    if len(text) > FIELD_CHARS_MAX:
        raise PeerProtocolError(trust, "what the gateway says of its trusts is too long")
    found, at = None, 0
    while at < len(text):
        member = _MEMBER.match(text, at)
        if member is None or member.end() == at:
            raise PeerProtocolError(trust, "what the gateway says of its trusts cannot be read")
        at = member.end()
        if _plain(member["item"]) == trust.code:
            if found is not None:
                raise PeerProtocolError(trust, "the gateway says two things of the trust")
            found = _said(member["parameters"], trust)
    if found is None:
        raise PeerProtocolError(trust, "the gateway does not say what became of the trust")
    return found


def speaks_of_more(warning: str) -> bool:
    """Whether a warning tells of anything but what `Gateway-Sources` says already, trust by trust."""
    _, _, text = warning.partition(": ")
    return not text.startswith((MISSING_OPENING, COVERAGE_OPENING, CONFLICT_OPENING, HELD_OPENING, CHECKED_OPENING))


def failure_of(body: bytes, trust: TrustId, status: int) -> PeerError:
    """What a problem body of a gateway means for the trust; without a known one it is as if nobody could be reached."""
    kind: type[PeerError] = PeerUnavailable
    try:
        problem = orjson.loads(body)
    except orjson.JSONDecodeError:
        problem = None
    if isinstance(problem, dict) and isinstance(named := problem.get("type"), str):
        kind = _PROBLEMS.get(named.removeprefix(TYPE_PREFIX), kind)
    return kind(trust, f"the trust's gateway answered with status {status}")


def _said(parameters: str, trust: TrustId) -> Said:
    named = {key: _plain(value) for key, value in _PARAMETER.findall(parameters)}
    try:
        state = SourceState(named.get("state", ""))
    except ValueError as error:
        raise PeerProtocolError(trust, "the gateway gives the trust a state that there is not") from error
    only = None
    if state is SourceState.NOT_SHARED:
        only = frozenset[str]()
    elif "only" in named:
        words = named["only"].split()
        if not 0 < len(words) <= MODALITIES_MAX or not all(map(_MODALITY.fullmatch, words)):
            raise PeerProtocolError(trust, "the gateway names modalities that there are not")
        only = frozenset(words)
    return Said(state, ToldByGateway(only, "conflict" in named))


def _plain(text: str) -> str:
    """A token as it stands, or what stands in a string."""
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
