"""The tables of reports: what each is, its versions, the studies it is of, and the messages that brought it.

Plain are ids, instants, states, codes, and the identifiers and dates of birth that a rule needs; whatever a person can
read stands sealed (SAF-41).
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, literal_column

from storage.tables.columns import Instant, Json, metadata

report = Table(
    "report",
    metadata,
    Column("report_id", Text, primary_key=True),
    Column("trust", Text, nullable=False),
    Column("report_number", Text, nullable=False),
    Column("patient_id", Text, ForeignKey("patient.patient_id")),
    Column("patient_key", Text, nullable=False),
    Column("birth_date", Text),
    Column("exam_codes", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("standing", Text, nullable=False),
    Column("current_version", Text),
    Column("due_at", Instant),
    Column("look_at", Instant),
    Column("held_for", Json, nullable=False),
    Column("flags", Json, nullable=False),
    Column("study_uid", Text),
    Column("accession", Text),
    Column("is_linked", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Index(None, "patient_id"),
    Index("uq_report_number", "trust", "report_number", unique=True),
    Index("ix_report_state", "state", "due_at"),
    Index("ix_report_counted", "trust", "state", "is_linked", "held_for", "flags"),
)
"""One row a report. `state` to `flags` are the plan as it stood last; `patient_id` is empty where nobody is known."""

IS_LOOKED_AT = report.c.look_at.is_not(None)
Index(
    "ix_report_look",
    report.c.look_at,
    report.c.report_id,
    sqlite_where=IS_LOOKED_AT,
    postgresql_where=IS_LOOKED_AT,
)
IS_UNLINKED = ~report.c.is_linked
Index(
    "ix_report_unlinked",
    report.c.changed_at,
    report.c.report_id,
    sqlite_where=IS_UNLINKED,
    postgresql_where=IS_UNLINKED,
)
IS_UNMATCHED = report.c.patient_id.is_(None) | (~report.c.is_linked & report.c.accession.is_(None))
"""A number of the trust's own is enough to know of which examination it is, whether or not its images are held."""
Index(
    "ix_report_unmatched",
    report.c.trust,
    report.c.created_at,
    sqlite_where=IS_UNMATCHED,
    postgresql_where=IS_UNMATCHED,
)

report_version = Table(
    "report_version",
    metadata,
    Column("version_id", Text, primary_key=True),
    Column("report_id", Text, ForeignKey("report.report_id"), nullable=False),
    Column("said", Text, nullable=False),
    Column("stated_at", Instant, nullable=False),
    Column("sent_at", Instant),
    Column("received_at", Instant, nullable=False),
    Column("verified_at", Instant),
    Column("zone", Text),
    Column("patient_id", Text, ForeignKey("patient.patient_id")),
    Column("patient_key", Text, nullable=False),
    Column("birth_date", Text),
    Column("exam_codes", Json, nullable=False),
    Column("text_digest", Text, nullable=False),
    Column("has_content", Boolean, nullable=False),
    Column("promotes", Boolean, nullable=False),
    Column("is_administrative", Boolean, nullable=False),
    Column("alerts", Json, nullable=False),
    Column("precedence", Integer, nullable=False),
    Column("feed", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("follows", Json, nullable=False, server_default="[]"),
    Column("key_id", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Index("ix_report_version_report", "report_id", "stated_at", "version_id"),
    Index(None, "patient_id"),
)
"""What each version says of itself. An empty `zone`: it tells of no verification.

Rows are never changed, but for `sent_at`: what is heard of again may have been sent earlier.
"""

report_study = Table(
    "report_study",
    metadata,
    Column("report_id", Text, ForeignKey("report.report_id"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("named", Text, primary_key=True),
    Column("study_uid", Text),
    Column("linked_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("linked_at", Instant),
    Index(None, "study_uid"),
    Index("ix_report_study_named", "kind", "named"),
)
"""The studies that a report is of: by UID, by accession number of its trust, or by a person's word."""

feed_message = Table(
    "feed_message",
    metadata,
    Column("row_id", Text, primary_key=True),
    Column("trust", Text, nullable=False),
    Column("feed", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("problem", Text, nullable=False),
    Column("report_ids", Json, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("settled_at", Instant),
    Column("settled_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("key_id", LargeBinary),
    Column("sealed", LargeBinary),
    Index("uq_feed_message_named", "trust", "feed", "message_id", unique=True),
    Index("ix_feed_message_received", "trust", "feed", "received_at"),
)
"""Every message that was heard; what stood in it is sealed, and gone once its retention is over."""

IS_DEAD = feed_message.c.state == literal_column("'dead'")
Index(
    "ix_feed_message_dead",
    feed_message.c.received_at,
    feed_message.c.row_id,
    sqlite_where=IS_DEAD,
    postgresql_where=IS_DEAD,
)
HAS_PAYLOAD = feed_message.c.sealed.is_not(None)
Index(
    "ix_feed_message_payload",
    feed_message.c.received_at,
    sqlite_where=HAS_PAYLOAD,
    postgresql_where=HAS_PAYLOAD,
)

feed_heard = Table(
    "feed_heard",
    metadata,
    Column("trust", Text, primary_key=True),
    Column("feed", Text, primary_key=True),
    Column("heard_at", Instant, nullable=False),
)
"""When each feed last gave a sign of life (SAF-32)."""


IS_UNSEEN = (report_study.c.kind == literal_column("'accession'")) & report_study.c.study_uid.is_(None)
Index(
    "ix_report_study_unseen",
    report_study.c.kind,
    report_study.c.report_id,
    report_study.c.named,
    sqlite_where=IS_UNSEEN,
    postgresql_where=IS_UNSEEN,
)
"""An accession number whose study nobody has seen."""


class LinkKind(StrEnum):
    """By what a report names a study."""

    STUDY_UID = "study-uid"
    ACCESSION = "accession"
    ORDER = "order"
    """By a number of its order, which names the report itself and no study."""
    RESOURCE = "resource"
    """By how a feed calls the resource that it is."""
    DOCUMENT = "document"
    """By the verified structured report that it is, which names no study either."""
    DRAFT = "draft"
    """By one that nobody vouches for."""
    FOLLOWED = "followed"
    """By the one that this says it amends or is added to."""
    PLACER = "placer"
    """By the number of whoever ordered it: where there is no better one it is all that a report is known by."""
    EXAM = "exam"
    """Where nothing else sets two reports of one placer's order apart: by what was examined, and on which day."""
    PERSON = "person"
    """A person said so; without a study, that the report is not of the one that is named."""
