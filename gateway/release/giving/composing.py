"""Make of a report's versions the one document that its patient is given: what it says, untouched, and whom to ask.

Decides nothing: which versions it shows was planned, whose they are was traced. Rendering is the channels' affair.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.model.errors import NotFound
from gateway.model.reporting.channels import Addressee, PatientReport, Section
from gateway.model.reporting.incoming import Exam, IncomingReport
from gateway.release.contents import Contents
from gateway.release.giving.documents import Wanted
from gateway.release.planner import Situation
from policy.parties import TrustId
from policy.release.reports import Said, Version
from policy.release.terms import LONDON

ADDED = "Something was added to this report. The added part stands below it."
CORRECTED = "This report was corrected. It takes the place of an earlier one."


@dataclass(frozen=True, slots=True)
class TrustCard:
    """How a trust is named to a patient, and how it is reached."""

    name: str
    phone: str


ExamOf = Callable[[str, IncomingReport], Awaitable[tuple[Exam, str]]]
"""What was examined and which team ordered it, by the linked study where there is one; it delays nothing (REL-39)."""


class Composing:
    """Composes documents. `card_of` and `plain_name` are what the configuration and the table of names say."""

    def __init__(
        self,
        contents: Contents,
        card_of: Callable[[TrustId], TrustCard],
        plain_name: Callable[[Exam], str],
        exam_of: ExamOf,
    ) -> None:
        self._contents = contents
        self._exam_of = exam_of
        self._card_of = card_of
        self._plain_name = plain_name

    async def compose(self, situation: Situation, wish: Wanted, addressee: Addressee, replaces: str) -> PatientReport:
        """The document; raises `NotFound` or a `ServiceFault` where a version cannot be opened."""
        lifecycle = situation.lifecycle
        if lifecycle.current is None:
            raise NotFound("nothing of the report is verified")
        known = {each.version_id: each for each in (lifecycle.current, *lifecycle.addenda)}
        sections: list[Section] = []
        main: IncomingReport | None = None
        for version_id in wish.versions:
            # What another source said first may stand before the patient under that source's version.
            version = known.get(lifecycle.repeats.get(version_id, version_id))
            if version is None:
                raise NotFound("a version that is to be shown stands no more")
            is_main = version == lifecycle.current
            content_of = lifecycle.content_of if is_main and lifecycle.content_of else version.version_id
            said = await self._contents.open(version_id)
            shown = said if content_of == version_id else await self._contents.open(content_of)
            main = said if is_main or main is None else main
            sections.append(_section(version, said, shown, is_addendum=not is_main))
        if main is None:
            raise NotFound("a document needs something to show")
        exam, team = await self._exam_of(situation.report.report_id, main)
        card = self._card_of(situation.report.trust)
        return PatientReport(
            report_id=situation.report.report_id,
            document_key=wish.document_key,
            trust=situation.report.trust,
            trust_name=card.name,
            addressee=addressee,
            exam_name=self._plain_name(exam),
            exam_on=exam.at.astimezone(LONDON).date() if exam.at is not None else None,
            ordering_team=team,
            contact=card.phone,
            referrer=main.referrer,
            sections=tuple(sections),
            released_at=situation.now,
            replaces=replaces,
            footnote=situation.terms.footnote,
            note=_note(lifecycle.current, sections),
        )


def _section(version: Version, said: IncomingReport, shown: IncomingReport, *, is_addendum: bool) -> Section:
    verification = version.verification
    if verification is None or verification.at is None:
        raise NotFound("a version that is to be shown was never verified")
    by = said.verification.by if said.verification is not None else ""
    return Section(
        version_id=version.version_id,
        is_addendum=is_addendum,
        verified_at=verification.at,
        verified_by=by,
        text=shown.content.text,
        pdf=shown.content.pdf,
    )


def _note(current: Version, sections: Sequence[Section]) -> str:
    if any(section.is_addendum for section in sections):
        return ADDED
    return CORRECTED if current.said is Said.CORRECTED else ""
