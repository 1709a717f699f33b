"""`gateway status`: how the region is, for people. What the running gateway says, and what the database says.

The gateway is asked at its own people's door, by the certificate that it must show there; if it does not answer, the
database still knows each trust's standing, how its archive last fared, and what is planned. Exit 1 if questions are
not answered.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import orjson
import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config
from gateway.cli.session import Session
from gateway.config.configuration import Configuration
from gateway.config.sections import PeopleListener
from gateway.model.imaging import SourceState
from gateway.model.locations import PeerStanding
from gateway.model.wording import words_for
from gateway.model.work.jobs import Lane
from policy.parties import TrustId
from policy.trusts import Roll, Standing
from storage import audit_log
from storage.cache import census
from storage.cache.census import ClassCensus
from storage.database import Read
from storage.observations import standings
from storage.registers import quality, state, trusts
from storage.work import overview, standing
from storage.work.standing import LaneStanding

ANSWER_TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 1024 * 1024
SLOW_SHARE = 0.5
"""An archive that takes more than this share of its time is called slow."""
CERTIFICATE_DAYS = 30
"""Certificates with fewer days left are named."""

Said = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the database says."""

    roll: Roll
    peers: Mapping[TrustId, PeerStanding]
    register_version: int
    opt_outs_confirmed_at: datetime | None
    audit_records: Mapping[str, int]
    quality_items: int
    lanes: Mapping[Lane, LaneStanding]
    cache: Sequence[ClassCensus]
    open_retrievals: int


def status(
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask the database alone, not the gateway.")] = False,
) -> None:
    """Show readiness, doors, every trust, what is planned, certificates near their end, and the audit."""
    found: list[Said | None] = []

    async def work(opened: Session) -> None:
        said = None if offline else asked(opened.configuration.listen.people)
        kept = await opened.store.read(lambda read: _kept(read, opened.configuration.gateway.node))
        rows = _trust_rows(opened.configuration, kept, said, opened.now)
        found.append(said)
        if as_json:
            images = _images(kept, opened.now)
            console.show_json({"gateway": said, "trusts": rows, "registers": _registers(kept), "images": images})
        else:
            _show(opened.configuration, said, kept, rows)
            _show_images(kept, opened.now)

    session.run(config, work)
    if not offline and (found[0] is None or not found[0].get("ready")):
        raise typer.Exit(1)


def asked(people: PeopleListener) -> Said | None:
    """What the running gateway says of itself; None if none answers there."""
    connection: http.client.HTTPConnection
    if people.certificate is None:
        connection = http.client.HTTPConnection(people.host, people.port, timeout=ANSWER_TIMEOUT_S)
    else:
        # Exactly the certificate that this configuration gives the door, whoever issued it and whatever its names are.
        secure = ssl.create_default_context(cafile=str(people.certificate))
        secure.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        secure.check_hostname = False
        connection = http.client.HTTPSConnection(people.host, people.port, timeout=ANSWER_TIMEOUT_S, context=secure)
    try:
        connection.request("GET", "/status")
        answer = connection.getresponse()
        body = answer.read(ANSWER_BYTES_MAX)
        said = orjson.loads(body) if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError):
        return None
    finally:
        connection.close()
    return said if isinstance(said, dict) else None


def _kept(read: Read, node: str) -> _Kept:
    confirmed = state.confirmed_at(read)
    return _Kept(
        roll=trusts.roll(read),
        peers={each.trust: each for each in standings.standings(read, node)},
        register_version=state.version(read),
        opt_outs_confirmed_at=next(iter(confirmed.values()), None),
        audit_records={head.node: head.sequence for head in audit_log.heads(read)},
        quality_items=quality.count_open(read),
        lanes=standing.by_lane(read),
        cache=census.by_class(read, node),
        open_retrievals=overview.count_open(read),
    )


def _registers(kept: _Kept) -> dict[str, object]:
    return {
        "version": kept.register_version,
        "opt_outs_confirmed_at": kept.opt_outs_confirmed_at,
        "audit_records": dict(kept.audit_records),
        "quality_items_open": kept.quality_items,
        "studies_in_quarantine": len(kept.roll.quarantined),
        "downtimes": [
            {"trust": each.trust.code, "from": each.begins, "until": each.ends, "reason": each.reason}
            for each in kept.roll.downtimes
        ],
    }


def _images(kept: _Kept, now: datetime) -> dict[str, object]:
    return {
        "retrievals_open": kept.open_retrievals,
        "cache_bytes": sum(each.held_bytes for each in kept.cache),
        "cache_studies": sum(each.studies for each in kept.cache),
        "sole_copies": sum(each.sole_copies for each in kept.cache),
        "oldest_sole_copy_hours": _oldest_sole_hours(kept, now),
        "jobs": {
            lane.word: {"ready": each.ready, "running": each.running, "oldest_due_s": _waited_s(each, now)}
            for lane, each in kept.lanes.items()
        },
    }


def _oldest_sole_hours(kept: _Kept, now: datetime) -> float:
    """How old the oldest sole copy is; 0 without any."""
    since = [each.oldest_sole_copy_at for each in kept.cache if each.oldest_sole_copy_at is not None]
    return max(0.0, (now - min(since)).total_seconds() / 3_600) if since else 0.0


def _waited_s(each: LaneStanding, now: datetime) -> float:
    return 0.0 if each.oldest_due_at is None else max(0.0, (now - each.oldest_due_at).total_seconds())


def _trust_rows(
    configuration: Configuration, kept: _Kept, said: Said | None, now: datetime
) -> list[dict[str, console.Cell]]:
    limits = {peer.trust: peer.limits.over(configuration.limits).find_timeout_s for peer in configuration.peer}
    rows: list[dict[str, console.Cell]] = []
    for entry in sorted(configuration.trust, key=lambda entry: entry.ods):
        known = kept.roll.standings.get(entry.ods)
        started = Standing.ENROLLED.value if entry.enrolled else "not enrolled"
        part = _inside(_inside(said, "trusts"), entry.ods.code)
        down = kept.roll.downtime(entry.ods, now)
        seconds, seconds_ago = part.get("seconds"), part.get("seconds_ago")
        archive = "none here"
        if entry.ods in limits:
            archive = f"down by plan until {down.ends:%Y-%m-%dT%H:%MZ}" if down is not None else ""
            archive = archive or _archive(kept.peers.get(entry.ods), part, limits[entry.ods], now)
        rows.append(
            {
                "trust": entry.ods.code,
                "name": entry.name,
                "standing": known.standing.value if known is not None else started,
                "stage": known.stage.value if known is not None else None,
                "archive": archive,
                "seconds": seconds if isinstance(seconds, int | float) else None,
                "seconds_ago": seconds_ago if isinstance(seconds_ago, int | float) else None,
                "certificate_days": _certificate_days(said, entry.ods),
                "desk": entry.desk_phone,
            }
        )
    return rows


def _archive(kept: PeerStanding | None, part: Said, timeout_s: float, now: datetime) -> str:
    """How a trust's archive fares, in words."""
    if kept is not None and kept.paused_until is not None and kept.paused_until > now:
        return f"left alone for {(kept.paused_until - now).total_seconds():.0f} s: {words_for(kept.last_state)}"
    latest = part.get("state")
    state_now = SourceState(latest) if isinstance(latest, str) else kept.last_state if kept is not None else None
    if state_now is None:
        return "not asked yet"
    seconds = part.get("seconds")
    is_slow = isinstance(seconds, int | float) and seconds > SLOW_SHARE * timeout_s
    return words_for(state_now) + (", slowly" if is_slow and not state_now.is_missing else "")


def _certificate_days(said: Said | None, trust: TrustId) -> float | None:
    """Days until the first certificate of a trust's [[peer]] ends."""
    days = [days for setting, _, days in _certificates(said) if setting.startswith(f"peer ({trust})")]
    return min(days, default=None)


def _certificates(said: Said | None) -> list[tuple[str, str, float]]:
    listed = said.get("certificates") if said is not None else None
    return [
        (str(each.get("setting")), str(each.get("file")), float(each["days_left"]))
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict) and isinstance(each.get("days_left"), int | float)
    ]


def _show(configuration: Configuration, said: Said | None, kept: _Kept, rows: list[dict[str, console.Cell]]) -> None:
    node = configuration.gateway.node
    if said is None:
        console.say(f"{node}: no gateway answers here; what follows is what the database says")
    else:
        reasons = said.get("reasons")
        why = ", ".join(map(str, reasons)) if isinstance(reasons, list) else ""
        console.say(f"{node}: {'answers questions' if said.get('ready') else f'does not answer questions: {why}'}")
        for name, address in _inside(said, "doors").items():
            console.say(f"  {name}: {address}")
        opened = sum(count for count in _inside(said, "connections").values() if isinstance(count, int))
        under_way, associations = said.get("under_way"), said.get("associations")
        console.say(f"  {under_way} questions under way, {opened} connections, {associations} associations")
    console.show(rows, as_json=False, empty="the configuration has no [[trust]]")
    for each in kept.roll.downtimes:
        console.say(
            f"planned: {each.trust} down {each.begins:%Y-%m-%dT%H:%MZ} to {each.ends:%Y-%m-%dT%H:%MZ}: {each.reason}"
        )
    for setting, file, days in _certificates(said):
        if days < CERTIFICATE_DAYS:
            console.say(f"certificate: {setting} ({file}) ends in {days:.0f} days")
    if kept.quality_items:
        withheld = len(kept.roll.quarantined)
        console.say(
            f"to be put right by custodians: {kept.quality_items:,} items, for which {withheld:,} studies are withheld "
            "(gateway quality list)"
        )
    records = ", ".join(f"{chain} {count:,}" for chain, count in sorted(kept.audit_records.items()))
    console.say(f"registers: version {kept.register_version}; audit records: {records or 'none'}")


def _show_images(kept: _Kept, now: datetime) -> None:
    held_bytes, studies = sum(each.held_bytes for each in kept.cache), sum(each.studies for each in kept.cache)
    sole = sum(each.sole_copies for each in kept.cache)
    oldest = _oldest_sole_hours(kept, now)
    words = f", of which {sole:,} images are nowhere else, since {oldest:.1f} h (gateway cache sole)" if sole else ""
    under_way = f"{kept.open_retrievals:,} retrievals under way"
    console.say(f"images: {under_way}; {held_bytes:,} bytes of {studies:,} studies are kept{words}")
    for lane, each in kept.lanes.items():
        if each.ready or each.running:
            due = f", the oldest due for {_waited_s(each, now):.0f} s" if each.oldest_due_at is not None else ""
            console.say(f"jobs ({lane.word}): {each.running:,} run, {each.ready:,} are queued{due}")


def _inside(said: Said | None, name: str) -> Said:
    value = said.get(name) if said is not None else None
    return value if isinstance(value, dict) else {}
