"""What a region may choose: cautious starts, one version for equal choices, and what it may not choose (SAF-70)."""

import subprocess
import sys
from dataclasses import fields, replace

import pytest
from pydantic import TypeAdapter, ValidationError

from policy.settings import Mode, Proof, Settings

OTHER = Settings(
    mode=Mode.DEMO,
    proof_https=frozenset({Proof.CERTIFICATE, Proof.ADDRESS}),
    proof_dimse=frozenset({Proof.CERTIFICATE}),
    whole_trust_relationship_admits_clinicians=True,
    relationship_max_life_days=30,
    break_glass_lifts_opt_out=True,
    opt_out_register_age_max_minutes=5,
)


def test_a_region_that_chooses_nothing_starts_cautious() -> None:
    settings = Settings()
    assert settings.mode is Mode.PRODUCTION
    assert not settings.break_glass_lifts_opt_out and not settings.whole_trust_relationship_admits_clinicians
    assert settings.relationship_max_life_days == 365


def test_settings_read_back_whole() -> None:
    for settings in (Settings(), OTHER):
        assert Settings.from_json(settings.to_json()) == settings
        assert list(settings.to_json()) == [field.name for field in fields(Settings)]


def test_each_choice_has_a_version_of_its_own() -> None:
    changes = {field.name: getattr(OTHER, field.name) for field in fields(Settings)}
    changes.pop("pacs_user_assurance")  # one value so far
    versions = [replace(Settings(), **{name: value}).version for name, value in changes.items()]
    assert len({Settings().version, *versions}) == len(versions) + 1


def test_a_version_is_the_same_in_every_process() -> None:
    command = [sys.executable, "-c", "from policy.settings import Settings; print(Settings().version)"]
    other = subprocess.run(command, capture_output=True, check=True, text=True, env={"PYTHONHASHSEED": "7"})
    assert other.stdout.strip() == Settings().version


@pytest.mark.parametrize(
    "choice",
    [
        {"proof_https": frozenset({Proof.ADDRESS})},
        {"proof_dimse": frozenset({Proof.AE_TITLE})},
        {"relationship_max_life_days": 0},
        {"opt_out_register_age_max_minutes": -1},
    ],
)
def test_what_may_not_be_chosen_is_refused(choice: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(choice))):
        replace(Settings(), **choice)  # type: ignore[arg-type]  # by table


def test_the_configuration_file_fills_them_with_all_checks() -> None:
    reader = TypeAdapter(Settings)
    read = reader.validate_python({"mode": "demo", "proof_https": ["certificate", "address"]})
    assert read == Settings(mode=Mode.DEMO, proof_https=frozenset({Proof.CERTIFICATE, Proof.ADDRESS}))
    assert read.version == Settings(mode=Mode.DEMO, proof_https=frozenset({Proof.CERTIFICATE, Proof.ADDRESS})).version


@pytest.mark.parametrize(
    "wrong",
    [
        '{"proof_https": []}',
        '{"mode": "live"}',
        '{"pacs_user_assurance": "token"}',
        '{"relationship_max_life_days": 0}',
    ],
)
def test_the_configuration_file_cannot_hold_another_choice(wrong: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Settings).validate_json(wrong)
