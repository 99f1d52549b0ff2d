"""`make reproduce JOBS=n` runs stages at the same time, and gives the bytes of a plain run."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import TOP, Project
from ruamel.yaml import YAML

from stages.lib.command import UserError
from stages.side_by_side import parse

SIDE_BY_SIDE = ("python", "-m", "stages.side_by_side")
UP_TO_DATE = "Data and pipelines are up to date.\n"


def side_by_side(project: Project, *options: str, jobs: int = 3, fails: bool = False) -> str:
    return project.run(*SIDE_BY_SIDE, f"--jobs={jobs}", *options, fails=fails)


def start(project: Project) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SIDE_BY_SIDE, "--jobs=3"],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def trained_now(processes: list[psutil.Process]) -> set[str]:
    """Returns the models that the processes train."""
    found = set()
    for process in processes:
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if "stages.train" in command:
            found.add(command[-1])
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Returns what a run writes, but for the seconds that trainings took."""
    paths = [folder / "dvc.lock"]
    paths += [p for top in ("data", "reports", ".dvc/cache") for p in (folder / top).rglob("*")]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in paths
        if path.is_file() and path.parent != folder / "data/timing"
    }


@pytest.mark.long
def test_all_outputs_and_dvc_lock_have_the_bytes_of_a_plain_run_though_trainings_overlap(
    project: Project,
) -> None:
    plain = files(project.folder)
    project.run("git", "rm", "--quiet", "dvc.lock")
    shutil.rmtree(project.folder / ".dvc/cache")
    for name in ("raw", "arrays", "splits", "models", "history", "predictions"):
        shutil.rmtree(project.folder / "data" / name)
    project.run("git", "checkout", "--quiet", "HEAD", "data")
    run = start(project)
    at_once: set[str] = set()
    while run.poll() is None and len(at_once) < 2:
        at_once = trained_now(below(run))
        time.sleep(0.1)
    printed, _ = run.communicate(timeout=600)
    assert run.returncode == 0, printed
    assert at_once == {"dense", "cnn"}
    assert files(project.folder) == plain
    assert side_by_side(project) == UP_TO_DATE
    assert project.repro() == set()


def test_a_model_that_fails_is_named_at_the_end_and_the_others_are_recorded(
    project: Project,
) -> None:
    project.set_param("models.cnn.training.optimizer", {"Madam": {}})
    project.set_param("models.dense.published.test_accuracy", 0.8)
    lines = side_by_side(project, fails=True).splitlines()
    assert lines[-1] == (
        "error: these stages failed: train@cnn; "
        "not run, since they need it: evaluate@cnn, plot@cnn, report"
    )
    [reason] = [line for line in lines if line.startswith("train@cnn: error: ")]
    assert "Madam" in reason
    assert sum("Running stage 'train@cnn'" in line for line in lines) == 1
    assert "plot@dense: Running stage 'plot@dense':" in lines
    assert project.repro("plot@dense") == set()


@pytest.mark.long
def test_what_ends_it_leaves_no_process_and_nothing_half_written(project: Project) -> None:
    params = project.read_params()
    dense, cnn = (params["models"][name]["training"] for name in ("dense", "cnn"))
    del dense["steps"], dense["every"]
    dense["epochs"] = cnn["epochs"] = 150
    project.write_params(params)
    states = [project.folder / f"data/checkpoints/{name}/state.npz" for name in ("dense", "cnn")]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        before = [path.stat().st_mtime_ns if path.exists() else 0 for path in states]
        run = start(project)
        end = time.monotonic() + 120
        while any(
            not path.exists() or path.stat().st_mtime_ns == then
            for path, then in zip(states, before, strict=True)
        ):
            assert time.monotonic() < end
            time.sleep(0.01)
        processes = below(run)
        assert trained_now(processes) == {"dense", "cnn"}
        run.send_signal(number)
        printed, _ = run.communicate(timeout=60)
        assert run.returncode
        assert "Traceback" not in printed
        if number != signal.SIGKILL:
            last = "interrupted: what was done is recorded; `make reproduce` goes on"
            assert printed.splitlines()[-1] == last
            assert not any(process.is_running() for process in processes)
        assert not psutil.wait_procs(processes, timeout=10)[1]
        assert YAML(typ="safe").load(project.folder / "dvc.lock")["stages"]
    project.run("python", "-m", "stages.recover")
    assert "going on after row" in project.run("dvc", "repro", "train@cnn")
    assert not [path for path in project.folder.rglob("*.part*") if ".dvc" not in path.parts]


def shell(project: Project, stages: Mapping[str, Any]) -> None:
    """Gives the project stages that are commands of the shell; each writes a file of its name."""
    entries = {
        name: {"cmd": cmd, "deps": list(deps), "outs": [name]}
        for name, (cmd, *deps) in stages.items()
    }
    YAML().dump({"stages": entries}, project.folder / "dvc.yaml")


@pytest.fixture
def small(tmp_path: Path) -> Project:
    """A project without the pipeline's own stages; DVC is the real one."""
    project = Project(tmp_path / "project")
    project.folder.mkdir()
    project.environment["PYTHONPATH"] = str(TOP)
    project.write_params({"training": {"device": "cpu"}, "evaluation": {"device": "cpu"}})
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    return project


@pytest.mark.long
def test_no_entry_of_dvc_lock_is_lost_and_their_order_is_that_of_a_plain_run(
    small: Project, tmp_path: Path
) -> None:
    first = {f"a{i}": (f"echo {i} > a{i}",) for i in (2, 1)}
    shell(small, first)
    small.repro()
    # The first of them end last, and two at the same time.
    more = {f"b{i}": (f"sleep {(5 - i) // 2}; echo {i} > b{i}", "a1") for i in range(5)}
    shell(small, {**more, **first, "c": ("cat b0 b1 > c", "b0", "b1")})
    plain = small.copy(tmp_path / "plain/project")
    plain.repro()
    side_by_side(small, jobs=5)
    lock = (small.folder / "dvc.lock").read_bytes()
    assert lock == (plain.folder / "dvc.lock").read_bytes()
    names = list(YAML(typ="safe").load(lock)["stages"])
    assert names == ["a2", "a1", "b0", "b1", "b2", "b3", "b4", "c"]


@pytest.mark.slow
def test_each_line_comes_whole_behind_the_name_of_its_stage_and_a_bar_in_its_last_state(
    small: Project,
) -> None:
    words = "for i in 1 2 3 4 5; do printf 'half '; sleep 0.1; echo $i; done"
    shell(small, {n: (f"{words}; printf '1%%\\r2%%\\r3%%\\n'; echo > {n}",) for n in "ab"})
    lines = side_by_side(small).splitlines()
    for name in "ab":
        own = [line for line in lines if line.startswith(f"{name}: ")]
        whole = [line for line in own if line.startswith(f"{name}: half")]
        assert whole == [f"{name}: half {i}" for i in range(1, 6)]
        assert f"{name}: 3%" in own
    assert all(re.match("[ab]: ", line) for line in lines)


@pytest.mark.slow
def test_each_stage_has_a_gpu_to_itself(small: Project, tmp_path: Path) -> None:
    small.set_param("training.device", "auto")
    programs = tmp_path / "programs"
    programs.mkdir()
    listed = "\n".join(f"GPU {i}: NVIDIA H200 (UUID: GPU-{i}a-b)" for i in range(2))
    (programs / "nvidia-smi").write_text(f"#!/bin/sh\necho '{listed}'\n")
    (programs / "nvidia-smi").chmod(0o755)
    small.environment["PATH"] = f"{programs}{os.pathsep}{small.environment['PATH']}"
    small.environment.pop("CUDA_VISIBLE_DEVICES", None)
    take = "mkdir taken$CUDA_VISIBLE_DEVICES; echo on $CUDA_VISIBLE_DEVICES"
    cmd = f"{take}; sleep 1; rmdir taken$CUDA_VISIBLE_DEVICES; echo > "
    shell(small, {name: (cmd + name,) for name in "abcd"})
    printed = side_by_side(small, jobs=4)
    assert "File exists" not in printed
    assert set(re.findall(r"^\w: on (.*)", printed, re.MULTILINE)) == {"0", "1"}
    # The user's own choice; and none of it where all trains on the CPU.
    for device, chosen, seen in (("gpu", "7", {"7"}), ("cpu", "7,8", {"7,8"})):
        small.set_param("training.device", device)
        small.environment["CUDA_VISIBLE_DEVICES"] = chosen
        cmd = f"echo on $CUDA_VISIBLE_DEVICES {device}; echo > "
        shell(small, {name: (cmd + name,) for name in "ab"})
        printed = side_by_side(small)
        assert set(re.findall(rf"^\w: on (.*) {device}", printed, re.MULTILINE)) == seen


@pytest.mark.slow
def test_it_waits_for_what_another_dvc_has_locked(small: Project) -> None:
    shell(small, {"a": ("sleep 3; echo > a",), "b": ("cp a b", "a")})
    rwlock = small.folder / ".dvc/tmp/rwlock"
    output = str(small.folder / "b")
    holder = {"pid": os.getpid(), "cmd": "dvc repro"}
    # One that is there from the start.
    rwlock.write_text(json.dumps({"write": {output: holder}}))
    printed = side_by_side(small, fails=True)
    assert printed == "error: another dvc works here: wait for it\n"
    rwlock.unlink()
    # And one that comes later.
    run = start(small)
    assert run.stdout
    lines = iter(run.stdout.readline, "")
    assert "a: Running stage 'a':\n" in lines
    held = json.loads(rwlock.read_bytes())
    rwlock.write_text(json.dumps(held | {"write": held["write"] | {output: holder}}))
    assert any("is busy" in line for line in lines)
    rwlock.unlink()
    assert "b: Running stage 'b':\n" in lines
    run.communicate(timeout=60)
    assert run.returncode == 0
    assert small.repro() == set()


@pytest.mark.slow
def test_with_a_remote_it_brings_what_others_ran(small: Project, tmp_path: Path) -> None:
    shell(small, {"a": ("echo > a",), "b": ("echo > b",), "c": ("cat a b > c", "a", "b")})
    small.repro()
    small.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    small.run("dvc", "push", "--quiet", "--run-cache")
    shutil.rmtree(small.folder / ".dvc/cache")
    for name in "abc":
        (small.folder / name).unlink()
    assert "Running stage" not in side_by_side(small, "--pull")
    assert (small.folder / "c").exists()


@pytest.mark.parametrize("jobs", ["0", "-2", "1.5", "two", ""])
def test_jobs_that_are_no_positive_number_are_refused(jobs: str) -> None:
    with pytest.raises(UserError, match=f"^JOBS is '{jobs}', expected how many stages may run"):
        parse((f"--jobs={jobs}",))
