"""Stages on a Dask cluster: a real scheduler and real workers on loopback."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from conftest import TOP, Project
from pages import blocks
from photograph_files import shade, write_tree
from ruamel.yaml import YAML

from stages.lib import cluster
from stages.lib.command import UserError
from stages.lib.elsewhere import run_here
from stages.prepare import FILES
from stages.sources.batches import AHEAD_BYTES, BATCH_FILES, decode_batch, decode_in_batches

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.slow


class Cluster:
    """A scheduler and workers, each a process group of its own; the logs are in `folder`."""

    def __init__(self, folder: Path, code: Path = TOP):
        self.folder, self.code = folder, code
        folder.mkdir()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._file = folder / "scheduler.json"
        own = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self._file))
        self._start("scheduler", code, {}, "scheduler", *own, "--no-dashboard", "--no-show")
        wait_until(lambda: self._file.exists() and self._file.read_text().endswith("}"))
        self.address = json.loads(self._file.read_text())["address"]
        self.environment = {cluster.ADDRESS: self.address}

    def _start(self, name: str, code: Path, more: dict[str, str], *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                cwd=code,
                env=os.environ | more,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def add(self, *names: str, options: tuple[str, ...] = ("--no-nanny",), **more: Any) -> None:
        """Starts workers, and waits until they have joined."""
        code, environment = more.get("code", self.code), more.get("environment", {})
        own = ("--nthreads=1", "--no-dashboard", "--local-directory", str(self.folder), *options)
        for name in names:
            self._start(name, code, environment, "worker", self.address, f"--name={name}", *own)
        with distributed.Client(self.address, set_as_default=False) as client:
            wait_until(lambda: set(names) <= self._joined(client))

    @staticmethod
    def _joined(client: Any) -> set[str]:
        return {worker["name"] for worker in client.scheduler_info()["workers"].values()}

    def busy(self) -> set[str]:
        """Returns the workers that have a task now."""
        with distributed.Client(self.address, set_as_default=False) as client:
            known = client.scheduler_info()["workers"]
            return {known[at]["name"] for at, tasks in client.processing().items() if tasks}

    def kill(self, name: str) -> None:
        """Ends a process as a machine ends that loses its power."""
        self.processes[name].kill()
        self.processes[name].wait()

    def end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_until(holds: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Starts a cluster with the workers of these names; it ends with the test."""
    started: list[Cluster] = []

    def start(*names: str, code: Path = TOP, **more: Any) -> Cluster:
        started.append(Cluster(tmp_path / f"cluster{len(started)}", code))
        started[-1].add(*names, **more)
        return started[-1]

    yield start
    for one in started:
        one.end()


def stage(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(TOP)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], fails: bool = False) -> str:
    printed, _ = process.communicate(timeout=300)
    assert (process.returncode != 0) == fails, printed
    return printed


def write_pets(folder: Path, photographs: dict[str, Any], **more: str) -> None:
    """Writes a project with one dataset, downloaded."""
    raw = folder / "data/raw/pets"
    write_tree(raw / "train.zip", photographs)
    (raw / "origin.txt").write_text("here\n")
    options = {"format": "photos", "image_size": 32, "interpolation": "area", "max_broken": 0.1}
    YAML().dump({"datasets": {"pets": {"prepare": options | more}}}, folder / "params.yaml")


def prepared(folder: Path) -> dict[str, bytes]:
    arrays = folder / "data/arrays/pets"
    found = {path.name: path.read_bytes() for path in arrays.iterdir()}
    assert found.keys() == set(FILES)
    return found


def large(number: int) -> bytes:
    """A photograph that takes some hundredths of a second to decode."""
    rng = np.random.default_rng(number)
    image = cv2.resize(rng.integers(0, 256, (30, 40, 3), np.uint8), (1600, 1200))
    return cv2.imencode(".jpg", image)[1].tobytes()


def test_prepare_on_three_workers_writes_the_bytes_of_one_machine(
    start: Callable[..., Cluster], tmp_path: Path
) -> None:
    jpeg = large(0)
    tree = {f"train/{('cat', 'dog')[i % 2]}.{i}.png": shade(i) for i in range(100)}
    tree |= {"train/cat.200.jpg": jpeg, "train/dog.201.jpg": jpeg[: len(jpeg) // 2]}
    tree |= {"train/cat.202.jpg": b"", "train/dog.203.png": shade(1), "test1/7.png": shade(7)}
    for where in ("here", "there"):
        write_pets(tmp_path / where, tree)
    here = finish(stage(tmp_path / "here", "stages.prepare", "pets"))
    workers = start("a", "b", "c")
    there = finish(stage(tmp_path / "there", "stages.prepare", "pets", **workers.environment))
    assert prepared(tmp_path / "there") == prepared(tmp_path / "here")
    assert there.splitlines()[-1] == here.splitlines()[-1]


@pytest.mark.long
def test_prepare_writes_the_same_bytes_though_a_worker_is_killed(
    start: Callable[..., Cluster], tmp_path: Path
) -> None:
    tree = {f"{('cat', 'dog')[i % 2]}/{i}.jpg": large(i) for i in range(600)}
    for where in ("here", "there"):
        write_pets(tmp_path / where, tree)
    finish(stage(tmp_path / "here", "stages.prepare", "pets"))
    workers = start("a", "b", "c")
    run = stage(tmp_path / "there", "stages.prepare", "pets", **workers.environment)
    wait_until(lambda: "b" in workers.busy())
    workers.kill("b")
    assert run.poll() is None
    finish(run)
    assert prepared(tmp_path / "there") == prepared(tmp_path / "here")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_prepare_ends_with_a_line_and_without_an_output_where_the_scheduler_dies_or_is_silent(
    number: signal.Signals, start: Callable[..., Cluster], tmp_path: Path
) -> None:
    write_pets(tmp_path / "there", {f"{c}/{i}.jpg": large(i) for i in range(300) for c in "ab"})
    workers = start("a")
    run = stage(tmp_path / "there", "stages.prepare", "pets", **workers.environment)
    wait_until(workers.busy)
    workers.processes["scheduler"].send_signal(number)
    killed = time.monotonic()
    printed = finish(run, fails=True)
    assert time.monotonic() - killed < 60
    assert f"\nerror: the scheduler at {workers.address} is gone; no output was changed" in printed
    assert "Traceback" not in printed
    assert not list((tmp_path / "there/data/arrays/pets").iterdir())


def decode_on(
    workers: Cluster, files: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[int, tuple[bytes, str]]]:
    monkeypatch.syspath_prepend(str(TOP / "tests/programs"))
    monkeypatch.setenv(cluster.ADDRESS, workers.address)
    from decode_slowly import decode_slowly

    with cluster.workers() as executor:
        contents = ((number, b"%d" % number) for number in range(files))
        yield from decode_in_batches(contents, decode_slowly, executor, 1000)


def test_a_slow_worker_does_not_hold_the_others(
    start: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = {"PYTHONPATH": str(TOP / "tests/programs")}
    workers = start("a", "b", environment=path)
    workers.add("slow", environment=path | {"SECONDS_PER_FILE": "0.1"})  # 3.2 s a batch
    found = list(decode_on(workers, 64 * 32, monkeypatch))
    assert [(name, content) for name, (content, _) in found] == [
        (number, b"%d" % number) for number in range(64 * 32)
    ]
    by_slow = sum(worker == "slow" for _, (_, worker) in found)
    assert 0 < by_slow <= 4 * 32  # of 64 batches


class Unfinished(Future[Any]):
    def result(self, timeout: float | None = None) -> Any:
        raise TimeoutError(timeout)


class HeldUp(Executor):
    """All that it is given is done at once, but for the first."""

    submitted = 0

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future() if self.submitted else Unfinished()
        if self.submitted:
            future.set_result([None])
        self.submitted += 1
        return future


def test_what_is_done_behind_a_slow_batch_takes_a_bounded_memory() -> None:
    held_up = HeldUp()
    contents = ((number, b"x") for number in range(100_000))
    with pytest.raises(TimeoutError):  # it waits for the first at last
        list(decode_in_batches(contents, len, held_up, 1_000_000))
    assert AHEAD_BYTES / 2 < held_up.submitted * BATCH_FILES * 1_000_000 < 2 * AHEAD_BYTES


def test_too_little_memory_on_a_worker_names_the_photograph() -> None:
    def decode(_: bytes) -> None:
        raise MemoryError

    with pytest.raises(UserError, match=r"^cat\.jpg: too little memory to decode it"):
        decode_batch(["cat.jpg"], [shade(0)], decode)


def connect(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cluster.ADDRESS, address)
    with cluster.workers():
        pass


def test_a_scheduler_that_does_not_answer_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "TIMEOUT", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port} does not answer within 2 s"):
            connect(f"tcp://127.0.0.1:{port}", monkeypatch)
    with pytest.raises(UserError, match=f"127.0.0.1:{port} does not answer within 2 s"):
        connect(f"tcp://127.0.0.1:{port}", monkeypatch)
    for wrong in ("nowhere.invalid:8786", "http://127.0.0.1", "tcp://", "8786"):
        with pytest.raises(UserError, match=f"{wrong} does not answer"):
            connect(wrong, monkeypatch)


def test_a_cluster_without_a_worker_is_an_error(
    start: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "TIMEOUT", 3.0)
    with pytest.raises(UserError, match="has no worker: start one"):
        connect(start().address, monkeypatch)


def test_a_process_with_another_version_is_refused_by_name(
    start: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in (("keras", "9.9.9"), ("opencv_python_headless", "1.2.3")):
        info = tmp_path / f"other/{name}-{version}.dist-info"
        info.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (info / "METADATA").write_text(text)
    workers = start("good")
    connect(workers.address, monkeypatch)
    workers.add("old", environment={"PYTHONPATH": str(tmp_path / "other")})
    own = cluster.describe()
    with pytest.raises(UserError) as refused:
        connect(workers.address, monkeypatch)
    assert str(refused.value) == (
        "the worker old on 127.0.0.1 has keras 9.9.9, opencv-python-headless 1.2.3, expected "
        f"{own['keras']}, {own['opencv-python-headless']} as here: install the same requirements "
        "there, and start it anew"
    )


def copy_code(folder: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TOP / "stages", folder / "stages", ignore=ignore)
    return folder


def test_a_process_with_other_code_or_none_is_refused_by_name(
    start: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copy_code(tmp_path / "other")
    with (other / "stages/sources/pixels.py").open("a") as file:
        file.write("\n")
    workers = start("good")
    workers.add("edited", code=other)
    with pytest.raises(UserError, match=r"the worker edited on \S+ has other code .*pixels\.py"):
        connect(workers.address, monkeypatch)
    workers.kill("edited")
    bare = tmp_path / "bare"
    bare.mkdir()
    workers.add("bare", code=bare)
    with pytest.raises(UserError, match=r"the worker bare on \S+ does not find .*in a checkout"):
        connect(workers.address, monkeypatch)
    elsewhere = start(code=bare)
    elsewhere.add("good", code=TOP)
    with pytest.raises(UserError, match=rf"scheduler at {elsewhere.address} does not find"):
        connect(elsewhere.address, monkeypatch)


def test_a_worker_that_joins_later_is_refused_too(
    start: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copy_code(tmp_path / "other")
    (other / "stages/plot.py").unlink()
    workers = start("good")
    monkeypatch.setenv(cluster.ADDRESS, workers.address)
    with cluster.workers() as executor:
        workers.add("late", code=other)
        sent = [executor.submit(time.sleep, 0.2) for _ in range(20)]
        errors = {str(future.exception()) for future in sent} - {"None"}
    [refused] = errors
    assert re.match(r"the worker late on \S+ has other code .*stages/plot\.py", refused)


def test_a_worker_that_does_not_see_the_folder_is_refused_by_name(
    start: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cluster.ADDRESS, start("far").address)
    nowhere = Path("/nowhere/project")
    with cluster.workers() as executor:
        sent = executor.submit(run_here, nowhere, ["x"], {}, Path("state"), "secret", [], "topic")
        with pytest.raises(UserError, match=r"the worker far on \S+ does not see .*mount /nowhere"):
            sent.result()


def test_without_dask_the_error_names_the_requirements(tmp_path: Path) -> None:
    write_pets(tmp_path, {"cat/1.png": 1, "dog/2.png": 2})
    program = (
        "import sys; sys.modules['distributed'] = None; sys.argv[1:] = ['pets']; "
        "from stages.lib.command import run; from stages.prepare import main; run(main)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(TOP), cluster.ADDRESS: "tcp://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode
    assert "pip install -r requirements-cluster.txt" in run.stderr.splitlines()[-1]


def test_nothing_of_dask_is_loaded_where_no_cluster_is_asked_for() -> None:
    program = "import sys, stages.train, stages.prepare; print('distributed' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], cwd=TOP, text=True) == "False\n"


def test_dask_knows_the_commands_of_the_page() -> None:
    shown = [block.text for block in blocks("docs/cluster.md") if block.needs == {"cluster"}]
    commands = re.findall(r"python -m dask (\w+)(.*)", "\n".join(shown))
    assert {program for program, _ in commands} == {"scheduler", "worker"}
    for program, arguments in commands:
        helps = [sys.executable, "-m", "dask", program, "--help"]
        known = subprocess.check_output(helps, text=True)
        for option in re.findall(r"--[a-z-]+", arguments):
            assert f"{option} " in known, (program, option)


# Trainings, in the tiny project. The workers start in its folder: they share it.


def retrained(project: Project, name: str, **environment: str) -> str:
    """Trains a model again by the stage alone, and returns what it prints."""
    project.environment |= environment
    return project.run("python", "-m", "stages.train", name)


def of_model(project: Project, name: str) -> dict[str, bytes]:
    paths = [f"models/{name}.keras", f"history/{name}.csv", f"snapshots/{name}.npy"]
    return {path: (project.folder / "data" / path).read_bytes() for path in paths}


def remove_model(project: Project, name: str) -> None:
    for path in (project.folder / "data").glob(f"*/{name}.*"):
        path.unlink()


def training_of(workers: Cluster, name: str) -> psutil.Process:
    """Returns the process that a worker has started to train a model."""
    started = psutil.Process(workers.processes[name].pid).children(recursive=True)
    [training] = [process for process in started if "stages.train" in process.cmdline()]
    return training


@pytest.mark.long
def test_a_training_on_a_worker_with_a_gpu_writes_the_bytes_of_one_machine(
    start: Callable[..., Cluster], project: Project
) -> None:
    here = of_model(project, "cnn")
    remove_model(project, "cnn")
    project.set_param("training.device", "auto")  # TensorFlow sees no GPU there: the bytes stay
    workers = start("plain", code=project.folder)
    workers.add("gpu", options=("--resources", "GPU=1"))  # with a nanny, as people start them
    printed = retrained(project, "cnn", **workers.environment)
    assert re.search(r"^on the worker gpu on \S+$", printed, re.MULTILINE)
    assert re.search("^device: ", printed, re.MULTILINE)
    assert of_model(project, "cnn") == here
    assert (project.folder / "data/timing/cnn.json").exists()
    assert not (project.folder / "data/checkpoints/cnn").exists()
    # What the stage itself has to say comes from there, in one line.
    project.set_param("models.cnn.training.optimizer", {"Madam": {}})
    [*_, last] = project.run("python", "-m", "stages.train", "cnn", fails=True).splitlines()
    assert re.fullmatch(r"error: params.yaml: .*Madam.* \(on the worker gpu on \S+\)", last)


def lengthen(project: Project, name: str, epochs: int) -> None:
    params = project.read_params()
    training = params["models"][name]["training"]
    for key in ("steps", "every"):
        training.pop(key, None)
    training["epochs"] = epochs
    project.write_params(params)


@pytest.mark.long
def test_a_training_whose_worker_is_killed_goes_on_elsewhere_to_the_same_bytes(
    start: Callable[..., Cluster], project: Project
) -> None:
    lengthen(project, "cnn", 60)
    retrained(project, "cnn")
    here = of_model(project, "cnn")
    remove_model(project, "cnn")
    workers = start("a", "b", code=project.folder)
    run = stage(project.folder, "stages.train", "cnn", **workers.environment)
    wait_until((project.folder / "data/checkpoints/cnn/state.npz").exists)
    [busy] = workers.busy()
    training = training_of(workers, busy)
    workers.kill(busy)
    assert not psutil.wait_procs([training], timeout=10)[1]
    printed = finish(run)
    [other] = {"a", "b"} - {busy}
    assert re.search(rf"on the worker {other} on .*going on after row \d", printed, re.DOTALL)
    assert of_model(project, "cnn") == here


@pytest.mark.long
@pytest.mark.parametrize("killed", ["the sender", "the scheduler"])
def test_a_training_ends_with_its_sender_and_with_its_scheduler(
    killed: str, start: Callable[..., Cluster], project: Project
) -> None:
    lengthen(project, "cnn", 5000)
    remove_model(project, "cnn")
    workers = start("a", code=project.folder)
    run = stage(project.folder, "stages.train", "cnn", **workers.environment)
    wait_until((project.folder / "data/checkpoints/cnn/state.npz").exists)
    training = training_of(workers, "a")
    ended = time.monotonic()
    if killed == "the sender":
        run.kill()
        run.wait()
    else:
        workers.kill("scheduler")
        last = finish(run, fails=True).splitlines()[-1]
        assert last.startswith(f"error: the scheduler at {workers.address} is gone; no output")
    assert not psutil.wait_procs([training], timeout=60)[1]
    assert time.monotonic() - ended < 60
    assert not (project.folder / "data/models/cnn.keras").exists()
    assert not list((project.folder / "data").glob("*/cnn.*"))


@pytest.mark.long
def test_two_jobs_train_two_models_on_two_workers_to_the_bytes_of_a_plain_run(
    start: Callable[..., Cluster], project: Project, tmp_path: Path
) -> None:
    lengthen(project, "cnn", 40)
    lengthen(project, "dense", 40)
    plain = project.copy(tmp_path / "plain/project")
    plain.repro("train@cnn", "train@dense")
    workers = start("a", "b", code=project.folder)
    project.environment |= workers.environment
    printed = project.run("python", "-m", "stages.side_by_side", "--jobs=2")
    trained = dict(re.findall(r"^train@(\w+): on the worker (\w) on", printed, re.MULTILINE))
    assert trained.keys() == {"cnn", "dense"}
    assert set(trained.values()) == {"a", "b"}
    for name in ("cnn", "dense"):
        assert of_model(project, name) == of_model(plain, name)
