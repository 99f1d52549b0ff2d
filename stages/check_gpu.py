"""Checks that training on this machine's GPU gives the same bytes twice: `make check-gpu`.

Trains `mnist_cnn` of `params.yaml` for one epoch on the sample's digits, twice, by the real stages
in a temporary folder, and compares the outputs. Nothing in this folder changes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import read_json

MODEL, DATASET = "mnist_cnn", "mnist"


def one_epoch(sections: dict[str, Any], device: str) -> dict[str, Any]:
    """Returns the params of the check: one epoch of one model on the sample, on `device`.

    Args:
        sections: `params.yaml`.
        device: A value of `training.device`.
    """
    model, dataset = _find(sections, "models", MODEL), _find(sections, "datasets", DATASET)
    training = _find(sections, "training")
    recipes = model.get("training")
    recipe = recipes[0] if isinstance(recipes, list) and recipes else recipes
    if isinstance(recipe, dict):  # else `train` says what is wrong
        length = ("steps", "every", "epochs")
        recipe = {key: value for key, value in recipe.items() if key not in length} | {"epochs": 1}
    return {
        "datasets": {DATASET: dataset | {"download": {"source": "sample"}}},
        "training": training | {"device": device},
        "models": {MODEL: model | {"training": recipe}},
    }


def _find(sections: dict[str, Any], *keys: str) -> dict[str, Any]:
    found: Any = sections
    for key in keys:
        found = (found or {}).get(key)
    if found is None:
        raise UserError(f"params.yaml has no '{keys[-1]}', with which this check works")
    section: dict[str, Any] = found
    return section


def run_stage(folder: Path, stage: str, name: str) -> None:
    """Runs a stage in `folder`; ends the process where it fails, since it says why itself."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", f"stages.{stage}", name]
    done = subprocess.run(command, cwd=folder, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def check(device: str) -> bool:
    """Trains twice on `device`; prints what came out and returns whether it is the same."""
    digests: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="check-gpu-") as temporary:
        folder = Path(temporary)
        YAML().dump(one_epoch(params.load(), device), folder / "params.yaml")
        for stage in ("download", "prepare", "split"):
            run_stage(folder, stage, DATASET)
        for _ in range(2):
            started = time.perf_counter()
            run_stage(folder, "train", MODEL)
            print(f"{time.perf_counter() - started:.0f} s, start included", flush=True)
            outputs = sorted(p for p in folder.glob(f"data/*/{MODEL}.*") if p.parts[-2] != "timing")
            digests.append({p.parent.name: sha256(p.read_bytes()).hexdigest() for p in outputs})
        timing = read_json(folder / f"data/timing/{MODEL}.json")
    first, second = digests
    different = [name for name in first if first[name] != second.get(name)]
    if different:
        print(f"The two trainings differ in {', '.join(different)}. Please report this, with:")
        print(json.dumps({"environment": timing["environment"], "hashes": digests}, indent=2))
    else:
        print(f"Two trainings on {timing['environment']['device']}, the same bytes.")
    return not different


def main() -> None:
    """Checks the GPU."""
    if not check("gpu"):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
