"""Examine an archive over DICOMweb: QIDO at each resource, the media types it gives, paging, and an empty answer.

Which habit is met by which quirk is `dicomweb.connector`'s knowledge; here each is provoked. Follows no redirect. The
address of a question about a test patient is never shown. PS3.18 8.3.4, 8.7 and 10.6.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from urllib.parse import quote

import aiohttp
from yarl import URL

from dicomweb import dicomjson
from dicomweb.connector import Quirk
from gateway.doctor.connection import Place
from gateway.doctor.findings import Layer, Report, Verdict
from gateway.doctor.trial import bears
from gateway.model.errors import PeerProtocolError
from gateway.model.imaging import PATIENT_ID, STUDY_UID, Attributes
from gateway.model.settings import Limits

DICOM_JSON = "application/dicom+json"
_JSON = frozenset({DICOM_JSON, "application/json"})
ACCEPTED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        DICOM_JSON: _JSON,
        "application/json": _JSON,
        'multipart/related; type="application/dicom+xml"': frozenset({"multipart/related"}),
        "*/*": frozenset(),
    }
)
"""Forms of an answer, and the media types that they come as (none: any).

Only the first is ever asked for; the others say something about the archive.
"""
BODY_BYTES_MAX = 4 * 1024 * 1024
_EMPTY = frozenset({HTTPStatus.OK, HTTPStatus.NO_CONTENT})
_MANY = 2
_SLOW_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class WebSubject:
    """The archive under examination, as its profile has it."""

    place: Place
    url: str
    character_set: str
    limits: Limits
    new_uid: Callable[[], str]
    test_patient: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; `failure` in words where nothing did."""

    status: int = 0
    content_type: str = ""
    charset: str = ""
    body: bytes = b""
    failure: str = ""
    duration_s: float = 0.0

    @property
    def outcome(self) -> str:
        """How it came out, in words."""
        return self.failure or f"status {self.status}" + (f", {self.content_type}" if self.body else "")

    @property
    def is_good(self) -> bool:
        """Whether it is an answer to a search."""
        return not self.failure and self.status in (*_EMPTY, HTTPStatus.PARTIAL_CONTENT)


class WebVisit:
    """An examination under way, on one session."""

    def __init__(self, subject: WebSubject, report: Report, session: aiohttp.ClientSession) -> None:
        self.subject = subject
        self.report = report
        self._session = session

    async def ask(self, resource: str, keys: Mapping[str, str] | None = None, accept: str = DICOM_JSON) -> Reply:
        """GET a resource; raises nothing but cancellation."""
        pairs = "&".join(f"{name}={quote(value, safe='*,')}" for name, value in (keys or {}).items())
        url = URL(f"{self.subject.url}{resource}?{pairs}", encoded=True)
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        began = time.monotonic()
        try:
            async with (
                asyncio.timeout(self.subject.limits.find_timeout_s),
                self._session.get(url, headers=headers, allow_redirects=False) as response,
            ):
                body = await response.content.read(BODY_BYTES_MAX)
                while body and len(body) < BODY_BYTES_MAX and (more := await response.content.read(BODY_BYTES_MAX)):
                    body += more
        except TimeoutError:
            return Reply(failure="no answer in time")
        except (aiohttp.ClientError, OSError) as error:
            return Reply(failure=f"no answer: {type(error).__name__}")
        return Reply(
            response.status,
            response.content_type if body else "",
            response.charset or "",
            bytes(body),
            duration_s=time.monotonic() - began,
        )

    def rows(self, reply: Reply, *, plain_names: bool = False, nul_padding: bool = False) -> list[Attributes]:
        """Its rows as the connector reads them; raises `PeerProtocolError`."""
        if not reply.body:
            return []
        reading = dicomjson.Reading(
            self.report.trust,
            self.subject.limits.json_depth_max,
            self.subject.character_set,
            forgives_plain_names=plain_names,
            forgives_nul_padding=nul_padding,
        )
        return dicomjson.read_rows(reply.body, reading, reply.charset)


async def examine_dicomweb(subject: WebSubject, report: Report) -> None:
    """Examine from HTTP upwards; the connection was found good before."""
    secure = subject.place.secure
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=subject.limits.peer_requests_at_once_max, ssl=secure if secure is not None else True
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={"User-Agent": "image-sharing-gateway"},
    ) as session:
        visit = WebVisit(subject, report, session)
        if not await _resources(visit):
            return
        await _media_types(visit)
        await _paging(visit)
        await _uid_lists(visit)
        await _requests_at_once(visit)
        if subject.test_patient:
            await _test_patient(visit)


async def _resources(visit: WebVisit) -> bool:
    """Search each resource for what cannot exist; whether studies can be searched at all."""
    study, series = visit.subject.new_uid(), visit.subject.new_uid()
    resources: tuple[tuple[str, dict[str, str]], ...] = (
        ("/studies", {"StudyInstanceUID": study}),
        ("/series", {"StudyInstanceUID": study}),
        ("/instances", {"StudyInstanceUID": study}),
        (f"/studies/{study}/series", {}),
        (f"/studies/{study}/instances", {}),
        (f"/studies/{study}/series/{series}/instances", {}),
    )
    for number, (resource, keys) in enumerate(resources):
        reply = await visit.ask(resource, keys)
        check = resource.replace(study, "{study}").replace(series, "{series}")
        if number == 0 and not _answers_http(visit.report, check, reply):
            return False
        _judge_nobody(visit, check, reply)
    return True


def _answers_http(report: Report, check: str, reply: Reply) -> bool:
    match reply:
        case Reply(failure=str(failure)) if failure:
            advice = "the archive connects and does not answer HTTP: look for a mistake in the port, or ask its desk"
            found = failure
        case Reply(status=401 | 403):
            found, advice = reply.outcome, "the archive does not admit our certificate to searches: ask its desk"
        case Reply(status=status) if 300 <= status < 400:
            found, advice = reply.outcome, "the archive answers with a redirect: put the final address into url"
        case Reply(status=404) if not reply.body.lstrip().startswith(b"["):
            found = reply.outcome
            advice = "perhaps the path in url is wrong (such as /dicom-web, /dcm4chee-arc/aets/AE/rs): ask its desk"
        case Reply(status=status) if status >= 400:
            found, advice = reply.outcome, "the archive refuses a search that is in order: ask its desk for its log"
        case _:
            return True
    report.add(Layer.HTTP, check, Verdict.FAILED, found, advice)
    return False


def _judge_nobody(visit: WebVisit, check: str, reply: Reply) -> None:
    report, limit_s = visit.report, visit.subject.limits.find_timeout_s
    if not reply.is_good:
        is_404 = reply.status == HTTPStatus.NOT_FOUND
        advice = "read as a refusal: nothing is found through this resource" if is_404 else "ask the archive's desk"
        report.add(Layer.QIDO, check, Verdict.WARNING, reply.outcome, advice, duration_s=reply.duration_s)
        return
    try:
        rows = visit.rows(reply)
    except PeerProtocolError as error:
        report.add(Layer.QIDO, check, Verdict.WARNING, f"cannot be believed: {error}", "ask the archive's desk")
        return
    if rows:
        advice = (
            "the archive ignores this key. Its rows are matched again here, so nothing wrong is shown, but answers are "
            "long and may be cut: have the archive mended"
        )
        found = f"{len(rows)} rows that were not asked for"
        report.add(Layer.QIDO, check, Verdict.WARNING, found, advice, duration_s=reply.duration_s)
    elif reply.duration_s > _SLOW_SHARE * limit_s:
        advice = (
            f"callers wait {limit_s:g} s at most: ask the archive's desk why, else raise find_timeout_s in [limits]"
        )
        report.add(Layer.QIDO, check, Verdict.WARNING, "slow", advice, duration_s=reply.duration_s)
    else:
        empty = "no content" if reply.status == HTTPStatus.NO_CONTENT else "an empty list"
        found = f"{reply.status}, {empty}"
        report.add(Layer.QIDO, check, Verdict.GOOD, found, duration_s=reply.duration_s)


async def _media_types(visit: WebVisit) -> None:
    for accept, types in ACCEPTED.items():
        reply = await visit.ask("/studies", {"StudyInstanceUID": visit.subject.new_uid()}, accept)
        check = f"Accept: {accept.partition(';')[0]}"
        is_asked_for = not reply.body or not types or reply.content_type in types
        if reply.is_good and is_asked_for:
            visit.report.add(Layer.QIDO, check, Verdict.GOOD, reply.outcome)
        elif accept == DICOM_JSON:
            advice = "DICOM JSON is the only form that is asked for, and every archive must give it (PS3.18 10.6.4)"
            visit.report.add(Layer.QIDO, check, Verdict.FAILED, reply.outcome, advice)
        else:
            words = f"{reply.outcome}: not what was asked for" if reply.is_good else reply.outcome
            visit.report.add(Layer.QIDO, check, Verdict.NOTE, words)


async def _paging(visit: WebVisit) -> None:
    """Whether limit and offset are taken; whether they are kept to is seen with a test patient."""
    keys = {"StudyInstanceUID": visit.subject.new_uid(), "limit": "10", "offset": "10"}
    reply = await visit.ask("/studies", keys)
    if reply.is_good:
        visit.report.add(Layer.QIDO, "limit and offset", Verdict.GOOD, "taken")
    else:
        visit.report.has_habit(Layer.QIDO, "limit and offset", Quirk.NO_PAGING, reply.outcome, "asked once then")


async def _uid_lists(visit: WebVisit) -> None:
    uids = [visit.subject.new_uid(), visit.subject.new_uid()]
    if (await visit.ask("/studies", {"StudyInstanceUID": ",".join(uids)})).is_good:
        visit.report.add(Layer.QIDO, "list of UIDs", Verdict.GOOD, "taken")
        return
    reply = await visit.ask("/studies", {"StudyInstanceUID": "\\".join(uids)})
    if reply.is_good:
        found = "taken with backslashes between alone"
        visit.report.has_habit(Layer.QIDO, "list of UIDs", Quirk.BACKSLASH_LISTS, found)
        return
    advice = "questions that list studies will fail at this archive: have it mended"
    visit.report.add(Layer.QIDO, "list of UIDs", Verdict.WARNING, reply.outcome, advice)


async def _requests_at_once(visit: WebVisit) -> None:
    """Send as many searches as may be under way at once, and count those that are answered."""
    wanted = visit.subject.limits.peer_requests_at_once_max
    keys = [{"StudyInstanceUID": visit.subject.new_uid()} for _ in range(wanted)]
    replies = await asyncio.gather(*(visit.ask("/studies", each) for each in keys))
    refusals = [reply.outcome for reply in replies if not reply.is_good]
    visit.report.bears_at_once("requests at once", wanted - len(refusals), wanted, ", ".join(dict.fromkeys(refusals)))


async def _test_patient(visit: WebVisit) -> None:
    """Search for the labelled test patient, whose answers show what an empty one cannot."""
    report, number = visit.report, visit.subject.test_patient
    fields = {"includefield": "PatientName,PatientID,OtherPatientIDsSequence,StudyInstanceUID"}
    reply = await visit.ask("/studies", {"PatientID": number, **fields})
    rows = _read(visit, reply)
    if rows is None:
        return
    own = [row for row in rows if bears(row, number)]
    if not own:
        wide = _read(visit, await visit.ask("/studies", {"PatientID": f"*{number}*", **fields})) or []
        if any(number in _text(row, PATIENT_ID) for row in wide):
            found = "found between wild cards alone: the archive pads or prefixes its Patient IDs"
            report.has_habit(Layer.QIDO, "test patient", Quirk.WILDCARD_PATIENT_ID, found)
        else:
            advice = "is this number filed there as Patient ID? Without a hit much cannot be told"
            report.add(Layer.QIDO, "test patient", Verdict.WARNING, "no study found", advice)
        return
    report.has_not(Quirk.WILDCARD_PATIENT_ID)
    if len(own) < len(rows):
        advice = "the archive does not match Patient ID exactly; its rows are matched again here"
        found = f"{len(own)} studies among {len(rows)} rows"
        report.add(Layer.QIDO, "test patient", Verdict.WARNING, found, advice)
    else:
        report.add(Layer.QIDO, "test patient", Verdict.GOOD, f"{len(own)} studies", duration_s=reply.duration_s)
    _character_set(report, reply)
    if len(rows) >= _MANY:
        await _pages(visit, number)
    await _listed(visit, _text(own[0], STUDY_UID))


def _read(visit: WebVisit, reply: Reply) -> list[Attributes] | None:
    """The rows, by the habits that it takes to read them; None, and a finding, where none helps."""
    report = visit.report
    if not reply.is_good:
        advice = "ask the archive's desk what its log says"
        report.add(Layer.QIDO, "test patient", Verdict.WARNING, reply.outcome, advice)
        return None
    habits = ((), (Quirk.PLAIN_NAMES,), (Quirk.NUL_PADDING,), (Quirk.PLAIN_NAMES, Quirk.NUL_PADDING))
    refusal = ""
    for forgiven in habits:
        try:
            rows = visit.rows(
                reply, plain_names=Quirk.PLAIN_NAMES in forgiven, nul_padding=Quirk.NUL_PADDING in forgiven
            )
        except PeerProtocolError as error:
            refusal = refusal or str(error)
            continue
        for quirk in (Quirk.PLAIN_NAMES, Quirk.NUL_PADDING):
            if quirk in forgiven:
                report.has_habit(Layer.QIDO, "rows", quirk, refusal)
            else:
                report.has_not(quirk)
        return rows
    report.add(Layer.QIDO, "rows", Verdict.WARNING, refusal, "nothing of it can be used: have the archive mended")
    return None


async def _pages(visit: WebVisit, number: str) -> None:
    """Whether limit and offset are kept to."""
    first = _read(visit, await visit.ask("/studies", {"PatientID": number, "limit": "1"}))
    second = _read(visit, await visit.ask("/studies", {"PatientID": number, "limit": "1", "offset": "1"}))
    if first is None or second is None:
        return
    uids = [_text(row, STUDY_UID) for row in (*first, *second)]
    if len(first) == len(second) == 1 and len(set(uids)) == _MANY:
        visit.report.has_not(Quirk.NO_PAGING)
        visit.report.add(Layer.QIDO, "pages", Verdict.GOOD, "limit and offset are kept to")
    else:
        found = "limit and offset are not kept to"
        visit.report.has_habit(Layer.QIDO, "pages", Quirk.NO_PAGING, found, "asked once then, without them")


async def _listed(visit: WebVisit, study_uid: str) -> None:
    """Whether a list of UIDs finds what one of them names."""
    other = visit.subject.new_uid()
    for separator, quirk in ((",", None), ("\\", Quirk.BACKSLASH_LISTS)):
        rows = _read(visit, await visit.ask("/studies", {"StudyInstanceUID": separator.join((study_uid, other))})) or []
        if not any(_text(row, STUDY_UID) == study_uid for row in rows):
            continue
        if quirk is None:
            visit.report.has_not(Quirk.BACKSLASH_LISTS)
        else:
            visit.report.has_habit(Layer.QIDO, "list of UIDs", quirk, "finds with backslashes between alone")
        return
    advice = "questions that list studies find nothing at this archive: have it mended"
    visit.report.add(Layer.QIDO, "list of UIDs", Verdict.WARNING, "a list of UIDs finds nothing", advice)


def _character_set(report: Report, reply: Reply) -> None:
    if reply.body.isascii():
        advice = "a test patient with an accent in the name would show it"
        report.add(Layer.TEXT, "encoding", Verdict.NOTE, "no text beyond ASCII came", advice)
        return
    try:
        reply.body.decode("utf-8")
    except UnicodeDecodeError:
        found = f"not UTF-8, declared {reply.charset or 'nowhere'}"
        advice = "JSON is UTF-8 (PS3.18 F.2); it is read as character_set says: see whether the name holds in a viewer"
        report.add(Layer.TEXT, "encoding", Verdict.WARNING, found, advice)
    else:
        report.add(Layer.TEXT, "encoding", Verdict.GOOD, "UTF-8")


def _text(row: Attributes, tag: str) -> str:
    values = row.get(tag, {}).get("Value")
    return values[0] if isinstance(values, list) and values and isinstance(values[0], str) else ""
