"""What lies among the outputs and is none: of removed models, of other branches, or made by hand.

Some stages depend on whole folders, since DVC cannot list one dependency for each model. A file too
many in them would give a `dvc.lock` that holds for this folder alone: so it is moved away.
"""

import shutil
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.lib.params import list_models

PLACE = Path("data/leftovers")
# The report depends on these.
REPORTED = ("data/arrays", "data/ensembles", "data/history", "data/predictions", "data/splits")
OTHERS = (
    *("data/exports", "data/models", "data/raw", "data/repeats", "data/snapshots", "data/timing"),
    *("reports/ensembles", "reports/exports", "reports/figures", "reports/metrics"),
    *("reports/models", "reports/repeats"),
)
KEEP = ".gitignore"  # with it, Git keeps a folder that may have nothing else


def list_outputs(params: dict[str, Any]) -> set[Path]:
    """Returns what the stages write for the datasets and models in `params`, as dvc.yaml says."""
    found = {Path(f"data/timing/{model}.json") for model in list_models(params)}
    for stage in YAML(typ="safe").load(Path("dvc.yaml"))["stages"].values():
        names = _list_keys(stage, params)
        body = stage.get("do", stage)
        outs = [*body["outs"], *body.get("metrics", ())]
        # One with options is a mapping of its path to them.
        paths = [out if isinstance(out, str) else next(iter(out)) for out in outs]
        found |= {Path(path.replace("${key}", name)) for path in paths for name in names}
    return found


def _list_keys(stage: dict[str, Any], params: dict[str, Any]) -> list[str]:
    """Returns the keys of a stage that dvc.yaml has once for each of several values."""
    if "matrix" in stage:
        values = (_look_up(place, params) for place in stage["matrix"].values())
        return ["-".join(map(str, each)) for each in product(*values)]
    return [*_look_up(stage["foreach"], params)] if "foreach" in stage else []


def _look_up(place: str, params: Any) -> Iterable[Any]:
    """Returns what stands at `place`, such as `${repeated.seeds}`; a section may be left out."""
    for name in place.strip("${}").split("."):
        params = (params or {}).get(name)
    return params or ()


def find_leftovers(folders: Iterable[str], outputs: set[Path]) -> list[Path]:
    """Returns what lies in `folders` and is none of `outputs`, sorted."""
    return sorted(path for folder in folders for path in _walk(Path(folder), outputs))


def clear_away(folders: Iterable[str], outputs: set[Path]) -> None:
    """Moves what lies in `folders` of `data/` and is none of `outputs` to `data/leftovers/`."""
    leftovers = find_leftovers(folders, outputs)
    for path in leftovers:
        target = PLACE / path.relative_to("data")
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    if leftovers:
        print(f"no output of params.yaml, so moved to {PLACE}: {', '.join(map(str, leftovers))}")


def _walk(folder: Path, outputs: set[Path]) -> Iterator[Path]:
    for path in folder.iterdir() if folder.is_dir() else ():
        # A stage that runs now writes to `.part`.
        if path in outputs or ".part" in path.suffixes or path.name == KEEP:
            continue
        if any(path in output.parents for output in outputs):
            yield from _walk(path, outputs)
        else:
            yield path
