"""A `dvc repro` that is killed goes on from the last epoch, to the bytes of one that was not."""

import hashlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from conftest import Project

OUTPUTS = ("data/models/cnn.keras", "data/history/cnn.csv")
EPOCHS = 100


def digests(project: Project) -> list[str]:
    return [hashlib.sha256((project.folder / path).read_bytes()).hexdigest() for path in OUTPUTS]


def start(project: Project) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["dvc", "repro", "train@cnn"],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def stage_of(dvc: subprocess.Popen[str]) -> psutil.Process:
    """Returns the process of the training that `dvc` runs."""
    [stage] = [
        child
        for child in psutil.Process(dvc.pid).children(recursive=True)
        if "stages.train" in child.cmdline()
    ]
    return stage


def wait_for(path: Path, times: int = 1) -> None:
    """Waits until `path` has been written anew so many times from now on."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    end = time.monotonic() + 120
    while times:
        assert time.monotonic() < end, f"{path} was not written"
        time.sleep(0.001)
        written = path.stat().st_mtime_ns if path.exists() else before
        if written != before:
            before, times = written, times - 1


@pytest.fixture(scope="module")
def uninterrupted(
    reproduced: Project, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, list[str]]:
    """A project whose longer training of `cnn` is still to come, and the bytes it must give."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    project = reproduced.copy(folder / "project")
    project.set_param("models.cnn.training.epochs", EPOCHS)
    whole = project.copy(folder / "whole/project")
    assert whole.repro("train@cnn") == {"train@cnn"}
    return project, digests(whole)


@pytest.fixture
def project(uninterrupted: tuple[Project, list[str]], tmp_path: Path) -> Project:
    """A copy of that project, its longer training still to come."""
    return uninterrupted[0].copy(tmp_path / "project")


@pytest.fixture
def expected(uninterrupted: tuple[Project, list[str]]) -> list[str]:
    return uninterrupted[1]


@pytest.mark.long
def test_a_training_killed_again_and_again_goes_on_to_the_same_bytes(
    project: Project, expected: list[str]
) -> None:
    state = project.folder / "data/checkpoints/cnn/state.npz"
    moments = random.Random(0)  # noqa: S311
    for killed in ("dvc", "stage", "group", "dvc"):
        dvc = start(project)
        # Counted in epochs, so that a fast machine does not finish first.
        wait_for(state, times=moments.randint(1, 10))
        time.sleep(moments.uniform(0, 0.02))
        stage = stage_of(dvc)
        if killed == "dvc":
            dvc.kill()
        elif killed == "stage":
            stage.kill()
        else:
            os.killpg(dvc.pid, signal.SIGKILL)
        dvc.wait(60)
        psutil.wait_procs([stage], timeout=10)
        assert not stage.is_running(), "the stage outlived its dvc"
        assert not (project.folder / OUTPUTS[0]).exists()
    printed = project.run("dvc", "repro", "train@cnn")
    assert "going on after row" in printed
    assert digests(project) == expected
    assert not state.parent.exists()
    assert not [path for path in project.folder.rglob("*.part*") if ".dvc" not in path.parts]


@pytest.mark.long
def test_ctrl_c_ends_with_a_line_and_loses_no_epoch(project: Project, expected: list[str]) -> None:
    dvc = start(project)
    wait_for(project.folder / "data/checkpoints/cnn/state.npz")
    os.killpg(dvc.pid, signal.SIGINT)
    printed, _ = dvc.communicate(timeout=60)
    assert "interrupted: no output was changed; `dvc repro` runs this stage again" in printed
    assert "Traceback" not in printed
    assert dvc.returncode != 0
    assert "going on after row" in project.run("dvc", "repro", "train@cnn")
    assert digests(project) == expected


def test_a_second_training_of_the_same_model_is_refused(
    project: Project,
) -> None:
    dvc = start(project)
    wait_for(project.folder / "data/checkpoints/cnn/state.npz")
    stage_of(dvc).suspend()
    printed = project.run("python", "-m", "stages.train", "cnn", fails=True)
    assert "error: another process is training cnn: wait for it, or stop it" in printed
    os.killpg(dvc.pid, signal.SIGKILL)
    dvc.wait(60)
