"""The one door: whom it asks, what it names as missing, how it pages, where it stops (SAF-03, 05, 07; DEC-33, 35)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.model.errors import Denied, InvalidRequest, NotFound, OverCapacity, PeerError, QueryTooBroad
from gateway.model.imaging import STUDY_DATE, Key, Level, Matches, Query, SourceState
from gateway.model.settings import Limits
from gateway.sharing.broker import QUALITY_ITEMS_MAX
from gateway.sharing.merge import PEOPLE_MAX
from policy.facts import OrganisationKind
from policy.parties import PurposeOfUse
from storage.registers.agreements import Clause
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, CLARA, RZ2, RZ3, asking_for, asking_for_study, row

FOR_ANNE = asking_for(ANNE)


@pytest.fixture
async def region(store: SqlStore, clock: FakeClock) -> Region:
    """RZ1 asks; RZ2, RZ3 and RZ4 hold a study of Anne's each, who is in RZ1's care."""
    return await described(Region(store, clock))


async def described(region: Region) -> Region:
    """Anne in RZ1's care, with a study at each of the others."""
    region.trust("RZ1")
    for number, code in enumerate(("RZ2", "RZ3", "RZ4"), start=2):
        region.trust(code).with_study(f"1.2.{number}", of=ANNE, modalities="CT", accession=f"A12{number}")
    await region.refer(ANNE, to="RZ1")
    return region


async def limited(store: SqlStore, clock: FakeClock, limits: Limits) -> Region:
    """The same region within other limits."""
    return await described(Region(store, clock, limits=limits))


def studies(matches: Matches) -> list[str]:
    """The study UIDs shown."""
    return [match.study_uid for match in matches.rows]


def states(matches: Matches) -> dict[str, str]:
    """Every trust's part."""
    return {source.trust.code: source.state.value for source in matches.sources}


# --- whom it asks, and what it says of each ---


async def test_every_trust_but_the_callers_own_is_asked_and_named(region: Region) -> None:
    """Knowing where one study is excludes nobody (SAF-05)."""
    region.trust("RZ1").with_study("1.2.1", of=ANNE)
    for _ in range(2):
        found = await region.find(FOR_ANNE)
        assert studies(found) == ["1.2.2", "1.2.3", "1.2.4"]
        assert states(found) == {"RZ2": "answered", "RZ3": "answered", "RZ4": "answered"}
    assert [len(region.trust(code).pacs.requests) for code in ("RZ1", "RZ2", "RZ3", "RZ4")] == [0, 2, 2, 2]


async def test_every_answer_names_every_trust_with_its_desk_full_or_empty(region: Region) -> None:
    for query in (FOR_ANNE, asking_for_study("1.2.999")):
        found = await region.find(query)
        assert [(source.trust.code, source.name, source.desk_phone) for source in found.sources] == [
            (code, f"Trust {code}", f"0300 {code}") for code in ("RZ2", "RZ3", "RZ4")
        ]


async def test_trusts_that_fail_are_named_and_the_others_answer(region: Region) -> None:
    region.trust("RZ2").stalled()
    region.trust("RZ3").down()
    found = await region.find(FOR_ANNE)
    assert studies(found) == ["1.2.4"]
    assert states(found) == {"RZ2": "timed-out", "RZ3": "unreachable", "RZ4": "answered"}
    assert [source.state.is_missing for source in found.sources] == [True, True, False]


async def test_no_list_at_all_is_given_when_nobody_answered(region: Region) -> None:
    for code in ("RZ2", "RZ3", "RZ4"):
        region.trust(code).down()
    with pytest.raises(PeerError) as failed:
        await region.find(FOR_ANNE)
    assert "0300 RZ2" in str(failed.value)
    assert [source.desk_phone for source in failed.value.missing] == ["0300 RZ2", "0300 RZ3", "0300 RZ4"]


async def test_an_empty_list_is_given_when_one_trust_has_nothing_and_the_others_are_down(region: Region) -> None:
    region.trust("RZ2").down()
    region.trust("RZ3").down()
    found = await region.find(asking_for_study("1.2.999"))
    assert studies(found) == []
    assert states(found) == {"RZ2": "unreachable", "RZ3": "unreachable", "RZ4": "answered"}


async def test_one_trust_can_be_asked_alone(region: Region) -> None:
    found = await region.find(asking_for(ANNE, at="RZ3"))
    assert studies(found) == ["1.2.3"]
    assert states(found) == {"RZ3": "answered"}
    assert not region.trust("RZ2").pacs.requests


async def test_a_trust_that_the_region_does_not_know_is_not_found(region: Region) -> None:
    with pytest.raises(NotFound):
        await region.find(asking_for(ANNE, at="XYZ"))


async def test_an_enrolled_trust_without_an_archive_here_is_named_as_not_asked(region: Region) -> None:
    region.trust("RZ5").without_archive()
    found = await region.find(FOR_ANNE)
    assert states(found)["RZ5"] == "not-asked"
    assert studies(found) == ["1.2.2", "1.2.3", "1.2.4"]


async def test_peers_are_asked_for_the_number_and_for_nothing_that_could_hide_a_conflict(region: Region) -> None:
    await region.find(asking_for(ANNE, Key((STUDY_DATE,), "DA", ("20261121",)), born="19580314"))
    [request] = region.trust("RZ2").pacs.requests
    assert [key.path for key in request.query.keys] == [("00100020",), (STUDY_DATE,)]
    assert request.matches_max == Limits().peer_matches_max


async def test_an_archive_that_ignores_keys_is_filtered_here(region: Region) -> None:
    region.trust("RZ2").lying(
        row("1.2.2", ANNE, date="20261120", modalities="CT"),
        row("1.2.7", BEN, name="BAKER^BEN"),
        row("1.2.8", ANNE, date="20261121", modalities="CT"),
    )
    for code in ("RZ3", "RZ4"):
        region.trust(code).lying()
    found = await region.find(asking_for(ANNE, Key((STUDY_DATE,), "DA", ("20261121",))))
    assert studies(found) == ["1.2.8"]


async def test_an_accession_number_used_by_two_trusts_stays_two_studies(region: Region) -> None:
    region.trust("RZ2").with_study("1.2.7", of=BEN, name="BAKER^BEN", accession="A999")
    region.trust("RZ3").with_study("1.2.8", of=ANNE, accession="A999")
    await region.refer(BEN, to="RZ1")
    found = await region.find(Query(Level.STUDY, (Key(("00080050",), "SH", ("A999",)),)))
    assert [(match.study_uid, match.patient, match.holders) for match in found.rows] == [
        ("1.2.7", BEN, (RZ2,)),
        ("1.2.8", ANNE, (RZ3,)),
    ]


# --- rows that are not used are accounted for, never dropped in silence ---


async def test_an_archive_that_answers_with_a_crowd_is_not_believed(region: Region) -> None:
    crowd = [row(f"1.3.{n}", BEN, name=f"NUMBER^{n}") for n in range(PEOPLE_MAX)]
    region.trust("RZ2").lying(*crowd)
    assert states(await region.find(FOR_ANNE))["RZ2"] == "answered"
    region.trust("RZ2").lying(*crowd, row("1.2.2", ANNE, modalities="CT"))
    found = await region.find(FOR_ANNE)
    assert studies(found) == ["1.2.3", "1.2.4"]
    assert states(found) == {"RZ2": "invalid-answer", "RZ3": "answered", "RZ4": "answered"}


async def test_a_row_without_its_uid_makes_its_trusts_part_incomplete(region: Region) -> None:
    nameless = {tag: element for tag, element in row(modalities="CT").items() if tag != "0020000D"}
    region.trust("RZ2").lying(nameless, row("1.2.2", ANNE, modalities="CT"))
    found = await region.find(FOR_ANNE)
    assert studies(found) == ["1.2.2", "1.2.3", "1.2.4"]
    assert states(found)["RZ2"] == "truncated"


async def test_a_row_that_does_not_carry_the_accession_number_asked_for_is_not_used(region: Region) -> None:
    """The matcher lets a row pass that lacks a key; where that key is all that is asked, the row may be anybody's."""
    region.trust("RZ2").lying(row("1.2.7", ANNE, modalities="CT"))
    found = await region.find(Query(Level.STUDY, (Key(("00080050",), "SH", ("A123",)),)))
    assert studies(found) == ["1.2.3"]
    assert states(found)["RZ2"] == "truncated"


async def test_one_answer_makes_only_so_many_items_for_custodians(region: Region) -> None:
    region.trust("RZ2").lying(*(row(f"1.3.{n}", born="19990101") for n in range(QUALITY_ITEMS_MAX + 1)))
    found = await region.find(asking_for(ANNE, born="19580314"))
    assert studies(found) == ["1.2.3", "1.2.4"]
    assert len(await region.quality()) == QUALITY_ITEMS_MAX


# --- coverage: refusals that hang on no patient (SAF-07) ---


async def test_a_trust_that_shares_nothing_is_named_and_not_asked(region: Region) -> None:
    region.trust("RZ3").sharing()
    found = await region.find(FOR_ANNE)
    assert states(found) == {"RZ2": "answered", "RZ3": "not-shared", "RZ4": "answered"}
    assert not region.trust("RZ3").pacs.requests


async def test_a_trust_that_shares_some_modalities_says_so_whoever_the_patient(region: Region) -> None:
    region.trust("RZ3").sharing(Clause(modalities=frozenset({"XA", "MR"})))
    region.trust("RZ3").with_study("1.2.9", of=ANNE, modalities="MR")
    await region.refer(BEN, to="RZ1")
    for query, shown in ((FOR_ANNE, ["1.2.2", "1.2.4", "1.2.9"]), (asking_for(BEN), [])):
        found = await region.find(query)
        assert studies(found) == shown
        assert [source.shared_modalities for source in found.sources] == [None, ("MR", "XA"), None]
        assert states(found)["RZ3"] == "answered"


async def test_what_is_shared_with_one_trust_is_not_shared_with_another(region: Region) -> None:
    region.trust("RZ3").sharing(Clause(recipients=frozenset({RZ2})))
    await region.refer(ANNE, to="RZ2")
    assert states(await region.find(FOR_ANNE))["RZ3"] == "not-shared"
    assert states(await region.find(FOR_ANNE, by="RZ2"))["RZ3"] == "answered"


async def test_what_is_shared_for_one_purpose_is_not_shared_for_another(region: Region) -> None:
    region.trust("RZ3").sharing(Clause(purposes=frozenset({PurposeOfUse.ETREAT})))
    in_an_emergency = region.caller("RZ1", purpose=PurposeOfUse.ETREAT)
    assert states(await region.find(FOR_ANNE))["RZ3"] == "not-shared"
    assert states(await region.find(FOR_ANNE, by=in_an_emergency))["RZ3"] == "answered"


async def test_a_limit_of_age_is_no_coverage_because_it_hangs_on_the_patient(region: Region) -> None:
    region.trust("RZ3").sharing(Clause(age_max_years=15))
    found = await region.find(FOR_ANNE)
    assert studies(found) == ["1.2.2", "1.2.4"]
    assert found.sources[1].shared_modalities is None
    assert states(found)["RZ3"] == "answered"


async def test_an_organisation_that_may_not_hold_shares_nothing(region: Region) -> None:
    region.trust("RZ3").of_kind(OrganisationKind.INDEPENDENT_PROVIDER)
    found = await region.find(FOR_ANNE)
    assert studies(found) == ["1.2.2", "1.2.4"]
    assert not region.trust("RZ3").pacs.requests


# --- questions that are refused ---


async def test_a_question_that_pins_nobody_is_refused_and_nobody_is_asked(region: Region) -> None:
    with pytest.raises(QueryTooBroad):
        await region.find(Query(Level.STUDY, (Key((STUDY_DATE,), "DA", ("20261121",)),)))
    assert not region.trust("RZ2").pacs.requests


@pytest.mark.parametrize("hops", [0, 1])
async def test_a_question_may_have_passed_one_gateway(region: Region, hops: int) -> None:
    assert studies(await region.find(FOR_ANNE, by=region.caller("RZ1", hops=hops)))
    assert region.trust("RZ2").pacs.requests[0].hops == hops + 1


async def test_a_question_may_not_have_passed_two_gateways(region: Region) -> None:
    with pytest.raises(InvalidRequest):
        await region.find(FOR_ANNE, by=region.caller("RZ1", hops=2))
    assert not region.trust("RZ2").pacs.requests


# --- limits ---


async def test_as_many_rows_as_the_limit_are_whole_and_one_more_is_cut(store: SqlStore, clock: FakeClock) -> None:
    whole = await limited(store, clock, replace(Limits(), matches_max=3))
    found = await whole.find(FOR_ANNE)
    assert (len(found.rows), found.truncated_at) == (3, None)
    whole.trust("RZ2").with_study("1.2.9", of=ANNE, modalities="CT")
    found = await whole.find(FOR_ANNE)
    assert (len(found.rows), found.remaining, found.truncated_at) == (3, 0, 3)


async def test_a_trusts_own_cut_is_named(store: SqlStore, clock: FakeClock) -> None:
    region = await limited(store, clock, replace(Limits(), peer_matches_max=1))
    assert states(await region.find(FOR_ANNE))["RZ2"] == "answered"
    region.trust("RZ2").with_study("1.2.9", of=ANNE, modalities="CT")
    found = await region.find(FOR_ANNE)
    assert states(found) == {"RZ2": "truncated", "RZ3": "answered", "RZ4": "answered"}
    assert studies(found) == ["1.2.2", "1.2.3", "1.2.4"]


async def test_one_question_more_than_may_be_under_way_is_turned_away(store: SqlStore, clock: FakeClock) -> None:
    region = await limited(store, clock, replace(Limits(), queries_at_once_max=2))
    await region.prepare()
    region.trust("RZ2").stalled()
    under_way = [region.asking(FOR_ANNE, by=code) for code in ("RZ1", "RZ1")]
    await region.at_the_peers()
    with pytest.raises(OverCapacity):
        await region.asking(FOR_ANNE, by="RZ3")
    await region.until_idle()
    await clock.advance(Limits().find_timeout_s)
    assert [studies(await question) for question in under_way] == [["1.2.3", "1.2.4"]] * 2
    region.trust("RZ2").pacs.up()
    assert studies(await region.find(FOR_ANNE))


async def test_one_question_more_than_a_trust_may_have_is_turned_away_and_others_are_not(
    store: SqlStore, clock: FakeClock
) -> None:
    region = await limited(store, clock, replace(Limits(), queries_per_caller_at_once_max=2))
    await region.refer(ANNE, to="RZ4")
    await region.prepare()
    region.trust("RZ2").stalled()
    under_way = [region.asking(FOR_ANNE) for _ in range(2)]
    await region.at_the_peers()
    with pytest.raises(OverCapacity):
        await region.asking(FOR_ANNE)
    of_another = region.asking(FOR_ANNE, by="RZ4")
    await region.until_idle()
    await clock.advance(Limits().find_timeout_s)
    for question in (*under_way, of_another):
        assert studies(await question)


async def test_a_refused_or_failed_question_gives_its_place_back(store: SqlStore, clock: FakeClock) -> None:
    region = await limited(store, clock, replace(Limits(), queries_at_once_max=1))
    for _ in range(3):
        with pytest.raises(Denied):
            await region.find(asking_for(CLARA))
    question = region.asking(FOR_ANNE)
    question.cancel()
    await region.until_idle()
    assert studies(await region.find(FOR_ANNE))


# --- pages (DEC-35) ---


def page(query: Query, limit: int | None, offset: int = 0) -> Query:
    """A part of an answer."""
    return replace(query, limit=limit, offset=offset)


@pytest.mark.parametrize(
    ("limit", "offset", "shown", "remaining"),
    [
        (None, 0, ["1.2.2", "1.2.3", "1.2.4"], 0),
        (2, 0, ["1.2.2", "1.2.3"], 1),
        (3, 0, ["1.2.2", "1.2.3", "1.2.4"], 0),
        (4, 0, ["1.2.2", "1.2.3", "1.2.4"], 0),
        (1, 1, ["1.2.3"], 1),
        (2, 2, ["1.2.4"], 0),
        (2, 3, [], 0),
        (2, 99, [], 0),
        (0, 0, [], 3),
        (None, 1, ["1.2.3", "1.2.4"], 0),
    ],
)
async def test_a_page_is_what_it_asks_for_and_says_how_much_follows(
    region: Region, limit: int | None, offset: int, shown: list[str], remaining: int
) -> None:
    found = await region.find(page(FOR_ANNE, limit, offset))
    assert (studies(found), found.remaining) == (shown, remaining)
    assert bool(found.snapshot) is (remaining > 0)


async def test_a_next_page_asks_nobody_again_and_keeps_the_order(region: Region) -> None:
    first = await region.find(page(FOR_ANNE, 2))
    region.trust("RZ2").with_study("1.2.1", of=ANNE, modalities="CT").down()
    second = await region.find(page(FOR_ANNE, 2, 2), snapshot=first.snapshot)
    assert studies(first) + studies(second) == ["1.2.2", "1.2.3", "1.2.4"]
    assert states(second) == states(first)
    assert len(region.trust("RZ3").pacs.requests) == 1
    assert second.snapshot == ""


async def test_a_page_in_the_middle_keeps_its_token(region: Region) -> None:
    first = await region.find(page(FOR_ANNE, 1))
    second = await region.find(page(FOR_ANNE, 1, 1), snapshot=first.snapshot)
    assert second.snapshot == first.snapshot
    assert studies(await region.find(page(FOR_ANNE, 1, 2), snapshot=second.snapshot)) == ["1.2.4"]


async def test_every_page_is_decided_anew(region: Region) -> None:
    first = await region.find(page(FOR_ANNE, 1))
    await region.label(ANNE, "RZ3")
    assert studies(await region.find(page(FOR_ANNE, 9, 1), snapshot=first.snapshot)) == ["1.2.4"]


async def test_an_opt_out_between_two_pages_hides_the_second(region: Region) -> None:
    """And the second looks like the first page of somebody of whom there is nothing."""
    for query in (FOR_ANNE, asking_for_study("1.2.2", "1.2.3", "1.2.4")):
        await region.clock.advance(60)
        await region.opt_in(ANNE)
        first = await region.find(page(query, 1))
        assert studies(first) == ["1.2.2"]
        await region.clock.advance(1)
        await region.opt_out(ANNE)
        second = await region.find(page(query, 1, 1), snapshot=first.snapshot)
        assert second == await region.find(page(asking_for_study("1.2.999"), 1, 1))


async def test_a_relationship_that_ended_between_two_pages_is_told(region: Region) -> None:
    relationship = await region.refer(BEN, to="RZ1")
    region.trust("RZ2").with_study("1.2.7", of=BEN).with_study("1.2.8", of=BEN)
    first = await region.find(page(asking_for(BEN), 1))
    await region.clock.advance(1)
    await region.end(relationship)
    with pytest.raises(Denied):
        await region.find(page(asking_for(BEN), 1, 1), snapshot=first.snapshot)


async def test_each_page_is_recorded_with_what_it_showed(region: Region) -> None:
    first = await region.find(page(FOR_ANNE, 2))
    await region.find(page(FOR_ANNE, 2, 2), snapshot=first.snapshot)
    shown = []
    for entry in await region.records("query-outcome"):
        body = entry["body"]
        assert isinstance(body, dict) and isinstance(body["decisions"], list)
        shown.append([uid for each in body["decisions"] for uid in each["disclosed"]])  # type: ignore[call-overload,index,union-attr]  # JSON of ours
    assert shown == [["1.2.2", "1.2.3"], ["1.2.4"]]


async def asked_again(region: Region, query: Query, token: str, by: str = "RZ1") -> bool:
    """Whether the trusts had to be asked for this page."""
    before = len(region.trust("RZ3").pacs.requests)
    await region.find(query, by=by, snapshot=token)
    return len(region.trust("RZ3").pacs.requests) > before


async def test_a_snapshot_lives_as_long_as_it_may(region: Region) -> None:
    token = (await region.find(page(FOR_ANNE, 1))).snapshot
    await region.clock.advance(Limits().snapshot_max_s - 0.001)
    assert not await asked_again(region, page(FOR_ANNE, 1, 1), token)
    await region.clock.advance(0.001)
    assert await asked_again(region, page(FOR_ANNE, 1, 1), token)


async def test_a_snapshot_belongs_to_its_caller_and_question(region: Region) -> None:
    await region.refer(ANNE, to="RZ4")
    token = (await region.find(page(FOR_ANNE, 1))).snapshot
    by_study = asking_for_study("1.2.2", "1.2.3", "1.2.4")
    assert await asked_again(region, page(FOR_ANNE, 1, 1), token, by="RZ4")
    assert await asked_again(region, page(by_study, 1, 1), token)
    assert await asked_again(region, page(asking_for(ANNE, born="19580314"), 1, 1), token)
    assert await asked_again(region, page(asking_for(ANNE, at="RZ3"), 1, 1), token)
    assert await asked_again(region, page(asking_for(ANNE, level=Level.PATIENT), 1, 1), token)
    assert await asked_again(region, page(FOR_ANNE, 1, 1), "id-0")
    assert not await asked_again(region, page(FOR_ANNE, 1, 1), token)


async def test_a_snapshot_belongs_to_its_purpose(region: Region) -> None:
    token = (await region.find(page(FOR_ANNE, 1))).snapshot
    before = len(region.trust("RZ3").pacs.requests)
    await region.find(page(FOR_ANNE, 1, 1), by=region.caller("RZ1", purpose=PurposeOfUse.ETREAT), snapshot=token)
    assert len(region.trust("RZ3").pacs.requests) == before + 1


async def test_a_page_that_wants_other_attributes_asks_for_them(region: Region) -> None:
    token = (await region.find(page(FOR_ANNE, 1))).snapshot
    assert await asked_again(region, replace(page(FOR_ANNE, 1, 1), include=frozenset({"00081030"})), token)
    assert await asked_again(region, replace(page(FOR_ANNE, 1, 1), include_all=True), token)


async def test_only_so_many_snapshots_are_kept_and_the_oldest_goes(store: SqlStore, clock: FakeClock) -> None:
    region = await limited(store, clock, replace(Limits(), snapshots_max=2))
    tokens = [(await region.find(page(FOR_ANNE, 1))).snapshot for _ in range(3)]
    assert [await asked_again(region, page(FOR_ANNE, 9, 1), token) for token in tokens] == [True, False, False]


async def test_only_so_many_rows_are_kept_in_all(store: SqlStore, clock: FakeClock) -> None:
    region = await limited(store, clock, replace(Limits(), snapshot_rows_max=6))
    tokens = [(await region.find(page(FOR_ANNE, 1))).snapshot for _ in range(3)]
    assert [await asked_again(region, page(FOR_ANNE, 9, 1), token) for token in tokens] == [True, False, False]


async def test_an_answer_too_big_to_be_kept_is_asked_for_again(store: SqlStore, clock: FakeClock) -> None:
    region = await limited(store, clock, replace(Limits(), snapshot_rows_max=2))
    first = await region.find(page(FOR_ANNE, 1))
    assert studies(await region.find(page(FOR_ANNE, 9, 1), snapshot=first.snapshot)) == ["1.2.3", "1.2.4"]


async def test_rows_that_were_only_sent_are_not_kept(store: SqlStore, clock: FakeClock) -> None:
    """An archive that answers everything it has, whatever it is asked, must not fill the memory."""
    region = await limited(store, clock, replace(Limits(), snapshot_rows_max=40))
    region.trust("RZ2").lying(*(row(f"1.3.{n}", BEN) for n in range(1_000)))
    tokens = [(await region.find(page(FOR_ANNE, 1))).snapshot for _ in range(10)]
    assert not any([await asked_again(region, page(FOR_ANNE, 9, 1), token) for token in tokens])


# --- what a hidden row must not tell (SAF-02) ---


async def test_a_key_that_only_a_hidden_row_lacks_is_not_reported(region: Region) -> None:
    wanted = (Key(("00080090",), "PN", ("JONES*",)),)
    region.trust("RZ2").with_study("1.2.7", of=BEN)
    shown = await region.find(replace(FOR_ANNE, keys=(*FOR_ANNE.keys, *wanted)))
    assert shown.unsupported_keys == ("00080090",)
    hidden, nothing = asking_for_study("1.2.7"), asking_for_study("1.2.999")
    assert await region.find(replace(hidden, keys=(*hidden.keys, *wanted))) == await region.find(
        replace(nothing, keys=(*nothing.keys, *wanted))
    )


async def test_a_cut_in_hidden_rows_is_not_reported(store: SqlStore, clock: FakeClock) -> None:
    region = await limited(store, clock, replace(Limits(), peer_matches_max=2))
    for number in range(4):
        region.trust("RZ2").with_row(row("1.2.7", BEN, series="1.2.7.1", image=f"1.2.7.1.{number}", modality="CT"))
    hidden = await region.find(asking_for_study("1.2.7", level=Level.IMAGE))
    nothing = await region.find(asking_for_study("1.2.999", level=Level.IMAGE))
    assert hidden == nothing
    assert states(hidden)["RZ2"] == SourceState.ANSWERED.value


async def test_a_patient_is_found_by_studies_that_may_be_seen_and_by_no_others(region: Region) -> None:
    """At patient level too it is decided study by study, and archives are only ever asked for studies."""
    patient = asking_for(ANNE, level=Level.PATIENT)
    for code in ("RZ2", "RZ3"):
        await region.label(ANNE, code)
    [match] = (await region.find(patient)).rows
    assert (match.patient, [trust.code for trust in match.holders], match.study_uid) == (ANNE, ["RZ4"], "")
    await region.label(ANNE, "RZ4")
    assert (await region.find(patient)).rows == ()
    assert region.trust("RZ4").pacs.requests[-1].query.level is Level.STUDY
    outcome = (await region.records("query-outcome"))[0]["body"]
    assert isinstance(outcome, dict)
    shown = [each["disclosed"] for each in outcome["decisions"] if isinstance(each, dict)]  # type: ignore[union-attr]
    assert ["1.2.4"] in shown
