"""What one node does with reports for clinicians, put together: documents, changes, arrivals, answers (SAF-63)."""

from __future__ import annotations

from collections.abc import Callable

from gateway.keeping.keeping import Keeping
from gateway.model.errors import GatewayError
from gateway.model.seams import Clock
from gateway.release.clinicians.arriving import ARRIVED, Arrivals
from gateway.release.clinicians.book import Book
from gateway.release.clinicians.custodians import Organisations
from gateway.release.clinicians.readers import Readers, kept_for_reading
from gateway.release.clinicians.telling import CHANGED, Telling
from gateway.release.clinicians.versions import ToleranceOf
from gateway.release.contents import Contents
from gateway.release.intake import Intake
from storage.store import SqlStore


def _is_open(keeping: Keeping) -> bool:
    try:
        return bool(keeping.keyring)
    except GatewayError:
        return False


class ForClinicians:
    """The jobs, and what the core is given."""

    def __init__(
        self,
        store: SqlStore,
        keeping: Keeping,
        contents: Contents,
        intake: Intake,
        organisations: Callable[[], Organisations],
        tolerance_of: ToleranceOf,
        clock: Clock,
    ) -> None:
        book = Book(store, contents, tolerance_of, is_open=lambda: _is_open(keeping))
        written = Readers(store, tolerance_of)
        keeping.ledger.also(written.frozen)
        self.kept = kept_for_reading(book, written)
        self.arrivals = Arrivals(store, keeping.cache, intake, contents, organisations, clock)
        keeping.handle(CHANGED, Telling(store, tolerance_of, keeping.cache, clock))
        keeping.handle(ARRIVED, self.arrivals)
