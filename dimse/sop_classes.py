"""The UIDs that the DIMSE edge speaks: services, storage classes, transfer syntaxes, and their names for logs.

Which class exists is pynetdicom's and pydicom's knowledge, read once when this is imported; which of them are offered
to whom is the server's and the connectors'. PS3.4 B.5 and C.6, PS3.5 10 and A, PS3.6 A.
"""

from pydicom._uid_dict import UID_dictionary
from pynetdicom import sop_class
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES

from gateway.instances.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN as DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)
from gateway.instances.transfer_syntaxes import EXPLICIT_VR_BIG_ENDIAN as EXPLICIT_VR_BIG_ENDIAN
from gateway.instances.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT_VR_LITTLE_ENDIAN
from gateway.instances.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT_VR_LITTLE_ENDIAN

VERIFICATION = "1.2.840.10008.1.1"

PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
INSTANCE_AVAILABILITY_NOTIFICATION = "1.2.840.10008.5.1.4.33"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The one instance of the Push Model that everybody knows (PS3.4 J.3.5)."""
# Retired, and still the first that some viewers ask.
PATIENT_STUDY_ONLY_FIND = "1.2.840.10008.5.1.4.1.2.3.1"
PATIENT_STUDY_ONLY_MOVE = "1.2.840.10008.5.1.4.1.2.3.2"
PATIENT_STUDY_ONLY_GET = "1.2.840.10008.5.1.4.1.2.3.3"

_CURRENT_STORAGE = frozenset(sop_class._STORAGE_CLASSES.values())
# Archives hold what modalities wrote twenty years ago: ultrasound and nuclear medicine of before 1999 are priors too.
_RETIRED_STORAGE = frozenset(
    uid
    for uid, (name, kind, _, retired, _) in UID_dictionary.items()
    if kind == "SOP Class" and retired and "Storage" in name and uid.startswith("1.2.840.10008.5.1.4.1.1.")
)
STORAGE = _CURRENT_STORAGE | _RETIRED_STORAGE
"""Every class of a patient's images and documents. Templates, palettes and protocols are of no patient."""

# Nothing could be passed on: pixels behind an address that only their own hospital can reach (JPIP), or a live stream
# that is no stored object (SMPTE ST 2110).
_PIXELS_ELSEWHERE = frozenset(
    {
        "1.2.840.10008.1.2.4.94",
        "1.2.840.10008.1.2.4.95",
        "1.2.840.10008.1.2.4.204",
        "1.2.840.10008.1.2.4.205",
        "1.2.840.10008.1.2.7.1",
        "1.2.840.10008.1.2.7.2",
        "1.2.840.10008.1.2.7.3",
    }
)

TRANSFER_SYNTAXES: tuple[str, ...] = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    *(
        str(uid)
        for uid in ALL_TRANSFER_SYNTAXES
        if uid not in {EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, *_PIXELS_ELSEWHERE}
    ),
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
"""For stored objects, the preferred one first."""

QUERY_TRANSFER_SYNTAXES: tuple[str, ...] = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
"""For what has no pixels: identifiers, the preferred one first."""

_KEYWORDS = {uid: keyword for keyword, uid in sop_class._STORAGE_CLASSES.items()}


def name_of(uid: str) -> str:
    """Name a SOP class or transfer syntax for a log or an error; the UID itself if nobody registered it."""
    known = UID_dictionary.get(uid)
    return known[0] if known else _KEYWORDS.get(uid, uid)
