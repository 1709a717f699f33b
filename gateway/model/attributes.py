"""Which attributes a search may match at each level, whatever the protocol, and the dictionary of PS3.6.

The keys of PS3.18 10.6.1 and PS3.4 C.6 are one table, so that QIDO-RS and C-FIND match alike. Everything here is
immutable and made once at import: neither a question nor a row ever waits for pydicom. Knows nothing of protocols.
"""

from __future__ import annotations

from enum import Enum, auto
from types import MappingProxyType

from pydicom.datadict import dictionary_VR, keyword_dict

from gateway.model.imaging import (
    ACCESSION_NUMBER,
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    MODALITY,
    OTHER_PATIENT_IDS,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    SERIES_UID,
    SOP_CLASS_UID,
    SOP_UID,
    STUDY_DATE,
    STUDY_TIME,
    STUDY_UID,
    Level,
)

SPECIFIC_CHARACTER_SET = "00080005"
RETRIEVE_AE_TITLE = "00080054"
INSTANCE_AVAILABILITY = "00080056"
TIMEZONE_OFFSET = "00080201"
RETRIEVE_URL = "00081190"
INSTITUTION_NAME = "00080080"
INSTITUTION_CODE = "00080082"
REFERRING_PHYSICIAN = "00080090"
STUDY_DESCRIPTION = "00081030"
STUDY_ID = "00200010"
SERIES_DESCRIPTION = "0008103E"
SERIES_NUMBER = "00200011"
BODY_PART = "00180015"
INSTANCE_NUMBER = "00200013"
PERFORMED_DATE = "00400244"
PERFORMED_TIME = "00400245"
REQUEST_ATTRIBUTES = "00400275"
SCHEDULED_STEP_ID = "00400009"
REQUESTED_PROCEDURE_ID = "00401001"
ACCESSION_ISSUER = "00080051"
PATIENT_ID_QUALIFIERS = "00100024"
LOCAL_NAMESPACE_ENTITY_ID = "00400031"
UNIVERSAL_ENTITY_ID = "00400032"

LEVEL_UID = MappingProxyType({Level.STUDY: STUDY_UID, Level.SERIES: SERIES_UID, Level.IMAGE: SOP_UID})
"""The unique key of each level."""

_PATIENT_MATCHING = frozenset(
    {
        (PATIENT_NAME,),
        (PATIENT_ID,),
        # Ours besides: the issuers without which numbers of two trusts collide.
        (ISSUER_OF_PATIENT_ID,),
        (PATIENT_BIRTH_DATE,),
        (PATIENT_SEX,),
        (OTHER_PATIENT_IDS, PATIENT_ID),
        (OTHER_PATIENT_IDS, ISSUER_OF_PATIENT_ID),
    }
)
_STUDY_MATCHING = _PATIENT_MATCHING | frozenset(
    {
        # Required, PS3.18 Table 10.6.1-5.
        (STUDY_DATE,),
        (STUDY_TIME,),
        (ACCESSION_NUMBER,),
        (MODALITIES_IN_STUDY,),
        (REFERRING_PHYSICIAN,),
        (STUDY_UID,),
        (STUDY_ID,),
        # Ours besides: what viewers ask (OHIF).
        (STUDY_DESCRIPTION,),
        # And what tells two trusts' accession numbers apart.
        (ACCESSION_ISSUER, LOCAL_NAMESPACE_ENTITY_ID),
        (ACCESSION_ISSUER, UNIVERSAL_ENTITY_ID),
    }
)
_SERIES_MATCHING = frozenset(
    {
        (MODALITY,),
        (SERIES_UID,),
        (SERIES_NUMBER,),
        (PERFORMED_DATE,),
        (PERFORMED_TIME,),
        (REQUEST_ATTRIBUTES, SCHEDULED_STEP_ID),
        (REQUEST_ATTRIBUTES, REQUESTED_PROCEDURE_ID),
        (SERIES_DESCRIPTION,),
        (BODY_PART,),
    }
)
_INSTANCE_MATCHING = frozenset({(SOP_CLASS_UID,), (SOP_UID,), (INSTANCE_NUMBER,)})

MATCHING = MappingProxyType(
    {
        Level.PATIENT: _PATIENT_MATCHING,
        Level.STUDY: _STUDY_MATCHING,
        Level.SERIES: _STUDY_MATCHING | _SERIES_MATCHING,
        Level.IMAGE: _STUDY_MATCHING | _SERIES_MATCHING | _INSTANCE_MATCHING,
    }
)
"""Paths that can be matched at each level; any other key is ignored, and the answer says so (PS3.18 8.3.4: Warning;
PS3.4 C.4.1.1.4: FF01)."""


class Kind(Enum):
    """Shapes that values have in the DICOM JSON model (PS3.18 Table F.2.3-1)."""

    TEXT = auto()
    UID = auto()
    PERSON_NAME = auto()
    NUMBER = auto()
    TAG = auto()
    SEQUENCE = auto()
    BINARY = auto()
    ADDRESS = auto()
    """UR: an address at the source, which never passes the gateway."""


KIND_OF_VR = MappingProxyType(
    dict.fromkeys(("AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UT"), Kind.TEXT)
    | dict.fromkeys(("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"), Kind.NUMBER)
    | dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW", "UN"), Kind.BINARY)
    | {"UI": Kind.UID, "PN": Kind.PERSON_NAME, "AT": Kind.TAG, "SQ": Kind.SEQUENCE, "UR": Kind.ADDRESS}
)
"""Every value representation of PS3.5 6.2, by the shape of its values."""

# One retired attribute of PS3.6 has no keyword; what marks the ends of items and sequences has no values.
_KEYWORDS = tuple(
    (keyword, f"{tag:08X}", dictionary_VR(tag))
    for keyword, tag in keyword_dict.items()
    if keyword and tag >> 16 != 0xFFFE
)

TAG_OF_KEYWORD = MappingProxyType({keyword.lower(): tag for keyword, tag, _ in _KEYWORDS})
"""PS3.6 keywords, in lower case."""

VRS_OF_TAG = MappingProxyType({tag: tuple(vr.split(" or ")) for _, tag, vr in _KEYWORDS})
"""The value representations that PS3.6 allows for each attribute."""

_KEYWORD_OF_TAG = MappingProxyType({tag: keyword for keyword, tag, _ in _KEYWORDS})
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


def tag_of(name: str) -> str | None:
    """The tag that a keyword (in any case) or eight hexadecimal digits name; None: neither, or not in PS3.6."""
    tag = TAG_OF_KEYWORD.get(name.lower())
    if tag is not None:
        return tag
    if len(name) == 8 and _HEXADECIMAL.issuperset(name) and name.upper() in VRS_OF_TAG:
        return name.upper()
    return None


def vr_of(tag: str) -> str:
    """The (first) value representation of an attribute of PS3.6; `UN` for any other."""
    return VRS_OF_TAG.get(tag, ("UN",))[0]


def keyword_of(tag: str) -> str:
    """The keyword of an attribute of PS3.6, or the tag itself."""
    return _KEYWORD_OF_TAG.get(tag, tag)
