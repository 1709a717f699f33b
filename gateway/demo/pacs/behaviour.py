"""How the simulated PACS behaves: honest and prompt, or slow, dead, lying, in odd character sets.

A `Behaviour` is a value that a test or an on-boarding engineer sets at start or while the process runs; `Switches`
holds the present one where the event loop and pynetdicom's threads both see it.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Final, TypeVar

E = TypeVar("E", bound=StrEnum)

SLOW_S_MAX: Final = 600.0
ROWS_MAX: Final = 1000
ASSOCIATIONS_MAX: Final = 50


class InvalidBehaviour(ValueError):
    """A behaviour that does not exist or makes no sense; the text says which word is wrong."""


class Dead(StrEnum):
    """Whether and how the PACS is out of service."""

    NO = "no"
    CLOSED = "closed"
    """Both ports are closed: connections are refused."""
    SILENT = "silent"
    """Connections and requests are accepted and never answered."""


class Charset(StrEnum):
    """What text is encoded in, and whether the answer says so."""

    UTF_8 = "utf-8"
    LATIN_1 = "latin-1"
    """C-FIND declares ISO_IR 100. QIDO is UTF-8: DICOM JSON knows nothing else."""
    LATIN_1_UNDECLARED = "latin-1-undeclared"
    """C-FIND without (0008,0005) and QIDO, both with Latin-1 bytes: common in older UK archives."""


class Lie(StrEnum):
    """What is untrue in an answer. The first group alters rows at both doors, the second answers, the third images."""

    IGNORES_KEYS = "ignores-keys"
    WRONG_PATIENT = "wrong-patient"
    SAME_UID_OTHER_PATIENT = "same-uid-other-patient"
    IDENTITY_DIFFERS = "identity-differs"
    NO_NHS_NUMBER = "no-nhs-number"
    DUPLICATES = "duplicates"
    WRONG_COUNTS = "wrong-counts"
    MISSING_UIDS = "missing-uids"
    BAD_UIDS = "bad-uids"
    NOTHING = "nothing"

    ENDLESS = "endless"
    HUGE = "huge"
    SERVER_ERROR = "server-error"
    GARBLED = "garbled"
    TRUNCATED = "truncated"
    DRIPPING = "dripping"
    NOT_A_LIST = "not-a-list"
    WRONG_TYPES = "wrong-types"
    DEEP_NESTING = "deep-nesting"
    WRONG_CONTENT_TYPE = "wrong-content-type"
    REDIRECT = "redirect"
    IGNORES_PAGING = "ignores-paging"
    FOREIGN_RETRIEVE_URL = "foreign-retrieve-url"

    FEWER_IMAGES = "fewer-images"
    EXTRA_IMAGE = "extra-image"
    WRONG_PATIENT_INSIDE = "wrong-patient-inside"
    WRONG_UIDS_INSIDE = "wrong-uids-inside"
    DAMAGED_IMAGES = "damaged-images"
    CUT_IMAGE = "cut-image"
    STALLED_IMAGE = "stalled-image"

    @property
    def spoils_the_body(self) -> bool:
        """True if it decides how the whole answer is written, so that only one such lie fits into an answer."""
        return self in _BODY_LIES


_BODY_LIES: Final = frozenset(
    (
        Lie.ENDLESS,
        Lie.HUGE,
        Lie.SERVER_ERROR,
        Lie.GARBLED,
        Lie.TRUNCATED,
        Lie.DRIPPING,
        Lie.NOT_A_LIST,
        Lie.WRONG_TYPES,
        Lie.DEEP_NESTING,
        Lie.WRONG_CONTENT_TYPE,
        Lie.REDIRECT,
    )
)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One way to behave; the default is an honest, prompt, complete PACS."""

    slow_s: float = 0.0
    """Seconds before each answer."""
    dead: Dead = Dead.NO
    lies: frozenset[Lie] = frozenset()
    charset: Charset = Charset.UTF_8
    rows_max: int = ROWS_MAX
    """The most rows in one QIDO answer, whatever limit was asked; the rest is announced in a Warning header."""
    empty_status: int = 200
    """Status of a QIDO answer without rows: 200 with `[]`, or 204."""
    image_pause_s: float = 0.0
    """Seconds before each image that is sent, the first one too."""
    associations_max: int = ASSOCIATIONS_MAX
    """DICOM associations at a time; one more is rejected."""

    @property
    def body_lie(self) -> Lie | None:
        """The one lie that decides how the answer is written, if any."""
        return next((lie for lie in self.lies if lie.spoils_the_body), None)

    def changed(self, changes: Mapping[str, object]) -> "Behaviour":
        """This behaviour with some fields replaced, each given as in JSON; raises `InvalidBehaviour`."""
        known = {field.name for field in fields(self)}
        if unknown := sorted(set(changes) - known):
            raise InvalidBehaviour(f"unknown switch {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        parsed = replace(self)
        for name, value in changes.items():
            match name:
                case "slow_s":
                    parsed = replace(parsed, slow_s=_number(name, value, 0.0, SLOW_S_MAX))
                case "image_pause_s":
                    parsed = replace(parsed, image_pause_s=_number(name, value, 0.0, SLOW_S_MAX))
                case "associations_max":
                    parsed = replace(parsed, associations_max=int(_number(name, value, 1, ASSOCIATIONS_MAX)))
                case "rows_max":
                    parsed = replace(parsed, rows_max=int(_number(name, value, 1, ROWS_MAX)))
                case "empty_status":
                    if value not in (200, 204):
                        raise InvalidBehaviour("empty_status must be 200 or 204")
                    parsed = replace(parsed, empty_status=204 if value == 204 else 200)
                case "dead":
                    parsed = replace(parsed, dead=_choice(Dead, name, value))
                case "charset":
                    parsed = replace(parsed, charset=_choice(Charset, name, value))
                case _:
                    parsed = replace(parsed, lies=_lies(value))
        return parsed

    def as_json(self) -> dict[str, object]:
        """The fields as `changed` takes them."""
        return {**asdict(self), "lies": sorted(self.lies)}


def parse_behaviour(text: str) -> Behaviour:
    """A behaviour from a JSON object, for the command line; raises `InvalidBehaviour`."""
    try:
        changes = json.loads(text)
    except ValueError as error:
        raise InvalidBehaviour("a behaviour is a JSON object") from error
    if not isinstance(changes, dict):
        raise InvalidBehaviour("a behaviour is a JSON object")
    return Behaviour().changed(changes)


class Switches:
    """The present behaviour, shared between the event loop and pynetdicom's threads."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._stopping = False
        self._changed = threading.Condition(threading.RLock())

    @property
    def behaviour(self) -> Behaviour:
        """How to behave now."""
        return self._behaviour

    @property
    def is_stopping(self) -> bool:
        """True once the process is to end: whoever waits gives up."""
        return self._stopping

    def set(self, behaviour: Behaviour) -> None:
        """Behave so from now on; threads that waited under the old behaviour go on."""
        with self._changed:
            self._behaviour = behaviour
            self._changed.notify_all()

    def stop(self) -> None:
        """Let every waiting thread go."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def hold(self) -> bool:
        """Wait in a thread as long as the behaviour asks; False if no answer may be sent after it."""
        with self._changed:
            before = self._behaviour
            if before.dead is not Dead.NO:
                self._changed.wait_for(lambda: self._stopping or self._behaviour.dead is Dead.NO)
                return False
            return self.pause(before.slow_s)

    def pause(self, pause_s: float) -> bool:
        """Wait in a thread so long; False if the process is to end."""
        with self._changed:
            if pause_s:
                self._changed.wait_for(lambda: self._stopping, timeout=pause_s)
            return not self._stopping

    def wait_while(self, lie: Lie) -> bool:
        """Wait in a thread until the lie is told no more; False if the process is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or lie not in self._behaviour.lies)
            return not self._stopping


def _number(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidBehaviour(f"{name} must be a number from {least:g} to {most:g}")
    return float(value)


def _choice(kind: type[E], name: str, value: object) -> E:
    try:
        return kind(str(value))
    except ValueError as error:
        raise InvalidBehaviour(f"{name} must be one of {', '.join(kind)}") from error


def _lies(value: object) -> frozenset[Lie]:
    if not isinstance(value, list):
        raise InvalidBehaviour("lies must be a list")
    lies = frozenset(_choice(Lie, "each lie", item) for item in value)
    if len(spoiling := sorted(lie for lie in lies if lie.spoils_the_body)) > 1:
        raise InvalidBehaviour(f"only one of {', '.join(spoiling)} fits into one answer")
    return lies
