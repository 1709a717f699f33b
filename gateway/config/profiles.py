"""Read what `gateway doctor` found out about an archive into its [[peer]]: habits, model, character set, limits.

A profile is a small TOML file that a [[peer]] names by `profile`. What the [[peer]] says itself wins over it, setting
by setting, so that an operator can overrule the doctor and a later examination cannot overrule the operator.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

SETTINGS = frozenset({"quirks", "model", "character_set", "limits"})
"""What a profile may say."""
FILE_BYTES_MAX = 64 * 1024


def with_profiles(tables: dict[str, object], folder: Path) -> Iterator[str]:
    """Fill every [[peer]] of `tables` with what its profile says beyond it; yields what is wrong with profiles.

    A file that is not there is left to whoever checks the setting that names it.
    """
    peers = tables.get("peer")
    if not isinstance(peers, list):
        return
    filled: list[object] = []
    for number, peer in enumerate(peers, start=1):
        name = peer.get("profile") if isinstance(peer, dict) else None
        path = folder / Path(name).expanduser() if isinstance(name, str) else None
        if path is None or not path.is_file():
            filled.append(peer)
            continue
        place = f"peer {number} ({peer.get('trust', '?')}).profile"
        try:
            found = _read(path)
        except (OSError, ValueError) as error:  # of TOML and UTF-8 alike
            yield f"{place}: {path} cannot be read: {error}"
            found = {}
        yield from (f"{place}: {path}: {word}: no such setting" for word in sorted(found.keys() - SETTINGS))
        filled.append(_under({word: found[word] for word in found.keys() & SETTINGS}, peer))
    tables["peer"] = filled


def _under(found: dict[str, object], peer: dict[str, object]) -> dict[str, object]:
    """What the [[peer]] says, and beyond it what was found; limits one by one."""
    limits, own = found.get("limits"), peer.get("limits", {})
    if isinstance(limits, dict) and isinstance(own, dict):
        return {**found, **peer, "limits": {**limits, **own}}
    return {**found, **peer}


def _read(path: Path) -> dict[str, object]:
    if path.stat().st_size > FILE_BYTES_MAX:
        raise ValueError(f"it is larger than {FILE_BYTES_MAX:,} bytes")
    return tomllib.loads(path.read_text(encoding="utf-8"))
