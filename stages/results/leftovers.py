"""What lies among the outputs and is none: of removed models, of other branches, or made by hand.

The report depends on whole folders, since DVC cannot list one dependency for each model. A file too
many in them would give a `dvc.lock` that holds for this folder alone: so it is moved away.
"""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

PLACE = Path("data/leftovers")
# The report depends on these.
REPORTED = ("data/arrays", "data/history", "data/predictions", "data/splits")
OTHERS = (
    *("data/models", "data/raw", "data/snapshots", "data/timing"),
    *("reports/figures", "reports/metrics", "reports/models"),
)


def list_outputs(params: dict[str, Any]) -> set[Path]:
    """Returns what the stages write for the datasets and models in `params`, as dvc.yaml says."""
    found = {Path(f"data/timing/{model}.json") for model in params["models"]}
    for stage in YAML(typ="safe").load(Path("dvc.yaml"))["stages"].values():
        if "foreach" in stage:
            names = params[stage["foreach"].strip("${}")]
            outs = [*stage["do"]["outs"], *stage["do"].get("metrics", ())]
            # One with options is a mapping of its path to them.
            paths = [out if isinstance(out, str) else next(iter(out)) for out in outs]
            found |= {Path(path.replace("${key}", name)) for path in paths for name in names}
    return found


def find_leftovers(folders: Iterable[str], outputs: set[Path]) -> list[Path]:
    """Returns what lies in `folders` and is none of `outputs`, sorted."""
    return sorted(path for folder in folders for path in _walk(Path(folder), outputs))


def move_leftovers(leftovers: Iterable[Path]) -> None:
    """Moves what lies in `data/` to the same place in `data/leftovers/`."""
    for path in leftovers:
        target = PLACE / path.relative_to("data")
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def _walk(folder: Path, outputs: set[Path]) -> Iterator[Path]:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path in outputs or ".part" in path.suffixes:  # a stage that runs now writes to `.part`
            continue
        if any(path in output.parents for output in outputs):
            yield from _walk(path, outputs)
        else:
            yield path
