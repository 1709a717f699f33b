"""What was examined, in plain words (K15): by the exam's code, else by modality and region.

The hospital's own name, where the feed has one, stands behind the plain one in brackets: "CT scan of the chest" alone
would say less than "CT thorax, abdomen and pelvis with contrast" does. Codes are the short codes of the National
Interim Clinical Imaging Procedures (NICIP); a code that is not here is no guess. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

UNNAMED = "Imaging examination"

_CODES = {
    "XCHES": "X-ray of the chest",
    "XABDO": "X-ray of the abdomen (tummy)",
    "XPELV": "X-ray of the pelvis",
    "XKNEL": "X-ray of the left knee",
    "XKNER": "X-ray of the right knee",
    "XANKL": "X-ray of the left ankle",
    "XANKR": "X-ray of the right ankle",
    "XHANL": "X-ray of the left hand",
    "XHANR": "X-ray of the right hand",
    "XFOOL": "X-ray of the left foot",
    "XFOOR": "X-ray of the right foot",
    "XSHOL": "X-ray of the left shoulder",
    "XSHOR": "X-ray of the right shoulder",
    "CSKUH": "CT scan of the head",
    "CCHES": "CT scan of the chest",
    "CCHAP": "CT scan of the chest, abdomen (tummy) and pelvis",
    "CABDO": "CT scan of the abdomen (tummy)",
    "CABPE": "CT scan of the abdomen (tummy) and pelvis",
    "MSKUH": "MRI scan of the head",
    "UABDO": "Ultrasound scan of the abdomen (tummy)",
    "UPELV": "Ultrasound scan of the pelvis",
}

# PS3.3 C.7.3.1.1.1, as far as a patient would know the machine by a name.
_MODALITIES = {
    "CR": "X-ray",
    "DX": "X-ray",
    "XR": "X-ray",
    "CT": "CT scan",
    "MR": "MRI scan",
    "MRI": "MRI scan",
    "US": "Ultrasound scan",
    "MG": "Breast X-ray (mammogram)",
    "RF": "Moving X-ray (fluoroscopy)",
    "XA": "X-ray of blood vessels (angiogram)",
    "NM": "Nuclear medicine scan",
    "PT": "PET scan",
    "BMD": "Bone density scan",
    "DXA": "Bone density scan",
    "IO": "Dental X-ray",
    "PX": "Dental X-ray",
}

# Those say already what was examined.
_WITHOUT_REGION = frozenset({"MG", "IO", "PX"})

# Body Part Examined, PS3.16 Annex L.
_REGIONS = {
    "HEAD": "head",
    "SKULL": "head",
    "BRAIN": "brain",
    "NECK": "neck",
    "CSPINE": "neck (upper spine)",
    "TSPINE": "upper back (middle spine)",
    "LSPINE": "lower back (lower spine)",
    "SPINE": "spine",
    "CHEST": "chest",
    "HEART": "heart",
    "BREAST": "breast",
    "ABDOMEN": "abdomen (tummy)",
    "ABDOMENPELVIS": "abdomen (tummy) and pelvis",
    "PELVIS": "pelvis",
    "LIVER": "liver",
    "KIDNEY": "kidneys",
    "BLADDER": "bladder",
    "PROSTATE": "prostate",
    "UTERUS": "womb",
    "SHOULDER": "shoulder",
    "ELBOW": "elbow",
    "FOREARM": "forearm",
    "WRIST": "wrist",
    "HAND": "hand",
    "HIP": "hip",
    "KNEE": "knee",
    "ANKLE": "ankle",
    "FOOT": "foot",
}


def plain_name(codes: Sequence[str], modality: str, body_region: str, own_name: str) -> str:
    """The name to show; never empty, never with a line break."""
    own = " ".join(own_name.split())
    plain = next((_CODES[key] for code in codes if (key := code.strip().upper()) in _CODES), "")
    plain = plain or _by_modality(modality.strip().upper(), body_region.strip().upper())
    if not plain:
        return own or UNNAMED
    return f"{plain} ({own})" if own and own.casefold() != plain.casefold() else plain


def _by_modality(modality: str, region: str) -> str:
    name = _MODALITIES.get(modality, "")
    where = "" if modality in _WITHOUT_REGION else _REGIONS.get(region, "")
    return f"{name} of the {where}" if name and where else name
