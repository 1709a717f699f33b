"""Orthanc with its DICOMweb plugin, as Debian packages it: the peer of the QIDO and C-FIND figures, answering alone.

Started by hand on loopback with Debian's settings, and with `TCP_NODELAY=1`, which cures the 40 ms that Nagle's
algorithm would cost it at every answer: it is compared at its best.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from bench.rig import processes, studies
from gateway.demo.ports import free_port

PROGRAM = Path("/usr/sbin/Orthanc")
AE_TITLE = "ORTHANC"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
AT_ITS_BEST: Mapping[str, str] = {"TCP_NODELAY": "1"}
AS_INSTALLED: Mapping[str, object] = {}
TUNED: Mapping[str, object] = {
    "SyncStorageArea": False,
    "StoreMD5ForAttachments": False,
    "MaximumPduLength": 131_072,
    "DicomThreadsCount": 8,
}
"""Nothing synced, nothing digested, large PDUs: as fast as it receives."""


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc."""

    port: int
    dicom_port: int
    studies: int

    def forget(self) -> None:
        """Delete every study."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/studies")
        for study in json.loads(connection.getresponse().read()):
            connection.request("DELETE", f"/studies/{study}")
            connection.getresponse().read()
        connection.close()


def is_installed() -> bool:
    """Whether Debian's packages orthanc and orthanc-dicomweb are here."""
    return PROGRAM.exists() and PLUGIN.exists()


@contextmanager
def running(
    folder: Path,
    held: Sequence[studies.Study] = (),
    *,
    settings: Mapping[str, object] = AS_INSTALLED,
    environment: Mapping[str, str] = AT_ITS_BEST,
) -> Iterator[Orthanc]:
    """An Orthanc that holds these studies, for as long as the block lasts."""
    port, dicom_port = free_port(), free_port()
    folder.mkdir(parents=True)
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps({**_settings(folder, port, dicom_port), **settings}), encoding="utf-8")
    command = [PROGRAM, configuration]
    with processes.running(command, folder / "orthanc.log", "Orthanc has started", environment) as child:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        for study in held:
            connection.request("POST", "/instances", studies.file(study))
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"Orthanc refused a study: {answer.status}: {child.last_words()}")
        connection.close()
        yield Orthanc(port, dicom_port, len(held))


def _settings(folder: Path, port: int, dicom_port: int) -> dict[str, object]:
    """What differs from the program's own start values, and Debian's /etc/orthanc/dicomweb.json."""
    return {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": port,
        "DicomPort": dicom_port,
        "DicomAet": AE_TITLE,
        "DicomAlwaysAllowFind": True,
        "RemoteAccessAllowed": False,
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "EnableWado": True,
            "WadoRoot": "/wado",
            "Host": "localhost",
            "Ssl": False,
        },
    }
