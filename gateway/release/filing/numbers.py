"""By what a report is known, and whether a statement and a report may be of one (REL-37, REL-38, domain.md A4). Pure.

A filler order number names the report. An accession number names an examination, and so does a placer order number
where a feed has no other: several reports may bear it. A structured report is a document of its own; of two under one
accession number one takes the other's place only if it says that it follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import reduce

from gateway.model.reporting.incoming import IncomingReport, ReportSource
from policy.release.ordering.instants import VOUCHED
from policy.release.reports import Said
from policy.release.terms import LONDON
from storage.release.tables import LinkKind

_NONE: frozenset[str] = frozenset()
_DAY, _BETTER_KNOWN = "@", "*"
_OF_ITS_OWN = frozenset({Said.VERIFIED, Said.APPENDED})
"""What may be the first that is said of a report."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a report, or a statement about one, is known by."""

    orders: frozenset[str] = _NONE
    """Numbers of the report itself; none where it is known by numbers of its examination alone."""
    accessions: frozenset[str] = _NONE
    resources: frozenset[str] = _NONE
    """How feeds call the resource that it is."""
    documents: frozenset[str] = _NONE
    """The verified structured reports that it is, by SOP instance UID."""
    follows: frozenset[str] = _NONE
    """Those that these say they amend or are added to."""
    placers: frozenset[str] = _NONE
    """Of whoever ordered it; marked where there are better numbers."""
    drafts: frozenset[str] = _NONE
    """The structured reports beside it that nobody vouches for: measurements set no two reports apart."""
    exams: frozenset[str] = _NONE
    """Codes of what was examined, and the days, where no better number than the placer's sets two reports apart."""
    sought: frozenset[str] = _NONE
    """The placers by which a statement finds its report: many reports have one, which only those seek that lack better
    numbers.
    """

    @classmethod
    def of(cls, called: Mapping[LinkKind, frozenset[str]]) -> Numbers:
        """As they are kept."""
        return cls(*(called.get(kind, _NONE) for kind in _KINDS))

    @property
    def called(self) -> tuple[tuple[LinkKind, str], ...]:
        """All but the accession numbers, as they are kept."""
        pairs = zip(_KINDS, (getattr(self, each.name) for each in fields(self)), strict=False)
        return tuple(
            (kind, number) for kind, numbers in pairs if kind is not LinkKind.ACCESSION for number in sorted(numbers)
        )

    @property
    def all(self) -> frozenset[str]:
        """Every one of them under which another report may be found."""
        known = self.orders | self.accessions | self.resources | self.sought
        return known | self.documents | self.follows | self.drafts

    def joined(self, others: Iterable[Numbers]) -> Numbers:
        """What is known of all of these, if they are one."""
        return reduce(_joined, others, self)

    @property
    def is_bare(self) -> bool:
        """Whether nothing better than a placer's number is known."""
        return not (self.orders or self.accessions or self.documents or self.drafts)

    @property
    def as_documents(self) -> Numbers:
        """What it is known by as documents alone."""
        return Numbers(documents=self.documents, follows=self.follows, drafts=self.drafts)

    def told_by(self, other: Numbers) -> Numbers:
        """What is known of it by another that surely is the same: of one order, which documents there are."""
        if self._is_document_of(other):
            return other
        return other.as_documents if not self.orders.isdisjoint(other.orders) else _NOTHING

    def names(self, other: Numbers, *, are_of_one: bool = True) -> bool:
        """Whether these may be one report: two order numbers of one accession are two reports (REL-38).

        A resource of one id is one report, unless its numbers say that the sender calls another one so. `are_of_one`
        says whether both are one patient's: one number for two people is a mistake, whatever else sets them apart.
        """
        if self._is_document_of(other):
            return True
        if self.orders and other.orders:
            return not self.orders.isdisjoint(other.orders)
        if not (self.accessions and other.accessions) and not self.resources.isdisjoint(other.resources):
            return True
        if are_of_one and self._are_two_documents(other):
            return False
        if not (self.orders | self.accessions).isdisjoint(other.orders | other.accessions):
            return True
        return are_of_one and self._is_of_placer(other)

    def _is_document_of(self, other: Numbers) -> bool:
        """Whether the one says that it follows the other, or both are the same, or follow the same."""
        mine, others = (each.documents | each.follows | each.drafts for each in (self, other))
        return not mine.isdisjoint(others)

    def _are_two_documents(self, other: Numbers) -> bool:
        """A document that follows one which nobody has sent may be of any that bears its accession number."""
        has_unknown = any(each.follows - each.documents - each.drafts for each in (self, other))
        return bool(self.documents and other.documents) and not has_unknown

    def _is_of_placer(self, other: Numbers) -> bool:
        """Other people's placers issue the same numbers; and one order may be for two examinations."""
        has_better = all(each.orders or each.accessions for each in (self, other))
        are_two = _are_apart(_codes(self.exams), _codes(other.exams)) or _are_apart(
            self.exams - _codes(self.exams), other.exams - _codes(other.exams)
        )
        return not has_better and not are_two and not self.sought.isdisjoint(other.placers)


_NOTHING = Numbers()
_KINDS = (
    LinkKind.ORDER,
    LinkKind.ACCESSION,
    LinkKind.RESOURCE,
    LinkKind.DOCUMENT,
    LinkKind.FOLLOWED,
    LinkKind.PLACER,
    LinkKind.DRAFT,
    LinkKind.EXAM,
)
"""In the order of the fields above, but for what is sought."""


def numbers_of(incoming: IncomingReport) -> Numbers:
    """What a statement calls its report."""
    accessions = frozenset(incoming.accessions)
    own = frozenset({incoming.message_id} if incoming.source is ReportSource.DICOM_SR else ())
    is_vouched = incoming.said in VOUCHED
    follows = frozenset(incoming.predecessors)
    placers = frozenset(incoming.placer_numbers)
    marked = frozenset(f"{_BETTER_KNOWN}{each}" for each in placers)
    is_by_placer = not accessions and not incoming.order_numbers and incoming.report_number in placers
    named = {incoming.report_number} - accessions - {incoming.resource_id} - own - follows
    orders = frozenset(incoming.order_numbers) | (named - placers if is_by_placer else named)
    is_better_known = bool(orders or accessions)
    return Numbers(
        orders,
        accessions,
        resources_of(incoming),
        own if is_vouched else _NONE,
        follows,
        marked if is_better_known else placers,
        _NONE if is_vouched else own,
        _exams(incoming) if is_by_placer and incoming.said in _OF_ITS_OWN else _NONE,
        placers if is_better_known else placers | marked,
    )


def resources_of(incoming: IncomingReport) -> frozenset[str]:
    """No two feeds mean the same by one id."""
    return frozenset({f"{incoming.feed}/{incoming.resource_id}"} if incoming.resource_id else ())


def number_apart(incoming: IncomingReport) -> str:
    """How a report is called while its number is that of another one (REL-38)."""
    if incoming.source is ReportSource.DICOM_SR:
        return incoming.message_id
    return " ".join((incoming.report_number, *sorted(_exams(incoming))))


def _exams(incoming: IncomingReport) -> frozenset[str]:
    at = incoming.exam.at
    days = () if at is None else (f"{_DAY}{at.astimezone(LONDON):%Y-%m-%d}",)
    return frozenset((*incoming.exam.codes, *days))


def _codes(exams: frozenset[str]) -> frozenset[str]:
    return frozenset(each for each in exams if not each.startswith(_DAY))


def _are_apart(some: frozenset[str], others: frozenset[str]) -> bool:
    """What only one of them says sets nothing apart."""
    return bool(some and others) and some.isdisjoint(others)


def _joined(one: Numbers, other: Numbers) -> Numbers:
    return Numbers(*(getattr(one, each.name) | getattr(other, each.name) for each in fields(one)))
