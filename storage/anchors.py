"""The anchor file: signed lines in a second place that bear witness to how far the audit had come (G13).

A line names the end of every chain that its node sees, other nodes' among them. Lines refer to each other by digest, so
one taken out shows. A line of its own kind makes older witness void from some record on: a restore that an operator
accepted. The file only grows, is synced at every line, and lies on a path of its own. When lines are written and what
they are compared with is `storage.checkpoints`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import orjson

from gateway.model.audit import GENESIS, ChainHead
from gateway.model.errors import AuditUnavailable
from gateway.model.faults import faultpoint
from gateway.model.imaging import JsonValue
from storage.keys import SigningKey, VerifyingKey, sync_folder

LINE_BYTES_MAX = 256 * 1024


class LineKind(StrEnum):
    """What an anchor line says."""

    CHECKPOINT = "checkpoint"
    RESTORE_ACCEPTED = "restore-accepted"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One line. `heads` are the chains' ends at `at`; in an accepted restore, the last records that still stand."""

    kind: LineKind
    number: int
    previous: str
    node: str
    at: datetime
    heads: tuple[ChainHead, ...]
    register_version: int
    opt_out_events: int
    key_id: str
    signature: str = ""

    def line(self) -> bytes:
        """The line in the anchor file, without its end."""
        return orjson.dumps(self.to_json(), option=orjson.OPT_SORT_KEYS)

    @property
    def digest(self) -> str:
        """What the next line refers to."""
        return hashlib.sha256(self.line()).hexdigest()

    def signed(self, key: SigningKey) -> Checkpoint:
        """The same with the key's signature over all the rest."""
        unsigned = replace(self, key_id=key.verifying.key_id, signature="")
        return replace(unsigned, signature=key.sign(unsigned.line()))

    def is_signed_by(self, key: VerifyingKey) -> bool:
        """Whether the key's holder wrote exactly this."""
        return self.key_id == key.key_id and key.is_signed(replace(self, signature="").line(), self.signature)

    def to_json(self) -> dict[str, JsonValue]:
        """The stored form."""
        return {
            "at": self.at.astimezone(UTC).isoformat(),
            "heads": [[head.node, head.sequence, head.hash] for head in self.heads],
            "key": self.key_id,
            "kind": self.kind.value,
            "node": self.node,
            "number": self.number,
            "opt_out_events": self.opt_out_events,
            "previous": self.previous,
            "register_version": self.register_version,
            "signature": self.signature,
        }

    @classmethod
    def from_line(cls, line: bytes) -> Checkpoint | None:
        """Parse a line; None for anything that is no checkpoint."""
        try:
            said = orjson.loads(line)
            return cls(
                LineKind(said["kind"]),
                int(said["number"]),
                str(said["previous"]),
                str(said["node"]),
                datetime.fromisoformat(said["at"]),
                tuple(ChainHead(str(node), int(sequence), str(digest)) for node, sequence, digest in said["heads"]),
                int(said["register_version"]),
                int(said["opt_out_events"]),
                str(said["key"]),
                str(said["signature"]),
            )
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Witness:
    """What the anchor file says: its good lines in order, and what is wrong with it since the last accepted restore."""

    lines: tuple[Checkpoint, ...] = ()
    problems: tuple[str, ...] = ()

    def anchors(self) -> tuple[ChainHead, ...]:
        """Every chain end that is still witnessed to, by node and number."""
        standing: dict[tuple[str, int], ChainHead] = {}
        for line in self.lines:
            match line.kind:
                case LineKind.CHECKPOINT:
                    standing |= {(head.node, head.sequence): head for head in line.heads if head.sequence}
                case LineKind.RESTORE_ACCEPTED:
                    last = {head.node: head.sequence for head in line.heads}
                    standing = {at: head for at, head in standing.items() if at[1] <= last.get(at[0], at[1])}
        return tuple(standing[at] for at in sorted(standing))

    @property
    def last(self) -> Checkpoint | None:
        """The newest line."""
        return self.lines[-1] if self.lines else None


class AnchorFile:
    """The second place."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, key: VerifyingKey, *, lines_max: int | None = None) -> Witness:
        """The whole lines, or the last few, checked for signature and order.

        A last line without an end is what a crash left, and passed over. A missing file has no lines. Raises
        `AuditUnavailable` if the file cannot be read.
        """
        try:
            content = self._content(None if lines_max is None else lines_max * 4096)
        except FileNotFoundError:
            return Witness()
        except OSError as error:
            raise AuditUnavailable("the anchor file cannot be read") from error
        texts = content.split(b"\n")[:-1]
        if lines_max is not None:
            texts = texts[-lines_max:]
        lines: list[Checkpoint] = []
        problems: list[str] = []
        follows: tuple[str, int] | None = None if lines_max is not None else (GENESIS, 1)
        for text in texts:
            line = Checkpoint.from_line(text)
            if line is None or not line.is_signed_by(key):
                problems.append("a line of the anchor file is not signed by this gateway's key")
                follows = None
                continue
            if follows not in (None, (line.previous, line.number)):
                problems.append("lines are missing from the anchor file")
            if line.kind is LineKind.RESTORE_ACCEPTED:
                problems.clear()
            follows = (line.digest, line.number + 1)
            lines.append(line)
        return Witness(tuple(lines), tuple(dict.fromkeys(problems)))

    def append(self, key: SigningKey, unsigned: Checkpoint, number_min: int = 1) -> Checkpoint:
        """Number, sign and append a line; it is durable when this returns. Raises `AuditUnavailable`."""
        try:
            with self._held() as descriptor:
                last, end = _whole_end(descriptor)
                parsed = Checkpoint.from_line(last)
                number = max(parsed.number + 1 if parsed else 1, number_min)
                previous = hashlib.sha256(last).hexdigest() if last else GENESIS
                line = replace(unsigned, number=number, previous=previous).signed(key)
                faultpoint("anchor.append.before")
                write_whole(descriptor, line.line() + b"\n", end)
                faultpoint("anchor.append.written")
                os.fsync(descriptor)
                faultpoint("anchor.append.after")
        except OSError as error:
            raise AuditUnavailable("the anchor file cannot be written") from error
        return line

    def _content(self, bytes_max: int | None) -> bytes:
        with self.path.open("rb") as file:
            if bytes_max is not None:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - bytes_max))
                if size > bytes_max:
                    file.readline()
            return file.read()

    @contextmanager
    def _held(self) -> Iterator[int]:
        """Keep other processes from the file meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_new:
                sync_folder(self.path.parent)
            yield descriptor
        finally:
            os.close(descriptor)


def write_whole(descriptor: int, content: bytes, offset: int) -> None:
    """Write all of `content` at `offset`: a full disk may take a part and say so only at the next byte."""
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def _whole_end(descriptor: int) -> tuple[bytes, int]:
    """The last whole line and where it ends; what a crash left half written behind it is cut off."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - 2 * LINE_BYTES_MAX)
    tail = os.pread(descriptor, size - start, start)
    whole = tail[: tail.rfind(b"\n") + 1]
    end = start + len(whole)
    if end != size:
        os.ftruncate(descriptor, end)
    return whole.rstrip(b"\n").rpartition(b"\n")[2], end
