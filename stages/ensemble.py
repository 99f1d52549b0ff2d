"""Lets several models answer together: `python -m stages.ensemble ENSEMBLE`.

Nothing is trained: the ensemble's probabilities are the means of its members'. Reads these, in
`data/predictions/`, where repeats have theirs too, and the dataset's `data/splits/D/`. What else
lies in the first folder, it moves to `data/leftovers/` first, as `report` does. Writes
`reports/ensembles/E.json`, the metrics, and `data/ensembles/E/`:

    metrics.json           the same bytes as `reports/ensembles/E.json`: see dvc.yaml
    valid_probabilities.npy and all that follows from the answers to the test images, as `evaluate`
                           writes it of a model
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import read_array, read_json, write_atomically, write_json
from stages.lib.repeats import Repeat, read_ensembles, read_repeats
from stages.lib.splits import read_part, read_summary
from stages.results.answers import Answers, examine
from stages.results.leftovers import clear_away, list_outputs
from stages.results.reading import existing

PREDICTIONS = Path("data/predictions")  # this stage depends on the whole folder


def average(probabilities: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the mean of arrays of probabilities, float32 [n, classes], computed in float64."""
    mean = np.mean(list(probabilities), axis=0, dtype=np.float64)
    return np.asarray(mean, np.float32)


def read_members(members: list[str], part: str, labels: np.ndarray, key: str) -> list[np.ndarray]:
    """Reads what each of `members` says of the images of `part`, float32 [n, classes].

    Args:
        members: Names of models and keys of repeats.
        part: `valid` or `test`.
        labels: The labels of the dataset's images now, uint8 [n].
        key: Where the members stand in `params.yaml`, for error messages.

    Raises:
        UserError: A file is missing, or a member answered other images.
    """
    said = []
    for place, member in enumerate(members):
        folder = PREDICTIONS / member
        said.append(read_array(existing(folder / f"{part}_probabilities.npy")))
        answered = folder / f"{part}_labels.npy"
        same = len(said[-1]) == len(labels)
        if not same or (answered.exists() and not np.array_equal(read_array(answered), labels)):
            raise UserError(
                f"params.yaml: {key}[{place}]: {member} answered {len(said[-1])} {part} images, "
                f"expected the {len(labels)} that the dataset has now: run `dvc repro`"
            )
    return said


def add_costs(members: list[str], repeats: dict[str, Repeat]) -> dict[str, int]:
    """Returns the number of members, and the sums of their parameters and multiply-adds."""
    models = [repeats[member].model if member in repeats else member for member in members]
    found = [read_json(existing(PREDICTIONS / m / "metrics.json")) for m in models]
    costs = ("parameters", "multiply_adds")
    return {"members": len(members)} | {cost: sum(each[cost] for each in found) for cost in costs}


def write_outputs(name: str, answers: Answers, costs: dict[str, int]) -> None:
    """Writes the files of the ensemble named `name`, whose members have these `costs`."""
    outputs = (Path("data/ensembles") / name, Path("reports/ensembles") / f"{name}.json")
    with write_atomically(*outputs) as (folder, metrics_file):
        folder.mkdir()
        for path in (folder / "metrics.json", metrics_file):
            write_json(path, answers.metrics | costs | answers.calibration)
        write_json(folder / "summary.json", answers.summary)
        for stem, array in answers.arrays.items():
            np.save(folder / f"{stem}.npy", array)
        for stem, table in answers.tables.items():
            table.to_csv(folder / f"{stem}.csv", index=False, float_format="%.4f")


def main(name: str) -> None:
    """Evaluates the ensemble named `name` in `params.yaml`."""
    ensembles, repeats = read_ensembles(), read_repeats()
    params.check_known(name, ensembles, f"no ensemble '{name}'", "ensembles")
    ensemble, key = ensembles[name], f"ensembles.{name}.members"
    seed = params.read("evaluation.seed", int)
    clear_away([str(PREDICTIONS)], list_outputs(params.load()))
    splits = Path("data/splits") / ensemble.dataset
    valid, test = (
        (images, average(read_members(ensemble.members, part, images.labels, key)))
        for part in ("valid", "test")
        for images in [read_part(splits, part)]
    )
    answers = examine(valid, test, list(read_summary(splits)["classes"]), seed)
    write_outputs(name, answers, add_costs(ensemble.members, repeats))


if __name__ == "__main__":
    run(main)
