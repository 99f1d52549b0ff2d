"""The state of a training, so that one that was interrupted goes on to the same bytes.

A state holds every variable of the model and its optimizer and the progress so far. What else a
training depends on (shuffle order, dropout, augmentation) follows from the seed and the step.
"""

import fcntl
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.command import UserError
from stages.lib.files import write_atomically
from stages.networks.runtime import keras


@dataclass
class Progress:
    """What a training has to show so far, a row an epoch or every so many steps.

    Attributes:
        history: The figures of each row.
        snapshots: Some of the weights after each row, all of the same shape.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    snapshots: list[np.ndarray] = field(default_factory=list)


class Checkpoint:
    """One training's state in `folder`, believed only by a training with the same `identity`."""

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self.folder = folder
        self._path = folder / "state.npz"
        self._identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._writing: Future[None] | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process alone; the folder is gone when the block ends well.

        Raises:
            UserError: Another process trains this model.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process is training {self.folder.name}: wait for it, or stop it"
                ) from None
            with ThreadPoolExecutor(1) as self._writer:
                yield
            shutil.rmtree(self.folder)

    def save(self, model: keras.Model, progress: Progress) -> None:
        """Replaces the state by that of `model`, which is compiled, and its `progress`.

        Within `locked`. The state is taken at once, and written while the training goes on: VGG-16
        and its optimizer are 403 MB, a second and more. The next call raises what the writing met.
        """
        self.wait()
        arrays = {f"{i:04}": variable.numpy() for i, variable in enumerate(_variables(model))}
        arrays["history"] = json.dumps(progress.history)
        arrays["snapshots"] = np.array(progress.snapshots)
        self._writing = self._writer.submit(self._write, arrays)

    def wait(self) -> None:
        """Returns when the last state is written.

        Raises:
            OSError: It could not be written: the one before it was kept.
        """
        if self._writing:
            self._writing.result()

    def _write(self, arrays: dict[str, Any]) -> None:
        with write_atomically(self._path) as [part], part.open("wb") as file:
            np.savez(file, identity=self._identity, **arrays)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave neither the old state nor the new

    def restore(self, model: keras.Model) -> Progress:
        """Puts the saved state into `model`, which is compiled and built, and returns the progress.

        Without a state, or with one that is incomplete or belongs to another training, `model` is
        left as it is and there is no progress; the log says which.
        """
        if not self._path.exists():
            return Progress()
        variables = _variables(model)
        try:
            with np.load(self._path) as state:
                if str(state["identity"]) != self._identity:
                    self._set_aside("belongs to other params, data, code or versions")
                    return Progress()
                progress = Progress(json.loads(str(state["history"])), list(state["snapshots"]))
                values = [state[f"{index:04}"] for index in range(len(variables))]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            self._set_aside("is incomplete")
            return Progress()
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return progress

    def _set_aside(self, reason: str) -> None:
        aside = self._path.with_name("set-aside.npz")
        self._path.replace(aside)
        print(f"the saved state {reason}: set aside as {aside}, training starts anew", flush=True)


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
