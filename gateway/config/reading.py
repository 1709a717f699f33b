"""Read `gateway.toml` and the environment into one `Configuration`, or name everything that is wrong with it.

Environment variables `GATEWAY__SECTION__NAME` win over the file. Secrets are paths of files, never values. What one
value cannot say by itself (a caller of an unknown trust, plain HTTP to a distant peer) is judged in
`gateway.config.checks`. Facts about patients live in the database, never here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from gateway.config.configuration import Configuration
from gateway.config.profiles import with_profiles
from policy.settings import Mode

ENVIRONMENT_PREFIX = "GATEWAY__"
PROBLEMS_MAX = 200
"""Problems reported at once; a file with more is not a gateway's."""


class _Environment(Configuration, BaseSettings):
    """Tells pydantic-settings which variables to read; never validated itself."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__")


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read of a file, and what is wrong with the rest.

    `configuration` lacks the entries of `broken` lists that did not parse; broken single sections are at their
    defaults. None when nothing could be read at all.
    """

    configuration: Configuration | None
    problems: tuple[str, ...]
    broken: frozenset[str]


def read(path: Path) -> Reading:
    """Read the file and the environment over it. Raises nothing: everything wrong is in `problems`, with its path."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return Reading(None, (f"{path}: cannot be read: {error.strerror}",), frozenset())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return Reading(None, (f"{path}: not TOML: {error}",), frozenset())
    try:
        tables = _over(tables, EnvSettingsSource(_Environment)())
    except SettingsError as error:
        return Reading(None, (f"environment: {error}",), frozenset())
    # Their paths are relative to this file, by default too.
    for section in ("gateway", "audit", "storage", "keys", "viewer"):
        tables.setdefault(section, {})
    folder = path.absolute().parent
    problems = [*_unknown_variables(), *_modes(tables), *with_profiles(tables, folder)]
    return _validated(tables, folder, problems)


def _validated(tables: dict[str, object], folder: Path, problems: Sequence[str]) -> Reading:
    context = {"folder": folder}
    try:
        return Reading(Configuration.model_validate(tables, context=context), tuple(problems), frozenset())
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
    texts = [*problems, *(f"{_place(item['loc'], tables)}: {_words(item)}" for item in found[:PROBLEMS_MAX])]
    places = [item["loc"] for item in found]
    try:
        rest = Configuration.model_validate(_without(tables, places), context=context)
    except ValidationError:
        rest = None
    return Reading(rest, tuple(texts), frozenset(str(place[0]) for place in places))


def _over(lower: Mapping[str, object], upper: Mapping[str, object]) -> dict[str, object]:
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _unknown_variables() -> list[str]:
    names = [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]
    sections = Configuration.model_fields
    return [
        f"{name}: no such section"
        for name in sorted(names)
        if name.removeprefix(ENVIRONMENT_PREFIX).partition("__")[0].lower() not in sections
    ]


def _modes(tables: Mapping[str, object]) -> list[str]:
    policy = tables.get("policy")
    is_doubled = isinstance(policy, dict) and "mode" in policy
    return ["policy.mode: is set as gateway.mode, for all of the gateway"] * is_doubled


def _place(loc: tuple[int | str, ...], tables: Mapping[str, object]) -> str:
    """Write `("peer", 1, "url")` as `peer 2 (RX2).url`: people count from one and know entries by name."""
    if len(loc) < 2 or not isinstance(loc[1], int):
        return ".".join(map(str, loc))
    entries = tables.get(str(loc[0]))
    entry = entries[loc[1]] if isinstance(entries, list) and loc[1] < len(entries) else None
    names = [entry[key] for key in ("ods", "name", "trust") if key in entry] if isinstance(entry, dict) else []
    name = f" ({names[0]})" if names else ""
    # pydantic names the kind of peer that an entry was read as; the file has no such level.
    inner = loc[3:] if loc[0] == "peer" else loc[2:]
    return ".".join([f"{loc[0]} {loc[1] + 1}{name}", *map(str, inner)])


def _words(item: ErrorDetails) -> str:
    match item["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return "no such setting"
        case "missing":
            return "must be set"
        case "union_tag_invalid":
            return 'connector must be "dicomweb" or "dimse"'
        case _:
            pass
    message = item["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _without(tables: Mapping[str, object], places: Sequence[tuple[int | str, ...]]) -> dict[str, object]:
    """Leave out what is broken: an entry of a list, else the whole section."""
    entries = {(place[0], place[1]) for place in places if len(place) > 1 and isinstance(place[1], int)}
    whole = {place[0] for place in places} - {section for section, _ in entries}
    kept: dict[str, object] = {"gateway": {"mode": Mode.PRODUCTION}, "audit": {}, "storage": {}, "keys": {}}
    for section, value in tables.items():
        if section in whole:
            continue
        if isinstance(value, list):
            value = [entry for index, entry in enumerate(value) if (section, index) not in entries]  # noqa: PLW2901
        kept[section] = value
    return kept
