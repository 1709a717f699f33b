"""Examine an archive over DIMSE from the association upwards, and C-FIND as a connector will ask it.

Which habit of an archive is met by which quirk is `dimse.scu.questions`' knowledge; here each is provoked. Without a
test patient only unique keys that cannot exist are asked for, so that no answer can be of anybody. PS3.4 C.4 to C.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dimse.scu.questions import Model, Quirk, first_text
from dimse.sop_classes import IMPLICIT_VR_LITTLE_ENDIAN
from dimse.upper_layer.association import AssociationFailure
from gateway.doctor.association import (
    FIND_CLASSES,
    Subject,
    Visit,
    agreed_terms,
    associated,
    associations_at_once,
    context_of,
    echo,
    leave,
)
from gateway.doctor.findings import Layer, Report, Verdict
from gateway.doctor.trial import Answer, Trial, ask, bears
from gateway.model.imaging import (
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    OTHER_PATIENT_IDS,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    Level,
)

_SLOW_SHARE = 0.5
"""A trial that takes more than this share of `find_timeout_s` is close to being told as missing."""
_RETURNED = frozenset({PATIENT_ID, ISSUER_OF_PATIENT_ID, OTHER_PATIENT_IDS, PATIENT_NAME, STUDY_UID})


async def examine_dimse(subject: Subject, report: Report) -> None:
    """Examine from the association upwards; the connection was found good before."""
    visit = Visit(subject, report)
    association = await associated(visit)
    if association is None:
        return
    try:
        visit.models = agreed_terms(association, report)
        is_alive = await echo(association, subject.limits, report)
    finally:
        await leave(association)
    if not visit.models or not is_alive:
        return
    if not await _levels(visit):
        return
    await _second_query(visit)
    await _uid_lists(visit)
    await _modalities(visit)
    await associations_at_once(visit)
    if subject.test_patient:
        await _test_patient(visit)


async def _levels(visit: Visit) -> bool:
    """Ask at each level for what cannot exist; whether studies can be asked for at all."""
    uids = [visit.subject.new_uid() for _ in range(3)]
    trials = {
        Level.STUDY: {STUDY_UID: uids[:1]},
        Level.SERIES: {STUDY_UID: uids[:1], SERIES_UID: uids[1:2]},
        Level.IMAGE: {STUDY_UID: uids[:1], SERIES_UID: uids[1:2], SOP_UID: uids[2:]},
    }
    if visit.models == [Model.PATIENT_ROOT]:
        nobody = {PATIENT_ID: [f"DOCTOR-{uids[0][-8:]}"]}
        trials = {level: {**nobody, **keys} for level, keys in trials.items()}
    is_answered = False
    for level, keys in trials.items():
        answer = await visit.trial(Trial(level, keys, _RETURNED if level is Level.STUDY else frozenset()))
        if not answer.succeeded and level is Level.STUDY and await _is_mended_by_implicit_vr(visit, keys):
            return True
        _judge_nobody(visit, level, answer)
        is_answered = is_answered or answer.succeeded
    return is_answered


def _judge_nobody(visit: Visit, level: Level, answer: Answer) -> None:
    """What an answer about what cannot exist shows."""
    report, check = visit.report, f"{level.value.lower()} that cannot exist"
    if not answer.succeeded:
        verdict = Verdict.FAILED if level is Level.STUDY else Verdict.WARNING
        advice = "ask the archive's desk what its log says, and whether our AE title may query"
        report.add(Layer.FIND, check, verdict, answer.outcome, advice, duration_s=answer.duration_s)
        return
    if answer.rows:
        many = f"{len(answer.rows)}{' or more' * answer.is_cut} rows that were not asked for"
        advice = (
            "the archive ignores unique keys. Its rows are matched again here, so nothing wrong is shown, but every "
            "answer is long and may be cut: have the archive mended, else lower its share of questions"
        )
        report.add(Layer.FIND, check, Verdict.WARNING, many, advice, duration_s=answer.duration_s)
        return
    limit_s = visit.subject.limits.find_timeout_s
    if answer.duration_s > _SLOW_SHARE * limit_s:
        advice = (
            f"callers wait {limit_s:g} s at most: ask the archive's desk why, else raise find_timeout_s in [limits]"
        )
        report.add(Layer.FIND, check, Verdict.WARNING, "slow", advice, duration_s=answer.duration_s)
        return
    report.add(Layer.FIND, check, Verdict.GOOD, "no rows, success", duration_s=answer.duration_s)


async def _is_mended_by_implicit_vr(visit: Visit, keys: Mapping[str, Sequence[str]]) -> bool:
    """Whether the archive accepts Explicit VR and fails at it."""
    subject = visit.subject
    try:
        association = await visit.association((IMPLICIT_VR_LITTLE_ENDIAN,))
    except AssociationFailure:
        return False
    try:
        context = context_of(association, FIND_CLASSES[visit.models[0]])
        if context is None:
            return False
        answer = await ask(association, context, Trial(Level.STUDY, keys), subject.limits.find_timeout_s)
    finally:
        await leave(association)
    if not answer.succeeded:
        return False
    found = "fails in Explicit VR, answers in Implicit VR"
    visit.report.has_habit(Layer.FIND, "transfer syntax", Quirk.IMPLICIT_VR_ONLY, found)
    return True


async def _second_query(visit: Visit) -> None:
    """Whether an association answers twice."""
    subject, report = visit.subject, visit.report
    try:
        association = await visit.association()
    except AssociationFailure as error:
        report.add(Layer.FIND, "second query of an association", Verdict.WARNING, f"no association: {error}")
        return
    context = context_of(association, FIND_CLASSES[visit.models[0]])
    assert context is not None
    try:
        answers = [await ask(association, context, _nobody(visit), subject.limits.find_timeout_s) for _ in range(2)]
    finally:
        await leave(association)
    if answers[1].succeeded:
        report.has_not(Quirk.ONE_QUERY_PER_ASSOCIATION)
        report.add(Layer.FIND, "second query of an association", Verdict.GOOD, "answered")
    else:
        report.has_habit(
            Layer.FIND,
            "second query of an association",
            Quirk.ONE_QUERY_PER_ASSOCIATION,
            answers[1].outcome,
            "every question then takes an association of its own",
        )


async def _uid_lists(visit: Visit) -> None:
    keys = {STUDY_UID: [visit.subject.new_uid(), visit.subject.new_uid()]}
    answer = await visit.trial(Trial(Level.STUDY, {**_patient_key(visit), **keys}))
    if answer.succeeded:
        report_words = "taken; whether it finds anything is seen with a test patient alone"
        visit.report.add(Layer.FIND, "list of UIDs", Verdict.GOOD, report_words)
    else:
        visit.report.has_habit(Layer.FIND, "list of UIDs", Quirk.NO_UID_LISTS, answer.outcome)


async def _modalities(visit: Visit) -> None:
    """Whether Modalities in Study may be asked for."""
    trial = _nobody(visit)
    answer = await visit.trial(Trial(trial.level, trial.keys, trial.wanted | {MODALITIES_IN_STUDY}))
    if not answer.succeeded:
        visit.report.has_habit(
            Layer.FIND,
            "Modalities in Study",
            Quirk.MODALITIES_BY_SERIES,
            answer.outcome,
            "they are then gathered from the series, one more query a study",
        )


async def _test_patient(visit: Visit) -> None:
    """Ask for the labelled test patient, whose answers show what an empty one cannot."""
    report, number = visit.report, visit.subject.test_patient
    wanted = _RETURNED | {MODALITIES_IN_STUDY}
    answer = await visit.trial(Trial(Level.STUDY, {PATIENT_ID: [number]}, wanted))
    own = [row for row in answer.rows if bears(row, number)]
    if not own:
        await _by_wildcard(visit, answer)
        return
    report.has_not(Quirk.WILDCARD_PATIENT_ID)
    count = f"{len(own)} studies"
    if len(own) < len(answer.rows):
        advice = "the archive does not match Patient ID exactly; its rows are matched again here"
        report.add(Layer.FIND, "test patient", Verdict.WARNING, f"{count} among {len(answer.rows)} rows", advice)
    else:
        report.add(Layer.FIND, "test patient", Verdict.GOOD, count, duration_s=answer.duration_s)
    if any(first_text(row, MODALITIES_IN_STUDY) for row in own):
        report.has_not(Quirk.MODALITIES_BY_SERIES)
        report.add(Layer.FIND, "Modalities in Study", Verdict.GOOD, "returned")
    elif Quirk.MODALITIES_BY_SERIES not in report.quirks:
        report.has_habit(
            Layer.FIND, "Modalities in Study", Quirk.MODALITIES_BY_SERIES, "left out", "gathered from the series then"
        )
    await _listed(visit, first_text(own[0], STUDY_UID))
    _character_set(report, answer)


async def _by_wildcard(visit: Visit, exact: Answer) -> None:
    number, report = visit.subject.test_patient, visit.report
    answer = await visit.trial(Trial(Level.STUDY, {PATIENT_ID: [f"*{number}*"]}, _RETURNED))
    if any(number in first_text(row, PATIENT_ID) for row in answer.rows):
        found = "found between wild cards alone: the archive pads or prefixes its Patient IDs"
        report.has_habit(Layer.FIND, "test patient", Quirk.WILDCARD_PATIENT_ID, found)
        _character_set(report, answer)
        return
    advice = "is this number filed there as Patient ID? Without a hit much cannot be told"
    found = exact.outcome if not exact.succeeded else "no study found"
    report.add(Layer.FIND, "test patient", Verdict.WARNING, found, advice)


async def _listed(visit: Visit, study_uid: str) -> None:
    """Whether a list of UIDs finds what one of them names."""
    keys = {STUDY_UID: [study_uid, visit.subject.new_uid()]}
    answer = await visit.trial(Trial(Level.STUDY, {**_patient_key(visit, visit.subject.test_patient), **keys}))
    if any(first_text(row, STUDY_UID) == study_uid for row in answer.rows):
        visit.report.has_not(Quirk.NO_UID_LISTS)
    else:
        found = "a list of UIDs finds nothing"
        visit.report.has_habit(Layer.FIND, "list of UIDs", Quirk.NO_UID_LISTS, found, "they are asked one by one")


def _character_set(report: Report, answer: Answer) -> None:
    if not answer.declared:
        advice = "a test patient with an accent in the name would show it"
        report.add(Layer.TEXT, "declared", Verdict.NOTE, "no text beyond ASCII came", advice)
    elif False in answer.declared:
        advice = "it is read as character_set says: see in a viewer whether the test patient's name holds"
        report.add(Layer.TEXT, "declared", Verdict.WARNING, "text beyond ASCII declares no character set", advice)
    else:
        report.add(Layer.TEXT, "declared", Verdict.GOOD, "text beyond ASCII declares its character set")


def _nobody(visit: Visit) -> Trial:
    return Trial(Level.STUDY, {**_patient_key(visit), STUDY_UID: [visit.subject.new_uid()]})


def _patient_key(visit: Visit, number: str = "") -> dict[str, list[str]]:
    """What Patient Root demands: a whole Patient ID, of nobody if none is named."""
    if visit.models[0] is Model.STUDY_ROOT:
        return {}
    return {PATIENT_ID: [number or f"DOCTOR-{visit.subject.new_uid()[-8:]}"]}
