"""Finding the rules between two layouts of a mixture of experts; the limit is a Python that does nothing."""

from __future__ import annotations

from ..model import PYTHON, Case, Contestant, Workshop, ours


def cases(workshop: Workshop) -> list[Case]:
    return [one(workshop, 300, 0.3), one(workshop, 19_000, 5.0), one(workshop, 76_000, None)]


def one(workshop: Workshop, keys: int, most: float | None) -> Case:
    source, target = (workshop.fixture(kind, ".json", keys) for kind in ("experts", "stacked"))
    small = tuple(str(workshop.fixture(kind, ".json", 100)) for kind in ("experts", "stacked"))
    return Case(
        f"Infer the rules between two layouts, {keys} keys",
        Contestant("python -c pass", (*PYTHON, "-c", "pass")),
        (
            ours(
                "ckptkit infer",
                *("infer", str(source), str(target), "--json"),
                warm=("infer", *small, "--json"),
                most_seconds=most,
                without_torch=True,
            ),
        ),
    )
