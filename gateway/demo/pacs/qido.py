"""QIDO-RS of the simulated PACS (PS3.18 10.6): every resource, match keys, includefield, paging.

Each row has all attributes of Tables 10.6.3-3 to -5 for its level, the patient's identifiers with their issuers, and
the UIDs of the levels above. Unknown keys are ignored with a Warning, as the standard asks.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword

from gateway.demo.pacs.behaviour import Charset, Lie
from gateway.demo.pacs.index import SUPPORTED, Level, Row
from gateway.demo.pacs.lies import HUGE_BYTES, deep_nesting, falsify, many_pieces, wrong_types
from gateway.demo.pacs.matching import Key, matches
from gateway.demo.pacs.web import WebDoor

JSON_TYPE: Final = "application/dicom+json"

_IDENTITY: Final = (
    "PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientIDsSequence", "PatientBirthDate", "PatientSex",
    "StudyInstanceUID",
)  # fmt: skip
_STUDY: Final = (
    *_IDENTITY, "StudyDate", "StudyTime", "AccessionNumber", "IssuerOfAccessionNumberSequence", "InstanceAvailability",
    "ModalitiesInStudy", "ReferringPhysicianName", "TimezoneOffsetFromUTC", "StudyID", "StudyDescription",
    "InstitutionName", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
)  # fmt: skip
_SERIES: Final = (
    *_IDENTITY, "SeriesInstanceUID", "Modality", "TimezoneOffsetFromUTC", "SeriesDescription", "SeriesNumber",
    "NumberOfSeriesRelatedInstances", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
    "RequestAttributesSequence", "InstitutionName",
)  # fmt: skip
_INSTANCE: Final = (
    *_IDENTITY, "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "InstanceAvailability", "TimezoneOffsetFromUTC",
    "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames", "InstitutionName",
)  # fmt: skip
_DEFAULT: Final[Mapping[Level, tuple[str, ...]]] = {
    Level.STUDY: _STUDY,
    # Where the path names no study, a row brings its study's attributes along (PS3.18 10.6.3.3).
    Level.SERIES: (*_SERIES, *_STUDY),
    Level.IMAGE: (*_INSTANCE, *_SERIES, *_STUDY),
}
_DEFAULT_WITHIN: Final[Mapping[Level, tuple[str, ...]]] = {
    Level.STUDY: _STUDY,
    Level.SERIES: _SERIES,
    Level.IMAGE: _INSTANCE,
}
_LEVELS: Final = {"studies": Level.STUDY, "series": Level.SERIES, "instances": Level.IMAGE}


@dataclass(slots=True)
class _Search:
    """One search as asked."""

    level: Level
    keys: list[Key]
    include: set[int]
    limit: int | None = None
    offset: int = 0
    warnings: list[str] = field(default_factory=list)


def routes(door: WebDoor) -> list[web.RouteDef]:
    """The six search resources."""

    async def search(request: web.Request) -> web.StreamResponse:
        return await _answer(door, request, _parse(request))

    paths = ("/studies", "/series", "/instances", "/studies/{study}/series", "/studies/{study}/instances",
             "/studies/{study}/series/{series}/instances")  # fmt: skip
    return [web.get(path, search, allow_head=False) for path in paths]


def _parse(request: web.Request) -> _Search:
    level = _LEVELS[request.path.rsplit("/", 1)[-1]]
    search = _Search(level, [], set())
    for name, tag in (("study", "StudyInstanceUID"), ("series", "SeriesInstanceUID")):
        if name in request.match_info:
            search.keys.append(_key([tag], request.match_info[name]))
    within = "study" in request.match_info
    search.include = {_tag(keyword) or 0 for keyword in (_DEFAULT_WITHIN if within else _DEFAULT)[level]}
    for name, value in request.query.items():
        match name:
            case "limit":
                search.limit = _whole_number(name, value)
            case "offset":
                search.offset = _whole_number(name, value)
            case "includefield":
                _include(search, value)
            case "fuzzymatching":
                if value == "true":
                    search.warnings.append(
                        "The fuzzymatching parameter is not supported. Only literal matching has been performed."
                    )
            case _:
                path = name.split(".")
                tags = [_tag(part) for part in path]
                if tags[0] in SUPPORTED[level] and None not in tags:
                    search.keys.append(_key(path, value))
                else:
                    search.warnings.append(f"The parameter {re.sub(r'[^A-Za-z0-9.]', '', name)} is not supported.")
    return search


def _tag(text: str) -> int | None:
    """The tag of a keyword or of eight hexadecimal digits, if the standard knows it."""
    if not re.fullmatch(r"[0-9A-Fa-f]{8}", text):
        return tag_for_keyword(text)
    tag = int(text, 16)
    return tag if dictionary_has_tag(tag) else None


def _key(path: list[str], value: str) -> Key:
    tag = _tag(path[0])
    if tag is None:
        raise web.HTTPBadRequest(text="no such attribute")
    if len(path) > 1:
        return Key(tag, "SQ", (), (_key(path[1:], value),))
    vr = dictionary_VR(tag)
    separators = r"[,\\]+" if vr in ("UI", "CS") else r"\\"
    return Key(tag, vr, tuple(re.split(separators, value)))


def _whole_number(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise web.HTTPBadRequest(text=f"{name} must be a whole number")
    return int(value)


def _include(search: _Search, value: str) -> None:
    if value == "all":
        search.include |= SUPPORTED[search.level]
    for name in value.split(","):
        search.include.add(_tag(name) or 0)


async def _answer(door: WebDoor, request: web.Request, search: _Search) -> web.StreamResponse:
    behaviour = door.switches.behaviour
    held = door.index.rows(search.level)
    rows = falsify(behaviour.lies, search.level, [row for row in held if matches(row.attributes, search.keys)], held)
    if Lie.IGNORES_PAGING not in behaviour.lies:
        limit = min(behaviour.rows_max, behaviour.rows_max if search.limit is None else search.limit)
        remaining = len(rows) - search.offset - limit
        rows = rows[search.offset : search.offset + limit]
        if remaining > 0:
            search.warnings.append(f"There are {remaining} additional results that can be requested")
    headers = (
        {"Warning": ", ".join(f'299 {door.base_url}: "{text}"' for text in search.warnings)} if search.warnings else {}
    )
    wanted = frozenset(f"{tag:08X}" for tag in search.include)
    encoded = [_encode(row, wanted, door, behaviour.lies) for row in rows]
    match behaviour.body_lie:
        case Lie.HUGE:
            return await door.send(request, JSON_TYPE, many_pieces(encoded, HUGE_BYTES), headers)
        case Lie.ENDLESS:
            return await door.send(request, JSON_TYPE, many_pieces(encoded, None), headers)
        case Lie.WRONG_TYPES:
            return web.Response(body=json.dumps(wrong_types(encoded)).encode(), content_type=JSON_TYPE)
        case Lie.NOT_A_LIST:
            return web.Response(body=json.dumps({"rows": encoded}).encode(), content_type=JSON_TYPE)
        case Lie.DEEP_NESTING:
            return web.Response(body=deep_nesting(json.dumps(encoded).encode()), content_type=JSON_TYPE)
        case None if not encoded and behaviour.empty_status == 204:
            return web.Response(status=204, headers=headers)
        case None:
            return web.Response(body=_text(encoded, behaviour.charset), content_type=JSON_TYPE, headers=headers)
        case _:
            return await door.send(request, JSON_TYPE, [_text(encoded, behaviour.charset)], headers)


def _encode(row: Row, wanted: frozenset[str], door: WebDoor, lies: frozenset[Lie]) -> dict[str, object]:
    encoded: dict[str, object] = {"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}}
    encoded |= {tag: element for tag, element in row.json.items() if tag in wanted}
    base_url = "https://images.elsewhere.invalid/dicom-web" if Lie.FOREIGN_RETRIEVE_URL in lies else door.base_url
    path = [base_url]
    for level, keyword in ((1, "StudyInstanceUID"), (2, "SeriesInstanceUID"), (3, "SOPInstanceUID")):
        if level <= row.level:
            path += [("studies", "series", "instances")[level - 1], str(row.attributes.get(keyword, ""))]
    encoded["00081190"] = {"vr": "UR", "Value": ["/".join(path)]}
    return dict(sorted(encoded.items()))


def _text(encoded: object, charset: Charset) -> bytes:
    text = json.dumps(encoded, ensure_ascii=False)
    return text.encode("latin-1", "replace") if charset is Charset.LATIN_1_UNDECLARED else text.encode()
