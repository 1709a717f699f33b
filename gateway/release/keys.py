"""The keys of a node's keeping, while it has them open; else the fault that says why it has not."""

from __future__ import annotations

from gateway.keeping.keeping import Keeping
from gateway.model.work.transfers import KeyDomain
from policy.parties import TrustId


class KeptKeys:
    """`gateway.model.work.transfers.StudyKeys` over a keeping."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping

    async def data_key(self, study_uid: str, patient_row: str, domain: KeyDomain) -> tuple[bytes, bytes]:
        """See `StudyKeys`."""
        return await self._keeping.keyring.data_key(study_uid, patient_row, domain)

    async def key(self, key_id: bytes) -> bytes:
        """See `StudyKeys`."""
        return await self._keeping.keyring.key(key_id)

    async def key_even_closed(self, key_id: bytes) -> bytes:
        """See `StudyKeys`."""
        return await self._keeping.keyring.key_even_closed(key_id)

    async def close_patient(self, patient_row: str, domain: KeyDomain) -> None:
        """See `StudyKeys`."""
        await self._keeping.keyring.close_patient(patient_row, domain)

    async def keep_for_custodian(self, key_id: bytes, custodian: TrustId) -> None:
        """See `StudyKeys`."""
        await self._keeping.keyring.keep_for_custodian(key_id, custodian)

    async def custodians_key(self, key_id: bytes, custodian: TrustId) -> bytes:
        """See `StudyKeys`."""
        return await self._keeping.keyring.custodians_key(key_id, custodian)

    async def discard_kept(self, key_id: bytes) -> None:
        """See `StudyKeys`."""
        await self._keeping.keyring.discard_kept(key_id)
