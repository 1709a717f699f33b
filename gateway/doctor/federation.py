"""Examine another gateway as a peer: whether it lets each trust that asks here ask for the one behind it (DEC-01).

It keeps to the standard as we do, so nothing of the standard is provoked: for each asker one question is put by the
connector itself, for a study that cannot exist, and read as any answer is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from dicomweb.connector import DicomwebPeer, DicomwebPeerProfile
from gateway.doctor.findings import Layer, Report, Verdict
from gateway.doctor.web import WebSubject
from gateway.model.errors import PeerError, PeerProtocolError, PeerRefused
from gateway.model.imaging import STUDY_UID, Key, Level, Query
from gateway.model.seams import PeerAnswer, PeerRequest
from policy.parties import TrustId

ASKERS_MAX = 20
"""Trusts for which it is tried: each is a question in the other gateway's audit."""

_CHECK = "another gateway"


async def examine_gateway(subject: WebSubject, askers: Sequence[TrustId], report: Report) -> None:
    """Ask for each of these trusts in turn; the connection was found good before."""
    if not askers:
        advice = "there is no [[caller]] of a trust here in whose name another gateway could be asked"
        report.add(Layer.QIDO, _CHECK, Verdict.FAILED, "nobody to ask for", advice)
        return
    profile = DicomwebPeerProfile(report.trust, subject.url, subject.character_set, is_gateway=True)
    connector = DicomwebPeer(profile, subject.limits, subject.place.secure)
    try:
        failed = [asker for asker in askers[:ASKERS_MAX] if not await _asked_for(connector, asker, subject, report)]
    finally:
        await connector.close()
    if len(failed) == len(askers[:ASKERS_MAX]):
        found = "answers for none of the trusts that ask here"
        report.add(Layer.QIDO, _CHECK, Verdict.FAILED, found, "see what it says of each, and ask those who run it")


async def _asked_for(connector: DicomwebPeer, asker: TrustId, subject: WebSubject, report: Report) -> bool:
    query = Query(Level.STUDY, (Key((STUDY_UID,), "UI", (subject.new_uid(),)),), limit=1)
    request = PeerRequest(query, f"doctor-{subject.new_uid()[-12:]}", 1, 1, asker)
    check, began = f"asked for {asker}", time.monotonic()
    try:
        async with asyncio.timeout(subject.limits.find_timeout_s):
            answer = await connector.find(request)
    except TimeoutError:
        advice = "let the other gateway give up on its archive before we give up on it: see find_timeout_s there"
        report.add(Layer.QIDO, check, Verdict.WARNING, "no answer in time", advice)
        return False
    except PeerError as error:
        report.add(Layer.QIDO, check, Verdict.WARNING, str(error), _advice(error, asker, report.trust))
        return False
    verdict, found, advice = _judged(answer, report.trust)
    report.add(Layer.QIDO, check, verdict, found, advice, duration_s=time.monotonic() - began)
    return True


def _advice(error: PeerError, asker: TrustId, trust: TrustId) -> str:
    match error:
        case PeerRefused():
            return (
                f"the other gateway must name {asker} in asks_for of our [[caller]], enrol it, and front {trust} itself"
            )
        case PeerProtocolError():
            return "is there a gateway at this address? If an archive, leave gateway = true out"
        case _:
            return f"the other gateway, or the archive of {trust} behind it, cannot be reached: ask those who run it"


def _judged(answer: PeerAnswer, trust: TrustId) -> tuple[Verdict, str, str]:
    only = answer.told.shared_modalities if answer.told is not None else None
    if only is not None and not only:
        return Verdict.WARNING, "shares nothing", f"the agreement of {trust} there covers nothing for this trust"
    if answer.is_truncated:
        return Verdict.WARNING, "answers in part", f"something is missing of {trust} behind the other gateway"
    return Verdict.GOOD, "answers" if only is None else f"answers with {' '.join(sorted(only))} alone", ""
