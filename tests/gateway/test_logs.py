"""Log events: one JSON line each, whoever logs, and nothing of a patient in it."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway import logs
from gateway.logs import scrubbed

ANNE = "9990000018"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, level = logging.getLogger(), logging.getLogger().level
    handlers = root.handlers[:]
    stream = io.StringIO()
    logs.configure("info", as_json=True, stream=stream)
    yield stream
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def events(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_its_fields_and_the_request(stream: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(request="req-1"):
        structlog.get_logger("gateway.test").info("find answered", trust="RZ1", rows=3)
    structlog.get_logger("gateway.test").info("ready")
    first, second = events(stream)
    assert {key: first[key] for key in ("event", "level", "logger", "request", "trust", "rows")} == {
        "event": "find answered",
        "level": "info",
        "logger": "gateway.test",
        "request": "req-1",
        "trust": "RZ1",
        "rows": 3,
    }
    assert "request" not in second


def test_the_standard_librarys_logging_takes_the_same_road(stream: io.StringIO) -> None:
    logging.getLogger("aiohttp.server").warning(
        "bad request %s", f"GET /dicom-web/studies?PatientID={ANNE}", extra={"peer": "RZ2"}
    )
    [event] = events(stream)
    assert event["event"] == "bad request GET /dicom-web/studies?[query]"
    assert event["peer"] == "RZ2"


def test_an_exception_is_written_inside_its_event_and_scrubbed(stream: io.StringIO) -> None:
    try:
        raise ValueError(f"no row for {ANNE}\nevent=forged")
    except ValueError:
        structlog.get_logger("gateway.test").exception("request failed")
    [event] = events(stream)
    assert "ValueError: no row for [number]" in str(event["exception"])
    assert all(line.startswith("    | ") for line in str(event["exception"]).split("\n"))


def test_less_severe_events_are_left_out(stream: io.StringIO) -> None:
    log = structlog.get_logger("gateway.test")
    log.debug("hidden")
    logs.set_level("debug")
    log.debug("shown")
    logs.set_level("error")
    log.warning("hidden again")
    assert [event["event"] for event in events(stream)] == ["shown"]


def test_the_console_form_keeps_one_event_to_its_own_lines() -> None:
    stream = io.StringIO()
    handlers = logging.getLogger().handlers[:]
    try:
        logs.configure("info", as_json=False, stream=stream)
        structlog.get_logger("gateway.test").info("caller refused", name="EVIL\n2026-11-21 [info] forged")
    finally:
        logging.getLogger().handlers[:] = handlers
        structlog.reset_defaults()
    assert len(stream.getvalue().splitlines()) == 1
    assert "\\x0a" in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [ANNE, "999 000 0018", "999-000-0018", "999\u00a0000\u00a00018", f"patient {ANNE}.", f"[{ANNE}]", f"id={ANNE}&x"],
)
def test_what_looks_like_an_nhs_number_is_hidden(text: str) -> None:
    assert "0018" not in scrubbed(text)


@pytest.mark.parametrize(
    "text",
    ["1.2.826.0.1.3680043.8.498.9990000018", "1.2.9990000018.4", "3f9990000018ab", "req-20261121180446", "took 12 ms"],
)
def test_uids_and_ids_stay_readable(text: str) -> None:
    assert scrubbed(text) == text


def test_numbers_and_nested_fields_are_scrubbed_too(stream: io.StringIO) -> None:
    structlog.get_logger("gateway.test").info("odd", found=[{"at": int(ANNE)}, (ANNE,)], bytes=1_073_741_824)
    [event] = events(stream)
    assert event["found"] == [{"at": "[number]"}, ["[number]"]]
    assert event["bytes"] == 1_073_741_824, "not every long number is a patient's: the check digit decides"


def test_the_query_of_a_url_is_hidden_and_its_path_stays() -> None:
    assert scrubbed("GET https://h:1/dicom-web/studies?PatientName=DOE*&limit=1 HTTP/1.1") == (
        "GET https://h:1/dicom-web/studies?[query] HTTP/1.1"
    )


def test_a_long_value_is_cut_at_the_limit() -> None:
    assert scrubbed("x" * logs.FIELD_CHARS_MAX) == "x" * logs.FIELD_CHARS_MAX
    assert scrubbed("x" * (logs.FIELD_CHARS_MAX + 1)).endswith("x[cut]")


@given(st.text())
def test_no_text_breaks_the_line_or_escapes_the_terminal(text: str) -> None:
    assert not [char for char in scrubbed(text) if char != " " and (ord(char) < 32 or 0x7F <= ord(char) < 0xA0)]
    assert len(scrubbed(text).splitlines()) <= 1


def test_nothing_is_written_to_standard_output(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger("gateway.test").warning("somewhere")
    assert capsys.readouterr().out == ""
    assert sys.stdout is not stream
