"""Runs the pipeline afresh and compares every output: `make verify`.

Clones the last commit, runs all of its stages in the clone with another user name, time zone,
locale and hash seed, and compares the hashes of the outputs with those in the commit's `dvc.lock`.
It ends with the processors of the two runs and, if an output differs, the first difference between
their versions and devices, which `data/timing/` holds.

The clone lies beside this folder, so that `../` in a dataset's source leads to the same place.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.lib.command import UserError, run
from stages.lib.files import read_json

# The outputs must not depend on these.
ELSEWHERE = {
    "USER": "somebody",
    "LOGNAME": "somebody",
    "TZ": "Pacific/Auckland",
    "LC_ALL": "C",
    "PYTHONHASHSEED": "12345",
}


def hashes(lock: dict[str, Any], stages: list[str]) -> dict[str, str]:
    """Returns the hash of every output of `stages`; `lock` may also hold stages since removed."""
    return {
        output["path"]: output["md5"]
        for stage in stages
        for output in lock["stages"].get(stage, {}).get("outs", [])
    }


def compare(expected: dict[str, str], found: dict[str, str]) -> list[tuple[str, str]]:
    """Compares two runs' hashes.

    Returns:
        Each output's path with `same`, `different`, `only here` or `only there`, sorted by path.
    """
    verdicts = []
    for path in sorted(expected | found):
        if path not in found:
            verdict = "only here"
        elif path not in expected:
            verdict = "only there"
        else:
            verdict = "same" if expected[path] == found[path] else "different"
        verdicts.append((path, verdict))
    return verdicts


def environments(repository: Path) -> dict[str, dict[str, str]]:
    """Returns the versions and the device that each model in `repository` was trained on."""
    timing = sorted((repository / "data/timing").glob("*.json"))
    return {path.stem: read_json(path)["environment"] for path in timing}


def first_difference(then: dict[str, dict[str, str]], now: dict[str, dict[str, str]]) -> str:
    """Returns the first difference between the environments of two runs.

    Where both computed with `processor: any`, the device is none.
    """
    for model, versions in now.items():
        if model not in then:
            return f"unknown, since data/timing/{model}.json was not committed with dvc.lock"
        any_processor = versions.get("processor") == then[model].get("processor") == "any"
        for name, version in versions.items():
            if then[model].get(name) != version and not (name == "device" and any_processor):
                return f"{name}: {then[model].get(name)} then, {version} now"
    return "versions and devices are the same: this is a fault, please report it"


def devices(environments: dict[str, dict[str, str]]) -> str:
    """Returns the devices of a run: one, unless its models were trained on several machines."""
    found = {environment["device"] for environment in environments.values()}
    return " and ".join(sorted(found)) or "an unknown device"


def run_stages(clone: Path) -> list[str]:
    """Runs all stages of the repository `clone` and returns their names."""
    print(f"Running all stages afresh in {clone}", flush=True)
    environment = os.environ | ELSEWHERE
    repro = ["dvc", "repro", "--force"]
    if subprocess.run(repro, cwd=clone, env=environment, check=False).returncode:
        raise UserError("the run in the clone failed, as it says above")
    listed = subprocess.check_output(["dvc", "stage", "list", "--name-only"], cwd=clone)
    return listed.decode().split()


def main() -> None:
    """Verifies the last commit of the repository in the current folder."""
    environment = os.environ | {"LC_ALL": "C"}  # Git's words in English
    show = ["git", "show", "HEAD:dvc.lock"]
    git = subprocess.run(show, capture_output=True, env=environment, check=False)
    if b"dubious ownership" in git.stderr:
        raise UserError(
            "this folder is another user's, so Git does not read it: if you trust that user, run "
            f"`git config --global --add safe.directory '{Path.cwd()}'`"
        )
    if b"not a git repository" in git.stderr:
        raise UserError(
            "this folder is in no Git repository, and what is verified is the last commit: run "
            "`git init`, and commit"
        )
    if b"HEAD:./dvc.lock" in git.stderr:  # Git's hint
        raise UserError(
            "this folder is a part of a larger Git repository, which is not cloned: give the "
            "project a repository of its own"
        )
    if git.returncode:
        raise UserError("the last commit has no dvc.lock: `dvc repro`, then commit what it wrote")
    beside = Path.cwd().parent
    if not os.access(beside, os.W_OK):
        raise UserError(f"{beside} is not writable, and the clone goes there: make it writable")
    clone = Path(tempfile.mkdtemp(prefix="verify-", dir=beside))
    different: list[str] = []
    try:
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        then = environments(clone)  # read before the stages overwrite data/timing
        stages = run_stages(clone)
        expected, found = (
            hashes(YAML(typ="safe").load(lock), stages) for lock in (git.stdout, clone / "dvc.lock")
        )
        verdicts = compare(expected, found)
        now = environments(clone)
        different = [path for path, verdict in verdicts if verdict != "same"]
    finally:
        if not different:
            shutil.rmtree(clone)
    for path, verdict in verdicts:
        print(f"{verdict:10} {path}")
    print(f"{len(verdicts)} outputs compared, {len(verdicts) - len(different)} identical")
    print(f"The commit's models were trained on {devices(then)}; here on {devices(now)}")
    if different:
        print(f"First difference between the two environments: {first_difference(then, now)}")
        print(f"To look further: what differs is kept in {clone}; `make reproduce` here, then")
        print("compare the two sides of a file, and remove that folder.")
        sys.exit(1)


if __name__ == "__main__":
    run(main)
