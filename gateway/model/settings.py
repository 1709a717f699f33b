"""Limits and behaviours that the core and the edges obey, as plain values with their start values.

`gateway.config` fills them from `gateway.toml`; nothing here reads a file. Every limit carries its unit in its name
and is tested at the limit and one past it. What policy itself needs is `policy.settings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of anything: `[limits]`."""

    matches_max: int = 1_000
    """Rows in one answer to a caller, all pages together (DEC-33); beyond it the answer is cut and says so."""
    peer_matches_max: int = 5_000
    """Rows believed from one peer in one answer; beyond it the peer's part is cut and says so."""
    peers_at_once_max: int = 128
    """Trusts asked at the same time for one question."""
    peer_requests_at_once_max: int = 8
    """Questions under way to one peer, from all callers."""
    queries_at_once_max: int = 256
    """Questions under way in the whole process; beyond it `OverCapacity`."""
    queries_per_caller_at_once_max: int = 64
    """Questions under way from one trust, so that one caller cannot starve another."""
    find_timeout_s: float = 5.0
    """A peer's whole time to answer a question (product 3.1)."""
    connect_timeout_s: float = 3.0
    """A peer's time to accept a connection, TLS included."""
    peer_answer_bytes_max: int = 16 * 1024 * 1024
    """Bytes read of one peer's answer."""
    json_depth_max: int = 32
    """Nesting of a peer's JSON answer."""
    request_head_bytes_max: int = 16 * 1024
    """Request line and headers of an HTTP request."""
    request_body_bytes_max: int = 1024 * 1024
    """Body of an HTTP request that carries no images."""
    stow_body_bytes_max: int = 64 * 1024 * 1024 * 1024
    """Body of a STOW-RS request; never in memory."""
    stow_instances_max: int = 10_000
    """Instances in one STOW-RS request."""
    request_head_timeout_s: float = 15.0
    """Time to send a whole HTTP head."""
    keepalive_timeout_s: float = 60.0
    """An idle HTTP connection is closed after this."""
    connections_max: int = 1_024
    """HTTP connections open on one listener."""
    connections_per_address_max: int = 128
    """HTTP connections open from one address on one listener."""
    dimse_connections_max: int = 1_024
    """TCP connections open at the DIMSE door, associated or not."""
    dimse_connections_per_address_max: int = 256
    """The same from one address."""
    dimse_associations_max: int = 512
    """Associations open at the DIMSE door; beyond it A-ASSOCIATE-RJ (transient, local limit exceeded)."""
    dimse_associations_per_caller_max: int = 64
    """Associations open of one caller, so that one cannot starve another."""
    dimse_associations_per_address_max: int = 128
    """Associations open from one address."""
    artim_timeout_s: float = 15.0
    """Time to send a whole A-ASSOCIATE-RQ, and to close after a release or an abort (PS3.8 9.1.5)."""
    association_idle_timeout_s: float = 120.0
    """An association on which nothing is asked is aborted after this."""
    association_life_max_s: float = 28_800.0
    """An association is aborted after this, once its request at work is answered."""
    association_bytes_per_s_min: int = 1_000
    """A message that has been under way for the idle time must have come at least this fast."""
    dimse_send_timeout_s: float = 30.0
    """The other end of an association that takes nothing for this long is given up."""
    pdu_bytes_max: int = 131_072
    """Content of one P-DATA PDU: advertised to the other end, and enforced."""
    associate_bytes_max: int = 256 * 1024
    """Any other PDU."""
    command_bytes_max: int = 64 * 1024
    """One command set."""
    fragments_max: int = 4_096
    """Fragments of one command set, or of one data set kept in memory."""
    identifier_bytes_max: int = 256 * 1024
    """One C-FIND identifier, of a caller or of a peer."""
    notice_bytes_max: int = 1024 * 1024
    """One Instance Availability Notification: some six thousand instances."""
    location_notices_waiting_max: int = 1_000
    """Studies that one trust told of and of which it is not known yet whose they are; one more is refused."""
    cancel_timeout_s: float = 1.0
    """Time that a peer has to end a query after C-CANCEL; then its association is aborted."""
    peer_association_idle_s: float = 30.0
    """An association to a peer that nothing was asked on is released after this."""
    peer_association_life_max_s: float = 600.0
    """An association to a peer is not used again after this."""
    peer_queries_max: int = 256
    """C-FIND queries to one peer for one question, where it takes several: a walk down the levels, UIDs one by one."""
    retrieve_connect_timeout_s: float = 10.0
    """A peer's time to accept a connection that images are to come over, TLS included."""
    retrieve_idle_timeout_s: float = 180.0
    """A peer that is asked for images and sends nothing for this long is given up; some need minutes for the first."""
    retrieve_total_timeout_s: float = 3_600.0
    """A peer's whole time to send what one retrieval asks of it, however lively it is."""
    retrieve_associations_max: int = 4
    """Associations open to one peer for images; one retrieval takes half of them at most."""
    retrieve_uids_max: int = 128
    """SOP instances named in one C-GET or C-MOVE; more are several requests."""
    store_response_timeout_s: float = 120.0
    """A destination's time to answer one C-STORE."""
    store_patience_s: float = 30.0
    """How long a destination that refuses, aborts or cannot be reached is tried again."""
    store_associations_max: int = 2
    """Associations open to one destination for one retrieval."""
    commitment_bytes_max: int = 4 * 1024 * 1024
    """One request or report of storage commitment."""
    commitment_instances_max: int = 10_000
    """Instances named in one."""
    commitment_waiting_max: int = 1_000
    """Requests of one caller that are not answered yet; one more is refused."""
    commitment_response_timeout_s: float = 30.0
    """Time to answer a request or a report of storage commitment, for who gets it."""
    commitment_linger_s: float = 10.0
    """An archive may report so long on the association it was asked by; later it opens one to our door."""
    retrieve_pending_interval_s: float = 1.0
    """A caller that waits for images by C-MOVE or C-GET hears how far it is at least as often."""
    query_keys_max: int = 64
    """Matching keys in one question."""
    uid_list_max: int = 256
    """UIDs in one list."""
    key_value_chars_max: int = 1_024
    """Characters in one key's value; a UID list is judged item by item."""
    include_fields_max: int = 256
    """Attributes asked for by `includefield`."""
    register_read_timeout_s: float = 2.0
    """A register that does not answer in this time is a fault (SAF-01)."""
    snapshot_max_s: float = 60.0
    """Life of a page snapshot (DEC-35)."""
    snapshots_max: int = 256
    """Page snapshots kept at once; the oldest goes first."""
    snapshot_rows_max: int = 50_000
    """Rows kept in all page snapshots together."""
    listing_timeout_s: float = 60.0
    """A peer's whole time to list the instances that a caller asks to have."""
    listing_matches_max: int = 100_000
    """Instances believed of one peer in such a list; beyond it the peer's part is cut and says so."""
    listing_fresh_s: float = 30.0
    """A list of instances is made again after this; every hand-out is decided anew all the same."""
    listing_rows_max: int = 200_000
    """Rows kept in all such lists together."""
    retrievals_at_once_max: int = 128
    """Retrievals under way in the whole process; beyond it `OverCapacity`."""
    retrieve_recheck_s: float = 10.0
    """A retrieval is decided again after this, at each new series, and as soon as a register moves (SAF-36)."""
    retrieve_rest_s: float = 5.0
    """What a caller asks of one study, part by part, is taken as one passage until it has asked for nothing for so
    long; 0: each request is one."""
    store_rest_s: float = 10.0
    """What a trust sends of one study is taken as one sending until nothing has come for so long."""
    store_studies_at_once_max: int = 1_024
    """Studies being sent at once, by all trusts; beyond it `OverCapacity`."""
    serve_unvalidated_max_hours: float = 24.0
    """Where a holder does not answer, kept copies are given for so long behind their last comparison (SAF-37)."""
    end_grace_minutes: float = 30.0
    """A retrieval that began while the patient was in the trust's care goes on so long behind its end (SAF-36)."""
    peer_backoff_first_s: float = 1.0
    """Pause after a peer's first failure; doubled at each further one."""
    peer_backoff_max_s: float = 30.0
    """Longest pause between two attempts on a failing peer."""
    peer_failures_before_backoff: int = 3
    """Failures in a row before a peer is left alone for a while; at most 5 (goal G6)."""
    peer_probe_interval_s: float = 20.0
    """How often a peer is probed: keeps its state true and feeds the absence delays (SAF-06)."""
    drain_timeout_s: float = 30.0
    """Time that running work has to finish after SIGTERM."""
    audit_append_timeout_s: float = 5.0
    """An audit record that is not durable in this time is an audit that is down (SAF-30)."""
    crl_stale_grace_hours: float = 24.0
    """A revocation list that has ended counts for so long as it last was, with an alarm; then it lets nobody in."""


class QidoEmpty(StrEnum):
    """Status of a QIDO answer without rows (DEC-35)."""

    OK = "200"
    NO_CONTENT = "204"


class PatientIdShown(StrEnum):
    """Which Patient ID stands on the rows of an answer, where the caller's own trust files the patient too (D4)."""

    OWN_NUMBER = "own-number"
    """The caller's own number, whatever was asked by."""
    AS_ASKED = "as-asked"
    """The NHS number where that was asked by: for systems that drop rows under another Patient ID."""


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Who is who across trusts: `[identity]`."""

    accepted_number_statuses: tuple[str, ...] = ("01",)
    """Verification of an NHS number that is enough to match across trusts without further evidence (C1)."""
    accepts_unrecorded_status: bool = True
    """Whether a number whose status nobody recorded is taken on the word of the trust that asks by it."""
    patient_id_shown: PatientIdShown = PatientIdShown.OWN_NUMBER
    lookup_timeout_s: float = 2.0
    """A lookup's whole time; after it the question goes on as the registers say."""
    lookup_pause_s: float = 30.0
    """A lookup that failed is not asked for so long."""
    lookup_max_age_minutes: float = 60.0
    """What a lookup said is believed for so long."""
    lookups_kept_max: int = 10_000
    """Answers kept at a time; the oldest go first."""

    def accepts(self, status: str) -> bool:
        """Whether a number of this status needs no further evidence."""
        return status in self.accepted_number_statuses or (self.accepts_unrecorded_status and not status)


@dataclass(frozen=True, slots=True)
class SharingSettings:
    """How the door behaves: `[sharing]`."""

    absence_timing: bool = True
    """Send an answer withheld by a register no faster than absence itself (SAF-06). Off only in tests of it."""
    absence_grid_ms: int = 100
    """Answers without rows leave on this grid: so coarse that what differs behind them fits into one step (SAF-06)."""
    qido_empty: QidoEmpty = QidoEmpty.OK
    location_feeds: frozenset[str] = frozenset()
    """ODS codes of trusts that tell us of every new study: only they are ever left unasked (SAF-05)."""
    location_feed_silent_minutes: float = 10.0
    """A feed that was not heard for so long, not even by a heartbeat, is not live."""
    index_negative_max_age_minutes: float = 15.0
    """A trust is left unasked on a negative no older than this (SAF-05)."""
    sample_interval_minutes: float = 5.0
    """How often patients are asked for where feeds are live, for the index alone; never while there is no feed."""
    sample_patients_max: int = 20
    """Patients asked for each time."""
    location_max_age_days: int = 1_100
    """What the location index has not heard again for so long is deleted."""

    @property
    def samples(self) -> bool:
        """Whether patients are asked for in the background: only live feeds make that worth anything."""
        return bool(self.location_feeds)

    def is_feed_live(self, code: str, heard_at: datetime | None, now: datetime) -> bool:
        """Whether the feed of the trust of this ODS code is relied on: it is configured, and was lately heard.

        A clock that was set back makes no feed live for longer.
        """
        silent_max = timedelta(minutes=self.location_feed_silent_minutes)
        return code in self.location_feeds and heard_at is not None and now - silent_max <= heard_at <= now
