"""What the repeats of models say: each one's accuracy, and their spread over the seeds."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from stages.lib.files import read_json
from stages.lib.repeats import Repeat
from stages.results.reading import existing
from stages.results.statistics import round_accuracy
from stages.results.tables import Row

COLUMNS = ("model", "seed", "share", "training_images", "valid_accuracy", "test_accuracy")


def read_table_of(repeats: Iterable[Repeat]) -> pd.DataFrame:
    """Reads the accuracy of each of `repeats`, a row each, sorted by model, share and seed.

    Raises:
        UserError: A file is missing.
    """
    rows: list[dict[str, Any]] = []
    for repeat in sorted(repeats, key=lambda each: (each.model, each.share, each.seed)):
        metrics = read_json(existing(Path(f"data/predictions/{repeat.key}/metrics.json")))
        rows.append(repeat._asdict() | {name: metrics[name] for name in COLUMNS[3:]})
    # As objects, a share of 1 stays the integer that params.yaml has.
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def add_spread(rows: Iterable[Row], repeats: pd.DataFrame) -> list[Row]:
    """Returns accuracy rows with their spread over the seeds, where any model has one.

    Args:
        rows: Rows of the accuracy table.
        repeats: A row a repeat; those on all training images count.

    Returns:
        The rows with the number of `seeds`, and `test_accuracy_mean`, `_sd` (with n - 1), `_min`
        and `_max`; of a model that is not repeated, these are `None`.
    """
    whole = repeats[repeats["share"] == 1]
    if whole.empty:
        return list(rows)
    found = {str(model): _spread(each) for model, each in whole.groupby("model")["test_accuracy"]}
    none: dict[str, Any] = dict.fromkeys(next(iter(found.values())))
    return [row | found.get(row["model"], none) for row in rows]


def _spread(accuracies: "pd.Series[Any]") -> dict[str, Any]:
    values = accuracies.astype(float)
    return {
        "seeds": len(values),
        "test_accuracy_mean": round_accuracy(values.mean()),
        "test_accuracy_sd": round(values.std(), 4) if len(values) > 1 else None,
        "test_accuracy_min": values.min(),
        "test_accuracy_max": values.max(),
    }
