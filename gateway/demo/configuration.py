"""The demo region's gateway.toml, as an operator would write it: doors, archives, callers and their destinations.

Eastvale's archive is asked by C-FIND and the others by QIDO-RS, all over mutual TLS. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.demo.cast import EASTVALE, NORTHMOOR, SOUTHBRIDGE, TRUSTS, Trust
from gateway.demo.reports.lines import REPORTING_TRUST, report_lines, terms_lines

VIEWER: Final = "northmoor-viewer"
"""The caller of the story: Northmoor's viewer."""
PACS_CALLER: Final = "southbridge-pacs"
CLINICIAN: Final = "dr-hollis"
SURGERY: Final = "elm-surgery-viewer"
"""A general practice's viewer: known to the region, and not an enrolled hospital trust."""
SURGEONS: Final = "spinal-surgery"
"""The clinician's team."""
GATEWAY_AE_TITLE: Final = "REGION_GATEWAY"
AE_TITLES: Final = {
    VIEWER: "NORTHMOOR_VIEW",
    PACS_CALLER: "SOUTHBRIDGE_PACS",
    CLINICIAN: "DR_HOLLIS",
    SURGERY: "ELM_SURGERY",
}
CALLERS: Final = tuple(AE_TITLES)
ASKED_BY_C_FIND: Final = EASTVALE
ALIASES: Final = {trust.ods_code: f"{trust.ods_code}_ONLY" for trust in TRUSTS}
"""AE titles under which one trust alone is asked, by ODS code."""
DESTINATIONS: Final = {VIEWER: NORTHMOOR, PACS_CALLER: SOUTHBRIDGE}
"""Who may name itself in C-MOVE, and nobody else; and whose it is."""

_SURGERY_ODS: Final = "G81234"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the gateway's doors are."""

    machines: int
    people: int
    dimse: int
    receiving: int
    """Not a door of the gateway's: where the viewer's workstation takes images."""


@dataclass(frozen=True, slots=True)
class Reports:
    """What the region knows of reports: where they come in, who answers for patients, and who sends."""

    hl7_port: int
    national_url: str
    fingerprint: str


def archive_name(trust: Trust) -> str:
    """The name on an archive's certificate."""
    return f"{trust.ods_code.lower()}-archive"


def own_habits(trust: Trust) -> dict[str, object]:
    """How a trust's archive is when it is honest: Eastvale's writes Latin-1, and declares it."""
    return {"charset": "latin-1"} if trust is ASKED_BY_C_FIND else {}


def configuration_text(
    keys: Path,
    ports: Ports,
    archives: Mapping[str, Mapping[str, object]],
    *,
    storage_url: str = "",
    viewer: str = "",
    reports: Reports | None = None,
) -> str:
    """All of the file. `archives` says by ODS code on which ports each one listens; `viewer` where one is unpacked."""
    lines = [
        "# The demo region's configuration, written when it was started.",
        *("[gateway]", 'node = "demo-1"', 'mode = "demo"', 'region = "Demo region"', 'data_folder = "data"'),
        *("[listen.machines]", f"port = {ports.machines}", *_own_certificate(keys), _authority("client_ca", keys)),
        *("[listen.people]", f"port = {ports.people}", *_own_certificate(keys)),
        *("[listen.dimse]", f"port = {ports.dimse}", f'ae_title = "{GATEWAY_AE_TITLE}"'),
        *(*_own_certificate(keys), _authority("client_ca", keys)),
        *("[dicomweb]", f'public_base_url = "https://localhost:{ports.machines}"'),
        *("[audit]", 'signing_key = "keys/audit-signing.pem"', 'anchor_path = "anchor/checkpoints.jsonl"'),
        'reserve_path = "reserve/audit-reserve.bin"',
        *(("[storage]", f'url = "{storage_url}"') if storage_url else ()),
        *(("[viewer]", f'folder = "{viewer}"') if viewer else ()),
        # Four processes share this machine: a step wide enough for what answers take here (SAF-06).
        *("[sharing]", "absence_grid_ms = 200"),
        *("[jobs]", "poll_s = 0.2"),
        *("[limits]", "find_timeout_s = 3.0", "peer_probe_interval_s = 5.0", "peer_backoff_max_s = 2.0"),
    ]
    for number, trust in enumerate(TRUSTS):
        lines += _trust_lines(trust, f"0300 555 01{number}0")
        if reports is not None and trust is REPORTING_TRUST:
            lines += terms_lines()
        lines += _peer_lines(trust, archives[trust.ods_code], keys)
    for caller, trust in DESTINATIONS.items():
        lines += _destination_lines(caller, trust, ports.receiving, keys)
    lines += [
        *("[[trust]]", f'ods = "{_SURGERY_ODS}"', 'name = "Elm Surgery"', 'kind = "general-practice"'),
        *_caller_lines(VIEWER, NORTHMOOR.ods_code, "row", ("TREAT", "COC", "ETREAT")),
        *_caller_lines(PACS_CALLER, SOUTHBRIDGE.ods_code, "failure", ("TREAT",)),
        *_caller_lines(CLINICIAN, NORTHMOOR.ods_code, "comment", ("TREAT", "ETREAT")),
        *('kind = "clinician"', f'teams = ["{SURGEONS}"]'),
        *_caller_lines(SURGERY, _SURGERY_ODS, "comment", ("TREAT",)),
        # What it sends because of our C-MOVE comes on associations of its own.
        *_caller_lines(archive_name(ASKED_BY_C_FIND), ASKED_BY_C_FIND.ods_code, "comment", ("TREAT",)),
    ]
    if reports is not None:
        where = {"hl7_port": reports.hl7_port, "people_port": ports.people}
        lines += report_lines(keys, **where, national_url=reports.national_url, fingerprint=reports.fingerprint)
    return "\n".join(lines) + "\n"


def _own_certificate(keys: Path) -> tuple[str, str]:
    return f'certificate = "{keys}/gateway.pem"', f'private_key = "{keys}/gateway.key"'


def _authority(name: str, keys: Path) -> str:
    return f'{name} = "{keys}/authority.pem"'


def _trust_lines(trust: Trust, phone: str) -> list[str]:
    return [
        *("[[trust]]", f'ods = "{trust.ods_code}"', f'name = "{trust.name}"', "enrolled = true"),
        *(f'desk_phone = "{phone}"', f'patient_id_issuer = "{trust.local_issuer}"'),
        f'ae_alias = "{ALIASES[trust.ods_code]}"',
    ]


def _peer_lines(trust: Trust, ready: Mapping[str, object], keys: Path) -> list[str]:
    where = [f'url = "https://localhost:{ready["web_port"]}/dicom-web"']
    if trust is ASKED_BY_C_FIND:
        address, title = f'address = "localhost:{ready["dimse_port"]}"', f'ae_title = "{trust.ae_title}"'
        where = ['connector = "dimse"', address, title]
    return [
        *("[[peer]]", f'trust = "{trust.ods_code}"', *where),
        *(f'client_certificate = "{keys}/gateway.pem"', f'client_private_key = "{keys}/gateway.key"'),
        _authority("ca", keys),
        # What stands in for a declared character set is one byte a letter; archives that write UTF-8 need none.
        *((f'character_set = "{trust.character_set}"',) if trust.character_set != "ISO_IR 192" else ()),
    ]


def _destination_lines(caller: str, trust: Trust, port: int, keys: Path) -> list[str]:
    return [
        *("[[destination]]", f'name = "{caller}"', f'trust = "{trust.ods_code}"'),
        *(f'ae_title = "{AE_TITLES[caller]}"', f'address = "localhost:{port}"'),
        *(f'client_certificate = "{keys}/gateway.pem"', f'client_private_key = "{keys}/gateway.key"'),
        _authority("ca", keys),
    ]


def _caller_lines(name: str, ods_code: str, missing_sources: str, purposes: Sequence[str]) -> list[str]:
    quoted = ", ".join(f'"{purpose}"' for purpose in purposes)
    titles = {**AE_TITLES, archive_name(ASKED_BY_C_FIND): ASKED_BY_C_FIND.ae_title}
    return [
        *("[[caller]]", f'name = "{name}"', f'trust = "{ods_code}"', f'certificate_name = "{name}"'),
        *(f'ae_titles = ["{titles[name]}"]', f'missing_sources = "{missing_sources}"', f"purposes = [{quoted}]"),
        *((f'destinations = ["{name}"]',) if name in DESTINATIONS else ()),
    ]
