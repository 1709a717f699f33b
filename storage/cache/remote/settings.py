"""Where a bucket is, and what a request of it may cost. Apart from what speaks to it, which takes a while to load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Where the bucket is, and what a request of it may cost."""

    bucket: str
    node: str
    prefix: str = ""
    region: str = "eu-west-2"
    endpoint: str = ""
    """Of a store that is not AWS's; empty: that of the region."""
    is_virtual_hosted: bool = False
    ca: Path | None = None
    access_key_file: Path | None = None
    secret_key_file: Path | None = None
    """Both or none: then obstore looks in the environment, and asks the machine's role."""
    session_token_file: Path | None = None
    connect_timeout_s: float = 5.0
    request_timeout_s: float = 30.0
    retries_max: int = 3
    retry_timeout_s: float = 20.0
    part_bytes: int = 8 * 1024 * 1024
    """What one request puts of a large object, and how much of small ones shares a pack."""
    parts_in_flight_max: int = 2
    puts_in_flight_max: int = 8
    reads_in_flight_max: int = 16
