"""Measures what docs/performance.md and docs/scaling.md say: `make benchmark`.

It takes most of an hour on two cores, and should have them to itself. Names choose some subjects:
`make benchmark ONLY='photographs pipeline'`.
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import photographs
import pipeline
import scaling
import training
from conftest import TOP
from measure import Row

COUNT = 25_000  # photographs
DOCS = TOP / "docs"
SUBJECTS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "training": training.measure,
    "photographs": partial(photographs.measure, count=COUNT),
    "pipeline": pipeline.measure,
}


def describe_machine() -> str:
    """Says which processor there is, and how many cores."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    beyond = "with" if any("avx512f" in line for line in lines) else "without"
    return f"{os.cpu_count()} cores of a processor that calls itself {name}, {beyond} AVX-512"


def put(page: str, name: str, *tables: str) -> None:
    """Puts tables between the two comments of a page that name them."""
    text = "\n\n".join((f"Measured on {describe_machine()}:", *tables))
    path = DOCS / page
    start, end = f"<!-- make benchmark: {name} -->\n\n", "\n<!-- end -->"
    between = re.compile(f"(?<={start}).*?(?={end})", re.DOTALL)
    changed, count = between.subn(lambda _: f"{text}\n", path.read_text(encoding="utf-8"))
    assert count == 1, f"{path} has no place for {name}"
    path.write_text(changed, encoding="utf-8")


def table(head: Row, sides: str, rows: list[Row]) -> str:
    """Writes a table in Markdown; `sides` has an l or an r for each column."""
    line = tuple("---:" if side == "r" else "---" for side in sides)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, line, *rows))


def main(names: list[str]) -> None:
    for name in names or [*SUBJECTS, "scaling"]:
        with tempfile.TemporaryDirectory() as folder:
            if name == "scaling":
                each, many = scaling.measure(Path(folder))
                put("scaling.md", "each", table(("what", "how much", ""), "lrl", each))
                head = ("images", "workers", "`prepare`", "`split`", "checksums", "on disk")
                put("scaling.md", "many", table(head, "rrrrrr", many))
                continue
            rows = []
            for row in SUBJECTS[name](Path(folder)):
                print(" | ".join(row), flush=True)
                rows.append(row)  # what is measured stays, if the rest is interrupted
                put("performance.md", name, table(("what", "found", "wanted"), "lrr", rows))


if __name__ == "__main__":
    main(sys.argv[1:])
