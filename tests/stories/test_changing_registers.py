"""What an officer enters by a command in another process holds at the very next question."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.demo import cast
from gateway.demo.callers.answer import Outcome
from gateway.demo.callers.viewer import Viewer
from gateway.demo.cast import CLARA, DAVID, EVE, KATE
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.stories.conftest import Door

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def opt_out_case(region: Region, kind: str, nhs_number: str, *steps: str) -> str:
    """Receive a case and walk it through these steps; its number."""
    received = json.loads(await region.must(kind, "receive", "--patient", nhs_number, "--channel", "paper", "--json"))
    number = str(received["case"])
    for step in steps:
        await region.must(kind, step, number)
    return number


@pytest_asyncio.fixture(loop_scope="session")
async def clara_in_care(region: Region) -> AsyncIterator[str]:
    """Clara, referred to Northmoor for the length of a story."""
    added = json.loads(
        await region.must(
            *("relationship", "add", "--patient", CLARA.nhs_number, "--trust", "RZ1", "--kind", "referral"),
            *("--evidence", "story", "--json"),
        )
    )
    yield str(added["relationship"])
    await region.command("relationship", "end", str(added["relationship"]))


async def test_a_relationship_opens_and_its_end_closes(door: Door, region: Region, clara_in_care: str) -> None:
    assert (await door.studies(PatientID=CLARA.nhs_number)).outcome is Outcome.ANSWERED
    await region.must("relationship", "end", clara_in_care)
    assert (await door.studies(PatientID=CLARA.nhs_number)).outcome is Outcome.DENIED


async def test_an_opt_out_acts_when_implemented_and_an_opt_in_restores(door: Door, region: Region) -> None:
    before = await door.studies(PatientID=DAVID.nhs_number)
    assert before.studies
    await opt_out_case(region, "optout", DAVID.nhs_number, "acknowledge", "verify", "consider", "implement", "confirm")
    assert not (await door.studies(PatientID=DAVID.nhs_number)).rows
    await opt_out_case(region, "optin", DAVID.nhs_number, "acknowledge", "verify", "consider", "implement", "confirm")
    assert (await door.studies(PatientID=DAVID.nhs_number)).studies == before.studies


async def test_a_verified_request_restricts_before_it_is_implemented(door: Door, region: Region) -> None:
    case = await opt_out_case(region, "optout", EVE.nhs_number, "acknowledge")
    assert (await door.studies(PatientID=EVE.nhs_number)).rows  # acknowledged is not implemented
    await region.must("optout", "verify", case)
    assert not (await door.studies(PatientID=EVE.nhs_number)).rows
    await region.must("optout", "withdraw", case)
    assert (await door.studies(PatientID=EVE.nhs_number)).rows


async def test_a_label_hides_and_its_removal_shows_again(door: Door, region: Region) -> None:
    study = study_instance_uid(cast.KATE_KNEE_MR)
    label = json.loads(
        await region.must(
            *("label", "add", "--patient", KATE.nhs_number, "--trust", "RZ3", "--study", study),
            *("--kind", "staff", "--json"),
        )
    )
    assert study not in (await door.studies(PatientID=KATE.nhs_number)).studies
    await region.must("label", "remove", str(label["label"]))
    assert study in (await door.studies(PatientID=KATE.nhs_number)).studies


async def test_a_new_agreement_narrows_what_is_shown(door: Door, region: Region) -> None:
    narrow = region.folder / "narrow.toml"
    narrow.write_text('custodian = "RZ3"\n[[clause]]\nmodalities = ["CT"]\n', encoding="utf-8")
    preview = await region.must("agreement", "import", str(narrow), "--dry-run")
    assert "RZ1" in preview  # who would lose access is said before anything changes
    await region.must("agreement", "import", str(narrow))
    try:
        answer = await door.studies(PatientID=KATE.nhs_number)
        assert not answer.rows
        assert any("RZ3" in text and "only CT" in text for text in answer.notices)
    finally:
        await region.must("agreement", "import", str(region.folder / "registers" / "agreement-RZ3.toml"))
    assert (await door.studies(PatientID=KATE.nhs_number)).rows


async def test_a_past_decision_replays_from_its_record(viewer: Viewer, region: Region) -> None:
    answer = await viewer.studies(PatientID=CLARA.nhs_number)
    request = answer.headers["Gateway-Correlation"]
    shown = json.loads(await region.must("audit", "show", "--request", request, "--json"))
    attempt = next(record["said"] for record in shown if record["said"]["event"] == "query-attempt")
    decision = attempt["body"]["decision"]["decision_id"]
    replayed = json.loads(await region.must("explain", "--decision", decision, "--json"))
    assert "no-care-relationship" in json.dumps(replayed)
    assert replayed["replays_equal"] is True
