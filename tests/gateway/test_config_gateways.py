"""Other gateways in the configuration: what is contradictory is refused, with its path (DEC-01)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.checks import load
from gateway.model.errors import ConfigurationError
from gateway.region import caller_bindings, trust_entries
from policy.parties import PrincipalKind, TrustId

HEAD = """
[gateway]
mode = "demo"
[listen.machines]
plain_http_on_loopback = true
[listen.people]
plain_http_on_loopback = true
[listen.dimse]
ae_title = "GATEWAY"
plain_on_loopback = true
[[trust]]
ods = "RZ1"
name = "Northmoor"
[[trust]]
ods = "RZ2"
name = "Eastvale"
"""
CALLER = '[[caller]]\nname = "west"\ntrust = "RZ1"\ncertificate_name = "west.example"\n'
GATEWAY = f'{CALLER}kind = "gateway"\n'
LOOPBACK = "plain_http_on_loopback = true\n"
PEER = '[[peer]]\ntrust = "RZ2"\ngateway = true\n'
ADDRESS = f'{PEER}url = "http://127.0.0.1:9/dicom-web/trust/RZ2"\n{LOOPBACK}'


def written(folder: Path, text: str) -> Path:
    """A small configuration with this behind it."""
    path = folder / "gateway.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    return path


def test_a_gateway_is_a_caller_for_its_trusts_and_a_peer_for_one(tmp_path: Path) -> None:
    configuration = load(written(tmp_path, f'{GATEWAY}asks_for = ["rz1"]\n{ADDRESS}'))
    [binding] = caller_bindings(configuration)
    assert binding.kind is PrincipalKind.GATEWAY and binding.asks_for == {TrustId("RZ1")}
    assert {entry.trust.code: entry.is_behind_gateway for entry in trust_entries(configuration)} == {
        "RZ1": False,
        "RZ2": True,
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GATEWAY, "caller 1 (west).asks_for: must name the trusts"),
        (f'{GATEWAY}asks_for = ["RZ9"]\n', "caller 1 (west).asks_for: no [[trust]] has the code RZ9"),
        (f'{GATEWAY}asks_for = ["RZ1", "RZ1"]\n', "caller 1 (west).asks_for: RZ1 stands 2 times"),
        (f'{CALLER}asks_for = ["RZ2"]\n', 'caller 1 (west).asks_for: only a caller of kind "gateway"'),
        (
            f'{GATEWAY}asks_for = ["RZ1"]\nae_titles = ["WEST"]\nmissing_sources = "row"\n',
            "caller 1 (west).ae_titles: C-FIND cannot say for whom",
        ),
        (f'{GATEWAY}asks_for = ["RZ1"]\nteams = ["ent"]\n', "caller 1 (west).teams: a gateway is no person"),
        (
            f'{PEER}url = "http://127.0.0.1:9/dicom-web"\n{LOOPBACK}',
            "peer 1 (RZ2).url: must end with /dicom-web/trust/RZ2",
        ),
        (
            f'{PEER}url = "http://127.0.0.1:9/dicom-web/trust/RZ1"\n{LOOPBACK}',
            "peer 1 (RZ2).url: must end with /dicom-web/trust/RZ2",
        ),
        (
            f'{PEER}connector = "dimse"\naddress = "127.0.0.1:11112"\nae_title = "FAR"\nplain_on_loopback = true\n',
            "peer 1 (RZ2).gateway: C-FIND cannot say for whom it asks",
        ),
        (f'{ADDRESS}quirks = ["no-paging"]\n', "peer 1 (RZ2).quirks: a gateway has none"),
        (f'{ADDRESS}patient_id = "local"\n', "peer 1 (RZ2).patient_id: a gateway is asked by the NHS number"),
        (f'{ADDRESS}patient_id_issuer = "X"\n', "peer 1 (RZ2).patient_id_issuer: a gateway names the issuer"),
        (
            f'{ADDRESS}[sharing]\nlocation_feeds = ["RZ2"]\n',
            "sharing.location_feeds: RZ2 is behind another gateway",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(written(tmp_path, text))
    [found] = refused.value.problems
    assert found.startswith(problem)
