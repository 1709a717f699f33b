"""`[keys]`, `[cache]`, `[jobs]`: start values, paths that are the file's, and what is wrong between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.checks import load
from gateway.keeping.keys import key_store_file
from gateway.model.errors import ConfigurationError
from gateway.model.work.jobs import Lane
from gateway.model.work.transfers import CacheClass
from storage.keyring.keyring import KeyringSettings
from tests.gateway.test_config import PLAIN

BUCKET = '[cache]\nstore = "s3"\n[cache.s3]\nbucket = "studies"\n{}\n'
VAULT = '[keys]\nwrapper = "vault"\n[keys.vault]\nurl = "{url}"\ntoken_file = "token"\nkey = "k"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("t")
    (tmp_path / "token").chmod(0o600)
    return tmp_path


def file(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_lies_beside_the_file_that_names_it_by_default(folder: Path) -> None:
    configuration = load(file(folder, PLAIN))
    assert configuration.keys.file == folder / "var/keys/master-keys.json"
    assert configuration.storage.location_key == folder / "var/keys/location-index.key"
    assert key_store_file(configuration) == folder / "var/data/keys.db"
    assert configuration.cache_folder == folder / "var/data/cache/gateway-1"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("workers_max = 0", "pixels.workers_max: must be greater than 0"),
        ("memory_bytes_max = 1000000", "pixels.frame_bytes_max: a quarter of memory_bytes_max at most"),
    ],
)
def test_what_pixels_may_cost_is_said_and_checked(folder: Path, text: str, problem: str) -> None:
    assert load(file(folder, f"{PLAIN}\n[pixels]\nworkers_max = 3\n")).pixels.workers_max == 3
    with pytest.raises(ConfigurationError) as refused:
        load(file(folder, f"{PLAIN}\n[pixels]\n{text}\n"))
    assert any(each.startswith(problem) for each in refused.value.problems)


def test_the_start_values_are_those_of_what_is_started(folder: Path) -> None:
    configuration = load(file(folder, PLAIN))
    started = KeyringSettings.__dataclass_fields__
    for name in ("shred_after_hours", "watch_s", "cached_keys_max", "rewrap_batch_max", "lock_wait_s"):
        assert getattr(configuration.keys, name) == started[name].default
    assert configuration.jobs.capacity.reserved == {Lane.EMERGENCY: 4, Lane.INTERACTIVE: 4, Lane.MEETING: 2}
    assert set(configuration.cache.quota_bytes) == set(CacheClass)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[keys]\nurl = "mysql://x"', "keys.url: "),
        ('[keys]\nurl = "postgresql+psycopg://u:pw@localhost/d"', "keys.url: holds a password"),
        ('[keys]\nurl = "postgresql+psycopg://u@db.example/d"', "keys.url: a database on another machine needs"),
        ('[keys]\nurl = "sqlite:///x"\n[storage]\nurl = "sqlite:///x"', "keys.url: is that of [storage]"),
        ('[keys]\npassword_file = "token"', "keys.password_file: SQLite has no password"),
        ('[keys]\nwrapper = "vault"', "keys.vault: must be set"),
        ('[keys]\nwrapper = "kms"', "keys.kms: must be set"),
        ('[cache]\nstore = "s3"', "cache.s3: must be set"),
        (BUCKET.format('endpoint = "http://store.example:9000"'), "cache.s3.endpoint: must be https"),
        (BUCKET.format('access_key_file = "token"'), "cache.s3: access_key_file and secret_key_file"),
        (BUCKET.format('session_token_file = "token"'), "cache.s3.session_token_file: needs"),
        (BUCKET.format("part_bytes = 5242879"), "cache.s3.part_bytes"),
        ('[keys]\nwrapper = "paper"', "keys.wrapper: "),
        (VAULT.format(url="http://vault.example:8200"), "keys.vault.url: must be https"),
        (VAULT.format(url="https://vault.example:8200"), "keys.vault.ca: must be set"),
        ("[keys]\nshred_after_hours = 169", "keys.shred_after_hours: "),
        ("[keys]\nwatch_s = 1.1", "keys.watch_s: "),
        ("[keys]\ncached_keys_max = 0", "keys.cached_keys_max: "),
        ("[cache]\npush_bytes_max = -1", "cache.push_bytes_max: "),
        ("[cache]\nreaders = 0", "cache.readers: "),
        ("[cache]\nsize = 1", "cache.size: no such setting"),
        ("[jobs]\nat_once_max = 10", "jobs.at_once_max: must be more than is reserved"),
        ("[jobs]\nretry_first_s = 901", "jobs.retry_max_s: "),
        ("[jobs]\npoll_s = 20.1", "jobs.poll_s: must be a third of lease_s"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(folder: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(file(folder, f"{PLAIN}\n{text}\n"))
    assert [each for each in caught.value.problems if each.startswith(problem)], caught.value.problems


@pytest.mark.parametrize("text", ["[jobs]\nat_once_max = 11", "[jobs]\npoll_s = 20", "[keys]\nshred_after_hours = 168"])
def test_a_value_at_its_limit_is_taken(folder: Path, text: str) -> None:
    load(file(folder, f"{PLAIN}\n{text}\n"))


def test_a_key_lies_apart_from_what_it_opens_save_in_a_demo(folder: Path) -> None:
    inside = PLAIN + '[keys]\nfile = "var/data/keys.json"\n'
    load(file(folder, inside))
    with pytest.raises(ConfigurationError) as caught:
        load(file(folder, inside.replace("demo", "production")))
    assert any(problem.startswith("keys.file: lies in gateway.data_folder") for problem in caught.value.problems)
