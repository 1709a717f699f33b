"""`[identity]` and `[[lookup]]`: what may not be set, and how plain transport is kept to loopback (SAF-70)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.app import validities_in_use
from gateway.config.checks import load
from gateway.config.entries import LookupKind
from gateway.model.errors import ConfigurationError
from gateway.sharing.directory import PatientIdAsked
from tests.gateway.certificates import Authority

PLAIN = """
[gateway]
mode = "demo"
[listen.machines]
plain_http_on_loopback = true
[listen.people]
plain_http_on_loopback = true
"""
LOOPBACK = 'url = "http://127.0.0.1:9000/FHIR/R4"\nplain_http_on_loopback = true\n'


def written(folder: Path, text: str) -> Path:
    """A small configuration with this behind it."""
    path = folder / "gateway.toml"
    path.write_text(PLAIN + text, encoding="utf-8")
    return path


def test_a_lookup_is_read_with_the_systems_of_hospitals(tmp_path: Path) -> None:
    text = f'[[lookup]]\nkind = "pixm"\n{LOOPBACK}systems = [["NORTH-PAS", "https://north.example"]]\n'
    [lookup] = load(written(tmp_path, text)).lookup
    assert lookup.kind is LookupKind.PIXM
    assert dict(lookup.systems) == {"NORTH-PAS": "https://north.example"}


def test_by_default_nobody_is_looked_up_and_archives_are_asked_by_the_nhs_number(tmp_path: Path) -> None:
    trust = '[[trust]]\nods = "RZ2"\nname = "Eastvale"\n'
    peer = '[[peer]]\ntrust = "RZ2"\nurl = "http://127.0.0.1:9/dicom-web"\nplain_http_on_loopback = true\n'
    configuration = load(written(tmp_path, trust + peer))
    assert configuration.lookup == ()
    assert configuration.peer[0].patient_id is PatientIdAsked.NHS_NUMBER


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[[lookup]]\nkind = "pds"\nurl = "http://pds.example/FHIR"\n', "lookup 1 (pds).url"),
        ('[[lookup]]\nkind = "pds"\nurl = "http://127.0.0.1:1/FHIR"\n', "lookup 1 (pds).url"),
        ('[[lookup]]\nkind = "pds"\nurl = "https://pds.example/FHIR"\n', "lookup 1 (pds): client_certificate"),
        (f'[[lookup]]\nkind = "pds"\n{LOOPBACK}systems = [["A", "b"]]\n', "lookup 1 (pds).systems"),
        ('[[lookup]]\nkind = "guess"\nurl = "https://x.example"\n', "lookup"),
        ('[identity]\naccepted_number_statuses = ["1"]\n', "identity.accepted_number_statuses"),
        ("[identity]\nlookup_timeout_s = 0\n", "identity.lookup_timeout_s"),
        ("[identity]\nlookups_kept_max = 0\n", "identity.lookups_kept_max"),
        ('[identity]\npatient_id_shown = "any"\n', "identity.patient_id_shown"),
    ],
)
def test_what_may_not_be_set_is_named_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(written(tmp_path, text))
    assert any(problem.startswith(place) for problem in caught.value.problems), caught.value.problems


def test_the_end_of_a_certificate_towards_a_lookup_is_watched_like_any_other(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    ours = authority.issue("asker.example")
    text = f"""
[[lookup]]
kind = "pds"
url = "https://pds.example/FHIR/R4"
client_certificate = "{ours.certificate}"
client_private_key = "{ours.private_key}"
ca = "{authority.certificate}"
"""
    watched = {each.name: each.path for each in validities_in_use(load(written(tmp_path, text)))}
    assert watched == {"lookup (pds).client_certificate": ours.certificate, "lookup (pds).ca": authority.certificate}
