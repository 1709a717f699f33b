"""What the gateway's memory does over many questions: resident after a thousand against after ten thousand.

Questions with one match and with a hundred, sixteen at once, against the whole gateway. Nothing of a question may stay
behind but what is written to disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, ratio_at_most
from bench.plan import Effort, Say
from bench.rig import studies
from bench.rig.load import Load, generator
from bench.rig.region import new_region

CALLERS = 16
GROWTH_MAX = 1.05


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the one figure."""
    one, many = studies.of_one_patient(100), studies.of_many_patients(100)
    # One question in ten brings a hundred rows.
    single = [studies.question(study.patient) for study in many]
    paths = tuple(path for index in range(0, 90, 9) for path in (*single[index : index + 9], _of(one)))
    region = new_region(folder)
    patients = sorted({study.patient for study in (*one, *many)})
    with region.archive((one, many)) as archive, region.gateway(archive, patients) as gateway, generator() as load:
        sizes = []
        asked = 0
        for questions in (effort.queries_before, effort.queries_after):
            say(f"asking up to {questions} questions")
            load.run(Load(gateway.door, paths, CALLERS, questions=questions - asked))
            asked = questions
            sizes.append(gateway.child.rss_bytes / 1e6)
    before, after = sizes
    yield Figure(
        f"memory: resident after {effort.queries_after} questions",
        after,
        before,
        "MB",
        ratio_at_most(GROWTH_MAX),
        {"peer": f"the gateway itself after {effort.queries_before} questions"},
    )


def _of(held: list[studies.Study]) -> str:
    return studies.question(held[0].patient)
