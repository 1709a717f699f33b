"""Twenty thousand seeded mutations of honest input at each parser of the edge: an answer or a refusal, nothing else.

Beside the generated tests of each module, which look for small counter-examples, this looks for rare ones by volume;
`make soak` does a hundred times as many. A failure names its seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from dicomweb.accept import accepts_gzip, json_type
from dicomweb.dicomjson import Reading, read_rows
from dicomweb.parameters import parse_question
from gateway.model.attributes import MATCHING
from gateway.model.errors import InvalidRequest, PeerProtocolError
from gateway.model.imaging import Level
from gateway.model.settings import Limits
from gateway.model.wording import ascii_text
from policy.parties import TrustId

ROUNDS, ROUNDS_IN_SOAK = 20_000, 2_000_000

QUESTIONS = (
    b"limit=101&offset=0&fuzzymatching=true&includefield=00081030,00080060&PatientName=*x*&00100020=*9990000018*",
    b"StudyInstanceUID=1.2.3\\\\1.2.4,1.2.5&StudyDate=19700102-20261121&StudyTime=1015-&ModalitiesInStudy=CT,MR",
    b"RequestAttributesSequence.ScheduledProcedureStepID=S%201&SeriesNumber=3&accept=application/dicom+json",
)
ACCEPTS = (
    b"application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*; transfer-syntax=*",
    b'multipart/related; type="application/dicom+xml";q=0.5, text/html, */*;q=0.1',
)
ROW = {
    "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
    "00080061": {"vr": "CS", "Value": ["CT", None, "SR"]},
    "00081190": {"vr": "UR", "Value": ["http://pacs.internal/studies/1"]},
    "00090010": {"vr": "LO", "Value": ["ACME"]},
    "00091001": {"vr": "UN", "InlineBinary": "AAAA"},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "YAMADA^Tarou", "Ideographic": "\u5c71\u7530"}]},
    "00101002": {"vr": "SQ", "Value": [{"00100020": {"vr": "LO", "Value": ['H"[1]']}}, {}]},
    "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
    "00201206": {"vr": "IS", "Value": [3, "4", -0.5e3]},
    "00280009": {"vr": "AT", "Value": ["00181063"]},
}
ANSWERS = (json.dumps([ROW]).encode(), json.dumps([ROW, {}, ROW], ensure_ascii=False).encode())
WORDS = rb'[ ] { } " : , \ \u0000 null 0 1e999 & = % %00 * - ; q= / . Value vr SQ PN 00100020 limit'
TOKENS = (*WORDS.split(b" "), b" ", b"\x00", b"\xff", b"\xc3\xa9")


def mutated(source: random.Random, text: bytes) -> bytes:
    """The text with a few pieces cut out, doubled, moved or replaced."""
    for _ in range(source.randint(1, 4)):
        start = source.randrange(len(text) + 1)
        end = min(len(text), start + source.choice((0, 1, 1, 2, 5, 40)))
        piece = source.choice((b"", text[start:end] * 2, source.choice(TOKENS), source.randbytes(source.randint(1, 3))))
        at = source.choice((start, source.randrange(len(text) + 1)))
        text = text[:at] + piece + text[max(at, end if at == start else at) :]
    return text[:4_000]


def ask_question(text: bytes, source: random.Random) -> None:
    level = source.choice((Level.STUDY, Level.SERIES, Level.IMAGE))
    question = parse_question(text.decode("latin-1"), level, Limits())
    assert all(key.values and key.path in MATCHING[level] for key in question.query.keys)


def read_accept(text: bytes, _source: random.Random) -> None:
    header = text.decode("latin-1")
    accepts_gzip(header)
    assert ascii_text(header).isascii()
    json_type(header, header if len(header) % 2 else None)


def read_answer(text: bytes, source: random.Random) -> None:
    forgiving = source.random() < 0.5
    reading = Reading(TrustId("RJ1"), 32, "ISO_IR 100" if forgiving else "", forgiving, forgiving)
    rows = read_rows(text, reading)
    assert all(element.keys() <= {"vr", "Value"} for row in rows for element in row.values())
    # What was believed once is believed again, and unchanged.
    assert read_rows(json.dumps(rows).encode(), Reading(TrustId("RJ1"), 32)) == rows


PARSERS = [(ask_question, QUESTIONS), (read_accept, ACCEPTS), (read_answer, ANSWERS)]


@pytest.mark.parametrize(("parser", "honest"), PARSERS)
def test_mutated_input_is_answered_or_refused(
    parser: Callable[[bytes, random.Random], None], honest: tuple[bytes, ...]
) -> None:
    _fuzz(parser, honest, ROUNDS)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(("parser", "honest"), PARSERS)
def test_much_mutated_input_is_answered_or_refused(
    parser: Callable[[bytes, random.Random], None], honest: tuple[bytes, ...]
) -> None:
    _fuzz(parser, honest, ROUNDS_IN_SOAK)


def _fuzz(parser: Callable[[bytes, random.Random], None], honest: tuple[bytes, ...], rounds: int) -> None:
    for seed in range(rounds):
        source = random.Random(seed)
        text = mutated(source, source.choice(honest))
        try:
            parser(text, source)
        except (InvalidRequest, PeerProtocolError):
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}: {text!r}") from error
