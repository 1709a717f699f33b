"""HTTP/1.1 as the load generator and the archive speak it: just enough to be far cheaper than what they measure.

Both ends are ours or well behaved (Orthanc, the gateway), the questions are written beforehand, and a message is a head
and a body of a length told in it, or chunks. Pure; never part of the product.
"""

from __future__ import annotations

from dataclasses import dataclass

DICOM_JSON = "application/dicom+json"
_LENGTH = b"content-length:"
_CHUNKED = b"transfer-encoding: chunked"


@dataclass(slots=True)
class Inbound:
    """One message while it arrives: feed bytes until `is_whole`."""

    status: int = 0
    body_bytes: int = 0
    is_whole: bool = False
    _head: bytes = b""
    _remaining: int = -1
    _chunks: bytes | None = None

    def feed(self, received: bytes) -> None:
        """Take bytes in; a second message behind the first is a mistake of the peer and raises `ValueError`."""
        if self._remaining < 0 and self._chunks is None:
            received = self._read_head(received)
            if self._remaining < 0 and self._chunks is None:
                return
        if self._chunks is not None:
            self._read_chunks(received)
            return
        self._remaining -= len(received)
        if self._remaining < 0:
            raise ValueError("more bytes came than were announced")
        self.is_whole = self._remaining == 0

    def _read_head(self, received: bytes) -> bytes:
        self._head += received
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if not found:
            return b""
        self.status = int(head[9:12])
        lower = head.lower()
        place = lower.find(_LENGTH)
        if place >= 0:
            end = lower.find(b"\r\n", place)
            value = lower[place + len(_LENGTH) : end if end >= 0 else len(lower)]
            self._remaining = self.body_bytes = int(value)
        elif _CHUNKED in lower:
            self._chunks = b""
        else:
            self._remaining = 0
        return rest

    def _read_chunks(self, received: bytes) -> None:
        self._chunks = (self._chunks or b"") + received
        while True:
            size, found, rest = self._chunks.partition(b"\r\n")
            if not found:
                return
            length = int(size.partition(b";")[0], 16)
            if len(rest) < length + 2:
                return
            self._chunks = rest[length + 2 :]
            self.body_bytes += length
            if length == 0:
                self.is_whole = True
                return


def question(path: str, port: int, accept: str = DICOM_JSON) -> bytes:
    """A GET as a DICOMweb client sends it, on a connection that stays open."""
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Accept: {accept}",
        "User-Agent: bench",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(body: bytes) -> bytes:
    """An answer with DICOM JSON."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
