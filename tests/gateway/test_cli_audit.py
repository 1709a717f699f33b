"""Commands that read, verify and guard the audit, and those that back it up and bring it back."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from tests.gateway.commands import ANNE, BEN, Commands
from tests.gateway.commands import gateway as gateway  # the fixture


def falsify(gateway: Commands, statement: str) -> None:
    """Change the database as nobody should."""
    with closing(sqlite3.connect(gateway.folder / "var" / "data" / "gateway.db")) as connection:
        connection.execute(statement)
        connection.commit()


def test_a_whole_audit_is_verified(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient", ANNE)
    assert "whole" in gateway.do("audit", "verify")
    found = gateway.json("audit", "verify")
    assert (found["whole"], found["records"], found["chains"][0]["node"]) == (True, 1, "node-1-cli")


def test_the_first_record_that_was_changed_is_named(gateway: Commands) -> None:
    for number in (ANNE, BEN):
        gateway.do("patient", "add", "--patient", number)
    falsify(gateway, "UPDATE audit_record SET encoded = replace(encoded, 'create', 'delete') WHERE sequence = 2")
    status, output = gateway.status("audit", "verify", "--json")
    found = json.loads(output)
    assert status == 1
    assert [(chain["first_broken"], chain["state"]) for chain in found["chains"]] == [(2, "BROKEN")]
    status, output = gateway.status("audit", "verify")
    assert (status, "NOT WHOLE" in output) == (1, True)


def test_a_cut_tail_shows_against_the_second_place(gateway: Commands) -> None:
    for number in (ANNE, BEN):
        gateway.do("patient", "add", "--patient", number)
    assert gateway.json("audit", "checkpoint")["chains"] == ["node-1-cli 2"]
    falsify(gateway, "DELETE FROM audit_record WHERE sequence = 2")
    falsify(gateway, "UPDATE audit_head SET sequence = 1, hash = (SELECT hash FROM audit_record WHERE sequence = 1)")
    assert gateway.status("audit", "verify")[0] == 1


def test_a_second_place_taken_away_is_noticed(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient", ANNE)
    gateway.do("audit", "checkpoint")
    (gateway.folder / "var" / "anchor" / "checkpoints.jsonl").unlink()
    status, output = gateway.status("audit", "verify")
    assert status == 1
    assert "second place" in output


def test_records_are_shown_by_period_and_by_request_and_the_reading_is_recorded(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient", ANNE, "--by", "anna")
    shown = gateway.json("audit", "show", "--by", "ivan.auditor")
    assert [record["said"]["event"] for record in shown] == ["register-change"]
    request = shown[0]["said"]["request"]
    by_request = gateway.json("audit", "show", "--request", request, "--by", "ivan.auditor")
    assert [record["record"] for record in by_request] == [1]
    readings = [said["body"] for said in gateway.audit() if said["event"] == "audit-read"]
    assert [reading["by"] for reading in readings[:2]] == ["ivan.auditor", "ivan.auditor"]
    table = gateway.do("audit", "show", "--since", "2026-01-01", "--until", "2036-01-01")
    assert "act=create" in table
    assert "act=create" not in gateway.do("audit", "show", "--until", "2026-01-01", "--since", "2025-01-01")
    reads = gateway.json("audit", "show", "--event", "audit-read")
    assert reads and {record["said"]["event"] for record in reads} == {"audit-read"}
    assert gateway.json("audit", "show", "--event", "security-alert") == []
    assert gateway.status("audit", "show", "--event", "alert")[0] == 2


def test_an_export_goes_on_where_the_last_one_ended(gateway: Commands) -> None:
    for number in (ANNE, BEN):
        gateway.do("patient", "add", "--patient", number)
    lines = gateway.do("audit", "export", "--node", "node-1-cli", "--after", "1").splitlines()
    assert [json.loads(line)["record"] for line in lines] == [2, 3], "the export's own record is the third"
    assert "name it by --node" in gateway.refused("audit", "export", "--after", "1")


def test_a_backup_is_brought_back_whole_and_accepted_with_a_reason(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient", ANNE)
    gateway.do("audit", "checkpoint")
    folder = str(gateway.folder / "backup")
    assert gateway.json("backup", folder)["chains"] == ["node-1-cli 1"]
    gateway.do("optout", "receive", "--patient", ANNE, "--channel", "paper")
    gateway.do("audit", "checkpoint")
    assert "empty" in gateway.refused("restore", folder), "never over a database"
    shutil.rmtree(gateway.folder / "var" / "data")
    gateway.do("restore", folder)
    assert gateway.status("audit", "verify")[0] == 1, "what came after the backup is missed"
    assert gateway.status("audit", "accept-restore")[0] == 2, "no reason, no acceptance"
    accepted = gateway.json("audit", "accept-restore", "--reason", "disk of the 21st lost", "--by", "omar")
    assert accepted["opt_out_events_lost"] == 1, "the opt-out must be entered again"
    assert gateway.status("audit", "verify")[0] == 0
    assert "no restore to accept" in gateway.refused("audit", "accept-restore", "--reason", "again")
    assert gateway.json("patient", "show", "--patient", ANNE)


def test_a_backup_that_was_touched_is_refused(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient", ANNE)
    folder = gateway.folder / "backup"
    gateway.do("backup", str(folder))
    shutil.rmtree(gateway.folder / "var" / "data")
    file = folder / "gateway.db"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "manifest" in gateway.refused("restore", str(folder))


@pytest.mark.parametrize("command", [("audit", "verify"), ("patient", "links"), ("optout", "list")])
def test_a_configuration_that_cannot_be_used_is_exit_code_2_with_its_path(
    gateway: Commands, command: tuple[str, ...]
) -> None:
    gateway.path.write_text('[gateway]\nmode = "live"\n')
    status, _ = gateway.status(*command)
    assert status == 2
    assert "gateway.mode: " in gateway.errors


def test_a_listener_without_certificates_holds_up_no_opt_out(gateway: Commands) -> None:
    assert gateway.status("check")[0] == 1, "serve could not start"
    gateway.do("optout", "receive", "--patient", ANNE, "--channel", "paper")


def test_a_database_of_another_version_is_named(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient", ANNE)
    falsify(gateway, "UPDATE alembic_version SET version_num = '0000'")
    status, _ = gateway.status("patient", "links")
    assert status == 2
    assert "schema 0000" in gateway.errors


def test_a_database_that_cannot_be_reached_is_told_from_a_refusal(gateway: Commands) -> None:
    (gateway.folder / "var" / "data").mkdir(parents=True)
    (gateway.folder / "var" / "data" / "gateway.db").mkdir()
    status, _ = gateway.status("patient", "links")
    assert status == 1
    assert "not done: " in gateway.errors


def test_help_names_every_command_and_check_says_what_is_missing(gateway: Commands) -> None:
    text = gateway.do("--help")
    for word in ("serve", "check", "version", "patient", "relationship", "optout", "optin", "agreement", "label"):
        assert word in text
    for word in ("grant", "quality", "policy", "audit", "backup", "restore", "explain", "demo"):
        assert word in text
    assert gateway.json("version")["rule_set"]
    status, output = gateway.status("check")
    assert "listen.machines.certificate: must be set" in output
    status, output = gateway.status("check", "--json")
    assert (status, json.loads(output)["valid"]) == (1, False)
