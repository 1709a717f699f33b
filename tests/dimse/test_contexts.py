"""How the 128 contexts of an association are shared out among classes and transfer syntaxes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dimse.scu.contexts import COMMON, SYNTAXES, storage_contexts
from dimse.sop_classes import STORAGE, TRANSFER_SYNTAXES

CLASSES = sorted(STORAGE)


def test_every_transfer_syntax_is_there_once() -> None:
    assert sorted(SYNTAXES) == sorted(TRANSFER_SYNTAXES)


def test_few_classes_have_each_transfer_syntax_for_itself() -> None:
    assert storage_contexts(CLASSES[:3]) == [(uid, (syntax,)) for uid in CLASSES[:3] for syntax in SYNTAXES]


def test_without_classes_the_common_ones_are_proposed() -> None:
    assert {uid for uid, _ in storage_contexts([])} == set(COMMON)
    assert len(COMMON) > 35


@given(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=186), st.integers(1, 128))
def test_all_syntaxes_of_every_class_are_proposed_within_the_places(classes: list[str], places: int) -> None:
    contexts = storage_contexts(classes, places)
    assert len(contexts) <= places
    chosen = list(dict.fromkeys(classes))[:places]
    for uid in chosen:
        assert [syntax for each, syntaxes in contexts if each == uid for syntax in syntaxes] == list(SYNTAXES)
