"""Archives that are asked for images and send fewer, others, nothing, for ever, or in pieces: none is believed, none
stalls us, and what came whole is kept.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dimse.awaited import Originator
from dimse.connector import FetchBy, Quirk
from dimse.scu.send import NotSent, Sent
from dimse.sop_classes import STUDY_ROOT_GET, STUDY_ROOT_MOVE
from dimse.upper_layer.commands import Command, CommandField
from gateway.model.errors import PeerProtocolError, PeerRefused, PeerTimeout, PeerUnavailable
from tests.dimse.fetching import GATEWAY, LIMITS, fetched, image_door, peer, wanting
from tests.dimse.intakes import MemoryIntake
from tests.dimse.items import MemoryItem
from tests.dimse.odd_archive import CT, MR, Asking, Script, image, moved, odd_archive

ONE, TWO, THREE = image(1), image(2), image(3)
REFS = (ONE.ref, TWO.ref)
HANG_S = 30.0


def sending(*items: MemoryItem, status: int = 0, **counts: int) -> Script:
    """Sends these, and then says how it ended."""

    async def script(asking: Asking) -> None:
        for item in items:
            await asking.send(item)
        await asking.say(status, **counts)

    return script


async def fetch_from(script: Script, *, by: FetchBy = FetchBy.GET) -> MemoryIntake:
    """Fetch the first two images from an archive that does so; what was kept."""
    intake = MemoryIntake(wanted={ONE.ref.sop_uid, TWO.ref.sop_uid})
    async with odd_archive(script) as archive, peer(archive.place, by) as connector:
        await fetched(connector, wanting(*REFS), intake)
    return intake


async def test_fewer_than_announced_are_what_came() -> None:
    intake = await fetch_from(sending(ONE, completed=2, failed=0, warning=0))
    assert list(intake.kept) == ["1.2.3.1"] and intake.kept["1.2.3.1"].content == ONE.content


async def test_an_instance_that_nobody_wants_is_refused_to_the_archive_alone() -> None:
    outcomes = []

    async def script(asking: Asking) -> None:
        outcomes.extend([await asking.send(item) for item in (ONE, THREE, TWO)])
        await asking.say(0xB000, completed=2, failed=1, warning=0)

    intake = await fetch_from(script)
    assert list(intake.kept) == ["1.2.3.1", "1.2.3.2"]
    assert outcomes[0] == outcomes[2] == Sent()
    assert isinstance(outcomes[1], NotSent) and "0124" in outcomes[1].words


@pytest.mark.parametrize(
    ("status", "counts", "error"),
    [
        (0x0000, {"failed": 1}, PeerRefused),
        (0xB000, {"failed": 1, "completed": 1}, PeerRefused),
        (0xB000, {}, PeerRefused),
        (0xA701, {}, PeerUnavailable),
        (0xA702, {"failed": 2}, PeerUnavailable),
        (0xA801, {}, PeerRefused),
        (0xA900, {}, PeerRefused),
        (0xC001, {}, PeerRefused),
        (0xFE00, {}, PeerUnavailable),
        (0x0122, {}, PeerRefused),
        (0x0124, {}, PeerRefused),
        (0x1234, {}, PeerProtocolError),
    ],
)
async def test_what_an_archive_could_not_send_is_told_and_what_came_is_kept(
    status: int, counts: dict[str, int], error: type[Exception]
) -> None:
    intake = MemoryIntake()
    async with (
        odd_archive(sending(ONE, status=status, **counts)) as archive,
        peer(archive.place, FetchBy.GET) as connector,
    ):
        with pytest.raises(error):
            await fetched(connector, wanting(*REFS), intake)
    assert list(intake.kept) == ["1.2.3.1"]


async def test_warnings_of_the_archive_are_no_failure() -> None:
    assert len((await fetch_from(sending(ONE, TWO, status=0xB000, completed=1, failed=0, warning=1))).kept) == 2


async def test_an_archive_that_is_silent_is_given_up_and_one_that_says_pending_is_not() -> None:
    async def silent(asking: Asking) -> None:
        await asyncio.Event().wait()

    async def at_last(asking: Asking) -> None:
        for _ in range(12):
            await asyncio.sleep(0.02)
            await asking.say(0xFF00, remaining=2, completed=0, failed=0, warning=0)
        await sending(ONE, TWO)(asking)

    limits = replace(LIMITS, retrieve_idle_timeout_s=0.15)
    for script in (silent, at_last):
        async with odd_archive(script) as archive, peer(archive.place, FetchBy.GET, limits=limits) as connector:
            intake = MemoryIntake()
            if script is silent:
                with pytest.raises(PeerTimeout):
                    await fetched(connector, wanting(*REFS), intake)
            else:
                await fetched(connector, wanting(*REFS), intake)
                assert len(intake.kept) == 2


async def test_an_archive_that_says_pending_for_ever_has_its_time() -> None:
    async def pending(asking: Asking) -> None:
        while not asking.cancelled.is_set():
            await asyncio.sleep(0.01)
            await asking.say(0xFF00)

    limits = replace(LIMITS, retrieve_total_timeout_s=0.2, cancel_timeout_s=0.1)
    async with odd_archive(pending) as archive, peer(archive.place, FetchBy.GET, limits=limits) as connector:
        with pytest.raises(PeerTimeout):
            await fetched(connector, wanting(*REFS), MemoryIntake())


async def test_an_instance_that_is_cut_is_not_kept_and_the_one_before_it_is() -> None:
    async def cut(asking: Asking) -> None:
        await asking.send(ONE)
        await asking.send(replace(image(2, 3_000_000), cut_at=2_000_000))

    intake = MemoryIntake()
    async with odd_archive(cut) as archive, peer(archive.place, FetchBy.GET) as connector:
        with pytest.raises(PeerUnavailable):
            await fetched(connector, wanting(*REFS), intake)
    assert list(intake.kept) == ["1.2.3.1"]


async def test_an_answer_to_something_else_is_not_believed() -> None:
    async def other(asking: Asking) -> None:
        asking.message = replace(asking.message, command=replace(asking.message.command, message_id=999))
        await asking.say(0)

    async with odd_archive(other) as archive, peer(archive.place, FetchBy.GET) as connector:
        with pytest.raises(PeerProtocolError):
            await fetched(connector, wanting(*REFS), MemoryIntake())


async def test_an_instance_in_the_context_of_another_class_is_refused() -> None:
    outcomes = []

    async def mislabelled(asking: Asking) -> None:
        context = next(each for each in asking.association.terms.contexts.values() if each.abstract_syntax == CT)
        command = Command(
            CommandField.C_STORE_RQ, 1, sop_class_uid=MR, has_data=True, priority=0, sop_instance_uid="1.2.3.1"
        )
        await asking.association.send(context.context_id, command, bytes(1_000))
        outcomes.append((await asking.association.receive()).command.status)
        await sending(ONE, TWO)(asking)

    intake = await fetch_from(mislabelled)
    assert outcomes == [0x0122] and len(intake.kept) == 2


async def test_an_archive_that_takes_no_roles_is_asked_by_c_move_or_not_at_all() -> None:
    async with odd_archive(sending()) as archive, peer(archive.place, FetchBy.AUTO) as connector:
        archive.takes_roles = False
        with pytest.raises(PeerRefused):
            await fetched(connector, wanting(*REFS), MemoryIntake())
    assert not archive.asked


async def test_instances_are_asked_for_series_by_series_with_every_key_above_them() -> None:
    other = [replace(image(number).ref, series_uid="1.2.4") for number in (8, 9)]
    limits = replace(LIMITS, retrieve_uids_max=2, retrieve_associations_max=1)
    refs = (ONE.ref, other[0], TWO.ref, THREE.ref, other[1], THREE.ref)
    async with odd_archive(sending()) as archive, peer(archive.place, FetchBy.GET, limits=limits) as connector:
        await fetched(connector, wanting(*refs), MemoryIntake())
    asked = [{tag: element["Value"] for tag, element in row.items()} for row in archive.asked]
    image_level = {"00080052": ["IMAGE"], "0020000D": ["1.2"]}
    assert asked == [
        image_level | {"0020000E": ["1.2.3"], "00080018": ["1.2.3.1", "1.2.3.2"]},
        image_level | {"0020000E": ["1.2.3"], "00080018": ["1.2.3.3"]},
        image_level | {"0020000E": ["1.2.4"], "00080018": ["1.2.3.8", "1.2.3.9"]},
    ]


async def test_several_associations_fetch_at_once_and_an_archive_of_one_is_content() -> None:
    for associations_max in (16, 1):
        intake, items = MemoryIntake(), [image(number) for number in range(12)]
        by_uid = {item.ref.sop_uid: item for item in items}

        async def send_asked(asking: Asking, by_uid: dict[str, MemoryItem] = by_uid) -> None:
            uids = archive.asked[-1]["00080018"]["Value"]
            assert isinstance(uids, list)
            for uid in uids:
                await asking.send(by_uid[str(uid)])
            await asking.say(0, completed=len(uids), failed=0, warning=0)

        limits = replace(LIMITS, retrieve_uids_max=1)
        async with odd_archive(send_asked) as archive, peer(archive.place, FetchBy.GET, limits=limits) as connector:
            archive.associations_max = associations_max
            await fetched(connector, wanting(*(item.ref for item in items)), intake)
        assert {uid: kept.content for uid, kept in intake.kept.items()} == {
            uid: item.content for uid, item in by_uid.items()
        }


@pytest.mark.parametrize("quirks", [(), (Quirk.IGNORES_CANCEL,)])
async def test_a_fetch_that_is_given_up_is_cancelled_or_aborted(quirks: tuple[Quirk, ...]) -> None:
    told = asyncio.Event()

    async def endless(asking: Asking) -> None:
        number = 0
        try:
            while not asking.cancelled.is_set():
                number += 1
                await asking.send(image(number))
            await asking.say(0xFE00)
        finally:
            told.set()

    intake = MemoryIntake()
    async with odd_archive(endless) as archive, peer(archive.place, FetchBy.GET, *quirks) as connector:
        fetching = asyncio.create_task(connector.fetch(wanting(*REFS), intake))
        async with asyncio.timeout(HANG_S):
            await intake.first.wait()
            fetching.cancel()
            await asyncio.wait([fetching])
            came = len(intake.kept)
            await told.wait()
            end = await archive.associations[0].over()
    assert len(intake.kept) == came
    assert end.why.value == ("aborted-by-peer" if quirks else "released")


async def test_an_archive_that_does_not_heed_a_cancel_is_aborted() -> None:
    async def deaf(asking: Asking) -> None:
        for number in range(10_000):
            await asking.send(image(number))

    intake, limits = MemoryIntake(), replace(LIMITS, cancel_timeout_s=0.05)
    async with odd_archive(deaf) as archive, peer(archive.place, FetchBy.GET, limits=limits) as connector:
        fetching = asyncio.create_task(connector.fetch(wanting(*REFS), intake))
        async with asyncio.timeout(HANG_S):
            await intake.first.wait()
            fetching.cancel()
            end = await archive.associations[0].over()
    assert end.why.value == "aborted-by-peer"


async def test_a_multi_frame_image_is_held_by_nobody() -> None:
    size = 256 * 1024 * 1024

    class Endless(MemoryItem):
        @property
        def data_bytes(self) -> int:
            return size

        async def _pieces(self, content: bytes) -> AsyncIterator[bytes]:
            for _ in range(size // len(content)):
                yield content

    class Counting:
        def __init__(self) -> None:
            self.count = 0

        def add(self, piece: bytes | memoryview) -> None:
            self.count += len(piece)

        async def drain(self) -> None:
            await asyncio.sleep(0)

        async def keep(self) -> None:
            return None

        async def __aenter__(self) -> Counting:
            return self

        async def __aexit__(self, *_: object) -> None:
            return None

        def take(self, *_: str) -> Counting:
            return self

    big, counting = Endless(ONE.ref, ONE.transfer_syntax, bytes(1024 * 1024)), Counting()
    async with odd_archive(sending(big)) as archive, peer(archive.place, FetchBy.GET) as connector:
        await fetched(connector, wanting(TWO.ref), counting)
        counting.count = 0
        tracemalloc.start()
        try:
            await fetched(connector, wanting(ONE.ref), counting)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert counting.count == size
    assert peak < 8 * 1024 * 1024


# C-MOVE: what arrives at our door.

MOVES = (STUDY_ROOT_MOVE,)


@pytest.mark.parametrize("names_originator", [True, False])
async def test_images_of_a_move_are_told_apart_by_originator_or_by_uid(names_originator: bool) -> None:
    async with image_door(0) as door:

        async def script(asking: Asking) -> None:
            command = asking.message.command
            assert command.move_destination == GATEWAY
            originator = Originator(GATEWAY, command.message_id) if names_originator else None
            outcomes = await moved(door.port, ONE, THREE, TWO, originator=originator)
            assert [isinstance(outcome, Sent) for outcome in outcomes] == [True, False, True]
            await asking.say(0xB000, completed=2, failed=1, warning=0)

        intake = MemoryIntake(wanted={ONE.ref.sop_uid, TWO.ref.sop_uid})
        async with (
            odd_archive(script, offered=MOVES) as archive,
            peer(archive.place, FetchBy.AUTO, awaiting=door.awaiting) as connector,
        ):
            await fetched(connector, wanting(*REFS), intake)
    assert list(intake.kept) == ["1.2.3.1", "1.2.3.2"]
    assert door.pushed == ([] if names_originator else ["1.2.3.3"])


async def test_what_comes_after_its_move_is_over_is_neither_kept_nor_a_push() -> None:
    async with image_door(0) as door:
        message_ids = []

        async def script(asking: Asking) -> None:
            message_ids.append(asking.message.command.message_id)
            await asking.say(0, completed=1, failed=0, warning=0)

        intake = MemoryIntake()
        async with (
            odd_archive(script, offered=MOVES) as archive,
            peer(archive.place, FetchBy.MOVE, awaiting=door.awaiting) as connector,
        ):
            await fetched(connector, wanting(ONE.ref), intake)
        (late,) = await moved(door.port, ONE, originator=Originator(GATEWAY, message_ids[0]))
    assert isinstance(late, NotSent) and not intake.kept and not door.pushed


async def test_an_archive_that_ends_before_its_last_image_is_answered_is_waited_for() -> None:
    large = image(1, 3_000_000)
    async with image_door(0) as door:
        sendings: list[asyncio.Task[object]] = []

        class Gated(MemoryItem):
            async def _pieces(self, content: bytes) -> AsyncIterator[bytes]:
                yield content[: len(content) // 2]
                await goes_on.wait()
                yield content[len(content) // 2 :]

        goes_on, intake = asyncio.Event(), MemoryIntake()

        async def script(asking: Asking) -> None:
            sendings.append(
                asyncio.create_task(moved(door.port, Gated(large.ref, large.transfer_syntax, large.content)))
            )
            await intake.begun.wait()
            await asking.say(0, completed=1, failed=0, warning=0)
            goes_on.set()

        async with (
            odd_archive(script, offered=MOVES) as archive,
            peer(archive.place, FetchBy.MOVE, awaiting=door.awaiting) as connector,
        ):
            await fetched(connector, wanting(large.ref), intake)
            assert intake.kept[large.ref.sop_uid].content == large.content
        await asyncio.gather(*sendings)


async def test_what_c_get_could_not_bring_is_asked_for_by_c_move() -> None:
    async with image_door(0) as door:

        async def script(asking: Asking) -> None:
            command = asking.message.command
            if command.field is CommandField.C_GET_RQ:
                await sending(ONE, status=0xB000, completed=1, failed=1)(asking)
                return
            await moved(door.port, TWO, originator=Originator(GATEWAY, command.message_id))
            await asking.say(0, completed=1, failed=0, warning=0)

        intake = MemoryIntake()
        async with (
            odd_archive(script, offered=(STUDY_ROOT_GET, STUDY_ROOT_MOVE)) as archive,
            peer(archive.place, FetchBy.AUTO, awaiting=door.awaiting) as connector,
        ):
            await fetched(connector, wanting(*REFS), intake)
    assert list(intake.kept) == ["1.2.3.1", "1.2.3.2"]
    assert archive.asked[1]["00080018"]["Value"] == ["1.2.3.2"]


async def test_an_archive_that_does_not_know_us_as_a_destination_is_asked_by_c_get_for_what_that_can_bring() -> None:
    async def script(asking: Asking) -> None:
        if asking.message.command.field is CommandField.C_MOVE_RQ:
            await asking.say(0xA801)
            return
        await sending(ONE, TWO)(asking)

    intake = MemoryIntake()
    unknown = [replace(ref, sop_class_uid="") for ref in REFS]  # so that it would rather be asked by C-MOVE
    async with (
        image_door(0) as door,
        odd_archive(script, offered=(STUDY_ROOT_GET, STUDY_ROOT_MOVE)) as archive,
        peer(archive.place, FetchBy.AUTO, awaiting=door.awaiting) as connector,
    ):
        await fetched(connector, wanting(*unknown), intake)
    assert list(intake.kept) == ["1.2.3.1", "1.2.3.2"]
    assert len(archive.asked) == 2
