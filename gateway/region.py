"""The region's directory out of the configuration: which organisations there are, who may call, on what evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from gateway.config.configuration import Configuration
from gateway.model.errors import ServiceFault
from gateway.model.seams import Clock
from gateway.sharing.directory import Directory, PatientIdAsked, TrustEntry
from policy.identity import CallerBinding
from policy.trusts import Roll
from storage.registers import trusts
from storage.registers.quality import QUARANTINED_MAX
from storage.store import SqlStore

log = structlog.get_logger(__name__)

ROLL_CHECK_INTERVAL_S = 0.5
"""How often the register version is looked at for a change of the roll: well below the second of DEC-12."""


class LiveRoll:
    """The roll of trusts as of this moment, in a running node: `refresh` before the first question, then `watch`.

    A database that is gone changes nothing here: then every question is refused anyway (SAF-01).
    """

    def __init__(self, store: SqlStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._version = -1
        self._roll = Roll()
        self._reading = asyncio.Lock()

    def __call__(self) -> Roll:
        """Every trust's standing."""
        return self._roll

    def register_version(self) -> int:
        """The version of all registers as it was last seen."""
        return self._version

    async def refresh(self) -> None:
        """Read the roll if any register changed; raises a `ServiceFault`."""
        version = await self._store.register_version()
        if version == self._version:
            return
        before, self._roll = self._roll, await self._store.read(trusts.roll)
        is_first, self._version = self._version < 0, version
        if is_first:
            return
        if before.quarantined != self._roll.quarantined:
            log.info("studies in quarantine changed", studies=len(self._roll.quarantined))
        if len(self._roll.quarantined) >= QUARANTINED_MAX:
            log.error("quarantine is full", studies=len(self._roll.quarantined))
        if replace(before, quarantined=frozenset()) != replace(self._roll, quarantined=frozenset()):
            log.info("standing of trusts changed", trusts=len(self._roll.standings))

    async def follow(self, version: int) -> None:
        """Be no older than facts of this version that a question is judged by: a study that another question has just
        found to be of two patients is withheld from this one on (SAF-08). Raises a `ServiceFault`.
        """
        if version > self._version:
            async with self._reading:
                if version > self._version:
                    await self.refresh()

    async def watch(self) -> None:
        """Refresh for ever, at intervals of the clock."""
        while True:
            await self._clock.sleep(ROLL_CHECK_INTERVAL_S)
            try:
                await self.refresh()
            except ServiceFault as error:
                log.debug("roll of trusts not read", reason=str(error))


def directory_of(configuration: Configuration, roll: Callable[[], Roll] = Roll) -> Directory:
    """The directory that the core looks things up in; what `roll` says of a trust goes before the configuration."""
    return Directory(trust_entries(configuration), caller_bindings(configuration), roll)


def trust_entries(configuration: Configuration) -> list[TrustEntry]:
    """The region's organisations; a peer may say better what its archive means by a bare Patient ID."""
    issuers = {peer.trust: peer.patient_id_issuer for peer in configuration.peer if peer.patient_id_issuer}
    asked = {peer.trust: peer.patient_id for peer in configuration.peer}
    beyond = {peer.trust for peer in configuration.peer if peer.gateway}
    return [
        TrustEntry(
            trust=trust.ods,
            name=trust.name,
            kind=trust.kind,
            is_enrolled=trust.enrolled,
            desk_phone=trust.desk_phone,
            patient_id_issuer=issuers.get(trust.ods, trust.patient_id_issuer),
            own_issuer=trust.patient_id_issuer,
            patient_id_asked=asked.get(trust.ods, PatientIdAsked.NHS_NUMBER),
            accession_issuer=trust.accession_issuer,
            is_behind_gateway=trust.ods in beyond,
        )
        for trust in configuration.trust
    ]


def caller_bindings(configuration: Configuration) -> list[CallerBinding]:
    """Who may ask, as policy judges evidence."""
    return [
        CallerBinding(
            name=caller.name,
            trust=caller.trust,
            kind=caller.kind,
            certificate_sha256=caller.certificate_sha256 or "",
            certificate_name=caller.certificate_name or "",
            addresses=caller.addresses,
            ae_titles=caller.ae_titles,
            teams=frozenset(caller.teams),
            purposes=caller.purposes,
            asks_for=frozenset(caller.asks_for),
            loopback_only=caller.loopback_only,
        )
        for caller in configuration.caller
    ]
