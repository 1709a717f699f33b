"""What an examination of an archive found: each finding with what it means, and what to set in the archive's profile.

Words for people who set up archives, not for protocol engineers alone. Holds no text that an archive sent but the names
it gives itself, and nothing of any patient. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from policy.parties import TrustId

TEXT_CHARS_MAX = 200
AT_ONCE = "peer_requests_at_once_max"
"""The limit of an archive that is found out."""


class Verdict(StrEnum):
    """How a check came out, from good to bad."""

    GOOD = "good"
    NOTE = "note"
    """Works, and is worth knowing."""
    SET = "set"
    """Works once the profile says so."""
    WARNING = "warning"
    """Answers will be worse for it, and no setting mends it."""
    FAILED = "failed"
    """Nothing can be asked until this is mended."""


class Layer(StrEnum):
    """What a check is of, from the wire up."""

    TCP = "tcp"
    TLS = "tls"
    ASSOCIATION = "association"
    ECHO = "c-echo"
    FIND = "c-find"
    HTTP = "http"
    QIDO = "qido"
    LIMITS = "limits"
    TEXT = "character set"
    BUCKET = "bucket"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check."""

    layer: Layer
    check: str
    verdict: Verdict
    found: str
    advice: str = ""
    """What to do about it, and who can; empty where nothing is to be done."""
    duration_s: float | None = None


@dataclass(slots=True)
class Report:
    """All findings about one archive, in the order of the checks; filled while it is examined."""

    trust: TrustId
    findings: list[Finding] = field(default_factory=list)
    quirks: set[str] = field(default_factory=set)
    """Habits that were seen, by the names that `quirks` of a peer takes."""
    settings: dict[str, str] = field(default_factory=dict)
    """Other values that its profile should have."""
    limits: dict[str, int] = field(default_factory=dict)
    """Limits that its profile should have, by the names of `[peer.limits]`."""
    quirks_refuted: set[str] = field(default_factory=set)
    """Habits that were looked for and not seen."""

    def add(
        self,
        layer: Layer,
        check: str,
        verdict: Verdict,
        found: str,
        advice: str = "",
        *,
        duration_s: float | None = None,
    ) -> None:
        """Add a finding, its text cut to a bearable length."""
        self.findings.append(Finding(layer, check, verdict, found[:TEXT_CHARS_MAX], advice, duration_s))

    def has_habit(self, layer: Layer, check: str, quirk: str, found: str, advice: str = "") -> None:
        """Add a habit that the profile should name."""
        self.quirks.add(quirk)
        self.quirks_refuted.discard(quirk)
        words = f"set quirk {quirk}" + (f": {advice}" if advice else "")
        self.add(layer, check, Verdict.SET, found, words)

    def has_not(self, quirk: str) -> None:
        """Note that a habit was looked for and not seen."""
        if quirk not in self.quirks:
            self.quirks_refuted.add(quirk)

    def bears_at_once(self, check: str, granted: int, wanted: int, refusal: str) -> None:
        """Add how many of the associations or requests that may be under way at once the archive granted."""
        if granted >= wanted:
            self.add(Layer.LIMITS, check, Verdict.GOOD, f"{wanted}, which is as many as it is asked")
        elif granted == 0:
            advice = "another system holds its places just now: try again at a quiet hour, or ask the archive's desk"
            self.add(Layer.LIMITS, check, Verdict.WARNING, f"none: {refusal}", advice)
        else:
            self.limits[AT_ONCE] = granted
            advice = f"set {AT_ONCE} = {granted} in [peer.limits], or ask the archive's desk for more"
            self.add(Layer.LIMITS, check, Verdict.SET, f"{granted} of {wanted}: {refusal}", advice)

    @property
    def has_failed(self) -> bool:
        """Whether something must be mended before this archive can be asked."""
        return any(finding.verdict is Verdict.FAILED for finding in self.findings)


def profile(report: Report, quirks_set: frozenset[str]) -> Mapping[str, str | list[str] | dict[str, int]]:
    """What the archive's profile should say: habits seen, and those set before that were not refuted; limits last."""
    quirks = report.quirks | (quirks_set - report.quirks_refuted)
    found: dict[str, str | list[str] | dict[str, int]] = {**report.settings, "quirks": sorted(quirks)}
    if report.limits:
        found["limits"] = dict(sorted(report.limits.items()))
    return found


def profile_text(report: Report, quirks_set: frozenset[str], examined_on: str) -> str:
    """The profile as TOML, to be named by `profile` in this trust's [[peer]]."""
    lines = [f"# Found by gateway doctor at {report.trust} on {examined_on}. The [[peer]] that names this file wins."]
    # TOML wants tables behind values.
    for name, value in sorted(profile(report, quirks_set).items(), key=lambda item: isinstance(item[1], dict)):
        match value:
            case str():
                lines.append(f"{name} = {_quoted(value)}")
            case list():
                lines.append(f"{name} = [{', '.join(map(_quoted, value))}]")
            case dict():
                lines += [f"[{name}]", *(f"{limit} = {most}" for limit, most in value.items())]
            case _:
                assert_never(value)
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
