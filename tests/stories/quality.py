"""What custodians do about items of quality: see what is open, and put it right, by the operator's commands."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from gateway.demo.region import Region


async def custodians_told(region: Region, study_uid: str) -> frozenset[str]:
    """The ODS codes of those who have an open item of this study."""
    return frozenset(str(item["custodian"]) for item in await _open(region) if item["study"] == study_uid)


async def put_right(region: Region, study_uid: str, folder: Path) -> None:
    """Close every open item of a study, as its custodians would once it is put right.

    A running gateway hears of it within the second of DEC-12.
    """
    batch = folder / "put-right"
    commands = [
        ("quality", "resolve", str(item["item"]), "--by", "custodian", "--reason", "put right at the archive")
        for item in await _open(region)
        if item["study"] == study_uid
    ]
    batch.write_text("\n".join(map(shlex.join, commands)), encoding="utf-8")
    await region.must("batch", str(batch))


async def _open(region: Region) -> list[dict[str, object]]:
    items: list[dict[str, object]] = json.loads(await region.must("quality", "list", "--json"))
    return items
