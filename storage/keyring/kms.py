"""The wrapper for those who run in AWS: KMS, a key of its own for each epoch (extra `[aws]`).

KMS destroys a key no sooner than seven days after that was asked for. From the asking on it opens nothing, but until
the week is over somebody with `kms:CancelKeyDeletion` can call it off: with this wrapper a shred is final a week late
(docs/keys.md). Synchronous, for a thread. Errors are told by their code alone.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Protocol

from gateway.model.errors import ConfigurationError, RegisterUnavailable
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

    def __init__(self, client: KmsClient, errors: tuple[type[Exception], ...]) -> None:
        """`errors`: what the client raises."""
        self._client = client
        self._errors = errors

    def begin_epoch(self, store_id: str, *, is_first: bool) -> WrapperEpoch:
        """See `KeyWrapper`. Nothing is shared between stores, so none can be mistaken for another."""
        try:
            made = self._client.create_key(
                Description="Key of an image-sharing gateway's key store",
                Tags=[{"TagKey": STORE_TAG, "TagValue": store_id}],
            )
        except self._errors as error:
            raise _unavailable(error) from None
        return WrapperEpoch(str(made["KeyMetadata"]["KeyId"]))

    def wrap(self, epoch: WrapperEpoch, key: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        try:
            sealed = self._client.encrypt(KeyId=epoch, Plaintext=key, EncryptionContext=_bound(context))
        except self._errors as error:
            raise _unavailable(error) from None
        return _bytes(sealed, "CiphertextBlob")

    def unwrap(self, epoch: WrapperEpoch, wrapped: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        try:
            opened = self._client.decrypt(KeyId=epoch, CiphertextBlob=wrapped, EncryptionContext=_bound(context))
        except self._errors as error:
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
            except self._errors as error:
                if _code(error) not in _IS_GOING:
                    raise _unavailable(error) from None


def connect(region: str, endpoint_url: str | None = None, timeout_s: float = 5.0) -> Kms:
    """The wrapper over boto3, with limits; raises `ConfigurationError` without the extra `[aws]`.

    Credentials come from where boto3 looks for them (instance role, environment).
    """
    try:
        # By name, because an ordinary install does not have it, as it does not have psycopg.
        boto3, config, exceptions = map(import_module, ("boto3", "botocore.config", "botocore.exceptions"))
    except ModuleNotFoundError as error:
        raise ConfigurationError(["keys.kms: AWS KMS needs the extra [aws]"]) from error
    limits = config.Config(connect_timeout=timeout_s, read_timeout=timeout_s, retries={"total_max_attempts": 2})
    client: KmsClient = boto3.client("kms", region_name=region, endpoint_url=endpoint_url, config=limits)
    return Kms(client, (exceptions.BotoCoreError, exceptions.ClientError, OSError))


def _bound(context: bytes) -> dict[str, str]:
    # It stands in AWS's own log in the clear: ids of epochs, nothing of a patient.
    return {"for": b64encode(context).decode()}


def _bytes(answer: Answer, name: str) -> bytes:
    found = answer.get(name)
    if not isinstance(found, bytes):
        raise RegisterUnavailable("KMS's answer is not what its API says")
    return found


def _code(error: Exception) -> str:
    answer = getattr(error, "response", None)  # of a ClientError, as boto3 names it
    told = answer.get("Error") if isinstance(answer, dict) else None
    return str(told.get("Code", "")) if isinstance(told, dict) else ""


def _unavailable(error: Exception) -> RegisterUnavailable:
    return RegisterUnavailable(f"KMS cannot be used: {_code(error) or type(error).__name__}")
