"""An archive that answers from memory and misbehaves as it is told (`gateway.model.seams.PeerConnector`).

It searches by patient, study and accession number and ignores every other key, as archives do. Slowness is told in
seconds of the test's clock.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from gateway.model.errors import InvalidRequest, PeerProtocolError, PeerRefused, PeerUnavailable
from gateway.model.imaging import ACCESSION_NUMBER, OTHER_PATIENT_IDS, PATIENT_ID, STUDY_UID, Attributes, JsonValue, Key
from gateway.model.seams import PeerAnswer, PeerRequest, ToldByGateway
from gateway.model.work.transfers import FetchRequest, InstanceRef, Intake
from policy.parties import NhsNumber, TrustId
from tests.clock import FakeClock


@dataclass(frozen=True, slots=True)
class Image:
    """An instance as an archive sends it."""

    ref: InstanceRef
    encoded: bytes
    transfer_syntax: str = "1.2.840.10008.1.2.1"
    is_extra: bool = False
    """Sent whatever was asked for."""


Answering = Callable[[PeerRequest], Awaitable[PeerAnswer]]


class Archive:
    """One trust's archive in memory, a `PeerConnector`; it searches by patient, study and accession number alone."""

    def __init__(self, trust: TrustId, clock: FakeClock) -> None:
        self._trust = trust
        self._clock = clock
        self.rows: list[Attributes] = []
        self.requests: list[PeerRequest] = []
        self.is_asked = asyncio.Event()
        self.under_way = 0
        self.under_way_at_most = 0
        self.cancelled = 0
        self.is_closed = False
        self._answering: Answering = self._search
        self.images: dict[str, Image] = {}
        """What it sends, by SOP instance UID; `rows` says what it lists."""
        self.fetches: list[FetchRequest] = []
        self.refused: list[Exception] = []
        """What refused an instance that it sent."""
        self.pace: Callable[[InstanceRef], Awaitable[None]] | None = None
        """Awaited before each instance is sent."""
        self.sends_at_most: int | None = None
        """Then it breaks off."""

    @property
    def trust(self) -> TrustId:
        """Whose archive this is."""
        return self._trust

    async def find(self, request: PeerRequest) -> PeerAnswer:
        """Answer as the archive now behaves."""
        self.requests.append(request)
        self.is_asked.set()
        self.under_way += 1
        self.under_way_at_most = max(self.under_way_at_most, self.under_way)
        try:
            return await self._answering(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1

    async def fetch(self, request: FetchRequest, intake: Intake) -> None:
        """Send everything of the target, or these instances alone, in the order in which they are held."""
        self.fetches.append(request)
        wanted = {ref.sop_uid for ref in request.refs}
        chosen = [
            image
            for uid, image in self.images.items()
            if (uid in wanted if wanted else request.target.names(image.ref)) or image.is_extra
        ]
        for count, image in enumerate(chosen):
            if count == self.sends_at_most:
                raise PeerUnavailable(self._trust, "the archive broke off")
            if self.pace is not None:
                await self.pace(image.ref)
            try:
                async with intake.take(image.ref.sop_class_uid, image.ref.sop_uid, image.transfer_syntax) as taking:
                    for at in range(0, len(image.encoded), 1000):
                        taking.add(image.encoded[at : at + 1000])
                        await taking.drain()
                    await taking.keep()
            except InvalidRequest as error:
                self.refused.append(error)

    async def close(self) -> None:
        """Note that it was closed."""
        self.is_closed = True

    def with_row(self, *rows: Attributes) -> Archive:
        """Hold these rows too."""
        self.rows.extend(rows)
        return self

    def with_image(self, row: Attributes, image: Image) -> Archive:
        """Hold an instance: list it, and send it when it is asked for."""
        self.images[image.ref.sop_uid] = image
        return self.with_row(row)

    def up(self) -> Archive:
        """Answer at once, and truly."""
        self._answering = self._search
        return self

    def down(self) -> Archive:
        """Refuse connections."""
        return self.failing(PeerUnavailable(self._trust, "no connection"))

    def refusing(self) -> Archive:
        """Say no to us."""
        return self.failing(PeerRefused(self._trust, "status 403"))

    def garbled(self) -> Archive:
        """Answer what cannot be believed."""
        return self.failing(PeerProtocolError(self._trust, "not DICOM JSON"))

    def failing(self, error: Exception) -> Archive:
        """Raise this at every question."""

        async def fail(_request: PeerRequest) -> PeerAnswer:
            raise error

        self._answering = fail
        return self

    def failing_for(self, value: str) -> Archive:
        """Break the connection at every question by this patient number, and answer all others truly."""

        async def answer(request: PeerRequest) -> PeerAnswer:
            if any(value in key.values for key in request.query.keys):
                raise PeerUnavailable(self._trust, "no connection")
            return await self._search(request)

        self._answering = answer
        return self

    def stalled(self) -> Archive:
        """Never answer."""

        async def stall(_request: PeerRequest) -> PeerAnswer:
            await asyncio.get_running_loop().create_future()
            raise AssertionError("a future that nobody completes")

        self._answering = stall
        return self

    def slow(self, *delays_s: float) -> Archive:
        """Answer truly after these many seconds, question by question; the last holds for all further ones."""
        waiting = itertools.chain(delays_s[:-1], itertools.repeat(delays_s[-1]))
        return self.slow_by(lambda: next(waiting))

    def slow_by(self, delay_s: Callable[[], float]) -> Archive:
        """Answer truly after as long as this says."""

        async def answer(request: PeerRequest) -> PeerAnswer:
            await self._clock.sleep(delay_s())
            return await self._search(request)

        self._answering = answer
        return self

    def clinging(self, cleanup_s: float) -> Archive:
        """Never answer, and take this long to let go when given up."""

        async def cling(_request: PeerRequest) -> PeerAnswer:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await self._clock.sleep(cleanup_s)
            raise AssertionError("a future that nobody completes")

        self._answering = cling
        return self

    def lying(self, *rows: Attributes, is_truncated: bool = False) -> Archive:
        """Answer these rows, whatever was asked."""

        async def lie(_request: PeerRequest) -> PeerAnswer:
            return PeerAnswer(rows, is_truncated)

        self._answering = lie
        return self

    def telling(self, told: ToldByGateway) -> Archive:
        """Answer truly, as another gateway that says this of the trust."""

        async def answer(request: PeerRequest) -> PeerAnswer:
            return replace(await self._search(request), told=told)

        self._answering = answer
        return self

    def asked_for(self, patient: NhsNumber) -> bool:
        """Whether it was ever asked for this patient."""
        return any(patient.digits in key.values for request in self.requests for key in request.query.keys)

    async def _search(self, request: PeerRequest) -> PeerAnswer:
        found = [row for row in self.rows if all(_finds(key, row) for key in request.query.keys)]
        return PeerAnswer(found[: request.matches_max], len(found) > request.matches_max)


def _finds(key: Key, row: Attributes) -> bool:
    match key.path:
        case (tag,) if tag in (STUDY_UID, ACCESSION_NUMBER):
            return bool(set(_texts(row, tag)) & set(key.values))
        case (tag,) if tag == PATIENT_ID:
            others = row.get(OTHER_PATIENT_IDS, {}).get("Value")
            items = [item for item in others if isinstance(item, dict)] if isinstance(others, list) else []
            numbers = {*_texts(row, tag), *(text for item in items for text in _texts(item, tag))}
            return bool(numbers & set(key.values))
        case _:
            return True  # as archives do with keys that they do not know


def _texts(row: Mapping[str, JsonValue] | Attributes, tag: str) -> list[str]:
    element = row.get(tag)
    values = element.get("Value") if isinstance(element, Mapping) else None
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
