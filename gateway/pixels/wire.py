"""What the pool and its workers say to each other over a pipe: a head of a few words, and bytes.

A message is two lengths of four bytes, the head as JSON, and the body. Both ends hold the lengths to limits before
they read on: a worker that was taken over can say no more than one that was not.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

import orjson

from gateway.model.imaging import JsonValue

LENGTHS = Struct("<II")
HEAD_BYTES_MAX = 64 * 1024

Head = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Message:
    """A task, or the answer to one."""

    head: Head
    body: bytes = b""


def encoded_head(head: Head, body_bytes: int) -> bytes:
    """What stands before the body."""
    text = orjson.dumps(head)
    return LENGTHS.pack(len(text), body_bytes) + text


def decoded_head(text: bytes) -> Head:
    """The head of a message; raises `ValueError`."""
    head = orjson.loads(text)
    if not isinstance(head, dict):
        raise ValueError("the head of a message is no object")
    return head
