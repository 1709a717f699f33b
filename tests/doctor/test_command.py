"""The `gateway doctor` command, and the profile that it writes for the configuration to read."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.config.reading import Reading, read
from gateway.doctor.findings import Layer, Report, Verdict, profile_text
from policy.parties import TrustId
from tests.doctor.archives import HEAD, web_peer
from tests.gateway.commands import Commands, gateway
from tests.gateway.simulated_pacs import SimulatedPacs

__all__ = ["gateway"]

ANNE = "9990000018"


@pytest.fixture
def doctor(gateway: Commands, eastvale: SimulatedPacs) -> Commands:
    """A gateway that asks Eastvale's simulated archive."""
    gateway.path.write_text(HEAD + web_peer(eastvale.port("web")))
    return gateway


def reading_of(folder: Path, peer: str, profile: str) -> Reading:
    """What is read of a [[peer]] that names a profile."""
    (folder / "found.toml").write_text(profile)
    path = folder / "gateway.toml"
    path.write_text(HEAD + peer + '\nprofile = "found.toml"\n')
    return read(path)


def test_a_good_archive_is_said_to_be_one(doctor: Commands) -> None:
    assert "RZ2: can be asked\n" in doctor.do("doctor", "RZ2")


def test_an_archive_that_cannot_be_asked_makes_the_command_fail(doctor: Commands, eastvale: SimulatedPacs) -> None:
    eastvale.behave(dead="closed")
    status, output = doctor.status("doctor")
    assert status == 1 and "nothing listens at this port" in output


@pytest.mark.slow
async def test_what_was_found_is_said_trust_by_trust_and_stays_said_when_stopped(tmp_path: Path) -> None:
    """RZ1's archive is gone, RZ2's takes connections and says nothing."""
    silent = socket.create_server(("127.0.0.1", 0))
    silent.setblocking(False)
    gone = web_peer(9).replace("url", 'trust = "RZ1"\nurl', 1)
    trusts = '[[trust]]\nods = "RZ1"\nname = "Northmoor"\n[[peer]]\n'
    path = tmp_path / "gateway.toml"
    path.write_text(HEAD.replace("[[trust]]", f"{trusts}{gone}\n[[trust]]", 1) + web_peer(silent.getsockname()[1]))
    doctor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "doctor", "--config", str(path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    with ExitStack() as open_ones:
        open_ones.enter_context(silent)
        async with asyncio.timeout(60):
            for _ in range(2):  # the look at the connection, and the first question
                open_ones.enter_context((await asyncio.get_running_loop().sock_accept(silent))[0])
            doctor.send_signal(signal.SIGINT)
            said, complained = await doctor.communicate()
    assert doctor.returncode == 130, (said, complained)
    assert "RZ1: cannot be asked until what failed is mended" in said.decode()
    assert "stopped: RZ2" in complained.decode() and "Traceback" not in complained.decode()


def test_an_unknown_trust_is_refused(doctor: Commands) -> None:
    assert "RZ9" in doctor.refused("doctor", "RZ9")


def test_what_was_found_is_written_and_takes_effect_once_named(doctor: Commands, eastvale: SimulatedPacs) -> None:
    eastvale.behave(lies=["ignores-paging"])
    doctor.do("doctor", "RZ2", "--write-profile", "--patient-file", "-", typed=ANNE)
    with doctor.path.open("a") as lines:
        lines.write('\nprofile = "profiles/RZ2.toml"\n')
    configuration = read(doctor.path).configuration
    assert configuration is not None and configuration.peer[0].quirks == ("no-paging",)


def test_a_program_gets_the_findings_and_never_the_patient(doctor: Commands) -> None:
    status, output = doctor.status("doctor", "--json", "--patient-file", "-", typed=ANNE)
    assert status == 0 and '"layer": "qido"' in output and ANNE not in output


def test_what_the_peer_says_itself_wins_over_the_profile(tmp_path: Path) -> None:
    peer = web_peer(80, "quirks = []")
    reading = reading_of(tmp_path, peer, 'quirks = ["no-paging"]\ncharacter_set = "ISO_IR 101"\n')
    assert reading.problems == () and reading.configuration is not None
    [archive] = reading.configuration.peer
    assert archive.quirks == () and archive.character_set == "ISO_IR 101"


def test_limits_of_a_profile_hold_one_by_one_beneath_the_peers_own(tmp_path: Path) -> None:
    peer = web_peer(80).replace("plain_http", 'profile = "found.toml"\nplain_http') + "\n[peer.limits]\n"
    (tmp_path / "found.toml").write_text("quirks = []\n[limits]\npeer_requests_at_once_max = 2\npeer_matches_max = 9\n")
    path = tmp_path / "gateway.toml"
    path.write_text(HEAD + peer + "peer_matches_max = 7\n")
    reading = read(path)
    assert reading.problems == () and reading.configuration is not None
    limits = reading.configuration.peer[0].limits
    assert (limits.peer_requests_at_once_max, limits.peer_matches_max) == (2, 7)


def test_a_written_profile_is_read_back_with_its_limits() -> None:
    report = Report(TrustId("RZ2"))
    report.settings["model"] = "study-root"
    report.bears_at_once("associations at once", 2, 8, "limit reached")
    written = profile_text(report, frozenset(), "2026-11-21")
    assert tomllib.loads(written) == {
        "model": "study-root",
        "quirks": [],
        "limits": {"peer_requests_at_once_max": 2},
    }


def test_an_archive_that_grants_nothing_just_now_gets_no_limit_of_none() -> None:
    report = Report(TrustId("RZ2"))
    report.bears_at_once("requests at once", 0, 8, "status 503")
    assert report.findings[0].verdict is Verdict.WARNING and not report.limits


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ('limits = "few"', "limits"),
        ("quirks = [", "cannot be read"),
        ('url = "https://elsewhere"', "url: no such setting"),
    ],
)
def test_a_profile_that_cannot_be_used_is_named(tmp_path: Path, profile: str, words: str) -> None:
    [problem] = reading_of(tmp_path, web_peer(80), profile).problems
    assert problem.startswith("peer 1 (RZ2).") and words in problem


def test_a_quirk_set_before_stays_until_it_is_refuted() -> None:
    report = Report(TrustId("RZ2"))
    report.has_habit(Layer.FIND, "list of UIDs", "no-uid-lists", "finds nothing")
    report.has_not("no-wildcards")
    written = profile_text(report, frozenset({"no-wildcards", "ignores-cancel"}), "2026-11-21")
    assert tomllib.loads(written) == {"quirks": ["ignores-cancel", "no-uid-lists"]}
    assert report.findings[0].verdict is Verdict.SET
