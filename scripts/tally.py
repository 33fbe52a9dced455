"""Sums the results of several pytest runs in one line; the exit status is 0 if all passed.

    tally.py FOLDER OTHER_FAILURES

FOLDER contains `NAME.xml` (JUnit) and `NAME.status` (pytest's exit status) for every run. A run that failed without a
failed test counts as one failure. OTHER_FAILURES is added to the failures (gates).
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

NOTHING_WRONG = (0, 5)
"""pytest's exit status when all passed, and when no test was selected."""
TESTS_FAILED = 1


def outcome(case: ElementTree.Element) -> str:
    """One test's outcome; an error in its set-up or clean-up makes it fail."""
    children = {child.tag for child in case}
    if children & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in children else "passed"


def outcomes(path: Path) -> list[str]:
    """One outcome per test in a JUnit file. A test reported twice (call, clean-up) counts once, as the worse one."""
    worst: dict[tuple[str | None, str | None], str] = {}
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return []
    for case in cases:
        name = (case.get("classname"), case.get("name"))
        if worst.get(name) != "failed":
            worst[name] = outcome(case)
    return list(worst.values())


def tally(folder: Path) -> dict[str, int]:
    """Tests by outcome, over all runs in `folder`."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sorted(folder.glob("*.status")):
        results = outcomes(path.with_suffix(".xml"))
        for result in results:
            counts[result] += 1
        status = int(path.read_text())
        unexplained = status not in NOTHING_WRONG and not (status == TESTS_FAILED and "failed" in results)
        counts["failed"] += unexplained
    return counts


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__)
        return 2
    folder, other_failures = Path(arguments[0]), int(arguments[1])
    counts = tally(folder)
    counts["failed"] += other_failures
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
