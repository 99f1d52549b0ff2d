"""Two people share a project by Git and a remote: what is run again, and what a merge asks for."""

from pathlib import Path

import pytest
from conftest import Project


@pytest.fixture(scope="module")
def shared(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project, pushed with Git and with DVC.

    A colleague has pushed a branch `theirs`, in which the digits' network trains for longer.
    """
    top = tmp_path_factory.mktemp("shared")
    project = reproduced.copy(top / "project")
    project.run("dvc", "remote", "add", "--default", "storage", str(top / "storage"))
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message=Share")
    project.run("dvc", "push", "--quiet", "--run-cache")
    project.run("git", "clone", "--quiet", "--bare", ".", str(top / "origin.git"))
    project.run("git", "remote", "add", "origin", str(top / "origin.git"))

    colleague = project.copy(top / "colleague")
    colleague.run("git", "switch", "--quiet", "--create", "theirs")
    colleague.set_param("models.dense.training.steps", 12)
    assert "train@dense" in colleague.repro()
    commit(colleague, "Train for longer")
    colleague.run("dvc", "push", "--quiet", "--run-cache")
    colleague.run("git", "push", "--quiet", "origin", "theirs")
    return project


@pytest.fixture
def clone(shared: Project, tmp_path: Path) -> Project:
    """A fresh clone of it, without any data."""
    return clone_of(shared, tmp_path / "clone")


def clone_of(project: Project, folder: Path, *options: str) -> Project:
    origin = project.run("git", "remote", "get-url", "origin").strip()
    project.run("git", "clone", "--quiet", *options, origin, str(folder))
    return Project(folder)


def commit(project: Project, message: str) -> None:
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", f"--message={message}")


def assert_clean(project: Project) -> None:
    assert project.run("git", "status", "--porcelain") == ""
    assert "Data and pipelines are up to date." in project.run("dvc", "status")


def test_what_a_colleague_ran_and_pushed_runs_nowhere_again(clone: Project) -> None:
    assert clone.repro("--pull") == set()
    assert_clean(clone)
    clone.set_param("models.dense.training.steps", 12)
    assert clone.repro("--pull") == set()
    for output in ("dvc.lock", "reports/metrics", "reports/accuracy.csv", "reports/history.csv"):
        clone.run("git", "diff", "--exit-code", "origin/theirs", "--", output)


def test_without_dvc_lock_all_comes_from_the_remote(clone: Project) -> None:
    (clone.folder / "dvc.lock").unlink()
    assert clone.repro("--pull") == set()
    assert_clean(clone)


def test_git_for_windows_changes_no_dependency(shared: Project, tmp_path: Path) -> None:
    clone = clone_of(shared, tmp_path / "clone", "--config", "core.autocrlf=true")
    clone.run("dvc", "pull", "--quiet")
    assert_clean(clone)


@pytest.mark.long
def test_two_branches_with_different_models_merge_and_only_the_report_runs(
    shared: Project, tmp_path: Path
) -> None:
    project = shared.copy(tmp_path / "project")
    project.set_param("models.cnn.published.valid_accuracy", 0.7)
    project.repro()
    commit(project, "Another published figure")
    project.run("git", "fetch", "--quiet")

    printed = project.run("git", "merge", "origin/theirs", fails=True)
    assert "CONFLICT" in printed
    for file in project.run("git", "diff", "--name-only", "--diff-filter=U").split():
        assert "<<<<<<<" not in (project.folder / file).read_text(), file
    assert project.repro("--pull") == {"report"}
    project.run("git", "commit", "--all", "--quiet", "--message=Merge")
    assert_clean(project)
    table = (project.folder / "reports/accuracy.csv").read_text()
    assert ",12 steps," in table
    assert ",0.7," in table
    # The merge has what a run from nothing would write.
    lock = (project.folder / "dvc.lock").read_text()
    project.repro("--force", "--single-item", "report")
    assert (project.folder / "dvc.lock").read_text() == lock


@pytest.mark.long
def test_what_another_branch_left_here_does_not_reach_this_ones_lock(
    shared: Project, tmp_path: Path
) -> None:
    project = shared.copy(tmp_path / "project")
    project.run("git", "switch", "--quiet", "--create", "more")
    params = project.read_params()
    params["models"]["another"] = params["models"]["dense"]
    params["datasets"]["more"] = params["datasets"]["digits"]
    project.write_params(params)
    assert "train@another" in project.repro()
    commit(project, "One more model")

    project.run("git", "switch", "--quiet", "main")
    assert project.repro() == {"report"}
    assert_clean(project)
    project.run("git", "switch", "--quiet", "more")
    assert project.repro() == set(), "the other branch's results are restored"
    assert_clean(project)


@pytest.mark.long
def test_a_renamed_model_leaves_a_teammates_status_clean(shared: Project, tmp_path: Path) -> None:
    teammate = clone_of(shared, tmp_path / "teammate")
    teammate.run("dvc", "pull", "--quiet")
    project = shared.copy(tmp_path / "project")
    project.run("git", "switch", "--quiet", "--create", "renamed")
    params = project.read_params()
    params["models"]["thick"] = params["models"].pop("dense")
    project.write_params(params)
    project.repro()
    commit(project, "A better name")
    project.run("dvc", "push", "--quiet")
    project.run("git", "push", "--quiet", "origin", "renamed")

    teammate.run("git", "pull", "--quiet", "origin", "renamed")
    teammate.run("dvc", "pull", "--quiet")
    assert_clean(teammate)
    assert not (teammate.folder / "data/predictions/dense").exists()


def test_a_stray_file_of_the_system_changes_nothing(shared: Project, tmp_path: Path) -> None:
    project = shared.copy(tmp_path / "project")
    for name in ("data/arrays/digits/.DS_Store", "data/splits/.qX3fRZv4zVXv.tmp"):
        (project.folder / name).touch()
    assert_clean(project)
