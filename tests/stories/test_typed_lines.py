"""What `gateway demo` prints to be typed works as it stands."""

import asyncio
import shutil

import pytest

from gateway.cli.demo import lines_to_try
from gateway.demo import cast
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.peer]


async def typed(line: str) -> tuple[int, str]:
    """What a shell makes of it."""
    process = await asyncio.create_subprocess_shell(
        line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode("latin-1")


async def test_echoscu_and_findscu_work_as_printed(region: Region) -> None:
    if shutil.which("findscu", path="/usr/bin") is None:
        pytest.skip("DCMTK is not installed")
    lines = [line for line in lines_to_try(region) if "scu " in line and not line.strip().startswith("#")]
    (echo, _), (found, annes), (refused, claras), (alone, eastvales) = [await typed(line) for line in lines]
    assert (echo, found, refused, alone) == (0, 0, 0, 0)
    for plan in (cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT, cast.ANNE_HEART_US):
        assert study_instance_uid(plan) in annes
    assert "0x124" in claras
    assert study_instance_uid(cast.CLARA_BRAIN_MR) not in claras
    assert study_instance_uid(cast.ANNE_BODY_CT) in eastvales
    assert study_instance_uid(cast.ANNE_HEART_US) not in eastvales
