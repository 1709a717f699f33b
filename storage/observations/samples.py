"""Whom to sample next: of the patients of whom anything is known somewhere, those who were longest not asked for (C7).

The index holds pseudonyms alone, so whom it is about is found from the other end: the numbers of the register are gone
through piece by piece, and looked up under what stands for them. Patients of whom no register knows are never sampled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

from sqlalchemy import bindparam, select

from policy.parties import NhsNumber, TrustId
from storage.database import Read
from storage.observations.locations import patient_location
from storage.observations.pseudonyms import Pseudonyms
from storage.registers import patients

LOOKED_AT_MAX = 2_000
"""Numbers of the register that are looked at for one sampling: some ten milliseconds of a reader."""
_AT_ONCE_MAX = 500
"""Numbers in one statement."""
_NEVER = datetime.min.replace(tzinfo=UTC)

_CHECKED = select(patient_location.c.pseudonym, patient_location.c.trust, patient_location.c.checked_at).where(
    patient_location.c.pseudonym.in_(bindparam("pseudonyms", expanding=True))
)


def least_checked(
    read: Read, stand_ins: Pseudonyms, trusts: Collection[TrustId], after: str, count_max: int
) -> tuple[list[NhsNumber], str]:
    """Whom to ask these trusts for, who was longest not asked for there first; and where to go on the next time.

    Looks at the numbers behind `after`; the empty text begins anew.
    """
    numbers = patients.known_numbers(read, after, LOOKED_AT_MAX)
    codes = frozenset(trust.code for trust in trusts)
    since: dict[NhsNumber, datetime] = {}
    for some in _pieces(numbers):
        checked: dict[bytes, dict[str, datetime]] = defaultdict(dict)
        of = {stand_ins.of(number): number for number in some}
        for row in read.connection.execute(_CHECKED, {"pseudonyms": list(of)}):
            checked[bytes(row.pseudonym)][row.trust] = row.checked_at or _NEVER
        for pseudonym, by_trust in checked.items():
            since[of[pseudonym]] = min((by_trust.get(code, _NEVER) for code in codes), default=_NEVER)
    chosen = sorted(since, key=lambda number: (since[number], number.digits))[:count_max]
    return chosen, numbers[-1].digits if len(numbers) == LOOKED_AT_MAX else ""


def _pieces(numbers: Sequence[NhsNumber]) -> Iterator[list[NhsNumber]]:
    rest = iter(numbers)
    while some := list(islice(rest, _AT_ONCE_MAX)):
        yield some
