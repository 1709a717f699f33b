"""What a hidden study or patient could change in an answer: nothing (SAF-02, SAF-06, goal G15).

Each test asks twice: of what is hidden, and of what is not there. All that the caller could compare must be equal.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.model.errors import PeerUnavailable
from gateway.model.imaging import (
    STUDY_UID,
    Attributes,
    Key,
    Level,
    Query,
)
from gateway.model.settings import Limits
from tests.attacks.house import House, found_by, outside_of_rows, states
from tests.sharing.rows import ANNE, BEN, CLARA, RZ2, RZ3, asking_for, asking_for_study, row

NOBODYS = "1.2.999"
STUDY_DESCRIPTION = "00081030"
BODY_PART = "00180015"


async def test_a_long_study_that_is_shown_in_part_is_said_to_be_cut(house: House) -> None:
    archive = house.archives[RZ2]
    archive.rows, archive.is_truncated = [row("1.2.3", series="1.2.3.1", image="1.2.3.1.1")], True
    matches = await house.find(asking_for_study("1.2.3", level=Level.IMAGE))
    assert states(matches)[RZ2] == "truncated"


async def test_an_archive_that_answers_with_other_studies_and_is_cut_is_said_to_be_cut(house: House) -> None:
    """What was asked for may lie behind the cut."""
    archive = house.archives[RZ2]
    archive.rows, archive.is_truncated = [row("1.2.4", CLARA)], True
    matches = await house.find(asking_for_study("1.2.3"))
    assert states(matches)[RZ2] == "truncated"


@pytest.mark.parametrize("tag", ["00201200", "00201202", "00201204"])
async def test_how_much_a_patient_has_in_all_is_never_shown(house: House, tag: str) -> None:
    """Number of Patient Related Studies counts the labelled study, and those that the agreement leaves out."""
    await house.labelled(ANNE, RZ2, "1.2")
    count: Attributes = {tag: {"vr": "IS", "Value": [2]}}
    house.archives[RZ2].rows = [{**row("1.1"), **count}, {**row("1.2"), **count}]
    [match] = (await house.find(replace(asking_for(ANNE), include_all=True))).rows
    assert match.study_uid == "1.1"
    assert tag not in match.attributes


async def test_every_way_to_be_hidden_looks_like_absence(house: House) -> None:
    """By opt-out, by label, by a patient who is not in our care, by two patients of one study."""
    await house.opts_out(BEN)
    await house.labelled(ANNE, RZ2, "1.4")
    house.archives[RZ2].rows = [row("1.2", BEN), row("1.3", CLARA), row("1.4"), row("1.5", BEN)]
    house.archives[RZ3].rows = [row("1.5", CLARA)]
    absent = await house.find(asking_for_study(NOBODYS))
    for uid in ("1.2", "1.3", "1.4", "1.5"):
        assert await house.find(asking_for_study(uid)) == absent
    many = await house.find(asking_for_study("1.2", "1.3", "1.4", "1.5", NOBODYS))
    assert many == absent


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (1, 0), (5, 3), (None, 10), (1_000, 2**31 - 1)])
async def test_paging_shows_nothing_of_what_is_hidden(house: House, limit: int | None, offset: int) -> None:
    await house.opts_out(BEN)
    house.archives[RZ2].rows = [row(f"1.{n}", BEN) for n in range(1, 6)]
    uids = [f"1.{n}" for n in range(1, 6)]
    hidden = await house.find(replace(asking_for_study(*uids), limit=limit, offset=offset))
    absent = await house.find(replace(asking_for_study(NOBODYS), limit=limit, offset=offset))
    by_number = await house.find(replace(asking_for(BEN), limit=limit, offset=offset))
    assert hidden == absent == by_number


async def test_hidden_rows_do_not_use_up_the_answers_limit(house: House) -> None:
    house.build(Limits(matches_max=2))
    await house.labelled(ANNE, RZ2, "1.9")
    await house.labelled(ANNE, RZ2, "1.8")
    newest = "20261121"
    house.archives[RZ2].rows = [row("1.9", date=newest), row("1.8", date=newest), row("1.1"), row("1.2")]
    matches = await house.find(asking_for(ANNE))
    assert [match.study_uid for match in matches.rows] == ["1.1", "1.2"]
    assert (matches.truncated_at, matches.remaining) == (None, 0)


async def test_when_every_trust_is_down_the_refusal_is_the_same_for_all(house: House) -> None:
    await house.opts_out(BEN)
    for trust, archive in house.archives.items():
        archive.error = PeerUnavailable(trust, "no connection")
    refusals = []
    for question in (asking_for(ANNE), asking_for(BEN), asking_for_study("1.2.3")):
        with pytest.raises(PeerUnavailable) as refusal:
            await house.find(question)
        refusals.append((type(refusal.value), refusal.value.trust, str(refusal.value)))
    assert len(set(refusals)) == 1


async def test_a_trust_that_is_down_is_named_alike_for_all(house: House) -> None:
    await house.opts_out(BEN)
    house.archives[RZ3].error = PeerUnavailable(RZ3, "no connection")
    answers = [
        outside_of_rows(await house.find(question))
        for question in (asking_for(ANNE), asking_for(BEN))
        for _ in range(5)
    ]
    # After some failures in a row the trust is left alone for a while, for all alike.
    assert answers[0] == answers[5] or states(answers[5])[RZ3] == "backing-off"
    assert states(await house.find(asking_for(ANNE))) == states(await house.find(asking_for(BEN)))


async def test_an_opt_out_between_two_pages_ends_them(house: House) -> None:
    house.archives[RZ2].rows = [row(f"1.{n}", BEN) for n in range(1, 6)]
    question = replace(asking_for(BEN), limit=2)
    first = await house.find(question)
    assert first.snapshot and first.remaining == 3
    await house.opts_out(BEN)
    second = await house.find(replace(question, offset=2), snapshot=first.snapshot)
    never = await house.find(replace(question, offset=2), snapshot="token-unknown")
    house.archives[RZ2].rows = []
    assert second == never == await house.find(replace(asking_for(ANNE), limit=2, offset=2))


async def test_a_page_of_one_caller_is_no_page_of_another(house: House) -> None:
    house.archives[RZ2].rows = [row(f"1.{n}") for n in range(1, 6)]
    question = replace(asking_for(ANNE), limit=2)
    first = await house.find(question)
    await house.in_care(ANNE, trust=RZ3)
    house.archives[RZ2].rows = []
    theirs = await house.find(question, trust=RZ3, snapshot=first.snapshot)
    assert theirs.rows == ()


async def test_a_key_that_a_hidden_row_lacks_is_not_reported_as_unsupported(house: House) -> None:
    """The warning "StudyDescription is not supported" for a study UID would say that there is such a study."""
    await house.opts_out(BEN)
    hidden = Key((STUDY_UID,), "UI", ("1.2.3",)), Key((STUDY_DESCRIPTION,), "LO", ("CT head",))
    house.archives[RZ2].rows = [row("1.2.3", BEN)]
    found = await house.find(Query(Level.STUDY, hidden))
    house.archives[RZ2].rows = []
    absent = await house.find(Query(Level.STUDY, hidden))
    assert found == absent


async def test_a_key_that_a_row_of_another_patient_lacks_is_not_reported_either(house: House) -> None:
    key = Key((STUDY_DESCRIPTION,), "LO", ("CT head",))
    house.archives[RZ2].rows = [row("1.2.3", CLARA)]
    of_clara = await house.find(asking_for(ANNE, key))
    house.archives[RZ2].rows = []
    assert of_clara == await house.find(asking_for(ANNE, key))


async def test_a_key_that_a_shown_row_lacks_is_reported_on_every_page(house: House) -> None:
    key = Key((STUDY_DESCRIPTION,), "LO", ("CT head",))
    house.archives[RZ2].rows = [row("1.1"), row("1.2"), row("1.3")]
    first = await house.find(replace(asking_for(ANNE, key), limit=2))
    assert first.unsupported_keys == (STUDY_DESCRIPTION,)
    second = await house.find(replace(asking_for(ANNE, key), limit=2, offset=2), snapshot=first.snapshot)
    assert second.unsupported_keys == (STUDY_DESCRIPTION,)
    assert len(house.archives[RZ2].asked) == 1


async def test_a_hidden_study_too_long_for_one_answer_looks_like_no_study(house: House) -> None:
    await house.opts_out(BEN)
    question = asking_for_study("1.2.3", level=Level.IMAGE)
    archive = house.archives[RZ2]
    archive.rows, archive.is_truncated = (
        [row("1.2.3", BEN, series="1.2.3.1", image=f"1.2.3.1.{n}") for n in (1, 2)],
        True,
    )
    hidden = await house.find(question)
    archive.rows, archive.is_truncated = [], False
    assert hidden == await house.find(question)


async def test_a_labelled_study_in_conflict_is_not_told(house: House) -> None:
    """Another study of the same answer is told to ring for; the labelled one's trust is not."""
    await house.labelled(ANNE, RZ3, "1.2")
    house.archives[RZ2].rows = [row("1.1")]
    house.archives[RZ3].rows = [row("1.2", name="MARSH^LEONARD", born="19380430")]
    matches = await house.find(asking_for(ANNE))
    assert found_by(matches) == []
    assert {source.trust for source in matches.sources if source.has_identity_conflict} == {RZ2}


async def test_an_archive_that_always_leaves_something_out_does_so_for_a_hidden_patient_too(house: House) -> None:
    """A peer that is a gateway, and misses one of its own trusts, says so in its empty answers as well."""
    await house.opts_out(BEN)
    house.archives[RZ2].is_truncated = True
    absent = await house.find(asking_for(ANNE))
    hidden = await house.find(asking_for(BEN))
    assert states(absent)[RZ2] == "truncated"
    assert hidden == absent
    house.archives[RZ2].rows = [row("1.1")]
    assert (await house.find(asking_for(ANNE))).rows
    assert await house.find(asking_for(BEN)) == absent
