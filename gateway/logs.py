"""Log events as JSON lines without patient data.

structlog writes; the standard library's logging is routed through it, so that a library's message obeys the same rules.
Events carry fields, never names, numbers, dates of birth or datasets. As a second line of defence every string that
leaves is scrubbed: what looks like an NHS number, the query of a URL, and control characters (a log is one line an
event, whatever a peer sends). The audit is not a log and never comes here.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor

from policy.parties import InvalidIdentifier, NhsNumber

FIELD_CHARS_MAX = 2_000
"""Characters kept of one string; the rest is cut."""
TRACEBACK_CHARS_MAX = 16_000

# Not inside a UID, a longer number or a hexadecimal id.
_NHS_NUMBER = re.compile(r"(?<![0-9A-Za-z.])[0-9]{3}[ \u00a0-]?[0-9]{3}[ \u00a0-]?[0-9]{4}(?![0-9A-Za-z]|\.[0-9])")
_QUERY = re.compile(r"\?[^\s\"'<>|]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_NUMBER = "[number]"


def configure(level: str, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Send this process's log events to `stream` (standard error) from now on; may be called again for a new level."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        scrub,
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    if as_json:
        renderer = structlog.processors.JSONRenderer(serializer=_json)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def set_level(level: str) -> None:
    """Write events of `level` (a name such as `info`) and above."""
    logging.getLogger().setLevel(level.upper())
    # Libraries tell of addresses and queries at these levels; ours is the one access log.
    for name in ("aiohttp.access", "sqlalchemy.engine", "asyncio", "alembic"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def scrub(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Clean every string of an event, however deep."""
    for key, value in event.items():
        if key == "exception":
            event[key] = _traceback(str(value))
        elif key not in ("timestamp", "_record", "_from_structlog"):
            event[key] = _clean(value)
    return event


def scrubbed(text: str) -> str:
    """Hide numbers that may be a patient's and the queries of URLs, escape control characters, cut what is long."""
    cut = text[:FIELD_CHARS_MAX] + "[cut]" * (len(text) > FIELD_CHARS_MAX)
    return _CONTROL.sub(_escaped, _hidden(cut))


def _traceback(text: str) -> str:
    """Keep the lines of a traceback, set off so that none can be taken for an event of its own."""
    clean = _CONTROL_BUT_LINES.sub(_escaped, _hidden(text[-TRACEBACK_CHARS_MAX:]))
    return "\n".join(f"    | {line}" for line in clean.split("\n"))


def _hidden(text: str) -> str:
    return _NHS_NUMBER.sub(_NUMBER, _QUERY.sub("?[query]", text))


def _escaped(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"


def _clean(value: object) -> object:
    match value:
        case str():
            return scrubbed(value)
        case bool() | None | float():
            return value
        case int():
            return _NUMBER if _is_nhs_number(str(value)) else value
        case Mapping():
            return {scrubbed(str(key)): _clean(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(one) for one in value]
        case _:
            return scrubbed(str(value))


def _is_nhs_number(digits: str) -> bool:
    try:
        NhsNumber.parse(digits)
    except InvalidIdentifier:
        return False
    return True


def _json(event: EventDict, **_options: object) -> str:
    return orjson.dumps(event, default=str).decode()
