"""Orthanc from the Debian package as a foreign archive over DICOMweb and DIMSE: its own process on loopback.

Started by its path with a configuration of its own, never by the system's service; ends with the block.
"""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.demo.ports import free_port
from tests.peers.processes import running

BINARY = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
AE_TITLE = "ORTHANC"
_BOUNDARY = "one-instance-a-part"


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running archive."""

    port: int
    dicom_port: int

    @property
    def url(self) -> str:
        """The address of its DICOMweb service."""
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def store(self, files: Iterable[Path]) -> int:
        """Send DICOM files by STOW-RS; returns how many the archive took."""
        head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join(head + path.read_bytes() + b"\r\n" for path in files) + f"--{_BOUNDARY}--\r\n".encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content_type = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
        connection.request(
            "POST", "/dicom-web/studies", body, {"Content-Type": content_type, "Accept": "application/dicom+json"}
        )
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        assert response.status in (200, 202), (response.status, answer)
        return len(answer.get("00081199", {}).get("Value", []))


def orthanc_is_installed() -> bool:
    """Whether both the archive and its DICOMweb plug-in are here."""
    return Path(BINARY).exists() and PLUGIN.exists()


@contextmanager
def running_orthanc(folder: Path, modalities: Mapping[str, object] | None = None) -> Iterator[Orthanc]:
    """An empty archive for as long as the block lasts; skips the test where Orthanc is not installed.

    `modalities` are those that it can ask itself: by name, title, host and port.
    """
    if not orthanc_is_installed():
        pytest.skip("orthanc and orthanc-dicomweb are not installed")
    port, dicom_port = free_port(), free_port()
    settings = {
        "Name": "FOREIGN",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": port,
        "HttpServerEnabled": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": True,
        "DicomAet": AE_TITLE,
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowFind": True,
        "DicomModalities": dict(modalities or {}),
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    command = [BINARY, str(folder / "orthanc.json")]
    with running(command, folder / "orthanc.log", lambda: _answers(port)):
        yield Orthanc(port, dicom_port)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/dicom-web/studies?limit=1", headers={"Accept": "application/dicom+json"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
