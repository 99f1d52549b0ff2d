"""The state of a training, so that an interrupted one goes on to the same bytes.

A state holds every variable of the model and of its optimizer, and the progress so far. The order
of the images, dropout and augmentation need no state: they follow from the seed and the step.
"""

import fcntl
import hashlib
import json
import os
import shutil
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
    """What a training has recorded so far, at the end of each epoch or every so many steps.

    Attributes:
        history: The metrics by name, a row each time.
        snapshots: Some of the weights, an array each time, all of the same shape.
        starts: For each phase that has begun, the number of rows before it.
        kept: The weights after the best row of the phase, where its recipe keeps them.
        values: All variables, of a progress that was read.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    snapshots: list[np.ndarray] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list, repr=False)

    def fill(self, model: keras.Model) -> None:
        """Puts the variables that were read into `model`, compiled and built for the last phase."""
        for variable, value in zip(_variables(model), self.values, strict=True):
            variable.assign(value)
        self.values = []


class Checkpoint:
    """The state of one training in `folder`. Only a training with its `fingerprint` resumes it."""

    def __init__(self, folder: Path, fingerprint: dict[str, Any]):
        self.folder = folder
        self._path = folder / "state.npz"
        text = json.dumps(fingerprint, sort_keys=True)
        self._fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self._writing: Future[None] | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out of the folder, and deletes it if the block ends well.

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

        Call it within `locked`. It copies the state at once and writes it while the training goes
        on: VGG-16 and its optimizer are 403 MB, which take a second and more. The next call raises
        the errors of this writing.
        """
        self.wait()
        values = [variable.numpy() for variable in _variables(model)]
        arrays = {f"value{i}": value for i, value in enumerate(values)}
        arrays |= {f"kept{i}": value for i, value in enumerate(progress.kept)}
        counts = {"value": len(values), "kept": len(progress.kept)}
        arrays["record"] = json.dumps([progress.history, progress.starts, counts])
        arrays["snapshots"] = np.array(progress.snapshots)
        self._writing = self._writer.submit(self._write, arrays)

    def wait(self) -> None:
        """Returns when the last state is written.

        Raises:
            OSError: The state could not be written; the one before it is still there.
        """
        if self._writing:
            self._writing.result()

    def _write(self, arrays: dict[str, Any]) -> None:
        with write_atomically(self._path) as [part], part.open("wb") as file:
            np.savez(file, fingerprint=self._fingerprint, **arrays)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could lose both the old state and the new one

    def read(self) -> Progress:
        """Returns the saved progress; `Progress.fill` puts its variables into the model.

        A state that is incomplete or belongs to another training is set aside, with a line in the
        log. Then, or without any state, the progress is empty.

        Raises:
            PermissionError: The state may not be read; it stays.
        """
        if not self._path.exists():
            return Progress()
        try:
            with np.load(self._path, allow_pickle=False) as state:
                if str(state["fingerprint"]) != self._fingerprint:
                    self._set_aside("belongs to other params, data, code or versions")
                    return Progress()
                history, starts, counts = json.loads(str(state["record"]))
                kept, values = (
                    [state[f"{kind}{i}"] for i in range(counts[kind])] for kind in ("kept", "value")
                )
                return Progress(history, list(state["snapshots"]), starts, kept, values)
        except PermissionError:  # it may be whole: another user's
            raise
        except Exception:  # a damaged file can raise anything
            self._set_aside("is incomplete")
            return Progress()

    def _set_aside(self, reason: str) -> None:
        aside = self._path.with_name("set-aside.npz")
        self._path.replace(aside)
        print(f"the saved state {reason}: set aside as {aside}, training starts anew", flush=True)


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
