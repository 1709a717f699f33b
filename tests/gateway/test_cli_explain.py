"""`gateway explain`: every reason in words, at any instant, and past decisions replayed from the audit."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.forked import Forks
from tests.gateway.commands import ANNE, Commands
from tests.gateway.commands import gateway as gateway  # the fixture
from tests.gateway.node import Node


def codes(explained: dict[str, object]) -> set[str]:
    reasons = explained["reasons"]
    assert isinstance(reasons, list)
    return {reason["code"] for reason in reasons if reason["effect"] == "forbid"}


def ask(gateway: Commands, *more: str, caller: str = "northmoor-pacs") -> dict[str, object]:
    explained = gateway.json("explain", "--caller", caller, "--patient", ANNE, *more)
    assert isinstance(explained, dict)
    return explained


def relate(gateway: Commands, *more: str) -> None:
    gateway.do(
        *("relationship", "add", "--patient", ANNE, "--trust", "RZ1", "--kind", "referral", "--evidence", "REF-1"),
        *more,
    )


def test_a_missing_relationship_is_explained_as_told(gateway: Commands) -> None:
    explained = ask(gateway)
    assert explained["effect"] == "forbid"
    assert codes(explained) == {"no-care-relationship"}
    text = gateway.do("explain", "--caller", "northmoor-pacs", "--patient", ANNE)
    assert "the caller is told: no care relationship" in text


def test_an_opt_out_is_explained_as_hidden(gateway: Commands) -> None:
    relate(gateway)
    assert ask(gateway)["effect"] == "permit"
    gateway.do("optout", "receive", "--patient", ANNE, "--channel", "paper")
    gateway.do("optout", "verify", "1")
    gateway.do("optout", "implement", "1")
    assert codes(ask(gateway)) == {"opted-out"}
    assert "absence" in gateway.do("explain", "--caller", "northmoor-pacs", "--patient", ANNE)


def test_a_gateway_is_explained_for_the_trust_that_it_asks_for(gateway: Commands) -> None:
    west = '[[caller]]\nname = "west"\ntrust = "RZ2"\nkind = "gateway"\nasks_for = ["RZ1"]\ncertificate_name = "west"\n'
    gateway.path.write_text(gateway.path.read_text() + west)
    relate(gateway)
    assert ask(gateway, "--asking-for", "RZ1", caller="west")["effect"] == "permit"
    refused = ("explain", "--caller", "west", "--patient", ANNE)
    assert "add --asking-for" in gateway.refused(*refused)
    assert "may not ask for RZ2" in gateway.refused(*refused, "--asking-for", "RZ2")
    assert "may not ask for RZ2" in gateway.refused(
        "explain", "--caller", "northmoor-pacs", *refused[3:], "--asking-for", "RZ2"
    )


def test_a_person_outside_the_team_is_explained(gateway: Commands) -> None:
    relate(gateway, "--team", "cardiology")
    assert ask(gateway, caller="dr-hollis")["effect"] == "forbid"
    relate(gateway, "--team", "ent")
    assert ask(gateway, caller="dr-hollis")["effect"] == "permit"


def test_seeing_a_custodians_study_is_explained_by_its_agreement_and_labels(gateway: Commands) -> None:
    relate(gateway)
    gateway.do("agreement", "import", gateway.file("a.toml", 'custodian = "RZ2"\n[[clause]]\nmodalities = ["CT"]\n'))
    seen = ("--trust", "RZ2", "--study", "1.2.3", "--modality")
    assert ask(gateway, *seen, "CT")["effect"] == "permit"
    assert ask(gateway, *seen, "MR")["effect"] == "forbid"
    gateway.do("label", "add", "--trust", "RZ2", "--patient", ANNE, "--kind", "staff", "--study", "1.2.3")
    assert ask(gateway, *seen, "CT")["effect"] == "forbid"
    assert ask(gateway, "--trust", "RZ2", "--study", "1.2.4", "--modality", "CT")["effect"] == "permit"


def test_the_past_is_explained_by_what_was_known_then(gateway: Commands) -> None:
    relate(gateway, "--from", "2026-01-01", "--until", "2026-03-01")
    assert ask(gateway, "--at", "2026-02-01")["effect"] == "forbid", "nobody knew of it then"
    assert ask(gateway, "--at", "2099-01-01")["effect"] == "forbid", "it is long over by then"


def test_other_purposes_are_explained(gateway: Commands) -> None:
    relate(gateway)
    assert ask(gateway, "--purpose", "HRESCH")["effect"] == "forbid"


def test_each_explanation_is_recorded_without_the_patients_number(gateway: Commands) -> None:
    ask(gateway, "--by", "anna.ig")
    [explained] = [said for said in gateway.audit() if said["event"] == "explain"]
    assert explained["body"]["by"] == "anna.ig"
    assert explained["body"]["decision"]["effect"] == "forbid"
    assert ANNE not in str(explained)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--caller", "nobody", "--patient", ANNE), "no [[caller]]"),
        ((), "give --caller"),
        (("--caller", "northmoor-pacs"), "name the patient"),
        (("--caller", "northmoor-pacs", "--patient", ANNE, "--study", "1.2"), "add --trust"),
        (("--decision", "0" * 32), "no record of the audit"),
        (("--decision", "0" * 32, "--caller", "northmoor-pacs"), "or --decision alone"),
        (("--caller", "northmoor-pacs", "--patient", ANNE, "--at", "yesterday"), "a time is written like"),
    ],
)
def test_a_question_that_cannot_be_explained_is_refused(
    gateway: Commands, arguments: tuple[str, ...], problem: str
) -> None:
    assert problem in gateway.refused("explain", *arguments)


@asynccontextmanager
async def archive(description: str = "CT HEAD") -> AsyncIterator[str]:
    """An archive with one CT and one MR study of Anne, described so."""

    def row(number: int, modality: str) -> dict[str, object]:
        return {
            "00080020": {"vr": "DA", "Value": ["20260101"]},
            "00080061": {"vr": "CS", "Value": [modality]},
            "00081030": {"vr": "LO", "Value": [description]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Walker^Anne"}]},
            "00100020": {"vr": "LO", "Value": [ANNE]},
            "00100021": {"vr": "LO", "Value": ["NHS"]},
            "00100030": {"vr": "DA", "Value": ["19700101"]},
            "0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]},
        }

    async def studies(request: web.Request) -> web.Response:
        is_asked_for_anne = request.query.get("PatientID") == ANNE or request.query.get("00100020") == ANNE
        rows = [row(3, "CT"), row(4, "MR")] if is_asked_for_anne else []
        return web.json_response(rows, content_type="application/dicom+json")

    application = web.Application()
    application.router.add_get("/dicom-web/studies", studies)
    async with TestServer(application) as server:
        yield str(server.make_url("/dicom-web"))


async def test_past_decisions_replay_equal_from_the_audit(tmp_path: Path, forks: Forks) -> None:
    node = Node(tmp_path, forks.start)
    agreement = tmp_path / "agreement.toml"
    agreement.write_text('custodian = "RZ2"\n[[clause]]\nmodalities = ["CT"]\n')
    async with archive() as url:
        node.write(f'[[peer]]\ntrust = "RZ2"\nurl = "{url}"\nplain_http_on_loopback = true\npatient_id_issuer = "NHS"')
        for command in (
            ("agreement", "import", str(agreement)),
            ("relationship", "add", "--patient", ANNE, "--trust", "RZ1", "--kind", "mdt", "--evidence", "list-7"),
        ):
            assert (await node.run(*command)).status == 0
        async with node.serving() as serving:
            status, body = await serving.get(f"{serving.machines}/studies?PatientID={ANNE}", node.pacs)
            assert (status, [row["0020000D"]["Value"] for row in json.loads(body)]) == (200, [["1.2.3"]])
            # The registers move on; what was decided before does not.
            await node.run("optout", "receive", "--patient", ANNE, "--channel", "paper")
            await node.run("optout", "verify", "1")
    records = [json.loads(line)["said"] for line in (await node.run("audit", "export")).output.splitlines()]
    [outcome] = [said["body"] for said in records if said["event"] == "query-outcome"]
    decided = [outcome["attempt"], *(row["decision"]["decision_id"] for row in outcome["decisions"])]
    effects = []
    for decision_id in decided:
        explained = await node.run("explain", "--decision", decision_id, "--json")
        assert explained.status == 0, explained.errors
        said = json.loads(explained.output)
        assert said["replays_equal"] is True
        assert said["decision"] == decision_id
        effects.append(said["effect"])
    assert effects == ["permit", "permit", "forbid"], "asked; the CT; the MR that is not shared"


async def test_a_replayed_decision_says_that_another_holders_copy_was_shown(tmp_path: Path, forks: Forks) -> None:
    node = Node(tmp_path, forks.start)
    async with archive() as url, archive("CT brain") as other:
        settings = 'plain_http_on_loopback = true\npatient_id_issuer = "NHS"'
        southbridge = '[[trust]]\nods = "RZ3"\nname = "Southbridge"\nenrolled = true\ndesk_phone = "01632 960003"'
        node.write(
            southbridge,
            *(f'[[peer]]\ntrust = "{code}"\nurl = "{at}"\n{settings}' for code, at in (("RZ2", url), ("RZ3", other))),
        )
        for code in ("RZ2", "RZ3"):
            path = tmp_path / f"{code}.toml"
            path.write_text(f'custodian = "{code}"\n[[clause]]\nmodalities = ["CT"]\n')
            assert (await node.run("agreement", "import", str(path))).status == 0
        related = ("relationship", "add", "--patient", ANNE, "--trust", "RZ1", "--kind", "mdt", "--evidence", "list-7")
        assert (await node.run(*related)).status == 0
        async with node.serving() as serving:
            status, body = await serving.get(f"{serving.machines}/studies?PatientID={ANNE}", node.pacs)
            assert (status, len(json.loads(body))) == (200, 1)
    records = [json.loads(line)["said"] for line in (await node.run("audit", "export")).output.splitlines()]
    [outcome] = [said["body"] for said in records if said["event"] == "query-outcome"]
    said = {}
    for row in outcome["decisions"]:
        if row["decision"]["effect"] == "permit":
            explained = await node.run("explain", "--decision", row["decision"]["decision_id"], "--json")
            said[row["resource"]["custodian"]] = json.loads(explained.output).get("shown_as_another_holder_has_it")
    assert said == {"RZ2": None, "RZ3": "1.2.3"}
