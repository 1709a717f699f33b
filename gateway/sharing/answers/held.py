"""What may be had of a wish: instances with their holders' rows, and the identity that the caller is shown (SAF-34).

The same rows that an answer would unite (`gateway.sharing.merge`), without the answer: of a study of a thousand images
nobody reads the rows, and its images share one identity. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.model.imaging import Attributes
from gateway.sharing.identity.origins import Origins
from gateway.sharing.identity.shown import shown_identity
from gateway.sharing.merge import Candidate, best_of, custodies, identity_of_all
from policy.parties import NhsNumber, PatientId


@dataclass(frozen=True, slots=True)
class Held:
    """One instance."""

    best: Candidate
    """The row of the holder whose copy speaks."""
    copies: tuple[Candidate, ...]
    """Every holder's row that may be had."""
    shown: Attributes
    """Under which identifiers the caller knows the patient."""


def held(candidates: Iterable[Candidate], own_numbers: Mapping[NhsNumber, PatientId], origins: Origins) -> list[Held]:
    """Unite the rows of the same UIDs; instances of one identity are shown the same one."""
    groups: dict[tuple[str, str, str], list[Candidate]] = {}
    for found in candidates:
        groups.setdefault(found.uids, []).append(found)
    standing = custodies(groups.values(), origins)
    shown: dict[frozenset[int], Attributes] = {}
    instances = []
    for group in groups.values():
        best = best_of(group, standing.get(group[0].study_uid, {}))
        alike = frozenset([id(best.identity), *(id(found.identity) for found in group)])
        if alike not in shown:
            own = own_numbers.get(best.patient) if best.patient is not None else None
            shown[alike] = shown_identity(identity_of_all(best, group), own)
        instances.append(Held(best, tuple(group), shown[alike]))
    return instances
