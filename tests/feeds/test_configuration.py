"""`[[report_feed]]` and `[listen.hl7]`: what may be set, and what is refused with its place."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.config.checks import load
from gateway.config.release.senders import feeds_of
from gateway.feeds.profile import FeedKind, Place
from gateway.feeds.replaying import reader
from gateway.model.errors import ConfigurationError, InvalidRequest
from policy.parties import TrustId
from policy.release.reports import AlertCategory
from tests.feeds.messages import RECEIVED, line, message, result

PLAIN = """
[gateway]
mode = "demo"
[listen.machines]
plain_http_on_loopback = true
[listen.people]
plain_http_on_loopback = true
[listen.hl7]
plain_on_loopback = true
[[trust]]
ods = "RX1"
name = "Northmoor"
patient_id_issuer = "RX1-PAS"
"""
FEED = '[[report_feed]]\nname = "rx1-ris"\ntrust = "RX1"\n'
PRINT = "certificate_sha256 = '" + "ab" * 32 + "'\n"


def written(folder: Path, text: str, plain: str = PLAIN) -> Path:
    path = folder / "gateway.toml"
    path.write_text(plain + text, encoding="utf-8")
    return path


def test_a_feed_is_read_with_the_habits_of_its_sender(tmp_path: Path) -> None:
    text = (
        FEED
        + PRINT
        + (
            'silent_minutes_by_hour = [["20-6", 720], ["12", 30]]\n[report_feed.profile]\nverification_from = "ZVR-2"\n'
            'alert_codes = [["red", "critical"]]\nimage_link_codes = ["VIEWER"]\n'
        )
    )
    configuration = load(written(tmp_path, text))
    (feed,) = feeds_of(configuration)
    assert (feed.name, feed.trust, feed.kind, feed.patient_issuer) == (
        "rx1-ris",
        TrustId("RX1"),
        FeedKind.HL7,
        "RX1-PAS",
    )
    assert feed.profile.verification_from == Place("ZVR", 2)
    assert feed.profile.image_link_codes == {"VIEWER"}
    assert (feed.alert("RED"), feed.alert("Cancer"), feed.alert("n")) == (
        AlertCategory.CRITICAL.value,
        AlertCategory.CANCER.value,
        "",
    )
    minutes = configuration.report_feed[0].silence.minutes
    assert [minutes[hour] for hour in (19, 20, 23, 0, 6, 7, 12)] == [120, 720, 720, 720, 720, 120, 30]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (FEED, "needs certificate_sha256"),
        (FEED.replace("RX1", "RX2") + PRINT, "no [[trust]] has the code RX2"),
        (FEED + PRINT + FEED.replace("rx1-ris", "other") + PRINT, "cannot be told from report_feed 1 (rx1-ris)"),
        (FEED + PRINT + FEED + PRINT.replace("ab", "cd"), "report_feed (rx1-ris): stands 2 times"),
        (FEED + 'loopback_only = true\naddresses = ["10.0.0.0/8"]\n', "cannot come from another machine"),
        (FEED + PRINT + '[report_feed.profile]\nverification_from = "OBR-7"\n', "is no time of verification (REL-07)"),
        (FEED + PRINT + '[report_feed.profile]\nverification_from = "exam"\n', "profile.verification_from"),
        (FEED + PRINT + '[report_feed.profile]\ncharacter_set = "EBCDIC"\n', "profile.character_set"),
        (FEED + PRINT + '[report_feed.profile]\nalert_codes = [["n", "cancer"]]\n', "N stand in alert_codes too"),
        (FEED + PRINT + '[report_feed.profile]\nadministrative_codes = ["A"]\n', "without administrative_from"),
        (FEED + PRINT + 'silent_minutes_by_hour = [["25", 60]]\n', "silent_minutes_by_hour"),
        (FEED + PRINT + "feed_silent_minutes = 1\n", "feed_silent_minutes"),
        ("", "listen.hl7: nobody may send there"),
        (FEED.replace("rx1-ris", "dicom") + PRINT, "is what the store doors are called"),
        (FEED + 'kind = "dicom"\n' + FEED.replace("rx1-ris", "b") + 'kind = "dicom"\n', "are one feed"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(written(tmp_path, text))
    assert any(problem in each for each in refused.value.problems), refused.value.problems


def test_one_certificate_speaks_for_one_trust_whatever_the_kind(tmp_path: Path) -> None:
    other = '[[trust]]\nods = "RX2"\nname = "Southmoor"\n'
    foreign = FEED.replace("rx1-ris", "rx2-fhir").replace("RX1", "RX2") + 'kind = "fhir"\n' + PRINT
    with pytest.raises(ConfigurationError) as refused:
        load(written(tmp_path, other + FEED + PRINT + foreign))
    assert any("one certificate speaks for one trust" in each for each in refused.value.problems)


def test_the_door_for_hl7_is_plain_on_loopback_only(tmp_path: Path) -> None:
    feed = FEED + PRINT
    distant = PLAIN.replace("[listen.hl7]\n", '[listen.hl7]\nhost = "0.0.0.0"\n')
    secure = PLAIN.replace("[listen.hl7]\nplain_on_loopback = true\n", "[listen.hl7]\n")
    for plain, problem in ((distant, "plain HL7 is for loopback only"), (secure, "listen.hl7.client_ca: must be set")):
        with pytest.raises(ConfigurationError) as refused:
            load(written(tmp_path, feed, plain))
        assert any(problem in each for each in refused.value.problems), refused.value.problems


def test_a_dead_letter_is_read_anew_by_what_its_feed_says_now(tmp_path: Path) -> None:
    raw = message(result(), line("Normal."), header="MSH|^~\\&|RIS|RX1|||20260601||ORU^R01|M1|T|2.5")
    path = written(tmp_path, FEED + PRINT)
    before = reader(lambda: feeds_of(load(path)))(TrustId("RX1"), "rx1-ris", raw, RECEIVED)
    assert "MSH-11" in before.problem
    written(tmp_path, FEED + PRINT + '[report_feed.profile]\nprocessing_ids = ["P", "T"]\n')
    after = reader(lambda: feeds_of(load(path)))(TrustId("RX1"), "rx1-ris", raw, RECEIVED)
    assert not after.problem and after.reports[0].content.text == "Normal."
    with pytest.raises(InvalidRequest):
        reader(lambda: feeds_of(load(path)))(TrustId("RX2"), "rx1-ris", raw, RECEIVED)


def test_how_long_a_feed_may_be_silent_depends_on_the_hours_that_have_passed(tmp_path: Path) -> None:
    silence = (
        load(written(tmp_path, FEED + PRINT + 'silent_minutes_by_hour = [["20-6", 720]]\n')).report_feed[0].silence
    )
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert not silence.is_too_long(noon, noon + timedelta(minutes=119))
    assert silence.is_too_long(noon, noon + timedelta(minutes=121))
    evening = datetime(2026, 11, 24, 20, tzinfo=UTC)
    assert not silence.is_too_long(evening, evening + timedelta(hours=11))
    # Eleven hours of the night are most of what it allows: little of the morning is left.
    assert silence.is_too_long(evening, evening + timedelta(hours=11, minutes=20))
    assert not silence.is_too_long(noon, noon - timedelta(hours=1))
