"""Commands on the registers, on a real store: what they print, what they refuse, and that each act is recorded."""

import pytest

from tests.gateway.commands import ANNE, BEN, CLARA, Commands
from tests.gateway.commands import gateway as gateway  # the fixture


def test_a_patient_is_made_known_once_with_local_identifiers(gateway: Commands) -> None:
    first = gateway.json("patient", "add", "--patient", ANNE, "--local", "NORTHMOOR-PAS:0001234")
    again = gateway.json("patient", "add", "--patient", "999 000 0018")
    assert first["patient_row"] == again["patient_row"]
    shown = gateway.json("patient", "show", "--patient", ANNE)
    assert {(row["issuer"], row["value"]) for row in shown} == {("NHS", ANNE), ("NORTHMOOR-PAS", "0001234")}
    assert gateway.json("patient", "show", "--local", "NORTHMOOR-PAS:0001234") == shown
    assert "no patient" in gateway.refused("patient", "show", "--local", "NORTHMOOR-PAS:1234"), "zeros count"


def test_a_number_need_not_stand_in_the_process_list(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient-file", "-", typed=f"{ANNE}\n")
    gateway.do("patient", "show", "--patient-file", gateway.file("number", ANNE))
    assert "one of the two" in gateway.refused("patient", "show")


@pytest.mark.parametrize("number", ["9434765919", "9990000019", "99900000", "Walker"])
def test_a_number_that_is_not_of_this_gateway_is_refused_without_repeating_it(gateway: Commands, number: str) -> None:
    assert number not in gateway.refused("patient", "add", "--patient", number)


def test_who_acts_stands_in_the_audit(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient", ANNE, "--by", "anna.ig")
    [change] = gateway.changes()
    assert (change["by"], change["register"], change["act"]) == ("anna.ig", "patients", "create")
    assert ANNE not in str(gateway.audit())


def test_nobody_acts_without_a_name(gateway: Commands) -> None:
    assert "--by" in gateway.refused("patient", "add", "--patient", ANNE, "--by", " ")


def test_two_patients_are_joined_by_two_people(gateway: Commands) -> None:
    for number in (ANNE, BEN):
        gateway.do("patient", "add", "--patient", number)
    merge = gateway.json("patient", "link", "--patient", BEN, "--survivor", ANNE, "--by", "anna")["merge"]
    assert "second person" in gateway.refused("patient", "confirm-link", merge, "--by", "anna")
    gateway.do("patient", "confirm-link", merge, "--by", "bert")
    assert [row["confirmed"] for row in gateway.json("patient", "links")] == [True]
    gateway.do("patient", "unlink", merge, "--by", "anna")
    assert gateway.json("patient", "links") == []


def test_a_relationship_is_added_ended_and_listed(gateway: Commands) -> None:
    added = gateway.json(
        *("relationship", "add", "--patient", ANNE, "--trust", "rz1", "--kind", "referral"),
        *("--evidence", "REF-1", "--team", "ent", "--from", "2026-01-01"),
    )
    [listed] = gateway.json("relationship", "list", "--patient", ANNE)
    assert listed["relationship"] == added["relationship"]
    assert (listed["trust"], listed["team"], listed["in_force"]) == ("RZ1", "ent", True)
    assert listed["from"].startswith("2026-01-01T00:00:00"), "London is on GMT in January"
    gateway.do("relationship", "end", added["relationship"], "--at", "2026-02-01T12:00+00:00")
    [listed] = gateway.json("relationship", "list", "--patient", ANNE)
    assert listed["in_force"] is False
    gateway.do("relationship", "undo", added["relationship"])
    assert gateway.json("relationship", "list", "--patient", ANNE) == []
    assert [change["act"] for change in gateway.changes()] == ["create", "add", "end", "undo"]


def test_a_relationship_of_an_unknown_trust_is_refused(gateway: Commands) -> None:
    arguments = ("--patient", ANNE, "--kind", "referral", "--evidence", "x")
    assert "RZ9" in gateway.refused("relationship", "add", "--trust", "RZ9", *arguments)


def test_a_file_of_relationships_is_added_once(gateway: Commands) -> None:
    sheet = gateway.file(
        "relationships.csv",
        f"\ufeffNHS_number,trust,kind,evidence,team,until\n{ANNE},RZ1,referral,r1,ent,\n{BEN},RZ1,mdt,r2,,2030-01-01\n",
    )
    first = gateway.json("relationship", "import", sheet)
    again = gateway.json("relationship", "import", sheet)
    assert (first, again) == (
        {"rows": 2, "added": 2, "there_already": 0},
        {"rows": 2, "added": 0, "there_already": 2},
    )
    assert "relationships: 2 of 2" in gateway.errors, "progress is for eyes, on standard error"
    assert gateway.json("relationship", "list", "--patient", BEN)[0]["until"].startswith("2030-01-01")


def test_every_faulty_row_of_a_file_is_named_and_nothing_is_imported(gateway: Commands) -> None:
    sheet = gateway.file(
        "bad.csv",
        f"nhs_number,trust,kind,evidence\n{ANNE},RZ1,referral,r1\n{ANNE},RZ9,referral,r1\n"
        f"9990000019,RZ1,referral,r1\n{BEN},RZ1,hearsay,r1\n{BEN},RZ1,referral,\n",
    )
    told = gateway.refused("relationship", "import", sheet).splitlines()
    assert [line.split(":")[0] for line in told[1:]] == ["row 3", "row 4", "row 5", "row 6"]
    assert "nothing was imported" in told[0]
    assert "9990000019" not in str(told)
    assert "no patient" in gateway.refused("relationship", "list", "--patient", ANNE)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("trust,kind,evidence\n", "lacks the column nhs_number"),
        ("nhs_number,trust,kind,evidence,colour\n", "unknown column 'colour'"),
        ("nhs_number,trust,kind,evidence,trust\n", "a column twice"),
        (f"nhs_number,trust,kind,evidence\n{ANNE},RZ1\n", "row 2 has not as many cells"),
        ('nhs_number,trust,kind,evidence\n"a"b,\n', "not a CSV file"),
        ("", "lacks the column"),
    ],
)
def test_a_file_of_another_form_is_refused(gateway: Commands, text: str, problem: str) -> None:
    assert problem in gateway.refused("relationship", "import", gateway.file("x.csv", text))


def test_an_opt_out_case_is_walked_from_receipt_to_confirmation(gateway: Commands) -> None:
    received = gateway.json(
        "optout",
        "receive",
        "--patient",
        ANNE,
        "--channel",
        "paper",
        "--at",
        "2026-12-23T10:00",
        "--applicant",
        "mother",
    )
    assert (received["case"], received["state"], received["acts"]) == (1, "received", "not yet")
    # Christmas Day, a Friday, is a bank holiday in this configuration: two working days end on Monday the 28th.
    assert received["acknowledge_by"].startswith("2026-12-29T00:00")
    assert "acknowledgement" in received["letters_due"]
    steps = ("acknowledge", "verify", "consider", "implement", "confirm")
    acts = [gateway.json("optout", step, "1", "--by", "anna")["acts"] for step in steps]
    assert acts == ["not yet", "provisional restriction", "provisional restriction", "implemented", "implemented"]
    shown = gateway.json("optout", "show", received["id"])
    assert [event["event"] for event in shown["history"]] == [
        *("receive", "acknowledge", "verify", "consider", "implement", "confirm"),
    ]
    assert (shown["channel"], shown["applicant"], shown["letters_due"]) == ("paper", "mother", [])
    assert ANNE not in str(gateway.audit()) + str(gateway.json("optout", "list"))


def test_what_policy_refuses_is_told_in_its_words(gateway: Commands) -> None:
    gateway.do("optout", "receive", "--patient", ANNE, "--channel", "paper")
    assert "not in this state" in gateway.refused("optout", "implement", "1")
    assert "not by this role" in gateway.refused("optout", "verify", "1", "--role", "patient")
    assert "no opt-out case" in gateway.refused("optout", "verify", "2")
    assert "no opt-in case" in gateway.refused("optin", "verify", "1"), "an opt-out is no opt-in"
    assert "channel" in gateway.refused("optout", "receive", "--patient", BEN, "--channel", "pigeon")


def test_rejected_and_withdrawn_cases_end_with_a_closing_message(gateway: Commands) -> None:
    for number in (ANNE, BEN):
        gateway.do("optout", "receive", "--patient", number, "--channel", "web-form")
    assert gateway.json("optout", "reject", "1", "--reason", "identity not shown")["state"] == "rejected"
    assert gateway.json("optout", "withdraw", "2", "--role", "patient")["letters_due"] == ["acknowledgement", "closing"]
    assert {case["case"] for case in gateway.json("optout", "list", "--open")} == {1, 2}, "letters are still due"
    for number in ("1", "2"):
        gateway.do("optout", "acknowledge", number)
        gateway.do("optout", "close", number)
    assert gateway.json("optout", "list", "--open") == []


def test_an_opt_in_goes_the_same_way(gateway: Commands) -> None:
    gateway.do("optin", "receive", "--patient", ANNE, "--channel", "telephone")
    gateway.do("optin", "verify", "1")
    assert gateway.json("optin", "implement", "1")["acts"] == "implemented"
    assert gateway.json("optout", "list") == []


def test_a_case_without_an_nhs_number_is_kept_on_the_local_one(gateway: Commands) -> None:
    gateway.do("optout", "receive", "--local", "NORTHMOOR-PAS:0001", "--channel", "paper")
    assert len(gateway.json("optout", "list")) == 1


def test_broken_promises_are_listed(gateway: Commands) -> None:
    gateway.do("optout", "receive", "--patient", ANNE, "--channel", "paper", "--at", "2026-01-05")
    gateway.do("optout", "receive", "--patient", BEN, "--channel", "paper")
    [late] = gateway.json("optout", "list", "--overdue")
    assert (late["case"], late["overdue"]) == (1, ["acknowledgement", "implement"])


def test_a_file_of_requests_is_received_once(gateway: Commands) -> None:
    sheet = gateway.file("forms.csv", f"nhs_number,local,channel\n{ANNE},,paper\n,EASTVALE-PAS:77,paper\n")
    assert gateway.json("optout", "import", sheet) == {"rows": 2, "received": 2, "there_already": 0}
    assert gateway.json("optout", "import", sheet) == {"rows": 2, "received": 0, "there_already": 2}
    bad = gateway.file("bad.csv", f"nhs_number,local,channel\n,,paper\n{ANNE},X:1,paper\n{CLARA},,pigeon\n")
    assert len(gateway.refused("optout", "import", bad).splitlines()) == 4


AGREEMENT = (
    'custodian = "RZ2"\n[[clause]]\nmodalities = ["CT", "cr"]\n[[clause]]\nrecipients = ["RZ1"]\nmodalities = ["MR"]\n'
)


def test_an_agreement_is_imported_shown_and_compared(gateway: Commands) -> None:
    first = gateway.file("first.toml", AGREEMENT)
    assert gateway.json("agreement", "import", first, "--reason", "signed")["version"] == 1
    shown = gateway.json("agreement", "show", "--trust", "RZ2")
    assert [(row["recipients"], row["modalities"]) for row in shown] == [(["any"], ["CR", "CT"]), (["RZ1"], ["MR"])]
    second = gateway.file(
        "second.json", '{"custodian": "RZ2", "clause": [{"modalities": ["CR", "CT"]}, {"age_min_years": 16}]}'
    )
    changes = {(row["change"], tuple(row["modalities"])) for row in gateway.json("agreement", "diff", second)}
    assert changes == {("removed", ("MR",)), ("added", ("any",)), ("kept", ("CR", "CT"))}
    gateway.do("agreement", "import", second)
    assert [row["version"] for row in gateway.json("agreement", "list")] == [1, 2]
    assert gateway.json("agreement", "show", "--trust", "RZ1") == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('custodian = "RZ9"', "RZ9"),
        ("", "custodian: must be set"),
        ('custodian = "RZ2"\ncolour = 1', "colour: no such setting"),
        ('custodian = "RZ2"\n[[clause]]\nmodality = ["CT"]', "clause 1: modality: no such setting"),
        ('custodian = "RZ2"\n[[clause]]\nmodalities = []', "clause 1: modalities: is empty"),
        ('custodian = "RZ2"\n[[clause]]\npurposes = ["TREATMENT"]', "clause 1: purposes: 'TREATMENT'"),
        ('custodian = "RZ2"\n[[clause]]\nage_min_years = -1', "clause 1: age_min_years: must be"),
        ('custodian = "RZ2"\n[[clause]]\nage_min_years = 20\nage_max_years = 10', "below its lower age"),
        ('custodian = "RZ2"\n[[clause]]\n[[clause]]', "two clauses of the agreement are equal"),
        ("custodian = ", "neither TOML nor"),
    ],
)
def test_a_faulty_agreement_is_refused_in_words(gateway: Commands, text: str, problem: str) -> None:
    assert problem in gateway.refused("agreement", "import", gateway.file("a.toml", text))
    assert gateway.json("agreement", "list") == []


def test_a_dry_run_counts_who_would_gain_and_lose_and_changes_nothing(gateway: Commands) -> None:
    for number in (ANNE, BEN):
        gateway.do(
            *("relationship", "add", "--patient", number, "--trust", "RZ1", "--kind", "mdt", "--evidence", "list-7")
        )
    gateway.do("patient", "add", "--patient", CLARA)
    gateway.do("optout", "receive", "--patient", BEN, "--channel", "paper")
    gateway.do("optout", "verify", "1")
    gateway.do("agreement", "import", gateway.file("one.toml", 'custodian = "RZ2"\n[[clause]]\nmodalities = ["CT"]\n'))
    proposed = gateway.file("two.toml", 'custodian = "RZ2"\n[[clause]]\nmodalities = ["MR"]\nage_min_years = 16\n')
    rows = gateway.json("agreement", "import", proposed, "--dry-run")
    assert {
        (row["recipient"], row["modality"], row["age_from"], row["patients_gained"], row["patients_lost"])
        for row in rows
    } == {
        ("RZ1", "CT", None, 0, 1),
        ("RZ1", "CT", 0, 0, 1),
        ("RZ1", "CT", 16, 0, 1),
        ("RZ1", "MR", 16, 1, 0),
    }, "Anne alone: Ben opted out, Clara is in nobody's care"
    assert [row["version"] for row in gateway.json("agreement", "list")] == [1]


def test_a_change_of_settings_is_compared_the_same_way(gateway: Commands) -> None:
    gateway.do("relationship", "add", "--patient", ANNE, "--trust", "RZ1", "--kind", "mdt", "--evidence", "list-7")
    gateway.do("agreement", "import", gateway.file("all.toml", 'custodian = "RZ2"\n[[clause]]\n'))
    text = gateway.path.read_text()
    closed = gateway.file("closed.toml", text.replace('name = "Eastvale"\nenrolled = true', 'name = "Eastvale"'))
    [row] = gateway.json("policy", "diff", "--settings", closed)
    assert (row["recipient"], row["custodian"], row["patients_lost"]) == ("RZ1", "RZ2", 1)
    [named] = gateway.json("policy", "diff", "--settings", closed, "--patients", "--by", "anna")
    assert (named["patient"], named["would"]) == (ANNE, "lose")
    assert next(said["body"]["by"] for said in gateway.audit() if said["event"] == "audit-read") == "anna"
    same = gateway.file("same.toml", text)
    assert gateway.json("policy", "diff", "--settings", same) == []


def test_a_label_is_put_on_listed_and_ended(gateway: Commands) -> None:
    added = gateway.json(
        *("label", "add", "--trust", "RZ2", "--patient", ANNE, "--kind", "safeguarding", "--study", "1.2.3"),
        *("--visible-to", "ETREAT", "--team", "RZ1:paediatrics"),
    )
    [listed] = gateway.json("label", "list", "--patient", ANNE)
    assert (listed["label"], listed["study"], listed["visible_to"], listed["teams"]) == (
        added["label"],
        "1.2.3",
        ["ETREAT"],
        ["RZ1:paediatrics"],
    )
    gateway.do("label", "remove", added["label"])
    assert gateway.json("label", "list", "--patient", ANNE) == []
    faulty = ("label", "add", "--trust", "RZ2", "--patient", ANNE, "--kind", "staff")
    assert "UID" in gateway.refused(*faulty, "--study", "../etc")
    assert "ODS:team" in gateway.refused(*faulty, "--team", "paediatrics")


def test_a_grant_is_for_a_shift_at_most_and_needs_a_reason(gateway: Commands) -> None:
    grant = ("grant", "add", "--trust", "RZ1", "--patient", ANNE)
    added = gateway.json(*grant, "--reason", "found unconscious", "--hours", "2")
    assert [row["grant"] for row in gateway.json("grant", "list", "--patient", ANNE)] == [added["grant"]]
    gateway.do("grant", "end", added["grant"])
    assert gateway.json("grant", "list", "--patient", ANNE) == []
    assert "8 hours" in gateway.refused(*grant, "--reason", "x", "--hours", "8.1")
    assert "reason" in gateway.refused(*grant, "--reason", " ")
    assert gateway.status(*grant)[0] == 2
    assert "no [[caller]]" in gateway.refused(*grant, "--reason", "x", "--subject", "stranger")


def test_nothing_is_to_be_put_right_at_first(gateway: Commands) -> None:
    assert "nothing" in gateway.do("quality", "list")
    assert gateway.json("quality", "list", "--trust", "RZ2") == []
    assert "no such open item" in gateway.refused("quality", "resolve", "x", "--reason", "done")


def test_tables_are_for_eyes_and_show_no_control_characters(gateway: Commands) -> None:
    gateway.do(
        *("relationship", "add", "--patient", ANNE, "--trust", "RZ1", "--kind", "mdt"),
        *("--evidence", "evil\x1b[2Jlist\nforged"),
    )
    table = gateway.do("relationship", "list", "--patient", ANNE)
    assert len(table.splitlines()) == 2
    assert "\x1b" not in table
    assert "evil\\x1b[2Jlist\\x0aforged" in table


def test_a_replica_of_the_opt_out_register_counts_only_once_it_is_confirmed(gateway: Commands) -> None:
    gateway.path.write_text(gateway.path.read_text() + "[policy]\nopt_out_register_age_max_minutes = 10\n")
    gateway.do("relationship", "add", "--patient", ANNE, "--trust", "RZ1", "--kind", "referral", "--evidence", "REF-1")
    stale = gateway.status("explain", "--caller", "northmoor-pacs", "--patient", ANNE)[1]
    assert "register-unavailable" in stale
    gateway.do("optout", "register-confirmed", "--by", "anna.ig")
    assert "register-unavailable" not in gateway.status("explain", "--caller", "northmoor-pacs", "--patient", ANNE)[1]
    assert gateway.changes()[-1]["act"] == "confirm"
