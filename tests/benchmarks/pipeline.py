"""What DVC and the starting of processes take."""

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from conftest import TOP, Project, reproduce
from measure import ROUNDS, Row, alternate, ratio, run
from ruamel.yaml import YAML

from stages.lib.files import read_json

REDRAWN_SECONDS, START_SHARE = 4, 0.2


def measure(folder: Path) -> Iterator[Row]:
    """Measures the tiny project of the tests, and how long the modules of the stages start."""
    project = Project(folder / "project")
    params, own = (YAML().load(TOP / path) for path in ("tests/params.yaml", "params.yaml"))
    params |= {name: own[name] for name in ("evaluation", "plots")}
    reproduce(project, params)

    def call(*command: str) -> float:
        return run(command, project.folder, project.environment).seconds

    nothing, status = alternate(lambda: call("dvc", "repro"), lambda: call("dvc", "status"))
    yield ("`dvc repro` with nothing to do to `dvc status`", ratio(nothing, status), "under 1.5")
    seconds = []
    for size in range(ROUNDS):
        project.set_param("plots.text_size", 10 + size)
        seconds.append(call("dvc", "repro", "--single-item", "plot@dense"))
    found = f"{statistics.median(seconds):.1f} s"
    yield ("one model drawn in another style", found, f"under {REDRAWN_SECONDS} s")
    yield start_share(project)


def start_share(project: Project) -> Row:
    """Says at most which share of the sample's time goes into starting processes.

    What the stages do is more than the training, whose seconds the last run of the sample left in
    data/timing: so the true share is smaller.
    """
    sample = YAML().load(TOP / "params.yaml")
    datasets, models = len(sample["datasets"]), len(sample["models"])
    counts = {"download": datasets, "prepare": datasets, "split": datasets, "report": 1}
    counts |= dict.fromkeys(("train", "evaluate", "plot"), models)
    starts = 0.0
    for stage, count in counts.items():
        command = [sys.executable, "-c", f"import stages.{stage}"]
        seconds = [run(command, project.folder, project.environment).seconds for _ in range(3)]
        starts += count * statistics.median(seconds)
    timings = [read_json(path)["seconds"] for path in (TOP / "data/timing").glob("*.json")]
    share = starts / (starts + sum(timings))
    name = "share of starting processes in the sample's time, at most"
    return (name, f"{share:.0%}", f"under {START_SHARE:.0%}")
