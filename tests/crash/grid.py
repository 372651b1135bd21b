"""The grid of faults with their counts in `docs/faults.md`: written only by the long run (`make crash`)."""

from __future__ import annotations

import os
from collections import Counter

from config.settings import PROJECT

DOCUMENT = PROJECT / "docs" / "faults.md"


def mark(title: str) -> tuple[str, str]:
    return f"<!-- {title} -->", f"<!-- end of {title} -->"


def table(counted: Counter[tuple[str, str]], wrong: int) -> str:
    """A row per fault, a column for where, runs in the cells; what came out wrong stands below."""
    places = sorted({place for _, place in counted})
    faults = sorted({fault for fault, _ in counted})
    head = f"| fault | {' | '.join(places)} |\n|{'---|' * (len(places) + 1)}\n"
    rows = "".join(f"| {fault} | {' | '.join(str(counted[fault, place]) for place in places)} |\n" for fault in faults)
    return f"{head}{rows}\n{wrong} came out wrong.\n"


def write(title: str, counted: Counter[tuple[str, str]], wrong: int) -> None:
    """Replaces the table of that title, where `KEEL_CRASH_GRID` asks for it."""
    if not os.environ.get("KEEL_CRASH_GRID"):
        return
    begin, end = mark(title)
    before, rest = DOCUMENT.read_text().split(begin)
    DOCUMENT.write_text(f"{before}{begin}\n{table(counted, wrong)}{end}{rest.split(end, 1)[1]}")
