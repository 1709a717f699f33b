"""Which instance belongs to which C-MOVE, and to none."""

from __future__ import annotations

import pytest

from dimse.awaited import ERRANDS_MAX, Awaiting, Originator
from gateway.model.errors import OverCapacity, Unwanted
from policy.parties import TrustId
from tests.dimse.intakes import MemoryIntake

EASTVALE, NORTHMOOR = TrustId("RZ2"), TrustId("RZ1")
CT = "1.2.840.10008.5.1.4.1.1.2"
OURS = "GATEWAY"


def test_an_instance_is_its_originators_whatever_its_uid_and_only_of_that_trust() -> None:
    awaiting = Awaiting()
    with (
        awaiting.expecting(EASTVALE, OURS, ["1.1"], MemoryIntake()) as one,
        awaiting.expecting(EASTVALE, OURS, ["1.2"], MemoryIntake()) as two,
    ):
        assert awaiting.intake_for(EASTVALE, "1.1", two.originator) is two
        assert awaiting.intake_for(EASTVALE, "9.9", one.originator) is one
        assert awaiting.intake_for(NORTHMOOR, "1.1", one.originator) is None


def test_without_an_originator_an_instance_goes_to_whoever_wants_it() -> None:
    awaiting = Awaiting()
    with (
        awaiting.expecting(EASTVALE, OURS, ["1.1"], MemoryIntake()),
        awaiting.expecting(EASTVALE, OURS, ["1.2"], MemoryIntake()) as two,
    ):
        assert awaiting.intake_for(EASTVALE, "1.2", None) is two
        assert awaiting.intake_for(EASTVALE, "1.3", None) is None
        # A third system asked the archive to send to us: it names itself, and the instance is wanted all the same.
        assert awaiting.intake_for(EASTVALE, "1.2", Originator("SOMEBODY", two.originator.message_id)) is two


def test_a_request_for_everything_is_offered_what_nobody_names_unless_there_are_two() -> None:
    awaiting = Awaiting()
    with awaiting.expecting(EASTVALE, OURS, (), MemoryIntake()) as whole:
        assert awaiting.intake_for(EASTVALE, "1.1", None) is whole
        assert awaiting.intake_for(EASTVALE, "1.1", Originator("SOMEBODY", 1)) is None
        with awaiting.expecting(EASTVALE, OURS, (), MemoryIntake()):
            assert awaiting.intake_for(EASTVALE, "1.1", None) is None
    assert awaiting.intake_for(EASTVALE, "1.1", None) is None


async def test_what_names_a_request_that_is_over_is_wanted_by_nobody() -> None:
    awaiting, intake = Awaiting(), MemoryIntake()
    with awaiting.expecting(EASTVALE, OURS, ["1.1"], intake) as errand:
        originator = errand.originator
    late = awaiting.intake_for(EASTVALE, "1.1", originator)
    assert late is not None
    with pytest.raises(Unwanted):
        async with late.take(CT, "1.1", "1.2.840.10008.1.2"):
            pass
    assert awaiting.intake_for(EASTVALE, "1.1", None) is None


async def test_what_comes_is_counted_and_what_is_refused_too() -> None:
    awaiting, intake = Awaiting(), MemoryIntake(wanted={"1.1"})
    with awaiting.expecting(EASTVALE, OURS, ["1.1"], intake) as errand:
        async with errand.take(CT, "1.1", "1.2.840.10008.1.2") as taking:
            assert errand.is_receiving
            taking.add(b"all of it")
            await taking.keep()
        with pytest.raises(Unwanted):
            async with errand.take(CT, "1.2", "1.2.840.10008.1.2"):
                pass
        await errand.quiet()
        assert (errand.arrivals, errand.refused, errand.is_receiving) == (2, 1, False)


def test_requests_to_one_trust_have_ids_of_their_own_and_a_limit() -> None:
    awaiting, opened = Awaiting(), []
    for _ in range(ERRANDS_MAX):
        context = awaiting.expecting(EASTVALE, OURS, (), MemoryIntake())
        opened.append((context, context.__enter__()))
    assert len({errand.originator for _, errand in opened}) == ERRANDS_MAX
    with pytest.raises(OverCapacity), awaiting.expecting(EASTVALE, OURS, (), MemoryIntake()):
        pass
    with awaiting.expecting(NORTHMOOR, OURS, (), MemoryIntake()):
        pass
    for context, _ in opened:
        context.__exit__(None, None, None)
    with awaiting.expecting(EASTVALE, OURS, (), MemoryIntake()) as again:
        assert again.originator not in {errand.originator for _, errand in opened}
