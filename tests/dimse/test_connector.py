"""A trust's archive asked by C-FIND: what honest ones answer, in which dialect, and on which association."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dimse.connector import Model, Quirk
from dimse.elements import encode_dataset
from dimse.scu.search import WALKERS_MAX
from dimse.sop_classes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PATIENT_ROOT_FIND,
    STUDY_ROOT_FIND,
)
from dimse.upper_layer.association import Association
from dimse.upper_layer.messages import Message
from dimse.upper_layer.wire import Ended
from gateway.model.errors import PeerRefused, PeerUnavailable
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    MODALITY,
    OTHER_PATIENT_IDS,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    Attributes,
    Key,
    Level,
    Query,
)
from tests.dimse.c_find_asking import ANNE, ANNES, ANNES_STUDIES, EASTVALE, LIMITS, ask, peer, values
from tests.peers.dimse_archive import LEVEL, Archive, element, ended, image, listening, series, study, text

TWO_STUDIES: list[Attributes] = [study(1), study(2), study(3, "9990000026")]
DOWN_TO_IMAGES: list[Attributes] = [
    *TWO_STUDIES,
    series(1, 1, "CT"),
    series(1, 2, "SR"),
    series(2, 1, "MR"),
    series(3, 1),
    image(1, 1, 1),
    image(1, 1, 2),
    image(1, 2, 1),
    image(2, 1, 1),
    image(3, 1, 1),
]
WITHOUT_MODALITIES: list[Attributes] = [
    study(1, t00080061=element("CS")),
    study(2, t00080061=element("CS")),
    series(1, 1, "MR"),
    series(1, 2, "CT"),
    series(2, 1, "US"),
]


def key(tag: str, *uids: str) -> Key:
    return Key((tag,), "UI", uids)


async def test_a_patients_studies_are_found_with_what_identity_and_policy_need() -> None:
    async with listening(Archive(TWO_STUDIES)) as archive, peer(archive.port) as connector:
        answer = await ask(connector)
    assert values(answer, STUDY_UID) == ["1.2.1", "1.2.2"] and not answer.is_truncated
    assert set(values(answer, ISSUER_OF_PATIENT_ID)) == {"NHS"} and set(values(answer, PATIENT_ID)) == {ANNE}
    [asked] = archive.asked
    assert asked.keys() >= {OTHER_PATIENT_IDS, PATIENT_NAME, PATIENT_BIRTH_DATE, MODALITIES_IN_STUDY, "00201208"}
    assert text(asked, LEVEL) == "STUDY" and not any(LEVEL in row for row in answer.rows)


async def test_an_unknown_patient_is_nothing_found() -> None:
    async with listening(Archive(TWO_STUDIES)) as archive, peer(archive.port) as connector:
        answer = await ask(connector, Query(Level.STUDY, (Key((PATIENT_ID,), "LO", ("9990000999",)),)))
    assert list(answer.rows) == [] and not answer.is_truncated


async def test_series_are_walked_to_and_say_whose_they_are() -> None:
    async with listening(Archive(DOWN_TO_IMAGES)) as archive, peer(archive.port) as connector:
        answer = await ask(connector, Query(Level.SERIES, (ANNES,)))
    assert values(answer, SERIES_UID) == ["1.2.1.1", "1.2.1.2", "1.2.2.1"] and not answer.is_truncated
    assert values(answer, STUDY_UID) == ["1.2.1", "1.2.1", "1.2.2"] and values(answer, MODALITY) == ["CT", "SR", "MR"]
    assert set(values(answer, PATIENT_ID)) == {ANNE} and set(values(answer, PATIENT_BIRTH_DATE)) == {"19700101"}
    assert archive.levels == ["STUDY", "SERIES", "SERIES"]


async def test_instances_are_walked_to_with_all_uids_above_them() -> None:
    async with listening(Archive(DOWN_TO_IMAGES)) as archive, peer(archive.port) as connector:
        of_patient = await ask(connector, Query(Level.IMAGE, (ANNES,)))
        of_series = await ask(connector, Query(Level.IMAGE, (key(STUDY_UID, "1.2.1"), key(SERIES_UID, "1.2.1.2"))))
    assert values(of_patient, SOP_UID) == ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1", "1.2.2.1.1"]
    assert values(of_patient, SERIES_UID) == ["1.2.1.1", "1.2.1.1", "1.2.1.2", "1.2.2.1"]
    assert values(of_series, SOP_UID) == ["1.2.1.2.1"] and values(of_series, MODALITY) == ["SR"]
    assert values(of_series, PATIENT_ID) == [ANNE]


async def test_an_archive_that_negotiates_relational_queries_is_asked_once() -> None:
    rows = [{**study(1), **series(1, 1)}, {**study(1), **series(1, 2)}]
    async with listening(Archive(rows, is_relational=True)) as archive, peer(archive.port) as connector:
        answer = await ask(connector, Query(Level.SERIES, (ANNES,)))
    assert values(answer, SERIES_UID) == ["1.2.1.1", "1.2.1.2"] and archive.levels == ["SERIES"]


async def test_a_relational_answer_that_does_not_say_whose_rows_are_is_walked_to() -> None:
    async with listening(Archive(DOWN_TO_IMAGES, is_relational=True)) as archive, peer(archive.port) as connector:
        answer = await ask(connector, Query(Level.SERIES, (ANNES, key(STUDY_UID, "1.2.1"))))
    assert values(answer, SERIES_UID) == ["1.2.1.1", "1.2.1.2"] and set(values(answer, PATIENT_ID)) == {ANNE}
    assert archive.levels == ["SERIES", "STUDY", "SERIES"]


async def test_an_archive_that_does_not_keep_to_what_it_negotiates_can_be_walked_by_its_profile() -> None:
    rows = [{**study(1), **series(1, 1)}, study(1)]
    async with (
        listening(Archive(rows, is_relational=True)) as archive,
        peer(archive.port, Quirk.NO_RELATIONAL_NEGOTIATION) as connector,
    ):
        answer = await ask(connector, Query(Level.SERIES, (ANNES,)))
    assert values(answer, SERIES_UID) == ["1.2.1.1"] and archive.levels == ["STUDY", "SERIES"]
    assert archive.requests[0].user.extended == ()


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
async def test_an_archive_with_patient_root_alone_is_asked_in_that(level: Level) -> None:
    async with (
        listening(Archive(DOWN_TO_IMAGES, models=(PATIENT_ROOT_FIND,))) as archive,
        peer(archive.port) as connector,
    ):
        answer = await ask(connector, Query(level, (ANNES,)))
    assert answer.rows and set(values(answer, STUDY_UID)) == {"1.2.1", "1.2.2"}
    assert set(archive.asked_in) == {PATIENT_ROOT_FIND} and all(text(asked, PATIENT_ID) for asked in archive.asked)


async def test_of_two_models_the_profiles_is_asked_where_it_fits() -> None:
    async with listening(Archive(TWO_STUDIES)) as archive, peer(archive.port, model=Model.PATIENT_ROOT) as connector:
        assert len((await ask(connector)).rows) == 2
        # No patient is named: Patient Root cannot be asked for a study alone.
        assert len((await ask(connector, Query(Level.STUDY, (key(STUDY_UID, "1.2.3"),)))).rows) == 1
    assert archive.asked_in == [PATIENT_ROOT_FIND, STUDY_ROOT_FIND]


async def test_an_archive_without_a_model_that_fits_refuses_and_is_asked_nothing() -> None:
    async with listening(Archive(TWO_STUDIES, models=())) as archive, peer(archive.port) as connector:
        with pytest.raises(PeerRefused):
            await ask(connector)
    async with (
        listening(Archive(TWO_STUDIES, models=(PATIENT_ROOT_FIND,))) as archive,
        peer(archive.port) as connector,
    ):
        with pytest.raises(PeerRefused):
            await ask(connector, Query(Level.STUDY, (key(STUDY_UID, "1.2.3"),)))
        assert len((await ask(connector)).rows) == 2 and len(archive.associations) == 1
    assert len(archive.asked) == 1


@pytest.mark.parametrize("syntax", [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN])
async def test_either_transfer_syntax_is_spoken(syntax: str) -> None:
    async with (
        listening(Archive(DOWN_TO_IMAGES, transfer_syntaxes=(syntax, EXPLICIT_VR_BIG_ENDIAN))) as archive,
        peer(archive.port) as connector,
    ):
        assert len((await ask(connector, Query(Level.IMAGE, (ANNES,)))).rows) == 4
    assert archive.associations[0].terms.contexts[1].transfer_syntax == syntax


async def test_an_archive_that_garbles_explicit_vr_is_only_offered_implicit() -> None:
    async with listening(Archive(TWO_STUDIES)) as archive, peer(archive.port, Quirk.IMPLICIT_VR_ONLY) as connector:
        await ask(connector)
    assert {context.transfer_syntaxes for context in archive.requests[0].contexts} == {(IMPLICIT_VR_LITTLE_ENDIAN,)}


@pytest.mark.parametrize("pdu_bytes_max", [0, 64, 4_096])
async def test_any_length_of_pdu_will_do(pdu_bytes_max: int) -> None:
    async with listening(Archive(TWO_STUDIES, pdu_bytes_max=pdu_bytes_max)) as archive, peer(archive.port) as connector:
        assert len((await ask(connector)).rows) == 2


async def test_a_list_of_studies_is_asked_at_once_or_one_by_one() -> None:
    wanted = Query(Level.STUDY, (key(STUDY_UID, "1.2.1", "1.2.3", "9.9"),))
    async with listening(Archive(TWO_STUDIES)) as archive:
        async with peer(archive.port) as connector:
            assert values(await ask(connector, wanted), STUDY_UID) == ["1.2.1", "1.2.3"]
        assert len(archive.asked) == 1
        async with peer(archive.port, Quirk.NO_UID_LISTS) as connector:
            assert values(await ask(connector, wanted), STUDY_UID) == ["1.2.1", "1.2.3"]
        assert [text(asked, STUDY_UID) for asked in archive.asked[1:]] == ["1.2.1", "1.2.3", "9.9"]


async def test_no_archive_is_asked_for_patients() -> None:
    async with peer(1) as connector:
        with pytest.raises(PeerRefused):
            await ask(connector, Query(Level.PATIENT, (ANNES,)))


# Modalities in Study (A8).


async def test_modalities_that_an_archive_leaves_out_are_gathered_from_the_series() -> None:
    async with listening(Archive(WITHOUT_MODALITIES)) as archive, peer(archive.port) as connector:
        answer = await ask(connector)
    assert [row[MODALITIES_IN_STUDY]["Value"] for row in answer.rows] == [["CT", "MR"], ["US"]]
    assert archive.levels == ["STUDY", "SERIES", "SERIES"] and not answer.is_truncated


async def test_an_archive_that_cannot_be_asked_for_modalities_is_not() -> None:
    async with (
        listening(Archive(DOWN_TO_IMAGES)) as archive,
        peer(archive.port, Quirk.MODALITIES_BY_SERIES) as connector,
    ):
        answer = await ask(connector)
    assert MODALITIES_IN_STUDY not in archive.asked[0]
    assert [row[MODALITIES_IN_STUDY]["Value"] for row in answer.rows] == [["CT", "SR"], ["MR"]]


async def test_an_archive_that_cannot_tell_modalities_has_told_its_studies_all_the_same() -> None:
    async def refuse_series(archive: Archive, association: Association, message: Message) -> None:
        if archive.levels[-1] == "SERIES":
            await archive.end(association, message, 0xC000)
        else:
            await archive.be_honest(association, message)

    async with listening(Archive(WITHOUT_MODALITIES, refuse_series)) as archive, peer(archive.port) as connector:
        answer = await ask(connector)
    assert values(answer, STUDY_UID) == ["1.2.1", "1.2.2"] and answer.is_truncated


async def test_an_archive_that_is_slow_with_modalities_has_told_its_studies_in_time() -> None:
    async def stall_at_series(archive: Archive, association: Association, message: Message) -> None:
        if archive.levels[-1] == "SERIES":
            await asyncio.Event().wait()
        await archive.be_honest(association, message)

    soon = replace(LIMITS, find_timeout_s=0.2)
    async with (
        listening(Archive(WITHOUT_MODALITIES, stall_at_series)) as archive,
        peer(archive.port, limits=soon) as connector,
    ):
        answer = await ask(connector)
    assert values(answer, STUDY_UID) == ["1.2.1", "1.2.2"] and answer.is_truncated


async def test_modalities_stay_unknown_where_the_profile_is_content_with_that() -> None:
    async with (
        listening(Archive(WITHOUT_MODALITIES)) as archive,
        peer(archive.port, Quirk.MODALITIES_UNKNOWN) as connector,
    ):
        answer = await ask(connector)
    assert len(answer.rows) == 2 and archive.levels == ["STUDY"] and not answer.is_truncated


# Character sets (A10).


async def test_undeclared_latin_1_is_read_and_other_sets_by_the_profile() -> None:
    name: Attributes = study(1, t00100010={"vr": "PN", "Value": [{"Alphabetic": "Ó BRIEN^Zoë"}]})
    async with listening(Archive([name])) as archive, peer(archive.port) as connector:
        assert values(await ask(connector), PATIENT_NAME) == [{"Alphabetic": "Ó BRIEN^Zoë"}]
    greek: Attributes = study(1, t00100010={"vr": "PN", "Value": [{"Alphabetic": "ΠΑΠΑΣ^Νίκος"}]})

    async def undeclared(archive: Archive, association: Association, message: Message) -> None:
        await archive.give(
            association, message, encode_dataset(greek, message.context.transfer_syntax, ("ISO_IR 126",))
        )
        await archive.end(association, message)

    async with listening(Archive(script=undeclared)) as archive, peer(archive.port, charset="ISO_IR 126") as connector:
        assert values(await ask(connector), PATIENT_NAME) == [{"Alphabetic": "ΠΑΠΑΣ^Νίκος"}]


@pytest.mark.parametrize("declared", [("ISO_IR 192",), ("", "ISO 2022 IR 87")])
async def test_a_declared_character_set_goes_before_the_profiles(declared: tuple[str, ...]) -> None:
    name = {"Alphabetic": "YAMADA^TAROU", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    row: Attributes = study(1, t00100010={"vr": "PN", "Value": [{**name}]})
    async with (
        listening(Archive([row], charset=declared)) as archive,
        peer(archive.port, charset="ISO_IR 126") as connector,
    ):
        assert values(await ask(connector), PATIENT_NAME) == [name]


@pytest.mark.parametrize(
    ("accession_number", "declared"), [("ACC1", ""), ("Ä1", "ISO_IR 100"), ("Ł1", "ISO_IR 192"), ("山1", "ISO_IR 192")]
)
async def test_a_question_declares_a_character_set_only_if_it_needs_one(accession_number: str, declared: str) -> None:
    query = Query(Level.STUDY, (Key((ACCESSION_NUMBER,), "SH", (accession_number,)),))
    raw: list[bytes] = []

    async def keep(archive: Archive, association: Association, message: Message) -> None:
        raw.append(message.data_set)
        await archive.end(association, message)

    async with listening(Archive(script=keep)) as archive, peer(archive.port) as connector:
        await ask(connector, query)
    assert text(archive.asked[0], ACCESSION_NUMBER) == accession_number
    assert (declared.encode() in raw[0]) if declared else (b"ISO_IR" not in raw[0])


# Associations.


async def test_questions_one_after_the_other_share_an_association() -> None:
    async with listening(Archive(TWO_STUDIES)) as archive, peer(archive.port) as connector:
        for _ in range(3):
            assert len((await ask(connector)).rows) == 2
        await connector.echo()
    assert len(archive.associations) == 1 and len(archive.asked) == 3


async def test_questions_at_once_have_associations_of_their_own_up_to_the_limit() -> None:
    gate = asyncio.Event()
    at_once = 0

    async def wait(archive: Archive, association: Association, message: Message) -> None:
        nonlocal at_once
        at_once += 1
        if at_once == LIMITS.peer_requests_at_once_max:
            gate.set()
        await gate.wait()
        await archive.be_honest(association, message)

    async with listening(Archive(TWO_STUDIES, wait)) as archive, peer(archive.port) as connector:
        answers = await asyncio.gather(*(ask(connector) for _ in range(2 * LIMITS.peer_requests_at_once_max)))
    assert all(len(answer.rows) == 2 for answer in answers)
    assert len(archive.associations) == LIMITS.peer_requests_at_once_max


async def test_an_archive_that_fails_at_the_second_query_gets_one_an_association() -> None:
    async with (
        listening(Archive(DOWN_TO_IMAGES)) as archive,
        peer(archive.port, Quirk.ONE_QUERY_PER_ASSOCIATION, Quirk.NO_RELATIONAL_NEGOTIATION) as connector,
    ):
        assert len((await ask(connector, Query(Level.SERIES, (ANNES,)))).rows) == 3
        await ended(archive.associations)
        ends = [association.end for association in archive.associations]
    assert [end.why for end in ends if end is not None] == [Ended.RELEASED] * len(archive.asked)
    assert len(archive.asked) == 3


async def test_an_association_that_died_unseen_costs_no_answer() -> None:
    async def hang_up_at_the_second(archive: Archive, association: Association, message: Message) -> None:
        if len(archive.asked) == 2:
            association.abort("as archives do that were idle for too long")
        else:
            await archive.be_honest(association, message)

    async with (
        listening(Archive(TWO_STUDIES, hang_up_at_the_second)) as archive,
        peer(archive.port) as connector,
    ):
        assert len((await ask(connector)).rows) == len((await ask(connector)).rows) == 2
    assert len(archive.associations) == 2 and len(archive.asked) == 3


async def test_an_archive_that_hangs_up_on_fresh_associations_is_asked_no_more() -> None:
    async def hang_up(_archive: Archive, association: Association, _message: Message) -> None:
        association.abort("always")

    async with listening(Archive(script=hang_up)) as archive, peer(archive.port) as connector:
        with pytest.raises(PeerUnavailable):
            await ask(connector)
    assert len(archive.associations) == 1


async def test_an_archive_answers_a_sign_of_life() -> None:
    async with listening(Archive()) as archive, peer(archive.port) as connector:
        await connector.echo()
        await connector.echo()

    async def refuse(archive: Archive, association: Association, message: Message) -> None:
        await archive.end(association, message, 0x0122)

    async with listening(Archive(script=refuse)) as archive, peer(archive.port) as connector:
        with pytest.raises(PeerRefused):
            await connector.echo()


async def test_closing_releases_what_is_idle_and_a_closed_connector_asks_nobody() -> None:
    async with listening(Archive(TWO_STUDIES)) as archive, peer(archive.port) as connector:
        assert connector.trust == EASTVALE
        await ask(connector)
        await connector.close()
        await connector.close()
        await ended(archive.associations)
        assert archive.associations[0].end is not None and archive.associations[0].end.why is Ended.RELEASED
        with pytest.raises(PeerUnavailable):
            await ask(connector)
        with pytest.raises(PeerUnavailable):
            await connector.echo()
    assert len(archive.associations) == 1


async def test_closing_does_not_wait_for_a_question_under_way() -> None:
    async def say_nothing(_archive: Archive, _association: Association, _message: Message) -> None:
        await asyncio.Event().wait()

    async with listening(Archive(script=say_nothing)) as archive, peer(archive.port) as connector:
        question = asyncio.create_task(ask(connector))
        await archive.was_asked.wait()
        await connector.close()
        with pytest.raises(PeerUnavailable):
            await question


# Bounds.


async def test_as_many_rows_are_believed_as_the_limit_and_the_rest_is_cancelled() -> None:
    rows = [study(number) for number in range(50)]
    async with listening(Archive(rows)) as archive, peer(archive.port) as connector:
        exact = await ask(connector, matches_max=50)
        assert len(exact.rows) == 50 and not exact.is_truncated and not archive.was_cancelled.is_set()
        cut = await ask(connector, matches_max=10)
        assert len(cut.rows) == 10 and cut.is_truncated
        # The query is cancelled behind the answer, and its association serves the next one.
        await archive.was_cancelled.wait()
        assert len((await ask(connector, ANNES_STUDIES)).rows) == 50


async def test_a_walk_ends_with_its_queries_and_says_that_there_may_be_more() -> None:
    async with listening(Archive(DOWN_TO_IMAGES)) as archive:
        for queries_max, series_found in ((3, 3), (2, 2), (1, 0)):
            async with peer(archive.port, limits=replace(LIMITS, peer_queries_max=queries_max)) as connector:
                answer = await ask(connector, Query(Level.SERIES, (ANNES,)))
            assert len(answer.rows) == series_found and answer.is_truncated is (queries_max < 3)


async def test_a_walk_asks_a_few_queries_at_a_time() -> None:
    at_once: set[int] = set()
    most = 0

    async def count(archive: Archive, association: Association, message: Message) -> None:
        nonlocal most
        at_once.add(id(association))
        most = max(most, len(at_once))
        # The others get as far as they can.
        for _ in range(20):
            await asyncio.sleep(0)
        at_once.discard(id(association))
        await archive.be_honest(association, message)

    rows = [*(study(number) for number in range(12)), *(series(number, 1) for number in range(12))]
    async with listening(Archive(rows, count)) as archive, peer(archive.port) as connector:
        answer = await ask(connector, Query(Level.SERIES, (ANNES,)))
    assert values(answer, STUDY_UID) == [f"1.2.{number}" for number in range(12)]
    assert 1 < most <= WALKERS_MAX and len(archive.associations) <= WALKERS_MAX
