"""Whatever comes as a token is believed whole or refused in one word, and no setting makes that weaker."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import Key, RSAKey
from pydantic import ValidationError

from gateway.config.checks import load
from gateway.config.release.page import PatientPageSection
from gateway.config.sections import GatewaySection
from gateway.edges import patient_page
from gateway.edges.patient_page import PatientReports
from gateway.model.errors import ConfigurationError
from gateway.node import SystemClock
from gateway.web.patient.keys import read
from gateway.web.patient.tokens import TokenRefused, TokenTerms, judge
from policy.settings import Mode
from tests.clock import NOON
from tests.gateway.test_config import described
from tests.patient.memory_reading import MemoryAudit, MemoryReading, MemorySessions
from tests.patient.provider import ANNE

ROOT = Path(__file__).parents[2]
KEY = RSAKey.generate_key(2048, {"kid": "key-1"})
TERMS = TokenTerms("https://login.example", "us", is_demo=True)
GOOD: Mapping[str, object] = {
    **ANNE,
    "iss": TERMS.issuer,
    "aud": "us",
    "iat": int(NOON.timestamp()),
    "exp": int(NOON.timestamp()) + 60,
    "nonce": "n",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.dictionaries(
    st.sampled_from(["kty", "n", "e", "kid", "use", "crv", "x", "y", "k"]),
    st.sampled_from(["RSA", "EC", "oct", "AQAB", "P-256", "é"]) | JSON,
)


class OneKey:
    """A `FindsKeys` with one key under every name."""

    async def find(self, key_id: str | None) -> Key | None:
        return KEY


def signed(claims: Mapping[str, object]) -> str:
    return jwt.encode({"alg": "RS512", "kid": "key-1"}, dict(claims), KEY, algorithms=["RS512"])


async def test_the_good_token_is_believed() -> None:
    person = await judge(signed(GOOD), TERMS, OneKey(), NOON, "n")
    assert (person.identity.nhs_number.digits, person.identity.family_name, person.actor) == (
        "9990000018",
        "Ashworth",
        "",
    )


@given(st.text(max_size=200) | st.lists(st.text("AZaz09_-", max_size=60), min_size=3, max_size=3).map(".".join))
async def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(TokenRefused):
        await judge(text, TERMS, OneKey(), NOON, "n")


@given(st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "jwk", "x5c", "typ", "cty", "zip"]), JSON))
async def test_no_header_makes_a_body_true_that_nobody_signed(header: dict[str, object]) -> None:
    parts = [json.dumps(header), json.dumps(dict(GOOD))]
    token = ".".join(urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts)
    for proof in ("", "AAAA"):
        with pytest.raises(TokenRefused):
            await judge(f"{token}.{proof}", TERMS, OneKey(), NOON, "n")


@given(st.sampled_from(sorted(set(GOOD) - {"sub", "family_name"})), JSON)
async def test_a_signed_claim_of_another_kind_is_refused_and_never_a_fault(name: str, value: object) -> None:
    claims = {**GOOD, name: value}
    if value == GOOD[name] or (name in ("iat", "exp") and isinstance(value, int | float)):
        return
    with pytest.raises(TokenRefused):
        await judge(signed(claims), TERMS, OneKey(), NOON, "n")


@given(st.dictionaries(st.sampled_from(["keys", "kty"]), JSON | st.lists(KEYS, max_size=3)))
def test_a_key_set_of_any_form_is_read_without_a_fault(key_set: dict[str, object]) -> None:
    assert all(key.key_type in ("RSA", "EC") for key in read(key_set).values())  # type: ignore[arg-type]  # JSON


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    key = tmp_path / "client.key"
    key.write_text("no key")
    key.chmod(0o600)
    return {
        "public_base_url": "https://reports.example",
        "issuer": "https://login.example",
        "client_id": "us",
        "client_key": key,
    }


@pytest.mark.parametrize(
    "weaker",
    [
        {"algorithms": ["none"]},
        {"algorithms": ["HS256"]},
        {"algorithms": []},
        {"client_algorithm": "HS512"},
        {"leeway_s": 31},
        {"issuer": "http://login.example"},
        {"public_base_url": "http://reports.example"},
        {"public_base_url": "https://reports.example/below"},
        {"issuer": "https://user:word@login.example"},
        {"session_idle_minutes": 61},
        {"scope": "profile"},
    ],
)
def test_nothing_weaker_can_be_set(settings: dict[str, object], weaker: dict[str, object]) -> None:
    PatientPageSection.model_validate(settings)
    with pytest.raises(ValidationError):
        PatientPageSection.model_validate({**settings, **weaker})


def test_the_commented_file_shows_the_start_values_of_the_page() -> None:
    file = dict(described((ROOT / "gateway.toml").read_text(encoding="utf-8")))
    examples = {"client_key_id", "ca", "bearer_audience", "help_words"}
    for name, field in PatientPageSection.model_fields.items():
        shown = file[f"patient_page.{name}"]
        if not field.is_required() and name not in examples:
            assert (tuple(shown) if isinstance(shown, list) else shown) == field.default, name


def test_a_client_key_that_is_none_is_named(settings: dict[str, object]) -> None:
    section, gateway = PatientPageSection.model_validate(settings), GatewaySection(mode=Mode.DEMO)
    with pytest.raises(ConfigurationError, match="is no RSA key"):
        patient_page.opened(
            section,
            gateway,
            PatientReports(MemoryReading(), MemoryAudit(), MemorySessions(SystemClock())),
            SystemClock(),
        )


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("https://Reports.example:443", "https://reports.example"),
        ("https://reports.example:8444", "https://reports.example:8444"),
    ],
)
def test_the_page_knows_its_origin_as_browsers_name_it(settings: dict[str, object], written: str, named: str) -> None:
    Path(str(settings["client_key"])).write_bytes(KEY.as_pem(private=True))
    section = PatientPageSection.model_validate({**settings, "public_base_url": written})
    reports = PatientReports(MemoryReading(), MemoryAudit(), MemorySessions(SystemClock()))
    behind = patient_page.opened(section, GatewaySection(mode=Mode.DEMO), reports, SystemClock())
    assert behind.public_url == named


def test_a_trust_that_releases_to_the_page_needs_one(tmp_path: Path) -> None:
    """What else is wrong with the file is not looked at here."""
    lines = [
        '[gateway]\nmode = "demo"\n[listen.machines]\nplain_http_on_loopback = true\n[listen.people]',
        'plain_http_on_loopback = true\n[[trust]]\nods = "RZ1"\nname = "Northmoor"\nenrolled = true',
        'desk_phone = "01632 960001"\n[trust.release]\ngo_live_at = 2026-01-05T08:00:00Z\nchannels = ["patient-page"]',
    ]
    path = tmp_path / "gateway.toml"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigurationError) as without:
        load(path)
    missing = "trust 1 (RZ1).release.channels: patient-page needs a [patient_page]"
    assert missing in without.value.problems
    key = tmp_path / "client.key"
    key.write_text("a key")
    key.chmod(0o600)
    page = '[patient_page]\npublic_base_url = "https://r.example"\nissuer = "https://l.example"\nclient_id = "us"'
    path.write_text("\n".join([*lines, page, 'client_key = "client.key"']))
    with pytest.raises(ConfigurationError) as with_page:
        load(path)
    assert set(without.value.problems) - set(with_page.value.problems) == {missing}
