"""Wrappers: what each promises of its epochs, and how each fails when what it stands on is not as it should be."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.demo.ports import free_port
from gateway.model.errors import ConfigurationError, RegisterUnavailable
from gateway.model.imaging import JsonValue
from gateway.model.work.transfers import KeyDomain
from storage.keyring import key_file
from storage.keyring.key_file import KeyFile
from storage.keyring.vault import ANSWER_BYTES_MAX, VaultAnswer, VaultSettings, VaultTransit, calling
from storage.keyring.wrapping import KeyWrapper, WrapperEpoch, WrapRefused, context, open_key, seal_key
from tests.clock import FakeClock
from tests.peers.vault import Vault, running_vault
from tests.storage.keyrings import Place, vault_at

KEY = bytes(range(32))
SPOT = b"where the key belongs"


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[tuple[Vault, VaultTransit]]:
    """Vault's stub, and the wrapper over it."""
    with running_vault(tmp_path / "vault.json") as (stub, url):
        yield stub, vault_at(url, tmp_path)


@pytest.fixture(params=["key file", "vault"])
def wrapper(request: pytest.FixtureRequest, tmp_path: Path) -> KeyWrapper:
    """Each wrapper in turn."""
    if request.param == "key file":
        return KeyFile(tmp_path / "secret" / "keys.json")
    made: VaultTransit = request.getfixturevalue("vault")[1]
    return made


def test_a_key_comes_back_by_its_own_epoch_and_place_alone(wrapper: KeyWrapper) -> None:
    first = wrapper.begin_epoch("store", is_first=True)
    second = wrapper.begin_epoch("store", is_first=False)
    wrapped = wrapper.wrap(first, KEY, SPOT)
    assert KEY not in wrapped
    assert wrapper.unwrap(first, wrapped, SPOT) == KEY
    for epoch, blob, spot in (
        (second, wrapped, SPOT),
        (first, wrapped, b"elsewhere"),
        (first, wrapped[:-8] + b"AAAAAAA=", SPOT),
        (first, wrapped[:20], SPOT),
    ):
        with pytest.raises(WrapRefused):
            wrapper.unwrap(epoch, blob, spot)


def test_a_retired_epoch_opens_nothing_and_the_live_ones_go_on(wrapper: KeyWrapper) -> None:
    epochs = [wrapper.begin_epoch("store", is_first=number == 0) for number in range(4)]
    wraps = [wrapper.wrap(epoch, KEY, SPOT) for epoch in epochs]
    for _ in range(2):
        wrapper.retire([epochs[0]], [epochs[2], epochs[3]])
    for number in (0, 1):
        with pytest.raises(WrapRefused):
            wrapper.unwrap(epochs[number], wraps[number], SPOT)
    assert [wrapper.unwrap(epochs[number], wraps[number], SPOT) for number in (2, 3)] == [KEY, KEY]
    later = wrapper.begin_epoch("store", is_first=False)
    assert later not in epochs
    assert wrapper.unwrap(later, wrapper.wrap(later, KEY, SPOT), SPOT) == KEY


def test_a_wrapper_that_serves_another_store_is_not_led_on(wrapper: KeyWrapper) -> None:
    wrapper.begin_epoch("store", is_first=True)
    wrapper.begin_epoch("store", is_first=False)
    with pytest.raises(ConfigurationError):
        wrapper.begin_epoch("another", is_first=True)


async def test_the_keyring_lives_on_vault_through_rotations_and_outages(tmp_path: Path, clock: FakeClock) -> None:
    place = Place(tmp_path / "gateway", clock)
    with running_vault(tmp_path / "vault.json") as (stub, url):
        async with place.keyring(vault_at(url, tmp_path)) as keyring:
            key_id, key = await keyring.data_key("1.2", "anne", KeyDomain.CACHE)
            await keyring.rotate()
            assert [list(held["versions"]) for held in stub.keys.values()] == [["2"]]
            stub.is_sealed = True
            assert await keyring.key(key_id) == key, "what is in memory needs no Vault"
            with pytest.raises(RegisterUnavailable):
                await keyring.rotate()
        async with place.keyring(vault_at(url, tmp_path)) as keyring:
            with pytest.raises(RegisterUnavailable):
                await keyring.key(key_id)
            stub.is_sealed = False
            assert await keyring.key(key_id) == key
            assert (await keyring.rotate()).epochs_retired == 1


@pytest.mark.parametrize("broken", ["sealed", "other token", "no token", "gone"])
def test_a_vault_that_cannot_serve_is_a_fault_of_the_service(tmp_path: Path, broken: str) -> None:
    with running_vault(tmp_path / "vault.json") as (stub, url):
        wrapper = vault_at(url, tmp_path)
        epoch = wrapper.begin_epoch("store", is_first=True)
        wrapped = wrapper.wrap(epoch, KEY, SPOT)
        match broken:
            case "sealed":
                stub.is_sealed = True
            case "other token":
                (tmp_path / "vault-token").write_text("s.another")
            case "no token":
                (tmp_path / "vault-token").unlink()
            case _:
                wrapper = vault_at(f"http://127.0.0.1:{free_port()}", tmp_path)
        with pytest.raises(RegisterUnavailable):
            wrapper.unwrap(epoch, wrapped, SPOT)


def test_a_renewed_token_is_used_at_once(vault: tuple[Vault, VaultTransit], tmp_path: Path) -> None:
    stub, wrapper = vault
    wrapper.begin_epoch("store", is_first=True)
    stub.token = "s.renewed"
    (tmp_path / "vault-token").write_text("s.renewed\n")
    assert wrapper.begin_epoch("store", is_first=False) == "2"


@pytest.mark.parametrize(
    "lie",
    [
        {},
        {"latest_version": "2", "ciphertext": 5, "plaintext": "no base64!", "min_available_version": 7},
        {"latest_version": None, "ciphertext": "vault:v9:AAAA", "plaintext": "", "min_available_version": None},
    ],
)
def test_an_answer_that_the_api_does_not_have_is_not_believed(lie: dict[str, JsonValue]) -> None:
    wrapper = VaultTransit(
        VaultSettings("https://vault.example", Path("token"), "keys"), lambda *_: VaultAnswer(200, {"data": lie})
    )
    epoch = WrapperEpoch("1")
    acts: list[Callable[[], object]] = [
        lambda: wrapper.begin_epoch("store", is_first=False),
        lambda: wrapper.wrap(epoch, KEY, SPOT),
        lambda: wrapper.unwrap(epoch, b"vault:v1:AAAA", SPOT),
        lambda: wrapper.retire([epoch], [WrapperEpoch("2")]),
    ]
    for act in acts:
        with pytest.raises((RegisterUnavailable, WrapRefused)):
            act()


def test_vault_is_spoken_to_in_the_clear_on_this_machine_alone(tmp_path: Path) -> None:
    settings = VaultSettings("http://vault.example:8200", tmp_path / "token", "keys")
    for url in ("http://vault.example:8200", "https://127.0.0.1:8200", "ftp://127.0.0.1"):
        with pytest.raises(ConfigurationError, match="https"):
            calling(replace(settings, url=url), None)


def test_an_answer_longer_than_its_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s.token")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + bytes(ANSWER_BYTES_MAX + 2))

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        call = calling(VaultSettings(url, tmp_path / "token", "keys"), None)
        with pytest.raises(RegisterUnavailable, match="longer"):
            call("GET", "transit/keys/keys", None)
        thread.join()


def test_the_key_file_keeps_no_more_epochs_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "EPOCHS_MAX", 3)
    wrapper = KeyFile(tmp_path / "keys.json")
    for number in range(3):
        wrapper.begin_epoch("store", is_first=number == 0)
    with pytest.raises(RegisterUnavailable):
        wrapper.begin_epoch("store", is_first=False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format":2,"store":"store","keys":[]}',
        b'{"format":1,"store":"store","keys":[{"epoch":"a","key":"AAAA"}]}',
        b'{"format":1,"store":"store","keys":[{"epoch":"a","key":"?"}]}',
        b" " * (key_file.FILE_BYTES_MAX + 1),
    ],
)
def test_a_file_that_is_no_key_file_is_refused_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    path.chmod(0o600)
    for is_first in (True, False):
        with pytest.raises(ConfigurationError):
            KeyFile(path).begin_epoch("store", is_first=is_first)
    assert path.read_bytes() == content


def test_a_replaced_key_file_is_overwritten_before_it_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "secret" / "keys.json"
    wrapper = KeyFile(path)
    wrapper.begin_epoch("store", is_first=True)
    with path.open("rb") as old:  # holds on to what the name no longer leads to
        held = old.read()
        wrapper.begin_epoch("store", is_first=False)
        old.seek(0)
        assert old.read() == bytes(len(held))
    assert len(orjson.loads(path.read_bytes())["keys"]) == 2
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


def test_what_a_killed_process_left_is_erased_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    wrapper = KeyFile(path)
    epoch = wrapper.begin_epoch("store", is_first=True)
    (tmp_path / "keys.json.incoming").write_bytes(b"half a fi")
    (tmp_path / "keys.json.outgoing").write_bytes(path.read_bytes())
    wrapper.retire([], [epoch])
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]


@given(st.lists(st.binary(max_size=20), max_size=4), st.lists(st.binary(max_size=20), max_size=4))
def test_different_names_never_make_the_same_context(one: list[bytes], other: list[bytes]) -> None:
    assert (context("kind", *one) == context("kind", *other)) == (one == other)


@given(at=st.integers(0, 59), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_wrapped_key_is_found(at: int, bit: int) -> None:
    wrapped = bytearray(seal_key(KEY, bytes(32), SPOT, bytes))
    wrapped[at] ^= 1 << bit
    with pytest.raises(WrapRefused):
        open_key(KEY, bytes(wrapped), SPOT)
