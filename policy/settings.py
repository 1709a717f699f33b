"""What a region may choose about policy, with the cautious start values; `[policy]` of `gateway.toml`.

Only what a rule or a register read uses stands here, and nothing that may not be chosen (SAF-70). Every decision
carries `Settings.version`, so that a stored decision replays under the settings of its day (DEC-14). Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]
"""Any parsed JSON value."""


class Mode(StrEnum):
    """Whose patients these are. Each mode refuses the NHS numbers of the other (DEC-05)."""

    PRODUCTION = "production"
    DEMO = "demo"


class PacsUserAssurance(StrEnum):
    """How far a PACS is believed about the person at its screen (SAF-10)."""

    SYSTEM_ONLY = "system-only"
    """Not at all: the system is judged by its trust's care relationships, and teams it names count for nothing."""


class Proof(StrEnum):
    """Names of evidence in `Access.proven_by`: the door it came by, and what was checked there."""

    HTTPS = "https"
    DIMSE = "dimse"
    CERTIFICATE = "certificate"
    ADDRESS = "address"
    AE_TITLE = "ae-title"
    LOOPBACK = "loopback"


@dataclass(frozen=True)  # not slotted: `version` is kept once computed
class Settings:
    """The region's choices. Equal settings have equal versions, in every process and on every day."""

    mode: Mode = Mode.PRODUCTION
    pacs_user_assurance: PacsUserAssurance = PacsUserAssurance.SYSTEM_ONLY
    proof_https: frozenset[Proof] = frozenset({Proof.CERTIFICATE})
    """What a caller over DICOMweb must be proven by; `address` may be added, `certificate` never left out."""
    proof_dimse: frozenset[Proof] = frozenset({Proof.CERTIFICATE, Proof.AE_TITLE})
    """The same over DIMSE."""
    whole_trust_relationship_admits_clinicians: bool = False
    """Whether evidence that names no team opens to every clinician of the trust; SHR-02 says it is not enough."""
    relationship_max_life_days: int = 365
    """An open-ended care relationship ends by itself after this (SAF-32)."""
    break_glass_lifts_opt_out: bool = False
    """Whether a grant stands above an opt-out: the region's decision, always alerted (SHR-24)."""
    opt_out_register_age_max_minutes: int = 0
    """A replica of the opt-out register older than this is a fault (SHR-34); 0: the register is kept here."""

    def __post_init__(self) -> None:
        for name in ("proof_https", "proof_dimse"):
            if Proof.CERTIFICATE not in getattr(self, name):
                raise ValueError(f"{name}: a certificate is always demanded")
        if self.relationship_max_life_days < 1:
            raise ValueError("relationship_max_life_days: must be 1 or more")
        if self.opt_out_register_age_max_minutes < 0:
            raise ValueError("opt_out_register_age_max_minutes: must be 0 or more")

    @cached_property
    def version(self) -> str:
        """Twelve hexadecimal digits that name exactly these choices."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, JsonValue]:
        """The stored form; sets are sorted."""
        return {
            "mode": self.mode.value,
            "pacs_user_assurance": self.pacs_user_assurance.value,
            "proof_https": [proof.value for proof in sorted(self.proof_https)],
            "proof_dimse": [proof.value for proof in sorted(self.proof_dimse)],
            "whole_trust_relationship_admits_clinicians": self.whole_trust_relationship_admits_clinicians,
            "relationship_max_life_days": self.relationship_max_life_days,
            "break_glass_lifts_opt_out": self.break_glass_lifts_opt_out,
            "opt_out_register_age_max_minutes": self.opt_out_register_age_max_minutes,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> Settings:
        """Read the stored form again; raises `ValueError` for one that is not of this form."""
        match dict(stored):
            case {
                "mode": str(mode),
                "pacs_user_assurance": str(assurance),
                "proof_https": list(proof_https),
                "proof_dimse": list(proof_dimse),
                "whole_trust_relationship_admits_clinicians": bool(whole_trust),
                "relationship_max_life_days": int(max_life_days),
                "break_glass_lifts_opt_out": bool(lifts),
                "opt_out_register_age_max_minutes": int(age_max_minutes),
                **unknown,
            } if not unknown:
                return cls(
                    mode=Mode(mode),
                    pacs_user_assurance=PacsUserAssurance(assurance),
                    proof_https=frozenset(map(Proof, proof_https)),
                    proof_dimse=frozenset(map(Proof, proof_dimse)),
                    whole_trust_relationship_admits_clinicians=whole_trust,
                    relationship_max_life_days=max_life_days,
                    break_glass_lifts_opt_out=lifts,
                    opt_out_register_age_max_minutes=age_max_minutes,
                )
        raise ValueError("not the stored form of policy settings")
