"""DVC's own small files, which a killed `dvc` leaves half-written.

DVC empties `dvc.lock` and `.dvc/tmp/rwlock` and then writes them anew. A `dvc` that is killed in
between leaves nothing or a part of them, and each later `dvc` fails with 'validation failed' or
'JSON structure is corrupted'. It also stumbles over what it left in the run cache, the record of
which params gave which outputs: a folder without an entry, or a temporary file in it. And it holds
what a dead `dvc` had locked for as long as anything has that one's process number: a zombie, which
in a container may stay for good, or another program.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import yaml
from dvc.config import Config, ConfigError
from dvc.lock import LockError, make_lock

from stages.lib.command import UserError

DVC_LOCK = Path("dvc.lock")
TEMPORARY = Path(".dvc/tmp")
RWLOCK = TEMPORARY / "rwlock"
FILES = ("deps", "outs")  # of a stage in dvc.lock
# What DVC holds while it writes dvc.lock, and while it writes rwlock.
LOCKS = ("lock", "rwlock.lock")
AN_HOUR = 3600  # seconds
# DVC's names for files that it has not yet written to their end.
UNFINISHED = re.compile(r"\.[\w-]{22}\.tmp")


def mend_state(mend: bool = True) -> list[str]:
    """Mends DVC's own files, and returns a line for each fault of a killed `dvc`.

    Nothing is lost: what `dvc.lock` recorded after the last commit, the run cache has too. While
    another `dvc` works here, nothing is half-written for good, so nothing is touched.

    Args:
        mend: Whether to mend them, or only to say which they are.
    """
    if not Path(".dvc").is_dir():
        raise UserError("there is no .dvc here: run from the project's top folder")
    try:
        config = Config(".dvc")
    except ConfigError as error:
        raise UserError(f"DVC cannot read its settings: {error}") from None
    cache = Path(config["cache"].get("dir") or ".dvc/cache")
    TEMPORARY.mkdir(exist_ok=True)
    hard = config["core"].get("hardlink_lock", False)
    locks = [make_lock(str(TEMPORARY / n), str(TEMPORARY), hardlink_lock=hard) for n in LOCKS]
    try:
        with locks[0], locks[1]:
            return [*_rwlock(mend), *_dvc_lock(mend), *_run_cache(cache / "runs", mend)]
    except LockError:
        return []


def _rwlock(mend: bool) -> Iterator[str]:
    try:
        held = json.loads(RWLOCK.read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        if mend:
            RWLOCK.unlink()
        yield f"{RWLOCK} was half-written by a killed dvc: {'removed' if mend else 'remove it'}"
        return
    # Of each path one that writes, or a list of those that read.
    readers = [reader for of_path in held.get("read", {}).values() for reader in of_path]
    holders = {int(each["pid"]) for each in [*held.get("write", {}).values(), *readers]}
    # DVC itself drops those whose number nothing has.
    dead = [number for number in sorted(holders) if psutil.pid_exists(number)]
    if dead and not any(map(is_alive, dead)):
        if mend:
            RWLOCK.unlink()
        names = ", ".join(map(str, dead))
        yield f"{RWLOCK} names a dead dvc ({names}): {'removed' if mend else 'remove it'}"


def is_alive(number: int) -> bool:
    """Returns whether the process of this number can be one of those that wrote rwlock."""
    try:
        process = psutil.Process(number)
        command = process.cmdline()
        # One that has ended keeps its number, without its command line, until its parent asks.
        if process.status() == psutil.STATUS_ZOMBIE or not command:
            return False
        # The clock may have been set since: what looks like a dvc counts as one.
        started, written = process.create_time(), RWLOCK.stat().st_mtime
        return started <= written or any("dvc" in word for word in command)
    except psutil.AccessDenied:  # another user's
        return True
    except psutil.Error:
        return False


def _dvc_lock(mend: bool) -> Iterator[str]:
    if not DVC_LOCK.exists() or _is_whole(DVC_LOCK.read_bytes()):
        return
    done = "restore it"
    if mend:
        command = ["git", "checkout", "--quiet", "--", str(DVC_LOCK)]
        git = subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
        if git.returncode == 0 and _is_whole(DVC_LOCK.read_bytes()):
            done = "restored from Git"
        else:
            DVC_LOCK.unlink()
            done = "removed"
    yield (
        f"{DVC_LOCK} was half-written by a killed dvc: {done}; `dvc repro` takes what is newer "
        "from its cache"
    )


def _is_whole(content: bytes) -> bool:
    # A part of it may be valid too, such as one that ends within a hash, or before the values of a
    # key. The last line of a whole one says something of an output, such as its size.
    if not content.endswith(b"\n") or content.endswith(b":\n"):
        return False
    # Git's, after a merge: no killed dvc wrote them, and both sides are still wanted.
    if b"\n>>>>>>> " in content:
        return True
    try:
        # DVC's own parser and schema take four times as long to load and read it.
        stages = yaml.load(content, yaml.CSafeLoader)["stages"].values()
        files = [file for stage in stages for kind in FILES for file in stage.get(kind, ())]
        return all("cmd" in stage for stage in stages) and all("path" in file for file in files)
    except (yaml.YAMLError, LookupError, TypeError, AttributeError):
        return False


def _run_cache(folder: Path, mend: bool) -> Iterator[str]:
    """Yields a line for each entry's folder that is empty or has an unfinished file."""
    # In a cache outside the project, another one may be writing at this moment.
    own = folder.resolve().is_relative_to(Path(".dvc").resolve())
    since = time.time() - (0 if own else AN_HOUR)
    for entry in sorted(folder.glob("*/*/")):
        if entry.stat().st_mtime > since:
            continue
        names = [path.name for path in entry.iterdir()]
        unfinished = [name for name in names if UNFINISHED.search(name)]
        if names and not unfinished:
            continue
        if mend:
            for name in unfinished:
                (entry / name).unlink()
            with suppress(OSError):  # it has other entries
                entry.rmdir()
        yield f"{entry} was half-written by a killed dvc: {'removed' if mend else 'remove it'}"
