"""The pool: what a hostile image does to the process that decodes it, it does to nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.instances.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    RLE,
)
from gateway.model.errors import GatewayError, InvalidRequest, NotAcceptable, OverCapacity
from gateway.pixels.pictures import picture
from gateway.pixels.pool import PixelLimits, Pool
from gateway.pixels.source import pixel_source
from gateway.pixels.wishes import Media, PictureWish
from tests.instances.real import Real, real_file, real_files
from tests.pixels.hostile import element, fragments, header, reading

PNG = PictureWish(media=Media.PNG)


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with Pool(PixelLimits(workers_max=1)) as found:
        yield found


async def shown(pool: Pool, body: bytes, transfer_syntax: str) -> bytes:
    """The first frame of an instance as a picture."""
    return await picture(pool, await pixel_source(transfer_syntax, len(body), reading(body)), 1, PNG)


async def is_well(pool: Pool) -> bool:
    """Whether the pool decodes an ordinary image."""
    real = real_file("CT_small.dcm")
    return (await shown(pool, real.body, real.transfer_syntax)).startswith(b"\x89PNG")


def of_process(pid: int, name: str) -> bytes:
    """What the kernel says of a process."""
    return Path(f"/proc/{pid}/{name}").read_bytes()


def children() -> set[int]:
    """The workers that this process has started; other tests' servers may run beside them."""
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    pids = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
    return {pid for pid in pids if b"gateway.pixels.worker" in of_process(pid, "cmdline")}


def jpeg(marker: bytes, rows: int, columns: int, samples: int = 1) -> bytes:
    """The beginning of a JPEG image of this kind and size."""
    return b"\xff\xd8\xff" + marker + b"\x00\x0b\x08" + struct.pack(">HHB", rows, columns, samples) + b"\x01\x11\x00"


SIZ = b"\xff\x4f\xff\x51"
LYING: dict[str, tuple[str, bytes]] = {
    "jpeg of another size": (JPEG_BASELINE, jpeg(b"\xc0", 8, 9)),
    "jpeg of other samples": (JPEG_BASELINE, jpeg(b"\xc0", 8, 8, 3)),
    "jpeg that ends in its header": (JPEG_BASELINE, b"\xff\xd8\xff\xc0"),
    "jpeg whose marker has no end": (JPEG_BASELINE, b"\xff\xd8\xff\xe0\xff\xff"),
    "no jpeg at all": (JPEG_BASELINE, b"MZ" + bytes(200)),
    "jpeg 2000 of a huge size": (
        JPEG_2000_LOSSLESS,
        SIZ + struct.pack(">HHIIIIIIIIH", 41, 0, *[2**31] * 8, 1),
    ),
    "jpeg 2000 that ends": (JPEG_2000_LOSSLESS, SIZ + b"\0"),
    "jpeg-ls of another size": (
        JPEG_LS_LOSSLESS,
        jpeg(b"\xf7", 60_000, 60_000),
    ),
    "lossless jpeg of another size": (
        JPEG_LOSSLESS_SV1,
        jpeg(b"\xc3", 9, 9),
    ),
    "run lengths of too many segments": (RLE, struct.pack("<16I", 16, *[64] * 15) + bytes(64)),
    "run lengths behind the end": (RLE, struct.pack("<16I", 1, 64, *[0] * 14)[:20]),
    "run lengths out of order": (RLE, struct.pack("<16I", 2, 64, 10, *[0] * 13) + bytes(64)),
    "run lengths that end early": (RLE, struct.pack("<16I", 1, 64, *[0] * 14) + b"\x7f"),
}


@pytest.mark.parametrize("name", LYING)
async def test_a_lying_code_stream_is_refused_and_the_next_image_is_shown(pool: Pool, name: str) -> None:
    transfer_syntax, frame = LYING[name]
    with pytest.raises(NotAcceptable):
        await shown(pool, header(rows=8, columns=8) + fragments(frame), transfer_syntax)
    assert await is_well(pool)


async def test_a_frame_beyond_the_limit_is_refused_before_any_process_sees_it() -> None:
    async with Pool(PixelLimits(frame_bytes_max=10_000)) as pool:
        body = header(rows=101, columns=100) + element(0x7FE00010, b"OB", bytes(10_100))
        with pytest.raises(NotAcceptable, match="larger than is decoded"):
            await shown(pool, body, EXPLICIT_VR_LITTLE_ENDIAN)
        assert not children()


async def test_a_bomb_meets_the_limit_of_memory_and_takes_nobody_along() -> None:
    limits = PixelLimits(workers_max=1, memory_bytes_max=700 * 1024 * 1024, frame_bytes_max=2**31)
    async with Pool(limits) as pool:
        # A few bytes of runs that say 30,000 times 30,000 pixels, and mean it.
        run = b"\x81\0" * 4_000
        body = header(rows=30_000, columns=30_000, bits=16) + fragments(
            struct.pack("<16I", 2, 64, 64 + len(run), *[0] * 13) + run * 2
        )
        with pytest.raises(NotAcceptable):
            await shown(pool, body, RLE)
        assert await is_well(pool)


async def test_a_process_that_takes_too_long_is_killed() -> None:
    async with Pool(PixelLimits(workers_max=1, wall_s_max=0.0)) as pool:
        with pytest.raises(NotAcceptable, match="within limits"):
            await is_well(pool)
        assert not children()


async def test_a_process_that_was_killed_is_replaced(pool: Pool) -> None:
    assert await is_well(pool)
    (pid,) = children()
    os.kill(pid, signal.SIGKILL)
    for _ in range(2):
        try:
            assert await is_well(pool)
        except NotAcceptable:
            continue
    assert await is_well(pool)
    assert children() and children() != {pid}


async def test_a_caller_that_goes_away_leaves_no_half_answer_behind(pool: Pool) -> None:
    assert await is_well(pool)
    before = children()
    task = asyncio.create_task(is_well(pool))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await is_well(pool)
    assert len(children()) == len(before)


async def test_more_than_may_wait_are_refused() -> None:
    async with Pool(PixelLimits(workers_max=1, waiting_max=1)) as pool:
        results = await asyncio.gather(*(is_well(pool) for _ in range(4)), return_exceptions=True)
        assert results.count(True) >= 1
        assert any(isinstance(result, OverCapacity) for result in results)
        assert await is_well(pool)


async def test_nothing_runs_any_more_once_the_pool_is_left() -> None:
    async with Pool(PixelLimits()) as pool:
        assert await is_well(pool)
    assert not children()


async def test_a_worker_knows_no_secret_and_can_open_nothing(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_CANARY", "secret")
    assert await is_well(pool)
    (pid,) = children()
    assert b"secret" not in of_process(pid, "environ")
    lines = of_process(pid, "limits").decode().splitlines()
    limits = {line[:25].strip(): line[26:46].strip() for line in lines}
    assert (limits["Max open files"], limits["Max core file size"], limits["Max file size"]) == ("0", "0", "0")
    assert limits["Max address space"] == str(pool.limits.memory_bytes_max)
    assert int(limits["Max cpu time"]) < 60


@pytest.mark.parametrize("attempt", ["open('/etc/hostname')", "socket.socket()", "os.pipe()"])
def test_what_is_confined_opens_no_file_and_no_socket(attempt: str) -> None:
    script = f"import os, socket; from gateway.pixels.worker import confine; confine(2**31); {attempt}"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert ended.returncode == 1
    assert b"Too many open files" in ended.stderr


def _compressed() -> list[Real]:
    wanted = {JPEG_BASELINE, JPEG_LOSSLESS_SV1, JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS, RLE}
    found: dict[str, Real] = {}
    for real in real_files():
        if real.transfer_syntax in wanted and len(real.body) < 300_000 and "PixelData" in real.read:
            found.setdefault(real.transfer_syntax, real)
    assert set(found) == wanted
    return list(found.values())


@pytest.mark.parametrize("real", _compressed(), ids=lambda real: str(real.name))
async def test_damaged_images_are_shown_or_refused_and_never_hang(pool: Pool, real: Real) -> None:
    source = await pixel_source(real.transfer_syntax, len(real.body), reading(real.body))
    (frame,) = await source.frames((1,))
    first = frame.pieces[0].first
    for step in range(25):
        body = bytearray(real.body)
        at = first + (step * 7_919) % min(frame.pieces[0].data_bytes, 600)
        body[at] ^= 1 << step % 8
        try:
            await shown(pool, bytes(body), real.transfer_syntax)
        except GatewayError as error:
            assert isinstance(error, NotAcceptable | InvalidRequest)
    cut = header(rows=source.layout.rows, columns=source.layout.columns) + fragments(real.body[first : first + 100])
    with pytest.raises((NotAcceptable, InvalidRequest)):
        await shown(pool, cut, real.transfer_syntax)
    assert await is_well(pool)
