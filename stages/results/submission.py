"""Answers for photographs without labels in the format of Kaggle's competitions."""

from typing import Literal

import numpy as np
import pandas as pd

from stages.lib.command import UserError
from stages.lib.files import natural_key
from stages.lib.splits import Unlabelled

Content = Literal["class", "probability"]


def submit(
    unlabelled: Unlabelled,
    probabilities: np.ndarray,
    prior: np.ndarray,
    classes: list[str],
    content: Content,
) -> pd.DataFrame:
    """Returns a row for each photograph without a label, by number of `id`, then by name.

    Args:
        unlabelled: The photographs, those included of which there is no image.
        probabilities: What the model says of each image, float32 [n, classes].
        prior: What is said of a photograph without an image, [classes].
        classes: The names of the classes.
        content: `class`: `label` is the class, as 0 or 1 where there are two, which Kaggle's Dogs
            vs. Cats asks for, else by its name. `probability`: `label` is the probability of the
            second of two classes, which Kaggle's Redux of it asks for; of more classes, there is
            a column for each.

    Raises:
        UserError: Two photographs have the same `id`.
    """
    ids = [*map(str, unlabelled.names), *map(str, unlabelled.left_out)]
    table = pd.DataFrame({"id": ids}, dtype=str)
    repeated = table["id"][table["id"].duplicated()]
    if len(repeated):
        raise UserError(
            f"two photographs without labels are called '{repeated.iloc[0]}', expected a name of "
            "its own for each: `dvc repro --force` prepares the dataset again"
        )
    said = np.concatenate([probabilities, np.tile(prior, (len(unlabelled.left_out), 1))])
    if content == "class":
        likeliest = said.argmax(1)
        table["label"] = likeliest if len(classes) == 2 else [classes[at] for at in likeliest]
    elif len(classes) == 2:
        table["label"] = _in_full(said[:, 1])
    else:
        for index, name in enumerate(classes):
            # A class may be called `id`.
            table.insert(index + 1, name, _in_full(said[:, index]), allow_duplicates=True)
    order = sorted(range(len(ids)), key=lambda at: _by_number(ids[at]))
    return table.iloc[order]


def _in_full(probabilities: np.ndarray) -> list[str]:
    """Writes seven digits, what a float32 has: 0.0000 for 0.00002 costs much in a logarithm."""
    return [f"{probability:.7g}" for probability in probabilities]


def _by_number(name: str) -> tuple[bool, list[object], str]:
    return not (name.isascii() and name.isdigit()), natural_key(name), name
