"""C-GET: images go back on the association that asked for them, one C-STORE after the other (PS3.4 C.4.3, PS3.7 9.1.3).

Only in contexts for which the requestor took the role of SCP. An image of a class or transfer syntax that it does not
take fails alone, with words.
"""

from __future__ import annotations

from dataclasses import dataclass

from dimse.scp.retrieve_scp import CarrierFor, Request, told
from dimse.scu.store import Transcoder, store
from dimse.upper_layer.association import Association
from gateway.model.settings import Limits
from gateway.model.work.retrievals import Delivery


def getting(limits: Limits, transcoder: Transcoder | None = None) -> CarrierFor:
    """What carries out C-GET."""

    def carrier_for(request: Request) -> _Getting:
        return _Getting(request.association, limits.store_response_timeout_s, transcoder)

    return carrier_for


@dataclass(slots=True)
class _Getting:
    """A `Carrier` back to the requestor."""

    association: Association
    response_timeout_s: float
    transcoder: Transcoder | None
    may_be_cut: bool = True
    """Not while an image is half sent, or its answer not heard: that would be the end of the association."""
    destination: None = None
    may_outlive_caller: bool = False

    async def carry(self, delivery: Delivery) -> None:
        """See `Carrier`."""
        async for item in delivery:
            self.may_be_cut = False
            outcome = await store(
                self.association,
                item,
                transcoder=self.transcoder,
                response_timeout_s=self.response_timeout_s,
                we_are_requestor=False,
            )
            self.may_be_cut = True
            told(delivery, item, outcome)
