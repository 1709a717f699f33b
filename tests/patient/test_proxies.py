"""Who looks for somebody else, and tokens that come without a session: judged at each view (domain.md A7, SAF-65)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from joserfc.errors import SecurityWarning

from gateway.model.reporting.reading import Identity, Looking
from gateway.web.patient.refusals import may_look
from policy.parties import NhsNumber
from tests.clock import NOON, FakeClock
from tests.patient.conftest import HTML
from tests.patient.memory_reading import CHEST, MemoryAudit, MemoryReading
from tests.patient.provider import ANNE, CLIENT_ID, Claims, NhsLogin, running
from tests.patient.rig import BEARER_AUDIENCE, Rig, new_client_key, rigged, served

CHILD: Claims = {
    **ANNE,
    "nhs_number": "9990000034",
    "family_name": "Cole",
    "act": {"sub": "dora-at-provider", "nhs_number": "9990000018"},
}


def born(years: int, before: datetime) -> str:
    """Date of birth of whoever has this birthday on the London day of `before`."""
    return before.date().replace(year=before.year - years).isoformat()


@pytest.mark.parametrize(
    ("birth_date", "ends"),
    [
        (date(2010, 6, 1), datetime(2023, 5, 31, 23, tzinfo=UTC)),  # British Summer Time
        (date(2010, 12, 1), datetime(2023, 12, 1, tzinfo=UTC)),
        (date(2008, 2, 29), datetime(2021, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_proxy_may_look_until_midnight_in_london_before_the_13th_birthday(birth_date: date, ends: datetime) -> None:
    child = Identity(NhsNumber("9990000034"), "Cole", birth_date)
    by_proxy, by_themself = Looking(child, "r", "9990000018"), Looking(child, "r")
    assert may_look(by_proxy, ends - timedelta(seconds=1))
    assert not may_look(by_proxy, ends)
    assert may_look(by_themself, ends - timedelta(seconds=1)) and may_look(by_themself, ends)


@pytest.mark.parametrize("years", [13, 14, 16])
async def test_a_view_is_judged_when_it_is_made_and_not_when_the_proxy_signed_in(tmp_path: Path, years: int) -> None:
    """One second before midnight, and at 00:00 of the birthday: only below 13 is anything seen."""
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    async with rigged(tmp_path) as rig:
        rig.reading.give("9990000034", CHEST, HTML)
        rig.provider.accounts["dora"] = {**CHILD, "birthdate": born(years, midnight)}
        await rig.clock.advance((midnight - NOON).total_seconds() - 1)
        async with rig.signed_in("dora") as browser:
            before = [await browser.get(path) for path in ("/reports", "/reports/chest-1", "/reports/chest-1.pdf")]
            await rig.clock.advance(1)
            after = [await browser.get(path) for path in ("/reports", "/reports/chest-1", "/reports/chest-1.pdf")]
        expected = [200, 200, 200] if years == 13 else [200, 404, 404]
        assert [each.status for each in before] == expected and ("chest" in before[0].text) is (years == 13)
        assert [each.status for each in after] == [200, 404, 404]
        assert "There are no reports to show." in after[0].text and "chest" not in after[0].text
        refused = 3 if years == 13 else 6
        # One for the list that stands at the end of the sign-in.
        assert rig.audit.refusals == ["proxy"] * (refused + (years != 13))
        assert {(e.body["patient"], e.body["by"]) for e in rig.audit.entries} == {("9990000034", "9990000018")}


async def test_a_proxy_who_may_not_look_is_answered_as_if_there_were_no_report(rig: Rig) -> None:
    rig.provider.accounts["dora"] = {**CHILD, "birthdate": "2011-05-05"}
    async with rig.signed_in("dora") as browser:
        without = [await browser.get(path) for path in ("/reports/chest-1", "/reports/none")]
        rig.reading.give("9990000034", CHEST, HTML)
        with_report = [await browser.get(path) for path in ("/reports/chest-1", "/reports/none")]
        lists = await browser.get("/reports")
    assert len({(each.status, each.text) for each in (*without, *with_report)}) == 1
    assert "There are no reports to show." in lists.text and rig.reading.accounts == []


async def test_a_proxy_is_told_when_their_access_ends_and_chooses_nothing(rig: Rig) -> None:
    rig.provider.accounts["dora"] = {**CHILD, "birthdate": "2020-05-05"}
    async with rig.signed_in("dora") as browser:
        page = await browser.get("/reports")
        assert "ends on their 13th birthday" in page.text and "/choices" not in page.text
        assert (await browser.get("/choices")).status == 404
        assert (await browser.post("/choices", {"form": page.form_token, "not-now": "yes"})).status == 404
    assert rig.reading.chosen == {} and rig.audit.refusals == ["choice-not-theirs"] * 2


async def test_an_actor_is_read_from_either_place(rig: Rig) -> None:
    rig.reading.give("9990000034", CHEST, HTML)
    for actor in ({"sub": "9990000018"}, {"sub": "any", "nhs_number": "999 000 0018"}):
        rig.provider.accounts["dora"] = {**CHILD, "birthdate": "2012-05-05", "act": actor}
        async with rig.signed_in("dora") as browser:
            assert (await browser.get("/reports/chest-1")).status == 404
    assert {entry.body["by"] for entry in rig.audit.entries} == {"9990000018"}


async def test_a_bearer_token_of_delegated_access_reads_and_changes_nothing(rig: Rig) -> None:
    rig.reading.give("9990000034", CHEST, HTML)
    rig.provider.accounts["dora"] = {**CHILD, "birthdate": "2020-05-05"}
    shown = f"Bearer {rig.provider.token(rig.provider.claims('dora', BEARER_AUDIENCE))}"
    async with rig.browser() as browser:
        listed = await browser.get("/reports", Authorization=shown)
        assert "X-ray of the chest" in listed.text and "Sign out" not in listed.text and listed.cookies == ()
        assert (await browser.get("/reports/chest-1.txt", Authorization=shown)).status == 200
        assert (await browser.get("/choices", Authorization=shown)).status == 404
        assert (await browser.post("/choices", {"not-now": "yes"}, Authorization=shown)).status == 401
        assert (await browser.post("/sign-out", {}, Authorization=shown)).status == 401
        assert (await browser.get("/reports")).url.path == "/sign-in"


@pytest.mark.parametrize(
    ("refusal", "more"),
    [
        ("audience", {"aud": CLIENT_ID}),
        ("expired", {"exp": int(NOON.timestamp()) - 30}),
        ("too-old", {"iat": int(NOON.timestamp()) - 3_631}),
        ("issuer", {"iss": "https://staff.example"}),
        ("staff", {"nhsid_nrbac_roles": [{"role_name": "Clinical"}]}),
        ("not-proven", {"identity_proofing_level": "P5"}),
        ("nobody", {"nhs_number": None}),
    ],
)
async def test_a_bearer_token_that_is_not_for_this_is_refused(rig: Rig, refusal: str, more: Claims) -> None:
    token = rig.provider.token(rig.provider.claims("anne", BEARER_AUDIENCE, **more))
    async with rig.browser() as browser:
        answers = [
            await browser.get(path, Authorization=f"Bearer {token}") for path in ("/reports", "/reports/chest-1")
        ]
    assert [each.status for each in answers] == [401, 401]
    assert rig.audit.refusals == [refusal] * 2
    assert not any("chest" in each.text for each in answers)


async def test_a_bearer_token_wins_over_no_session_and_a_bad_one_is_not_made_good_by_a_session(rig: Rig) -> None:
    async with rig.signed_in() as browser:
        for shown in ("Bearer a.b.c", "Bearer", "Basic YTpi", ""):
            assert (await browser.get("/reports/chest-1", Authorization=shown)).status == 401, shown


async def test_without_an_audience_no_bearer_token_is_taken(tmp_path: Path) -> None:
    async with rigged(tmp_path, bearer_audience="") as rig:
        token = rig.provider.token(rig.provider.claims("anne", ""))
        async with rig.browser() as browser:
            assert (await browser.get("/reports", Authorization=f"Bearer {token}")).status == 401
    assert rig.audit.refusals == ["bearer-not-taken"]


async def test_rubbish_from_strangers_does_not_fill_the_audit(rig: Rig) -> None:
    async with rig.browser() as browser:
        for _ in range(65):
            await browser.get("/reports", Authorization="Bearer a.b.c")
        assert len(rig.audit.entries) == 60
        await rig.clock.advance(60)
        await browser.get("/reports", Authorization="Bearer a.b.c")
    assert [entry.body.get("left_out") for entry in rig.audit.entries[-2:]] == [None, 5]


async def test_a_new_key_of_the_provider_is_found_at_once_and_invented_ones_make_no_flood(rig: Rig) -> None:
    claims = rig.provider.claims("anne", BEARER_AUDIENCE)
    good, invented = rig.provider.token(claims), rig.provider.token(claims, kid="invented")
    async with rig.browser() as browser:
        assert (await browser.get("/reports", Authorization=f"Bearer {good}")).status == 200
        await rig.clock.advance(61)
        for _ in range(5):
            assert (await browser.get("/reports", Authorization=f"Bearer {invented}")).status == 401
        assert rig.provider.keys_asked == 2
        await rig.clock.advance(61)
        rig.provider.key = type(rig.provider.key).generate_key(2048, {"kid": "key-2"})
        rotated = rig.provider.token(claims, kid="key-2")
        assert (await browser.get("/reports", Authorization=f"Bearer {rotated}")).status == 200
        assert (await browser.get("/reports", Authorization=f"Bearer {good}")).status == 401
        assert rig.provider.keys_asked == 3


async def test_known_keys_serve_on_while_the_provider_is_down_and_not_for_ever(rig: Rig) -> None:
    async with rig.browser() as browser:

        async def status() -> int:
            token = rig.provider.token(rig.provider.claims("anne", BEARER_AUDIENCE))
            return (await browser.get("/reports", Authorization=f"Bearer {token}")).status

        assert await status() == 200
        rig.provider.is_down = True
        await rig.clock.advance(23 * 3_600)
        assert await status() == 200
        await rig.clock.advance(3_600)
        assert await status() == 503
        rig.provider.is_down = False
        await rig.clock.advance(61)
        assert await status() == 200


async def test_a_short_key_of_the_provider_signs_nothing(tmp_path: Path) -> None:
    clock, reading, audit = FakeClock(), MemoryReading(), MemoryAudit()
    client_key = new_client_key(tmp_path)
    with pytest.warns(SecurityWarning):
        short = type(client_key).generate_key(1024, {"kid": "key-1"})
    async with (
        running(NhsLogin(clock, client_key, key=short)) as provider,
        served(tmp_path, clock, provider.url, reading, audit) as (url, authority, behind),
    ):
        rig = Rig(clock, provider, reading, audit, url, authority, behind)
        token = provider.token(provider.claims("anne", BEARER_AUDIENCE))
        async with rig.browser() as browser:
            answer = await browser.get("/reports", Authorization=f"Bearer {token}")
    assert answer.status == 503 and reading.accounts == []
