"""The whole schema in one import: every module that defines a table, so that `metadata` is complete.

For migrations and for the test that compares them with the tables as the code declares them.
"""

from __future__ import annotations

from storage import checkpoints, reserve
from storage.cache import index as cache_index
from storage.clinical import readers, referrals
from storage.observations import locations, notices, standings
from storage.registers import agreements, labels, optouts, patients, quality, relationships, state, trusts
from storage.release import deliveries, feeds, holds, releases, standing
from storage.release import patients as release_patients
from storage.release import tables as release_tables
from storage.release.page import sessions
from storage.release.upkeep import receipts
from storage.tables import chain, commits
from storage.tables.columns import metadata
from storage.work import commitments, counting, jobs, ledger, recipients, transactions

__all__ = ["metadata"]

MODULES = (
    agreements,
    cache_index,
    chain,
    checkpoints,
    commitments,
    commits,
    counting,
    deliveries,
    feeds,
    holds,
    jobs,
    labels,
    ledger,
    locations,
    notices,
    optouts,
    patients,
    quality,
    readers,
    receipts,
    recipients,
    referrals,
    relationships,
    releases,
    release_patients,
    release_tables,
    reserve,
    sessions,
    standing,
    standings,
    state,
    transactions,
    trusts,
)
"""Where the tables are."""
