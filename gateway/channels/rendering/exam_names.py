"""What was examined, in plain words (K15): by modality and region, as DICOM has them.

The hospital's own name, where the feed has one, stands behind the plain one in brackets: "CT scan of the chest" alone
would say less than "CT thorax, abdomen and pelvis with contrast" does, and alone where neither modality nor region is
one that patients know by a name. Exam codes are not read: they are each hospital's own, national lists are not
published for everybody to check against, and one that is misread would name the wrong knee. Pure.
"""

from __future__ import annotations

UNNAMED = "Imaging examination"

# PS3.3 C.7.3.1.1.1, as far as a patient would know the machine by a name; and what else feeds write for some of them.
MODALITIES = {
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
REGIONS = {
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


def plain_name(modality: str, body_region: str, own_name: str) -> str:
    """The name to show, `UNNAMED` where nothing is known; never empty, never with a line break."""
    own = " ".join(own_name.split())
    plain = _by_modality(modality.strip().upper(), body_region.strip().upper())
    if not plain:
        return own or UNNAMED
    return f"{plain} ({own})" if own and own.casefold() != plain.casefold() else plain


def _by_modality(modality: str, region: str) -> str:
    name = MODALITIES.get(modality, "")
    where = "" if modality in _WITHOUT_REGION else REGIONS.get(region, "")
    return f"{name} of the {where}" if name and where else name
