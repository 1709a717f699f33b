"""The C-STORE sub-operations of C-MOVE and C-GET (PS3.4 C.4.2, C.4.3), as pynetdicom wants them from a handler.

As many are announced as were asked for, whatever is sent. Runs in pynetdicom's threads.
"""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from gateway.demo.pacs.behaviour import Lie, Switches
from gateway.demo.pacs.images.spoiling import break_off, chosen, content_of
from gateway.demo.pacs.index import Index, Instance

_PENDING: Final = 0xFF00
_CANCELLED: Final = 0xFE00
_CONTEXTS_MAX: Final = 128

Answer = tuple[int, Dataset | None]


def sub_operations(
    event: evt.Event,
    named: Sequence[Instance],
    index: Index,
    switches: Switches,
    sending: Callable[[], Association],
) -> Iterator[int | Answer]:
    """The number of sub-operations, then each with its image; `sending` is the association that they travel on."""
    lies, held = switches.behaviour.lies, index.instances()
    sent = chosen(lies, named, held)
    yield max(len(named), len(sent))
    for number, instance in enumerate(sent, start=1):
        if not switches.pause(switches.behaviour.image_pause_s) or event.is_cancelled:
            yield _CANCELLED, None
            return
        content = content_of(instance, lies, held)
        for lie in lies & {Lie.CUT_IMAGE, Lie.STALLED_IMAGE}:
            if number == len(sent):
                break_off(sending(), lie, len(content) // 2, switches)
        yield _PENDING, dcmread(BytesIO(content))


def name_originator(association: Association, ae_title: str) -> None:
    """Let C-STORE requests say who asked for the C-MOVE (PS3.7 9.1.1.1.8); pynetdicom names the archive itself."""
    send = association.send_c_store

    def send_for(dataset: Dataset, *, msg_id: int, originator_aet: str, originator_id: int) -> Dataset:
        del originator_aet
        return send(dataset, msg_id=msg_id, originator_aet=ae_title, originator_id=originator_id)

    association.send_c_store = send_for  # type: ignore[method-assign, assignment]  # called with these names alone


def contexts_of(instances: Sequence[Instance]) -> list[PresentationContext]:
    """One context for each SOP class and transfer syntax stored, at most the 128 that an association has."""
    pairs = dict.fromkeys((str(one.attributes.SOPClassUID), one.transfer_syntax_uid) for one in instances)
    return [build_context(sop_class_uid, syntax_uid) for sop_class_uid, syntax_uid in list(pairs)[:_CONTEXTS_MAX]]
