"""Trains one model: `python -m stages.train MODEL`.

Reads the train and valid parts of the model's dataset, `data/splits/D/`. Writes

    data/models/M.keras      the model without its optimizer; plain Keras opens it
    data/history/M.csv       loss and accuracy of training and validation, a row an epoch or every
                             so many steps
    data/snapshots/M.npy     the weights of a few hidden units after each row of the history
    data/timing/M.json       seconds and memory since the last interruption, versions and device

The last one differs from run to run, so Git keeps it and DVC does not know it. The others are the
same bytes whenever params, data and versions are the same. An interrupted training goes on from the
end of its last epoch, to the bytes of one that was never interrupted. Where
`DASK_SCHEDULER_ADDRESS` is set, the training runs on a worker.
"""

import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib import cluster
from stages.lib.command import end_on_interrupt, run
from stages.lib.elsewhere import run_elsewhere
from stages.lib.files import write_atomically, write_json
from stages.networks.checkpoint import Checkpoint, Progress
from stages.networks.entry import read_entry
from stages.networks.keras_file import save_model
from stages.networks.live import showing
from stages.networks.runtime import keras
from stages.networks.training import train


def output_paths(name: str) -> list[Path]:
    """Returns the files of the model named `name`."""
    return [
        Path("data/models") / f"{name}.keras",
        Path("data/history") / f"{name}.csv",
        Path("data/snapshots") / f"{name}.npy",
        Path("data/timing") / f"{name}.json",
    ]


def write_outputs(
    name: str, model: keras.Model, progress: Progress, seconds: float, environment: dict[str, str]
) -> None:
    """Writes the files of the model named `name`."""
    with write_atomically(*output_paths(name)) as parts:
        model_file, history_file, snapshots_file, timing_file = parts
        save_model(model, model_file)
        pd.DataFrame(progress.history).to_csv(history_file, index=False, float_format="%.6g")
        np.save(snapshots_file, np.stack(progress.snapshots))
        timing = {"seconds": round(seconds, 1), "peak_memory_mb": peak_memory() >> 20}
        write_json(timing_file, timing | {"environment": environment})


def peak_memory() -> int:
    """Returns the most memory that this process has used at any time, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # others give kibibytes


def main(name: str) -> None:
    """Trains the model named `name` in `params.yaml`."""
    folder = Path("data/checkpoints") / name
    if cluster.address():
        run_elsewhere("stages.train", name, checkpoint=folder, outputs=output_paths(name))
        return
    entry = read_entry(name)
    checkpoint = Checkpoint(folder, entry.fingerprint)
    end_on_interrupt()
    with checkpoint.locked(), showing(name) as show:
        started = time.perf_counter()
        progress = train(entry.model, entry.training, checkpoint, show)
        seconds = time.perf_counter() - started
        write_outputs(name, entry.model, progress, seconds, entry.runtime.environment)


if __name__ == "__main__":
    run(main)
