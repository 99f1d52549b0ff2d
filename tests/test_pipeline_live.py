"""A training that runs shows its rows to DVC, and to TensorBoard on request; no output tells."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from conftest import Project
from test_pipeline_interrupted import stage_of, start

from stages.lib.command import UserError
from stages.networks.live import showing
from stages.networks.runtime import tf

pytestmark = pytest.mark.usefixtures("tensorflow")

ROWS = [
    {"epoch": 1, "accuracy": 0.5, "loss": 1.25, "val_accuracy": 0.25, "val_loss": 1.5},
    {"epoch": 2, "accuracy": 0.75, "loss": 0.123456789, "val_accuracy": 0.5, "val_loss": 1.0},
]
LAST, CURVES = "data/live/metrics/cnn.json", "data/live/curves/cnn.csv"
SIGNAL = ".dvc/tmp/exps/run/DVCLIVE_STEP_COMPLETED"


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def rows_of(project: Project) -> int:
    path = project.folder / CURVES
    return len(pd.read_csv(path)) if path.exists() else 0


def hold(project: Project, dvc: "subprocess.Popen[str]", rows: int) -> psutil.Process:
    """Stops the training of `dvc` once it shows so many rows, and returns its process."""
    wait_until(lambda: rows_of(project) >= rows)
    stage = stage_of(dvc)
    stage.suspend()
    return stage


def metrics_of_experiments(project: Project) -> dict[str, Any]:
    """Returns the live metrics that `dvc exp show` has, by experiment; it prints no warning."""
    workspace, head = json.loads(project.run("dvc", "exp", "show", "--json"))
    found = {"workspace": workspace["data"], "HEAD": head["data"]}
    for experiment in head["experiments"] or []:
        found[experiment["name"]] = experiment["revs"][0]["data"]
    return {
        name: {path: file["data"] for path, file in data["metrics"].items() if "live" in path}
        for name, data in found.items()
    }


@pytest.fixture
def longer(project: Project) -> Project:
    """The tiny project before a training of many epochs."""
    project.set_param("models.cnn.training.epochs", 150)
    project.run("git", "commit", "--all", "--quiet", "--message=Train for long")
    return project


@pytest.mark.long
def test_dvc_shows_the_rows_of_a_training_that_runs_and_of_one_that_goes_on(
    longer: Project,
) -> None:
    dvc = start(longer)
    hold(longer, dvc, rows=3)
    row = json.loads((longer.folder / LAST).read_text())
    assert {"epoch", "accuracy", "loss", "val_accuracy", "val_loss"} == set(row)
    assert metrics_of_experiments(longer) == {"workspace": {LAST: row}, "HEAD": {}}
    shown = json.loads(longer.run("dvc", "metrics", "show", "--json"))
    assert shown[""]["data"][LAST]["data"] == row
    plots = json.loads(longer.run("dvc", "plots", "show", "--json"))["data"]
    [plot] = plots[CURVES]
    values = plot["content"]["data"]["values"]
    assert {value["field"] for value in values} == {"accuracy", "val_accuracy"}
    assert len(values) == 2 * row["epoch"]
    assert (longer.folder / SIGNAL).exists()
    os.killpg(dvc.pid, signal.SIGKILL)
    dvc.wait(60)

    # Killed, it shows what it has; it goes on with all rows, the first included.
    (longer.folder / CURVES).unlink()
    dvc = start(longer)
    stage = hold(longer, dvc, rows=row["epoch"])
    epochs = list(pd.read_csv(longer.folder / CURVES)["epoch"])
    assert epochs == list(range(1, len(epochs) + 1))
    stage.resume()
    os.killpg(dvc.pid, signal.SIGINT)
    dvc.communicate(timeout=60)
    assert not [path for path in (LAST, CURVES, SIGNAL) if (longer.folder / path).exists()]

    longer.repro("train@cnn")
    assert metrics_of_experiments(longer)["workspace"] == {}
    assert longer.repro("train@cnn") == set()
    assert longer.run("git", "status", "--porcelain", "--", "data/live") == ""


@pytest.mark.long
def test_dvc_shows_the_rows_of_an_experiment_that_runs_in_a_folder_of_its_own(
    project: Project,
) -> None:
    dvc = subprocess.Popen(
        [
            *("dvc", "exp", "run", "--temp", "--name", "aside"),
            *("-S", "models.cnn.training.epochs=150", "train@cnn"),
        ],
        cwd=project.folder,
        env=project.environment | {"TENSORBOARD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_until((project.folder / SIGNAL).exists)  # here: VS Code watches no other folder
    stage = stage_of(dvc)
    stage.suspend()
    shown = metrics_of_experiments(project)
    assert shown["workspace"] == shown["HEAD"] == {}
    assert shown["aside"][LAST]["epoch"] >= 1
    stage.resume()
    dvc.communicate(timeout=300)
    assert dvc.returncode == 0
    assert metrics_of_experiments(project) == {"workspace": {}, "HEAD": {}, "aside": {}}
    assert len(events(project.folder / "data/tensorboard/aside/cnn/train")) == 150


def events(folder: Path) -> dict[int, dict[str, float]]:
    """Returns what TensorBoard's one file in `folder` holds: step, name, value."""
    [file] = folder.iterdir()
    return {
        event.step: {value.tag: value.simple_value for value in event.summary.value}
        for event in tf.compat.v1.train.summary_iterator(str(file))
        if event.summary.value
    }


@pytest.mark.long
def test_tensorboard_gets_all_rows_if_asked_and_the_outputs_have_the_same_bytes(
    project: Project, tmp_path: Path
) -> None:
    for model in ("dense", "cnn"):
        project.set_param(f"models.{model}.training.batch_size", 10)
    asked = project.copy(tmp_path / "asked/project")
    asked.environment["TENSORBOARD"] = "1"
    for each in (project, asked):
        trainings = {"train@dense", "train@cnn"}
        assert each.repro(*trainings) == trainings
    assert not (project.folder / "data/tensorboard").exists()
    assert (project.folder / "dvc.lock").read_bytes() == (asked.folder / "dvc.lock").read_bytes()
    for model, unit in (("dense", "step"), ("cnn", "epoch")):
        history = pd.read_csv(asked.folder / f"data/history/{model}.csv", index_col=unit)
        for part, prefix in (("train", ""), ("validation", "val_")):
            found = events(asked.folder / "data/tensorboard" / model / part)
            expected = history[[f"{prefix}accuracy", f"{prefix}loss"]].set_axis(
                ["accuracy", "loss"], axis="columns"
            )
            pd.testing.assert_frame_equal(
                pd.DataFrame.from_dict(found, orient="index"),
                expected,
                check_names=False,
                check_dtype=False,
                rtol=1e-5,
            )


def test_all_rows_are_shown_with_the_last_in_few_digits_and_go_however_the_training_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    Path(".dvc/tmp").mkdir(parents=True)
    with suppress(UserError), showing("cnn") as show:
        show(ROWS[:1])
        show(ROWS)
        assert json.loads(Path(LAST).read_text()) == ROWS[1] | {"loss": 0.1235}
        assert list(pd.read_csv(CURVES)["loss"]) == [1.25, 0.123457]
        assert json.loads(Path(SIGNAL).read_text()) == {"pid": os.getpid(), "step": 2}
        raise UserError("the training diverged")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("value", ["", "0"])
def test_tensorboard_gets_nothing_where_it_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("TENSORBOARD", value)
    with showing("cnn") as show:
        show(ROWS)
    assert not Path("data/tensorboard").exists()


def test_tensorboard_forgets_an_earlier_training_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("TENSORBOARD", "1")
    for rows in (ROWS, ROWS[:1]):
        with showing("cnn") as show:
            show(rows)
    assert events(Path("data/tensorboard/cnn/validation")) == {1: {"accuracy": 0.25, "loss": 1.5}}
