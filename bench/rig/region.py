"""The gateway under measurement, whole: real certificates, its own configuration, registers on disk, `gateway serve`.

Northmoor (RZ1) asks with its PACS's client certificate; Eastvale (RZ2) is the archive behind mutual TLS, or a crowd of
trusts is. The store is SQLite on disk as configured by default (WAL, synchronous FULL), logs, audit and absence timing
are on: nothing is relaxed for the measurement.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import assert_never

import trustme

from bench.rig import crowd, processes, studies
from bench.rig.archive import READY, Plan
from bench.rig.dimse import wire
from bench.rig.load import Door
from gateway.node import SystemClock
from policy.facts import RelationshipKind
from policy.parties import NhsNumber, PurposeOfUse, TrustId
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.migrate import upgrade
from storage.registers import agreements, patients, relationships
from storage.registers.state import Author
from storage.store import SqlStore

AE_TITLE = "SHARING"
NORTHMOOR, EASTVALE = TrustId("RZ1"), TrustId("RZ2")
_AUTHOR = Author("bench", "bench-registers", "measurement")
EACH_MODALITY = tuple(frozenset({modality}) for modality in ("CT", "MR", "CR", "DX", "US", "XA"))


class Associations(Enum):
    """How the DIMSE door is opened."""

    PLAIN = "without TLS, by AE title, on loopback only"
    TLS = "with TLS, by AE title and certificate"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The running gateway, and how to ask it."""

    child: processes.Child
    door: Door
    dimse: wire.Door | None = None


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive behind it, and how to ask it directly, with and without TLS."""

    child: processes.Child
    tls: Door
    plain: Door


@dataclass(frozen=True, slots=True)
class Crowd:
    """Many trusts' archives in one process: asked by QIDO over TLS, or by C-FIND on a plain port."""

    tls: Door
    dimse_port: int


@dataclass(frozen=True, slots=True)
class Peer:
    """A trust that shares with Northmoor, and what the configuration says of its archive."""

    trust: TrustId
    name: str
    settings: str


@dataclass(frozen=True, slots=True)
class Destination:
    """An application entity on loopback that Northmoor has images sent to by C-MOVE."""

    ae_title: str
    port: int


@dataclass(frozen=True, slots=True)
class Region:
    """A folder with certificates, and what is started on them."""

    folder: Path
    ca: Path

    def door(self, port: int) -> Door:
        """A TLS door as Northmoor's PACS knocks at it."""
        return Door(port, str(self.ca), str(self.folder / "pacs.pem"), str(self.folder / "pacs.key"))

    def files(self, name: str) -> tuple[str, str]:
        """The certificate and the private key of one of the region."""
        return str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")

    @contextmanager
    def archive(self, held: Sequence[Sequence[studies.Study]]) -> Iterator[Archive]:
        """Eastvale's archive with one answer for each patient of each set."""
        by_patient: dict[NhsNumber, list[studies.Study]] = {}
        for study in (study for some in held for study in some):
            by_patient.setdefault(study.patient, []).append(study)
        plan = Plan(
            certificate=str(self.folder / "archive.pem"),
            private_key=str(self.folder / "archive.key"),
            client_ca=str(self.ca),
            rows={patient.digits: studies.rows(theirs) for patient, theirs in by_patient.items()},
        )
        plan.write(self.folder)
        command = processes.python("-m", "bench.rig.archive", self.folder)
        with processes.running(command, self.folder / "archive.log", READY) as child:
            yield Archive(child, self.door(child.told(r"tls=(\d+)")), Door(child.told(r"plain=(\d+)")))

    @contextmanager
    def crowd(self, told: Sequence[crowd.Told], delay_s: float, stalled: Sequence[TrustId] = ()) -> Iterator[Crowd]:
        """Many trusts' archives in one process."""
        codes = tuple(trust.code for trust in stalled)
        plan = crowd.Plan(*self.files("archive"), str(self.ca), tuple(told), delay_s, codes)
        plan.write(self.folder)
        command = processes.python("-m", "bench.rig.crowd", self.folder)
        with processes.running(command, self.folder / "crowd.log", crowd.READY) as child:
            yield Crowd(self.door(child.told(r"tls=(\d+)")), child.told(r"dimse=(\d+)"))

    def peer_by_qido(self, trust: TrustId, port: int, root: str = "", name: str = "") -> Peer:
        """A trust that is asked by QIDO; `root` is what stands before `/dicom-web` there."""
        settings = _PEER_BY_QIDO.format(folder=self.folder, ca=self.ca, port=port, root=root)
        return Peer(trust, name or f"NHS Trust {trust.code}", settings)

    def peer_by_plain_http(self, trust: TrustId, port: int) -> Peer:
        """A trust that is asked by QIDO without TLS."""
        settings = f'url = "http://127.0.0.1:{port}/dicom-web"\nplain_http_on_loopback = true\n'
        return Peer(trust, f"NHS Trust {trust.code}", settings)

    def peer_by_c_find(self, trust: TrustId, port: int, ae_title: str) -> Peer:
        """A trust that is asked by C-FIND."""
        return Peer(trust, f"NHS Trust {trust.code}", _PEER_BY_C_FIND.format(port=port, ae_title=ae_title))

    def gateway(
        self,
        archive: Archive | wire.Door,
        known: Sequence[NhsNumber],
        *,
        associations: Associations | None = None,
        shares_everything: bool = False,
        profile: Path | None = None,
        files: Sequence[int] = (),
    ) -> AbstractContextManager[Gateway]:
        """`gateway serve` before Eastvale's archive, which is asked by QIDO, or by C-FIND if it is a DICOM port.

        With `shares_everything` its trust shares every modality, so that an archive need not tell what its studies'
        are: dcmqrscp cannot, and would be asked for the series of each study.
        """
        name = "Eastvale University NHS Trust"
        if isinstance(archive, Archive):
            peer = self.peer_by_qido(EASTVALE, archive.tls.port, name=name)
        else:
            quirks = _MODALITIES_UNKNOWN if shares_everything else ""
            settings = _PEER_BY_C_FIND.format(port=archive.port, ae_title=archive.ae_title) + quirks
            peer = Peer(EASTVALE, name, settings)
        modalities = (frozenset[str](),) if shares_everything else EACH_MODALITY
        return self.gateway_before(
            (peer,), known, associations=associations, modalities=modalities, profile=profile, files=files
        )

    @contextmanager
    def gateway_before(
        self,
        peers: Sequence[Peer],
        known: Sequence[NhsNumber],
        *,
        place: str = "",
        associations: Associations | None = None,
        modalities: Sequence[frozenset[str]] = EACH_MODALITY,
        profile: Path | None = None,
        files: Sequence[int] = (),
        destinations: Sequence[Destination] = (),
        is_plain_http: bool = False,
    ) -> Iterator[Gateway]:
        """`gateway serve` before these trusts; every patient in `known` has a care relationship with Northmoor.

        Where there are several gateways, each has a `place` of its own for what it keeps. With `associations` there is
        a DIMSE door as well. Each trust shares the `modalities`, a clause each. With `profile` it runs under cProfile,
        which leaves its figures of the event loop's thread there. `is_plain_http` goes with plain associations.
        """
        home = self.folder / place
        home.mkdir(exist_ok=True)
        trusts = [peer.trust for peer in peers]
        asyncio.run(_fill(DatabaseSettings(f"sqlite:///{home / 'data' / 'gateway.db'}"), known, trusts, modalities))
        configuration = home / "gateway.toml"
        configuration.write_text(self._configuration(home, peers, associations, destinations), encoding="utf-8")
        environment = {"GATEWAY__LISTEN__MACHINES__PLAIN_HTTP_ON_LOOPBACK": "true"} if is_plain_http else {}
        under = ("-m", "cProfile", "-o", profile) if profile is not None else ()
        command = processes.python(*under, "-m", "gateway.cli", "serve", "--config", configuration)
        with processes.running(command, home / "gateway.log", "ready machines=", environment, files=files) as child:
            dimse = None
            if associations is not None:
                dimse = self.dimse_door(child.told(r"dimse=[^ ]*:(\d+)"), associations)
            port = child.told(r"ready machines=https?://[^/ ]*:(\d+)")
            yield Gateway(child, Door(port) if is_plain_http else self.door(port), dimse)

    def dimse_door(self, port: int, associations: Associations) -> wire.Door:
        """A DIMSE port as Northmoor's PACS associates with it."""
        if associations is Associations.PLAIN:
            return wire.Door(port, AE_TITLE)
        return wire.Door(port, AE_TITLE, str(self.ca), *self.files("pacs"))

    def _configuration(
        self,
        home: Path,
        peers: Sequence[Peer],
        associations: Associations | None,
        destinations: Sequence[Destination],
    ) -> str:
        match associations:
            case None:
                caller, door = _CERTIFIED, ""
            case Associations.PLAIN:
                caller, door = _TITLED + "loopback_only = true\n", _DIMSE_DOOR + "plain_on_loopback = true\n"
            case Associations.TLS:
                secure = f'certificate = "{self.folder}/gateway.pem"\nprivate_key = "{self.folder}/gateway.key"\n'
                caller, door = _CERTIFIED + _TITLED, _DIMSE_DOOR + secure + f'client_ca = "{self.ca}"\n'
            case _:
                assert_never(associations)
        trusts = [_TRUST.format(ods=peer.trust.code, name=peer.name) for peer in peers]
        archives = [f'\n[[peer]]\ntrust = "{peer.trust.code}"\n{peer.settings}' for peer in peers]
        head = _CONFIGURATION.format(folder=self.folder, home=home, ca=self.ca)
        titles = json.dumps([destination.ae_title for destination in destinations])
        named = f"destinations = {titles}\n" if destinations else ""
        sent_to = [_DESTINATION.format(title=each.ae_title, port=each.port) for each in destinations]
        return "".join((head, *trusts, _CALLER, caller, named, door, *archives, *sent_to))


def new_region(folder: Path) -> Region:
    """Make the certificates of a region in an empty folder."""
    authority = trustme.CA(organization_name="Bench region")
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    servers = ("localhost", "127.0.0.1")
    for name, names in (("gateway", servers), ("archive", servers), ("pacs", ("pacs.northmoor.example",))):
        leaf = authority.issue_cert(*names)
        (folder / f"{name}.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        key = folder / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(leaf.private_key_pem.bytes())
    return Region(folder, ca)


async def _fill(
    database: DatabaseSettings,
    known: Sequence[NhsNumber],
    trusts: Sequence[TrustId],
    modalities: Sequence[frozenset[str]],
) -> None:
    """Register the patients, their relationships with Northmoor, and what these trusts share."""
    upgrade(database)
    async with SqlStore(database, node="bench-registers", clock=SystemClock()) as store:
        since = datetime.now(UTC) - timedelta(days=1)

        def share(tx: Tx) -> None:
            clauses = [
                agreements.Clause(frozenset({NORTHMOOR}), shared, frozenset({PurposeOfUse.TREAT}))
                for shared in modalities
            ]
            for trust in trusts:
                agreements.import_version(tx, trust, clauses, since, _AUTHOR)

        await store.write(share)
        for patient in known:
            await store.write(partial(_relate, patient=patient, since=since))


def _relate(tx: Tx, *, patient: NhsNumber, since: datetime) -> None:
    patient_id = patients.ensure(tx, patients.nhs(patient), _AUTHOR, source="bench")
    claim = relationships.NewRelationship(
        patient_id, NORTHMOOR, RelationshipKind.REFERRAL, "REF-1", "bench", since, since + timedelta(days=30)
    )
    relationships.add(tx, claim, _AUTHOR)


_CONFIGURATION = """
[gateway]
node = "bench-1"
mode = "demo"
data_folder = "{home}/data"

[listen.machines]
port = 0
certificate = "{folder}/gateway.pem"
private_key = "{folder}/gateway.key"
client_ca = "{ca}"

[listen.people]
port = 0
certificate = "{folder}/gateway.pem"
private_key = "{folder}/gateway.key"

[audit]
signing_key = "{home}/keys/audit-signing.pem"
anchor_path = "{home}/anchor/checkpoints.jsonl"
reserve_path = "{home}/reserve/audit-reserve.bin"

[[trust]]
ods = "RZ1"
name = "Northmoor Hospitals NHS Trust"
enrolled = true
desk_phone = "01632 960001"
"""
_TRUST = """
[[trust]]
ods = "{ods}"
name = "{name}"
enrolled = true
desk_phone = "01632 960002"
"""

_CALLER = """
[[caller]]
name = "northmoor-pacs"
trust = "RZ1"
"""
_CERTIFIED = 'certificate_name = "pacs.northmoor.example"\n'
_TITLED = f'ae_titles = ["{wire.CALLING}"]\nmissing_sources = "comment"\n'
_DIMSE_DOOR = f"""
[limits]
dimse_associations_per_caller_max = 500
dimse_associations_per_address_max = 500
dimse_connections_per_address_max = 500

[listen.dimse]
port = 0
ae_title = "{AE_TITLE}"
"""
_PEER_BY_QIDO = """\
url = "https://localhost:{port}{root}/dicom-web"
client_certificate = "{folder}/gateway.pem"
client_private_key = "{folder}/gateway.key"
ca = "{ca}"
"""
_PEER_BY_C_FIND = """\
connector = "dimse"
address = "127.0.0.1:{port}"
ae_title = "{ae_title}"
calling_ae_title = "SHARING"
patient_id_issuer = "NHS"
plain_on_loopback = true
"""
_DESTINATION = """
[[destination]]
name = "{title}"
trust = "RZ1"
ae_title = "{title}"
address = "127.0.0.1:{port}"
plain_on_loopback = true
"""
_MODALITIES_UNKNOWN = 'quirks = ["modalities-unknown"]\n'
