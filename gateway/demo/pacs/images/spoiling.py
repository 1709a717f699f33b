"""What a faulty PACS makes of the images that it sends: too few, too many, another's, altered, cut, or stopped midway.

The same at both doors, and the same each time. What breaks off is always the last image, so that something has come.
"""

import socket
import threading
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Final

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pynetdicom.association import Association

from gateway.demo.pacs.behaviour import Lie, Switches
from gateway.demo.pacs.index import Instance, Level

_IDENTITY: Final = (
    "PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientIDsSequence", "PatientBirthDate", "PatientSex",
)  # fmt: skip
_SPOILS_CONTENT: Final = frozenset((Lie.WRONG_PATIENT_INSIDE, Lie.WRONG_UIDS_INSIDE, Lie.DAMAGED_IMAGES))


def chosen(lies: frozenset[Lie], named: Sequence[Instance], held: Sequence[Instance]) -> list[Instance]:
    """The instances to send, where `named` are those that were asked for and `held` all there are."""
    sent = list(named)
    if Lie.FEWER_IMAGES in lies:
        sent = sent[:-1]
    if Lie.EXTRA_IMAGE in lies and named:
        studies = {one.uid(Level.STUDY) for one in named}
        sent += [one for one in held if one.uid(Level.STUDY) not in studies][:1]
    return sent


def content_of(instance: Instance, lies: frozenset[Lie], held: Sequence[Instance]) -> bytes:
    """The whole file of an instance, as it is sent; its file meta information always tells the truth."""
    content = instance.file.read_bytes()
    if not lies & _SPOILS_CONTENT:
        return content
    dataset = dcmread(BytesIO(content))
    dataset.decode()
    if Lie.WRONG_PATIENT_INSIDE in lies:
        _identify_as_another(dataset, held)
    if Lie.WRONG_UIDS_INSIDE in lies:
        dataset.StudyInstanceUID, dataset.SOPInstanceUID = "2.25.1", f"{dataset.SOPInstanceUID[:60]}.1"
    if Lie.DAMAGED_IMAGES in lies and "PixelData" in dataset:
        # Behind whatever structure the pixels have, and before what may close it.
        pixels = bytearray(dataset.PixelData)
        pixels[-16] ^= 0xFF
        dataset.PixelData = bytes(pixels)
    written = BytesIO()
    dcmwrite(written, dataset, enforce_file_format=False)
    return written.getvalue()


def break_off(association: Association, lie: Lie, after_bytes: int, switches: Switches) -> None:
    """Let an association carry so many more bytes, and then be cut, or carry none until the lie ends."""
    transport = association.dul.socket
    assert transport is not None
    opened: socket.socket | None = transport.socket
    assert opened is not None
    left = [after_bytes]
    send: Callable[[bytes], None] = transport.send
    lock = threading.Lock()

    def send_some(content: bytes) -> None:
        with lock:
            passing, left[0] = content[: left[0]], max(0, left[0] - len(content))
        if len(passing) == len(content):
            send(content)
            return
        send(passing)
        if lie is Lie.CUT_IMAGE:
            opened.shutdown(socket.SHUT_RDWR)
        elif switches.wait_while(lie):
            send(content[len(passing) :])

    transport.send = send_some  # type: ignore[method-assign, assignment]  # what is sent passes through here alone


def _identify_as_another(dataset: Dataset, held: Sequence[Instance]) -> None:
    others = (one.attributes for one in held if one.attributes.get("PatientID") != dataset.get("PatientID"))
    other = next(others, Dataset())
    for keyword in _IDENTITY:
        if keyword in other:
            dataset[keyword] = other[keyword]
    if not other:
        dataset.PatientID, dataset.PatientName = "0", "SOMEBODY^Else"
