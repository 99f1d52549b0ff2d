"""A recipe of several phases, which keeps the best epoch, shows in metrics, tables and pages."""

import csv
import hashlib
import json
from typing import Any

import pytest
from conftest import Project

pytestmark = pytest.mark.slow

PHASE: dict[str, Any] = {"optimizer": "Adam", "batch_size": 20, "epochs": 2}


@pytest.mark.long
def test_phases_their_metrics_and_the_epoch_that_was_kept_are_reported(project: Project) -> None:
    best = {"restore_best": "val_loss", "metrics": ["AUC"], "loss": "CategoricalFocalCrossentropy"}
    project.set_param("models.dense.training", [PHASE | {"trainable_from": "head"}, PHASE | best])
    assert project.repro() == {"train@dense", "evaluate@dense", "plot@dense", "report"}
    with (project.folder / "data/history/dense.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    [kept] = [row for row in rows if row["kept"] == "1"]
    metrics = json.loads((project.folder / "reports/metrics/dense.json").read_text())
    assert metrics["kept"] == int(kept["epoch"])
    # The model that was saved is the one of that row.
    assert metrics["valid_accuracy"] == pytest.approx(float(kept["val_accuracy"]), abs=1e-4)
    assert metrics["valid_auc"] == pytest.approx(float(kept["val_auc"]), abs=1e-3)
    assert 0 <= metrics["test_auc"] <= 1
    with (project.folder / "reports/accuracy.csv").open() as file:
        [row] = [row for row in csv.DictReader(file) if row["model"] == "dense"]
    assert row["trained_for"] == f"4 epochs, epoch {kept['epoch']} kept"
    assert "up to date" in project.run("dvc", "status")


def fine_tune(project: Project, **network: Any) -> None:
    frozen, thawed = PHASE | {"trainable_from": "head"}, PHASE | {"trainable_from": "all"}
    project.set_param(
        "fine_tuned.tuned",
        {
            "dataset": "pictures",
            "network": {"start_from": "cnn", "head": [{"Dense": {"units": 4}}]} | network,
            "training": [frozen, thawed],
        },
    )


def hash_model(project: Project) -> str:
    return hashlib.sha256((project.folder / "data/models/tuned.keras").read_bytes()).hexdigest()


TUNED = {"fine_tune@tuned", "evaluate_fine_tuned@tuned", "plot_fine_tuned@tuned", "report"}


@pytest.mark.long
def test_what_starts_from_a_model_runs_again_when_that_changes(project: Project) -> None:
    fine_tune(project)
    assert project.repro() == TUNED
    assert "up to date" in project.run("dvc", "status")
    first = hash_model(project)
    with (project.folder / "reports/accuracy.csv").open() as file:
        models = {row["model"] for row in csv.DictReader(file) if row["parameters"]}
    assert models == {"cnn", "dense", "tuned"}
    assert "tuned" in project.run("dvc", "metrics", "show")

    project.run("dvc", "repro", "--force", "--single-item", "fine_tune@tuned")
    assert hash_model(project) == first

    fine_tune(project, head=[{"Dense": {"units": 5}}])
    assert project.repro() == TUNED
    project.set_param("models.cnn.training.epochs", 1)
    assert project.repro() == {"train@cnn", "evaluate@cnn", "plot@cnn"} | TUNED
    project.set_param("exports", {"tuned": ["savedmodel"]})
    assert project.repro() == {"export@tuned"}
    # Every command that takes a model's name takes this one.
    [picture] = sorted((project.folder / "reports/figures/tuned").iterdir())[:1]
    assert "tuned" in project.run("python", "-m", "stages.classify", "tuned", str(picture))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fine_tuned.tuned.network.start_from", "cn", "no model 'cn'; did you mean 'cnn'?"),
        ("fine_tuned.tuned.network", {"layers": ["Flatten"]}, "start_from is missing: name a mod"),
        ("models.dense.network.start_from", "cnn", "move dense to the section `fine_tuned`"),
        ("fine_tuned.tuned.network.start_from", "tuned", "no model 'tuned'"),
    ],
)
def test_a_model_in_the_wrong_section_is_said_in_one_line(
    project: Project, key: str, value: Any, message: str
) -> None:
    fine_tune(project)
    project.set_param(key, value)
    printed = project.run("python", "-m", "stages.split", "digits", fails=True)
    assert message in printed
    assert len(printed.splitlines()) == 1


def test_metrics_and_history_say_the_same_of_the_model_that_is_saved(project: Project) -> None:
    for name in ("dense", "cnn"):
        with (project.folder / f"data/history/{name}.csv").open() as file:
            last = list(csv.DictReader(file))[-1]
        metrics = json.loads((project.folder / f"reports/metrics/{name}.json").read_text())
        for part in ("accuracy", "loss"):
            found = float(last[f"val_{part}"])
            assert metrics[f"valid_{part}"] == pytest.approx(found, abs=1e-4), (name, part)
