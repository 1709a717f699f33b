"""The doors through which images are fetched, so that one story is told over C-MOVE, C-GET and WADO-RS."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Protocol

from gateway.demo.callers.received import Image, Received, stored_image
from gateway.demo.callers.viewer import Viewer
from gateway.demo.callers.workstation import Workstation
from gateway.demo.cast import StudyPlan
from gateway.demo.configuration import AE_TITLES, VIEWER
from gateway.demo.region import Region


class ImageDoor(Protocol):
    """One protocol's way to images, for Northmoor's viewer."""

    async def study(self, study_uid: str) -> Received:
        """Fetch a study."""

    async def series(self, study_uid: str, series_uid: str) -> Received:
        """Fetch one series."""

    async def instance(self, study_uid: str, series_uid: str, sop_uid: str) -> Received:
        """Fetch one image."""


class WadoDoor:
    """By WADO-RS."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer

    async def study(self, study_uid: str) -> Received:
        """See `ImageDoor`."""
        return await self._viewer.retrieve(f"studies/{study_uid}")

    async def series(self, study_uid: str, series_uid: str) -> Received:
        """See `ImageDoor`."""
        return await self._viewer.retrieve(f"studies/{study_uid}/series/{series_uid}")

    async def instance(self, study_uid: str, series_uid: str, sop_uid: str) -> Received:
        """See `ImageDoor`."""
        return await self._viewer.retrieve(f"studies/{study_uid}/series/{series_uid}/instances/{sop_uid}")


class GetDoor:
    """By C-GET."""

    def __init__(self, workstation: Workstation) -> None:
        self._workstation = workstation

    async def study(self, study_uid: str) -> Received:
        """See `ImageDoor`."""
        return await self._ask("STUDY", StudyInstanceUID=study_uid)

    async def series(self, study_uid: str, series_uid: str) -> Received:
        """See `ImageDoor`."""
        return await self._ask("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid)

    async def instance(self, study_uid: str, series_uid: str, sop_uid: str) -> Received:
        """See `ImageDoor`."""
        above = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        return await self._ask("IMAGE", **above, SOPInstanceUID=sop_uid)

    async def _ask(self, level: str, **keys: str) -> Received:
        return await self._workstation.get(level, **keys)


class MoveDoor(GetDoor):
    """By C-MOVE, to the workstation itself."""

    def __init__(self, workstation: Workstation, receiving_port: int) -> None:
        super().__init__(workstation)
        self._port = receiving_port

    async def _ask(self, level: str, **keys: str) -> Received:
        with self._workstation.receiving(self._port) as shelf:
            return await self._workstation.move(AE_TITLES[VIEWER], shelf, level, **keys)


DOORS = ("wado", "c-get", "c-move")


async def opened(region: Region, door: str, stack: AsyncExitStack) -> ImageDoor:
    """A door into the region's gateway, until the stack is closed."""
    if door == "wado":
        viewer = Viewer(region.machines_url, region.authority, region.key_pair(VIEWER))
        return WadoDoor(await stack.enter_async_context(viewer))
    workstation = await stack.enter_async_context(region.workstation(VIEWER))
    return GetDoor(workstation) if door == "c-get" else MoveDoor(workstation, region.receiving_port)


def kept_at(region: Region, ods_code: str, plan: StudyPlan) -> dict[str, Image]:
    """A study as it lies in an archive's folder, by SOP Instance UID."""
    folder = region.folder / "archives" / ods_code / plan.name
    images = map(stored_image, sorted(folder.glob("*.dcm")))
    return {str(image.dataset.SOPInstanceUID): image for image in images}
