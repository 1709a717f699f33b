"""Who may see what across trusts, as tables: read them, they are the documentation (goal G19, SAF-02).

`expected` reads the tables and nothing of `policy/`: two ways to one answer. A door that comes later (WADO, STOW, jobs,
reports) is one more entry of `Door`; a further trust, role or relation one more row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import product

from policy.parties import PrincipalKind, PurposeOfUse

TREAT, COC, ETREAT, ERTREAT, BTG = (
    PurposeOfUse.TREAT,
    PurposeOfUse.COC,
    PurposeOfUse.ETREAT,
    PurposeOfUse.ERTREAT,
    PurposeOfUse.BTG,
)
PERSON, SYSTEM, OFFICER = PrincipalKind.CLINICIAN, PrincipalKind.SYSTEM, PrincipalKind.OFFICER


class Door(StrEnum):
    """By which protocol somebody asks."""

    QIDO = "qido"
    C_FIND = "c-find"


class Question(StrEnum):
    """What a question names."""

    NUMBER = "by NHS number"
    """The patient: a missing relationship is told."""
    STUDY = "by study UID"
    """Only studies: a missing relationship would tell that they exist, so it is absence."""
    OWN = "own archive, by NHS number"
    """The caller's own trust alone: none of the sharing rules apply (SAF-12)."""


class TakesPart(Enum):
    """Whether a trust does."""

    YES = "yes"
    NO = "no"
    FOR_TEST_PATIENTS = "for its test patients alone"


@dataclass(frozen=True)
class Asker:
    """A trust that asks."""

    name: str
    code: str
    takes_part: TakesPart
    acts_as: str = ""
    """The trust whose care counts for it, if it is another."""

    @property
    def recipient(self) -> str:
        return self.acts_as or self.code


HOSPITAL = Asker("hospital", "RZ1", TakesPart.YES)
ASKERS = (
    HOSPITAL,
    Asker("neighbour", "RZ4", TakesPart.YES),
    Asker("holder", "RZ2", TakesPart.YES),
    Asker("retired into the hospital", "RZ7", TakesPart.YES, acts_as="RZ1"),
    Asker("on trial", "RZ8", TakesPart.FOR_TEST_PATIENTS),
    Asker("suspended", "RZ5", TakesPart.NO),
    Asker("retired", "RZ6", TakesPart.NO),
    Asker("surgery", "A81001", TakesPart.NO),
)


@dataclass(frozen=True)
class Role:
    """Who asks at a trust, and for what."""

    name: str
    kind: PrincipalKind
    purpose: PurposeOfUse
    team: str = ""
    refused: str = ""
    """What is told to this role, whoever the patient."""
    is_everywhere: bool = False
    """Asked by at every trust; the others at the hospital alone."""


ROLES = (
    Role("PACS", SYSTEM, TREAT, is_everywhere=True),
    Role("PACS, coordination", SYSTEM, COC),
    Role("PACS, emergency", SYSTEM, ETREAT),
    Role("PACS, emergency room", SYSTEM, ERTREAT),
    Role("PACS, break-glass", SYSTEM, BTG, is_everywhere=True),
    Role("PACS with a team", SYSTEM, TREAT, team="neurology"),
    Role("PACS, research", SYSTEM, PurposeOfUse.HRESCH, refused="purpose"),
    Role("PACS, teaching", SYSTEM, PurposeOfUse.TRAIN, refused="purpose"),
    Role("neurologist", PERSON, TREAT, team="neurology", is_everywhere=True),
    Role("neurologist, emergency", PERSON, ETREAT, team="neurology"),
    Role("neurologist, break-glass", PERSON, BTG, team="neurology"),
    Role("neurologist, research", PERSON, PurposeOfUse.CLINTRL, team="neurology", refused="purpose"),
    Role("oncologist", PERSON, TREAT, team="oncology"),
    Role("clinician of no team", PERSON, TREAT),
    Role("officer", OFFICER, TREAT, refused="kind"),
)


class Audience(Enum):
    """To whom a study is shown, if the patient is in the caller's care and has not opted out."""

    EVERYBODY = "everybody"
    NOBODY = "nobody"
    EMERGENCIES = "emergencies"
    """A label names these purposes."""
    NEUROLOGISTS = "the hospital's neurologists"
    """A label names this team: believed of persons alone."""


@dataclass(frozen=True)
class Study:
    """One study, its holder, and who is shown it."""

    holder: str
    modality: str = "CT"
    shown_to: Audience = Audience.EVERYBODY


EVERYBODY, NOBODY = Audience.EVERYBODY, Audience.NOBODY
TWO_STUDIES = (Study("RZ2"), Study("RZ3", "MR"))
EASTVALE_HIDES = (Study("RZ2", shown_to=NOBODY), Study("RZ3", "MR"))

NEUROLOGY_ALONE = frozenset({"neurology"})
WHOLE_TRUST = frozenset({""})
"""Evidence that names no team opens to systems, and to no person (SHR-02)."""
NOBODYS = frozenset[str]()


@dataclass(frozen=True)
class Relation:
    """How a patient stands to a trust and to sharing."""

    name: str
    teams: frozenset[str] = WHOLE_TRUST
    """The teams that evidence of care names now; none: no care."""
    at: str = "RZ1"
    """The trust that the care or the grant is of."""
    granted_to: str = ""
    """Emergency access: to the trust's `systems`, or to the `neurologist`s who asked for it."""
    is_restricted: bool = False
    """By opt-out, or provisionally."""
    studies: tuple[Study, ...] = TWO_STUDIES
    is_test_patient: bool = False
    is_of_other_mode: bool = False
    """The number is one that this mode refuses (DEC-05)."""
    is_told_of_conflict: bool = False
    """The answer says that identity details differ (SAF-08), so it is like no other."""


RELATIONS = (
    Relation("a stranger to all registers", teams=NOBODYS),
    Relation("known, in nobody's care", teams=NOBODYS),
    Relation("referred to the trust"),
    Relation("referred, without any study", studies=()),
    Relation("referred to a team", teams=NEUROLOGY_ALONE),
    Relation("referred to the trust and to a team", teams=WHOLE_TRUST | NEUROLOGY_ALONE),
    Relation("in the care of the neighbour", at="RZ4"),
    Relation("in the care of a holder", at="RZ2"),
    Relation("care ended", teams=NOBODYS),
    Relation("care ends in a moment"),
    Relation("care begins tomorrow", teams=NOBODYS),
    Relation("open-ended care of a year ago", teams=NOBODYS),
    Relation("care withdrawn by mistake's undoing", teams=NOBODYS),
    Relation("opted out", is_restricted=True),
    Relation("opted out, in nobody's care", teams=NOBODYS, is_restricted=True),
    Relation("opted out, without any study", is_restricted=True, studies=()),
    Relation("opting out, verified", is_restricted=True),
    Relation("opting out, received"),
    Relation("opted out and in again"),
    Relation("opted out, in, and out again", is_restricted=True),
    Relation("emergency access of the trust", teams=NOBODYS, granted_to="systems"),
    Relation("emergency access of a person", teams=NOBODYS, granted_to="neurologist"),
    Relation("emergency access beside care", granted_to="systems"),
    Relation("emergency access over an opt-out", teams=NOBODYS, granted_to="systems", is_restricted=True),
    Relation("emergency access that is over", teams=NOBODYS),
    Relation("one study labelled", studies=EASTVALE_HIDES),
    Relation("labelled at one holder", studies=EASTVALE_HIDES),
    Relation("labelled for emergencies", studies=(Study("RZ2", shown_to=Audience.EMERGENCIES), Study("RZ3", "MR"))),
    Relation(
        "labelled for a team",
        teams=WHOLE_TRUST | NEUROLOGY_ALONE,
        studies=(Study("RZ2", shown_to=Audience.NEUROLOGISTS), Study("RZ3", "MR")),
    ),
    Relation("a holder that shares CT alone", studies=(Study("RZ9", "CT"), Study("RZ9", "MR", NOBODY))),
    Relation("a holder that shares nothing", studies=(Study("RZA", "CT", NOBODY), Study("RZ3", "MR"))),
    Relation("a holder that shares children's imaging", studies=(Study("RZB", "CT", NOBODY), Study("RZ3", "MR"))),
    Relation("a holder that shares with others", studies=(Study("RZC", "CT", NOBODY),)),
    Relation("a holder that shares for emergencies", studies=(Study("RZD", "CT", Audience.EMERGENCIES),)),
    Relation("superseded number, care under the surviving one"),
    Relation("superseded number, opted out under the surviving one", is_restricted=True),
    Relation("merge awaits a second person", teams=NOBODYS),
    Relation("merge awaits a second person, the other opted out", is_restricted=True),
    Relation(
        "identity differs between holders",
        studies=(Study("RZ2", shown_to=NOBODY), Study("RZ3", "MR", NOBODY)),
        is_told_of_conflict=True,
    ),
    Relation("a number of real people", is_of_other_mode=True),
    Relation("a test patient of the trust on trial", at="RZ8", is_test_patient=True),
    Relation("no test patient of the trust on trial", at="RZ8"),
)


class Refused(StrEnum):
    """What may be told."""

    NOT_ENROLLED = "not-enrolled"
    KIND = "kind"
    PURPOSE = "purpose"
    NO_GRANT = "no-grant"
    OTHER_MODE = "other-mode"
    NO_CARE = "no-care"
    NOT_THIS_TEAM = "not-this-team"


SAID: Mapping[Refused, tuple[str, str]] = {
    Refused.NOT_ENROLLED: (
        "your organisation is not an enrolled NHS hospital trust",
        "your organisation is not enrolled",
    ),
    Refused.KIND: ("this account does not receive images", "this account receives no images"),
    Refused.PURPOSE: ("the stated purpose of use is not direct care", "purpose is not direct care"),
    Refused.NO_GRANT: (
        "no emergency access to this patient has been granted to you",
        "no emergency access granted",
    ),
    Refused.OTHER_MODE: ("NHS numbers of this range are not accepted here", "this range of numbers is refused"),
    Refused.NO_CARE: (
        "no care relationship of your trust with this patient is recorded",
        "no care relationship recorded",
    ),
    Refused.NOT_THIS_TEAM: (
        "no care relationship of your team with this patient is recorded",
        "your team's care is not recorded",
    ),
}
"""In words over HTTP, where all of them stand; and by C-FIND, where there is room for the first of this order."""


@dataclass(frozen=True)
class Expected:
    """What somebody gets: told refusals, or the studies shown (by their place in the relation's list)."""

    refused: frozenset[Refused] = frozenset()
    shown: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Cell:
    """One situation."""

    asker: Asker
    role: Role
    relation: Relation
    question: Question
    door: Door

    def __str__(self) -> str:
        return " / ".join((self.asker.name, self.role.name, self.relation.name, self.question, self.door))


def cells() -> Iterator[Cell]:
    """Every situation of the tables."""
    for asker, role, relation, question, door in product(ASKERS, ROLES, RELATIONS, Question, Door):
        is_asked = asker is HOSPITAL or role.is_everywhere
        if is_asked and (question is not Question.OWN or asker.code == "RZ2"):
            yield Cell(asker, role, relation, question, door)


def expected(cell: Cell) -> Expected:
    """What the tables say that this cell gets."""
    refused = frozenset(_refusals(cell))
    if refused:
        return Expected(refused)
    places = enumerate(cell.relation.studies)
    if cell.question is Question.OWN:
        return Expected(shown=frozenset(place for place, study in places if study.holder == cell.asker.code))
    if not _is_admitted(cell) or cell.relation.is_restricted or cell.relation.is_of_other_mode:
        return Expected()
    return Expected(shown=frozenset(place for place, study in places if _is_shown(cell, study)))


def _refusals(cell: Cell) -> Iterator[Refused]:
    asker, role, relation = cell.asker, cell.role, cell.relation
    names_patient = cell.question is not Question.STUDY
    is_tried_with = asker.takes_part is TakesPart.FOR_TEST_PATIENTS and names_patient and relation.is_test_patient
    if asker.takes_part is not TakesPart.YES and not is_tried_with:
        yield Refused.NOT_ENROLLED
    if role.refused:
        yield Refused(role.refused)
    if not names_patient:
        return
    if role.purpose is BTG and not _is_granted(cell):
        yield Refused.NO_GRANT
    if relation.is_of_other_mode:
        yield Refused.OTHER_MODE
    if cell.question is Question.NUMBER and not _is_in_care(cell) and not _is_granted(cell):
        has_care = asker.recipient == relation.at and bool(relation.teams)
        yield Refused.NOT_THIS_TEAM if has_care else Refused.NO_CARE


def _is_in_care(cell: Cell) -> bool:
    """Of the trust, for a system; of the own team, for a person."""
    if cell.asker.recipient != cell.relation.at or not cell.relation.teams:
        return False
    return cell.role.kind is not PERSON or (cell.role.team != "" and cell.role.team in cell.relation.teams)


def _is_granted(cell: Cell) -> bool:
    if cell.asker.recipient != cell.relation.at:
        return False
    match cell.relation.granted_to:
        case "systems":
            return cell.role.kind is SYSTEM
        case "neurologist":
            return cell.role.kind is PERSON and cell.role.team == "neurology"
        case _:
            return False


def _is_admitted(cell: Cell) -> bool:
    """Break-glass stands on a grant alone, all else on care or a grant."""
    return _is_granted(cell) or (_is_in_care(cell) and cell.role.purpose is not BTG)


def _is_shown(cell: Cell, study: Study) -> bool:
    if study.holder == cell.asker.recipient:
        return False  # a trust's own archive is asked by name alone (DEC-01)
    match study.shown_to:
        case Audience.EVERYBODY:
            return True
        case Audience.NOBODY:
            return False
        case Audience.EMERGENCIES:
            return cell.role.purpose in (ETREAT, ERTREAT)
        case Audience.NEUROLOGISTS:
            return cell.role.kind is PERSON and cell.role.team == "neurology"
