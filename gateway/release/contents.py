"""What versions of reports say, in hand and at rest: encoded, sealed under the patient's key, opened again (SAF-41).

Opening asks no permission: whoever opens a version was allowed to, and has it audited. The message that brought it is
kept beside the message's own row, once, and not with the versions.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from datetime import date, datetime

import orjson

from gateway.model.errors import InvalidRequest, NotFound
from gateway.model.reporting.incoming import Content, Exam, IncomingReport, Practitioner, ReportSource, Subject
from gateway.model.work.transfers import KeyDomain, StudyKeys
from policy.parties import NhsNumber, PatientId, TrustId
from policy.release.reports import Said, Verification, ZoneKnown
from storage.release import content, messages, reports
from storage.release.reports import KeptContent
from storage.store import SqlStore

Key = tuple[bytes, bytes]
"""Its id, and itself."""

OPENED_HERE_BYTES_MAX = 262_144
"""What is larger is opened in a reader's thread, for it would hold up the loop."""
SCOPE = "reports"
"""Under which the keyring keeps the one key of a patient's reports."""


def owner_of_feed(trust: TrustId) -> str:
    """Whose key seals what belongs to no patient yet."""
    return f"feed/{trust.code}"


async def key_of(keys: StudyKeys, owner: str) -> Key:
    """The id and the key that seal a patient's reports, or a feed's letters; made if there is none."""
    return await keys.data_key(SCOPE, owner, KeyDomain.RELEASE)


def naming_secret(feed_key: Key) -> bytes:
    """By which what a trust's feeds say is named, so that whoever has the rows alone can try no text on them.

    It follows from the key that seals what belongs to no patient, which is never closed and outlasts every master key.
    """
    return hmac.digest(feed_key[1], b"names of report versions", "sha256")


def letter_name(row_id: str) -> str:
    """Under which name the bytes of a message are sealed."""
    return f"feed-message/{row_id}"


class Contents:
    """Opens what is kept of versions."""

    def __init__(self, store: SqlStore, keys: StudyKeys) -> None:
        self._store = store
        self._keys = keys

    async def open(self, version_id: str) -> IncomingReport:
        """What a version says; `raw` is empty.

        Raises `NotFound`, `KeyClosed` where its patient's keys are closed, `Damaged`, or another `ServiceFault`.
        """
        kept = await self._store.read(lambda read: reports.content(read, version_id))
        if kept is None:
            raise NotFound("no such version")
        return await self.opened(kept)

    async def letter(self, row_id: str) -> bytes:
        """What stood in a message; raises `InvalidRequest` where that is forgotten, and as `open`."""
        payload = await self._store.read(lambda read: messages.payload(read, row_id))
        if payload is None:
            raise InvalidRequest("what stood in the message is forgotten")
        return content.unseal(letter_name(row_id), payload.sealed, await self._keys.key(payload.key_id))

    async def opened(self, kept: KeptContent) -> IncomingReport:
        """What a version says of which the sealed content is at hand; raises as `open`."""
        if not kept.sealed:
            raise NotFound("what the version says is forgotten")
        key = await self._keys.key(kept.key_id)
        if len(kept.sealed) <= OPENED_HERE_BYTES_MAX:
            return _opened(kept, key)
        return await self._store.read(lambda _: _opened(kept, key))


def seal_version(version_id: str, report: IncomingReport, key: Key, random: Callable[[int], bytes]) -> bytes:
    """The sealed form of what a version says."""
    return content.seal(_place(version_id), encode(report), *key, random)


def _opened(kept: KeptContent, key: bytes) -> IncomingReport:
    return decode(content.unseal(_place(kept.version_id), kept.sealed, key))


def _place(version_id: str) -> str:
    return f"report-version/{version_id}"


def encode(report: IncomingReport) -> bytes:
    """Everything that a version says, as JSON."""
    verification = report.verification
    subject, exam = report.subject, report.exam
    return orjson.dumps(
        {
            "trust": report.trust.code,
            "feed": report.feed,
            "source": report.source.value,
            "message_id": report.message_id,
            "report_number": report.report_number,
            "said": report.said.value,
            "stated_at": report.stated_at.isoformat(),
            "received_at": report.received_at.isoformat(),
            "verification": None
            if verification is None
            else [_instant(verification.at), verification.by, verification.zone.value],
            "subject": {
                "nhs_number": subject.nhs_number and subject.nhs_number.digits,
                "nhs_number_status": subject.nhs_number_status,
                "local": [[each.issuer, each.value] for each in subject.local],
                "family_name": subject.family_name,
                "given_name": subject.given_name,
                "birth_date": subject.birth_date and subject.birth_date.isoformat(),
            },
            "text": report.content.text,
            "pdf": base64.b64encode(report.content.pdf).decode(),
            "elsewhere": report.content.elsewhere,
            "promotes": report.promotes,
            "is_administrative": report.is_administrative,
            "alert_codes": report.alert_codes,
            "accessions": report.accessions,
            "order_numbers": report.order_numbers,
            "resource_id": report.resource_id,
            "placer_numbers": report.placer_numbers,
            "predecessors": report.predecessors,
            "study_uids": report.study_uids,
            "exam": [exam.codes, exam.name, exam.modality, exam.body_region, _instant(exam.at)],
            "referrer": [report.referrer.identifier, report.referrer.name, report.referrer.team],
            "interpreter": [report.interpreter.identifier, report.interpreter.name, report.interpreter.team],
        }
    )


def decode(encoded: bytes) -> IncomingReport:
    """What `encode` was given, without the message itself."""
    held = orjson.loads(encoded)
    codes, exam_name, modality, body_region, examined_at = held["exam"]
    verification = held["verification"]
    return IncomingReport(
        trust=TrustId(held["trust"]),
        feed=held["feed"],
        source=ReportSource(held["source"]),
        message_id=held["message_id"],
        report_number=held["report_number"],
        said=Said(held["said"]),
        stated_at=datetime.fromisoformat(held["stated_at"]),
        verification=None
        if verification is None
        else Verification(_read_instant(verification[0]), verification[1], ZoneKnown(verification[2])),
        subject=_subject(held["subject"]),
        content=Content(held["text"], base64.b64decode(held["pdf"]), tuple(held.get("elsewhere", ()))),
        received_at=datetime.fromisoformat(held["received_at"]),
        promotes=held["promotes"],
        is_administrative=held["is_administrative"],
        alert_codes=tuple(held["alert_codes"]),
        accessions=tuple(held["accessions"]),
        order_numbers=tuple(held.get("order_numbers", ())),
        resource_id=held.get("resource_id", ""),
        placer_numbers=tuple(held["placer_numbers"]),
        predecessors=tuple(held.get("predecessors", ())),
        study_uids=tuple(held["study_uids"]),
        exam=Exam(tuple(codes), exam_name, modality, body_region, _read_instant(examined_at)),
        referrer=Practitioner(*held["referrer"]),
        interpreter=Practitioner(*held["interpreter"]),
    )


def _subject(held: dict[str, object]) -> Subject:
    local, birth_date, number = held["local"], held["birth_date"], held["nhs_number"]
    assert isinstance(local, list), "as it was encoded"
    return Subject(
        nhs_number=None if number is None else NhsNumber(str(number)),
        nhs_number_status=str(held["nhs_number_status"]),
        local=tuple(PatientId(issuer, value) for issuer, value in local),
        family_name=str(held["family_name"]),
        given_name=str(held["given_name"]),
        birth_date=None if birth_date is None else date.fromisoformat(str(birth_date)),
    )


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _read_instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
