"""Find the study that a report is of, and what its images say of the examination (REL-39: nothing waits for it).

A report that names its study needs nobody. One that names an accession number alone is linked once a study of that
number, of its trust and of its patient, lies in the cache, or another report of the two names both; a number means
nothing without its issuer (domain.md C4). What is linked to nothing is a person's, who says so by name and reason.
Names, modality and team are read from the images at the moment they are wanted: none of them is kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import orjson
import structlog

from gateway.jobs.runner import Work
from gateway.model.errors import GatewayError, InvalidRequest
from gateway.model.imaging import ACCESSION_NUMBER, STUDY_UID, Attributes
from gateway.model.reporting.incoming import Exam, IncomingReport
from gateway.model.work.transfers import CachedInstance
from gateway.release.clinicians import telling
from gateway.sharing.identity.accessions import is_issued_by
from policy.parties import TrustId
from storage.cache import census
from storage.clinical import finding
from storage.database import Read, Tx
from storage.registers import patients
from storage.registers.state import Author
from storage.release import links, reports
from storage.release.links import Unlinked
from storage.store import SqlStore

log = structlog.get_logger(__name__)

LINK = "reports-link"
"""The kind of the job that looks for studies of reports that have none."""
LINK_INTERVAL_S = 900.0
PAGE_MAX = 200
PAGES_MAX = 100
"""Of numbers, in one look; the next one goes on behind them."""
DISAGREES = (
    "what is known of this study does not agree with the patient and the trust of the report: look it up again, and say"
    " so if it is another trust's"
)
STUDIES_MAX = 200
"""Studies of one patient that are looked into."""
_DESCRIPTION, _MODALITY, _BODY_PART, _SERVICE = "00081030", "00080060", "00180015", "00321033"
_NO_PICTURES = frozenset({"SR", "PR", "KO", "DOC", "OT", ""})
"""Modalities that name no kind of examination."""


class Studies(Protocol):
    """What of the study cache is needed; every method may raise a `GatewayError`."""

    async def studies_of(self, patient_row: str) -> Sequence[str]:
        """The studies of a patient."""

    async def instances(self, study_uid: str) -> Sequence[CachedInstance]:
        """What is kept of one."""

    async def metadata(self, instances: Sequence[CachedInstance]) -> Sequence[bytes]:
        """Their DICOM JSON."""


@dataclass(frozen=True, slots=True)
class Described:
    """What the images of a study say of it."""

    study_uid: str
    accession: str
    is_issued_here: bool
    """Whether the trust in question issued the number."""
    name: str = ""
    modality: str = ""
    body_region: str = ""
    ordering_team: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A report, and a study that a person names."""

    report_id: str
    study_uid: str


@dataclass(frozen=True, slots=True)
class Images:
    """Where this node's images tell whose they are."""

    node: str
    stand_in_of: Callable[[str], bytes]
    """What stands for a patient's row there."""


class Linking:
    """Links reports and studies."""

    def __init__(self, store: SqlStore, studies: Studies, issuer_of: Callable[[TrustId], str]) -> None:
        """`issuer_of` says who issues a trust's accession numbers."""
        self._store = store
        self._studies = studies
        self._issuer_of = issuer_of
        self._after = ("", "")

    async def __call__(self, work: Work) -> None:
        """The job that recurs."""
        if linked := await self.look():
            log.info("reports linked to their studies", links=linked)

    async def look(self) -> int:
        """Look for the studies of numbers that have none, from where the last look ended; how many were linked."""
        linked = 0
        for _ in range(PAGES_MAX):
            page = await self._store.read(partial(links.unlinked, after=self._after, count_max=PAGE_MAX))
            for wanted in page:
                linked += await self._is_linked(wanted)
            if len(page) < PAGE_MAX:
                self._after = ("", "")
                break
            self._after = (page[-1].report_id, page[-1].accession)
        return linked

    async def exam_of(self, report_id: str, said: IncomingReport) -> tuple[Exam, str]:
        """What was examined and which team ordered it: as the linked study says, else as the report does.

        Raises nothing that a missing study could cause: it never delays (REL-39).
        """
        exam, team = said.exam, said.referrer.team
        with suppress(GatewayError):
            study_uids, rows = await self._store.read(partial(_studies_and_rows, report_id=report_id))
            # A message may name a study by mistake: what was examined of one patient is told to no other.
            theirs = {each for row in sorted(rows) for each in await self._studies.studies_of(row)}
            for study_uid in [each for each in study_uids if each in theirs]:
                found = await self._described(study_uid, said.trust)
                if found is not None:
                    exam = Exam(
                        codes=exam.codes,
                        name=found.name or exam.name,
                        modality=found.modality or exam.modality,
                        body_region=found.body_region or exam.body_region,
                        at=exam.at,
                    )
                    return exam, found.ordering_team or team
        return exam, team

    async def _is_linked(self, wanted: Unlinked) -> bool:
        left = await self._store.read(partial(links.left_by, report_id=wanted.report_id))
        study_uid = await self._store.read(partial(links.told_by_others, wanted=wanted))
        by = "another report"
        if study_uid is None or study_uid in left:
            study_uid, by = await self._in_cache(wanted, left), "images"
        if study_uid is None:
            return False
        return await self._store.write(partial(_linked, wanted=wanted, study_uid=study_uid, by=by))

    async def _in_cache(self, wanted: Unlinked, left: Collection[str]) -> str | None:
        """The one study of the patient that bears the number; two of them are a person's work.

        None that a person has said the report is not of.
        """
        if wanted.patient_id is None:
            return None
        patient_id = wanted.patient_id
        matching: set[str] = set()
        with suppress(GatewayError):
            for row in sorted(await self._store.read(partial(_rows, patient_id=patient_id))):
                for study_uid in (await self._studies.studies_of(row))[:STUDIES_MAX]:
                    if study_uid in left or await self._store.read(partial(finding.is_own_study, study_uid=study_uid)):
                        continue  # a report written out for clinicians is no study to link it to
                    described = await self._described(study_uid, wanted.trust)
                    if described is not None and described.is_issued_here and described.accession == wanted.accession:
                        matching.add(study_uid)
        return matching.pop() if len(matching) == 1 else None

    async def _described(self, study_uid: str, trust: TrustId) -> Described | None:
        """A study of which this trust is the custodian; None where nothing of it is kept."""
        kept = [each for each in await self._studies.instances(study_uid) if each.custodian == trust]
        if not kept:
            return None
        # One with pixels speaks for the examination; a report or a key image beside it does not.
        kept.sort(key=lambda each: (not each.has_pixels, each.ref.series_uid, each.ref.sop_uid))
        [encoded] = await self._studies.metadata(kept[:1])
        return described(encoded, self._issuer_of(trust)) if encoded else None


def described(encoded: bytes, issuer: str) -> Described | None:
    """What the DICOM JSON of an instance says of its study; None where it is none."""
    try:
        held = orjson.loads(encoded)
    except ValueError:
        return None
    if not isinstance(held, dict):
        return None
    attributes: Attributes = held
    modality = _text(attributes, _MODALITY)
    return Described(
        study_uid=_text(attributes, STUDY_UID),
        accession=_text(attributes, ACCESSION_NUMBER),
        is_issued_here=is_issued_by(attributes, frozenset({issuer.upper()}), issuer),
        name=_text(attributes, _DESCRIPTION),
        modality="" if modality in _NO_PICTURES else modality,
        body_region=_text(attributes, _BODY_PART),
        ordering_team=_text(attributes, _SERVICE),
    )


def linked_by_person(tx: Tx, link: Link, author: Author, images: Images, *, is_of_another_trust: bool) -> bool:
    """Link as a person says, and have copies given up that stood elsewhere until now (SAF-62). See `links`.

    Raises `InvalidRequest` where the study is of another patient, or of another trust and nobody says that it is: in
    one sentence for both, which tells nothing of whose it is.
    """
    kept = reports.hold(tx, link.report_id)
    if finding.is_own_study(tx, link.study_uid):
        raise InvalidRequest("this is no study of an archive: a report without one stands under it")
    rows = _rows(tx, kept.patient_id) if kept.patient_id is not None else frozenset[str]()
    stand_ins = {images.stand_in_of(row) for row in rows}
    held = census.whose(tx, images.node, link.study_uid)
    others = links.named_by_others(tx, link.report_id, link.study_uid)
    is_of_patient = all(each in stand_ins for _, each in held) and all(each in {None, *rows} for _, each in others)
    trusts = {trust for trust, _ in (*held, *others)}
    if not is_of_patient or (trusts and kept.trust not in trusts and not is_of_another_trust):
        raise InvalidRequest(DISAGREES)
    is_linked = links.link_by_person(tx, link.report_id, link.study_uid, author)
    if is_linked:
        telling.moved(tx, link.report_id)
    return is_linked


def unlinked_by_person(tx: Tx, link: Link, author: Author) -> bool:
    """Take a report from a study as a person says, and have copies given up that stand there (SAF-62). See `links`."""
    reports.hold(tx, link.report_id)
    is_unlinked = links.unlink_by_person(tx, link.report_id, link.study_uid, author)
    if is_unlinked:
        telling.moved(tx, link.report_id)
    return is_unlinked


def _linked(tx: Tx, wanted: Unlinked, study_uid: str, by: str) -> bool:
    """Link, and have copies given up that stood elsewhere until now."""
    is_linked = links.seen(tx, wanted, study_uid, by)
    if is_linked:
        telling.moved(tx, wanted.report_id)
    return is_linked


def _studies_and_rows(read: Read, report_id: str) -> tuple[Sequence[str], frozenset[str]]:
    """The studies that a report is linked to, and the rows of its patient; none where it is nobody's."""
    kept = reports.get(read, report_id)
    rows = _rows(read, kept.patient_id) if kept is not None and kept.patient_id is not None else frozenset[str]()
    return links.studies_of(read, report_id), rows


def _rows(read: Read, patient_id: str) -> frozenset[str]:
    """All rows of the person, over confirmed merges."""
    return patients.person(read, patient_id).joined


def _text(attributes: Attributes, tag: str) -> str:
    return next(_texts(attributes, tag), "")


def _texts(attributes: Attributes, tag: str) -> Iterator[str]:
    values = attributes.get(tag, {}).get("Value")
    for value in values if isinstance(values, list) else []:
        if isinstance(value, str):
            yield value.strip(" \0")
