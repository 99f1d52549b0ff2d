"""Trains the model `m` and kills itself when the state after row 2 of the history is written.

With a number as argument, it first cuts the file with the state off after so many bytes.
"""

import os
import signal
import sys
from unittest import mock

from stages import train
from stages.networks.checkpoint import Checkpoint, Progress
from stages.networks.runtime import keras

save = Checkpoint.save


def save_and_die(checkpoint: Checkpoint, model: keras.Model, progress: Progress) -> None:
    save(checkpoint, model, progress)
    if len(progress.history) == 2:
        checkpoint.wait()
        for size in sys.argv[1:]:
            os.truncate(checkpoint.folder / "state.npz", int(size))
        os.kill(os.getpid(), signal.SIGKILL)


with mock.patch.object(Checkpoint, "save", save_and_die):
    train.main("m")
