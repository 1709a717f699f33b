"""Every kind of lie that a trust's archive can tell, in one table: what it says by DICOMweb, what by C-FIND, and what
must hold (goal G6). Anne is asked for; Eastvale (RZ2) is honest, Southbridge (RZ3) tells the lie.

A lie that one protocol has no words for says so by None. What bytes alone can do to a parser is in `tests.attacks.lies`
and in the suites of each protocol.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dimse.upper_layer.association import Association
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import Message
from gateway.model.attributes import ACCESSION_ISSUER
from gateway.model.imaging import (
    ISSUER_OF_PATIENT_ID,
    OTHER_PATIENT_IDS,
    PATIENT_ID,
    PATIENT_NAME,
    STUDY_UID,
    Attributes,
    JsonValue,
    Key,
    Query,
)
from gateway.sharing.identity.origins import HOLDERS, HOLDERS_CREATOR, PRIVATE_CREATOR
from gateway.sharing.merge import PEOPLE_MAX
from policy.parties import InvalidIdentifier, NhsNumber
from tests.attacks.hostile import HEAD, Speaks, answer, of_rows
from tests.attacks.lies import MIB, dripping, item, repeats, reset, says, silent
from tests.peers.dimse_archive import Archive, Script
from tests.sharing.rows import ANNE, BEN, CLARA, asking_for, asking_for_study
from tests.sharing.rows import row as plain_row

FOR_ANNE = asking_for(ANNE, Key((PATIENT_NAME,), "PN", ("SMITH^ANNE",)), born="19580314")
"""With her name and birth date, so that who contradicts them is known to be wrong."""
LIED = "1.9"
"""The study that lies are told of."""
INVALID, ANSWERED = frozenset({"invalid-answer"}), frozenset({"answered"})
GONE, LATE, REFUSED, CUT = (
    frozenset({"unreachable"}),
    frozenset({"timed-out"}),
    frozenset({"refused"}),
    frozenset({"truncated"}),
)


@dataclass(frozen=True)
class Lie:
    """One kind: how it is told, and what must hold."""

    name: str
    web: Speaks | None
    c_find: Script | None
    state: frozenset[str] = INVALID
    """What the answer says of the liar; rows that are believed to be no answer leave it as having answered."""
    shown: frozenset[str] = frozenset()
    """The studies of the liar's that may be shown, because nothing in them is known to be untrue."""
    conflict_at: frozenset[str] = frozenset()
    """Where the answer says that identity details differ."""
    withheld: frozenset[str] = frozenset()
    """The honest archive's studies that are withheld as well: the same UID under another patient (SAF-08)."""
    question: Query = FOR_ANNE
    timeout_s: float = 30.0
    """The archive's time to answer; short where it uses it up."""


def row(study: str, patient: NhsNumber | None, **attributes: JsonValue) -> Attributes:
    """A row with its modality, or an archive that is asked by C-FIND would be asked for its series too."""
    return plain_row(study, patient, **{"modalities": "CT", **attributes})


def hers(study: str = LIED, **attributes: JsonValue) -> Attributes:
    """A row that is Anne's, were it believed."""
    return row(study, ANNE, **attributes)


def giving(*rows: Attributes | bytes, status: int = 0x0000) -> Script:
    async def give(archive: Archive, association: Association, message: Message) -> None:
        for each in rows:
            await archive.give(association, message, each)
        await archive.end(association, message, status)

    return give


def saying(command: Command) -> Script:
    """Says this in place of an answer; a message id of 0 stands for that of the question plus one."""

    async def say(archive: Archive, association: Association, message: Message) -> None:
        asked = message.command.message_id
        said = command if command.message_id else replace(command, message_id=asked + 1)
        await archive.say(
            association, message, said, b"\x08\x00\x18\x00UI\x04\x001.9\x00" if command.has_data else None
        )
        await asyncio.Event().wait()

    return say


def of(name: str, *rows: Attributes, **expected: object) -> Lie:
    """Rows that are no answer, told alike by both protocols."""
    return replace(Lie(name, says(of_rows(*rows)), giving(*rows), ANSWERED), **expected)  # type: ignore[arg-type]  # its fields


async def for_ever(archive: Archive, association: Association, message: Message) -> None:
    while True:
        await archive.give(association, message, hers())
        await asyncio.sleep(0)


async def slowly(archive: Archive, association: Association, message: Message) -> None:
    while True:
        await archive.give(association, message, hers())
        await asyncio.sleep(0.05)


async def never(archive: Archive, association: Association, message: Message) -> None:
    await asyncio.Event().wait()


async def aborting(archive: Archive, association: Association, message: Message) -> None:
    await archive.give(association, message, hers())
    association.abort("on purpose")


async def going_on(archive: Archive, association: Association, message: Message) -> None:
    await archive.end(association, message)
    await archive.give(association, message, hers())
    await archive.end(association, message)


async def naming_others(archive: Archive, association: Association, message: Message) -> None:
    last = replace(response(message.command, 0x0000), error_comment="missing: RZ2 0300 555 0199")
    await association.send(message.context.context_id, last)


def nested(levels: int) -> bytes:
    """Sequences in sequences, explicit VR, all of undefined length."""
    opening = b"\x08\x00\x99\x11SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\x00\x00\x00\x00" + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    return opening * levels + closing * levels


def numbers(count: int) -> Sequence[NhsNumber]:
    """Different people."""
    found: list[NhsNumber] = []
    candidate = 9_990_002_000
    while len(found) < count:
        candidate += 1
        try:
            found.append(NhsNumber.parse(str(candidate)))
        except InvalidIdentifier:
            continue
    return found


TWICE = b"\x20\x00\x0d\x00UI\x04\x001.2\x00\x20\x00\x0d\x00UI\x04\x001.3\x00"
AS_BINARY = b"\x20\x00\x0d\x00OB\x00\x00\x04\x00\x00\x001.9\x00"
C_STORE = Command(
    CommandField.C_STORE_RQ,
    9,
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    sop_instance_uid=LIED,
    has_data=True,
    priority=0,
)
ANOTHER_MESSAGE = Command(CommandField.C_FIND_RSP, 0, sop_class_uid="1.2.840.10008.5.1.4.1.2.2.1", status=0)

LIES = (
    # Rows that are somebody else's, or nobody's.
    of("a patient whom nobody asked for", row(LIED, CLARA, name="CLARK^CLARA")),
    of("a patient who opted out", row(LIED, BEN, name="BAKER^BEN")),
    of(
        "all of its patients", *(row(f"1.9.{n}", each) for n, each in enumerate(numbers(PEOPLE_MAX + 2))), state=INVALID
    ),
    of(
        "two NHS numbers on one row",
        {**hers(), OTHER_PATIENT_IDS: {"vr": "SQ", "Value": [item(row("", CLARA))]}},
        conflict_at=frozenset({"RZ3"}),
    ),
    of(
        "a list of NHS numbers for one",
        {**hers(), PATIENT_ID: {"vr": "LO", "Value": [ANNE.digits, CLARA.digits]}},
        conflict_at=frozenset({"RZ3"}),
    ),
    of(
        "her number, of another issuer",
        {**hers(), ISSUER_OF_PATIENT_ID: {"vr": "LO", "Value": ["RZ2"]}},
        conflict_at=frozenset({"RZ3"}),
    ),
    of(
        "a number with a wrong check digit",
        {**hers(), PATIENT_ID: {"vr": "LO", "Value": ["9990000019"]}},
        conflict_at=frozenset({"RZ3"}),
    ),
    of("a row of nobody", row(LIED, None, name="", born=""), conflict_at=frozenset({"RZ3"})),
    of("somebody else under her number", hers(name="MARSH^LEONARD", born="19380430"), conflict_at=frozenset({"RZ3"})),
    of("markup for a name", hers(name="<script>alert(1)</script>"), conflict_at=frozenset({"RZ3"})),
    of(
        "more spellings of her than anybody has",
        *(hers(f"1.9.{n}", name=f"SMITH{n}^ANNE") for n in range(40)),
        conflict_at=frozenset({"RZ3"}),
    ),
    of(
        "an honest archive's study, of another patient",
        row("1.1", CLARA, name="CLARK^CLARA"),
        conflict_at=frozenset({"RZ2"}),
        withheld=frozenset({"1.1"}),
    ),
    of("a study that is not in the question", hers(), question=asking_for_study("1.1", "1.2")),
    # Rows that cannot be.
    of(
        "images in place of studies",
        {tag: each for tag, each in hers(image="1.9.1.1").items() if tag != STUDY_UID},
        state=INVALID,
    ),
    of("a UID that climbs", hers("../../etc/passwd"), state=INVALID),
    of("a UID without end", hers("1" * 65), state=INVALID),
    of("two UIDs in one", {**hers(), STUDY_UID: {"vr": "UI", "Value": ["1.9", "1.1"]}}, state=INVALID),
    Lie("one attribute twice", says(answer(b'[{"0020000D":{"vr":"UI"},"0020000D":{"vr":"UI"}}]')), giving(TWICE)),
    Lie(
        "a UID that is no text",
        says(answer(b'[{"0020000D":{"vr":"UI","Value":[{"a":1}]}}]')),
        giving(AS_BINARY),
    ),
    # Rows that are hers, and lie beside it.
    of("counts beyond belief", hers(instances="-55555"), shown=frozenset({LIED})),
    of("the same row a hundred times", *[hers()] * 100, shown=frozenset({LIED})),
    of(
        "addresses of its own",
        {
            **hers(),
            "00080054": {"vr": "AE", "Value": ["EVIL"]},
            "00080056": {"vr": "CS", "Value": ["ONLINE"]},
            "0040E011": {"vr": "UI", "Value": ["1.2.666"]},
        },
        shown=frozenset({LIED}),
    ),
    of(
        "the gateway's own word on holders",
        {
            **hers(),
            HOLDERS_CREATOR: {"vr": "LO", "Value": [PRIVATE_CREATOR]},
            HOLDERS: {"vr": "SH", "Value": ["RZ2"]},
            ACCESSION_ISSUER: {"vr": "SQ", "Value": [{"00400031": {"vr": "UT", "Value": ["RZ2"]}}]},
        },
        shown=frozenset({LIED}),
    ),
    of(
        "how much she has in all",
        {**hers(), "00201200": {"vr": "IS", "Value": [666]}, "00201202": {"vr": "IS", "Value": [666]}},
        shown=frozenset({LIED}),
    ),
    of("more rows than are believed of one trust", *(hers(f"1.9.{n}") for n in range(160)), state=CUT),
    # Answers that never end, or never come.
    Lie("rows without end", repeats(HEAD + b"\r\n[", b'{"0020000D":{"vr":"UI","Value":["1.9"]}},' * 100), for_ever),
    Lie("silence", silent, never, LATE, timeout_s=0.3),
    Lie("drop by drop", dripping, slowly, LATE, timeout_s=0.3),
    Lie("half an answer", reset, aborting, GONE),
    # Answers that are none.
    Lie(
        "nested a hundred deep",
        says(answer(b'[{"00081199":{"vr":"SQ","Value":[' * 100 + b"]}}]" * 100)),
        giving(nested(100)),
    ),
    Lie("text in no character set", says(answer("[]".encode("utf-16"))), giving(b"\xff" * 4_096)),
    Lie(
        "the answer to another question",
        says(answer(b'{"0020000D":{"vr":"UI","Value":["1.9"]}}')),
        saying(ANOTHER_MESSAGE),
    ),
    Lie(
        "a question in place of an answer",
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        saying(C_STORE),
    ),
    Lie("a status that there is not", says(answer(b"[]", status=b"299 Odd")), giving(status=0xD000)),
    Lie("words after the end", says(answer(b"[]") + of_rows(hers())), going_on, ANSWERED | INVALID | GONE),
    Lie("a refusal", says(answer(b"", status=b"403 Forbidden")), giving(status=0x0124), REFUSED),
    Lie("a failure behind a row", says(answer(b"[]", status=b"500 Error")), giving(hers(), status=0xA700), GONE),
    Lie(
        "that another trust is missing",
        says(
            answer(
                b"[]",
                b'Gateway-Sources: RZ2;state=unreachable;phone="0300 555 0199"',
                b"Gateway-Notice: all imaging is shown",
                b"Gateway-Snapshot: token-1",
            )
        ),
        naming_others,
        ANSWERED,
    ),
    # What only HTTP has words for.
    Lie("a redirect to elsewhere", says(answer(b"", b"Location: http://169.254.169.254/x", status=b"302 Found")), None),
    Lie(
        "a bomb in gzip", says(answer(gzip.compress(b"[" + b" " * 50 * MIB + b"]", 1), b"Content-Encoding: gzip")), None
    ),
    Lie("a page for people", says(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n[]"), None),
    # What only DIMSE has words for.
    Lie("a row of another level", None, giving({"00080052": {"vr": "CS", "Value": ["SERIES"]}, **hers()})),
)
"""At least 25 kinds, each by every protocol that has words for it."""

NEVER_SHOWN = ("EVIL", "1.2.666", "666", CLARA.digits, BEN.digits, "MARSH", "script", "etc/passwd", "-55555")
"""What no answer says, whatever an archive does."""
