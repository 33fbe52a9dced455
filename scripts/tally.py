"""Sum the results of several pytest runs into one plain line; the exit status says whether all is well.

    tally.py FOLDER OTHER_FAILURES

FOLDER holds one JUnit file per run, and `NAME.broken` for a run that ended before its results were complete, which
counts as one failure. OTHER_FAILURES is added to the failures (gates).
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def outcome(case: ElementTree.Element) -> str:
    """One test's outcome; a test with an error in its set-up or clean-up has failed, whatever else happened."""
    children = {child.tag for child in case}
    if children & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in children else "passed"


def tally(folder: Path) -> dict[str, int]:
    """Tests by outcome over every file in `folder`. A test reported twice (call and clean-up) counts once."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sorted(folder.glob("*.xml")):
        worst: dict[tuple[str | None, str | None], str] = {}
        for case in ElementTree.parse(path).iter("testcase"):
            name = (case.get("classname"), case.get("name"))
            if worst.get(name) != "failed":
                worst[name] = outcome(case)
        for result in worst.values():
            counts[result] += 1
    counts["failed"] += len(list(folder.glob("*.broken")))
    return counts


def main(arguments: list[str]) -> int:
    folder, other_failures = Path(arguments[0]), int(arguments[1])
    counts = tally(folder)
    counts["failed"] += other_failures
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
