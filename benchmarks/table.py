"""The results as text or Markdown."""

from __future__ import annotations

from statistics import median

from .measure import Result
from .model import Case, Contestant

HEAD = ("", "seconds", "ratio", "memory", "target")


def rows(results: list[Result]) -> list[tuple[str, ...]]:
    """One row of words per contestant, the limit first."""
    return [
        (
            result.contestant.name,
            f"{median(result.seconds):.3f}",
            f"{median(result.ratios):.2f}x",
            "" if result.memory is None else f"{result.memory:.0f} MB",
            verdict(result),
        )
        for result in results
    ]


def target(contestant: Contestant) -> str:
    words = []
    if contestant.most_ratio is not None:
        words.append(f"{contestant.most_ratio}x")
    if contestant.most_seconds is not None:
        words.append(f"{contestant.most_seconds} s")
    if contestant.most_memory is not None:
        words.append(f"{contestant.most_memory:.0f} MB")
    if contestant.without_torch:
        words.append("no torch")
    return ", ".join(words)


def verdict(result: Result) -> str:
    aim = target(result.contestant)
    if not aim:
        return ""
    missed = result.missed()
    return f"{aim}: missed, {'; '.join(missed)}" if missed else f"{aim}: reached"


def plain(case: Case, results: list[Result]) -> str:
    table = [HEAD, *rows(results)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, 4) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([case.title, *(f"  {line}" for line in lines), ""])


def markdown(case: Case, results: list[Result]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows(results)]
    head = f"| {' | '.join(HEAD)} |"
    return "\n".join([f"### {case.title}", "", head, "|---|--:|--:|--:|---|", *lines, ""])


def machine(described: list[tuple[str, str]], *, as_markdown: bool) -> str:
    if as_markdown:
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in described), ""])
    return "\n".join([*(f"{name:<12} {value}" for name, value in described), ""])
