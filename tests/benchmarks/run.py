"""Measures what docs/performance.md and docs/scaling.md say: `make benchmark`.

It takes most of an hour on two cores, and should have them to itself.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import photographs
import pipeline
import scaling
import training
from conftest import TOP
from measure import Row

COUNT = 25_000  # photographs
DOCS = TOP / "docs"


def measure(folder: Path) -> Iterator[Row]:
    """Yields the rows of all benchmarks, each of which gets a folder of its own in `folder`."""
    for name, rows in (
        ("training", training.measure),
        ("photographs", lambda own: photographs.measure(own, COUNT)),
        ("pipeline", pipeline.measure),
    ):
        own = folder / name
        own.mkdir()
        for row in rows(own):
            print(" | ".join(row), flush=True)
            yield row


def describe_machine() -> str:
    """Says which processor there is, and how many cores."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    beyond = "with" if any("avx512f" in line for line in lines) else "without"
    return f"{os.cpu_count()} cores of a processor that calls itself {name}, {beyond} AVX-512"


def put(page: str, name: str, text: str) -> None:
    """Puts `text` between the two comments of a page that name it."""
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


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure(Path(folder)))
        each, many = scaling.measure(Path(folder))
    machine = f"Measured on {describe_machine()}."
    put("performance.md", "machine", machine)
    put("performance.md", "speeds", table(("what", "found", "wanted"), "lrr", rows))
    put("scaling.md", "machine", machine)
    put("scaling.md", "each", table(("what", "how much", ""), "lrl", each))
    head = ("images", "workers", "`prepare`", "`split`", "checksums", "on disk")
    put("scaling.md", "many", table(head, "rrrrrr", many))


if __name__ == "__main__":
    main()
