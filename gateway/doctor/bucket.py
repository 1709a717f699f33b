"""Look the bucket of the study cache over: whether it is there and ours, takes, gives and deletes, what time it has.

Does what the gateway will do, with one small object of random bytes under the node's names that is no pack, so that a
gateway that serves meanwhile is not disturbed. What fails is said in the words that the gateway itself would use.
"""

from __future__ import annotations

from typing import Final

from gateway.doctor.findings import Finding, Layer, Verdict
from gateway.model.errors import OutOfReach
from gateway.model.seams import Clock
from storage.cache.remote.bucket import ANOTHERS, MARK_GONE, Bucket

STEPS: Final = ("an object is put", "it is read back", "it is deleted")
CLOCK_APART_MAX_S: Final = 60.0
"""S3 refuses what was signed by a clock that is a quarter of an hour apart; long before, somebody should look."""
_ADVICE: Final = {
    ANOTHERS: "choose another cache.s3.prefix, or another gateway.node",
    "the credentials of the bucket cannot be read": "look at cache.s3.access_key_file and its mates, and their mode",
    "the bucket does not answer as it should": "look at cache.s3.endpoint, ca and region, and at the way to it",
    "the bucket gives other bytes than it took": "keep no images there: look at what stands between",
}


async def examine_bucket(bucket: Bucket, clock: Clock, name: str, content: bytes) -> list[Finding]:
    """Examine this node's part by an object of this name, new there; what was found, up to what failed."""
    findings = [await _looked(bucket)]
    if findings[0].verdict is Verdict.FAILED:
        return findings
    asked_at, begun_s, steps = clock.now(), clock.monotonic(), iter(STEPS)
    step = next(steps)
    try:
        async for written_at in bucket.trial(name, content):
            now_s = clock.monotonic()
            findings.append(Finding(Layer.BUCKET, step, Verdict.GOOD, "yes", duration_s=now_s - begun_s))
            if written_at is not None:
                findings.append(_clock((written_at - asked_at).total_seconds()))
            begun_s, step = now_s, next(steps, step)
    except OutOfReach as error:
        findings.append(_failed(step, error))
    return findings


async def _looked(bucket: Bucket) -> Finding:
    check = "it is there, and this part of it is ours"
    try:
        await bucket.look()
    except OutOfReach as error:
        if str(error) != MARK_GONE:
            return _failed(check, error)
        advice = "nothing, before the first start of the gateway; else find out who emptied it"
        return Finding(Layer.BUCKET, check, Verdict.NOTE, "it is there, and has no mark of ours", advice)
    return Finding(Layer.BUCKET, check, Verdict.GOOD, "yes")


def _clock(apart_s: float) -> Finding:
    check, found = "its clock agrees with ours", f"{abs(apart_s):.0f} s apart"
    if abs(apart_s) <= CLOCK_APART_MAX_S:
        return Finding(Layer.BUCKET, check, Verdict.GOOD, found)
    advice = "look at this node's clock: beyond 15 minutes the bucket refuses what we sign"
    return Finding(Layer.BUCKET, check, Verdict.WARNING, found, advice)


def _failed(check: str, error: OutOfReach) -> Finding:
    found, _, advice = str(error).partition(": ")
    return Finding(Layer.BUCKET, check, Verdict.FAILED, found, advice or _ADVICE[found])
