"""Checks that all of a run is still here and whole: `make check`; `make mend` mends it.

Hashes each object of the cache that `dvc.lock` names, and each output in the workspace, and asks
the remote for them, if one is set up: whether it has them and, where it is a folder, whether they
are whole. Of another remote, it compares sizes; with `--fetch`, it reads all of that too. It also
names what a killed `dvc` or a full disk left behind. The exit status is 1 if something is wrong.

With `--mend`, it deletes what is altered, and restores it from the first place that has it whole:
cache, workspace or remote. The exit status is then 0 too if `make reproduce` makes the rest again,
so that `make mend reproduce` goes on to it.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo

from stages.kept.mending import States, mend_files
from stages.kept.outputs import File, Place, State, examine, find_strays, list_files, open_places
from stages.kept.state import RWLOCK, is_alive, mend_state
from stages.lib.command import UserError, run


def describe(states: Mapping[File, States]) -> list[str]:
    """Returns a line for each damaged file; one for a stage whose files are all damaged alike."""
    lines = []
    for stage, group in groupby(states, key=lambda file: file.stage):
        files = list(group)
        damaged = [file for file in files if is_damaged(states[file])]
        said = [_say(states[file]) for file in damaged]
        if len(damaged) == len(files) > 1 and len(set(said)) == 1:
            lines.append(f"{stage}: all {len(files)} files: {said[0]}")
        else:
            lines += [f"{stage}: {f.path}: {text}" for f, text in zip(damaged, said, strict=True)]
    return lines


def is_damaged(states: States) -> bool:
    """Returns whether a file is not whole at one of its places."""
    return any(state is not State.WHOLE for state in states.values())


def _say(states: States) -> str:
    places = {
        state: " and ".join(place for place, found in states.items() if found is state)
        for state in (State.ALTERED, State.MISSING, State.WHOLE)
    }
    return ", ".join(f"{state} in {names}" for state, names in places.items() if names)


def advise(states: Mapping[File, States], strays: bool, places: list[Place]) -> str:
    """Returns the one command that mends what was found."""
    mend, again, push = strays, False, False
    folders = {file.folder for file in states}  # whose list is known
    for file, found in states.items():
        # Git keeps a table or a metric, but its object is in the cache where the stage ran.
        copies = [*found.values(), places[0].state(file)]
        copies += [State.WHOLE] * (file.oid in folders)
        unpushed = [p for p in places[2:] if found.get(p.name) is State.MISSING]
        damaged = sum(state is not State.WHOLE for state in found.values()) - len(unpushed)
        push = push or bool(unpushed)
        again = again or State.WHOLE not in copies
        mend = mend or (damaged > 0 and {State.WHOLE, State.ALTERED} & set(copies) != set())
    targets = ["mend"] * mend + ["reproduce"] * again
    return " && ".join([f"make {' '.join(targets)}"] * bool(targets) + ["dvc push"] * push)


def count(places: list[Place]) -> str:
    """Returns how much was checked."""
    texts = []
    for place in places:
        sizes = [size for state, size in place.seen.values() if state is not State.MISSING]
        text = f"{len(sizes)} files in {place.name}"
        if place.reads:
            text += f" ({sum(sizes):,} bytes)"
        else:
            text += " (sizes alone; --fetch reads them)"
        texts.append(text)
    return f"checked {', '.join(texts)}"


def refuse_beside_others() -> None:
    """Raises a `UserError` while another `dvc` runs a stage here, whose outputs come and go."""
    if not RWLOCK.exists():
        return
    writers = json.loads(RWLOCK.read_bytes()).get("write", {}).values()
    for pid in sorted({writer["pid"] for writer in writers}):
        if is_alive(pid):
            raise UserError(f"another dvc runs a stage here, process {pid}: wait for it")


def check(repo: Repo, mend: bool, fetch: bool) -> bool:
    """Checks the outputs, prints what is found, and returns whether all is well, or will be."""
    places, remark = open_places(repo, fetch)
    files = list(list_files(repo, places))
    states, strays = examine(files, places), find_strays(repo, files)
    for place in places[2:]:
        if not any(place.state(file) is State.WHOLE for file in files if file.kept):
            # DVC takes an HTTP server that is down for an empty one.
            remark = f"{place.name} has none of it: `dvc push` sends it, or the remote is away"
            places.remove(place)
            states = {file: _without(place, found) for file, found in states.items()}
    for line in (*describe(states), *map(_say_stray, strays), *([remark] if remark else ())):
        print(line)
    print(count(places))
    damaged = {file: found for file, found in states.items() if is_damaged(found)}
    if mend and (damaged or strays):
        mend_files(repo, places, damaged)
        for path in strays:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        rest = examine(damaged, places)
        for line in describe(rest):
            print(line)
        before, states = len(damaged) + len(strays), states | rest
        damaged, strays = {f: found for f, found in rest.items() if is_damaged(found)}, []
        print(f"mended {before - len(damaged)} of {before}")
    if damaged or strays:
        command = advise(states, bool(strays), places)
        print(f"To mend the rest: {command}" if mend else f"To mend this: {command}")
        return mend and command == "make reproduce" and not remark
    if not remark:
        print("all of it is whole")
    return not remark


def _without(place: Place, states: States) -> dict[str, State]:
    return {name: state for name, state in states.items() if name != place.name}


def _say_stray(path: Path) -> str:
    return f"{path}: left half-written, or no file of the output"


def parse(arguments: tuple[str, ...]) -> argparse.Namespace:
    """Returns the command's arguments; ends the process with status 2 if they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.check",
        description="Checks that all files that dvc.lock names are whole, here and in the remote.",
    )
    parser.add_argument("--mend", action="store_true", help="restore what is altered or missing")
    parser.add_argument("--fetch", action="store_true", help="read the whole remote")
    return parser.parse_args(arguments)


def main(*arguments: str) -> None:
    """Checks what DVC keeps of the project in the current folder."""
    options = parse(arguments)
    for line in (found := mend_state(options.mend)):
        print(line)
    if found and not options.mend:
        sys.exit("To mend this: make mend")
    try:
        repo = Repo()
        with lock_repo(repo):
            refuse_beside_others()
            whole = check(repo, options.mend, options.fetch)
    except LockError:
        raise UserError("another dvc works here: wait for it") from None
    except DvcException as error:
        raise UserError(f"DVC cannot read this project: {error}") from None
    if not whole:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
