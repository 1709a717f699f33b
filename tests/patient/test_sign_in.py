"""Sign in, look, choose, sign out: what a patient's browser is answered on the way, and what strangers are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import ECKey, RSAKey

from gateway.model.reporting.reading import Choices, LetterOffer
from policy.settings import Mode
from tests.patient.conftest import HTML
from tests.patient.memory_reading import CHEST, PDF
from tests.patient.provider import ANNE, CLIENT_ID, Claims
from tests.patient.rig import Rig, rigged

BERT: Claims = {**ANNE, "sub": "bert-at-provider", "nhs_number": "9990000026", "family_name": "Bell"}
Forge = Callable[[Claims], str]


async def test_a_patient_signs_in_and_sees_their_report_in_three_forms(rig: Rig) -> None:
    async with rig.signed_in() as browser:
        assert '<a href="/sign-in">' in (await browser.get("/")).text
        listed = await browser.get("/reports")
        page, text, pdf = [await browser.get(f"/reports/chest-1{form}") for form in ("", ".txt", ".pdf")]
    assert "X-ray of the chest" in listed.text and "Respiratory clinic, 01632 960111" in listed.text
    assert "signed out after 15 minutes without use" in listed.text
    assert "Clear lungs." in page.text and page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert '<a href="/reports/chest-1.pdf">' in page.text and "sha256-" in page.headers["Content-Security-Policy"]
    assert text.text == "plain text" and text.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert pdf.text == PDF.decode() and pdf.headers["Content-Type"] == "application/pdf"
    assert rig.reading.accounts == ["9990000018"] and rig.audit.refusals == []


async def test_nothing_of_a_patient_is_kept_by_a_cache_framed_or_run(rig: Rig) -> None:
    async with rig.signed_in() as browser:
        answers = [await browser.get(path) for path in ("/reports", "/reports/chest-1", "/choices", "/reports/none")]
        answers += [await browser.get(f"/reports/chest-1.{form}") for form in ("txt", "pdf")]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "script-src" not in policy


async def test_who_is_not_signed_in_is_told_the_same_of_every_address(rig: Rig) -> None:
    async with rig.browser() as browser:
        answers = [
            await browser.get(path, follow=False)
            for path in (
                "/reports",
                "/reports/chest-1",
                "/reports/none",
                "/reports/chest-1.pdf",
                "/reports/a/b",
                "/choices",
            )
        ]
    assert {(each.status, each.headers["Location"], each.text) for each in answers} == {(303, "/sign-in", "")}


async def test_the_session_cookie_is_bound_to_this_host_and_hidden_from_scripts(rig: Rig) -> None:
    async with rig.browser() as browser:
        back = await browser.return_address()
        answer = await browser.get(back, follow=False)
    (cookie,) = [each for each in answer.cookies if each.startswith("__Host-patient=")]
    assert {"HttpOnly", "Path=/", "SameSite=Lax", "Secure"} <= set(cookie.split("; ")) and "Domain" not in cookie


async def test_a_session_ends_when_idle_and_at_its_whole_time(rig: Rig) -> None:
    async with rig.signed_in() as browser:
        await rig.clock.advance(14 * 60)
        assert (await browser.get("/reports")).url.path == "/reports"
        await rig.clock.advance(15 * 60)
        assert (await browser.get("/reports")).url.path == "/sign-in"
    async with rig.signed_in() as browser:
        for _ in range(5):
            await rig.clock.advance(11 * 60 + 59)
            assert (await browser.get("/reports")).url.path == "/reports"
        await rig.clock.advance(10)
        assert (await browser.get("/reports")).url.path == "/sign-in"


async def test_who_signs_out_is_signed_out_wherever_the_cookie_is_kept(rig: Rig) -> None:
    async with rig.signed_in() as browser:
        (cookie,) = [each for each in browser.session.cookie_jar if each.key == "__Host-patient"]
        answer = await browser.post("/sign-out", {"form": (await browser.get("/reports")).form_token})
        assert "You are signed out" in answer.text and '"cache"' in answer.headers["Clear-Site-Data"]
    async with rig.browser() as thief:
        assert (await thief.get("/reports", Cookie=f"__Host-patient={cookie.value}")).url.path == "/sign-in"


async def test_signing_in_makes_a_new_session_and_ends_the_one_before(rig: Rig) -> None:
    async with rig.signed_in() as browser, rig.browser() as thief:
        (before,) = [each.value for each in browser.session.cookie_jar if each.key == "__Host-patient"]
        await browser.sign_in()
        (after,) = [each.value for each in browser.session.cookie_jar if each.key == "__Host-patient"]
        assert after != before
        assert (await thief.get("/reports", Cookie=f"__Host-patient={before}")).url.path == "/sign-in"
        assert (await browser.get("/reports")).url.path == "/reports"


async def test_a_session_value_that_was_planted_is_not_taken_over(rig: Rig) -> None:
    async with rig.browser() as browser:
        browser.session.cookie_jar.update_cookies({"__Host-patient": "planted"})
        await browser.sign_in()
    async with rig.browser() as attacker:
        assert (await attacker.get("/reports", Cookie="__Host-patient=planted")).url.path == "/sign-in"


async def test_so_many_sessions_and_not_one_more(tmp_path: Path) -> None:
    async with rigged(tmp_path, sessions_max=1) as rig, rig.signed_in():
        async with rig.browser() as another:
            assert (await another.sign_in()).status == 503
        await rig.clock.advance(16 * 60)
        async with rig.signed_in():
            assert len(rig.sessions.kept) == 1


async def test_choices_are_kept_and_a_letter_only_where_it_is_offered(rig: Rig) -> None:
    async with rig.signed_in() as browser:
        token = (await browser.get("/choices")).form_token
        saved = await browser.post("/choices", {"form": token, "not-now": "yes", "letter": "yes"})
        assert "Your choice is saved." in saved.text and saved.text.count(" checked") == 2
        assert rig.reading.chosen["9990000018"] == Choices(not_now=True, letter=True)
        rig.reading.letter = LetterOffer.NOT_OFFERED
        form = await browser.get("/choices")
        assert "by letter" not in form.text
        await browser.post("/choices", {"form": token, "letter": "yes", "large-print": "yes"})
        assert rig.reading.chosen["9990000018"] == Choices(large_print=True)


@pytest.mark.parametrize("path", ["/choices", "/sign-out"])
async def test_a_form_of_another_site_changes_nothing(rig: Rig, path: str) -> None:
    async with rig.signed_in() as browser:
        token = (await browser.get("/choices")).form_token
        own = {"form": token, "not-now": "yes"}
        answers = [
            await browser.post(path, {"not-now": "yes"}),
            await browser.post(path, {**own, "form": token[:-1] + ("A" if token[-1] != "A" else "B")}),
            await browser.post(path, own, Origin="https://evil.example"),
            await browser.post(path, own, Origin="null"),
            await browser.post(path, own, sec_fetch_site="cross-site"),
            await browser.post(path, own, content_type="text/plain"),
            await browser.post(path, {**own, "more": "x" * 5_000}),
        ]
        assert {each.status for each in answers} == {403}
        assert (await browser.get("/reports")).url.path == "/reports"
    assert rig.reading.chosen == {} and rig.audit.refusals == ["form"] * 7


async def test_a_form_token_of_another_session_is_worth_nothing(rig: Rig) -> None:
    rig.provider.accounts["bert"] = dict(BERT)
    async with rig.signed_in() as anne, rig.signed_in("bert") as bert:
        token = (await bert.get("/choices")).form_token
        assert (await anne.post("/choices", {"form": token, "not-now": "yes"})).status == 403
    assert rig.reading.chosen == {}


async def test_no_address_in_a_request_is_gone_on_to(rig: Rig) -> None:
    async with rig.browser() as browser:
        evil = "next=https://evil.example&return=//evil.example&redirect_uri=https://evil.example"
        start = await browser.get(f"/sign-in/start?{evil}", follow=False)
        query = parse_qs(urlsplit(start.headers["Location"]).query)
        assert start.headers["Location"].startswith(rig.provider.url + "/authorize?")
        assert query["redirect_uri"] == [f"{rig.url}/sign-in/return"]
        back = await browser.get(start.headers["Location"], follow=False)
        landed = await browser.get(f"{back.headers['Location']}&{evil}", follow=False)
        assert (landed.status, landed.headers["Location"]) == (303, "/reports")


async def test_a_fault_of_ours_is_a_page_that_tells_nothing_of_it(rig: Rig) -> None:
    async with rig.signed_in() as browser:
        rig.reading.reports = {"9990000018": [(CHEST, {})]}
        answer = await browser.get("/reports/chest-1")
    assert answer.status == 500 and "does not work at the moment" in answer.text and "KeyError" not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_code_is_taken_once(rig: Rig) -> None:
    async with rig.browser() as browser:
        await browser.get("/sign-in/start", follow=False)
        to_provider = await browser.get("/sign-in/start", follow=False)
        (cookie,) = [each.value for each in browser.session.cookie_jar if each.key == "__Host-sign-in"]
        back = (await browser.get(to_provider.headers["Location"], follow=False)).headers["Location"]
        assert (await browser.get(back)).url.path == "/reports"
    async with rig.browser() as thief:
        assert (await thief.get(back)).status == 403
        assert (await thief.get(back, Cookie=f"__Host-sign-in={cookie}")).status == 403
        assert (await thief.get("/reports")).url.path == "/sign-in"
    assert rig.audit.refusals == ["state", "code"]


async def test_a_code_of_another_browser_signs_nobody_in(rig: Rig) -> None:
    async with rig.browser() as attacker, rig.browser() as victim:
        of_attacker = await attacker.return_address()
        await victim.get("/sign-in/start", follow=False)
        assert (await victim.get(of_attacker)).status == 403
        assert (await victim.get("/reports")).url.path == "/sign-in"
        own = parse_qs(urlsplit(await victim.return_address()).query)["state"][0]
        code = parse_qs(urlsplit(of_attacker).query)["code"][0]
        # The state is the victim's own, the code the attacker's: its verifier is another one.
        assert (await victim.get(f"/sign-in/return?code={code}&state={own}")).status == 403
    assert rig.audit.refusals == ["state", "code"]


@pytest.mark.parametrize("change", [lambda _: "", lambda c: c + "x", lambda c: "0" + c, lambda c: "é"])
async def test_a_sign_in_cookie_that_was_touched_is_none(rig: Rig, change: Callable[[str], str]) -> None:
    async with rig.browser() as browser:
        back = await browser.return_address()
        (cookie,) = [each.value for each in browser.session.cookie_jar if each.key == "__Host-sign-in"]
    async with rig.browser() as another:
        assert (await another.get(back, Cookie=f"__Host-sign-in={change(cookie)}")).status == 403
    assert rig.audit.refusals == ["state"]


async def test_a_sign_in_that_took_too_long_is_over(rig: Rig) -> None:
    async with rig.browser() as browser:
        back = await browser.return_address()
        await rig.clock.advance(601)
        assert (await browser.get(back)).status == 403
    assert rig.audit.refusals == ["state"]


async def test_a_patient_who_says_no_at_the_provider_is_not_signed_in(rig: Rig) -> None:
    async with rig.browser() as browser:
        state = parse_qs(urlsplit(await browser.return_address()).query)["state"][0]
        answer = await browser.get(f"/sign-in/return?error=access_denied&state={state}")
    assert answer.status == 403 and "We could not sign you in" in answer.text


async def test_below_p9_nobody_learns_whether_there_is_a_report(rig: Rig) -> None:
    answers = []
    for number in ("9990000018", "9990000026"):
        rig.provider.accounts["low"] = {**ANNE, "nhs_number": number, "identity_proofing_level": "P5"}
        rig.provider.signed_in = "low"
        async with rig.browser() as browser:
            answers.append(await browser.sign_in())
            assert (await browser.get("/reports")).url.path == "/sign-in"
    assert [each.status for each in answers] == [403, 403] and answers[0].text == answers[1].text
    assert "prove who you are" in answers[0].text and "chest" not in answers[0].text
    assert rig.audit.refusals == ["not-proven", "not-proven"] and rig.reading.accounts == []


@pytest.mark.parametrize(
    ("refusal", "lie"),
    [
        ("issuer", lambda claims: {**claims, "iss": "https://evil.example"}),
        ("audience", lambda claims: {**claims, "aud": "another-client"}),
        ("audience", lambda claims: {**claims, "aud": [CLIENT_ID, "another-client"]}),
        ("audience", lambda claims: {**claims, "azp": "another-client"}),
        ("audience", lambda claims: {**claims, "aud": None}),
        ("expired", lambda claims: {**claims, "exp": claims["iat"] - 30}),
        ("not-yet", lambda claims: {**claims, "iat": claims["iat"] + 31}),
        ("not-yet", lambda claims: {**claims, "nbf": claims["iat"] + 31}),
        ("too-old", lambda claims: {**claims, "iat": claims["iat"] - 631}),
        ("malformed", lambda claims: {**claims, "exp": str(claims["exp"])}),
        ("malformed", lambda claims: {**claims, "exp": True}),
        ("malformed", lambda claims: {name: value for name, value in claims.items() if name != "iat"}),
        ("nonce", lambda claims: {**claims, "nonce": "another"}),
        ("nonce", lambda claims: {name: value for name, value in claims.items() if name != "nonce"}),
        ("staff", lambda claims: {**claims, "nhsid_useruid": "555000000001"}),
        ("staff", lambda claims: {**claims, "selected_roleid": "555000000002"}),
        ("not-proven", lambda claims: {**claims, "identity_proofing_level": ["P9"]}),
        ("nobody", lambda claims: {**claims, "nhs_number": "9990000019"}),
        ("nobody", lambda claims: {**claims, "nhs_number": 9990000018}),
        ("nobody", lambda claims: {**claims, "birthdate": "1980-02-30"}),
        ("nobody", lambda claims: {**claims, "birthdate": "1980"}),
        ("nobody", lambda claims: {**claims, "family_name": " "}),
        ("nobody", lambda claims: {**claims, "sub": ""}),
        ("actor", lambda claims: {**claims, "act": "9990000026"}),
        ("actor", lambda claims: {**claims, "act": {"sub": "somebody"}}),
        ("actor", lambda claims: {**claims, "act": {"sub": "9990000026", "act": {"sub": "9990000034"}}}),
        ("actor", lambda claims: {**claims, "act": {"sub": claims["nhs_number"]}}),
        ("actor", lambda claims: {**claims, "act": None}),
    ],
)
async def test_a_signed_token_that_says_something_else_signs_nobody_in(
    rig: Rig, refusal: str, lie: Callable[[Claims], Claims]
) -> None:
    rig.provider.lie = lie
    async with rig.browser() as browser:
        assert (await browser.sign_in()).status == 403
        assert (await browser.get("/reports")).url.path == "/sign-in"
    assert rig.audit.refusals == [refusal] and rig.reading.accounts == []


async def test_times_are_judged_with_half_a_minute_for_two_clocks_and_no_more(rig: Rig) -> None:
    for claim, seconds in (("exp", -29), ("iat", 30), ("nbf", 30), ("iat", -630)):
        rig.provider.lie = lambda claims, claim=claim, seconds=seconds: {  # type: ignore[misc]  # bound at once
            **claims,
            claim: int(rig.clock.now().timestamp()) + seconds,
        }
        async with rig.browser() as browser:
            assert (await browser.sign_in()).status == 200, claim


def _hs_by_public_key(rig: Rig) -> Forge:
    return lambda claims: rig.provider.by_hand(claims, "HS512", rig.provider.key.as_pem(private=False))


def _unsigned(rig: Rig) -> Forge:
    return lambda claims: rig.provider.by_hand(claims, "none")


def _by_another_key(rig: Rig) -> Forge:
    key = RSAKey.generate_key(2048)
    return lambda claims: rig.provider.token(claims, key)


def _by_a_key_from_elsewhere(rig: Rig) -> Forge:
    key = RSAKey.generate_key(2048)
    return lambda claims: rig.provider.token(claims, key, kid="mine", jku="https://evil.example/keys")


def _by_a_weaker_algorithm(rig: Rig) -> Forge:
    return lambda claims: rig.provider.token(claims, algorithm="RS256")


def _by_a_curve(rig: Rig) -> Forge:
    key = ECKey.generate_key("P-521")
    return lambda claims: rig.provider.token(claims, key, "ES512")


def _cut(rig: Rig) -> Forge:
    return lambda claims: rig.provider.token(claims).rpartition(".")[0] + "."


def _swapped(rig: Rig) -> Forge:
    def swap(claims: Claims) -> str:
        head, _, proof = rig.provider.token(claims).split(".")
        body = rig.provider.token({**claims, "nhs_number": "9990000026"}).split(".")[1]
        return f"{head}.{body}.{proof}"

    return swap


@pytest.mark.parametrize(
    ("forger", "refusal"),
    [
        (_unsigned, "algorithm"),
        (_hs_by_public_key, "algorithm"),
        (_by_a_weaker_algorithm, "algorithm"),
        (_by_a_curve, "algorithm"),
        (_by_another_key, "signature"),
        (_by_a_key_from_elsewhere, "key-unknown"),
        (_cut, "signature"),
        (_swapped, "signature"),
        (lambda _: lambda _: "a.b.c", "malformed"),
        (lambda _: lambda _: "x" * 20_000, "malformed"),
        (lambda _: lambda _: "", "malformed"),
    ],
)
async def test_a_forged_token_signs_nobody_in(rig: Rig, forger: Callable[[Rig], Forge], refusal: str) -> None:
    rig.provider.forge = forger(rig)
    async with rig.browser() as browser:
        assert (await browser.sign_in()).status == 403
        assert (await browser.get("/reports")).url.path == "/sign-in"
    assert rig.audit.refusals == [refusal]


async def test_a_token_of_another_patient_shows_their_reports_and_no_one_elses(rig: Rig) -> None:
    rig.provider.accounts["bert"] = dict(BERT)
    async with rig.signed_in("bert") as browser:
        assert "There are no reports to show." in (await browser.get("/reports")).text
        foreign, unknown = [await browser.get(f"/reports/{key}") for key in ("chest-1", "chest-2")]
        forms = [await browser.get(f"/reports/chest-1.{form}") for form in ("pdf", "txt")]
    assert {(each.status, each.text) for each in (foreign, unknown, *forms)} == {(404, foreign.text)}
    assert rig.audit.refusals == ["no-such-report"] * 4
    assert {entry.body["patient"] for entry in rig.audit.entries} == {"9990000026"}


@pytest.mark.parametrize(
    "path",
    ["..%2f..%2fetc%2fpasswd", "%2e%2e/", "chest-1/../chest-1", "chest-1%00", "chest-1.exe", "a" * 129, "<script>", ""],
)
async def test_a_key_leads_nowhere_but_to_a_report(rig: Rig, path: str) -> None:
    async with rig.signed_in() as browser:
        answer = await browser.get(f"/reports/{path}")
    assert answer.status == 404 and "There is nothing to show here" in answer.text and path not in answer.text.split()
    assert rig.audit.refusals == ["no-such-report"]


async def test_a_report_that_was_taken_back_is_its_neutral_text_in_every_form(rig: Rig) -> None:
    words = "This report is being corrected. Please ring the team."
    rig.reading.reports.clear()
    rig.reading.give("9990000018", replace(CHEST, taken_back_words=words), HTML)
    async with rig.signed_in() as browser:
        answers = [await browser.get(f"/reports{path}") for path in ("", "/chest-1", "/chest-1.pdf", "/chest-1.txt")]
    for answer in answers:
        assert words in answer.text and "01632 960111" in answer.text and "Clear lungs" not in answer.text


async def test_what_stands_in_names_stays_text(rig: Rig) -> None:
    rig.reading.reports.clear()
    nasty = replace(CHEST, exam_name="<script>alert(1)</script>", ordering_team='"><img src=x>', note="{{ 7*7 }}")
    rig.reading.give("9990000018", nasty, HTML)
    async with rig.signed_in() as browser:
        page = await browser.get("/reports")
    assert "<script" not in page.text and "<img" not in page.text and "{{ 7*7 }}" in page.text


async def test_the_page_says_so_when_nothing_can_be_told(rig: Rig) -> None:
    async with rig.signed_in() as browser:
        rig.reading.is_down = True
        answers = [await browser.get(path) for path in ("/reports", "/reports/chest-1")]
        assert [each.status for each in answers] == [503, 503] and "Clear lungs" not in answers[1].text
        rig.reading.is_down = False
        rig.sessions.is_down = True
        assert (await browser.get("/reports")).status == 503
    rig.provider.is_down = True
    async with rig.browser() as browser:
        assert (await browser.get("/sign-in")).status == 200
        # What the provider published is still known, so its own page is gone to; the code cannot be changed there.
        assert (await browser.sign_in()).status == 503
        await rig.clock.advance(24 * 3_600)
        start = await browser.get("/sign-in/start", follow=False)
        assert start.status == 503 and "does not work at the moment" in start.text


@pytest.mark.parametrize(
    ("mode", "number", "status"),
    [
        (Mode.PRODUCTION, "9990000018", 403),
        (Mode.PRODUCTION, "4010232137", 200),
        (Mode.DEMO, "4010232137", 403),
    ],
)
async def test_synthetic_numbers_are_for_demonstrations_and_others_for_patients(
    tmp_path: Path, mode: Mode, number: str, status: int
) -> None:
    async with rigged(tmp_path, mode) as rig, rig.browser() as browser:
        rig.provider.accounts["anne"] = {**ANNE, "nhs_number": number}
        assert (await browser.sign_in()).status == status
        assert rig.reading.accounts == [number] * (status == 200)
