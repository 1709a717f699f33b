"""`gateway jobs`, `cache` and `keys`, and what implementing an opt-out closes: on a real store and real keys."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.cli.operating import cache as cache_commands
from gateway.cli.session import configuration_of
from gateway.keeping.keeping import Keeping
from gateway.keeping.work import EVICT, VERIFY, kind_of
from gateway.model.errors import KeyClosed
from gateway.model.work.jobs import FailureKind, Lane, NewJob, RetryTerms
from gateway.model.work.retrievals import InstanceState
from gateway.model.work.transfers import KeyDomain
from gateway.node import SystemClock, open_store
from policy.parties import NhsNumber
from storage.observations.pseudonyms import pseudonyms
from storage.registers import patients
from storage.store import SqlStore
from storage.work import jobs
from storage.work.ledger import SqlLedger
from tests.gateway.commands import ANNE, BEN, Commands
from tests.gateway.commands import gateway as gateway  # the fixture
from tests.gateway.node import Node
from tests.storage.cache_rig import body, head
from tests.storage.test_ledger import frozen, noted, retrieval

NODE = "node-1"
Work = Callable[[Keeping, SqlStore], Awaitable[None]]


def served(gateway: Commands, work: Work) -> None:
    """Let the node's gateway have been there, and have done this."""
    gateway.do("patient", "add", "--patient", ANNE)  # makes the database
    configuration, clock = configuration_of(gateway.path), SystemClock()

    async def run() -> None:
        stand_ins = pseudonyms(configuration.storage.location_key)
        async with (
            open_store(configuration, clock, node=NODE) as store,
            Keeping(configuration, store, stand_ins, clock, lambda _: None) as keeping,
        ):
            await work(keeping, store)

    asyncio.run(run())


async def nothing(keeping: Keeping, store: SqlStore) -> None:
    """It was only started."""


async def anne_has_a_study(keeping: Keeping, store: SqlStore) -> None:
    """An instance of hers was taken in."""
    async with keeping.cache.put(head(patient_row=await row_of(store, ANNE))) as writing:
        writing.add(body(1_000))
        await writing.commit()


async def row_of(store: SqlStore, number: str) -> str:
    found = await store.read(lambda read: patients.find(read, patients.nhs(NhsNumber(number))))
    assert found is not None
    return found


def queued(gateway: Commands, new: NewJob, words: str = "") -> str:
    """A job; it has failed where `words` say why."""
    ids: list[str] = []

    async def work(keeping: Keeping, store: SqlStore) -> None:
        ids.append((await store.write(lambda tx: jobs.enqueue(tx, new))).job_id)
        if words:
            [job] = await keeping.book.claim("r", new.lane, 1, timedelta(minutes=1), [new.kind])
            await keeping.book.fail(job.claim, FailureKind.PERMANENT, words, RetryTerms())

    served(gateway, work)
    return ids[0]


def opt_out(gateway: Commands, number: str = ANNE) -> str:
    """A request, verified; its number."""
    case = str(gateway.json("optout", "receive", "--patient", number, "--channel", "paper")["case"])
    gateway.do("optout", "verify", case)
    return case


def test_a_queued_job_is_listed_shown_and_cancelled_by_name(gateway: Commands) -> None:
    job = queued(gateway, NewJob("fetch", Lane.INTERACTIVE, {"study": "1.2"}))
    [listed] = gateway.json("jobs", "list")
    assert (listed["job"], listed["lane"], listed["state"]) == (job, "interactive", "ready")
    shown = gateway.json("jobs", "show", job)
    assert (shown["of_study"], shown["attempts"], shown["runner"]) == ("1.2", "0 of 8", "")
    cancelled = gateway.json("jobs", "cancel", job, "--by", "anna", "--reason", "not wanted")
    assert (cancelled["state"], cancelled["words"]) == ("cancelled", "not wanted")
    assert gateway.json("jobs", "list") == []
    assert [each["job"] for each in gateway.json("jobs", "list", "--state", "cancelled")] == [job]
    assert "cancelled already" in gateway.refused("jobs", "cancel", job)
    change = gateway.changes()[-1]
    assert (change["register"], change["act"], change["by"], change["row"]) == ("jobs", "cancel", "anna", job)


def test_a_failed_job_says_why_and_is_tried_again(gateway: Commands) -> None:
    job = queued(gateway, NewJob("fetch", Lane.BACKGROUND), "the archive sent half")
    [listed] = gateway.json("jobs", "list")
    assert (listed["state"], listed["failure"], listed["words"]) == ("failed", "permanent", "the archive sent half")
    assert "the archive sent half" in gateway.do("jobs", "list")
    assert gateway.json("jobs", "retry", job)["state"] == "ready"
    assert "only one that failed" in gateway.refused("jobs", "retry", job)


def test_jobs_are_picked_by_kind_and_bounded(gateway: Commands) -> None:
    queued(gateway, NewJob("fetch", Lane.BACKGROUND))
    queued(gateway, NewJob("fetch", Lane.EMERGENCY))
    assert [each["lane"] for each in gateway.json("jobs", "list", "--kind", "fetch")] == ["emergency", "background"]
    assert len(gateway.json("jobs", "list", "--count-max", "1")) == 1
    assert gateway.do("jobs", "list", "--kind", "push") == "no such job\n"
    assert "no such job" in gateway.refused("jobs", "show", "x")


def test_the_cache_is_counted_class_by_class_without_a_patient(gateway: Commands) -> None:
    served(gateway, anne_has_a_study)
    status = gateway.json("cache", "status")
    interactive, *others = status["classes"]
    assert (interactive["class"], interactive["studies"], interactive["instances"]) == ("interactive", 1, 1)
    assert 1_000 < interactive["bytes"] < interactive["bytes_max"]
    assert [each["instances"] for each in others] == [0, 0, 0]
    assert status["disk"]["free_bytes"] > 0
    text = gateway.do("cache", "status")
    assert "kept free" in text and ANNE not in text and "1.2" not in text.replace(status["disk"]["folder"], "")


def test_sole_copies_are_listed_with_what_keeps_them_so_and_without_a_patient(gateway: Commands) -> None:
    async def sent_by_its_trust(keeping: Keeping, store: SqlStore) -> None:
        wanted = head(study="1.3", sop="1.3.1", patient_row=await row_of(store, ANNE), is_sole_copy=True)
        async with keeping.cache.put(wanted) as writing:
            writing.add(body(1_000))
            await writing.commit()

    served(gateway, anne_has_a_study)
    assert gateway.do("cache", "sole") == "everything that is kept here is elsewhere as well\n"
    served(gateway, sent_by_its_trust)
    [found] = gateway.json("cache", "sole")
    assert (found["study"], found["instances"], found["tries"]) == ("1.3", 1, 0)
    assert "custody" in found["why"] and ANNE not in gateway.do("cache", "sole")


def test_a_node_that_never_served_has_no_cache_and_no_keys(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient", ANNE)
    assert "makes it at its first start" in gateway.do("cache", "status")
    assert "no key store yet" in gateway.refused("keys", "status")
    assert "no key store yet" in gateway.refused("keys", "rotate")
    assert not (gateway.folder / "var" / "data" / "keys.db").exists()


@pytest.mark.parametrize(
    ("arguments", "what", "detail"),
    [
        (("verify",), VERIFY, {"of_everything": True}),
        (("verify", "1.2"), VERIFY, {"of_study": "1.2"}),
        (("evict", "--all"), EVICT, {"of_everything": True}),
        (("evict", "1.2", "--reason", "wrong"), EVICT, {"of_study": "1.2"}),
    ],
)
def test_work_on_the_cache_waits_for_the_gateway_and_says_so(
    gateway: Commands,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    what: str,
    detail: dict[str, object],
) -> None:
    monkeypatch.setattr(cache_commands, "UNTAKEN_UNHEARD_S", 0.0)
    job = gateway.json("cache", *arguments, "--by", "anna")
    assert job["kind"] == kind_of(what, NODE) and detail.items() <= job.items()
    assert f"and the job is queued until it runs: gateway jobs show {job['job']}" in gateway.errors
    change = gateway.changes()[-1]
    assert (change["register"], change["act"], change["by"]) == ("cache", what, "anna")


def test_what_is_evicted_is_said_in_so_many_words(gateway: Commands) -> None:
    assert "--all" in gateway.refused("cache", "evict")
    assert "--all" in gateway.refused("cache", "evict", "1.2", "--all")


def test_keys_are_counted_and_rotated_and_nothing_is_out_of_reach(gateway: Commands) -> None:
    served(gateway, anne_has_a_study)
    before = gateway.json("keys", "status")
    assert (before["opens"], before["epochs_live"], before["study_keys"], before["closed"]) == (True, 1, 1, 0)
    rotated = gateway.json("keys", "rotate", "--by", "anna", "--reason", "yearly")
    assert (rotated["epochs_retired"], rotated["epochs_live"]) == (1, 1)
    assert rotated["master_key_since"] > before["master_key_since"]
    assert gateway.json("keys", "status")["study_keys"] == 1
    change = gateway.changes()[-1]
    assert (change["register"], change["act"], change["by"], change["reason"]) == ("keys", "rotate", "anna", "yearly")

    async def still_there(keeping: Keeping, store: SqlStore) -> None:
        [found] = await keeping.cache.instances("1.2")
        async with keeping.cache.open(found) as pieces:
            assert b"".join([piece async for piece in pieces]) == body(1_000)

    served(gateway, still_there)


def test_keys_that_do_not_open_are_told_with_a_status_and_are_not_rotated(gateway: Commands) -> None:
    served(gateway, anne_has_a_study)
    key_file = gateway.folder / "var" / "keys" / "master-keys.json"
    key_file.rename(key_file.with_name("away"))
    status, output = gateway.status("keys", "status", "--json")
    assert status == 1 and "the key file cannot be read" in json.loads(output)["fault"]
    status, _ = gateway.status("keys", "rotate")
    assert status == 1 and "the key file cannot be read" in gateway.errors


def test_a_key_that_waits_too_long_for_its_destruction_is_told(gateway: Commands) -> None:
    served(gateway, anne_has_a_study)
    text = gateway.path.read_text()
    gateway.do("optout", "implement", opt_out(gateway))
    assert gateway.json("keys", "status")["destruction_overdue"] is False
    gateway.path.write_text(text + "[keys]\nshred_after_hours = 0\n")
    with closing(sqlite3.connect(gateway.folder / "var" / "data" / "keys.db")) as keys, keys:
        keys.execute("UPDATE key_closure SET closed_at = closed_at - 7200000000")
    status, output = gateway.status("keys", "status", "--json")
    assert status == 1 and json.loads(output)["destruction_overdue"] is True


def test_implementing_an_opt_out_closes_the_patients_keys_at_once_without_a_gateway(gateway: Commands) -> None:
    served(gateway, anne_has_a_study)
    case = opt_out(gateway)
    assert gateway.json("keys", "status")["closed"] == 0, "a restriction closes no keys"
    gateway.do("optout", "implement", case)
    assert gateway.json("keys", "status")["closed"] == 1

    async def closed(keeping: Keeping, store: SqlStore) -> None:
        with pytest.raises(KeyClosed):
            await keeping.keyring.data_key("1.2", await row_of(store, ANNE), KeyDomain.CACHE)
        assert await keeping.cache.instances("1.2") == ()

    served(gateway, closed)


@pytest.mark.parametrize("harm", ["keys.db is no database", "no key file", "[keys] is wrong"])
def test_nothing_of_keys_holds_up_an_opt_out(gateway: Commands, harm: str) -> None:
    served(gateway, anne_has_a_study)
    case = opt_out(gateway)
    if harm == "keys.db is no database":
        for file in (gateway.folder / "var" / "data").glob("keys.db*"):
            file.write_bytes(b"x" * 4096)
    elif harm == "no key file":
        (gateway.folder / "var" / "keys" / "master-keys.json").unlink()
    else:
        gateway.path.write_text(gateway.path.read_text() + '[keys]\nwrapper = "paper"\n')
    assert gateway.json("optout", "implement", case)["state"] == "implemented"
    assert ("as soon as it can" in gateway.errors) is (harm == "keys.db is no database")


def test_the_officer_sees_to_whom_a_patients_images_were_delivered(gateway: Commands) -> None:
    rows: dict[str, str] = {}

    async def delivered(keeping: Keeping, store: SqlStore) -> None:
        rows["anne"] = await row_of(store, ANNE)
        mine, other = frozen(1, patient_row=rows["anne"]), frozen(2, study="1.9", patient_row="somebody")
        ledger = SqlLedger(store, NODE)
        await ledger.freeze(retrieval("r", [mine, other]))
        await ledger.note("r", [noted(each, InstanceState.SENT) for each in (mine, other)])

    served(gateway, delivered)
    case = opt_out(gateway)
    [row] = gateway.json("optout", "delivered", case, "--by", "anna", "--since", "2026-11-01")
    assert (row["trust"], row["asked_by"], row["study"], row["instances"]) == ("RJ1", "north-pacs", "1.2", 1)
    [look] = [entry for entry in gateway.audit() if entry["event"] == "explain"]
    assert "optout-delivered" in str(look) and "anna" in str(look)
    assert gateway.do("optout", "delivered", opt_out(gateway, BEN)) == "nothing since then\n"


@pytest.mark.slow
async def test_a_gateway_that_serves_does_the_work_and_follows_the_command_lines_opt_out(tmp_path: Path) -> None:
    node = Node(tmp_path)
    async with node.serving() as serving:
        verified = await node.run("cache", "verify", "--json")
        assert (verified.status, json.loads(verified.output)["state"]) == (0, "done"), verified.errors
        rotated = await node.run("keys", "rotate", "--json")
        assert rotated.status == 0, rotated.errors
        case = await node.run("optout", "receive", "--patient", ANNE, "--channel", "paper")
        assert case.status == 0, case.errors
        for event in ("verify", "implement"):
            assert (await node.run("optout", event, "1")).status == 0
        # The command closes the keys itself; were it killed before that, the gateway would have.
        status, text = await serving.get(f"{serving.people}/status")
        assert status == 200 and json.loads(text)["images"] == {"ready": True, "reason": ""}
        closed = await node.run("keys", "status", "--json")
        assert json.loads(closed.output)["closed"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["no key file", "a file in the folder's place"])
async def test_questions_are_answered_although_images_cannot_be_had(tmp_path: Path, harm: str) -> None:
    node = Node(tmp_path)
    async with node.serving():
        pass
    if harm == "no key file":
        (tmp_path / "var" / "keys" / "master-keys.json").unlink()
        words = "the key file cannot be read"
    else:
        (tmp_path / "file").touch()
        node.write(f'[cache]\nfolder = "{tmp_path / "file"}"')
        words = "cache.folder: cannot be used"
    async with node.serving() as serving:
        told = await serving.logged("images not available")
        assert told["alarm"] is True and words in str(told["reason"])
        status, text = await serving.get(f"{serving.people}/status")
        assert (json.loads(text)["ready"], json.loads(text)["images"]["ready"]) == (True, False)
        status, _ = await serving.get(f"{serving.machines}/studies?PatientID={ANNE}", node.pacs)
        assert status == 403, "judged as ever: there is no care relationship"
        _, figures = await serving.get(f"{serving.people}/metrics")
        assert "gateway_images_ready 0.0" in figures and "gateway_ready 1.0" in figures
