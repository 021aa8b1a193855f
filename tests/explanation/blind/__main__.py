"""``python -m tests.explanation.blind``: what `explain` and `check` say of the whole set, in figures."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # where real_models.py lies

from .judging import Score
from .scoring import agreement, figures, scores


def lost(score: Score) -> list[str]:
    """What cost a point."""
    return [
        *(["another cause"] if score.right is False else []),
        *(["no fix that works"] if score.fixed is False else []),
        *(["not both causes"] if score.also is False else []),
        *([f"HARM: {score.harm}"] if score.harm else []),
        *(["wrong and certain"] if score.wrong_certain else []),
        *([f"CRASH: {score.crashed}"] if score.crashed else []),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; with --show, each answer that lost a point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="WORDS", help="cases whose name contains this")
    parser.add_argument("--show", action="store_true", help="print what lost a point")
    parser.add_argument("--json", metavar="FILE", help="write every score")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    text, objects = scores(given.only)
    for what, found in (("text", text), ("objects", objects)):
        if given.show:
            for score in found:
                if lost(score):
                    print(f"{what:8} {score.name}: said {score.cause or 'nothing'}; {', '.join(lost(score))}")
        print(f"{what:8} {figures(found)}")
    print(f"same     {agreement(text, objects)}")
    if given.json:
        Path(given.json).write_text(
            json.dumps({"text": [asdict(s) for s in text], "objects": [asdict(s) for s in objects]})
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
