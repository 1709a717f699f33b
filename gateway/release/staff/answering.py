"""What is said of the text of a report, noted between two plans of it, in the transaction of whoever says it.

The first plan has its chase there, of the text that stands at this moment; the second goes by what was said. Command
line and API note alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.model.errors import InvalidRequest
from gateway.release.planner import Planner, Situation
from gateway.release.referrers.referring import Answer, Bulk, Referring
from gateway.web.api.desk import ACKNOWLEDGED_MAX
from storage.database import Tx
from storage.registers.state import Author


def noted(
    tx: Tx, planner: Planner, report_id: str, author: Author, note: Callable[[Tx], bool]
) -> tuple[Situation, bool]:
    """How the report stands after something was noted of it, and whether that changed anything. Raises as `note`."""
    planner.replan(tx, report_id, author)
    changed = note(tx)
    return planner.replan(tx, report_id, author), changed


def acknowledged(
    tx: Tx, planner: Planner, referring: Referring, read: Sequence[tuple[str, Answer]], author: Author
) -> Bulk:
    """What becomes of acknowledgements together; raises `InvalidRequest` for too many, or for a report named twice."""
    if len(read) > ACKNOWLEDGED_MAX:
        raise InvalidRequest(f"at most {ACKNOWLEDGED_MAX} reports are acknowledged together")
    if len({report_id for report_id, _ in read}) < len(read):
        raise InvalidRequest("a report is named twice")
    # In one order, so that two processes that hold the same reports wait for each other.
    ordered = sorted(read, key=lambda each: each[0])
    for report_id, _ in ordered:
        planner.replan(tx, report_id, author)
    done = referring.acknowledge_many(tx, ordered, author)
    for report_id in done.acknowledged:
        planner.replan(tx, report_id, author)
    return done
