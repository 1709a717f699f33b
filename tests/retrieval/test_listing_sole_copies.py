"""A study that only the gateway holds is found like any other, by whoever may see it and by nobody else (SAF-21)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest

from gateway.model.attributes import INSTANCE_AVAILABILITY, SERIES_DESCRIPTION, STUDY_DESCRIPTION
from gateway.model.errors import Damaged, Denied, StoreUnavailable
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    MODALITIES_IN_STUDY,
    PATIENT_ID,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    Key,
    Level,
    Matches,
    Query,
    SourceState,
)
from gateway.model.work.transfers import CachedInstance, InstanceRef, Standing
from gateway.sharing.intake.reception import Reception
from policy.parties import NhsNumber, TrustId
from storage.registers.agreements import Clause
from storage.registers.patients import nhs
from tests.retrieval.pushing import REF, receiving, send
from tests.retrieval.test_rejections import NOTE, note
from tests.retrieval.travels import CT, STUDY, Travels, encoded
from tests.sharing.rows import ANNE, BEN, INSTANCES_OF_STUDY, RZ2, row, values

MR = "1.2.840.10008.5.1.4.1.1.4"
SERIES_OF_STUDY, INSTANCES_OF_SERIES = "00201206", "00201209"
OTHER_SERIES = InstanceRef(STUDY, "1.2.3.2", "1.2.3.2.1", MR)
SECOND = InstanceRef(STUDY, "1.2.3.1", "1.2.3.1.2", CT)


def of_patient(patient: NhsNumber = ANNE, level: Level = Level.STUDY) -> Query:
    return Query(level, (Key((PATIENT_ID,), "LO", (patient.digits,)),))


def of_study(level: Level = Level.STUDY, *, study: str = STUDY, series: str = "") -> Query:
    keys = [Key((STUDY_UID,), "UI", (study,))]
    if series:
        keys.append(Key((SERIES_UID,), "UI", (series,)))
    return Query(level, tuple(keys))


def of_accession(number: str) -> Query:
    return Query(Level.STUDY, (Key((ACCESSION_NUMBER,), "SH", (number,)),))


def states(matches: Matches) -> dict[str, SourceState]:
    return {source.trust.code: source.state for source in matches.sources}


@pytest.fixture
async def pushed(travels: Travels, reception: Reception) -> Travels:
    """RZ2 has sent two series of Anne's; its archive lists nothing; RZ1 cares for Anne."""
    of_anne = partial(encoded, patient=ANNE.digits, AccessionNumber="ACC0001", StudyDescription="CT THORAX")
    await send(reception, travels, of_anne(REF, SeriesDescription="THIN"), REF)
    await send(reception, travels, of_anne(SECOND, SeriesDescription="THIN"), SECOND)
    await send(reception, travels, of_anne(OTHER_SERIES, Modality="MR", SeriesDescription="T2"), OTHER_SERIES)
    await travels.region.refer(ANNE, to="RZ1")
    return travels


@pytest.mark.parametrize("query", [of_patient(), of_study(), of_accession("ACC0001"), of_accession("*ACC0001*")])
async def test_it_is_found_as_its_archive_would_list_it(pushed: Travels, query: Query) -> None:
    found = await pushed.region.find(query)
    [match] = found.rows
    assert match.study_uid == STUDY and match.patient == ANNE and match.holders == (RZ2,)
    assert values(match.attributes, MODALITIES_IN_STUDY) == ["CT", "MR"]
    assert values(match.attributes, SERIES_OF_STUDY) == [2] and values(match.attributes, INSTANCES_OF_STUDY) == [3]
    assert values(match.attributes, STUDY_DESCRIPTION) == ["CT THORAX"]
    assert values(match.attributes, INSTANCE_AVAILABILITY) == ["ONLINE"]
    assert states(found)["RZ2"] is SourceState.ANSWERED
    assert [source.trust.code for source in found.sources if source.is_held_here] == ["RZ2"]


async def test_its_patient_its_series_and_its_images_are_found(pushed: Travels) -> None:
    [patient] = (await pushed.region.find(of_patient(level=Level.PATIENT))).rows
    assert patient.patient == ANNE and STUDY_UID not in patient.attributes
    series = (await pushed.region.find(of_study(Level.SERIES))).rows
    said = [
        (each.series_uid, values(each.attributes, SERIES_DESCRIPTION), values(each.attributes, INSTANCES_OF_SERIES))
        for each in series
    ]
    assert said == [("1.2.3.1", ["THIN"], [2]), ("1.2.3.2", ["T2"], [1])]
    images = await pushed.region.find(
        replace(of_study(Level.IMAGE, series="1.2.3.1"), include=frozenset((SERIES_DESCRIPTION,)))
    )
    assert [values(each.attributes, SOP_UID) for each in images.rows] == [[REF.sop_uid], [SECOND.sop_uid]]
    assert values(images.rows[0].attributes, SERIES_DESCRIPTION) == ["THIN"]


async def test_it_is_held_to_the_question_like_any_other(pushed: Travels) -> None:
    for key in (Key((MODALITIES_IN_STUDY,), "CS", ("US",)), Key((STUDY_DESCRIPTION,), "LO", ("*HEAD*",))):
        query = of_patient()
        assert (await pushed.region.find(replace(query, keys=(*query.keys, key)))).rows == ()
    assert (await pushed.region.find(of_accession("ACC0002"))).rows == ()
    assert len((await pushed.region.find(of_patient())).rows) == 1


async def withheld(pushed: Travels) -> None:
    await pushed.region.opt_out(ANNE)


async def labelled(pushed: Travels) -> None:
    await pushed.region.label(ANNE, custodian="RZ2", study=STUDY)


async def not_agreed(pushed: Travels) -> None:
    await pushed.region.agree("RZ2", Clause(modalities=frozenset({"US"})))


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
@pytest.mark.parametrize("hiding", [withheld, labelled, not_agreed])
@pytest.mark.parametrize("pair", ["patient", "study"])
async def test_who_may_not_see_it_is_answered_as_if_there_were_none(
    pushed: Travels, hiding: Callable[[Travels], Awaitable[None]], level: Level, pair: str
) -> None:
    await pushed.region.prepare()
    await pushed.region.refer(BEN, to="RZ1")
    await hiding(pushed)
    if pair == "patient":
        hidden, absent = of_patient(level=level), of_patient(BEN, level)
    else:
        hidden, absent = of_study(level), of_study(level, study="1.2.99")
    first, second = await pushed.region.find(hidden), await pushed.region.find(absent)
    assert first == second and first.rows == ()


async def test_a_trust_that_does_not_care_for_the_patient_finds_nothing(pushed: Travels) -> None:
    assert (await pushed.region.find(of_study(), by="RZ4")) == (
        await pushed.region.find(of_study(study="1.2.99"), by="RZ4")
    )
    assert (await pushed.region.find(of_accession("ACC0001"), by="RZ4")).rows == ()


async def test_the_trust_that_sent_it_finds_it_where_it_asks_for_its_own(pushed: Travels) -> None:
    """A trust's own images are found by its own address alone, and no opt-out of sharing hides them (SAF-12)."""
    own = replace(of_patient(), only_trust=RZ2)
    [match] = (await pushed.region.find(own, by="RZ2")).rows
    assert match.holders == (RZ2,)
    await pushed.region.opt_out(ANNE)
    assert len((await pushed.region.find(own, by="RZ2")).rows) == 1
    await pushed.region.refer(ANNE, to="RZ2")
    assert (await pushed.region.find(of_patient(), by="RZ2")).rows == ()


async def test_with_an_archive_that_lists_it_too_it_is_one_study_and_nothing_is_added(
    travels: Travels, reception: Reception
) -> None:
    listed = row(STUDY, ANNE, modalities="CT", instances=2, date="20240105")
    travels.region.trust("RZ2").pacs.with_row({**listed, STUDY_DESCRIPTION: {"vr": "LO", "Value": ["THORAX"]}})
    for ref in (REF, SECOND, OTHER_SERIES):
        await send(reception, travels, encoded(ref, ANNE.digits, StudyDescription="CT THORAX"), ref)
    await travels.region.refer(ANNE, to="RZ1")
    found = await travels.region.find(of_patient())
    [match] = found.rows
    assert match.holders == (RZ2,) and match.versions == ()
    assert values(match.attributes, STUDY_DESCRIPTION) == ["THORAX"], "the archive speaks for it"
    assert values(match.attributes, INSTANCES_OF_STUDY) == [3]
    assert values(match.attributes, INSTANCE_AVAILABILITY) == ["NEARLINE"]


@pytest.mark.parametrize("is_alone", [True, False])
async def test_it_is_found_where_its_archive_is_silent_which_stays_named(
    travels: Travels, reception: Reception, is_alone: bool
) -> None:
    for code in ("RZ2", "RZ3", "RZ4") if is_alone else ("RZ2",):
        travels.region.trust(code).down()
    await send(reception, travels, encoded(REF, ANNE.digits))
    await travels.region.refer(ANNE, to="RZ1")
    found = await travels.region.find(of_patient())
    assert [match.study_uid for match in found.rows] == [STUDY]
    assert states(found)["RZ2"] is SourceState.UNREACHABLE


async def test_it_is_found_though_its_trust_has_no_archive_or_lies(travels: Travels) -> None:
    many = [row(f"1.2.9.{number}", BEN, name=f"LIE^{number}") for number in range(70)]
    travels.region.trust("RZ2").lying(*many)
    travels.region.trust("RZ3").without_archive()
    third = InstanceRef("1.2.4", "1.2.4.1", "1.2.4.1.1", CT)
    async with receiving(travels) as reception:
        await send(reception, travels, encoded(REF, ANNE.digits))
        await send(reception, travels, encoded(third, ANNE.digits), third, by="RZ3")
    await travels.region.refer(ANNE, to="RZ1")
    found = await travels.region.find(of_patient())
    assert [match.study_uid for match in found.rows] == [STUDY, "1.2.4"]
    assert states(found)["RZ3"] is SourceState.NOT_ASKED


async def test_a_copy_at_another_trust_is_the_same_study(pushed: Travels) -> None:
    pushed.region.trust("RZ3").with_study(STUDY, of=ANNE)
    [match] = (await pushed.region.find(of_patient())).rows
    assert match.holders == (RZ2, TrustId("RZ3"))


async def test_it_is_found_by_the_number_that_superseded_its_own_and_by_its_own(pushed: Travels) -> None:
    await pushed.region.refer(BEN, to="RZ1")
    await pushed.region.supersede(ANNE, by=BEN)
    for number in (ANNE, BEN):
        [match] = (await pushed.region.find(of_patient(number))).rows
        assert (match.study_uid, match.patient) == (STUDY, BEN)


async def test_it_is_found_by_the_nhs_number_though_it_came_under_the_hospitals_own(
    travels: Travels,
) -> None:
    travels.region.trust("RZ2").filing_under("RZ2")
    await travels.region.link(ANNE, "RZ2", "H123")
    async with receiving(travels) as reception:
        await send(reception, travels, encoded(REF, "H123"))
    await travels.region.refer(ANNE, to="RZ1")
    assert len((await travels.region.find(of_patient())).rows) == 1


async def test_of_two_patients_under_one_study_uid_neither_is_shown(pushed: Travels) -> None:
    pushed.region.trust("RZ3").with_study(STUDY, of=BEN)
    assert (await pushed.region.find(of_study())).rows == ()
    assert {item.kind for item in await pushed.region.quality()} == {"study-uid-of-two-patients"}


async def test_what_was_withdrawn_from_use_is_in_no_list(pushed: Travels) -> None:
    for kept in await pushed.cache.instances(STUDY):
        if kept.ref.series_uid == OTHER_SERIES.series_uid:
            await pushed.cache.stand(kept, Standing.QUARANTINED, "a test")
    [match] = (await pushed.region.find(of_patient())).rows
    assert values(match.attributes, MODALITIES_IN_STUDY) == ["CT"]
    for kept in await pushed.cache.instances(STUDY):
        await pushed.cache.stand(kept, Standing.QUARANTINED, "a test")
    assert (await pushed.region.find(of_patient())).rows == () and not pushed.cache.sole_studies()


async def test_what_its_trust_has_rejected_is_in_no_list(pushed: Travels, reception: Reception) -> None:
    await send(reception, pushed, note(SECOND.sop_uid, OTHER_SERIES.sop_uid), NOTE)
    [match] = (await pushed.region.find(of_patient())).rows
    assert values(match.attributes, MODALITIES_IN_STUDY) == ["CT", "KO"]
    assert values(match.attributes, INSTANCES_OF_STUDY) == [2], "one image, and the note"


async def test_of_a_study_that_its_trust_has_rejected_whole_nothing_is_listed(
    pushed: Travels, reception: Reception
) -> None:
    await send(reception, pushed, note(REF.sop_uid, SECOND.sop_uid, OTHER_SERIES.sop_uid), NOTE)
    assert (await pushed.region.find(of_patient())).rows == ()


async def test_once_its_archive_has_it_the_archive_alone_lists_it(pushed: Travels) -> None:
    await pushed.cache.sole_copies.confirm(STUDY, [each.object_id for each in await pushed.cache.instances(STUDY)])
    assert (await pushed.region.find(of_patient())).rows == () and not pushed.cache.sole_studies()


async def test_what_cannot_be_read_makes_its_trust_answer_in_part(
    pushed: Travels, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def torn(_: Sequence[CachedInstance]) -> Sequence[bytes]:
        raise Damaged("the instance is not as it was sealed")

    monkeypatch.setattr(pushed.cache, "metadata", torn)
    for query in (of_patient(), of_accession("ACC0001")):
        found = await pushed.region.find(query)
        assert found.rows == () and states(found)["RZ2"] is SourceState.TRUNCATED


@pytest.mark.parametrize("query", [of_patient(), of_study(), of_accession("ACC0001")])
async def test_while_no_key_can_be_had_its_trust_has_answered_in_part(
    pushed: Travels, monkeypatch: pytest.MonkeyPatch, query: Query
) -> None:
    async def no_key(*_: object) -> Sequence[CachedInstance]:
        raise StoreUnavailable("the key service is away")

    monkeypatch.setattr(pushed.cache, "instances", no_key)
    found = await pushed.region.find(query)
    assert found.rows == ()
    assert [code for code, state in states(found).items() if state is SourceState.TRUNCATED] == ["RZ2"]


async def test_more_of_them_than_are_read_for_one_question_are_told(travels: Travels) -> None:
    travels.region.limits = replace(travels.region.limits, peer_matches_max=2)
    async with receiving(travels) as reception:
        for number in range(3):
            ref = InstanceRef(f"1.2.{number}", f"1.2.{number}.1", f"1.2.{number}.1.1", CT)
            await send(reception, travels, encoded(ref, ANNE.digits), ref)
    await travels.region.refer(ANNE, to="RZ1")
    for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
        found = await travels.region.find(of_patient(level=level))
        assert len(found.rows) == 2 and states(found)["RZ2"] is SourceState.TRUNCATED


async def test_that_there_was_too_much_of_a_hidden_study_does_not_show_it(travels: Travels) -> None:
    travels.region.limits = replace(travels.region.limits, peer_matches_max=2)
    async with receiving(travels) as reception:
        for number in range(3):
            ref = replace(REF, sop_uid=f"1.2.3.1.{number}")
            await send(reception, travels, encoded(ref, ANNE.digits), ref)
    await travels.region.refer(ANNE, to="RZ1")
    absent = await travels.region.find(of_study(Level.IMAGE, study="1.2.99"))
    assert states(await travels.region.find(of_study(Level.IMAGE)))["RZ2"] is SourceState.TRUNCATED
    await labelled(travels)
    assert await travels.region.find(of_study(Level.IMAGE)) == absent


async def test_a_question_makes_no_patient(pushed: Travels) -> None:
    region = pushed.region
    nobody = NhsNumber("9990000069")
    assert await region.sql.patient_rows([nhs(nobody)]) == frozenset()
    assert (await region.find(of_study(study="1.2.99"))).rows == ()
    with pytest.raises(Denied):
        await region.find(of_patient(nobody))
    assert await region.sql.patient_rows([nhs(nobody)]) == frozenset()
    assert len(await region.sql.patient_rows([nhs(ANNE)])) == 1
