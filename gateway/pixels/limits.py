"""What decoding, encoding and showing pixels may cost: `[pixels]`. Imports nothing, for commands read settings too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """What pixels may cost."""

    workers_max: int = 2
    """Processes."""
    waiting_max: int = 64
    """Tasks that wait for a process; one more is refused."""
    memory_bytes_max: int = 1536 * 1024 * 1024
    """Address space of one process."""
    cpu_s_max: int = 10
    """Of one task; a process that takes more is killed."""
    wall_s_max: float = 30.0
    """Of one task, waiting for the processor included."""
    frame_bytes_max: int = 64 * 1024 * 1024
    """One frame, compressed or decoded: some of these are held here at any time (see `Pool.run`)."""
    answer_bytes_max: int = 64 * 1024 * 1024
    """What a process may answer."""
