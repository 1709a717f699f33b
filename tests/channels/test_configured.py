"""`[[channel]]` in the configuration: what opens, and what is refused with its place in the file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey

from gateway.channels.resting import FAILURES_MAX
from gateway.config.checks import load
from gateway.demo.ports import free_port
from gateway.model.errors import ConfigurationError
from gateway.release.outward import open_channels
from tests.channels.reports import SARAH, Numbers, now
from tests.gateway.certificates import Authority
from tests.gateway.test_config_gateways import written

FHIR = '[[channel]]\nname = "app"\nkind = "fhir"\nurl = "http://127.0.0.1:9/fhir"\nplain_on_loopback = true\n'
HL7 = '[[channel]]\nname = "portal"\nkind = "hl7"\naddress = "127.0.0.1:2576"\nplain_on_loopback = true\n'


@pytest.fixture
def secured(tmp_path: Path) -> str:
    """What a channel shows over TLS."""
    authority = Authority(tmp_path)
    ours = authority.issue("gateway.example")
    key = tmp_path / "key.pem"
    key.write_bytes(RSAKey.generate_key(2048).as_pem(private=True))
    key.chmod(0o600)
    return (
        f'client_certificate = "{ours.certificate}"\nclient_private_key = "{ours.private_key}"\n'
        f'ca = "{authority.certificate}"\nrecipient_key = "{key}"\nclient_key = "{key}"\n'
    )


def opened(path: Path) -> dict[str, tuple[bool, bool]]:
    """The channels that open: whether they may be repeated, and whether they judge who looks."""
    with ThreadPoolExecutor(1) as executor:
        channels = open_channels(load(path), executor, now, Numbers())
        return {name: (each.is_idempotent, each.checks_proxies) for name, each in channels.items()}


def test_each_kind_opens_as_it_is_written(tmp_path: Path, secured: str) -> None:
    folder = f'[[channel]]\nname = "letters"\nkind = "folder"\nfolder = "{tmp_path}"\n{secured.splitlines()[3]}\n'
    app = FHIR.replace("http:", "https:").replace("plain_on_loopback = true", "checks_proxies = true") + secured
    app += 'token_url = "https://127.0.0.1:9/token"\nclient_id = "gateway"\n'
    assert opened(written(tmp_path, app + HL7 + folder)) == {
        "app": (True, True),
        "portal": (False, False),
        "letters": (True, False),
    }


async def test_a_portal_that_is_not_there_is_soon_left_alone(tmp_path: Path) -> None:
    text = FHIR + HL7.replace("127.0.0.1:2576", f"127.0.0.1:{free_port()}")
    with ThreadPoolExecutor(1) as executor:
        for channel in open_channels(load(written(tmp_path, text)), executor, now, Numbers()).values():
            said = [(await channel.withdraw("document-1", SARAH, "Gone.")).words for _ in range(FAILURES_MAX + 1)]
            assert ["was not asked" in each for each in said] == [*[False] * FAILURES_MAX, True]
            await channel.close()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (FHIR + FHIR, "stands 2 times"),
        (FHIR.replace('"app"', '"patient-page"'), "own page is called"),
        (FHIR.replace('url = "http://127.0.0.1:9/fhir"\n', ""), 'must be set for kind "fhir"'),
        (FHIR.replace("127.0.0.1:9", "portal.example"), "never allowed (SAF-70)"),
        (FHIR.replace("plain_on_loopback = true\n", ""), "needs plain_on_loopback"),
        (HL7.replace("127.0.0.1", "portal.example"), "never allowed (SAF-70)"),
        (HL7.replace("plain_on_loopback = true\n", ""), "must be set, unless plain_on_loopback"),
        (HL7.replace(":2576", ":70000"), "a port lies between"),
        (FHIR + 'client_id = "gateway"\n', "are set together"),
        ('[[channel]]\nname = "letters"\nkind = "folder"\nfolder = "out"\n', "recipient_key: must be set"),
        ('[release]\nchannels = ["nowhere"]\n', "no [[channel]] is called nowhere"),
        ('[release.contacts]\nnotices_channel = "nowhere"\n', 'no [[channel]] of kind "fhir" is called nowhere'),
        (HL7 + '[release.contacts]\nnotices_channel = "portal"\n', 'no [[channel]] of kind "fhir" is called portal'),
        (
            FHIR + '[release]\nchannels = ["app"]\n[release.contacts]\nnotices_channel = "app"\n',
            "app is a channel to patients",
        ),
    ],
)
def test_what_would_not_work_or_go_in_the_open_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(written(tmp_path, text))
    assert any(problem in each for each in refused.value.problems)
