"""The command `python -m gateway.demo.pacs`: flags and a configuration file to settings, then serve until told to stop.

Prints one line of JSON when everything listens. Ends on SIGTERM or Ctrl-C, or with its parent if asked.
"""

import argparse
import asyncio
import json
import os
import signal
import stat
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pydicom.config

from gateway.demo.cast import TRUSTS
from gateway.demo.images import make_trust
from gateway.demo.pacs.behaviour import Behaviour, parse_behaviour
from gateway.demo.pacs.control import parse_destinations
from gateway.demo.pacs.simulator import REQUESTS_KEPT, Settings, Simulator, TlsFiles

REQUESTS_KEPT_MAX: Final = 10_000
_PORT_MAX: Final = 65535
_NAMES: Final = frozenset(
    (
        *("trust", "ae_title", "data", "host", "dimse_port", "web_port", "control_port", "requests_kept"),
        *("destinations", "behaviour", "tls_certificate", "tls_key", "tls_client_ca", "dimse_tls"),
    )
)
_EXAMPLE: Final = """\
the configuration file is TOML or JSON and has the same names as the flags, with underscores:

  trust = "RZ2"
  ae_title = "EASTVALE_PACS"
  data = "data/RZ2"
  dimse_port = 11112
  web_port = 8042
  control_port = 8043

  [destinations]                      # who may be named in C-MOVE
  VIEWER = "127.0.0.1:11113"

  [behaviour]                         # all switches: docs/simulator.md
  slow_s = 2.5
  lies = ["duplicates"]

examples:
  python -m gateway.demo.pacs --trust RZ2 --data data/RZ2 --demo-images
  python -m gateway.demo.pacs --config eastvale.toml --behaviour '{"dead": "silent"}'
  curl -d '{"lies": ["wrong-patient"]}' http://127.0.0.1:8043/_simulator/behaviour
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one simulated PACS; 0 after a clean stop, 2 for settings that make no sense."""
    parser = _parser()
    flags = parser.parse_args(arguments)
    try:
        settings = _settings(flags)
        if flags.die_with_parent and not _is_pipe(sys.stdin.fileno()):
            raise ValueError("--die-with-parent needs a pipe from the parent as standard input")
        if flags.demo_images:
            _make_demo_images(settings)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    # Test data and queries are odd on purpose; warnings about each value would bury what matters.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    return asyncio.run(_serve(settings, ends_with_parent=flags.die_with_parent))


async def _serve(settings: Settings, *, ends_with_parent: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if ends_with_parent:
        await loop.connect_read_pipe(lambda: _UntilEnd(stop), sys.stdin)
    async with Simulator(settings) as pacs:
        print(json.dumps(pacs.ready()), flush=True)
        await stop.wait()
    return 0


class _UntilEnd(asyncio.Protocol):
    """Sets the event when standard input ends, which it does when the parent is gone, however it went."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop.set()


def _is_pipe(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.demo.pacs",
        description="A simulated hospital PACS for on-boarding and tests: C-ECHO, C-FIND, C-MOVE, C-GET,\n"
        "C-STORE, QIDO-RS, WADO-RS and STOW-RS over a folder of DICOM files, with switches to be\n"
        "slow, dead or lying. For test patients only: it asks nobody who they are.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what it is")
    what.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML or JSON; flags win over it")
    what.add_argument("--trust", metavar="CODE", help="ODS code of the trust whose PACS this is")
    what.add_argument("--ae-title", metavar="TITLE", help="application entity title (default: PACS_ and the code)")
    what.add_argument("--data", metavar="FOLDER", help="DICOM files to serve; stored objects go to FOLDER/received")
    what.add_argument("--demo-images", action="store_true", help="first write this trust's demo images into FOLDER")
    what.add_argument("--behaviour", metavar="JSON", help="how to behave from the start; see docs/simulator.md")

    ports = parser.add_argument_group("where it listens (port 0, the default, is any free one)")
    ports.add_argument("--host", metavar="ADDRESS", help="address of the two doors (default: 127.0.0.1)")
    ports.add_argument("--dimse-port", type=int, metavar="PORT", help="DICOM associations")
    ports.add_argument("--web-port", type=int, metavar="PORT", help="DICOMweb, below /dicom-web")
    ports.add_argument("--control-port", type=int, metavar="PORT", help="switches and request journal, loopback only")
    ports.add_argument("--no-control", action="store_true", help="open no control port")
    ports.add_argument("--requests-kept", type=int, metavar="N", help="requests kept in the journal (default: 200)")

    tls = parser.add_argument_group("TLS")
    tls.add_argument("--tls-certificate", metavar="PEM", help="serve DICOMweb over TLS with this certificate")
    tls.add_argument("--tls-key", metavar="PEM", help="the certificate's private key")
    tls.add_argument("--tls-client-ca", metavar="PEM", help="demand client certificates of this CA")
    tls.add_argument("--dimse-tls", action="store_true", default=None, help="the same TLS for DICOM associations")

    parser.add_argument(
        "--die-with-parent", action="store_true", help="stop when standard input, a pipe from the parent, ends"
    )
    return parser


def _settings(flags: argparse.Namespace) -> Settings:
    """Flags over the file over the defaults; raises `ValueError` that names what is wrong."""
    given = _read_config(flags.config) if flags.config else {}
    given |= {name: value for name, value in vars(flags).items() if name in _NAMES and value is not None}
    if unknown := sorted(set(given) - _NAMES):
        raise ValueError(f"unknown setting {', '.join(unknown)}")
    if missing := sorted({"trust", "data"} - set(given)):
        raise ValueError(f"needed: {', '.join(missing)}")
    trust = str(given["trust"]).strip().upper()
    title = str(given.get("ae_title", f"PACS_{trust}"))
    if not 0 < len(title.strip()) <= 16:
        raise ValueError("an AE title has 1 to 16 characters")
    return Settings(
        ods_code=trust,
        ae_title=title,
        data_folder=Path(str(given["data"])),
        host=str(given.get("host", "127.0.0.1")),
        dimse_port=_number(given, "dimse_port", 0, _PORT_MAX),
        web_port=_number(given, "web_port", 0, _PORT_MAX),
        control_port=None if flags.no_control else _number(given, "control_port", 0, _PORT_MAX),
        tls=_tls(given),
        dimse_tls=given.get("dimse_tls") is True,
        destinations=parse_destinations(given.get("destinations", {})),
        behaviour=_behaviour(given.get("behaviour", {})),
        requests_kept=_number(given, "requests_kept", REQUESTS_KEPT, REQUESTS_KEPT_MAX),
    )


def _read_config(file: Path) -> dict[str, object]:
    text = file.read_text(encoding="utf-8")
    read: object = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    if not isinstance(read, dict):
        raise ValueError("the configuration file holds no settings")
    return read


def _number(given: Mapping[str, object], name: str, default: int, most: int) -> int:
    value = given.get(name, default)
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 0 to {most}")
    return value


def _tls(given: Mapping[str, object]) -> TlsFiles | None:
    certificate, key, client_ca = (given.get(f"tls_{name}") for name in ("certificate", "key", "client_ca"))
    if certificate is None and key is None and client_ca is None and not given.get("dimse_tls"):
        return None
    if certificate is None or key is None:
        raise ValueError("TLS needs tls_certificate and tls_key")
    return TlsFiles(Path(str(certificate)), Path(str(key)), None if client_ca is None else Path(str(client_ca)))


def _behaviour(value: object) -> Behaviour:
    """From a flag, which is JSON text, or from a table of the file."""
    if isinstance(value, dict):
        return Behaviour().changed(value)
    return parse_behaviour(str(value))


def _make_demo_images(settings: Settings) -> None:
    for trust in TRUSTS:
        if trust.ods_code == settings.ods_code:
            make_trust(trust, settings.data_folder)
            return
    raise ValueError(f"the demo region has images for {', '.join(trust.ods_code for trust in TRUSTS)} only")


if __name__ == "__main__":
    sys.exit(main())
