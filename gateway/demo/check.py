"""The demo's story, walked unattended: what a region must do on its first day, chapter by chapter.

Each chapter acts as a user would, by a viewer's HTTPS request, a workstation's C-FIND or a `gateway` command, and
judges only what that user can see. A chapter that fails says what it saw; the walk goes on to the end. Each later
feature adds its chapter.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Final

import aiohttp

from gateway.demo import cast
from gateway.demo.callers.answer import Answer, ChapterFailed, Outcome, expect
from gateway.demo.callers.received import Image, Received, image_of
from gateway.demo.callers.viewer import Viewer, WebAnswer
from gateway.demo.callers.workstation import NoAssociation, Workstation
from gateway.demo.cast import ANNE, BEN, CLARA, EASTVALE, FAITH, IVY, JACK, NORTHMOOR, SOUTHBRIDGE
from gateway.demo.configuration import AE_TITLES, GATEWAY_AE_TITLE, PACS_CALLER, SURGERY, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from gateway.demo.reports import walk as reports

READINESS_TIMEOUT_S: Final = 60.0
SENTENCE: Final = "Not all imaging is shared here. An empty or short list does not mean none exists."

_IMAGES_OF_HEAD_CT: Final = sum(len(series.sources) for series in cast.ANNE_HEAD_CT.series)
_CANARY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class ChapterResult:
    """One line of the table."""

    title: str
    has_passed: bool
    detail: str


async def walk(region: Region, report: Callable[[ChapterResult], None]) -> bool:
    """Walk all chapters in order, reporting each as it ends; whether all passed."""
    has_passed = True
    for title, chapter in CHAPTERS:
        try:
            result = ChapterResult(title, True, await chapter(region))
        except (ChapterFailed, aiohttp.ClientError, TimeoutError, OSError, sqlite3.Error) as error:
            result = ChapterResult(title, False, str(error) or type(error).__name__)
        has_passed &= result.has_passed
        report(result)
    return has_passed


async def allowed(region: Region) -> str:
    async with _viewer(region) as viewer:
        answer = await viewer.studies(PatientID=ANNE.nhs_number)
    _expect_studies(answer, cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT, cast.ANNE_HEART_US)
    expect(answer.headers.get("Gateway-Notice", "") == SENTENCE, "the constant sentence is missing")
    for trust in (EASTVALE, SOUTHBRIDGE):
        expect(answer.source_state(trust.ods_code) == "answered", f"{trust.ods_code} is not named as answered")
    return "Anne's three shared studies from two trusts; the copy at both is listed once; Eastvale's MR is not shared"


async def by_c_find(region: Region) -> str:
    async with _viewer(region) as viewer:
        web = await viewer.studies(PatientID=ANNE.nhs_number)
    async with region.workstation(VIEWER) as workstation:
        expect(await workstation.echo() == 0, "C-ECHO was not answered with success")
        found = await workstation.studies(PatientID=ANNE.nhs_number)
        denied = await workstation.studies(PatientID=CLARA.nhs_number)
        hidden = await workstation.studies(PatientID=BEN.nhs_number)
        absent = await workstation.studies(PatientID=FAITH.nhs_number)
    _expect_studies(found, cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT, cast.ANNE_HEART_US)
    expect(found.studies == web.studies, "C-FIND and QIDO found different studies")
    expect(denied.outcome is Outcome.DENIED, f"without a care relationship: {denied.outcome}")
    expect("care relationship" in denied.told, "the reason is not told")
    expect(hidden.comparable == absent.comparable, "C-FIND tells an opt-out from absence")
    return "the same question by C-FIND: the same studies, the same refusal, the same absence"


async def borrowed_title(region: Region) -> str:
    pair, title = region.key_pair(PACS_CALLER), AE_TITLES[VIEWER]
    async with Workstation(region.dimse_port, GATEWAY_AE_TITLE, title, region.authority, pair) as impostor:
        try:
            await impostor.echo()
        except NoAssociation:
            return "Northmoor's AE title under Southbridge's certificate: no association"
    raise ChapterFailed("an AE title was believed that its certificate does not prove")


async def no_relationship(region: Region) -> str:
    await _forget(region)
    async with _viewer(region) as viewer:
        answer = await viewer.studies(PatientID=CLARA.nhs_number)
    expect(answer.status == 403, f"status {answer.status} instead of 403")
    expect("care relationship" in str(answer.problem.get("detail", "")), "the reason is not told")
    await _expect_nobody_asked(region, CLARA.nhs_number)
    return "refused in words (403); no archive was asked"


async def opted_out(region: Region) -> str:
    await _forget(region)
    async with _viewer(region) as viewer:
        hidden = await viewer.studies(PatientID=BEN.nhs_number)
        absent = await viewer.studies(PatientID=FAITH.nhs_number)
    expect(hidden.status == absent.status == 200, f"statuses {hidden.status} and {absent.status}")
    expect(hidden.body == absent.body == b"[]", "the bodies differ")
    expect(_shape(hidden) == _shape(absent), "the headers differ")
    await _expect_nobody_asked(region, BEN.nhs_number)
    return "Ben's answer is that of a patient without studies, header by header; no archive was asked"


async def own_images(region: Region) -> str:
    async with _viewer(region) as viewer:
        answer = await viewer.studies(PatientID=BEN.nhs_number, trust=NORTHMOOR.ods_code)
    _expect_studies(answer, cast.BEN_NECK_X_RAY)
    return "Northmoor still finds its own images of Ben: the opt-out is of sharing"


async def too_broad(region: Region) -> str:
    async with _viewer(region) as viewer:
        for keys in ({"PatientName": "W*"}, {"StudyDate": "20260101-20261231"}, {}):
            answer = await viewer.studies(**keys)
            expect(answer.status == 400, f"status {answer.status} instead of 400 for {sorted(keys)}")
    return "name, date or nothing at all: refused visibly (400)"


async def wrong_callers(region: Region) -> str:
    async with _viewer(region, SURGERY) as surgery:
        answer = await surgery.studies(PatientID=ANNE.nhs_number)
    expect(answer.status == 403, f"a general practice got {answer.status} instead of 403")
    async with _viewer(region) as viewer:
        answer = await viewer.studies(PatientID=ANNE.nhs_number, purpose="HRESCH")
    expect(answer.status == 403, f"research got {answer.status} instead of 403")
    async with Viewer(region.machines_url, region.authority, None) as stranger:
        try:
            answer = await stranger.studies(PatientID=ANNE.nhs_number)
        except aiohttp.ClientError:
            return "not a hospital trust: 403; research: 403; no certificate: no connection"
    raise ChapterFailed(f"a caller without a certificate got {answer.status}")


async def identity_conflict(region: Region) -> str:
    async with _viewer(region) as viewer:
        answer = await viewer.studies(PatientID=JACK.nhs_number)
    expect(answer.status == 200 and not answer.rows, "rows of two men under one number were shown")
    told = [text for text in answer.notices if "identity details differ" in text]
    expect(len(told) >= 1, "the conflict was not told")
    items = json.loads(await region.must("quality", "list", "--json"))
    expect(len(items) >= 1, "no custodian was told")
    return (
        "two men under one NHS number: neither is shown, the caller is told whom to ring, both custodians have an item"
    )


async def sensitive(region: Region) -> str:
    async with _viewer(region) as viewer:
        answer = await viewer.studies(PatientID=IVY.nhs_number)
    _expect_studies(answer, cast.IVY_HEAD_CT)
    return "the study that Eastvale labelled is not shown; the other one is"


async def trust_down(region: Region) -> str:
    archive = region.archives[SOUTHBRIDGE.ods_code]
    await archive.behave(dead="closed")
    try:
        async with _viewer(region) as viewer:
            answer = await viewer.studies(PatientID=ANNE.nhs_number)
    finally:
        await archive.behave()
    _expect_studies(answer, cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT)
    told = [text for text in answer.notices if SOUTHBRIDGE.ods_code in text or SOUTHBRIDGE.name in text]
    expect(bool(told), "the missing trust is not named")
    expect(any("0300 555" in text for text in told), "no desk to ring is named")
    return "Eastvale's studies, and a warning that names Southbridge and its desk"


async def images_sent(region: Region) -> str:
    uid = study_instance_uid(cast.ANNE_HEAD_CT)
    async with region.workstation(VIEWER) as workstation:
        with workstation.receiving(region.receiving_port) as shelf:
            sent = await workstation.move(AE_TITLES[VIEWER], shelf, StudyInstanceUID=uid)
            hidden = await workstation.move(
                AE_TITLES[VIEWER], shelf, StudyInstanceUID=study_instance_uid(cast.BEN_BODY_CT)
            )
    expect(sent.is_whole, f"C-MOVE ended with status {sent.status:04X}: {sent.comment}")
    expect(len(sent.images) == sent.counters.completed == _IMAGES_OF_HEAD_CT, f"{len(sent.images)} images arrived")
    _expect_images_kept(region, sent)
    expect(hidden.is_whole and hidden.counters.completed == 0, "C-MOVE tells an opt-out from absence")
    return f"Northmoor's workstation has Anne's head CT sent by C-MOVE: {len(sent.images)} images, not a pixel changed"


async def images_opened(region: Region) -> str:
    await _forget(region)
    async with _viewer(region) as viewer:
        opened = await viewer.retrieve(f"studies/{study_instance_uid(cast.ANNE_HEAD_CT)}")
        hidden = await viewer.retrieve(f"studies/{study_instance_uid(cast.BEN_BODY_CT)}")
        absent = await viewer.retrieve("studies/2.25.1")
    expect(opened.is_whole and len(opened.images) == _IMAGES_OF_HEAD_CT, f"{len(opened.images)} images arrived")
    _expect_images_kept(region, opened)
    expect(hidden.comparable == absent.comparable, "WADO-RS tells an opt-out from absence")
    for archive in region.archives.values():
        doors = {str(request["door"]) for request in await archive.requests()}
        expect(not doors & {"wado", "c-get", "c-move"}, f"{archive.trust.ods_code} was asked for images again")
    return "a viewer opens the same study by WADO-RS, out of the cache: no archive sends it again"


async def images_sealed(region: Region) -> str:
    folder = region.folder / "data" / "cache"
    content = b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    image = next(iter(_kept(region).values()))
    pixels = image.dataset.PixelData
    canaries = (ANNE.family_name.encode(), ANNE.nhs_number.encode(), pixels[len(pixels) // 2 :][:_CANARY_BYTES])
    expect(len(content) > len(image.encoded), "nothing lies in the cache")
    expect(not any(canary in content for canary in canaries), "the cache holds something of Anne's that can be read")
    classes = json.loads(await region.must("cache", "status", "--json"))["classes"]
    instances = sum(int(each["instances"]) for each in classes)
    expect(instances >= _IMAGES_OF_HEAD_CT, f"`gateway cache status` shows {instances} instances")
    return (
        f"{len(content):,} bytes in the cache, nothing of Anne's to be read; `gateway cache status`: {instances} images"
    )


async def register_unreadable(region: Region) -> str:
    async with _damaged_register(region):
        async with _viewer(region) as viewer:
            answers = [await viewer.studies(PatientID=person.nhs_number) for person in (ANNE, BEN, FAITH)]
        expect({answer.status for answer in answers} == {503}, f"statuses {[a.status for a in answers]}")
        details = {str(answer.problem.get("detail")) for answer in answers}
        expect(details == {"sharing not checked"}, f"not one text for all: {sorted(details)}")
        await _until_ready_is(region, False)
    await _until_ready_is(region, True)
    async with _viewer(region) as viewer:
        answer = await viewer.studies(PatientID=ANNE.nhs_number)
    expect(answer.status == 200, f"after the repair: status {answer.status}")
    return "the same 503 for everybody, readiness red; right again after the repair"


async def explained(region: Region) -> str:
    text = await region.must("explain", "--caller", VIEWER, "--patient", CLARA.nhs_number)
    expect("no-care-relationship" in text, "explain does not name the missing relationship")
    text = await region.must("explain", "--caller", PACS_CALLER, "--patient", BEN.nhs_number)
    expect("opted-out" in text, "explain does not name the opt-out")
    return "`gateway explain` names every reason, the hidden ones too, for information governance"


async def audit_verified(region: Region) -> str:
    await region.must("audit", "verify")
    return "`gateway audit verify`: the chain is whole"


async def audit_tampered(region: Region) -> str:
    await region.stop_gateway()
    victim = await asyncio.to_thread(_falsify_audit, region)
    try:
        result = await region.command("audit", "verify")
        expect(result.status == 1, f"status {result.status} instead of 1")
        expect(str(victim) in result.output + result.errors, f"record {victim} is not named")
    finally:
        await asyncio.to_thread(_falsify_audit, region)
        await region.start_gateway()
    await region.must("audit", "verify")
    return f"one byte changed in record {victim}: found and named"


CHAPTERS: Final[tuple[tuple[str, Callable[[Region], Awaitable[str]]], ...]] = (
    ("allowed", allowed),
    ("by C-FIND", by_c_find),
    ("borrowed AE title", borrowed_title),
    ("no relationship", no_relationship),
    ("opted out", opted_out),
    ("own images", own_images),
    ("too broad", too_broad),
    ("wrong callers", wrong_callers),
    ("identity conflict", identity_conflict),
    ("sensitive study", sensitive),
    ("images sent", images_sent),
    ("images opened", images_opened),
    ("images sealed", images_sealed),
    *reports.CHAPTERS,
    ("trust down", trust_down),
    ("register unreadable", register_unreadable),
    ("explained", explained),
    ("audit verified", audit_verified),
    ("audit tampered with", audit_tampered),
)


def _expect_studies(answer: Answer, *plans: cast.StudyPlan) -> None:
    expect(answer.outcome is Outcome.ANSWERED, f"{answer.outcome} instead of an answer: {answer.told}")
    names = {study_instance_uid(plan): plan.name for plan in cast.STUDIES}
    expected, found = {plan.name for plan in plans}, {names.get(uid, uid) for uid in answer.studies}
    expect(found == expected, f"found {sorted(found)} instead of {sorted(expected)}")
    expect(len(answer.rows) == len(plans), "a study is listed twice")


def _kept(region: Region) -> dict[str, Image]:
    """Anne's head CT as it lies in Eastvale's archive."""
    folder = region.folder / "archives" / EASTVALE.ods_code / cast.ANNE_HEAD_CT.name
    return dict(image_of(path.read_bytes()) for path in sorted(folder.glob("*.dcm")))


def _expect_images_kept(region: Region, received: Received) -> None:
    kept = _kept(region)
    expect(received.images.keys() == kept.keys(), "other images arrived than Eastvale's archive holds")
    pixels = {uid: image.dataset.PixelData for uid, image in kept.items()}
    expect(pixels == {uid: image.dataset.PixelData for uid, image in received.images.items()}, "pixels were changed")


def _shape(answer: WebAnswer) -> dict[str, object]:
    """Everything of an answer that must not depend on the patient."""
    changing = {"Date", "Gateway-Correlation"}
    headers = {name: value for name, value in answer.headers.items() if name not in changing}
    return {"headers": headers, "warnings": answer.notices}


@asynccontextmanager
async def _viewer(region: Region, caller: str = VIEWER) -> AsyncIterator[Viewer]:
    async with Viewer(region.machines_url, region.authority, region.key_pair(caller)) as viewer:
        yield viewer


async def _forget(region: Region) -> None:
    for archive in region.archives.values():
        await archive.forget_requests()


async def _expect_nobody_asked(region: Region, nhs_number: str) -> None:
    for archive in region.archives.values():
        asked = json.dumps(await archive.requests())
        expect(nhs_number not in asked, f"{archive.trust.ods_code} was asked for the patient")


async def _until_ready_is(region: Region, is_ready: bool) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
        async with asyncio.timeout(READINESS_TIMEOUT_S):
            while True:
                async with session.get(f"{region.people_url}/ready") as answer:
                    if (answer.status == 200) == is_ready:
                        return
                await asyncio.sleep(0.2)


@asynccontextmanager
async def _damaged_register(region: Region) -> AsyncIterator[None]:
    """The opt-out register's table goes missing behind the gateway's back, and comes back."""
    await asyncio.to_thread(_execute, region, "ALTER TABLE optout_choice RENAME TO optout_choice_lost")
    try:
        yield
    finally:
        await asyncio.to_thread(_execute, region, "ALTER TABLE optout_choice_lost RENAME TO optout_choice")


def _execute(region: Region, statement: str) -> None:
    with closing(sqlite3.connect(region.database, timeout=10)) as connection:
        connection.execute(statement)
        connection.commit()


def _falsify_audit(region: Region) -> int:
    """Change one byte of a record in the middle of the chain; doing it twice undoes it. The record's number."""
    with closing(sqlite3.connect(region.database, timeout=10)) as connection:
        row = connection.execute(
            "SELECT node, sequence, encoded FROM audit_record WHERE node = 'demo-1'"
            " ORDER BY sequence LIMIT 1 OFFSET (SELECT count(*) / 2 FROM audit_record WHERE node = 'demo-1')"
        ).fetchone()
        if row is None:
            raise ChapterFailed("the audit is empty")
        node, sequence, encoded = row
        flipped = bytes(encoded)[:-1] + bytes([bytes(encoded)[-1] ^ 1])
        connection.execute(
            "UPDATE audit_record SET encoded = ? WHERE node = ? AND sequence = ?", (flipped, node, sequence)
        )
        connection.commit()
    return int(sequence)
