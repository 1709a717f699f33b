"""Which documents clinicians find of a report: one for each version that may be read, marked as it stands (SAF-62).

Verified versions are shown, the current one as such, what it superseded marked; what nobody vouches for only as
preliminary; what was withdrawn leaves a notice without its text. A version of another patient than the newest one's is
shown to nobody. Clinicians are never embargoed: nothing here knows of a clock. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

import orjson

from gateway.instances.reporting.writing import Document, Form, Marking, every_ref, ref_of
from gateway.model.reporting.incoming import IncomingReport
from gateway.model.work.transfers import InstanceRef
from policy.release.lifecycle import fold
from policy.release.ordering.instants import VOUCHED
from policy.release.reports import Lifecycle, Said, Standing, Version
from policy.release.whose import are_one


@dataclass(frozen=True, slots=True)
class Reading:
    """One version as it stands."""

    version: Version
    content_of: str
    """The version whose content it shows."""
    marking: Marking
    is_addendum: bool = False


def standings(versions: Sequence[Version], tolerance: timedelta) -> list[Reading]:
    """The versions that clinicians may read, as they stand: the newest text first, then what was before it."""
    life = fold(versions, tolerance)
    known = {each.version_id: each for each in versions if are_one([each.patient, life.patient])}
    found = [*_present(life), *_past(life, known, versions)]
    return [each for each in found if each.version.version_id in known and each.content_of in known]


def documents_of(
    report_id: str,
    study_uids: Sequence[str],
    versions: Sequence[Version],
    opened: Mapping[str, IncomingReport],
    tolerance: timedelta,
) -> list[Document]:
    """The documents of a report under each of its studies; `opened` is what its versions say that are not forgotten."""
    numbers = {each.version_id: number for number, each in enumerate(versions, start=1)}
    shown = [
        each
        for each in standings(versions, tolerance)
        if each.content_of in opened and each.version.version_id in opened
    ]
    return [
        Document(
            report_id=report_id,
            version_id=each.version.version_id,
            study_uid=study_uid,
            form=form,
            marking=each.marking,
            is_addendum=each.is_addendum,
            number=numbers[each.version.version_id],
            content=opened[each.content_of],
            content_of=each.content_of,
            verification=each.version.verification if each.version.said in VOUCHED else None,
            verified_by=_verified_by(opened[each.version.version_id]),
            is_of_one_study=len(study_uids) == 1,
            predecessors=_predecessors(report_id, study_uid, each, shown),
        )
        for study_uid in study_uids
        for each in shown
        for form in _forms(each, opened[each.content_of])
    ]


def former_of(
    report_id: str, study_uid: str, versions: Sequence[Version], present: Sequence[Reading]
) -> frozenset[str]:
    """The instances that may have been given out of a report in a study and are there no more, by UID.

    `present` is what stands there. What any of it says may be damaged or forgotten.
    """
    ever = {ref.sop_uid for each in versions for ref in every_ref(report_id, each.version_id, study_uid)}
    there = {
        ref_of(report_id, each.version.version_id, study_uid, form, each.marking).sop_uid
        for each in present
        for form in Form
    }
    return frozenset(ever - there)


def objects_gone(versions: Sequence[Version], objects: Mapping[str, str], tolerance: timedelta) -> frozenset[str]:
    """The objects that a report came as and that are superseded, taken back or withdrawn, by SOP instance UID.

    `objects` is which of its versions came as which object.
    """
    life = fold(versions, tolerance)
    past = life.withdrawn.union(life.superseded)
    past |= {_content_of(each, versions) for each in versions if each.version_id in life.superseded}
    present = {version_id for each in _present(life) for version_id in (each.version.version_id, each.content_of)}
    return frozenset(objects[each] for each in past - present - life.repeats.keys() if each in objects)


def standing_of(versions: Sequence[Version], tolerance: timedelta, left: Sequence[str] = ()) -> str:
    """Names how a report stands: another once any of its versions that may be read stands otherwise.

    So once it has `left` a study under which it stood by mistake.
    """
    told = sorted((each.version.version_id, each.marking.value) for each in standings(versions, tolerance))
    return hashlib.sha256(orjson.dumps([*told, *left])).hexdigest()[:32]


def _present(life: Lifecycle) -> Iterator[Reading]:
    if life.preliminary is not None:
        yield Reading(life.preliminary, life.preliminary.version_id, Marking.PRELIMINARY)
    if life.current is not None:
        yield Reading(life.current, life.content_of, Marking.CURRENT)
    for each in life.addenda:
        yield Reading(each, each.version_id, Marking.CURRENT, is_addendum=True)


def _past(life: Lifecycle, known: Mapping[str, Version], versions: Sequence[Version]) -> Iterator[Reading]:
    """What was withdrawn stays so: the next report under its number has nothing to do with its text."""
    rest = [each for each in versions if each.version_id not in life.withdrawn]
    for version_id in reversed(life.superseded):
        version = known.get(version_id)
        if version is not None:
            is_withdrawn = version_id in life.withdrawn
            marking = Marking.WITHDRAWN if is_withdrawn else _marking_of_past(life.standing)
            content = _content_of(version, versions if is_withdrawn else rest)
            yield Reading(version, content, marking, is_addendum=version.said is Said.APPENDED)


def _marking_of_past(standing: Standing) -> Marking:
    match standing:
        case Standing.RECEIVED | Standing.VERIFIED:
            return Marking.SUPERSEDED
        case Standing.BEING_CORRECTED:
            return Marking.BEING_CORRECTED
        case Standing.CANCELLED | Standing.WITHDRAWN:
            return Marking.WITHDRAWN
        case _:
            assert_never(standing)


def _content_of(version: Version, versions: Sequence[Version]) -> str:
    """Its own, or of one that only vouched for an earlier text of its source that text's."""
    if version.has_content:
        return version.version_id
    own = [each for each in versions if each.has_content and each.precedence == version.precedence]
    earlier = [each for each in own if each.stated_at <= version.stated_at]
    return max(earlier, key=lambda each: (each.stated_at, each.version_id)).version_id if earlier else ""


def _forms(standing: Reading, content: IncomingReport) -> list[Form]:
    """A notice of withdrawal is text; else each form in which there is something to read."""
    if standing.marking is Marking.WITHDRAWN:
        return [Form.TEXT]
    text, pdf = content.content.text.strip(), content.content.pdf
    return [form for form, has in ((Form.TEXT, bool(text)), (Form.PDF, bool(pdf))) if has]


def _predecessors(
    report_id: str, study_uid: str, standing: Reading, shown: Sequence[Reading]
) -> tuple[InstanceRef, ...]:
    if standing.marking is not Marking.CURRENT:
        return ()
    if standing.is_addendum:
        current = next((each for each in shown if each.marking is Marking.CURRENT and not each.is_addendum), None)
        named = [] if current is None else [(current.version.version_id, Marking.CURRENT)]
    else:
        before = next((each for each in shown if each.marking is Marking.SUPERSEDED), None)
        version_id = "" if before is None else before.version.version_id
        named = [(version_id, marking) for marking in (Marking.CURRENT, Marking.SUPERSEDED) if version_id]
    return tuple(ref_of(report_id, version_id, study_uid, Form.TEXT, marking) for version_id, marking in named)


def _verified_by(said: IncomingReport) -> str:
    by = said.verification.by if said.verification is not None else ""
    return by or said.interpreter.name
