"""What lookups change in a region: superseded numbers, links and former surnames; and nothing, when they fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.lookups.fhir import NHS_NUMBER_SYSTEM, FhirServer
from gateway.lookups.pds import PdsLookup
from gateway.lookups.pixm import PixmLookup
from gateway.model.errors import AuditUnavailable, Denied, InvalidRequest, NotFound
from gateway.model.imaging import ISSUER_OF_PATIENT_ID, PATIENT_ID, Key, Level, Matches, Query
from gateway.model.seams import PatientLookup, Trace, TraceState
from gateway.model.settings import IdentitySettings
from gateway.sharing.directory import PatientIdAsked
from gateway.sharing.identity.translation import nhs
from policy.parties import PatientId, PrincipalKind, PurposeOfUse, TrustId
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.lookups.fhir_stub import running_stub
from tests.region import Region
from tests.sharing.conftest import store
from tests.sharing.rows import ANNE, BEN, asking_for, asking_for_study, row, values

__all__ = ["store"]

THERE, HERE = PatientId("RZ2", "0001234"), PatientId("RZ1-PAS", "H-77")
SURVIVES = Trace(TraceState.SUPERSEDED, ANNE)
FAILED = Trace(TraceState.FAILED)


class Lookup:
    """A lookup that says what a test lets it say, and counts how often it was asked."""

    def __init__(self, name: str = "pds") -> None:
        self.name = name
        self.says: dict[PatientId, Trace] = {}
        self.asked: list[PatientId] = []
        self.clock: FakeClock | None = None
        self.takes_s = 0.0

    async def trace(self, identifier: PatientId, request_id: str) -> Trace:
        """See `PatientLookup`."""
        self.asked.append(identifier)
        if self.clock is not None and self.takes_s:
            await self.clock.sleep(self.takes_s)
        return self.says.get(identifier, Trace(TraceState.UNKNOWN))

    async def close(self) -> None:
        """See `PatientLookup`."""


@pytest.fixture
def lookup() -> Lookup:
    """A lookup that knows nobody yet."""
    return Lookup()


@pytest.fixture
async def region(store: SqlStore, clock: FakeClock, lookup: Lookup) -> AsyncIterator[Region]:
    """Anne in RZ1's care; a study under her number at RZ3, one under a number that she had (Ben's) at RZ2."""
    yield await described(Region(store, clock).looking_up(lookup))


async def described(region: Region) -> Region:
    """The trusts and their studies."""
    region.trust("RZ1").filing_under("RZ1-PAS")
    region.trust("RZ2").filing_under("RZ2", asked_by=PatientIdAsked.BOTH)
    region.trust("RZ2").with_row(row("1.2.2", BEN), row("1.2.4", None, patient_id=THERE.value))
    region.trust("RZ3").with_study("1.2.3", of=ANNE)
    await region.refer(ANNE, to="RZ1")
    return region


def studies(matches: Matches) -> list[str]:
    """The study UIDs shown."""
    return [match.study_uid for match in matches.rows]


def by_own_number() -> Query:
    """A question by the number that Anne has at RZ1."""
    return Query(Level.STUDY, (Key((PATIENT_ID,), "LO", (HERE.value,)),))


# --- superseded numbers (C2) ---


async def test_a_number_that_pds_superseded_finds_the_survivors_imaging(region: Region, lookup: Lookup) -> None:
    lookup.says[nhs(BEN)] = SURVIVES
    assert studies(await region.find(asking_for(BEN))) == ["1.2.2", "1.2.3"]
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.2", "1.2.3"]


async def test_an_opt_out_of_the_survivor_holds_from_that_question_on(region: Region, lookup: Lookup) -> None:
    await region.refer(BEN, to="RZ1")
    await region.opt_out(ANNE)
    lookup.says[nhs(BEN)] = SURVIVES
    assert (await region.find(asking_for(BEN))).rows == ()
    assert not region.trust("RZ2").pacs.requests


async def test_an_opt_out_of_the_superseded_number_holds_too(region: Region, lookup: Lookup) -> None:
    await region.opt_out(BEN)
    lookup.says[nhs(BEN)] = SURVIVES
    await region.find(asking_for(BEN))
    assert (await region.find(asking_for(ANNE))).rows == ()


async def test_what_pds_superseded_stands_in_the_audit_by_its_name(region: Region, lookup: Lookup) -> None:
    lookup.says[nhs(BEN)] = SURVIVES
    await region.find(asking_for(BEN))
    acts = [str(record["body"]) for record in await region.records("register-change")]
    assert any("'act': 'merge'" in act and "'by': 'pds'" in act for act in acts)


async def test_two_whom_staff_has_parted_are_not_joined_again(region: Region, lookup: Lookup) -> None:
    merge = await region.supersede(BEN, by=ANNE)
    await region.part(merge)
    lookup.says[nhs(BEN)] = SURVIVES
    await region.refer(BEN, to="RZ1")
    assert studies(await region.find(asking_for(BEN))) == ["1.2.2"]


async def test_one_persons_claim_is_confirmed_by_pds(region: Region, lookup: Lookup) -> None:
    await region.claim_one(BEN, survivor=ANNE)
    lookup.says[nhs(BEN)] = SURVIVES
    assert studies(await region.find(asking_for(BEN))) == ["1.2.2", "1.2.3"]


async def test_an_invalidated_number_needs_further_evidence(region: Region, lookup: Lookup) -> None:
    lookup.says[nhs(ANNE)] = Trace(TraceState.INVALIDATED)
    with pytest.raises(InvalidRequest, match="birth date"):
        await region.find(asking_for(ANNE))
    assert studies(await region.find(asking_for(ANNE, born="19580314"))) == ["1.2.3"]


# --- former surnames (IDN-03) ---


@pytest.mark.parametrize(("surnames", "flagged"), [((), 2), (("Smith", "Jones"), 0), (("Smith", "O'Jones"), 2)])
async def test_a_surname_that_she_had_before_is_no_doubt(
    region: Region, lookup: Lookup, surnames: tuple[str, ...], flagged: int
) -> None:
    region.trust("RZ3").with_row(row("1.2.5", ANNE, name="JONES^ANNE"))
    lookup.says[nhs(ANNE)] = Trace(TraceState.FOUND, ANNE, frozenset(surnames))
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3", "1.2.5"]
    assert [item.kind for item in await region.quality()] == ["demographics-doubtful"] * flagged


async def test_a_surname_that_she_had_before_explains_another_given_name_no_better(
    region: Region, lookup: Lookup
) -> None:
    region.trust("RZ3").with_row(row("1.2.5", ANNE, name="JONES^MARY", born="19700102"))
    lookup.says[nhs(ANNE)] = Trace(TraceState.FOUND, ANNE, frozenset({"Smith", "Jones"}))
    found = await region.find(asking_for(ANNE, born="19580314"))
    assert studies(found) == ["1.2.3"]


# --- links of hospitals' numbers ---


async def test_a_link_that_only_a_lookup_knows_brings_an_archives_own_files(region: Region, lookup: Lookup) -> None:
    lookup.says[nhs(ANNE)] = Trace(TraceState.FOUND, ANNE, local=(THERE,))
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3", "1.2.4"]
    assert studies(await region.find(asking_for_study("1.2.4"))) == ["1.2.4"]


async def test_a_lookup_translates_a_callers_own_number_and_is_not_taken_for_its_word(
    region: Region, lookup: Lookup
) -> None:
    lookup.says[HERE] = Trace(TraceState.FOUND, ANNE, local=(HERE,))
    [match] = (await region.find(by_own_number())).rows
    assert values(match.attributes, PATIENT_ID) == [ANNE.digits]
    assert values(match.attributes, ISSUER_OF_PATIENT_ID) == ["NHS"]


async def test_the_register_stands_where_a_lookup_disagrees(region: Region, lookup: Lookup) -> None:
    await region.link(ANNE, "RZ1-PAS", HERE.value)
    lookup.says[HERE] = Trace(TraceState.FOUND, BEN, local=(HERE,))
    assert studies(await region.find(by_own_number())) == ["1.2.3"]


async def test_lookups_that_disagree_are_not_believed(store: SqlStore, clock: FakeClock) -> None:
    one, other = Lookup("pixm"), Lookup("second-pixm")
    one.says[HERE] = Trace(TraceState.FOUND, ANNE, local=(HERE,))
    other.says[HERE] = Trace(TraceState.FOUND, BEN, local=(HERE,))
    region = await described(Region(store, clock).looking_up(one, other))
    with pytest.raises(InvalidRequest, match="not linked"):
        await region.find(by_own_number())


# --- failures, limits and age ---


async def test_a_lookup_that_fails_changes_nothing_and_is_left_alone_for_a_while(
    region: Region, lookup: Lookup, clock: FakeClock
) -> None:
    lookup.says[nhs(ANNE)] = FAILED
    for _ in range(3):
        assert studies(await region.find(asking_for(ANNE))) == ["1.2.3"]
    assert lookup.asked == [nhs(ANNE)]
    await clock.advance(IdentitySettings().lookup_pause_s)
    lookup.says[nhs(ANNE)] = Trace(TraceState.FOUND, ANNE, local=(THERE,))
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3", "1.2.4"]


async def test_a_lookup_that_takes_too_long_is_not_waited_for(region: Region, lookup: Lookup, clock: FakeClock) -> None:
    lookup.clock, lookup.takes_s = clock, 60
    began = clock.monotonic()
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3"]
    assert clock.monotonic() - began < 3


async def test_an_answer_is_asked_for_once_in_its_age(region: Region, lookup: Lookup, clock: FakeClock) -> None:
    lookup.says[nhs(ANNE)] = Trace(TraceState.FOUND, ANNE)
    for _ in range(3):
        await region.find(asking_for(ANNE))
    assert lookup.asked == [nhs(ANNE)]
    await clock.advance(IdentitySettings().lookup_max_age_minutes * 60)
    await region.find(asking_for(ANNE))
    assert lookup.asked == [nhs(ANNE), nhs(ANNE)]


async def test_so_many_answers_are_kept_and_no_more(store: SqlStore, clock: FakeClock, lookup: Lookup) -> None:
    region = Region(store, clock, identity=IdentitySettings(lookups_kept_max=1)).looking_up(lookup)
    await described(region)
    await region.refer(BEN, to="RZ1")
    for patient in (ANNE, BEN, ANNE):
        await region.find(asking_for(patient))
    assert lookup.asked == [nhs(ANNE), nhs(BEN), nhs(ANNE)]


async def test_a_patient_who_opted_out_is_looked_up_like_any_other(region: Region, lookup: Lookup) -> None:
    await region.opt_out(ANNE)
    await region.find(asking_for(ANNE))
    assert lookup.asked == [nhs(ANNE)]


# --- behind the record ---


async def test_nobody_is_looked_up_before_the_question_is_on_record(region: Region, lookup: Lookup) -> None:
    region.store.failing_appends = range(1, 3)
    await region.prepare()
    with pytest.raises(AuditUnavailable):
        await region.find(asking_for(ANNE))
    with pytest.raises(AuditUnavailable):
        await region.find(by_own_number())
    assert lookup.asked == []


async def test_who_may_ask_for_nobody_has_nobody_looked_up(region: Region, lookup: Lookup) -> None:
    for caller in (
        region.caller("RZ1", purpose=PurposeOfUse.HRESCH),
        region.caller("RZ1", kind=PrincipalKind.OFFICER),
        region.caller("RZ9"),
    ):
        for query in (asking_for(ANNE), asking_for(BEN)):
            with pytest.raises(Denied) as denied:
                await region.find(query, by=caller)
            assert "relationship" not in str(denied.value)
    assert lookup.asked == []
    assert len(await region.records("query-attempt")) == len(await region.records("query-outcome")) == 6


async def test_a_question_that_passed_two_gateways_or_names_no_trust_here_has_nobody_looked_up(
    region: Region, lookup: Lookup
) -> None:
    with pytest.raises(InvalidRequest):
        await region.find(asking_for(ANNE), by=region.caller("RZ1", hops=2))
    with pytest.raises(NotFound):
        await region.find(replace(asking_for(ANNE), only_trust=TrustId("XYZ")))
    assert lookup.asked == []


async def test_a_question_whose_patient_proves_another_one_stands_twice_in_the_audit(
    region: Region, lookup: Lookup
) -> None:
    lookup.says[nhs(BEN)] = SURVIVES
    await region.find(asking_for(BEN))
    first, second = await bodies(region, "query-attempt")
    assert [patient_of(body) for body in (first, second)] == [BEN.digits, ANNE.digits]
    assert second["first_asked"] == first["decision"]["decision_id"] and "first_asked" not in first
    [outcome] = await bodies(region, "query-outcome")
    assert outcome["attempt"] == second["decision"]["decision_id"]


async def test_a_number_of_the_callers_own_stands_alone_in_the_first_record(region: Region, lookup: Lookup) -> None:
    lookup.says[HERE] = Trace(TraceState.FOUND, ANNE, local=(HERE,))
    await region.find(by_own_number())
    first, second = await bodies(region, "query-attempt")
    assert patient_of(first) is None and HERE.value in str(first["question"])
    assert patient_of(second) == ANNE.digits


async def test_a_number_that_leads_to_nobody_is_refused_behind_its_record(region: Region, lookup: Lookup) -> None:
    with pytest.raises(InvalidRequest, match="not linked"):
        await region.find(by_own_number())
    [outcome] = await bodies(region, "query-outcome")
    assert outcome["result"] == "InvalidRequest"


async def test_who_is_known_by_now_is_asked_for_in_one_record(region: Region, lookup: Lookup) -> None:
    lookup.says[nhs(ANNE)] = Trace(TraceState.FOUND, ANNE)
    await region.find(asking_for(ANNE))
    await region.find(asking_for(ANNE))
    assert len(await region.records("query-attempt")) == 2


async def bodies(region: Region, event: str) -> list[Any]:
    """What the audit's records of this kind say, oldest first."""
    return [record["body"] for record in await region.records(event)]


def patient_of(body: dict[str, Any]) -> object:
    """The patient of an attempt's decision."""
    return body["access"]["resource"]["patient"]


# --- over HTTP, as configured ---


async def test_pds_and_pixm_over_http_bring_what_the_registers_did_not_know(store: SqlStore, clock: FakeClock) -> None:
    async with running_stub() as stub:
        stub.patient(BEN, "Smith", survivor=ANNE)
        stub.patient(ANNE, "Smith")
        stub.link("https://one.example", HERE.value, (NHS_NUMBER_SYSTEM, BEN.digits))
        stub.link(NHS_NUMBER_SYSTEM, BEN.digits, ("https://two.example", THERE.value))
        systems = {"RZ1-PAS": "https://one.example", "RZ2": "https://two.example"}
        lookups: list[PatientLookup] = [PdsLookup(FhirServer(stub.url)), PixmLookup(FhirServer(stub.url), systems)]
        region = await described(Region(store, clock).looking_up(*lookups))
        assert region.tracing is not None
        try:
            for identifier in (HERE, nhs(BEN)):
                await region.tracing.trace(identifier, "r")
            assert studies(await region.find(by_own_number())) == ["1.2.2", "1.2.3", "1.2.4"]
        finally:
            await region.tracing.close()
