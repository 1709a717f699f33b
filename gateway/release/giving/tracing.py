"""Who the patient is on the day (SAF-66): the report's number, name and date of birth against a fresh trace.

Stricter than sharing: what is merely tolerated between two trusts' images is not enough to write to somebody. What
disagrees, and what nobody can say, is never released; the one waits for a person, the other for another try.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import structlog

from gateway.model.imaging import PATIENT_BIRTH_DATE, PATIENT_NAME
from gateway.model.reporting.channels import Addressee
from gateway.model.reporting.incoming import Subject
from gateway.model.reporting.tracing import PersonLookup, TracedPerson
from gateway.model.seams import TraceState
from gateway.release.contents import Contents
from gateway.release.giving.addressees import NOBODY, Vault, encoded, trace_name
from gateway.release.planner import Situation
from gateway.sharing.identity.patients import Demographics, Likeness, compare, demographics_of, folded_surname
from policy.parties import NhsNumber
from policy.release.circumstances import IdentityAgreement
from storage.database import Read
from storage.registers import patients as registered
from storage.release import standing
from storage.store import SqlStore

log = structlog.get_logger(__name__)

_SEPARATORS = str.maketrans("^=\\", "   ")
"""What divides a person's name in DICOM stands in nobody's."""


class DayTracing:
    """Traces the patient of one report; `lookup` None: nobody can be asked, and nothing is released."""

    def __init__(
        self,
        store: SqlStore,
        contents: Contents,
        vault: Vault,
        lookup: PersonLookup | None,
        *,
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._contents = contents
        self._vault = vault
        self.lookup = lookup
        self._new_id = new_id

    async def trace(self, situation: Situation) -> standing.Trace | None:
        """What is found now, ready to be kept; None where there is nothing to trace. Raises a `ServiceFault`."""
        report, current = situation.report, situation.lifecycle.current
        if current is None or report.patient_id is None:
            return None
        patient_row = report.patient_id
        number = await self._store.read(lambda read: registered.nhs_number(read, patient_row))
        if number is None:
            return None
        if self.lookup is None:
            log.error("nobody to trace patients by", alarm=True, trust=report.trust.code)
            found = TracedPerson(TraceState.FAILED)
        else:
            found = await self.lookup.person(number, self._new_id())
        subject = (await self._contents.open(current.version_id)).subject
        is_theirs = await self._store.read(lambda read: _is_theirs(read, found.number, patient_row))
        agreement = agreement_of(subject, number, found, is_theirs=is_theirs)
        addressee = addressee_of(found) if agreement is IdentityAgreement.AGREES else None
        plain = NOBODY if addressee is None else encoded(addressee)
        key_id, sealed = await self._vault.seal(trace_name(report.report_id), plain, patient_row)
        return standing.Trace(
            version_id=current.version_id,
            at=situation.now,
            agreement=agreement.value,
            birth_date=found.birth_date.isoformat() if found.birth_date is not None else None,
            number_status=found.number_status,
            death=found.death.value,
            patient_row=patient_row,
            key_id=key_id,
            sealed=sealed,
        )


def agreement_of(subject: Subject, number: NhsNumber, found: TracedPerson, *, is_theirs: bool) -> IdentityAgreement:
    """Whether the report is of the person who was found; `is_theirs`: the number found leads to the report's row.

    Another number than the report's own is nobody's until the registers join the two (SAF-33).
    """
    match found.state:
        case TraceState.FAILED | TraceState.UNKNOWN:
            return IdentityAgreement.NOT_TRACED
        case TraceState.INVALIDATED:
            return IdentityAgreement.DISAGREES
        case _:
            pass
    if subject.nhs_number is not None and subject.nhs_number != number and not is_theirs:
        return IdentityAgreement.DISAGREES
    if found.number is None or not is_theirs or subject.birth_date is None or subject.birth_date != found.birth_date:
        return IdentityAgreement.DISAGREES
    said = _demographics(subject.family_name, subject.given_name, subject.birth_date)
    known = _demographics(found.family_name, found.given_name, found.birth_date)
    surnames = frozenset(folded_surname(surname.translate(_SEPARATORS)) for surname in found.surnames)
    if compare(said, known, surnames) is Likeness.SAME:
        return IdentityAgreement.AGREES
    return IdentityAgreement.DISAGREES


def addressee_of(found: TracedPerson) -> Addressee | None:
    """Whom to write to, as traced."""
    if found.number is None or found.birth_date is None:
        return None
    return Addressee(found.number, found.family_name, found.given_name, found.birth_date)


def same_person(family_name: str, birth_date: date | None, addressee: Addressee) -> bool:
    """Whether an account's surname and birth date are the addressee's (SAF-66)."""
    if birth_date != addressee.birth_date:
        return False
    return folded_surname(family_name.translate(_SEPARATORS)) == folded_surname(
        addressee.family_name.translate(_SEPARATORS)
    )


def _demographics(family_name: str, given_name: str, birth_date: date) -> Demographics:
    name = f"{family_name.translate(_SEPARATORS)}^{given_name.translate(_SEPARATORS)}"
    return demographics_of(
        {
            PATIENT_NAME: {"vr": "PN", "Value": [{"Alphabetic": name}]},
            PATIENT_BIRTH_DATE: {"vr": "DA", "Value": [birth_date.strftime("%Y%m%d")]},
        }
    )


def _is_theirs(read: Read, number: NhsNumber | None, patient_row: str) -> bool:
    """Whether a number leads to this row, over confirmed merges."""
    return number is not None and patient_row in registered.rows_of(read, [registered.nhs(number)])
