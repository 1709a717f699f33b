"""Destinations of C-MOVE in the configuration: whose they are, who may name them, and what is refused (SAF-13)."""

from __future__ import annotations

from pathlib import Path

import pytest

from dimse.scp.profiles import CallerProfile, OnDisconnect
from gateway.config.checks import load
from gateway.config.configuration import Configuration
from gateway.edges.associations import caller_profiles
from gateway.model.errors import ConfigurationError
from gateway.model.work.retrievals import Destination
from policy.parties import TrustId
from tests.gateway.test_config_gateways import written

ARCHIVE = """
[[destination]]
name = "archive"
trust = "RZ1"
ae_title = "RZ1_PACS"
address = "127.0.0.1:11112"
plain_on_loopback = true
"""
THEIRS = ARCHIVE.replace('"archive"', '"theirs"').replace('"RZ1"', '"RZ2"').replace("RZ1_PACS", "RZ2_PACS")
PACS = """
[[caller]]
name = "pacs"
trust = "RZ1"
certificate_name = "pacs.example"
ae_titles = ["RZ1_PACS"]
missing_sources = "failure"
"""


def profile(configuration: Configuration) -> CallerProfile:
    """How the PACS is answered."""
    return caller_profiles(configuration)["pacs"]


def test_a_caller_names_its_own_destinations_and_each_is_somebodys(tmp_path: Path) -> None:
    named = 'destinations = ["archive", "theirs"]\non_disconnect = "finish"\nhigh_priority = true\n'
    found = profile(load(written(tmp_path, f"{PACS}{named}{ARCHIVE}associations_max = 3\n{THEIRS}")))
    assert {title: each.destination for title, each in found.destinations.items()} == {
        "RZ1_PACS": Destination("RZ1_PACS", TrustId("RZ1")),
        "RZ2_PACS": Destination("RZ2_PACS", TrustId("RZ2")),
    }
    archive = found.destinations["RZ1_PACS"]
    assert (archive.receiver.host, archive.receiver.port, archive.receiver.calling_ae_title) == (
        "127.0.0.1",
        11112,
        "GATEWAY",
    )
    assert archive.associations_max == 3 and found.destinations["RZ2_PACS"].associations_max == 2
    assert found.on_disconnect is OnDisconnect.FINISH and found.may_be_urgent


def test_a_caller_that_names_none_has_none_and_is_stopped_when_it_hangs_up(tmp_path: Path) -> None:
    found = profile(load(written(tmp_path, PACS + ARCHIVE)))
    assert not found.destinations and found.on_disconnect is OnDisconnect.STOP and not found.may_be_urgent


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ARCHIVE.replace('"RZ1"', '"RZ9"'), "destination 1 (archive).trust: no [[trust]] has the code RZ9"),
        (ARCHIVE + ARCHIVE, "destination (archive): stands 2 times"),
        (ARCHIVE.replace("11112", "0"), "destination 1 (archive).address: a port lies between 1 and 65535"),
        (
            ARCHIVE.replace("127.0.0.1", "192.0.2.1"),
            "destination 1 (archive).address: plain DICOM to another machine is never allowed (SAF-70)",
        ),
        (
            ARCHIVE.replace("plain_on_loopback = true", ""),
            "destination 1 (archive).ca: must be set, unless plain_on_loopback = true: both sides show theirs",
        ),
        (
            "[limits]\nretrieve_pending_interval_s = 3.1\n",
            "limits.retrieve_pending_interval_s: must be 3 at most: callers take longer silence for an end",
        ),
        (f'{PACS}destinations = ["other"]\n', "caller 1 (pacs).destinations: no [[destination]] is called other"),
        (
            f'{PACS}destinations = ["archive", "theirs"]\n{ARCHIVE}{THEIRS.replace("RZ2_PACS", "RZ1_PACS")}',
            "caller 1 (pacs).destinations: 2 of them have the AE title RZ1_PACS",
        ),
        (
            f'{PACS.replace("ae_titles", "# ae_titles")}destinations = ["archive"]\n{ARCHIVE}',
            "caller 1 (pacs).destinations: mean nothing without ae_titles",
        ),
    ],
)
def test_what_is_contradictory_is_refused_with_its_path(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(written(tmp_path, text))
    assert problem in refused.value.problems
