"""Whether what several versions say of their patient can be one person (SAF-33).

A patient is here what a feed gave of them: keys, sorted and joined by `|`; `nhs:` and the number, an issuer's code and
its own number. Feeds leave out now the one and now the other. Two NHS numbers are always two people; so are two numbers
of one issuer that no NHS number holds together, and what has no number in common.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from policy.release.reports import Said, Version

NHS = "nhs:"


def are_one(patients: Collection[str]) -> bool:
    """Whether all of these can be one person; what says nothing of its patient agrees only with its like."""
    said = [_keys(each) for each in set(patients)]
    if len(said) < 2:
        return True
    keys = frozenset[str]().union(*said)
    numbers = nhs_numbers(patients)
    if len(numbers) > 1 or not _hang_together(said):
        return False
    issuers = {_issuer(each) for each in keys - numbers}
    return all(_hang_together(_of_issuer(said, issuer)) for issuer in issuers)


def joined(patients: Iterable[str]) -> str:
    """All that is said of one person."""
    return "|".join(sorted(frozenset[str]().union(*map(_keys, patients))))


def counted(told: Iterable[Version]) -> list[Version]:
    """Of versions in their order those that count: after a withdrawal the right patient starts afresh (REL-36)."""
    since: list[Version] = []
    for each in told:
        if each.said is Said.WITHDRAWN:
            since.clear()
        else:
            since.append(each)
    return since


def nhs_numbers(patients: Iterable[str]) -> frozenset[str]:
    """The keys of all NHS numbers that are said."""
    return frozenset(key for each in patients for key in _keys(each) if key.startswith(NHS))


def renamed(patient: str, names: Mapping[str, str]) -> str:
    """The same patient, with keys called as `names` has them."""
    return "|".join(sorted({names.get(key, key) for key in _keys(patient)}))


def has_nhs_number(patient: str) -> bool:
    """Whether the NHS number is among what is said."""
    return bool(nhs_numbers([patient]))


def _keys(patient: str) -> frozenset[str]:
    return frozenset(patient.split("|")) - {""}


def _issuer(key: str) -> str:
    return key.partition(":")[0]


def _of_issuer(said: Iterable[frozenset[str]], issuer: str) -> list[frozenset[str]]:
    """What is said with a number of this issuer: those numbers, and the NHS number beside them."""
    bare = [frozenset(key for key in keys if key.startswith(NHS) or _issuer(key) == issuer) for keys in said]
    return [keys for keys in bare if any(_issuer(key) == issuer for key in keys)]


def _hang_together(said: Collection[frozenset[str]]) -> bool:
    """Whether each has a key in common with another, and so on, to all of them."""
    rest = list(said)
    reached = set(rest.pop()) if rest else set()
    while near := [each for each in rest if not reached.isdisjoint(each)]:
        reached.update(*near)
        rest = [each for each in rest if reached.isdisjoint(each)]
    return not rest
