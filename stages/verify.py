"""Runs the pipeline afresh and compares every output: `make verify`.

Clones the last commit into a temporary folder beside this one, where `../` in a dataset's source
leads to the same place, runs all of its stages there with another user name, time zone, locale and
hash seed, and compares the hashes with those in the commit's `dvc.lock`. Only `data/timing/` may
differ; where anything else does, the versions and devices of both runs are compared too.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.lib.command import UserError, run
from stages.lib.files import read_json

TIMING = "data/timing/"
# What must not matter.
ELSEWHERE = {
    "USER": "somebody",
    "LOGNAME": "somebody",
    "TZ": "Pacific/Auckland",
    "LC_ALL": "C",
    "PYTHONHASHSEED": "12345",
}


def hashes(lock: dict[str, Any]) -> dict[str, str]:
    """Returns the hash of every output in a `dvc.lock`, but those in `data/timing/`."""
    return {
        output["path"]: output["md5"]
        for stage in lock["stages"].values()
        for output in stage.get("outs", [])
        if not output["path"].startswith(TIMING)
    }


def compare(expected: dict[str, str], found: dict[str, str]) -> list[tuple[str, str]]:
    """Returns each output's path with `same`, `different`, `only here` or `only there`, sorted."""
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


def first_difference(here: Path, there: Path) -> str:
    """Returns what of the environment differs first between two folders of timing files."""
    for path in sorted(there.glob("*.json")):
        if not (here / path.name).exists():
            return f"{here / path.name} is not here (`dvc pull` brings it): versions unknown"
        one, other = (read_json(folder / path.name)["environment"] for folder in (here, there))
        for name in other:
            if one.get(name) != other[name]:
                return f"{name}: {one.get(name)} then, {other[name]} now"
    return "versions and devices are the same: this is a fault, please report it"


def main() -> None:
    """Verifies the last commit of the repository in the current folder."""
    git = subprocess.run(["git", "show", "HEAD:dvc.lock"], capture_output=True, check=False)
    if git.returncode:
        raise UserError("the last commit has no dvc.lock: `dvc repro`, then commit what it wrote")
    expected = hashes(YAML(typ="safe").load(git.stdout))
    beside = Path.cwd().parent
    if not os.access(beside, os.W_OK):
        raise UserError(f"{beside} is where the clone should stand for a while: make it writable")
    with tempfile.TemporaryDirectory(prefix="verify-", dir=beside) as folder:
        clone = Path(folder)
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        print(f"Running all stages afresh in {clone}", flush=True)
        environment = os.environ | ELSEWHERE
        repro = ["dvc", "repro", "--force"]
        if subprocess.run(repro, cwd=clone, env=environment, check=False).returncode:
            raise UserError("the run in the clone failed, as it says above")
        found = hashes(YAML(typ="safe").load(clone / "dvc.lock"))
        verdicts = compare(expected, found)
        difference = first_difference(Path(TIMING), clone / TIMING)
    for path, verdict in verdicts:
        print(f"{verdict:10} {path}")
    different = [path for path, verdict in verdicts if verdict != "same"]
    print(f"{len(verdicts)} outputs compared, {len(verdicts) - len(different)} identical")
    if different:
        print(f"First difference between the two environments: {difference}")
        print("To look further: `make reproduce` here, then `dvc diff` and `dvc metrics diff`.")
        sys.exit(1)


if __name__ == "__main__":
    run(main)
