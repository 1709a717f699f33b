"""`gateway trust`: what an operator of the region enters, what is refused, and what stands in the audit."""

from __future__ import annotations

import pytest

from tests.gateway.commands import ANNE, Commands, gateway

__all__ = ["gateway"]


def standing(gateway: Commands, trust: str = "RZ2") -> dict[str, object]:
    """One line of the list."""
    [row] = [row for row in gateway.json("trust", "list") if row["trust"] == trust]
    return dict(row)


def test_the_configuration_is_where_a_trust_starts(gateway: Commands) -> None:
    assert standing(gateway)["standing"] == "enrolled" and standing(gateway)["said_by"] == "configuration"


def test_the_register_goes_before_the_configuration(gateway: Commands) -> None:
    gateway.do("trust", "suspend", "RZ2", "--reason", "breach of the agreement")
    row = standing(gateway)
    assert (row["standing"], row["said_by"], row["reason"]) == ("suspended", "register", "breach of the agreement")
    gateway.do("trust", "resume", "RZ2")
    assert standing(gateway)["standing"] == "enrolled"


def test_a_suspension_needs_a_reason(gateway: Commands) -> None:
    assert "say why" in gateway.refused("trust", "suspend", "RZ2")


def test_a_trust_that_takes_part_already_is_not_put_back_to_test_by_accident(gateway: Commands) -> None:
    assert "--stage" in gateway.refused("trust", "enrol", "RZ2")


def test_a_further_stage_is_signed_off_by_two_people(gateway: Commands) -> None:
    gateway.do("trust", "enrol", "RZ2", "--stage", "test")
    to_query = ("trust", "stage", "RZ2", "--to", "query")
    assert "two people" in gateway.refused(*to_query)
    assert "two people" in gateway.refused(*to_query, "--signed-by", "Dr Hollis")
    assert "two people" in gateway.refused(*to_query, "--signed-by", "Dr Hollis", "--signed-by", "dr hollis ")
    gateway.do(*to_query, "--signed-by", "Dr Hollis", "--signed-by", "Mr Adeyemi")
    assert standing(gateway)["stage"] == "query"
    assert gateway.changes()[-1]["signed_by"] == ["Dr Hollis", "Mr Adeyemi"]


def test_stages_are_not_skipped_and_going_back_needs_nobody(gateway: Commands) -> None:
    gateway.do("trust", "enrol", "RZ2", "--stage", "query")
    signed = ("--signed-by", "A", "--signed-by", "B")
    assert "one after the other" in gateway.refused("trust", "stage", "RZ2", "--to", "push", *signed)
    gateway.do("trust", "stage", "RZ2", "--to", "test")
    assert standing(gateway)["stage"] == "test"


def test_a_retired_code_leads_to_its_successor_and_never_in_a_circle(gateway: Commands) -> None:
    gateway.do("trust", "retire", "RZ2", "--successor", "RZ1", "--reason", "merger")
    assert standing(gateway)["successor"] == "RZ1"
    assert "leads back" in gateway.refused("trust", "retire", "RZ1", "--successor", "RZ2", "--reason", "merger")
    assert "retired already" in gateway.refused("trust", "enrol", "RZ2", "--stage", "test")


def test_a_code_is_not_closed_without_a_reason_nor_while_its_archive_hangs_on_it(gateway: Commands) -> None:
    """An archive that is asked no more is missing in no answer: nobody would know what is there."""
    assert "--reason" in gateway.refused("trust", "retire", "RZ2", "--successor", "RZ1")
    archive = '[[peer]]\ntrust = "RZ2"\nurl = "http://127.0.0.1:9/dicom-web"\nplain_http_on_loopback = true\n'
    gateway.path.write_text(gateway.path.read_text() + archive)
    retire = ("trust", "retire", "RZ2", "--successor", "RZ1", "--reason", "merger")
    assert "[[peer]]" in gateway.refused(*retire)
    assert standing(gateway)["standing"] == "enrolled"
    gateway.do(*retire, "--leave-archive")
    assert standing(gateway)["standing"] == "retired"


def test_a_downtime_is_planned_listed_and_ended(gateway: Commands) -> None:
    planned = gateway.json("trust", "downtime", "RZ2", "--until", "2999-01-01", "--reason", "PACS upgrade")
    [listed] = gateway.json("trust", "downtimes")
    assert listed["downtime"] == planned["downtime"] and listed["reason"] == "PACS upgrade"
    assert standing(gateway)["down_until"]
    gateway.do("trust", "up", planned["downtime"])
    assert gateway.json("trust", "downtimes") == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--until", "2999-01-01"), "say why"),
        (("--until", "2020-01-01", "--reason", "x"), "ends after it begins"),
        (("--until", "2999-01-01", "--reason", "x" * 81), "80 characters"),
        (("--from", "2020-01-01", "--until", "2020-01-02", "--reason", "x"), "over already"),
    ],
)
def test_a_downtime_that_makes_no_sense_is_refused(gateway: Commands, arguments: tuple[str, ...], words: str) -> None:
    assert words in gateway.refused("trust", "downtime", "RZ2", *arguments)


def test_a_test_patient_is_labelled_counted_and_let_go(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient", ANNE)
    labelled = ("trust", "test-patient", "RZ2", "--patient", ANNE)
    gateway.do(*labelled, "--label", "first light")
    assert standing(gateway)["test_patients"] == 1
    assert "already" in gateway.refused(*labelled, "--label", "again")
    gateway.do(*labelled, "--remove")
    assert standing(gateway)["test_patients"] == 0


def test_every_act_stands_in_the_audit(gateway: Commands) -> None:
    gateway.do("trust", "suspend", "RZ2", "--reason", "breach", "--by", "officer")
    gateway.do("trust", "downtime", "RZ1", "--until", "2999-01-01", "--reason", "move", "--by", "officer")
    acts = [(change["register"], change["act"], change["by"]) for change in gateway.changes()]
    assert acts == [("trusts", "suspend", "officer"), ("trusts", "downtime", "officer")]
