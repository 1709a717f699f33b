"""The first questions after a start: a gateway that knows nothing of its trusts yet must not be asked (SAF-06)."""

from __future__ import annotations

import pytest

from gateway.demo.cast import BEN, FAITH
from tests.attacks.attacked import AttackedRegion
from tests.attacks.test_comparing import same

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_gateway_is_ready_when_every_trust_has_been_asked_once(attacked: AttackedRegion) -> None:
    """A dead trust is named for a hidden patient from the first answer on, and a slow one makes it wait."""
    await attacked.stop_gateway()
    await attacked.archives["RZ2"].behave(slow_s=1.0)
    await attacked.archives["RZ3"].behave(dead="closed")
    try:
        await attacked.start_gateway()
        heard = [
            await attacked.figure(f'gateway_peer_seconds_count{{state="{state}",trust="{trust}"}}')
            for trust, state in (("RZ2", "answered"), ("RZ3", "unreachable"))
        ]
        assert min(heard) >= 1
        hidden, absent = (f"/dicom-web/studies?PatientID={patient.nhs_number}" for patient in (BEN, FAITH))
        assert await same(attacked, hidden, absent) == 200
    finally:
        await attacked.archives["RZ2"].behave()
        await attacked.archives["RZ3"].behave()
        await attacked.until_all_answer()
