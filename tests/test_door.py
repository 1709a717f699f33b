"""The one door: what is not recorded is not asked, what is not permitted is not asked, and neither changes a register.

Every core call is tried behind a failing audit, a denying rule and an unreadable register (SAF-01, SAF-30, G13).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.model.errors import AuditUnavailable, Denied, RegisterUnavailable, ServiceFault, StoreUnavailable
from gateway.model.imaging import ACCESSION_NUMBER, Key, Level, Query
from policy.parties import Caller, PurposeOfUse
from storage.engines import DatabaseSettings
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, asking_for, asking_for_study

QUESTIONS = {
    "by patient": asking_for(ANNE),
    "by study": asking_for_study("1.2.3"),
    "by accession number": Query(Level.STUDY, (Key((ACCESSION_NUMBER,), "SH", ("A123",)),)),
    "for series": asking_for(ANNE, level=Level.SERIES),
    "for images": asking_for_study("1.2.3", level=Level.IMAGE),
    "for the patient": asking_for(ANNE, level=Level.PATIENT),
}
EVERY_QUESTION = pytest.mark.parametrize("query", QUESTIONS.values(), ids=QUESTIONS.keys())
OF_A_PATIENT = pytest.mark.parametrize(
    "query",
    [query for name, query in QUESTIONS.items() if "patient" in name or "series" in name],
    ids=[name for name in QUESTIONS if "patient" in name or "series" in name],
)
TABLES = [
    "patient_identifier",
    "patient_merge",
    "relationship",
    "optout_choice",
    "agreement_clause",
    "sensitive_label",
    "access_grant",
]


@pytest.fixture
async def region(sqlite_url: str) -> AsyncIterator[Region]:
    """Anne, referred to RZ1, has one study at both RZ2 and RZ3; Ben has one too, and is in nobody's care."""
    clock = FakeClock()
    async with SqlStore(DatabaseSettings(sqlite_url), node="north", clock=clock) as store:
        region = Region(store, clock)
        region.trust("RZ1")
        for code in ("RZ2", "RZ3"):
            region.trust(code).with_study(
                "1.2.3", of=ANNE, series="1.2.3.1", image="1.2.3.1.1", accession="A123", modalities="CT", modality="CT"
            )
        region.trust("RZ3").with_study("1.2.4", of=BEN, name="BAKER^BEN", born="19700102")
        await region.prepare()
        await region.refer(ANNE, to="RZ1")
        yield region


def asked(region: Region) -> bool:
    """Whether any archive was asked anything."""
    return any(region.trust(code).pacs.requests for code in ("RZ2", "RZ3"))


async def registers(region: Region) -> tuple[int, int]:
    """What a register write would change."""
    return await region.sql.register_version(), len(await region.quality())


@EVERY_QUESTION
async def test_the_door_opens_to_whom_it_should(region: Region, query: Query) -> None:
    """Without this the tests below would prove nothing."""
    assert (await region.find(query)).rows
    assert asked(region)


@EVERY_QUESTION
async def test_what_cannot_be_recorded_is_not_asked(region: Region, query: Query) -> None:
    before = await registers(region)
    region.store.failing_appends = range(1, 100)
    with pytest.raises(AuditUnavailable):
        await region.find(query)
    assert not asked(region)
    assert await registers(region) == before


@EVERY_QUESTION
@pytest.mark.parametrize("error", [AuditUnavailable("full"), StoreUnavailable("gone")], ids=["audit", "database"])
async def test_nothing_is_disclosed_whichever_record_fails(region: Region, query: Query, error: ServiceFault) -> None:
    region.store.failing_error = error
    assert await appends_needed(region, query, region.caller("RZ1")) == 2  # the attempt and the outcome


async def test_nothing_is_disclosed_under_a_grant_whichever_record_fails(region: Region) -> None:
    await region.grant(BEN, to="RZ1")
    needed = await appends_needed(region, asking_for(BEN), region.caller("RZ1", purpose=PurposeOfUse.BTG))
    assert needed >= 3  # the attempt, an alert at least, the outcome


async def appends_needed(region: Region, query: Query, caller: Caller) -> int:
    """Let the first, the second, ... record fail until the question needs no further one: how many it needed."""
    for failing in range(1, 20):
        region.store.appends, region.store.failing_appends = 0, range(failing, failing + 1)
        try:
            matches = await region.find(query, by=caller)
        except AuditUnavailable:
            continue
        assert matches.rows
        return failing - 1
    raise AssertionError("the question never came through")


@OF_A_PATIENT
async def test_what_is_refused_in_words_is_not_asked(region: Region, query: Query) -> None:
    before = await registers(region)
    with pytest.raises(Denied):
        await region.find(query, by="RZ2")  # Anne is not in its care
    assert not asked(region)
    assert await registers(region) == before


@OF_A_PATIENT
async def test_what_is_hidden_is_not_asked(region: Region, query: Query) -> None:
    await region.opt_out(ANNE)
    before = await registers(region)
    assert (await region.find(query)).rows == ()
    assert not asked(region)
    assert await registers(region) == before


@EVERY_QUESTION
@pytest.mark.parametrize("purpose", [PurposeOfUse.HRESCH, PurposeOfUse.TRAIN])
async def test_a_purpose_that_is_not_direct_care_reaches_nobody(
    region: Region, query: Query, purpose: PurposeOfUse
) -> None:
    with pytest.raises(Denied):
        await region.find(query, by=region.caller("RZ1", purpose=purpose))
    assert not asked(region)


@OF_A_PATIENT
@pytest.mark.parametrize("table", TABLES)
async def test_while_a_register_cannot_be_read_nobody_is_asked(region: Region, query: Query, table: str) -> None:
    await region.lose(table)
    with pytest.raises(RegisterUnavailable):
        await region.find(query)
    assert not asked(region)


@EVERY_QUESTION
async def test_while_agreements_cannot_be_read_nobody_is_asked(region: Region, query: Query) -> None:
    await region.lose("agreement_clause")
    with pytest.raises(RegisterUnavailable):
        await region.find(query)
    assert not asked(region)


@EVERY_QUESTION
async def test_without_a_database_nobody_is_asked(region: Region, query: Query) -> None:
    region.store.is_down = True
    with pytest.raises(RegisterUnavailable):
        await region.find(query)
    assert not asked(region)
