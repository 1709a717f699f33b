"""An association with an archive under examination: is it granted, on what terms, and does anybody answer there.

A rejection is explained by its source and reason (PS3.8 9.3.4), a broken request by asking again without extended
negotiation, which some archives do not bear. Every trial that follows gets an association of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from dimse.scu.questions import Model, Quirk
from dimse.sop_classes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PATIENT_ROOT_FIND,
    STUDY_ROOT_FIND,
    VERIFICATION,
)
from dimse.upper_layer.association import Association, AssociationFailure, AssociationLimits, AssociationRejected
from dimse.upper_layer.commands import Command, CommandField
from dimse.upper_layer.negotiation import Context, propose
from dimse.upper_layer.pdu import AssociateRequest, ExtendedNegotiation
from dimse.upper_layer.requestor import associate
from gateway.doctor.connection import Place
from gateway.doctor.findings import Layer, Report, Verdict
from gateway.doctor.trial import Answer, Trial, ask
from gateway.model.settings import Limits

FIND_CLASSES: Mapping[Model, str] = MappingProxyType(
    {Model.STUDY_ROOT: STUDY_ROOT_FIND, Model.PATIENT_ROOT: PATIENT_ROOT_FIND}
)
BOTH_SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
_RELATIONAL = b"\x01"
_RELEASE_WAIT_S = 2.0

_REJECTIONS: Mapping[tuple[int, int], tuple[str, str]] = {
    (1, 1): ("no reason given", "ask the archive's desk what its log says"),
    (1, 2): ("the application context is not supported", "the archive does not speak DICOM as PS3.7 has it"),
    (1, 3): (
        "our calling AE title is not recognised",
        "ask the archive's desk to admit our AE title and address, or set calling_ae_title to what it expects",
    ),
    (1, 7): ("the called AE title is not recognised", "set ae_title to the archive's own, capital letters included"),
    (2, 1): ("no reason given by the association service", "ask the archive's desk what its log says"),
    (2, 2): ("the protocol version is not supported", "the archive does not speak DICOM as PS3.8 has it"),
    (3, 1): ("temporary congestion", "the archive is busy: try again"),
    (3, 2): (
        "its limit of associations is reached",
        "lower peer_requests_at_once_max, or ask its desk for more",
    ),
}
"""Source and reason of a rejection (PS3.8 9.3.4) in words, and what to do."""


_ROWS = "rows"
_ROWS_UNREADABLE = "rows that cannot be read are not shown, and what it answers then counts as incomplete"


@dataclass(frozen=True, slots=True)
class Subject:
    """The archive under examination, as its profile has it."""

    place: Place
    called_ae_title: str
    calling_ae_title: str
    limits: Limits
    new_uid: Callable[[], str]
    test_patient: str = ""
    """Patient ID of a labelled test patient as the archive files it; empty: nobody is asked for."""


@dataclass(slots=True)
class Visit:
    """An examination under way."""

    subject: Subject
    report: Report
    is_extended: bool = True
    """Whether relational queries are asked for when associating."""
    models: list[Model] = field(default_factory=list)

    async def association(self, syntaxes: tuple[str, ...] = BOTH_SYNTAXES) -> Association:
        """A new one; raises `AssociationFailure`."""
        subject = self.subject
        limits = AssociationLimits(send_timeout_s=subject.limits.dimse_send_timeout_s)
        return await associate(
            subject.place.host,
            subject.place.port,
            _request(subject, syntaxes, is_extended=self.is_extended),
            limits,
            tls=subject.place.secure,
            connect_timeout_s=subject.place.connect_timeout_s,
        )

    async def trial(self, trial: Trial) -> Answer:
        """Ask on an association of its own, so that no trial suffers from the one before."""
        try:
            association = await self.association()
        except AssociationFailure as error:
            return Answer(ended=f"no association: {error}")
        context = context_of(association, FIND_CLASSES[self.models[0]])
        assert context is not None
        try:
            answer = await ask(association, context, trial, self.subject.limits.find_timeout_s)
        finally:
            await leave(association)
        if answer.unreadable and not any(finding.check == _ROWS for finding in self.report.findings):
            self.report.add(Layer.FIND, _ROWS, Verdict.WARNING, answer.unreadable, _ROWS_UNREADABLE)
        return answer


async def associated(visit: Visit) -> Association | None:
    began, report = time.monotonic(), visit.report
    try:
        association = await visit.association()
    except AssociationRejected as error:
        words, advice = _REJECTIONS.get(
            (error.reject.source, error.reject.reason), (str(error), "ask the archive's desk what its log says")
        )
        kind = "for now" if error.reject.result == 2 else "for good"
        report.add(Layer.ASSOCIATION, "request", Verdict.FAILED, f"rejected {kind}: {words}", advice)
        return None
    except AssociationFailure as error:
        return await _without_negotiation(visit, error)
    duration_s = time.monotonic() - began
    report.add(Layer.ASSOCIATION, "request", Verdict.GOOD, "accepted", duration_s=duration_s)
    return association


def agreed_terms(association: Association, report: Report) -> list[Model]:
    """Say what was agreed; the information models that were accepted, ours by default first."""
    terms = association.terms
    name = terms.peer_implementation or "says no name"
    report.add(Layer.ASSOCIATION, "implementation", Verdict.NOTE, name)
    longest = f"{terms.peer_pdu_bytes_max:,} bytes" if terms.peer_pdu_bytes_max else "no limit"
    report.add(Layer.ASSOCIATION, "longest PDU that it takes", Verdict.NOTE, longest)
    models = [model for model, uid in FIND_CLASSES.items() if context_of(association, uid) is not None]
    match models:
        case []:
            advice = "the archive must offer C-FIND in Study Root or Patient Root to our AE title: ask its desk"
            report.add(Layer.ASSOCIATION, "information models", Verdict.FAILED, "none accepted", advice)
        case [Model.PATIENT_ROOT]:
            report.settings["model"] = Model.PATIENT_ROOT.value
            advice = 'set model = "patient-root"; studies are then found by patient alone'
            report.add(Layer.ASSOCIATION, "information models", Verdict.SET, "Patient Root alone", advice)
        case _:
            report.settings["model"] = Model.STUDY_ROOT.value
            found = ", ".join(model.value for model in models)
            report.add(Layer.ASSOCIATION, "information models", Verdict.GOOD, found)
    extended = (terms.extended.get(uid, b"")[:1] for uid in FIND_CLASSES.values())
    if _RELATIONAL not in extended:
        # Of one that agrees to relational queries only its answers could tell whether it keeps to them.
        report.has_not(Quirk.NO_RELATIONAL_NEGOTIATION)
    for model in models:
        context = context_of(association, FIND_CLASSES[model])
        assert context is not None
        is_relational = terms.extended.get(context.abstract_syntax, b"")[:1] == _RELATIONAL
        syntax = "Explicit VR" if context.transfer_syntax == EXPLICIT_VR_LITTLE_ENDIAN else "Implicit VR"
        queries = "relational queries" if is_relational else "hierarchical queries alone"
        report.add(Layer.ASSOCIATION, model.value, Verdict.NOTE, f"{syntax}, {queries}")
    return models


async def echo(association: Association, limits: Limits, report: Report) -> bool:
    context = context_of(association, VERIFICATION)
    if context is None:
        report.add(Layer.ECHO, "echo", Verdict.NOTE, "C-ECHO is not accepted; nothing needs it")
        return True
    began = time.monotonic()
    command = Command(CommandField.C_ECHO_RQ, association.next_message_id(), sop_class_uid=VERIFICATION)
    try:
        async with asyncio.timeout(limits.find_timeout_s):
            await association.send(context.context_id, command)
            status = (await association.receive()).command.status
    except (TimeoutError, AssociationFailure) as error:
        found = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        advice = "the archive associates and does not work: ask its desk to look at its service"
        report.add(Layer.ECHO, "echo", Verdict.FAILED, found, advice)
        return False
    verdict = Verdict.GOOD if status == 0 else Verdict.WARNING
    report.add(Layer.ECHO, "echo", verdict, f"status {status:04X}", duration_s=time.monotonic() - began)
    return True


async def associations_at_once(visit: Visit) -> None:
    """Open as many associations as may be asked on at once, and count those that are granted.

    Many archives take a handful from one title; callers would see a trust that is missing now and then.
    """
    wanted, refusal = visit.subject.limits.peer_requests_at_once_max, ""
    granted: list[Association] = []
    try:
        while len(granted) < wanted and not refusal:
            try:
                granted.append(await visit.association())
            except AssociationFailure as error:
                refusal = str(error)
    finally:
        await asyncio.gather(*(leave(association) for association in granted))
    visit.report.bears_at_once("associations at once", len(granted), wanted, refusal)


async def leave(association: Association) -> None:
    try:
        if association.is_open:
            async with asyncio.timeout(_RELEASE_WAIT_S):
                await association.release()
    except (TimeoutError, AssociationFailure):
        pass
    finally:
        association.abort("examined")


def context_of(association: Association, abstract_syntax: str) -> Context | None:
    contexts = association.terms.contexts.values()
    return next((context for context in contexts if context.abstract_syntax == abstract_syntax), None)


async def _without_negotiation(visit: Visit, first: AssociationFailure) -> Association | None:
    """Some archives abort at extended negotiation: whether this is one."""
    visit.is_extended = False
    try:
        association = await visit.association()
    except AssociationFailure:
        advice = "the archive hangs up on a request that is in order: ask its desk what its log says of this moment"
        visit.report.add(Layer.ASSOCIATION, "request", Verdict.FAILED, f"no association: {first}", advice)
        return None
    visit.report.has_habit(
        Layer.ASSOCIATION,
        "extended negotiation",
        Quirk.NO_RELATIONAL_NEGOTIATION,
        "associations with extended negotiation are refused, others accepted",
        "questions about series and images then walk down the levels, which takes longer",
    )
    return association


def _request(subject: Subject, syntaxes: tuple[str, ...], *, is_extended: bool) -> AssociateRequest:
    models = tuple(FIND_CLASSES.values())
    return propose(
        subject.calling_ae_title,
        subject.called_ae_title,
        [(uid, syntaxes) for uid in (*models, VERIFICATION)],
        pdu_bytes_max=subject.limits.pdu_bytes_max,
        extended=[ExtendedNegotiation(uid, _RELATIONAL) for uid in models] if is_extended else (),
    )
