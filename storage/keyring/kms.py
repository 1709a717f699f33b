"""The wrapper for those who run in AWS: KMS, a key of its own for each epoch (extra `[aws]`).

KMS destroys a key no sooner than seven days after that was asked for. From the asking on it opens nothing, but until
the week is over somebody with `kms:CancelKeyDeletion` can call it off: with this wrapper a shred is final a week late
(docs/keys.md). Synchronous, for a thread. Errors are told by their code alone.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Protocol

import boto3  # type: ignore[import-not-found, import-untyped, unused-ignore]  # an extra, without types
from botocore.config import Config  # type: ignore[import-not-found, import-untyped, unused-ignore]  # as above
from botocore.exceptions import (  # type: ignore[import-not-found, import-untyped, unused-ignore]  # as above
    BotoCoreError,
    ClientError,
)

from gateway.model.errors import RegisterUnavailable
from storage.keyring.wrapping import KEY_BYTES, WrapperEpoch, WrapRefused

PENDING_DAYS = 7
"""The shortest that KMS allows."""
STORE_TAG = "gateway-key-store"
"""By this tag keys are found that were begun and never used, which cost money and nothing else."""

_DOES_NOT_OPEN = frozenset(
    {
        "InvalidCiphertextException",
        "IncorrectKeyException",
        "DisabledException",
        "KMSInvalidStateException",
        "NotFoundException",
    }
)
_IS_GOING = frozenset({"KMSInvalidStateException", "NotFoundException"})

Answer = Mapping[str, object]


class KmsClient(Protocol):
    """What is used of boto3's client, in its words."""

    def create_key(self, *, Description: str, Tags: Sequence[Mapping[str, str]]) -> Mapping[str, Answer]: ...
    def encrypt(self, *, KeyId: str, Plaintext: bytes, EncryptionContext: Mapping[str, str]) -> Answer: ...
    def decrypt(self, *, KeyId: str, CiphertextBlob: bytes, EncryptionContext: Mapping[str, str]) -> Answer: ...
    def schedule_key_deletion(self, *, KeyId: str, PendingWindowInDays: int) -> Answer: ...


class Kms:
    """See `KeyWrapper`."""

    def __init__(self, client: KmsClient) -> None:
        self._client = client

    def begin_epoch(self, store_id: str, *, is_first: bool) -> WrapperEpoch:
        """See `KeyWrapper`. Nothing is shared between stores, so none can be mistaken for another."""
        try:
            made = self._client.create_key(
                Description="Key of an image-sharing gateway's key store",
                Tags=[{"TagKey": STORE_TAG, "TagValue": store_id}],
            )
        except (BotoCoreError, ClientError, OSError) as error:
            raise _unavailable(error) from None
        return WrapperEpoch(str(made["KeyMetadata"]["KeyId"]))

    def wrap(self, epoch: WrapperEpoch, key: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        try:
            sealed = self._client.encrypt(KeyId=epoch, Plaintext=key, EncryptionContext=_bound(context))
        except (BotoCoreError, ClientError, OSError) as error:
            raise _unavailable(error) from None
        return _bytes(sealed, "CiphertextBlob")

    def unwrap(self, epoch: WrapperEpoch, wrapped: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        try:
            opened = self._client.decrypt(KeyId=epoch, CiphertextBlob=wrapped, EncryptionContext=_bound(context))
        except (BotoCoreError, ClientError, OSError) as error:
            if _code(error) in _DOES_NOT_OPEN:
                raise WrapRefused("KMS does not open it: the key is retired, or it was altered") from None
            raise _unavailable(error) from None
        key = _bytes(opened, "Plaintext")
        if len(key) != KEY_BYTES:
            raise WrapRefused(f"a key has {KEY_BYTES} bytes")
        return key

    def retire(self, spent: Sequence[WrapperEpoch], live: Sequence[WrapperEpoch]) -> None:
        """See `KeyWrapper`; each key opens nothing at once and is gone after `PENDING_DAYS`."""
        for epoch in spent:
            try:
                self._client.schedule_key_deletion(KeyId=epoch, PendingWindowInDays=PENDING_DAYS)
            except (BotoCoreError, ClientError, OSError) as error:
                if _code(error) not in _IS_GOING:
                    raise _unavailable(error) from None


def connect(region: str, endpoint_url: str | None = None, timeout_s: float = 5.0) -> KmsClient:
    """A client with limits; credentials come from where boto3 looks for them (instance role, environment)."""
    config = Config(connect_timeout=timeout_s, read_timeout=timeout_s, retries={"total_max_attempts": 2})
    client: KmsClient = boto3.client("kms", region_name=region, endpoint_url=endpoint_url, config=config)
    return client


def _bound(context: bytes) -> dict[str, str]:
    # It stands in AWS's own log in the clear: ids of epochs, nothing of a patient.
    return {"for": b64encode(context).decode()}


def _bytes(answer: Answer, name: str) -> bytes:
    found = answer.get(name)
    if not isinstance(found, bytes):
        raise RegisterUnavailable("KMS's answer is not what its API says")
    return found


def _code(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _unavailable(error: Exception) -> RegisterUnavailable:
    return RegisterUnavailable(f"KMS cannot be used: {_code(error) or type(error).__name__}")
