"""Work on other machines: an executor whose workers are those of a Dask cluster.

Where `DASK_SCHEDULER_ADDRESS` is set, `prepare` sends photographs to the cluster's workers, and the
trainings run there. The scheduler and the workers are Dask's own, started in a checkout of this
project: docs/cluster.md says how. Those with other versions or other code are refused by name.
"""

import asyncio
import hashlib
import logging
import os
import pickle
import platform
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from stages.lib.command import UserError

if TYPE_CHECKING:
    from distributed import Client

ADDRESS = "DASK_SCHEDULER_ADDRESS"
STAGES = Path(__file__).parent.parent
# What the bytes depend on, and what the machines talk to each other with.
PACKAGES = (
    *("tensorflow", "keras", "numpy", "opencv-python-headless", "pillow", "simplejpeg", "h5py"),
    *("pandas", "dask", "distributed"),
)
TIMEOUT = 20.0  # seconds, in which the scheduler answers, and the first worker joins


def address() -> str:
    """Returns the address of the scheduler; it is empty where all is to run on this machine."""
    return os.environ.get(ADDRESS, "").strip()


@cache
def describe() -> dict[str, str]:
    """Returns what a process runs: the versions, and a hash of each module of the project.

    A worker describes itself once, at its first task: what it loaded is what counts, even if the
    files change later.
    """
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    for path in sorted(STAGES.rglob("*.py")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found[path.relative_to(STAGES.parent).as_posix()] = digest
    return found


def check(name: str, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Raises a `UserError` that refuses the process `name` if it runs anything else."""
    differs = [key for key in expected if found.get(key) != expected[key]]
    differs += sorted(found.keys() - expected.keys())
    if not differs:
        return
    versions = [key for key in differs if not key.endswith(".py")]
    if versions:
        has = ", ".join(f"{key} {found.get(key, 'unknown')}" for key in versions)
        wants = ", ".join(expected.get(key, "none") for key in versions)
        raise UserError(
            f"{name} has {has}, expected {wants} as here: install the same requirements there, and "
            "start it anew"
        )
    more = f" and {len(differs) - 1} more files" if len(differs) > 1 else ""
    raise UserError(
        f"{name} has other code than this project ({differs[0]}{more}): check out the same commit "
        "there, and start it anew"
    )


def call(expected: Mapping[str, str], packed: bytes) -> Any:
    """Calls a function on a worker, if that runs what the sender runs.

    Args:
        expected: What the sender runs: see `describe`.
        packed: The function, its arguments and its keyword arguments, pickled: the scheduler, which
            unpickles all else, has nothing to do with them.
    """
    check(f"the worker {this_worker()}", describe(), expected)
    function, arguments, keywords = pickle.loads(packed)  # noqa: S301  # Dask itself pickles all
    return function(*arguments, **keywords)


def this_worker() -> str:
    """Returns the name of the worker that runs this, and of its machine."""
    from distributed import get_worker

    worker = get_worker()
    return f"{worker.name} on {socket.gethostname()}"


class Workers(Executor):
    """Runs functions on the workers of a cluster. The functions are those of modules.

    Args:
        client: Connected to the scheduler.
        resources: What a worker must offer, by Dask's names of resources.
    """

    def __init__(self, client: "Client", resources: Mapping[str, float]):
        self.client = client
        # Not `pure`: Dask would hash the arguments, and take equal calls of two stages for one.
        self._executor = client.get_executor(pure=False, resources=dict(resources))

    def submit(  # noqa: D102
        self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any
    ) -> Future[Any]:
        packed = pickle.dumps((function, arguments, keywords))
        future: Future[Any] = self._executor.submit(call, describe(), packed)
        return future


@contextmanager
def workers(wanted: Mapping[str, float] | None = None) -> Iterator[Workers]:
    """Yields an executor on the cluster at `address`.

    What was submitted and is not done when the block ends, or raises, is cancelled.

    Args:
        wanted: What a worker should offer, by Dask's names of resources. If none of the workers
            offers it, any will do.

    Raises:
        UserError: Dask is not installed; the scheduler does not answer, or goes away; there is no
            worker; a worker or the scheduler has other versions or other code; or a task ended
            four workers.
    """
    try:
        from distributed import KilledWorker
        from distributed.client import ClosedClientError
        from distributed.comm import CommClosedError
    except ImportError:
        raise UserError(
            f"{ADDRESS} is set, and Dask is not installed: run `pip install -r "
            "requirements-cluster.txt`, or unset it to work on this machine alone"
        ) from None
    for logger in ("distributed", "distributed.client"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # errors come as exceptions
    where = f"the scheduler at {address()}"
    gone = UserError(
        f"{where} is gone; no output was changed: start it and its workers, and rerun, or unset "
        f"{ADDRESS} to work on this machine alone"
    )
    try:
        client = _connect()
    except (OSError, ValueError) as error:
        reason = str(error) or "it accepts connections and is silent"
        raise UserError(
            f"{where} does not answer within {TIMEOUT:.0f} s ({reason}): start it, correct "
            f"{ADDRESS}, or unset it to work on this machine alone"
        ) from None
    ended = Event()
    Thread(target=_watch, args=(client, ended), daemon=True).start()
    try:
        offered = _check(client, where)
        resources = wanted if wanted and wanted.keys() <= offered else {}
        yield Workers(client, resources)
    except (CancelledError, CommClosedError, ClosedClientError):
        raise gone from None
    except KilledWorker as error:
        raise UserError(
            f"four workers ended over the same task, the last is {error.last_worker.address}: "
            "their logs say why; most often it is too little memory"
        ) from None
    except ModuleNotFoundError as error:
        if error.name != "stages":
            raise
        raise _without_code("a worker that joined meanwhile", error) from None
    finally:
        ended.set()
        with suppress(TimeoutError):  # a scheduler that is gone does not say good-bye
            client.close(timeout=5)


async def _ask() -> None:
    """Greets the scheduler; raises an `OSError` if it is away or silent.

    Dask's own client waits for its greeting for ever.
    """
    from distributed.comm import connect
    from distributed.security import Security

    options = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address(), timeout=TIMEOUT, **options), TIMEOUT)
    comm.abort()


def _connect() -> "Client":
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    asyncio.run(_ask())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)  # `_check` names what differs
        return Client(address(), timeout=TIMEOUT, set_as_default=False)


def _watch(client: "Client", ended: Event) -> None:
    """Drops the connection to a scheduler that is silent, so that all that waits for it ends."""
    while not ended.wait(TIMEOUT / 2):
        try:
            asyncio.run(_ask())
        except OSError:
            client.loop.add_callback(client.scheduler_comm.abort)
            return


def _check(client: "Client", where: str) -> set[str]:
    """Refuses processes that run anything else, and returns what the workers offer together."""
    try:
        client.wait_for_workers(1, timeout=TIMEOUT)
    except TimeoutError:
        raise UserError(
            f"{where} has no worker: start one, and wait until it has joined, or unset {ADDRESS} "
            "to work on this machine alone"
        ) from None
    known = client.scheduler_info()["workers"]
    answers = client.run(describe, on_error="return")
    names = {
        worker: f"the worker {known[worker]['name']} on {known[worker]['host']}"
        for worker in answers
        if worker in known
    }
    try:
        answers = {where: client.run_on_scheduler(describe), **answers}
    except Exception as error:  # Dask wraps what it is
        answers = {where: error, **answers}
    for process, answer in answers.items():
        name = names.get(process, process)
        if isinstance(answer, OSError):
            continue  # it has left meanwhile
        if isinstance(answer, Exception):
            raise _without_code(name, answer)
        check(name, answer, describe())
    return {name for worker in known.values() for name in worker["resources"]}


def _without_code(name: str, reason: Exception) -> UserError:
    return UserError(
        f"{name} does not find this project's code ({reason}): start it as `python -m dask` in a "
        "checkout of the same commit"
    )
