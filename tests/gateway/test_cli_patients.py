"""`gateway patient`: verification of numbers, and links that a trust vouches for (SAF-34)."""

from __future__ import annotations

from tests.gateway.commands import ANNE, BEN, Commands
from tests.gateway.commands import gateway as gateway  # the fixture


def shown(gateway: Commands, number: str) -> list[tuple[object, object, object]]:
    """Issuer, status and source of a patient's identifiers."""
    rows = gateway.json("patient", "show", "--patient", number)
    return sorted((row["issuer"], row["status"], row["source"]) for row in rows)


def test_a_trusts_file_links_its_numbers_on_its_own_word(gateway: Commands) -> None:
    file = gateway.file("links.csv", f"nhs_number,local_number,status\n{ANNE},0001234,01\n{BEN},0005678,\n")
    done = gateway.json("patient", "import", file, "--trust", "rz1")
    assert (done["rows"], done["added"]) == (2, 2)
    assert shown(gateway, ANNE) == [("NHS", "01", "RZ1"), (done["issuer"], "", "RZ1")]
    assert shown(gateway, BEN)[0] == ("NHS", "", "RZ1")
    again = gateway.json("patient", "import", file, "--trust", "RZ1")
    assert (again["added"], again["there_already"]) == (0, 2)


def test_a_trusts_word_replaces_an_officers_and_not_the_other_way_round(gateway: Commands) -> None:
    file = gateway.file("links.csv", f"nhs_number,local_number\n{ANNE},0001234\n")
    issuer = gateway.json("patient", "import", gateway.file("none.csv", "nhs_number,local_number\n"), "--trust", "RZ1")
    local = f"{issuer['issuer']}:0001234"
    gateway.do("patient", "add", "--patient", ANNE, "--local", local)
    assert shown(gateway, ANNE)[1][2] == "cli"
    gateway.do("patient", "import", file, "--trust", "RZ1")
    gateway.do("patient", "add", "--patient", ANNE, "--local", local)
    assert shown(gateway, ANNE)[1][2] == "RZ1"


def test_a_faulty_row_is_named_and_nothing_is_linked(gateway: Commands) -> None:
    text = f"nhs_number,local_number,status\n{ANNE},1,09\n9990000019,2,\n{BEN},,\n{BEN},3,01\n"
    refused = gateway.refused("patient", "import", gateway.file("links.csv", text), "--trust", "RZ1")
    assert all(f"row {number}" in refused for number in (2, 3, 4))
    assert "9990000019" not in refused
    assert "no patient" in gateway.refused("patient", "show", "--patient", BEN)


def test_a_file_of_an_unknown_trust_is_refused(gateway: Commands) -> None:
    file = gateway.file("links.csv", "nhs_number,local_number\n")
    assert "no [[trust]]" in gateway.refused("patient", "import", file, "--trust", "XYZ")


def test_the_verification_of_a_known_number_can_be_recorded(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient", ANNE)
    assert shown(gateway, ANNE) == [("NHS", "", "cli")]
    gateway.do("patient", "add", "--patient", ANNE, "--status", "05")
    assert shown(gateway, ANNE) == [("NHS", "05", "cli")]
    assert "01, 02" in gateway.refused("patient", "add", "--patient", ANNE, "--status", "1")


def test_a_wrong_link_is_taken_back(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient", ANNE, "--local", "RZ2:0001234")
    gateway.do("patient", "forget", "--local", "RZ2:0001234", "--reason", "another patient's")
    assert "no patient" in gateway.refused("patient", "show", "--local", "RZ2:0001234")
    assert "no patient" in gateway.refused("patient", "forget", "--local", "RZ2:0001234")
    gateway.do("patient", "add", "--patient", BEN, "--local", "RZ2:0001234")
