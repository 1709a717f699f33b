"""Configuration: everything wrong is named at once with its path, and gateway.toml says all there is to set."""

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway.config.checks import load
from gateway.config.configuration import Configuration
from gateway.config.entries import DimsePeerEntry
from gateway.config.sections import LogLevel
from gateway.model.errors import ConfigurationError
from gateway.model.settings import Limits, SharingSettings
from policy.parties import PurposeOfUse, TrustId
from policy.settings import Mode, Settings
from tests.gateway.certificates import Authority
from tests.settings_tree import setting_paths

ROOT = Path(__file__).parents[2]
PLAIN = """
[gateway]
mode = "demo"
[listen.machines]
plain_http_on_loopback = true
[listen.people]
plain_http_on_loopback = true
"""
TRUST = '[[trust]]\nods = "rz1"\nname = "Northmoor"\nenrolled = true\ndesk_phone = "01632 960001"\n'

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "gateway.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def problems_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    return caught.value.problems


def test_a_small_file_is_enough_and_the_rest_has_start_values(write: Write, tmp_path: Path) -> None:
    configuration = load(write(PLAIN))
    assert configuration.limits == Limits()
    assert configuration.sharing == SharingSettings()
    assert configuration.policy_settings == Settings(mode=Mode.DEMO)
    assert configuration.store_url == f"sqlite:///{tmp_path}/var/data/gateway.db"
    assert configuration.audit.anchor_path == tmp_path / "var/anchor/checkpoints.jsonl", "relative to the file"


def test_the_environment_wins_over_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY__GATEWAY__LOG_LEVEL", "debug")
    monkeypatch.setenv("GATEWAY__LIMITS__MATCHES_MAX", "7")
    monkeypatch.setenv("GATEWAY__DICOMWEB__CORS_ORIGINS", '["https://viewer.example"]')
    configuration = load(write(PLAIN + "[limits]\nmatches_max = 5\nuid_list_max = 9\n"))
    assert configuration.gateway.log_level is LogLevel.DEBUG
    assert (configuration.limits.matches_max, configuration.limits.uid_list_max) == (7, 9)
    assert configuration.dicomweb.cors_origins == ("https://viewer.example",)


def test_everything_wrong_is_named_at_once_with_its_path(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY__LIMITZ__MATCHES_MAX", "7")
    found = problems_of(
        write(
            TRUST
            + """
[gateway]
colour = "blue"
[listen.machines]
port = 70000
[limits]
matches_max = "many"
matches_maximum = 5
[surprise]
x = 1
[[trust]]
ods = "R!"
name = "Bad"
[[caller]]
name = "one"
trust = "RZ1"
purposes = ["TREATMENT"]
[[caller]]
name = "two"
trust = "RZ1"
"""
        )
    )
    assert set(found) >= {
        "GATEWAY__LIMITZ__MATCHES_MAX: no such section",
        "gateway.mode: must be set",
        "gateway.colour: no such setting",
        "limits.matches_maximum: no such setting",
        "surprise: no such setting",
        "trust 2 (R!).ods: an ODS code has 3 to 10 letters and digits",
        # A check between settings, although other entries do not even parse.
        "caller 1 (two): needs certificate_sha256 or certificate_name; an AE title or address alone proves nothing",
    } - {found[-1]}
    for start in ("listen.machines.port: ", "limits.matches_max: ", "caller 1 (one).purposes.0: "):
        assert any(problem.startswith(start) for problem in found), start


@pytest.mark.parametrize("text", ["[gateway", "\x00", "x = 'é"])
def test_a_file_that_is_not_toml_is_named(write: Write, text: str) -> None:
    [problem] = problems_of(write(text))
    assert "not TOML" in problem


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    [problem] = problems_of(tmp_path / "absent.toml")
    assert "cannot be read" in problem


def test_the_configuration_cannot_be_changed(write: Write) -> None:
    configuration = load(write(PLAIN))
    with pytest.raises(ValueError, match="frozen"):
        setattr(configuration.gateway, "node", "other")  # noqa: B010


def test_trusts_callers_and_peers_are_parsed(write: Write) -> None:
    configuration = load(
        write(
            PLAIN
            + TRUST
            + f"""
[[caller]]
name = "pacs"
trust = "RZ1"
certificate_sha256 = "{":".join(["AB"] * 32)}"
addresses = ["10.0.0.0/8"]
purposes = ["COC", "TREAT"]
[[peer]]
trust = "RZ1"
url = "http://127.0.0.1:8080/dicom-web"
plain_http_on_loopback = true
[peer.limits]
find_timeout_s = 4
"""
        )
    )
    [caller], [peer] = configuration.caller, configuration.peer
    assert caller.trust == peer.trust == TrustId("RZ1"), "ODS codes are upper case"
    assert caller.certificate_sha256 == "ab" * 32
    assert caller.addresses == (ip_network("10.0.0.0/8"),)
    assert caller.purposes == (PurposeOfUse.COC, PurposeOfUse.TREAT)
    assert peer.limits.over(configuration.limits).find_timeout_s == 4
    assert peer.limits.over(configuration.limits).matches_max == configuration.limits.matches_max


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("find_timeout_s", 5),
        ("connect_timeout_s", 3),
        ("peer_matches_max", 5_000),
        ("peer_requests_at_once_max", 8),
    ],
)
def test_a_peers_limit_that_could_not_hold_is_refused(write: Write, name: str, most: int) -> None:
    """A question waits for no trust longer than for all of them."""
    peer = '[[peer]]\ntrust = "RZ1"\nurl = "http://127.0.0.1:1"\nplain_http_on_loopback = true\n[peer.limits]\n'
    load(write(f"{PLAIN}{TRUST}{peer}{name} = {most}"))
    [problem] = problems_of(write(f"{PLAIN}{TRUST}{peer}{name} = {most + 1}"))
    assert problem.startswith(f"peer 1 (RZ1).limits.{name}: must be {most} at most")


CALLER = '[[caller]]\nname = "pacs"\ntrust = "RZ1"\n'
PACS = CALLER + 'certificate_name = "a"\nae_titles = ["A", "B"]\nmissing_sources = "row"\n'
PEER = '[[peer]]\ntrust = "RZ1"\n'
DIMSE_PEER = (
    PEER + 'connector = "dimse"\naddress = "localhost:104"\nae_title = "PACS"\ncalling_ae_title = "OURS"\n'
    "plain_on_loopback = true\n"
)
PLAIN_DIMSE = '[listen.dimse]\nae_title = "GATEWAY"\nplain_on_loopback = true\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TRUST + TRUST, "trust (RZ1): stands 2 times"),
        (TRUST + 'ae_alias = "ONE"\n', "trust 1 (RZ1).ae_alias: means nothing without [listen.dimse]"),
        (
            PLAIN_DIMSE + TRUST + 'ae_alias = "GATEWAY"\n',
            "trust 1 (RZ1).ae_alias: GATEWAY is also listen.dimse.ae_title",
        ),
        (
            PLAIN_DIMSE + TRUST + 'ae_alias = "ONE"\n' + TRUST.replace("rz1", "rz2") + 'ae_alias = "ONE"\n',
            "trust 2 (RZ2).ae_alias: ONE is also trust 1 (RZ1).ae_alias",
        ),
        (TRUST.replace("01632 960001", ""), "trust 1 (RZ1).desk_phone: an enrolled trust must give"),
        (TRUST + 'kind = "independent-provider"', "trust 1 (RZ1).enrolled: only NHS hospital trusts"),
        (CALLER + 'certificate_name = "a"', "caller 1 (pacs).trust: no [[trust]] has the code RZ1"),
        (TRUST + CALLER, "caller 1 (pacs): needs certificate_sha256 or certificate_name"),
        (
            TRUST + CALLER + 'loopback_only = true\naddresses = ["10.0.0.0/8"]',
            "caller 1 (pacs).addresses: a loopback_only",
        ),
        (
            TRUST + TRUST.replace("rz1", "RZ2") + CALLER + 'certificate_name = "a"\n'
            '[[caller]]\nname = "ris"\ntrust = "RZ2"\ncertificate_name = "a"\nae_titles = ["RIS"]',
            "caller 2 (ris): its certificate stands for RZ1 too",
        ),
        (TRUST + CALLER + 'certificate_name = "a"\npurposes = ["COC", "COC"]', "caller 1 (pacs).purposes: a purpose"),
        (TRUST + (CALLER + 'certificate_name = "a"\n') * 2, "caller (pacs): stands 2 times"),
        (
            TRUST + CALLER + 'certificate_name = "a"\n' + CALLER.replace("pacs", "ris") + 'certificate_name = "a"\n',
            "caller 2 (ris): cannot be told from caller 1 (pacs)",
        ),
        (PEER + 'url = "https://x.example"', "peer 1 (RZ1).trust: no [[trust]] has the code RZ1"),
        (TRUST + (PEER + 'url = "https://x.example"\n') * 2, "peer (RZ1): stands 2 times"),
        (TRUST + PEER + 'url = "http://x.example/"', "peer 1 (RZ1).url: plain HTTP to another machine is never"),
        (
            TRUST + PEER + 'url = "http://x.example/"\nplain_http_on_loopback = true',
            "peer 1 (RZ1).url: plain HTTP to another machine is never",
        ),
        (TRUST + PEER + 'url = "http://localhost:1/"', "peer 1 (RZ1).url: plain HTTP needs plain_http_on_loopback"),
        (TRUST + PEER + 'url = "https://x.example"', "peer 1 (RZ1).ca: must be set for https"),
        (TRUST + PEER + 'url = "https://user:pass@x.example"', "peer 1 (RZ1).url: "),
        (TRUST + PEER + 'url = "https:///x"', "peer 1 (RZ1).url: names no host"),
        (TRUST + PEER + 'connector = "soap"', 'peer 1 (RZ1): connector must be "dicomweb" or "dimse"'),
        (TRUST + PEER + 'connector = "dimse"\nae_title = "A"', "peer 1 (RZ1).address: must be set"),
        (TRUST + PEER + 'url = "https://x.example"\nquirks = ["no-wildcards", "shy"]', "peer 1 (RZ1).quirks: no such"),
        (TRUST + DIMSE_PEER.replace("localhost:104", "localhost"), "peer 1 (RZ1).address: "),
        (TRUST + DIMSE_PEER.replace("localhost:104", "localhost:65536"), "peer 1 (RZ1).address: a port lies between"),
        (TRUST + DIMSE_PEER.replace("localhost:104", "localhost:0"), "peer 1 (RZ1).address: a port lies between"),
        (TRUST + DIMSE_PEER.replace("localhost", "pacs.example"), "peer 1 (RZ1).address: plain DICOM to another"),
        (TRUST + DIMSE_PEER.replace("true", "false"), "peer 1 (RZ1).ca: must be set, unless plain_on_loopback = true"),
        (TRUST + DIMSE_PEER.replace("OURS", " OURS"), "peer 1 (RZ1).calling_ae_title: an AE title has"),
        (TRUST + DIMSE_PEER + 'quirks = ["shy"]', "peer 1 (RZ1).quirks: no such quirk 'shy'; there are "),
        (TRUST + DIMSE_PEER + 'character_set = "klingon"', "peer 1 (RZ1).character_set: 'klingon' is not a defined"),
        (TRUST + DIMSE_PEER + 'model = "worklist"', "peer 1 (RZ1).model: "),
        (TRUST + DIMSE_PEER.replace('calling_ae_title = "OURS"', ""), "peer 1 (RZ1).calling_ae_title: must be set"),
        (TRUST + PACS.replace("missing_sources", "# "), 'caller 1 (pacs).missing_sources: must be "row", "failure" or'),
        (TRUST + PACS.replace('"row"', '"none"'), "caller 1 (pacs).missing_sources: "),
        (TRUST + PACS + 'refusal = "never"', "caller 1 (pacs).refusal: "),
        (TRUST + PACS + 'character_set = "klingon"', "caller 1 (pacs).character_set: 'klingon' is not a defined term"),
        (
            TRUST + PACS + PACS.replace("pacs", "ris").replace('["A"', '["C"'),
            "caller 2 (ris).ae_titles: B is also that",
        ),
        ("[listen.dimse]\nplain_on_loopback = true", "listen.dimse.ae_title: must be set"),
        ('[listen.dimse]\nae_title = "G"', "listen.dimse.client_ca: must be set, unless plain_on_loopback = true"),
        (PLAIN_DIMSE + 'host = "0.0.0.0"', "listen.dimse.host: plain DICOM is for loopback only, not for 0.0.0.0"),
        (PLAIN_DIMSE + "port = 8443", "listen.dimse.port: is that of listen.machines; each door has its own"),
        ('[dimse]\nprivate_sop_classes = ["1.02"]', "dimse.private_sop_classes.0: "),
        ("[limits]\nassociation_idle_timeout_s = 121", "limits.association_idle_timeout_s: must be 120 at most"),
        ("[limits]\npdu_bytes_max = 4095", "limits.pdu_bytes_max: must be 4096 at least"),
        ("[limits]\nmatches_max = 0", "limits.matches_max: must be greater than 0"),
        ("[limits]\nfind_timeout_s = -1.0", "limits.find_timeout_s: must be greater than 0"),
        ("[limits]\nregister_read_timeout_s = 21", "limits.register_read_timeout_s: must be 20 at most"),
        ("[limits]\npeer_failures_before_backoff = 6", "limits.peer_failures_before_backoff: must be 5 at most"),
        ("[sharing]\nabsence_grid_ms = 0", "sharing.absence_grid_ms: must lie between"),
        ("[sharing]\nindex_negative_max_age_minutes = 61", "sharing.index_negative_max_age_minutes: must be greater"),
        ("[sharing]\nlocation_feed_silent_minutes = 0", "sharing.location_feed_silent_minutes: must be greater"),
        ("[sharing]\nlocation_max_age_days = 0", "sharing.location_max_age_days: must be greater"),
        ('[sharing]\nlocation_feeds = ["RZ9"]', "sharing.location_feeds: RZ9 has no [[peer]]"),
        ('[policy]\nmode = "demo"', "policy.mode: is set as gateway.mode"),
        ("[policy]\nproof_https = []", "policy: proof_https: a certificate is always demanded"),
        ("[policy]\ndisclaimer = false", "policy.disclaimer: no such setting"),
        ('[storage]\nurl = "mysql://x"', "storage.url: "),
        ('[storage]\nurl = "postgresql+psycopg://u:pw@localhost/d"', "storage.url: holds a password"),
        ('[storage]\nurl = "postgresql+psycopg://u@db.example/d"', "storage.url: a database on another machine needs"),
        ('[dicomweb]\npublic_base_url = "http://gateway.example"', "dicomweb.public_base_url: must be https"),
        ('[dicomweb]\ncors_origins = ["http://viewer.example"]', "dicomweb.cors_origins 1: must be https"),
        ('[audit]\nanchor_path = "a"\nreserve_path = "a"', "audit: two of signing_key, anchor_path, reserve_path are"),
    ],
)
def test_a_mistake_between_settings_is_named(write: Write, text: str, problem: str) -> None:
    assert [found for found in problems_of(write(PLAIN + text)) if found.startswith(problem)], problem


@pytest.mark.parametrize("title", ["A", "SIXTEEN_LETTERS_", "A b.c"])
def test_an_ae_title_is_taken_as_it_stands(write: Write, title: str) -> None:
    configuration = load(write(PLAIN + PLAIN_DIMSE.replace("GATEWAY", title)))
    assert configuration.listen.dimse is not None
    assert configuration.listen.dimse.ae_title == title


@pytest.mark.parametrize("title", ["", " ", "A ", "SEVENTEEN_LETTERS", "A\\\\B", "\\u0007", "é"])
def test_an_ae_title_that_nobody_could_call_is_refused(write: Write, title: str) -> None:
    [problem] = problems_of(write(PLAIN + PLAIN_DIMSE.replace("GATEWAY", title)))
    assert problem.startswith("listen.dimse.ae_title: an AE title has 1 to 16 ASCII characters")


def test_there_is_no_dimse_door_unless_it_is_configured(write: Write) -> None:
    assert load(write(PLAIN)).listen.dimse is None


def test_an_archive_that_is_asked_by_c_find_is_parsed(write: Write) -> None:
    text = PLAIN + TRUST + PLAIN_DIMSE + DIMSE_PEER.replace("localhost", "[::1]")
    [peer] = load(write(text.replace('calling_ae_title = "OURS"', 'quirks = ["no-wildcards"]'))).peer
    assert isinstance(peer, DimsePeerEntry)
    assert (peer.host, peer.port, peer.ae_title, peer.calling_ae_title) == ("::1", 104, "PACS", None)


def test_a_listener_without_certificates_needs_loopback_and_an_explicit_word(write: Write) -> None:
    found = problems_of(write('[gateway]\nmode = "demo"\n'))
    assert "listen.machines.client_ca: must be set, unless plain_http_on_loopback = true" in found
    assert "listen.people.certificate: must be set, unless plain_http_on_loopback = true" in found
    everywhere = PLAIN.replace("[listen.people]", 'host = "0.0.0.0"\n[listen.people]')
    assert problems_of(write(everywhere)) == (
        "listen.machines.host: plain HTTP is for loopback only, not for 0.0.0.0 (SAF-70)",
    )


def test_each_door_has_a_port_of_its_own(write: Write) -> None:
    text = PLAIN.replace("[listen.people]", "port = 9000\n[listen.people]\nport = 9000")
    assert problems_of(write(text)) == ("listen.people.port: is that of listen.machines; each door has its own",)


def test_certificates_that_do_not_fit_are_found_before_the_start(write: Write, authority: Authority) -> None:
    one, other = authority.issue("one.example"), authority.issue("other.example")
    text = f"""
[gateway]
mode = "demo"
[listen.machines]
certificate = "{one.certificate}"
private_key = "{other.private_key}"
client_ca = "{authority.certificate}"
[listen.people]
certificate = "{one.certificate}"
private_key = "{one.private_key}"
"""
    [problem] = problems_of(write(text))
    assert problem.startswith("listen.machines: ")
    assert "do not load together" in problem
    load(write(text.replace(str(other.private_key), str(one.private_key))))


@pytest.mark.parametrize(("mode", "is_fine"), [(0o600, True), (0o640, True), (0o644, False), (0o660, False)])
def test_a_secret_that_others_can_read_is_refused(write: Write, tmp_path: Path, mode: int, is_fine: bool) -> None:
    secret = tmp_path / "password"
    secret.write_text("pa:ss@word\n")
    secret.chmod(mode)
    path = write(PLAIN + '[storage]\nurl = "postgresql+psycopg://gateway@localhost/d"\npassword_file = "password"\n')
    if is_fine:
        assert load(path).store_url == "postgresql+psycopg://gateway:pa%3Ass%40word@localhost/d"
    else:
        [problem] = problems_of(path)
        assert problem.startswith("storage.password_file: others may read or change it")


def test_in_production_the_guards_of_the_audit_lie_elsewhere(write: Write) -> None:
    text = PLAIN.replace("demo", "production") + '[audit]\nanchor_path = "var/data/anchor.jsonl"\n'
    assert problems_of(write(text)) == (
        "audit.anchor_path: lies in gateway.data_folder; what guards the data must lie elsewhere",
    )
    load(write(text.replace("production", "demo")))


def test_in_production_the_key_of_the_location_index_lies_apart(write: Write) -> None:
    text = PLAIN.replace("demo", "production") + '[storage]\nlocation_key = "var/data/location.key"\n'
    (problem,) = problems_of(write(text))
    assert problem.startswith("storage.location_key: lies in gateway.data_folder")
    load(write(text.replace("production", "demo")))


def test_passwords_never_stand_in_a_problem(write: Write) -> None:
    text = PLAIN + '[storage]\nurl = "postgresql+psycopg://u:hunter2@localhost/d"\n[surprise]\nx = "hunter2"\n'
    assert not [problem for problem in problems_of(write(text)) if "hunter2" in problem]


# gateway.toml against the models, both ways.


def described(text: str) -> Iterator[tuple[str, object]]:
    """Yield every option in the file with its value, those in comments included."""
    uncommented = re.sub(
        r"(?m)^# (\[{1,2}[a-z0-9_.]+\]{1,2}|[a-z0-9_]+ = (?:\"[^\"]*\"|[\d.]+|true|false|\[.*\]))$", r"\1", text
    )

    def leaves(table: dict[str, object], prefix: str) -> Iterator[tuple[str, object]]:
        for key, value in table.items():
            for entry in value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]:
                if isinstance(entry, dict):
                    yield from leaves(entry, f"{prefix}{key}.")
                else:
                    yield f"{prefix}{key}", entry

    yield from leaves(tomllib.loads(uncommented), "")


def test_the_commented_file_describes_every_setting_and_no_other() -> None:
    file = {path for path, _ in described((ROOT / "gateway.toml").read_text(encoding="utf-8"))}
    models = set(setting_paths(Configuration)) - {"policy.mode"}
    assert sorted(file - models) == [], "described, but unknown to the gateway"
    assert sorted(models - file) == [], "known to the gateway, but not described"


def test_the_commented_file_shows_the_start_values() -> None:
    file = dict(described((ROOT / "gateway.toml").read_text(encoding="utf-8")))
    for section, model in (("limits", Limits), ("sharing", SharingSettings), ("policy", Settings)):
        for field in fields(model):
            if f"{section}.{field.name}" == "policy.mode":
                continue
            assert field.default is not MISSING
            start, shown = field.default, file[f"{section}.{field.name}"]
            if isinstance(shown, list):
                shown = frozenset(shown)
            assert shown == start, f"{section}.{field.name}"


def test_the_commented_file_lacks_only_the_certificates_that_the_demo_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    # Stand-ins for var/certificates: whoever has run the demo has them, and then nothing is wrong at all.
    missing = [problem for problem in _problems_or_none(ROOT / "gateway.toml") if "no such file" not in problem]
    assert missing == []


def _problems_or_none(path: Path) -> tuple[str, ...]:
    try:
        load(path)
    except ConfigurationError as error:
        return error.problems
    return ()
