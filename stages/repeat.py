"""Trains a model again: `python -m stages.repeat MODEL SEED SHARE`.

The seed replaces the model's own, and chooses the share of the training images of each class that
the model learns from: see `take_share` in stages/networks/entry.py. Reads the train and valid parts
of the model's dataset, `data/splits/D/`. Writes `data/repeats/MODEL-SEED-SHARE/`:

    model.keras    as `train` writes it
    history.csv    likewise
    summary.json   the number of training images

With the model's own seed and all images, the training would give the model itself: its files are
copied. An interrupted training goes on from the end of its last epoch. Where
`DASK_SCHEDULER_ADDRESS` is set, it runs on a worker.
"""

import shutil
from pathlib import Path

import pandas as pd

from stages.lib import cluster
from stages.lib.command import end_on_interrupt, run
from stages.lib.elsewhere import run_elsewhere
from stages.lib.files import write_atomically, write_json
from stages.lib.repeats import Repeat, find_repeat
from stages.networks.checkpoint import Checkpoint, Progress
from stages.networks.entry import Entry, read_entry
from stages.networks.keras_file import save_model
from stages.networks.live import showing
from stages.networks.training import train

OUTPUTS = Path("data/repeats")


def write_outputs(repeat: Repeat, entry: Entry, progress: Progress | None) -> None:
    """Writes the files of a repeat: of its training, or where there was none, the model's own."""
    with write_atomically(OUTPUTS / repeat.key) as [folder]:
        folder.mkdir()
        if progress:
            save_model(entry.model, folder / "model.keras")
            history = pd.DataFrame(progress.history)
            history.to_csv(folder / "history.csv", index=False, float_format="%.6g")
        else:
            shutil.copyfile(f"data/models/{repeat.model}.keras", folder / "model.keras")
            shutil.copyfile(f"data/history/{repeat.model}.csv", folder / "history.csv")
        images = len(entry.training.train_part.labels)
        write_json(folder / "summary.json", {"training_images": images})


def main(model: str, seed: str, share: str) -> None:
    """Trains the model named `model` in `params.yaml` under `seed` on a `share` of its images."""
    repeat = find_repeat(model, seed, share)
    folder = Path("data/checkpoints") / repeat.key
    if cluster.address():
        own, outputs = (model, seed, share), [OUTPUTS / repeat.key]
        run_elsewhere("stages.repeat", *own, checkpoint=folder, outputs=outputs)
        return
    entry = read_entry(model, repeat.seed, repeat.share)
    checkpoint = Checkpoint(folder, entry.fingerprint)
    end_on_interrupt()
    with checkpoint.locked(), showing(repeat.key) as show:
        trained = None if entry.own else train(entry.model, entry.training, checkpoint, show)
        write_outputs(repeat, entry, trained)


if __name__ == "__main__":
    run(main)
