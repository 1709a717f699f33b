"""Rows that do not agree on whose they are: taken out at both ends, never guessed at (SAF-08, IDN-06)."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.model.imaging import PATIENT_BIRTH_DATE, PATIENT_NAME, Key, Query
from gateway.sharing.identity.conflicts import VARIANTS_MAX, Conflict, Judgement, judge, quality_items
from gateway.sharing.merge import Candidate
from gateway.sharing.scope import pinned_scope
from tests.sharing.rows import ANNE, BEN, CLARA, RZ2, RZ3, RZ4, asking_for, asking_for_study, found, row

FOR_ANNE = asking_for(ANNE)
FOR_THE_STUDY = asking_for_study("1.2.3", "1.2.4")
BORN = Key((PATIENT_BIRTH_DATE,), "DA", ("19580314",))
NAMED = Key((PATIENT_NAME,), "PN", ("*smith*",))


def judged(query: Query, *candidates: Candidate) -> Judgement:
    """Judge rows as answers to a question."""
    return judge(query, pinned_scope(query), candidates)


def kinds(judgement: Judgement) -> list[str]:
    """The kinds of conflict found."""
    return [conflict.kind for conflict in judgement.conflicts]


def test_rows_that_agree_are_accepted() -> None:
    rows = (found(RZ2, row()), found(RZ3, row("1.2.4")))
    assert judged(FOR_ANNE, *rows) == Judgement(rows, ())


def test_one_study_filed_under_two_patients_is_withheld_at_both() -> None:
    rows = (found(RZ2, row()), found(RZ3, row(patient=BEN, name="BAKER^BEN")))
    for query in (FOR_ANNE, FOR_THE_STUDY):
        assert judged(query, *rows) == Judgement((), (Conflict("study-uid-of-two-patients", rows),))


def test_a_copy_without_a_number_leaves_the_good_copy_standing() -> None:
    good, nameless = found(RZ2, row()), found(RZ3, row(patient=None, patient_id="77"))
    assert judged(FOR_ANNE, good, nameless) == Judgement((good,), (Conflict("nhs-number-missing", (nameless,)),))
    assert judged(FOR_THE_STUDY, good, nameless) == Judgement((good,), ())


def test_a_copy_without_a_number_that_is_of_somebody_else_is_a_conflict() -> None:
    rows = (found(RZ2, row()), found(RZ3, row(patient=None, patient_id="77", name="BAKER^BEN", born="19700102")))
    for query in (FOR_ANNE, FOR_THE_STUDY):
        assert judged(query, *rows) == Judgement((), (Conflict("study-uid-of-two-patients", rows),))


def test_a_conflict_takes_no_other_study_with_it() -> None:
    other = found(RZ2, row("1.2.9"))
    judgement = judged(FOR_ANNE, found(RZ2, row()), found(RZ3, row(patient=BEN, name="BAKER^BEN")), other)
    assert judgement.accepted == (other,)


def test_rows_of_somebody_else_are_no_answer_and_no_conflict() -> None:
    """An archive that ignores the number it is asked for."""
    assert judged(FOR_ANNE, found(RZ2, row("1.2.5", BEN)), found(RZ2, row("1.2.6", CLARA))) == Judgement((), ())


def test_two_others_quarrel_over_a_study_is_not_this_patients_affair() -> None:
    assert judged(FOR_ANNE, found(RZ2, row("1.2.5", BEN)), found(RZ3, row("1.2.5", CLARA))) == Judgement((), ())


def test_each_study_filed_under_two_patients_is_a_conflict_of_its_own() -> None:
    """A quarrel between others neither hides the notice about this patient's study nor names further trusts in it."""
    annes = (found(RZ2, row("1.2.3", ANNE)), found(RZ3, row("1.2.3", BEN)))
    others = (found(RZ3, row("1.2.5", BEN)), found(RZ4, row("1.2.5", CLARA)))
    assert judged(FOR_ANNE, *annes, *others) == Judgement((), (Conflict("study-uid-of-two-patients", annes),))
    both = judged(asking_for_study("1.2.3", "1.2.5"), *annes, *others)
    assert {conflict.rows for conflict in both.conflicts} == {annes, others}


def test_each_patients_disagreeing_rows_are_a_conflict_of_their_own() -> None:
    annes = (found(RZ2, row("1.2.3")), found(RZ3, row("1.2.4", born="19700102")))
    bens = (found(RZ2, row("1.2.5", BEN)), found(RZ3, row("1.2.6", BEN, born="19700102")))
    both = judged(asking_for_study("1.2.3", "1.2.4", "1.2.5", "1.2.6"), *annes, *bens)
    assert {conflict.rows for conflict in both.conflicts} == {annes, bens}


def test_a_row_without_a_number_is_told_when_a_patient_was_asked_for() -> None:
    nameless = found(RZ2, row(patient=None, patient_id="77"))
    assert judged(FOR_ANNE, nameless) == Judgement((), (Conflict("nhs-number-missing", (nameless,)),))


def test_a_row_without_a_number_is_no_answer_to_a_question_for_a_study() -> None:
    assert judged(FOR_THE_STUDY, found(RZ2, row(patient=None, patient_id="77"))) == Judgement((), ())


def test_a_row_without_a_number_is_an_answer_to_its_own_trust() -> None:
    nameless = found(RZ2, row(patient=None, patient_id="77"))
    scope = pinned_scope(FOR_THE_STUDY)
    assert judge(FOR_THE_STUDY, scope, [nameless], asker=RZ2).accepted == (nameless,)
    assert judge(FOR_THE_STUDY, scope, [nameless], asker=RZ3).accepted == ()


def test_a_row_that_contradicts_the_question_is_withheld_and_the_others_stay() -> None:
    right, wrong = found(RZ2, row()), found(RZ3, row("1.2.4", born="19700102"))
    for key in (BORN, NAMED):
        contradicting = wrong if key is BORN else found(RZ3, row("1.2.4", name="BAKER^BEN"))
        judgement = judged(asking_for(ANNE, key), right, contradicting)
        assert judgement == Judgement((right,), (Conflict("demographics-differ", (contradicting,)),))


def test_without_a_stated_date_rows_that_disagree_are_all_withheld() -> None:
    rows = (found(RZ2, row()), found(RZ3, row("1.2.4", born="19700102")))
    assert judged(FOR_ANNE, *rows) == Judgement((), (Conflict("demographics-differ", rows),))


def test_rows_that_disagree_are_withheld_although_another_contradicts_the_question() -> None:
    quarrel = (found(RZ2, row()), found(RZ3, row("1.2.4", name="JONES^MARK")))
    contradicting = found(RZ4, row("1.2.5", born="19700102"))
    judgement = judged(asking_for(ANNE, BORN), *quarrel, contradicting)
    assert judgement.accepted == ()


def test_rows_of_several_patients_are_compared_each_with_their_own() -> None:
    rows = (found(RZ2, row("1.2.3", ANNE)), found(RZ3, row("1.2.4", BEN, name="BAKER^BEN", born="19700102")))
    assert judged(FOR_THE_STUDY, *rows).accepted == rows


def test_more_spellings_than_anybody_has_are_all_disbelieved() -> None:
    def spelt(count: int) -> list[Candidate]:
        return [found(RZ2, row(f"1.2.{n}", name=f"SMITH^ANNE{chr(65 + n)}")) for n in range(count)]

    assert len(judged(FOR_ANNE, *spelt(VARIANTS_MAX)).accepted) == VARIANTS_MAX
    assert judged(FOR_ANNE, *spelt(VARIANTS_MAX + 1)).accepted == ()


def test_a_trust_that_sends_more_spellings_than_anybody_has_takes_no_other_trusts_rows_with_it() -> None:
    honest = found(RZ3, row("1.2.999"))
    flood = [found(RZ2, row(f"1.2.{n}", name=f"SMITH{n}^ANNE")) for n in range(VARIANTS_MAX + 1)]
    same_spelling = found(RZ2, row("1.2.998"))
    judgement = judged(FOR_ANNE, *flood, honest, same_spelling)
    assert judgement.accepted == (honest,)
    assert [(conflict.kind, len(conflict.rows)) for conflict in judgement.conflicts] == [
        ("demographics-differ", VARIANTS_MAX + 2)
    ]
    contradicted = judged(FOR_ANNE, *flood, honest, found(RZ2, row("1.2.997", born="19700102")))
    assert contradicted.accepted == (), "a row that contradicts it does so in a flood as well"


def test_each_custodian_is_told_of_its_own_row_and_of_the_trusts_concerned() -> None:
    rows = (found(RZ3, row(patient=BEN)), found(RZ2, row()), found(RZ2, row()))
    items = quality_items(Conflict("study-uid-of-two-patients", rows))
    assert [(item.custodian, item.study_uid, item.patient) for item in items] == [
        (RZ2, "1.2.3", ANNE),
        (RZ3, "1.2.3", BEN),
    ]
    assert [item.detail for item in items] == [{"trusts": ["RZ2", "RZ3"]}] * 2


def test_what_a_custodian_is_told_does_not_hang_on_the_order_of_rows() -> None:
    rows = (found(RZ2, row(patient=BEN)), found(RZ2, row()))
    conflict, turned = (Conflict("study-uid-of-two-patients", each) for each in (rows, rows[::-1]))
    assert quality_items(conflict) == quality_items(turned)


# --- for all answers ---

ROWS = st.builds(
    lambda trust, study, patient, name, born: found(trust, row(study, patient, name=name, born=born)),
    st.sampled_from([RZ2, RZ3, RZ4]),
    st.sampled_from(["1.1", "1.2", "1.3"]),
    st.sampled_from([ANNE, ANNE, ANNE, BEN, None]),
    st.sampled_from(["SMITH^ANNE", "SMITH^ANNE", "JONES^MARY", ""]),
    st.sampled_from(["19580314", "19580314", "19700102", ""]),
)
ANSWERS = st.lists(ROWS, max_size=8)
QUESTIONS = st.sampled_from([FOR_ANNE, asking_for(ANNE, BORN), asking_for(ANNE, NAMED), asking_for_study("1.1", "1.2")])


def seen(judgement: Judgement) -> tuple[frozenset[object], frozenset[tuple[str, frozenset[object]]]]:
    """What came out, whatever the order and however often each row was sent."""
    conflicts = {
        (conflict.kind, frozenset(map(content, conflict.rows)), tuple(map(repr, quality_items(conflict))))
        for conflict in judgement.conflicts
    }
    return frozenset(map(content, judgement.accepted)), frozenset(conflicts)  # type: ignore[arg-type]  # compared, not read


def content(candidate: Candidate) -> object:
    """A row's trust and content."""
    return candidate.trust, repr(candidate.row)


@given(QUESTIONS, ANSWERS, st.randoms(use_true_random=False), st.integers(1, 3))
def test_any_order_and_duplication_of_answers_is_judged_the_same(
    query: Query, rows: list[Candidate], shuffling: random.Random, times: int
) -> None:
    shuffled = rows * times
    shuffling.shuffle(shuffled)
    assert seen(judged(query, *shuffled)) == seen(judged(query, *rows))


@given(QUESTIONS, ANSWERS)
def test_every_row_of_the_patient_is_accepted_or_in_one_conflict(query: Query, rows: list[Candidate]) -> None:
    judgement = judged(query, *rows)
    placed = [*judgement.accepted, *(each for conflict in judgement.conflicts for each in conflict.rows)]
    assert len(placed) == len(set(placed))
    asked_for = pinned_scope(query).patient
    assert {each for each in rows if each.patient is not None and asked_for in (None, each.patient)} <= set(placed)


@given(QUESTIONS, ANSWERS)
def test_no_accepted_study_is_filed_under_two_patients(query: Query, rows: list[Candidate]) -> None:
    accepted = judged(query, *rows).accepted
    assert len({(each.study_uid, each.patient) for each in accepted}) == len({each.study_uid for each in accepted})


@given(QUESTIONS, ANSWERS, ANSWERS)
def test_another_answer_lets_no_withheld_row_through(
    query: Query, rows: list[Candidate], more: list[Candidate]
) -> None:
    before, after = judged(query, *rows), judged(query, *rows, *more)
    assert set(after.accepted) & set(rows) <= set(before.accepted)


@given(QUESTIONS, ANSWERS, ANSWERS)
def test_another_answer_takes_a_row_away_only_by_a_conflict(
    query: Query, rows: list[Candidate], more: list[Candidate]
) -> None:
    before, after = judged(query, *rows), judged(query, *rows, *more)
    in_conflict = {each for conflict in after.conflicts for each in conflict.rows}
    assert set(before.accepted) - set(after.accepted) <= in_conflict
