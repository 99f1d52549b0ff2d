"""Runs a stage on a worker of the cluster, in the project's folder, which the machines share.

The worker starts the stage as a process of its own, which trains as it does on one machine. If the
worker dies, the process ends with it, and Dask gives the task to another one: the training goes on
from its last state, which is in the shared folder. The process also ends with the stage here.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Thread

from stages.lib import params
from stages.lib.cluster import ADDRESS, this_worker, workers
from stages.lib.command import INTERRUPTED, UserError
from stages.lib.files import write_atomically

# Seconds. A client of NFS may show a folder for a minute as it was, and a server of NFS 4 frees
# what a dead machine locked after 90.
SHOWN_WITHIN, FREED_WITHIN = 65.0, 120.0
PAUSE = 0.5  # seconds
# Of the stage here, for that on the worker: DVC's, and the user's.
SENT = ("DVC_", "TENSORBOARD")


def run_elsewhere(module: str, *arguments: str, checkpoint: Path, outputs: list[Path]) -> None:
    """Runs `python -m module arguments` on a worker, and prints its lines.

    Where workers offer the resource `GPU`, it is one of those, unless `training.device` is `cpu`.

    Args:
        module: The stage.
        arguments: The stage's own.
        checkpoint: The folder in which the stage saves and locks its state.
        outputs: What the stage writes.

    Raises:
        UserError: What the stage itself raises there; or the cluster fails, see `workers`.
    """
    device = (params.load().get("training") or {}).get("device")
    proof, secret = checkpoint / "sender", uuid.uuid4().hex
    with write_atomically(proof) as [part]:
        part.write_text(secret, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key.startswith(SENT)}
    environment.setdefault("DVC_STAGE", module)  # so that it ends with its parent
    with workers({"GPU": 1} if device != "cpu" else None) as executor:
        topic = f"{module}-{secret}"
        executor.client.subscribe_topic(topic, lambda event: print(event[1], flush=True))
        sizes = executor.submit(
            run_here,
            Path.cwd(),
            [module, *arguments],
            environment,
            checkpoint,
            secret,
            outputs,
            topic,
        ).result()
    _wait_until_here(sizes)


def run_here(
    folder: Path,
    command: list[str],
    environment: dict[str, str],
    checkpoint: Path,
    secret: str,
    outputs: list[Path],
    topic: str,
) -> dict[Path, int]:
    """Runs a stage on this worker, and returns the sizes of the files that it wrote.

    Args:
        folder: The project's folder, on the sender as here.
        command: The stage and its arguments.
        environment: What the stage is to have besides the worker's own.
        checkpoint: See `run_elsewhere`.
        secret: What the sender wrote into the folder `checkpoint`.
        outputs: See `run_elsewhere`.
        topic: Where the sender waits for lines.
    """
    from dask import config
    from distributed import Reschedule, get_worker

    worker = get_worker()
    _check_shared(folder / checkpoint / "sender", secret, folder)
    worker.log_event(topic, f"on the worker {this_worker()}")
    _wait_until_free(folder / checkpoint / "lock")
    # Dask gives its workers a thread of OpenMP and of BLAS each; the stage has what it has alone.
    dasks_own = {ADDRESS, *config.get("distributed.nanny.pre-spawn-environ")}
    own = {key: value for key, value in os.environ.items() if key not in dasks_own}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=own | environment | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    key, ended = worker.get_current_task(), Event()

    def end_with_sender() -> None:
        while not ended.wait(PAUSE):
            task = worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                process.kill()
                return

    watch = Thread(target=end_with_sender, daemon=True)
    watch.start()
    last = ""
    for line in process.stdout or ():
        # Of a bar that overwrites itself, the last state.
        last = line.decode(errors="replace").rstrip().rpartition("\r")[2]
        if not last.startswith("error: "):
            worker.log_event(topic, last)
    status = process.wait()
    ended.set()
    watch.join()
    if status == -signal.SIGTERM or last == INTERRUPTED:
        raise Reschedule  # somebody ends all that runs here: Slurm, or Ctrl-C
    if status == -signal.SIGKILL:
        raise UserError(
            f"the stage was killed on the worker {this_worker()}, most often for too little memory "
            "there; no output was changed: rerun"
        )
    if status:
        words = last.removeprefix("error: ") or f"exit status {status}"
        raise UserError(f"{words} (on the worker {this_worker()})")
    written = [file for path in outputs for file in (folder / path, *(folder / path).rglob("*"))]
    return {path.relative_to(folder): path.stat().st_size for path in written if path.is_file()}


def _check_shared(sender: Path, secret: str, folder: Path) -> None:
    """Raises a `UserError` if this machine does not see what the sender wrote."""
    end = time.monotonic() + (SHOWN_WITHIN if folder.is_dir() else 0)
    while not (sender.is_file() and sender.read_text(encoding="utf-8") == secret):
        if time.monotonic() > end:
            raise UserError(
                f"the worker {this_worker()} does not see this project: mount {folder} there, "
                "under the same path"
            )
        time.sleep(PAUSE)


def _wait_until_free(lock: Path) -> None:
    """Waits for a training that ends, since its worker or its sender is gone."""
    end = time.monotonic() + FREED_WITHIN
    while time.monotonic() < end:
        try:
            with lock.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            time.sleep(PAUSE)  # at the end, the stage itself says who is in its way


def _wait_until_here(sizes: Mapping[Path, int]) -> None:
    """Waits until this machine sees the files of these sizes that a worker wrote."""
    end = time.monotonic() + SHOWN_WITHIN
    for path, size in sizes.items():
        while not path.is_file() or path.stat().st_size != size:
            if time.monotonic() > end:
                raise UserError(
                    f"{path}, which a worker wrote, is not here: is this folder the one that the "
                    "workers share?"
                )
            time.sleep(PAUSE)
