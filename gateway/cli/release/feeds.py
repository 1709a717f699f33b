"""`gateway feeds`: the senders of reports, when each was last heard, and whether all came that they say they sent."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config
from gateway.cli.session import Session
from gateway.config.release.feeds import ReportFeedEntry
from gateway.edges.feed_watch import states
from gateway.feeds.watching import COUNT_MAX, counts_of
from gateway.model.errors import InvalidRequest
from policy.release.terms import LONDON
from storage.release import feeds

app = typer.Typer(no_args_is_help=True, help="Senders of reports: when each was heard, and what it says it sent.")
NEEDS = frozenset({"report_feed", "trust"})
FILE_BYTES_MAX = 1_000_000


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List feeds: the last sign of life, silence, and days of which counts differ."""

    async def work(opened: Session) -> None:
        entries, now = opened.configuration.report_feed, opened.now
        found = await opened.store.read(lambda read: states(read, entries, now, now))
        rows: list[console.Row] = [
            {
                "feed": each.entry.name,
                "trust": each.entry.trust.code,
                "kind": each.entry.kind.value,
                "heard": each.heard_at,
                "silent": each.is_silent,
                "differs": ", ".join(f"{day.day}: {day.filed} of {day.told}" for day in each.differences),
                "count_missing": each.is_count_missing,
            }
            for each in found
        ]
        console.show(rows, as_json=as_json, empty="no feed is configured")

    session.run(config, work, NEEDS)


@app.command()
def count(
    feed: Annotated[str, typer.Argument(help="Name of the [[report_feed]].")],
    by: By,
    day: Annotated[str, typer.Option(help="The London day, as 2026-06-01.")] = "",
    sent: Annotated[int, typer.Option(help="Messages that the sender sent on it.", min=0, max=COUNT_MAX)] = 0,
    file: Annotated[Path | None, typer.Option(help="Or a file of lines 2026-06-01,214.")] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Say how many messages a sender sent on a day; a difference from what came is an alarm."""

    async def work(opened: Session) -> None:
        entry = _entry(opened, feed)
        counts = _counts(day, sent, file)
        today = opened.now.astimezone(LONDON).date()
        if any(each >= today for each in counts):
            raise InvalidRequest("only days that are over are counted")
        who = session.author(by).subject
        await opened.store.write(lambda tx: feeds.tell(tx, entry.trust, entry.heard_as, counts, who))
        console.say(f"{entry.name}: {len(counts)} {'day' if len(counts) == 1 else 'days'} counted")

    session.run(config, work, NEEDS)


def _entry(opened: Session, feed: str) -> ReportFeedEntry:
    found = next((each for each in opened.configuration.report_feed if each.name == feed), None)
    if found is None:
        raise InvalidRequest("no [[report_feed]] has this name")
    return found


def _counts(day: str, sent: int, file: Path | None) -> dict[date, int]:
    if (file is None) == (not day):
        raise InvalidRequest("say either --day and --sent, or --file")
    try:
        if file is None:
            return {date.fromisoformat(day): sent}
        with file.open("rb") as opened:
            text = opened.read(FILE_BYTES_MAX + 1)
        if len(text) > FILE_BYTES_MAX:
            raise InvalidRequest(f"the file is longer than {FILE_BYTES_MAX} bytes")
        return {each.day: each.count for each in counts_of(text.decode("utf-8"))}
    except OSError as error:
        raise InvalidRequest(f"the file cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidRequest(f"no counts: {error}") from error
