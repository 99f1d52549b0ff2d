"""`make benchmark` on next to nothing: each of its measurements runs, and finds its place."""

import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import TOP

sys.path.append(str(TOP / "tests/benchmarks"))

import measure
import photographs
import pipeline
import run
import scaling
import training

pytestmark = pytest.mark.long


def few(first: object, second: object) -> object:
    return measure.alternate(first, second, rounds=1)  # type: ignore[arg-type]


def test_every_measurement_runs_and_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (photographs, pipeline, training):
        monkeypatch.setattr(module, "alternate", few)
    data = {name: (64, shape, classes) for name, (_, shape, classes) in training.DATA.items()}
    monkeypatch.setattr(training, "DATA", data)
    monkeypatch.setitem(run.SUBJECTS, "photographs", partial(photographs.measure, count=50))
    monkeypatch.setattr(scaling, "MODELS", (3,))
    monkeypatch.setattr(scaling, "FEW_AND_MANY", (100, 200))
    shutil.copytree(TOP / "docs", tmp_path / "docs")
    monkeypatch.setattr(run, "DOCS", tmp_path / "docs")
    run.main([])
    for page, rows in (("performance.md", 12), ("scaling.md", 12)):
        text = (tmp_path / "docs" / page).read_text()
        assert text.count("\n| ") > rows
