"""What every peer is asked besides the question itself, and what its answer needs before it is handed on.

Identity, policy and merging need more of a row than a caller asks for, and archives return some of it unasked, each
its own part (C11). The same for every protocol. Says nothing of how a question is written or sent. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import orjson

from gateway.model.attributes import (
    ACCESSION_ISSUER,
    LEVEL_UID,
    PATIENT_ID_QUALIFIERS,
    SERIES_DESCRIPTION,
    STUDY_DESCRIPTION,
)
from gateway.model.errors import PeerProtocolError
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    MODALITY,
    OTHER_PATIENT_IDS,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    SERIES_UID,
    SOP_UID,
    STUDY_DATE,
    STUDY_TIME,
    STUDY_UID,
    Attributes,
    Element,
    Level,
    Query,
)
from policy.parties import TrustId

_OF_STUDIES = (
    PATIENT_ID,
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID_QUALIFIERS,
    OTHER_PATIENT_IDS,
    PATIENT_NAME,
    PATIENT_BIRTH_DATE,
    PATIENT_SEX,
    STUDY_UID,
    STUDY_DATE,
    STUDY_TIME,
    STUDY_DESCRIPTION,
    ACCESSION_NUMBER,
    ACCESSION_ISSUER,
    MODALITIES_IN_STUDY,
)
_OF_SERIES = (SERIES_UID, MODALITY, SERIES_DESCRIPTION)

ALWAYS_ASKED = MappingProxyType(
    {
        Level.STUDY: frozenset(_OF_STUDIES),
        Level.SERIES: frozenset((*_OF_STUDIES, *_OF_SERIES)),
        Level.IMAGE: frozenset((*_OF_STUDIES, *_OF_SERIES, SOP_UID)),
    }
)
"""What rows of each level must say for themselves, asked of every peer whoever asks what."""


def asked_attributes(query: Query) -> frozenset[str]:
    """Everything that rows answering `query` may have to say: always asked, wanted, or matched."""
    return ALWAYS_ASKED[query.level] | query.include | {key.path[0] for key in query.keys}


def single_value(query: Query, tag: str) -> str:
    """The one value that the query gives for a top-level key; empty if it gives none or several."""
    key = query.key(tag)
    return key.values[0] if key is not None and len(key.values) == 1 else ""


class DistinctRows:
    """The rows of all pages or responses, each once: a row that comes again is no news.

    Two rows of one UID that differ are both kept, for they may be of two patients, and nobody but the core can say so.
    """

    def __init__(self, trust: TrustId, level: Level) -> None:
        self._trust = trust
        self._unique = LEVEL_UID[level]
        self._by_uid: dict[str, Attributes] = {}
        self._written: dict[str, set[bytes]] = {}
        self.rows: list[Attributes] = []

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, rows: Sequence[Attributes]) -> None:
        """Add rows; raises `PeerProtocolError` for one without its unique key."""
        for row in rows:
            uid = self._uid(row)
            first = self._by_uid.setdefault(uid, row)
            if first is row or self._is_news(uid, first, row):
                self.rows.append(row)

    def _is_news(self, uid: str, first: Attributes, row: Attributes) -> bool:
        """Compared as written: comparing each with each would take a hostile archive's answer minutes."""
        written = self._written.setdefault(uid, {_written(first)})
        known = len(written)
        written.add(_written(row))
        return len(written) > known

    def _uid(self, row: Attributes) -> str:
        values = row.get(self._unique, {}).get("Value")
        uid = values[0] if isinstance(values, list) and len(values) == 1 else None
        if not isinstance(uid, str):
            raise PeerProtocolError(self._trust, "a row of the answer has no unique identifier")
        return uid


def _written(row: Attributes) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)


def with_known_parents(rows: list[Attributes], query: Query) -> list[Attributes]:
    """Rows with the UIDs that the question named put in where an archive left them out, as it may (PS3.18 10.6)."""
    parents: dict[str, Element] = {
        tag: {"vr": "UI", "Value": [uid]}
        for tag in (STUDY_UID, SERIES_UID)
        if tag != LEVEL_UID[query.level] and (uid := single_value(query, tag))
    }
    if not parents:
        return rows
    return [row if parents.keys() <= row.keys() else {**parents, **row} for row in rows]
