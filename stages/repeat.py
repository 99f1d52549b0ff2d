"""Trains a model again: `python -m stages.repeat MODEL SEED SHARE`.

The seed replaces the model's own, and chooses the share of the training images of each class that
the model learns from: see `take_share` in stages/networks/entry.py. Reads the model's dataset,
`data/splits/D/`. Writes `data/repeats/MODEL-SEED-SHARE/`:

    history.csv              as `train` writes it
    valid_probabilities.npy  of the validation images, float32 [n, classes]
    test_probabilities.npy   of the test images
    metrics.json             the same bytes as `reports/repeats/MODEL-SEED-SHARE.json`: see dvc.yaml

With the model's own seed and all images, they are those of the model itself, byte for byte, where
`evaluation` names the device, the threads and the processor that `training` names. The network is
not kept. An interrupted training goes on from the end of its last epoch.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import PositiveInt

from stages.lib import params
from stages.lib.command import UserError, end_on_interrupt, run
from stages.lib.files import write_atomically, write_json
from stages.lib.repeats import Repeat, read_repeats
from stages.lib.splits import Part, read_part
from stages.networks.checkpoint import Checkpoint, Progress
from stages.networks.entry import read_entry
from stages.networks.keras_file import load_model, save_model
from stages.networks.live import showing
from stages.networks.runtime import keras
from stages.networks.training import train
from stages.networks.views import predict, read_views
from stages.results import measures


def find_repeat(model: str, seed: str, share: str) -> Repeat:
    """Returns the repeat of `params.yaml` that the command's arguments name."""
    repeats = read_repeats()
    key = f"{model}-{seed}-{share}"
    if key not in repeats:
        known = ", ".join(repeats) or "none"
        raise UserError(f"params.yaml: repeated: gives no repeat '{key}' (known: {known})")
    return repeats[key]


def as_saved(model: keras.Model, path: Path) -> keras.Model:
    """Returns `model` as `evaluate` has it: written to the file `path` and read again.

    What is read is not compiled, and has no layers that work in training alone.
    """
    save_model(model, path)
    return load_model(path)


def write_outputs(
    repeat: Repeat,
    progress: Progress,
    images: int,
    parts: dict[str, Part],
    probabilities: dict[str, np.ndarray],
) -> None:
    """Writes the files of `repeat`, which learned from so many images."""
    metrics: dict[str, float] = {"training_images": images}
    for name, said in probabilities.items():
        measured = measures.measure(parts[name].labels, said)
        metrics |= {f"{name}_{metric}": value for metric, value in measured.items()}
    outputs = (Path("data/repeats") / repeat.key, Path("reports/repeats") / f"{repeat.key}.json")
    with write_atomically(*outputs) as (folder, metrics_file):
        folder.mkdir()
        history = pd.DataFrame(progress.history)
        history.to_csv(folder / "history.csv", index=False, float_format="%.6g")
        for name, said in probabilities.items():
            np.save(folder / f"{name}_probabilities.npy", said)
        for path in (folder / "metrics.json", metrics_file):
            write_json(path, metrics)


def main(model: str, seed: str, share: str) -> None:
    """Trains the model named `model` in `params.yaml` under `seed` on a `share` of its images."""
    repeat = find_repeat(model, seed, share)
    batch_size = params.read("evaluation.batch_size", PositiveInt)
    # Not in dvc.yaml, since they may be left out: what `evaluate` said of the model follows them.
    views = read_views(model)
    splits = Path("data/splits") / params.read(f"{params.model_key(model)}.dataset", str)
    parts = {name: read_part(splits, name) for name in ("valid", "test")}
    entry = read_entry(model, repeat.seed, repeat.share)
    checkpoint = Checkpoint(Path("data/checkpoints") / repeat.key, entry.fingerprint)
    end_on_interrupt()
    with checkpoint.locked(), showing(repeat.key) as show:
        progress = train(entry.model, entry.training, checkpoint, show)
        saved = as_saved(entry.model, checkpoint.folder / "model.keras")
        probabilities = {
            name: predict(saved, part.images, batch_size, views) for name, part in parts.items()
        }
        images = len(entry.training.train_part.labels)
        write_outputs(repeat, progress, images, parts, probabilities)


if __name__ == "__main__":
    run(main)
