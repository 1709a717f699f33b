"""What a picture of a frame shall be: its kind, size and window (PS3.18 8.3.5.1). Values, and nothing of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

from gateway.model.errors import InvalidRequest
from gateway.pixels.wire import Head

SIDE_MAX = 8_192
_WINDOW_MAX = 1e9


class Media(StrEnum):
    """Kinds of pictures."""

    JPEG = "image/jpeg"
    PNG = "image/png"


class WindowFunction(StrEnum):
    """How a window maps values to grey (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True, slots=True)
class Window:
    """Which values are shown between black and white."""

    centre: float
    width: float
    function: WindowFunction = WindowFunction.LINEAR

    @property
    def is_possible(self) -> bool:
        """Whether the standard allows it."""
        narrowest = 1.0 if self.function is WindowFunction.LINEAR else 0.0
        is_wide = self.width >= narrowest and self.width > 0
        return isfinite(self.centre) and is_wide and abs(self.centre) <= _WINDOW_MAX >= self.width


@dataclass(frozen=True, slots=True)
class PictureWish:
    """A picture of one frame."""

    media: Media = Media.JPEG
    width_max: int = 0
    """It is made to fit in; 0: as it is."""
    height_max: int = 0
    quality: int = 90
    """Of JPEG, from 1 to 100."""
    window: Window | None = None
    """None: the instance's own, or all that its pixels hold."""

    def __post_init__(self) -> None:
        if not (0 <= self.width_max <= SIDE_MAX and 0 <= self.height_max <= SIDE_MAX):
            raise InvalidRequest(f"a picture has at most {SIDE_MAX} rows and columns")
        if not 1 <= self.quality <= 100:
            raise InvalidRequest("the quality of a picture is a number from 1 to 100")
        if self.window is not None and not self.window.is_possible:
            raise InvalidRequest("the window is not one that the standard allows")

    def head(self) -> Head:
        """For a worker."""
        window: Head | None = None
        if self.window is not None:
            window = {"centre": self.window.centre, "width": self.window.width, "function": self.window.function}
        return {
            "media": self.media,
            "width_max": self.width_max,
            "height_max": self.height_max,
            "quality": self.quality,
            "window": window,
        }


def read_wish(head: Head) -> PictureWish:
    """The wish that `PictureWish.head` wrote."""
    window = head["window"]
    return PictureWish(
        Media(str(head["media"])),
        int(str(head["width_max"])),
        int(str(head["height_max"])),
        int(str(head["quality"])),
        None
        if not isinstance(window, dict)
        else Window(float(str(window["centre"])), float(str(window["width"])), WindowFunction(str(window["function"]))),
    )
