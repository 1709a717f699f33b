"""WADO-RS and STOW-RS of the simulated PACS (PS3.18 10.4, 10.5): whole instances, metadata, frames, and storing.

Objects go out as they are stored, in their own transfer syntax: the simulator decodes no pixels. A client that insists
on another syntax gets 406.
"""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from aiohttp import BodyPartReader, MultipartReader, web
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import UID

from gateway.demo.pacs.behaviour import Lie
from gateway.demo.pacs.images.spoiling import chosen, content_of
from gateway.demo.pacs.index import Instance, Level, NotAnInstance, read_instance
from gateway.demo.pacs.qido import JSON_TYPE
from gateway.demo.pacs.web import BrokenOff, WebDoor

INSTANCE_BYTES_MAX: Final = 512 * 1024 * 1024
INSTANCES_STORED_MAX: Final = 1000
_CHUNK_BYTES: Final = 256 * 1024
_CANNOT_UNDERSTAND: Final = 0xC000
_NOT_OF_THIS_STUDY: Final = 0xA900
_FRAME_TYPES: Final[Mapping[str, str]] = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}


@dataclass(frozen=True, slots=True)
class _Part:
    content_type: str
    content: bytes


def routes(door: WebDoor) -> list[web.RouteDef]:
    """Retrieval at each level, metadata, frames, bulk data, and storing."""

    async def retrieve(request: web.Request) -> web.StreamResponse:
        instances = _found(door, request)
        accepted = _transfer_syntaxes_accepted(request, "application/dicom")
        if not all(accepted is None or instance.transfer_syntax_uid in accepted for instance in instances):
            raise web.HTTPNotAcceptable(text="this archive sends objects as they are stored")
        return await _send_parts(door, request, "application/dicom", _instance_parts(door, instances))

    async def metadata(request: web.Request) -> web.StreamResponse:
        body = json.dumps([_metadata(instance, door.base_url) for instance in _found(door, request)]).encode()
        return await door.send(request, JSON_TYPE, [body])

    async def frames(request: web.Request) -> web.StreamResponse:
        (instance,) = _found(door, request)
        frame_type = _FRAME_TYPES.get(instance.transfer_syntax_uid, "application/octet-stream")
        accepted = _transfer_syntaxes_accepted(request, frame_type, "application/octet-stream")
        if accepted is not None and instance.transfer_syntax_uid not in accepted:
            raise web.HTTPNotAcceptable(text="this archive sends frames as they are stored")
        parts = _frame_parts(instance, frame_type, request.match_info.get("frames"))
        return await _send_parts(door, request, frame_type, _at_once(parts))

    async def store(request: web.Request) -> web.StreamResponse:
        return await _store(door, request)

    study, series = "/studies/{study}", "/studies/{study}/series/{series}"
    instance = f"{series}/instances/{{instance}}"
    return [
        *(web.get(path, retrieve, allow_head=False) for path in (study, series, instance)),
        *(web.get(f"{path}/metadata", metadata, allow_head=False) for path in (study, series, instance)),
        web.get(f"{instance}/frames/{{frames}}", frames, allow_head=False),
        web.get(f"{instance}/bulkdata/7FE00010", frames, allow_head=False),
        web.post("/studies", store),
        web.post(study, store),
    ]


def _found(door: WebDoor, request: web.Request) -> list[Instance]:
    """The instances that the path names; raises 404 if there is none."""
    wanted = [
        (level, request.match_info[name])
        for level, name in ((Level.STUDY, "study"), (Level.SERIES, "series"), (Level.IMAGE, "instance"))
        if name in request.match_info
    ]
    found = [one for one in door.index.instances() if all(one.uid(level) == uid for level, uid in wanted)]
    if not found:
        raise web.HTTPNotFound(text="no such study, series or instance")
    return found


def _transfer_syntaxes_accepted(request: web.Request, *types: str) -> set[str] | None:
    """The transfer syntaxes that the Accept header allows for a type, None if any; raises 406 if it wants another type.

    Lenient as archives are: unquoted types, any order of parameters, no header at all.
    """
    accept = ", ".join(request.headers.getall("Accept", ["*/*"])) or "*/*"
    accepted: set[str] = set()
    for media_range in re.findall(r'(?:[^,"]|"[^"]*")+', accept):
        main, *parameters = (part.strip() for part in media_range.split(";"))
        given = {
            name.strip().lower(): value.strip(' "') for name, _, value in (part.partition("=") for part in parameters)
        }
        wanted_type = given.get("type", "*/*") if main.lower() in ("multipart/related", "multipart/*") else main.lower()
        if wanted_type in ("*/*", *types):
            if given.get("transfer-syntax", "*") == "*":
                return None
            accepted.add(given["transfer-syntax"])
    if not accepted:
        raise web.HTTPNotAcceptable(text="not a media type of this resource")
    return accepted


async def _send_parts(
    door: WebDoor, request: web.Request, part_type: str, parts: AsyncIterator[_Part]
) -> web.StreamResponse:
    boundary = uuid.uuid4().hex

    async def pieces() -> AsyncIterator[bytes]:
        async for part in parts:
            yield f"--{boundary}\r\nContent-Type: {part.content_type}\r\n\r\n".encode()
            for begins in range(0, len(part.content), _CHUNK_BYTES):
                yield part.content[begins : begins + _CHUNK_BYTES]
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return await door.send(request, f'multipart/related; type="{part_type}"; boundary={boundary}', pieces())


async def _instance_parts(door: WebDoor, named: Sequence[Instance]) -> AsyncIterator[_Part]:
    """Each instance as it is sent. The last one may be half, and then nothing, or a wait for whoever gives up."""
    behaviour, held = door.switches.behaviour, door.index.instances()
    sent = chosen(behaviour.lies, named, held)
    is_endless = behaviour.body_lie in (Lie.ENDLESS, Lie.HUGE)
    for number, instance in enumerate(cycle(sent) if is_endless else sent, start=1):
        await asyncio.sleep(behaviour.image_pause_s)
        content_type = f"application/dicom; transfer-syntax={instance.transfer_syntax_uid}"
        content = await asyncio.to_thread(content_of, instance, behaviour.lies, held)
        breaks_off = number == len(sent) and behaviour.lies & {Lie.CUT_IMAGE, Lie.STALLED_IMAGE}
        yield _Part(content_type, content[: len(content) // 2] if breaks_off else content)
        if breaks_off and Lie.STALLED_IMAGE in behaviour.lies:
            await asyncio.Event().wait()
        if breaks_off:
            raise BrokenOff


async def _at_once(parts: Sequence[_Part]) -> AsyncIterator[_Part]:
    for part in parts:
        yield part


def _metadata(instance: Instance, base_url: str) -> Mapping[str, object]:
    """All attributes but the pixels, which are pointed to."""
    dataset = dcmread(instance.file, stop_before_pixels=True)
    encoded = dataset.to_json_dict()
    path = f"{base_url}/studies/{instance.uid(Level.STUDY)}/series/{instance.uid(Level.SERIES)}"
    path += f"/instances/{instance.uid(Level.IMAGE)}"
    encoded["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    encoded["00081190"] = {"vr": "UR", "Value": [path]}
    encoded["00083002"] = {"vr": "UI", "Value": [instance.transfer_syntax_uid]}
    if "Rows" in dataset:
        encoded["7FE00010"] = {"vr": "OW", "BulkDataURI": f"{path}/bulkdata/7FE00010"}
    return dict(sorted(encoded.items()))


def _frame_parts(instance: Instance, frame_type: str, wanted: str | None) -> list[_Part]:
    """The frames asked for in their order, all if None; raises 400 for a bad list and 404 for a frame not there."""
    dataset = dcmread(instance.file)
    if "PixelData" not in dataset:
        raise web.HTTPNotFound(text="an object without frames")
    frames_count = int(dataset.get("NumberOfFrames") or 1)
    if wanted is None:
        numbers = list(range(1, frames_count + 1))
    elif re.fullmatch(r"[0-9]{1,6}(,[0-9]{1,6})*", wanted):
        numbers = [int(number) for number in wanted.split(",")]
    else:
        raise web.HTTPBadRequest(text="frames are whole numbers separated by commas")
    if not all(1 <= number <= frames_count for number in numbers):
        raise web.HTTPNotFound(text="no such frame")
    content_type = f"{frame_type}; transfer-syntax={instance.transfer_syntax_uid}"
    return [_Part(content_type, _frame(dataset, number, frames_count)) for number in numbers]


def _frame(dataset: Dataset, number: int, frames_count: int) -> bytes:
    pixels: bytes = dataset.PixelData
    if UID(dataset.file_meta.TransferSyntaxUID).is_encapsulated:
        return get_frame(pixels, number - 1, number_of_frames=frames_count)
    frame_bytes = dataset.Rows * dataset.Columns * dataset.get("SamplesPerPixel", 1) * dataset.BitsAllocated // 8
    return pixels[(number - 1) * frame_bytes : number * frame_bytes]


async def _store(door: WebDoor, request: web.Request) -> web.StreamResponse:
    """Keep each part; the answer names what was kept and what was not (PS3.18 10.5.3)."""
    if not request.content_type.startswith("multipart/"):
        raise web.HTTPUnsupportedMediaType(text="multipart/related is needed")
    study = request.match_info.get("study")
    kept: list[Instance] = []
    failures: list[int] = []
    async for content in _parts_of(await request.multipart()):
        try:
            instance = read_instance(content)
        except NotAnInstance:
            failures.append(_CANNOT_UNDERSTAND)
            continue
        if study is not None and instance.uid(Level.STUDY) != study:
            failures.append(_NOT_OF_THIS_STUDY)
        else:
            kept.append(door.index.add(instance, content))
    status = 409 if not kept else 202 if failures else 200
    body = json.dumps(_outcome(door.base_url, kept, failures)).encode()
    return web.Response(body=body, status=status, content_type=JSON_TYPE)


async def _parts_of(reader: MultipartReader) -> AsyncIterator[bytes]:
    """Each part's bytes, whole; raises 413 for a part or a number of parts above the limits."""
    count = 0
    while (part := await reader.next()) is not None:
        count += 1
        content = bytearray()
        while isinstance(part, BodyPartReader) and (chunk := await part.read_chunk(_CHUNK_BYTES)):
            content += chunk
            if len(content) > INSTANCE_BYTES_MAX or count > INSTANCES_STORED_MAX:
                raise web.HTTPRequestEntityTooLarge(INSTANCE_BYTES_MAX, len(content))
        yield bytes(content)


def _outcome(base_url: str, kept: Sequence[Instance], failures: Sequence[int]) -> Mapping[str, object]:
    """The Store Instances Response: Referenced SOP Sequence and Other Failures Sequence (PS3.18 I.2)."""
    outcome: dict[str, object] = {}
    if kept:
        items = []
        for instance in kept:
            path = f"{base_url}/studies/{instance.uid(Level.STUDY)}/series/{instance.uid(Level.SERIES)}"
            items.append(
                {
                    "00081150": {"vr": "UI", "Value": [str(instance.attributes.SOPClassUID)]},
                    "00081155": {"vr": "UI", "Value": [instance.uid(Level.IMAGE)]},
                    "00081190": {"vr": "UR", "Value": [f"{path}/instances/{instance.uid(Level.IMAGE)}"]},
                }
            )
        outcome["00081199"] = {"vr": "SQ", "Value": items}
    if failures:
        reasons = [{"00081197": {"vr": "US", "Value": [reason]}} for reason in failures]
        outcome["0008119A"] = {"vr": "SQ", "Value": reasons}
    return outcome
