"""`gateway batch`: many commands by one start, and nothing done behind the first that fails."""

import pytest

from tests.gateway.commands import ANNE, BEN, Commands, gateway

__all__ = ["gateway"]


def test_every_line_of_a_batch_is_done_in_its_order(gateway: Commands) -> None:
    lines = f"""
        # Anne, with a comment and with the program's name
        patient add --patient {ANNE} --by clerk
        gateway relationship add --trust RZ1 --patient {ANNE} --kind referral --evidence 'letter of 3 May' --by clerk
    """
    gateway.do("batch", gateway.file("commands", lines))
    assert [found["evidence"] for found in gateway.json("relationship", "list", "--patient", ANNE)] == [
        "letter of 3 May"
    ]


def test_standard_input_is_a_batch_too(gateway: Commands) -> None:
    gateway.do("batch", "-", typed=f"patient add --patient {BEN} --by clerk\n")
    assert len(gateway.changes()) == 1


def test_the_first_line_that_fails_ends_the_batch_with_its_code_and_number(gateway: Commands) -> None:
    lines = f"""
        patient add --patient {ANNE} --by clerk
        quality resolve 7 --reason corrected --by clerk
        patient add --patient {BEN} --by clerk
    """
    status, _ = gateway.status("batch", gateway.file("commands", lines))
    assert status == 1
    assert "line 3 ended with 1" in gateway.errors
    assert len(gateway.changes()) == 1


def test_a_line_that_cannot_be_used_ends_it_as_the_command_line_does(gateway: Commands) -> None:
    status, _ = gateway.status("batch", "-", typed="patient invent\n")
    assert status == 2
    assert "line 1 ended with 2" in gateway.errors


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("version\nserve\n", "line 2: serve cannot stand in a batch"),
        ("version\nbatch other\n", "line 2: batch cannot stand in a batch"),
        ("patient add --by 'nobody\n", "line 1: no closing quotation"),
        ("version\n" * 10_001, "at most 10,000 commands"),
    ],
)
def test_a_batch_that_cannot_be_run_whole_is_refused_before_its_first_line(
    gateway: Commands, lines: str, words: str
) -> None:
    status, output = gateway.status("batch", "-", typed=lines)
    assert (status, output) == (1, "")
    assert words in gateway.errors


def test_a_batch_that_is_not_there_is_named(gateway: Commands) -> None:
    assert "no-such-file cannot be read" in gateway.refused("batch", "no-such-file")
