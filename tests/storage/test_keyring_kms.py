"""AWS KMS as the wrapper, on moto: keys come back by their own epoch, and a retired one is on its way out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws  # type: ignore[import-not-found, import-untyped, unused-ignore]  # not in every set-up yet

from gateway.model.errors import ConfigurationError, KeyClosed, RegisterUnavailable
from gateway.model.work.transfers import KeyDomain
from storage.keyring.kms import Kms, connect
from storage.keyring.wrapping import WrapRefused
from tests.clock import FakeClock
from tests.storage.keyrings import SHRED_AFTER_S, Place

KEY = bytes(range(32))
SPOT = b"where the key belongs"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def wrapper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kms]:
    """The wrapper over moto's KMS."""
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        yield connect("eu-west-2")


def state(wrapper: Kms, key_id: str) -> str:
    """What KMS says of a key."""
    told = wrapper._client.describe_key(KeyId=key_id)  # type: ignore[attr-defined]  # not used by the wrapper
    return str(told["KeyMetadata"]["KeyState"])


def test_a_key_comes_back_by_its_own_epoch_and_place_alone(wrapper: Kms) -> None:
    first, second = (wrapper.begin_epoch("store", is_first=is_first) for is_first in (True, False))
    wrapped = wrapper.wrap(first, KEY, SPOT)
    assert KEY not in wrapped
    assert wrapper.unwrap(first, wrapped, SPOT) == KEY
    for epoch, blob, spot in ((second, wrapped, SPOT), (first, wrapped, b"elsewhere"), (first, b"x" * 80, SPOT)):
        # Moto answers another key's ciphertext with AccessDenied, where KMS says IncorrectKeyException.
        with pytest.raises((WrapRefused, RegisterUnavailable)):
            wrapper.unwrap(epoch, blob, spot)


def test_a_retired_key_is_on_its_way_out_and_no_other(wrapper: Kms) -> None:
    first, second = (wrapper.begin_epoch("store", is_first=is_first) for is_first in (True, False))
    for _ in range(2):
        wrapper.retire([first], [second])
    assert (state(wrapper, first), state(wrapper, second)) == ("PendingDeletion", "Enabled")


def test_kms_that_refuses_us_is_a_fault_of_the_service(wrapper: Kms) -> None:
    with pytest.raises(RegisterUnavailable):
        wrapper.wrap("alias/none", KEY, SPOT)  # type: ignore[arg-type]  # an epoch that never was


async def test_a_patient_is_shredded_under_kms(wrapper: Kms, tmp_path: Path, clock: FakeClock) -> None:
    place = Place(tmp_path / "gateway", clock)
    async with place.keyring(wrapper) as keyring:
        annes, _ = await keyring.data_key("1.2", "anne", KeyDomain.CACHE)
        bens, key = await keyring.data_key("1.3", "ben", KeyDomain.CACHE)
        await keyring.close_patient("anne", KeyDomain.CACHE)
        await clock.advance(SHRED_AFTER_S)
        assert (await keyring.shred_due(clock.now())).epochs_retired == 1
    async with place.keyring(wrapper) as keyring:
        assert await keyring.key(bens) == key
        with pytest.raises(KeyClosed):
            await keyring.key(annes)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigurationError, match=r"\[aws\]"):
        connect("eu-west-2")
