"""Evaluates a model that was trained again: `python -m stages.evaluate_repeat MODEL SEED SHARE`.

Reads what `repeat` wrote in `data/repeats/MODEL-SEED-SHARE/`, and the validation and test images in
the dataset's `data/splits/D/`. Writes `reports/repeats/MODEL-SEED-SHARE.json` (the number of
training images, accuracy and cross-entropy on both parts) and `data/predictions/MODEL-SEED-SHARE/`:

    valid_probabilities.npy  of the validation images, float32 [n, classes]
    test_probabilities.npy   of the test images
    metrics.json             the same bytes as `reports/repeats/MODEL-SEED-SHARE.json`: see dvc.yaml

The views of `evaluation.test_time` are the model's own. With the model's own seed and all images,
the probabilities are those of the model itself, byte for byte. No model's name has a `-`: so none
has the folder of a repeat.
"""

from pathlib import Path

import numpy as np

from stages.lib import params
from stages.lib.command import run
from stages.lib.files import read_json, write_atomically, write_json
from stages.lib.repeats import find_repeat
from stages.lib.splits import Part, read_part
from stages.networks.evaluation import open_model, read_options
from stages.networks.views import predict
from stages.results import measures


def write_outputs(
    key: str, summary: dict[str, int], answered: dict[str, tuple[Part, np.ndarray]]
) -> None:
    """Writes the files of the repeat `key`.

    Args:
        key: What its files are called.
        summary: What `repeat` says of its training.
        answered: By the names of the parts: their images, and what was said of them.
    """
    metrics: dict[str, float] = dict(summary)
    for name, (part, said) in answered.items():
        measured = measures.measure(part.labels, said)
        metrics |= {f"{name}_{metric}": value for metric, value in measured.items()}
    outputs = (Path("data/predictions") / key, Path("reports/repeats") / f"{key}.json")
    with write_atomically(*outputs) as (folder, metrics_file):
        folder.mkdir()
        for name, (_, said) in answered.items():
            np.save(folder / f"{name}_probabilities.npy", said)
        for path in (folder / "metrics.json", metrics_file):
            write_json(path, metrics)


def main(model: str, seed: str, share: str) -> None:
    """Evaluates the model named `model` as trained under `seed` on a `share` of its images."""
    repeat, options = find_repeat(model, seed, share), read_options()
    splits = Path("data/splits") / params.read(f"{params.model_key(model)}.dataset", str)
    trained, views = Path("data/repeats") / repeat.key, options.test_time.get(model)
    network = open_model(trained / "model.keras", options)
    parts = {name: read_part(splits, name) for name in ("valid", "test")}
    answered = {
        name: (part, predict(network, part.images, options.batch_size, views))
        for name, part in parts.items()
    }
    write_outputs(repeat.key, read_json(trained / "summary.json"), answered)


if __name__ == "__main__":
    run(main)
