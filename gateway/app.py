"""The composition root: build everything, start it in order, stop it in reverse; nothing else.

Start: database, rollback check, keys and cache, core, listeners, then "ready". SIGTERM drains: no new connections,
running work ends, the audit gets its last record. SIGHUP reads the file again: a good one replaces trusts, callers,
peers, certificates and the log level under way, a bad one changes nothing and says so.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from gateway import guards, logs, tls
from gateway.background import Background
from gateway.config.checks import load
from gateway.config.configuration import Configuration
from gateway.config.reloading import association_address, listen_as_running
from gateway.config.sections import LogForm
from gateway.core import Core, Door, Means, build_core, new_delays, new_ledger
from gateway.custody.custody import Custody
from gateway.doors import CUT_OFF_S, Behind, Doors
from gateway.edges.feed_watch import FeedWatch
from gateway.edges.patient_page import PatientReports
from gateway.health import ALARM_INTERVAL_S, Health, WatchedStore
from gateway.keeping import duties
from gateway.keeping.freshness import Freshness
from gateway.keeping.keeping import Keeping
from gateway.keeping.watching import watch
from gateway.metrics import Figures
from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import AuditUnavailable, ConfigurationError, ServiceFault
from gateway.model.imaging import JsonValue
from gateway.node import SystemClock, database_settings, new_id, new_uid, open_notebook, open_store, release
from gateway.region import LiveRoll
from gateway.release.opening import open_release, with_reports
from gateway.sharing.locations.notices import Notices
from gateway.sharing.locations.rounds import Rounds
from policy.engine import RULE_SET
from storage import migrate
from storage.checkpoints import Checkpointer
from storage.lock import NodeLock
from storage.observations.notebook import Notebook
from storage.observations.pseudonyms import pseudonyms
from storage.release.page.sessions import SqlSessions
from storage.reserve import Reserve
from storage.store import SqlStore

log = structlog.get_logger(__name__)

CERTIFICATE_CHECK_INTERVAL_S = 3_600.0
AUDIT_GUARD_INTERVAL_S = 1.0
Announce = Callable[[str], None]

_STARTING_SECTIONS = (
    *("storage", "audit", "keys", "cache", "jobs", "custody", "policy", "sharing", "limits", "dicomweb", "dimse"),
    *("pixels", "viewer", "patient_page", "channel"),
)
"""Sections that a reload leaves as they were at the start; of `gateway` and `listen` it takes what it can."""


def serve(path: Path, announce: Announce) -> None:
    """Run the gateway until SIGTERM or SIGINT; `announce` gets the one line that says it is ready.

    Raises `ConfigurationError`, `StoreUnavailable`, or what else keeps it from starting.
    """
    configuration = load(path)
    logs.configure(configuration.gateway.log_level, as_json=_logs_as_json(configuration))
    asyncio.run(Gateway(path, configuration, announce).run())


class Gateway:
    """One running node."""

    def __init__(self, path: Path, configuration: Configuration, announce: Announce) -> None:
        self._path = path
        self._configuration = configuration
        self._announce = announce
        self._clock = SystemClock()
        self._figures = Figures()
        self._door = Door()
        self._stop = asyncio.Event()
        self._hangup = asyncio.Event()

    async def run(self) -> None:
        """Start, say so, work until told to stop, stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        async with AsyncExitStack() as stack:
            store = await self._open_store(stack)
            key = guards.signing_key(self._configuration)
            await guards.refuse_roll_back(self._configuration, store, key)
            reserve = self._open_reserve(stack)
            checkpointer = guards.checkpointer(self._configuration, store, key)
            self._health = Health(store, self._figures, self._clock, new_id)
            notebook = open_notebook(self._configuration, store, self._clock)
            roll = LiveRoll(store, self._clock)
            watched = WatchedStore(store, self._health, roll.follow)
            await roll.refresh()
            keeping = await stack.enter_async_context(self._keeping(store))
            self._means = Means(
                watched,
                store,
                self._figures,
                self._clock,
                new_delays(),
                notebook,
                new_ledger(),
                keeping,
                reserve.append,
                roll,
                roll.register_version,
            )
            freshness = duties.of_freshness(self._configuration, keeping, store, self._door.sampling, self._clock)
            notices = self._notices(notebook, freshness)
            show = self._figures.images.sole_copies
            self._custody = Custody(self._configuration, store, keeping, self._clock, new_uid=new_uid, show=show)
            self._release = await open_release(stack, self._configuration, store, keeping, self._clock, self._figures)
            self._means = with_reports(self._means, self._release)
            self._doors = Doors(self._configuration, self._behind(notices, watched, store))
            duties.of_resuming(keeping, store, self._door, self._doors.onward, self._clock)
            core = build_core(self._configuration, self._means)
            core.peers.restore(await notebook.standings())
            self._show_certificates()
            await self._record(store, AuditEvent.SERVICE_START)
            await checkpointer.finish()
            stack.push_async_callback(self._last_checkpoint, checkpointer)
            stack.push_async_callback(self._record, store, AuditEvent.SERVICE_STOP)
            background = await stack.enter_async_context(Background())
            background.start(notebook.run())
            await self._health.probe()
            self._install(core, background)
            stack.push_async_callback(self._take_away)
            await background.until(core.peers.probed)
            await self._doors.open(stack)
            background.start(self._health.watch())
            background.start(roll.watch())
            background.start(keeping.run())
            background.start(watch(store, self._configuration.gateway.node, self._figures.images, self._clock))
            background.start(self._custody.run())
            self._start_reports(store, background)
            background.start(notices.run())
            if self._configuration.sharing.samples:
                background.start(self._rounds(notebook).run())
            background.start(self._watch_certificates())
            background.start(self._guard_audit(checkpointer, reserve, store))
            background.start(self._reload_on_hangup(background))
            _settle_memory()
            self._say_ready()
            await background.until(self._stop)
            await self._drain()
        log.info("stopped")

    async def _open_store(self, stack: AsyncExitStack) -> SqlStore:
        configuration = self._configuration
        configuration.gateway.data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = database_settings(configuration)
        stack.enter_context(NodeLock(database, configuration.gateway.node, configuration.gateway.data_folder))
        await asyncio.to_thread(migrate.upgrade, database)
        return await stack.enter_async_context(open_store(configuration, self._clock, node=configuration.gateway.node))

    def _open_reserve(self, stack: AsyncExitStack) -> Reserve:
        reserve = Reserve(self._configuration.audit.reserve_path, self._configuration.audit.reserve_bytes)
        reserve.open()
        stack.callback(reserve.close)
        return reserve

    def _keeping(self, store: SqlStore) -> Keeping:
        stand_ins = pseudonyms(self._configuration.storage.location_key)
        return Keeping(self._configuration, store, stand_ins, self._clock, self._health.images_are)

    def _start_reports(self, store: SqlStore, background: Background) -> None:
        background.start(self._release.run())
        background.start(FeedWatch(store, lambda: self._configuration, self._figures.feeds, self._clock).run())

    def _behind(self, notices: Notices, watched: WatchedStore, store: SqlStore) -> Behind:
        shown = PatientReports(self._release.reading, watched, SqlSessions(store))
        desk, awaiting, intake = self._custody.desk, self._means.awaiting, self._release.intake
        known = (self._door, self._health, self._figures, self._clock, notices, desk, awaiting)
        return Behind(*known, shown, intake, self._release.desk)

    def _notices(self, notebook: Notebook, freshness: Freshness) -> Notices:
        sharing, limits = self._configuration.sharing, self._configuration.limits
        figures, told_of = self._figures.locations, freshness.told_of
        return Notices(
            notebook, self._door.sampling, sharing, limits, self._clock, figures, new_id=new_id, told_of=told_of
        )

    def _rounds(self, notebook: Notebook) -> Rounds:
        sharing = self._configuration.sharing
        figures = self._figures.locations
        return Rounds(notebook, self._door.sampling, sharing, self._clock, figures, new_id=new_id)

    async def _guard_audit(self, checkpointer: Checkpointer, reserve: Reserve, store: SqlStore) -> None:
        """Bear witness when it is due, and take what waits in the reserve into the chain once that can be written."""
        alarmed_at = -ALARM_INTERVAL_S
        while True:
            try:
                await checkpointer.tick()
                if moved := await reserve.drain(store.database):
                    log.info("reserve drained", records=moved)
                alarmed_at = -ALARM_INTERVAL_S
            except (ServiceFault, OSError) as error:
                if self._clock.monotonic() - alarmed_at >= ALARM_INTERVAL_S:
                    alarmed_at = self._clock.monotonic()
                    log.error("checkpoint not made", alarm=True, reason=str(error))
            await self._clock.sleep(AUDIT_GUARD_INTERVAL_S)

    async def _last_checkpoint(self, checkpointer: Checkpointer) -> None:
        try:
            await checkpointer.finish()
        except (ServiceFault, OSError) as error:
            log.error("checkpoint not made", alarm=True, reason=str(error))

    async def _record(self, store: SqlStore, event: AuditEvent) -> None:
        settings = self._configuration.policy_settings
        body: dict[str, JsonValue] = {
            "version": release(),
            "rule_set": RULE_SET,
            "settings": settings.version,
            "policy": dict(settings.to_json()),
        }
        try:
            await store.append_audit(AuditEntry(event, self._clock.now(), new_id(), body))
        except AuditUnavailable:
            if event is AuditEvent.SERVICE_START:
                raise
            log.error("stop not recorded", alarm=True)

    def _install(self, core: Core, background: Background) -> None:
        old = self._door.lead_to(core)
        background.replace("peers", self._probe_peers(core))
        if old is not None:
            background.start(old.retire(self._clock, self._configuration.limits))

    async def _probe_peers(self, core: Core) -> None:
        async with core.peers.probing(new_uid):
            await asyncio.Event().wait()

    async def _take_away(self) -> None:
        core, self._door.core = self._door.core, None
        if core is not None:
            await core.close()

    def _say_ready(self) -> None:
        self._health.open()
        addresses = self._doors.addresses
        log.info("ready", **addresses, mode=self._configuration.gateway.mode.value)
        words = " ".join(f"{name}={address}" for name, address in addresses.items())
        self._announce(f"ready {words} node={self._configuration.gateway.node}")

    async def _drain(self) -> None:
        under_way = self._doors.under_way
        log.info("draining", under_way=under_way.count)
        self._health.drain()
        await self._doors.drain(max(0.0, self._configuration.limits.drain_timeout_s - CUT_OFF_S))
        if under_way.count:
            log.warning("cut off", under_way=under_way.count)
        # Last, so that whoever probes readiness meanwhile is told, not refused.
        await self._doors.stop_people()

    async def _reload_on_hangup(self, background: Background) -> None:
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            try:
                await self._reload(background)
            except ConfigurationError as error:
                self._figures.reloaded("refused")
                log.error("reload refused", alarm=True, problems=list(error.problems))

    async def _reload(self, background: Background) -> None:
        new = await asyncio.to_thread(load, self._path)
        kept = self._configuration
        needs_start = [name for name in _STARTING_SECTIONS if getattr(new, name) != getattr(kept, name)]
        needs_start += ["listen.dimse"] * (association_address(new) != association_address(kept))
        needs_start += ["listen.hl7"] * (listen_as_running(kept, new).hl7 != new.listen.hl7)
        taken = kept.model_copy(
            update={
                "gateway": kept.gateway.model_copy(update={"log_level": new.gateway.log_level}),
                "listen": listen_as_running(kept, new),
                "trust": new.trust,
                "caller": new.caller,
                "peer": new.peer,
                "destination": new.destination,
                "lookup": new.lookup,
                "report_feed": new.report_feed,
                "conduct": new.conduct,
                "release": new.release,
            }
        )
        core = await asyncio.to_thread(build_core, taken, self._means)
        self._custody.follow(taken)
        self._release.follow(taken)
        self._configuration = taken
        self._install(core, background)
        await self._doors.follow(taken)
        self._show_certificates()
        logs.set_level(taken.gateway.log_level)
        self._figures.reloaded("taken")
        log.info("reloaded", trusts=len(taken.trust), callers=len(taken.caller), peers=len(taken.peer))
        if needs_start:
            log.warning("changes that need a new start were left out", sections=needs_start)

    async def _watch_certificates(self) -> None:
        while True:
            await self._clock.sleep(CERTIFICATE_CHECK_INTERVAL_S)
            self._show_certificates()
            self._renew_certificates()

    def _renew_certificates(self) -> None:
        """Follow revocation lists through their end; files that do not load just now leave everything as it is."""
        try:
            self._doors.renew_certificates()
        except ConfigurationError as error:
            log.error("certificates not renewed", alarm=True, problems=list(error.problems))

    def _show_certificates(self) -> None:
        now = self._clock.now()
        all_of_them = validities_in_use(self._configuration)
        self._figures.certificates(all_of_them, now)
        for path in dict.fromkeys(validity.path for validity in all_of_them):
            # One file may be named by many settings: it is warned of once, by its first certificate to end.
            worst = min((each for each in all_of_them if each.path == path), key=lambda each: each.valid_until)
            if (day := worst.warning_day(now)) is not None:
                log.warning(
                    "certificate ends soon" if day else "certificate is not valid",
                    alarm=day == 0,
                    setting=worst.name,
                    file=str(path),
                    days_left=round(worst.days_left(now), 1),
                )


def validities_in_use(configuration: Configuration) -> list[tls.Validity]:
    """The life of every certificate and revocation list that the configuration names; raises `ConfigurationError`."""
    listen = configuration.listen
    named = [
        ("listen.machines.certificate", listen.machines.certificate),
        ("listen.machines.client_ca", listen.machines.client_ca),
        ("listen.people.certificate", listen.people.certificate),
    ]
    lists = [("listen.machines.crl", listen.machines.crl)]
    if listen.dimse is not None:
        named += [("listen.dimse.certificate", listen.dimse.certificate)]
        named += [("listen.dimse.client_ca", listen.dimse.client_ca)]
        lists += [("listen.dimse.crl", listen.dimse.crl)]
    if listen.hl7 is not None:
        named += [("listen.hl7.certificate", listen.hl7.certificate), ("listen.hl7.client_ca", listen.hl7.client_ca)]
        lists += [("listen.hl7.crl", listen.hl7.crl)]
    for peer in configuration.peer:
        named += [(f"peer ({peer.trust}).client_certificate", peer.client_certificate)]
        named += [(f"peer ({peer.trust}).ca", peer.ca)]
    for lookup in configuration.lookup:
        named += [(f"lookup ({lookup.kind}).client_certificate", lookup.client_certificate)]
        named += [(f"lookup ({lookup.kind}).ca", lookup.ca)]
    found = tls.validities([(name, path) for name, path in named if path is not None])
    found += [tls.crl_validity(name, path) for name, path in lists if path is not None]
    return found


def _logs_as_json(configuration: Configuration) -> bool:
    match configuration.gateway.log_form:
        case LogForm.JSON:
            return True
        case LogForm.CONSOLE:
            return False
        case LogForm.AUTO:
            return not sys.stderr.isatty()


def _settle_memory() -> None:
    """What lives as long as the process need not be looked at by every collection."""
    gc.collect()
    gc.freeze()
    # Far above what sixteen answers of a hundred rows hold at once: they die young, so none need be walked through.
    gc.set_threshold(200_000, 50, 50)
