"""Images of real foreign archives come through the gateway as they were sent: DCMTK's by DIMSE, Orthanc's by HTTP."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.demo import cast
from gateway.demo.callers.received import Image, stored_image
from gateway.demo.cast import Trust
from tests.federation.filing import OAKFIELD, WESTHAVEN, own
from tests.federation.mixed import MixedRegion
from tests.stories.fetching import DOORS, opened
from tests.stories.test_retrieving import assert_as_kept

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.peer, pytest.mark.usefixtures("honest")]


def filed(folder: Path, study_uid: str) -> dict[str, Image]:
    """A study as it was filed, by SOP Instance UID."""
    images = [stored_image(path) for path in sorted(folder.glob("*.dcm"))]
    return {str(image.dataset.SOPInstanceUID): image for image in images if image.dataset.StudyInstanceUID == study_uid}


@pytest.mark.parametrize("by", DOORS)
@pytest.mark.parametrize(
    ("study_uid", "holder", "folder"),
    [
        (own(cast.ANNE_BODY_CT, WESTHAVEN), WESTHAVEN, "westhaven"),
        (own(cast.ANNE_HEART_US, OAKFIELD), OAKFIELD, "oakfield"),
    ],
    ids=["dcmtk", "orthanc"],
)
async def test_a_study_of_a_foreign_archive_arrives_as_it_is_kept(
    mixed: MixedRegion, by: str, study_uid: str, holder: Trust, folder: str
) -> None:
    async with AsyncExitStack() as stack:
        received = await (await opened(mixed, by, stack)).study(study_uid)
    kept = filed(mixed.folder / folder, study_uid)
    assert kept and received.is_whole, f"{holder.name}: {received.told}"
    if holder is WESTHAVEN:
        # DCMTK writes anew what it sends: without trailing padding, and not always in the syntax of its file.
        assert received.images.keys() == kept.keys()
        for uid, image in received.images.items():
            assert image.dataset.PixelData == kept[uid].dataset.PixelData
            assert image.dataset.SOPClassUID == image.dataset.file_meta.MediaStorageSOPClassUID
    else:
        assert_as_kept(received.images, kept)
        # Filed under the NHS number, as it is shown: nothing had to be written anew.
        assert {uid: image.encoded for uid, image in received.images.items()} == {
            uid: image.encoded for uid, image in kept.items()
        }
