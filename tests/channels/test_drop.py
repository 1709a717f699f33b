"""A folder of sealed files: whole, for the recipient alone, and delivered once the recipient says so."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from joserfc import jwe
from joserfc.jwk import RSAKey

from gateway.channels.drop import DropChannel, Folder
from gateway.model.reporting.channels import Outcome, Receipt
from tests.channels.reports import RENDERING, REPORT, SARAH, now

KEY = RSAKey.generate_key(2048)


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[DropChannel]:
    """A channel to an empty folder, which knows the public key alone."""
    public = RSAKey.import_key(KEY.as_pem(private=False))
    with ThreadPoolExecutor(1) as executor:
        yield DropChannel(Folder("letters", tmp_path, public), executor, now)


def opened(file: Path) -> dict[str, object]:
    """What the recipient reads."""
    content = jwe.decrypt_compact(file.read_text(), KEY, ["RSA-OAEP-256", "A256GCM"]).plaintext
    assert content is not None
    read = json.loads(content)
    assert isinstance(read, dict)
    return read


def files_in(folder: Path) -> list[Path]:
    """Everything that lies there."""
    return list(folder.iterdir())


async def test_a_document_is_delivered_once_its_receipt_is_there(channel: DropChannel, tmp_path: Path) -> None:
    assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.UNKNOWN
    (file,) = files_in(tmp_path)
    file.with_suffix(".receipt").write_text("taken\n")
    file.unlink()
    assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.CONFIRMED
    assert [each.suffix for each in files_in(tmp_path)] == [".receipt"]


async def test_the_recipient_reads_the_report_and_whose_it_is(channel: DropChannel, tmp_path: Path) -> None:
    await channel.put(REPORT, RENDERING)
    await channel.put(REPORT, RENDERING)
    (file,) = files_in(tmp_path)
    read = opened(file)
    assert base64.b64decode(str(read["pdf"])) == RENDERING.pdf
    assert isinstance(read["manifest"], dict)
    assert read["manifest"]["nhs_number"] == SARAH.nhs_number.digits
    assert b"O'Shea" not in file.read_bytes() and "document" not in file.name


async def test_a_refusal_is_a_refusal_and_an_odd_receipt_none(channel: DropChannel, tmp_path: Path) -> None:
    await channel.put(REPORT, RENDERING)
    (file,) = files_in(tmp_path)
    file.with_suffix(".receipt").write_text("perhaps")
    assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.UNKNOWN
    file.with_suffix(".receipt").write_text("refused")
    assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.REFUSED


async def test_what_is_taken_back_is_no_more_there_to_be_taken(channel: DropChannel, tmp_path: Path) -> None:
    await channel.put(REPORT, RENDERING)
    assert (await channel.withdraw("document-1", SARAH, "Gone.")).receipt is Receipt.UNKNOWN
    (file,) = files_in(tmp_path)
    assert opened(file)["manifest"]["words"] == "Gone."  # type: ignore[index]  # a manifest is an object
    file.with_suffix(".receipt").write_text("taken")
    assert (await channel.withdraw("document-1", SARAH, "Gone.")).receipt is Receipt.CONFIRMED


async def test_a_folder_that_is_not_there_failed(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        channel = DropChannel(Folder("letters", tmp_path / "gone", KEY), executor, now)
        assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.FAILED


async def cycle(channel: DropChannel, folder: Path) -> None:
    """Given and taken, withdrawn and taken: nothing is believed that was not just said."""
    steps: list[tuple[Callable[[], Awaitable[Outcome]], str]] = [
        (lambda: channel.put(REPORT, RENDERING), ".jwe"),
        (lambda: channel.withdraw("document-1", SARAH, "Gone."), ".withdrawal.jwe"),
    ]
    for step, kind in steps:
        assert (await step()).receipt is Receipt.UNKNOWN
        [file] = [each for each in files_in(folder) if each.suffix == ".jwe"]
        assert "".join(file.suffixes) == kind
        file.with_suffix(".receipt").write_text("taken")
        file.unlink()
        assert (await step()).receipt is Receipt.CONFIRMED
        assert (await step()).receipt is Receipt.CONFIRMED


async def test_what_was_withdrawn_is_given_and_withdrawn_again(channel: DropChannel, tmp_path: Path) -> None:
    for _ in range(3):
        await cycle(channel, tmp_path)


async def test_what_was_replaced_is_given_again(channel: DropChannel, tmp_path: Path) -> None:
    await channel.put(REPORT, RENDERING)
    (file,) = files_in(tmp_path)
    file.with_suffix(".receipt").write_text("taken")
    file.unlink()
    await channel.put(replace(REPORT, document_key="document-2", replaces="document-1"), RENDERING)
    assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.UNKNOWN
    assert file.exists()


async def test_a_process_that_fell_while_it_made_room_believes_no_old_receipt(
    channel: DropChannel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink
    for falls_at in (1, 2, 3):
        await cycle(channel, tmp_path)
        # As a recipient leaves it that writes the receipt of the document late.
        (withdrawal,) = files_in(tmp_path)
        name = withdrawal.name.removesuffix(".withdrawal.receipt")
        (tmp_path / f"{name}.receipt").write_text("taken")
        count = iter(range(1, 100))

        def falling(self: Path, missing_ok: bool = False, count: Iterator[int] = count, at: int = falls_at) -> None:
            if next(count) == at:
                raise OSError("killed")
            unlink(self, missing_ok=missing_ok)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", falling)
            assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.FAILED
        assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.UNKNOWN
        assert (tmp_path / f"{name}.jwe").exists()


async def test_what_was_taken_is_removed_once_its_retention_is_over_and_nothing_else(
    channel: DropChannel, tmp_path: Path
) -> None:
    await channel.put(REPORT, RENDERING)
    await channel.put(replace(REPORT, document_key="another"), RENDERING)
    first, second = sorted(files_in(tmp_path))
    first.with_suffix(".receipt").write_text("taken")
    taken_at = datetime.fromtimestamp(first.with_suffix(".receipt").stat().st_mtime, UTC)
    assert await channel.forget(taken_at - timedelta(seconds=1)) == 0
    assert await channel.forget(taken_at + timedelta(seconds=1)) == 2
    assert files_in(tmp_path) == [second], "nobody has taken it: it is to be delivered still"
    second.with_suffix(".receipt").write_text("perhaps")
    assert await channel.forget(taken_at + timedelta(days=1)) == 0
