"""Commits and experiments are compared with DVC's own commands, in a clone without data too."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

from stages.lib import params
from stages.networks.recipe import Recipe

IN_GIT = {"ensembles", "live", "timing"}  # of data/


@pytest.fixture(scope="module")
def two_commits(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project with one more commit: the digits' network trained for longer."""
    project = reproduced.copy(tmp_path_factory.mktemp("commits") / "project")
    project.set_param("models.dense.training.steps", 12)
    project.repro()
    project.run("git", "commit", "--all", "--quiet", "--message=Train for longer")
    return project


@pytest.fixture(scope="module")
def clone(two_commits: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A fresh clone of it, without any data."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    two_commits.run("git", "clone", "--quiet", str(two_commits.folder), str(folder))
    assert {path.name for path in (folder / "data").iterdir()} == IN_GIT
    return Project(folder)


def test_a_clone_without_data_is_known_to_be_up_to_date(clone: Project) -> None:
    printed = clone.run("dvc", "repro", "--dry", "--allow-missing")
    assert "Running stage" not in printed
    assert "Data and pipelines are up to date." in printed


def test_a_clone_without_data_shows_its_metrics_in_few_digits(clone: Project) -> None:
    shown = json.loads(clone.run("dvc", "metrics", "show", "--json"))
    files = shown[""]["data"]
    assert set(files) == {"reports/metrics/dense.json", "reports/metrics/cnn.json"}
    for file in files.values():
        assert {"valid_accuracy", "test_accuracy", "valid_loss", "test_loss"} <= set(file["data"])
        for value in file["data"].values():
            assert value == round(value, 4)


def test_a_clone_without_data_compares_commits(clone: Project) -> None:
    metrics = json.loads(clone.run("dvc", "metrics", "diff", "HEAD~1", "--json"))
    assert set(metrics) == {"reports/metrics/dense.json"}
    changed = json.loads(clone.run("dvc", "params", "diff", "HEAD~1", "--json"))
    assert set(changed["params.yaml"]) == {"models.dense.training.steps"}
    clone.run("dvc", "exp", "show", "--json")


def test_one_picture_holds_all_models_curves_of_both_commits(clone: Project) -> None:
    printed = clone.run("dvc", "plots", "diff", "HEAD~1", "--json")
    plots = json.loads(printed)["data"]["reports/history.csv"]
    revisions, models = set(), set()
    for plot in plots:
        content = (
            json.loads(plot["content"]) if isinstance(plot["content"], str) else plot["content"]
        )
        assert content["encoding"]["color"]["field"] == "model"
        assert content["encoding"]["strokeDash"]["field"] == "rev"
        for row in content["data"]["values"]:
            revisions.add(row["rev"])
            models.add(row["model"])
    assert models == {"dense", "cnn"}
    assert revisions == {"HEAD~1", "workspace"}


def experiments(project: Project) -> dict[str, Any]:
    [shown] = [
        entry
        for entry in json.loads(project.run("dvc", "exp", "show", "--json"))
        if entry["rev"] != "workspace"
    ]
    return {
        experiment["name"]: experiment["revs"][0]["data"]["params"]["params.yaml"]["data"]
        for experiment in shown["experiments"] or []
    }


@pytest.mark.long
def test_an_experiment_is_run_shown_applied_and_branched(
    two_commits: Project, tmp_path: Path
) -> None:
    project = two_commits.copy(tmp_path / "project")
    printed = project.run(
        "dvc", "exp", "run", "--name", "short", "-S", "models.cnn.training.epochs=1"
    )
    assert "train@cnn" in printed
    assert "Running stage 'train@dense'" not in printed
    key = "models.cnn.training"
    assert params.read(key, Recipe, project.folder / "params.yaml").epochs == 1
    assert experiments(project)["short"]["models"]["cnn"]["training"]["epochs"] == 1

    project.run("git", "checkout", "--quiet", "--force", ".")
    project.run("dvc", "checkout")
    assert params.read(key, Recipe, project.folder / "params.yaml").epochs == 2
    assert project.repro() == set(), "all is as it was before the experiment"
    project.run("dvc", "exp", "apply", "short")
    assert params.read(key, Recipe, project.folder / "params.yaml").epochs == 1
    project.run("dvc", "exp", "branch", "short", "shorter")
    assert "shorter" in project.run("git", "branch", "--list")


@pytest.mark.long
def test_a_grid_is_queued_and_run(two_commits: Project, tmp_path: Path) -> None:
    project = two_commits.copy(tmp_path / "project")
    project.run(*("dvc", "exp", "run", "--queue", "-S", "models.dense.training.batch_size=8,32"))
    project.run("dvc", "queue", "start")
    for _ in range(120):
        status = project.run("dvc", "queue", "status")
        if status.count("Success") == 2:
            break
        assert "Failed" not in status, project.run("dvc", "queue", "logs")
        time.sleep(2)
    project.run("dvc", "queue", "stop")
    sizes = {
        values["models"]["dense"]["training"]["batch_size"]
        for values in experiments(project).values()
    }
    assert sizes == {8, 32}
