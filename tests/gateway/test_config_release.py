"""`[release]` and `[trust.release]`: start values, a trust's word over the region's, and what a check refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from datetime import UTC, date, datetime, time
from pathlib import Path

import pytest

from gateway.config.checks import load
from gateway.config.configuration import Configuration
from gateway.config.release.sections import Division, ReleaseSection, TermsEntry
from gateway.config.release.terms import all_terms, bank_holidays, calendar_of, contacts_of, region_terms, terms_of
from policy.parties import TrustId
from policy.release.terms import AlertWindow, EmbargoStep, ReleaseTerms, UnderThirteen
from tests.gateway.test_config import PLAIN, ROOT, TRUST, described, problems_of

Load = Callable[[str], Configuration]
RZ1 = TrustId.parse("RZ1")


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    def load_text(text: str) -> Configuration:
        return load(written(tmp_path, text))

    return load_text


def written(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(PLAIN + text, encoding="utf-8")
    return path


def test_who_decides_nothing_releases_on_the_start_values(loaded: Load) -> None:
    configuration = loaded(TRUST)
    assert terms_of(configuration, RZ1) == ReleaseTerms() == region_terms(configuration)


def test_every_start_value_is_a_setting_of_the_same_name_for_region_and_trust() -> None:
    for field in fields(ReleaseTerms):
        assert field.name in TermsEntry.model_fields
    assert set(TermsEntry.model_fields) - {field.name for field in fields(ReleaseTerms)} == {"contacts"}


def plainly(value: object) -> object:
    match value:
        case time():
            return value.strftime("%H:%M")
        case frozenset() | tuple():
            return sorted(list(each) if isinstance(each, tuple) else each for each in value)
        case _:
            return value


def test_the_commented_file_shows_the_start_values_of_release(loaded: Load) -> None:
    file = dict(described((ROOT / "gateway.toml").read_text(encoding="utf-8")))
    for field in fields(ReleaseTerms):
        if field.name in ("embargo", "alert_release_window", "go_live_at"):
            continue
        assert field.default is not MISSING
        shown = file[f"release.{field.name}"]
        assert (sorted(shown) if isinstance(shown, list) else shown) == plainly(field.default), field.name
    assert file["release.embargo.days"] == EmbargoStep().days
    assert file["release.alert_release_window.weekdays"] == ["monday", "tuesday", "wednesday", "thursday"]
    assert file["release.alert_release_window.opens"] == plainly(AlertWindow().opens)
    assert file["release.alert_release_window.closes"] == plainly(AlertWindow().closes)
    section = ReleaseSection()
    for name in (
        set(ReleaseSection.model_fields) - set(TermsEntry.model_fields) - {"bank_holidays_besides", "notices_folder"}
    ):
        assert file[f"release.{name}"] == getattr(section, name), name


def test_a_trusts_word_goes_over_the_regions_and_that_over_the_start_value(loaded: Load) -> None:
    configuration = loaded(
        '[release]\nreminder_days = [5, 9]\nfootnote = "F"\nwindow_opens = "09:00"\n'
        f'{TRUST}[trust.release]\nfootnote = ""\nwindow_opens = "10:30"\nunder_13 = "release"\n'
        '[trust.release.alert_release_window]\nopens = "07:00"\n'
        '[[trust]]\nods = "RZ2"\nname = "Eastvale"\n'
    )
    own, other = terms_of(configuration, RZ1), terms_of(configuration, TrustId.parse("RZ2"))
    assert (own.reminder_days, own.footnote, own.window_opens) == ((5, 9), "", time(10, 30))
    assert own.under_13 is UnderThirteen.RELEASE
    assert own.alert_release_window == AlertWindow(opens=time(7))
    assert (other.reminder_days, other.footnote, other.window_opens) == ((5, 9), "F", time(9))
    assert other.under_13 is ReleaseTerms().under_13
    assert all_terms(configuration) == {RZ1: own, TrustId.parse("RZ2"): other}


def test_a_trust_that_nobody_configured_releases_nothing(loaded: Load) -> None:
    assert not terms_of(loaded(TRUST), TrustId.parse("RX9")).is_on


def test_a_patient_rings_the_desk_where_no_team_is_named(loaded: Load) -> None:
    assert contacts_of(loaded(TRUST), RZ1).patient_phone == "01632 960001"
    named = loaded(
        '[release.contacts]\nresults_lead = "lead@region.example"\ndeputies = ["a@r.example", "b@r.example"]\n'
        f'{TRUST}[trust.release.contacts]\npatient_phone = "01632 960100"\n'
    )
    contacts = contacts_of(named, RZ1)
    assert (contacts.patient_phone, contacts.results_lead) == ("01632 960100", "lead@region.example")
    assert contacts.deputies == ("a@r.example", "b@r.example")


def test_bank_holidays_are_those_of_the_division_with_substitute_days(loaded: Load) -> None:
    england = calendar_of(loaded("")).holidays
    assert {date(2026, 12, 25), date(2026, 12, 28), date(2027, 3, 26), date(2026, 8, 31)} <= set(england)
    assert date(2026, 1, 2) not in england
    scotland = calendar_of(loaded('[release]\nbank_holidays_of = "scotland"\n')).holidays
    assert date(2026, 1, 2) in scotland
    besides = calendar_of(loaded("[release]\nbank_holidays_besides = [2027-06-07]\n")).holidays
    assert set(besides) == set(england) | {date(2027, 6, 7)}


def test_every_year_until_2100_has_its_bank_holidays() -> None:
    for division in Division:
        years = [day.year for day in bank_holidays(division)]
        assert all(years.count(year) >= 8 for year in range(2000, 2101)), division


def test_an_embargo_that_begins_later_keeps_its_instant_and_its_evidence(loaded: Load) -> None:
    terms = terms_of(
        loaded(
            f"{TRUST}[[trust.release.embargo]]\n"
            "[[trust.release.embargo]]\ndays = 14\nfrom_at = 2027-06-01T00:00:00+01:00\n"
            'go_live_on = 2026-01-05\nnational_agreement = "N"\npractice_statement = "P"\napproved_by = "A"\n'
        ),
        RZ1,
    )
    first, second = terms.embargo
    assert first == EmbargoStep()
    assert second.from_at == datetime(2027, 5, 31, 23, tzinfo=UTC)
    assert second.evidence is not None
    assert second.evidence.go_live_on == date(2026, 1, 5)


UNSETTABLE = (
    "disclaimer = false",
    'disclaimer_text = ""',
    "audit = false",
    "override_alerts = false",
    "plain_transport = true",
)
"""SAF-70, as somebody might try to write it."""


@pytest.mark.parametrize("line", UNSETTABLE)
def test_what_may_not_be_chosen_is_no_setting(tmp_path: Path, line: str) -> None:
    (problem,) = problems_of(written(tmp_path, f"[release]\n{line}\n"))
    assert problem == f"release.{line.partition(' ')[0]}: no such setting"


def test_an_instant_without_a_zone_is_refused(tmp_path: Path) -> None:
    (problem,) = problems_of(written(tmp_path, "[release]\ngo_live_at = 2026-01-05T08:00:00\n"))
    assert problem.startswith("release.go_live_at: ")


def test_a_hold_without_end_is_no_setting(tmp_path: Path) -> None:
    (problem,) = problems_of(written(tmp_path, "[release]\nhold_review_days_max = 100000\n"))
    assert problem.startswith("release.hold_review_days_max: ")


EVIDENCE = (
    'go_live_on = 2026-01-05\nnational_agreement = "N"\npractice_statement = "P"\napproved_by = "A"\n'
    "from_at = {from_at}\n"
)
SHORTER = "[[release.embargo]]\n[[release.embargo]]\ndays = 14\n"


@pytest.mark.parametrize(
    ("embargo", "says"),
    [
        (
            SHORTER + "from_at = 2027-06-01T00:00:00Z\n",
            "release.embargo: 2 (14 days): an embargo of fewer than 28 days",
        ),
        (SHORTER + EVIDENCE.format(from_at="2026-12-05T00:00:00Z"), "12 months after go-live"),
        (SHORTER + EVIDENCE.format(from_at="2027-01-05T00:00:00Z").replace('"N"', '""'), "national agreement"),
        (SHORTER + EVIDENCE.format(from_at="2027-01-05T00:00:00Z").replace('"P"', '" "'), "practice"),
        (SHORTER + EVIDENCE.format(from_at="2027-01-05T00:00:00Z").replace('"A"', '""'), "approver"),
        ("[[release.embargo]]\ndays = 14\n", "release.embargo: 1 (14 days): an embargo of fewer than 28 days"),
        ("[[release.embargo]]\ndays = 35\n", "release.embargo: 1 (35 days): an embargo of more than 28 days"),
        ("[[release.embargo]]\nfrom_at = 2026-01-01T00:00:00Z\n", "release.embargo: the first has no from_at"),
        ("[[release.embargo]]\n[[release.embargo]]\n", "release.embargo: each begins later"),
        ('[[release.embargo]]\ndays = 60\nreason = "r"\n', "release.total_delay_max_days: must be as long"),
        ('[release]\nwindow_opens = "18:00"\n', "release.window_closes: must be later"),
        ('[release.alert_release_window]\nopens = "12:00"\n', "release.alert_release_window.closes: must be later"),
        ("[release]\ntotal_delay_alarm_days = 57\n", "release.total_delay_alarm_days: must be total_delay_max_days"),
        ("[release]\nreminder_days = [7, 7]\n", "release.reminder_days: must rise"),
        ("[release]\npayloads_kept_days = 2923\n", "release.texts_kept_days: must be 2923 at least"),
        ("[release]\nback_population_days = 3000\n", "release.texts_kept_days: must be 3000 at least"),
    ],
)
def test_terms_that_would_harm_are_refused_with_their_place(tmp_path: Path, embargo: str, says: str) -> None:
    (problem,) = problems_of(written(tmp_path, embargo))
    assert says in problem


def test_twelve_months_after_go_live_with_all_evidence_fourteen_days_are_accepted(loaded: Load) -> None:
    text = SHORTER + EVIDENCE.format(from_at="2027-01-05T00:00:00Z")
    assert [step.days for step in region_terms(loaded(text)).embargo] == [28, 14]


def test_evidence_may_not_name_a_go_live_before_the_real_one(tmp_path: Path) -> None:
    late = "[release]\ngo_live_at = 2026-03-01T00:00:00Z\n" + SHORTER + EVIDENCE.format(from_at="2027-06-01T00:00:00Z")
    (problem,) = problems_of(written(tmp_path, late))
    assert "go_live_on is before go_live_at" in problem


def test_a_mistake_is_told_where_it_was_written(tmp_path: Path) -> None:
    (problem,) = problems_of(written(tmp_path, f"{TRUST}[trust.release]\nreminder_days = [9, 8]\n"))
    assert problem == "trust 1 (RZ1).release.reminder_days: must rise"


def test_a_trust_that_goes_live_names_a_channel_and_those_whom_its_rules_escalate_to(tmp_path: Path) -> None:
    live = f"{TRUST}[trust.release]\ngo_live_at = 2026-01-05T08:00:00Z\n"
    told = problems_of(written(tmp_path, live))
    named = [problem.partition(":")[0].removeprefix("trust 1 (RZ1).release.") for problem in told]
    expected = ["service_mailbox", "results_lead", "caldicott_guardian", "governance"]
    assert named == ["channels", *(f"contacts.{name}" for name in expected), "go_live_at"]
    assert "patients are traced on the day (SAF-66)" in told[-1]
    assert load(written(tmp_path, f"{live}is_on = false\n")).trust[0].release.is_on is False
