"""Runs stages that do not need each other at the same time: `make reproduce JOBS=n`.

DVC runs one stage after another. This command asks it once which stages have changed, and starts
`dvc repro --single-item` for each of them and each below them, once those above it are done. DVC
skips a stage whose inputs then have the bytes that they had, and its lock keeps each `dvc` out
while another one reads or writes its files: only the stages themselves run at the same time. The
outputs and `dvc.lock` have the bytes of a plain run.

A stage that fails stops those below it alone. They are named at the end, and the rest is recorded.
Where models train on GPUs, each stage has one of them to itself. Where `DASK_SCHEDULER_ADDRESS` is
set, the GPUs are the workers' own.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from queue import SimpleQueue

from dvc.dvcfile import PROJECT_FILE, load_file
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

from stages.kept.state import DVC_LOCK, mend_state
from stages.lib import cluster, params
from stages.lib.command import UserError, run
from stages.lib.files import write_atomically

# Starts a `dvc` in a process group of its own, so that Ctrl-C reaches this command alone, which
# then ends it. The kernel ends it with this command (1 is PR_SET_PDEATHSIG), as a stage ends with
# its `dvc`. Between fork and exec, a process with threads must not run Python: so a program does.
START = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp(sys.argv[2], sys.argv[2:])
"""
# What DVC says where another `dvc`, not one of these, has locked what a stage needs.
BUSY = re.compile(r"ERROR: .*(Unable to acquire lock|is busy, it is being blocked)")
# What DVC says after each stage, whatever that did.
ADVICE = re.compile(r"To (track the changes|enable auto)|\t(git add|dvc config) |Use `dvc push`")
TRIES, PAUSE = 20, 3.0  # seconds
GRACE = 20.0  # seconds to end in, after Ctrl-C


def plan(repo: Repo) -> tuple[list[str], dict[str, set[str]]]:
    """Returns all stages in the order of a plain run and, of those to run, the ones above each."""
    with lock_repo(repo):
        graph = get_active_graph(repo.index.graph)
        stages = plan_repro(graph, collect_stages(repo, [PROJECT_FILE]))
        changed = repo.status()
    above: dict[str, set[str]] = {}
    for stage in stages:
        upstream = {each.addressing for each in graph.successors(stage)} & above.keys()
        if upstream or stage.addressing in changed:
            above[stage.addressing] = upstream
    return [stage.addressing for stage in stages], above


class Children:
    """The `dvc` processes of this command.

    Args:
        options: Of `dvc repro`.
        gpus: As `CUDA_VISIBLE_DEVICES` names them: each process has one. Empty: they have all.
    """

    def __init__(self, options: list[str], gpus: Iterable[str]):
        self._options = options
        self._gpus: SimpleQueue[str] = SimpleQueue()
        for gpu in gpus:
            self._gpus.put(gpu)
        self._has_gpus = not self._gpus.empty()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ending = threading.Event()

    def run(self, stage: str) -> bool:
        """Runs a stage, prints its lines behind its name, and returns whether all went well."""
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}  # its lines come when they are printed
        if self._has_gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus.get()
        try:
            for _ in range(TRIES):
                status, busy = self._try(stage, environment)
                if status == 0 or not busy or self._ending.wait(PAUSE):
                    break
            return status == 0
        finally:
            if self._has_gpus:
                self._gpus.put(environment["CUDA_VISIBLE_DEVICES"])

    def _try(self, stage: str, environment: Mapping[str, str]) -> tuple[int, bool]:
        """Returns the exit status of `dvc`, and whether another `dvc` was in its way."""
        # Without the option, a `dvc` that finds the lock taken for 3 s when its stage ends throws
        # the outputs away.
        dvc = ["dvc", "--wait-for-lock", "repro", "--single-item", *self._options, stage]
        with self._lock:
            if self._ending.is_set():
                return 1, False
            process = subprocess.Popen(
                [sys.executable, "-c", START, str(os.getpid()), *dvc],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
            self._running.add(process)
        busy = False
        for line in process.stdout or ():
            # Of a bar that overwrites itself, the last state.
            text = line.decode(errors="replace").rstrip().rpartition("\r")[2]
            busy = busy or bool(BUSY.match(text))
            if text and not ADVICE.match(text) and not self._ending.is_set():
                print(f"{stage}: {text}\n", end="", flush=True)  # at once, in one piece
        with self._lock:  # once asked for, its number can be another process's
            status = process.wait()
            self._running.remove(process)
        return status, busy

    def end(self) -> None:
        """Ends all of them as Ctrl-C ends a `dvc`, and after a while what did not end by it."""
        self._ending.set()
        end = time.monotonic() + GRACE
        self._signal(signal.SIGINT)
        while self._alive() and time.monotonic() < end:
            time.sleep(0.05)
        self._signal(signal.SIGKILL)

    def _alive(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in list(self._running) if process.poll() is None]

    def _signal(self, number: signal.Signals) -> None:
        """Sends a signal to each `dvc` and its stage, which is in the same process group."""
        with self._lock:
            for process in self._alive():
                os.killpg(process.pid, number)


def run_stages(
    above: Mapping[str, set[str]], jobs: int, children: Children
) -> tuple[list[str], list[str]]:
    """Runs the stages, `jobs` at once; returns those that failed, and those thus not run."""
    sorter = TopologicalSorter(above)
    sorter.prepare()
    order = list(above)
    left, failed = set(above), set()
    running: dict[Future[bool], str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while True:
                for stage in sorted(sorter.get_ready(), key=order.index):
                    running[pool.submit(children.run, stage)] = stage
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    stage = running.pop(future)
                    left.remove(stage)
                    if future.result():
                        sorter.done(stage)
                    else:
                        failed.add(stage)
        except BaseException:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # it is under way
            pool.shutdown(wait=False, cancel_futures=True)
            children.end()
            raise
    return sorted(failed, key=order.index), sorted(left, key=order.index)


def find_gpus() -> list[str]:
    """Returns the GPUs that the models may use, as `CUDA_VISIBLE_DEVICES` names them."""
    settings = params.load()
    if cluster.address():
        return []  # a training takes those of its worker
    if all(settings.get(key, {}).get("device") == "cpu" for key in ("training", "evaluation")):
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu for gpu in chosen.split(",") if gpu.strip() and not gpu.startswith("-")]
    try:  # TensorFlow would take seconds to count them, and memory of each
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    except OSError:
        return []
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))]


def put_in_order(repo: Repo, names: Iterable[str]) -> None:
    """Sorts the entries of `dvc.lock` by `names`: DVC appends what is new when it is done."""
    with lock_repo(repo):
        if not DVC_LOCK.exists():
            return
        lock = parse_yaml_for_update(DVC_LOCK.read_text(encoding="utf-8"), DVC_LOCK)
        places = {name: place for place, name in enumerate(names)}
        entries = lock["stages"]
        order = sorted(entries, key=lambda name: places.get(name, len(places)))
        if order == list(entries):
            return
        lock["stages"] = {name: entries[name] for name in order}
        with write_atomically(DVC_LOCK) as [part]:
            part.write_text(dumps_yaml(lock), encoding="utf-8")


def parse(arguments: tuple[str, ...]) -> argparse.Namespace:
    """Returns the command's arguments; ends the process with status 2 if they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m stages.side_by_side")
    parser.add_argument("--jobs", required=True, help="how many stages run at once")
    parser.add_argument("--pull", action="store_true", help="as `dvc repro` does")
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[1-9]\d{0,3}", options.jobs, re.ASCII):
        raise UserError(
            f"JOBS is '{options.jobs}', expected how many stages may run at once: 1 or more"
        )
    return options


def reproduce(jobs: int, pull: bool) -> None:
    """Runs what has changed in the project in the current folder, `jobs` stages at once.

    Raises:
        UserError: A stage failed.
    """
    gpus = find_gpus()
    repo = Repo()
    order, above = plan(repo)
    if not above:
        print("Data and pipelines are up to date.")
        return
    recorded = load_file(repo, PROJECT_FILE).lockfile_contents.get("stages", {})
    children = Children(["--pull"] * pull, gpus)
    try:
        failed, left = run_stages(above, min(jobs, len(gpus) or jobs), children)
    except KeyboardInterrupt:
        for line in mend_state():
            print(line)
        sys.exit("interrupted: what was done is recorded; `make reproduce` goes on")
    finally:
        # As in a plain run, the entries that were there keep their places.
        put_in_order(repo, dict.fromkeys([*recorded, *order]))
    if failed:
        needing = f"; not run, since they need it: {', '.join(left)}" if left else ""
        raise UserError(f"these stages failed: {', '.join(failed)}{needing}")


def main(*arguments: str) -> None:
    """Runs what has changed, and ends all of it on Ctrl-C and on SIGTERM."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        reproduce(int(options.jobs), options.pull)
    except LockError:
        raise UserError("another dvc works here: wait for it") from None
    except DvcException as error:
        raise UserError(f"DVC cannot read this project: {error}") from None


if __name__ == "__main__":
    run(main)
