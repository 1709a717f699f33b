"""HL7 v2 as bytes on a wire: MLLP blocks, the escapes of chapter 2.7, and acknowledgements (chapter 2.9, 2.14.8).

Shared by the feeds, which take messages in, and the channels, which send them. Whatever stands in a value stays that
value: no separator and no framing byte of it ever reaches the wire as one (threat G9). Knows no reports. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

START = b"\x0b"
END = b"\x1c\r"
"""What a block begins and ends with (MLLP release 1)."""

SEGMENT_END = "\r"

_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_LINE_ENDS = re.compile(r"\r\n|[\r\n\x0b\x0c\x85\u2028\u2029]")
_HEAD = re.compile(rb"MSH(?P<field>[\x21-\x7e])(?P<component>[\x21-\x7e])")
_ACK_CODES = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})


class NotHl7(ValueError):
    """Bytes that are no block, or no message of HL7 v2. The words never repeat them."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a receiver says of one message."""

    code: str
    """`AA`, `AE`, `AR`; in enhanced mode `CA`, `CE`, `CR`."""
    message_id: str
    """MSH-10 of the message that it answers."""

    @property
    def is_accepted(self) -> bool:
        """Whether the receiver has it."""
        return self.code in {"AA", "CA"}


def frame(message: bytes) -> bytes:
    """A message as a block; raises `NotHl7` where a framing byte stands in it."""
    if START in message or END[:1] in message:
        raise NotHl7("a framing byte stands in the message")
    return START + message + END


def unframe(block: bytes) -> bytes:
    """The message of a block that was read up to and with its end; raises `NotHl7`.

    Line ends before the start are let pass: some senders close a block with one too many.
    """
    stripped = block.lstrip(b"\r\n")
    if not stripped.startswith(START) or not stripped.endswith(END):
        raise NotHl7("what came is no MLLP block")
    message = stripped[len(START) : -len(END)]
    if START in message or END[:1] in message:
        raise NotHl7("a framing byte stands in the message")
    return message


def escape(value: str) -> str:
    """A value of one line, as it may stand in a component: line ends and tabs are spaces, control characters go."""
    flat = _LINE_ENDS.sub(" ", value).replace("\t", " ")
    return "".join(_ESCAPES.get(each, _kept(each)) for each in flat)


def escape_text(text: str) -> str:
    """Formatted text (FT) whose lines and spaces are kept; other control characters go."""
    kept = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(_escaped(each) for each in kept)


def ack_of(message: bytes, code: str, *, control_id: str, at: str, words: str = "") -> bytes:
    """The acknowledgement of a message, in its own separators, sender and receiver changed about.

    `at` is MSH-7 as it is to stand; `words` are for MSA-3 and never repeat the message. Raises `NotHl7` where there is
    no MSH to answer to: the caller then answers by `ack_of(b"MSH|^~\\\\&|", "AR", ...)`.
    """
    head = _HEAD.match(message)
    if head is None:
        raise NotHl7("the message does not begin with MSH")
    separator = head["field"].decode()
    first = re.split(rb"[\r\n]", message, maxsplit=1)[0]
    # Latin-1 gives every byte back as it was: whatever the message's character set, its fields are only repeated.
    fields = [*first.decode("latin-1").split(separator), *[""] * 18][:18]
    _, encoding, application, facility, to_application, to_facility, *_ = fields
    kind = fields[8].split(head["component"].decode())
    kind_of_ack = head["component"].decode().join(["ACK", *kind[1:2], *["ACK"] * (len(kind) > 2)])
    to_and_fro = [to_application, to_facility, application, facility]
    version = [fields[10] or "P", fields[11] or "2.4", "", "", "", "", "", fields[17]]
    answer = (
        ["MSH", encoding, *to_and_fro, at, "", kind_of_ack, control_id, *version],
        ["MSA", code, fields[9], _plain_words(words)],
    )
    return "".join(separator.join(each).rstrip(separator) + SEGMENT_END for each in answer).encode("latin-1")


def read_ack(message: bytes) -> Acknowledgement:
    """Read an acknowledgement; raises `NotHl7`."""
    head = _HEAD.match(message)
    if head is None:
        raise NotHl7("the answer does not begin with MSH")
    for segment in re.split(rb"[\r\n]+", message)[1:]:
        fields = [each.decode("latin-1").strip() for each in segment.split(head["field"])]
        if fields[0] == "MSA" and len(fields) >= 3 and fields[1] in _ACK_CODES:
            return Acknowledgement(fields[1], fields[2])
    raise NotHl7("the answer has no MSA with a known code")


def _escaped(character: str) -> str:
    if character == "\n":
        return "\\.br\\"
    if character == "\t":
        return "\\X09\\"
    return _ESCAPES.get(character, _kept(character))


def _kept(character: str) -> str:
    # Control characters and halves of surrogate pairs; a no-break space, for one, is text.
    return "" if unicodedata.category(character) in {"Cc", "Cs"} else character


def _plain_words(words: str) -> str:
    return re.sub(r"[^A-Za-z0-9 ,.;:()/-]+", "?", words)[:80]
