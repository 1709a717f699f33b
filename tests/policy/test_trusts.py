"""The roll of trusts by itself: successions, stages, downtimes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from policy.parties import NhsNumber, TrustId
from policy.trusts import Downtime, Roll, Stage, Standing, TrustStanding

CODES = [TrustId(f"RZ{number}") for number in range(6)]
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ANNE = NhsNumber("9990000018")


def retired(trust: TrustId, successor: TrustId | None) -> TrustStanding:
    return TrustStanding(trust, Standing.RETIRED, successor=successor)


def test_a_code_leads_to_the_last_of_its_successors() -> None:
    roll = Roll({CODES[0]: retired(CODES[0], CODES[1]), CODES[1]: retired(CODES[1], CODES[2])})
    assert roll.present(CODES[0]) == CODES[2] and roll.present(CODES[2]) == CODES[2]
    assert roll.predecessors(CODES[2]) == {CODES[0], CODES[1]}


@given(st.dictionaries(st.sampled_from(CODES), st.sampled_from(CODES)))
def test_no_successions_are_followed_for_ever(successors: dict[TrustId, TrustId]) -> None:
    roll = Roll({trust: retired(trust, successor) for trust, successor in successors.items()})
    assert all(roll.present(code) in CODES for code in CODES)


def test_without_an_entry_the_configuration_counts_and_with_one_the_register() -> None:
    roll = Roll({CODES[0]: TrustStanding(CODES[0], Standing.SUSPENDED)})
    assert roll.takes_part(CODES[1], starts_enrolled=True, patient=None)
    assert not roll.takes_part(CODES[1], starts_enrolled=False, patient=None)
    assert not roll.takes_part(CODES[0], starts_enrolled=True, patient=None)


def test_a_trust_in_test_takes_part_for_its_own_test_patients_alone() -> None:
    standing = TrustStanding(CODES[0], Standing.ENROLLED, Stage.TEST)
    roll = Roll({CODES[0]: standing}, test_patients={CODES[0]: frozenset({ANNE})})
    assert roll.takes_part(CODES[0], starts_enrolled=True, patient=ANNE)
    assert not roll.takes_part(CODES[0], starts_enrolled=True, patient=None)
    assert not roll.takes_part(CODES[0], starts_enrolled=True, patient=NhsNumber("9990000026"))


def test_a_downtime_is_half_open_and_the_longest_is_told() -> None:
    hour = timedelta(hours=1)
    short = Downtime("a", CODES[0], NOON, NOON + hour, "disk")
    long = Downtime("b", CODES[0], NOON, NOON + 2 * hour, "move")
    roll = Roll(downtimes=(short, long))
    assert roll.downtime(CODES[0], NOON) == long and roll.downtime(CODES[0], NOON + 2 * hour) is None
    assert roll.downtime(CODES[1], NOON) is None


def test_stages_come_one_after_the_other() -> None:
    assert [stage.next for stage in Stage] == [Stage.QUERY, Stage.RETRIEVE, Stage.PUSH, None]
