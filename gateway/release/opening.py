"""Put the release of reports of one node together: its module, the channels beside the patient's page, its renderer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

from gateway.channels.rendering.exam_names import plain_name
from gateway.channels.rendering.forms import rendered
from gateway.config.configuration import Configuration
from gateway.core import Means
from gateway.keeping.keeping import Keeping
from gateway.metrics import Figures
from gateway.model.reporting.incoming import Exam
from gateway.model.seams import Clock
from gateway.node import new_id
from gateway.release.module import Outside, ReleaseModule
from gateway.release.outward import open_channels, open_notifiers
from storage.store import SqlStore

RENDERERS_MAX = 2
"""Documents that are typeset at once: each takes a core for tens of milliseconds."""


async def open_release(
    stack: AsyncExitStack,
    configuration: Configuration,
    store: SqlStore,
    keeping: Keeping,
    clock: Clock,
    figures: Figures,
) -> ReleaseModule:
    """The release of this node, closed with the stack. Raises `ConfigurationError` or a `ServiceFault`."""
    renderers = stack.enter_context(ThreadPoolExecutor(RENDERERS_MAX, "renderer"))
    notifiers = open_notifiers(configuration, clock.now, new_id)
    for each in notifiers.values():
        stack.push_async_callback(each.close)
    outside = Outside(
        render=partial(rendered, renderers),
        plain_name=_plain,
        channels=open_channels(configuration, renderers, clock.now, new_id),
        show=figures.release.show,
        new_id=new_id,
        notifiers=notifiers,
    )
    release = ReleaseModule(configuration, store, keeping, clock, outside)
    stack.push_async_callback(release.close)
    await release.begin()
    return release


def with_reports(means: Means, release: ReleaseModule) -> Means:
    """What every core shares, with the reports that are kept here for clinicians."""
    clinicians = release.clinicians
    return replace(means, reports=clinicians.kept, reports_arriving=clinicians.arrivals)


def _plain(exam: Exam) -> str:
    return plain_name(exam.modality, exam.body_region, exam.name)
