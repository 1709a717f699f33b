"""Images that travel: archives that hold encoded instances, and callers who have them brought."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from gateway.keeping.freshness import Withdrawals
from gateway.model.imaging import SOP_CLASS_UID, Attributes, Level
from gateway.model.work.retrievals import Delivery, Item, RetrieveWish
from gateway.model.work.transfers import InstanceRef, KeyDomain
from gateway.sharing.retrieval.acquiring import Acquiring
from gateway.sharing.retrieval.delivery import Means
from gateway.sharing.retrieval.road import Road
from gateway.sharing.retrieval.witness import Witness
from policy.parties import Caller, NhsNumber
from storage.cache.cache import SealedCache
from storage.store import SqlStore
from storage.work.ledger import SqlLedger
from tests.clock import FakeClock
from tests.memory_archive import Image
from tests.region import Region
from tests.sharing.rows import ANNE, row

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY = "1.2.3"


def encoded(
    ref: InstanceRef, patient: str, *, pixels: int = 3000, name: str = "SMITH^ANNE", **others: str | int
) -> bytes:
    """The data set of an instance, explicit VR little endian, without file meta information; `others` by keyword."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = ref.sop_class_uid, ref.sop_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = ref.study_uid, ref.series_uid
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = patient, name, "19580314"
    dataset.Modality, dataset.StudyDate = "CT", "20240105"
    for keyword, value in others.items():
        setattr(dataset, keyword, value)
    dataset.add_new("PixelData", "OW", bytes([len(ref.sop_uid)]) * pixels)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def image_row(ref: InstanceRef, patient: str) -> Attributes:
    """What an archive lists of it."""
    listed = row(ref.study_uid, None, series=ref.series_uid, image=ref.sop_uid, patient_id=patient, modality="CT")
    return {**listed, SOP_CLASS_UID: {"vr": "UI", "Value": [ref.sop_class_uid]}}


class Travels:
    """A region on the road."""

    def __init__(self, store: SqlStore, clock: FakeClock, cache: SealedCache, packs: Path) -> None:
        self.region = Region(store, clock)
        for trust in ("RZ1", "RZ2", "RZ3", "RZ4"):
            self.region.trust(trust)
        self.clock = clock
        self.cache = cache
        self.ledger = SqlLedger(store, "north")
        self.withdrawals = Withdrawals(store, cache, clock)
        self.packs = packs
        self.version = 0
        self.domain = KeyDomain.CACHE
        self._road: Road | None = None
        self.region.witness = Witness(cache, self.region.store, clock, self.region.limits)

    @property
    def road(self) -> Road:
        """The road; describe the region first."""
        if self._road is None:
            means = Means(self.cache, self.ledger, self.clock, self.region.limits, lambda: self.version)
            acquiring = Acquiring(self.region.peers, self.cache, self.region.gate.report)
            new_id, withdraw = self.region.new_id, self.withdrawals
            self._road = Road(self.region.broker, acquiring, self.region.store, means, new_id=new_id, withdraw=withdraw)
        return self._road

    def each_alone(self) -> None:
        """Let no request ride on another's passage; before the first."""
        self.region.limits = replace(self.region.limits, retrieve_rest_s=0)

    def hold(
        self,
        trust: str,
        *sops: str,
        study: str = STUDY,
        patient: NhsNumber | str = ANNE,
        series: str = "",
        inside: str = "",
    ) -> list[Image]:
        """Let a trust hold instances of a study; `inside` is the patient id in the images, if another than listed."""
        number = patient.digits if isinstance(patient, NhsNumber) else patient
        held = []
        for sop in sops:
            ref = InstanceRef(study, series or f"{study}.1", sop, CT)
            image = Image(ref, encoded(ref, inside or number))
            self.region.trust(trust).pacs.with_image(image_row(ref, number), image)
            held.append(image)
        return held

    @asynccontextmanager
    async def retrieval(self, wish: RetrieveWish | None = None, *, by: str | Caller = "RZ1") -> AsyncIterator[Delivery]:
        """A retrieval under way, of the study unless something else is wished."""
        await self.region.prepare()
        caller = self.region.caller(by) if isinstance(by, str) else by
        async with self.road.retrieve(caller, wish or whole(STUDY)) as delivery:
            yield delivery

    async def brought(
        self, wish: RetrieveWish | None = None, *, by: str | Caller = "RZ1"
    ) -> tuple[dict[str, bytes], Delivery]:
        """Everything of a wish as it was handed out, by SOP instance UID."""
        got: dict[str, bytes] = {}
        async with self.retrieval(wish, by=by) as delivery:
            async for item in delivery:
                got[item.ref.sop_uid] = await content(item)
                delivery.sent(item)
        return got, delivery


def whole(*studies: str) -> RetrieveWish:
    """Whole studies."""
    return RetrieveWish(Level.STUDY, study_uids=studies)


async def content(item: Item, first: int = 0, last: int | None = None) -> bytes:
    """What an item gives."""
    buffer = BytesIO()
    async with item.open(first, last) as pieces:
        async for piece in pieces:
            buffer.write(piece)
    return buffer.getvalue()


def uids(images: Sequence[Image]) -> dict[str, bytes]:
    """Instances as their archive holds them, by SOP instance UID."""
    return {image.ref.sop_uid: image.encoded for image in images}
