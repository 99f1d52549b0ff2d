"""What a training shows while it runs: to `dvc exp show`, `dvc plots show`, VS Code, TensorBoard.

    data/live/metrics/M.json    the last row of the history
    data/live/curves/M.csv      all rows so far, as data/history/M.csv will have them
    data/tensorboard/M/         the same for TensorBoard, where the environment has TENSORBOARD=1

`dvc.yaml` names the first two folders, and Git keeps them without their files: DVC warns where a
folder is missing. The files are no outputs, and go when the training ends: beside other params they
would be wrong. DVCLive writes the like, but takes 0.6 s to import and asks Git and DVC Studio.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from stages.lib.files import write_atomically, write_json
from stages.networks.runtime import tf

History = list[dict[str, float]]
DIGITS = 4  # as in reports/metrics
# VS Code reads the metrics anew when this file changes. It knows it from DVCLive, and needs it: it
# watches only metrics that it has read before, and none in the folder of a queued experiment.
SIGNAL = Path(".dvc/tmp/exps/run/DVCLIVE_STEP_COMPLETED")


@contextmanager
def showing(name: str) -> Iterator[Callable[[History], None]]:
    """Yields what shows the history of the model `name`, whenever that has grown.

    After the block, and after Ctrl-C, nothing of it is shown but by TensorBoard.
    """
    # DVC names the user's folder so, while a queued experiment runs in another.
    top = Path(os.environ.get("DVC_ROOT", ""))
    last, rows = Path("data/live/metrics", f"{name}.json"), Path("data/live/curves", f"{name}.csv")
    wanted = os.environ.get("TENSORBOARD", "0") not in ("", "0")
    experiment = os.environ.get("DVC_EXP_NAME", "")
    events = Events(top / "data/tensorboard" / experiment / name) if wanted else None

    def show(history: History) -> None:
        with write_atomically(last, rows) as (last_part, rows_part):
            write_json(last_part, {key: round(value, DIGITS) for key, value in history[-1].items()})
            pd.DataFrame(history).to_csv(rows_part, index=False, float_format="%.6g")
        if (top / ".dvc/tmp").is_dir():
            (top / SIGNAL).parent.mkdir(parents=True, exist_ok=True)
            write_json(top / SIGNAL, {"pid": os.getpid(), "step": len(history)})
        if events:
            events.show(history)

    def clear() -> None:
        for path in (last, rows, top / SIGNAL):
            path.unlink(missing_ok=True)

    interrupt = signal.getsignal(signal.SIGINT)
    if callable(interrupt):
        end = interrupt

        def clear_and_end(*arguments: Any) -> None:
            clear()
            end(*arguments)

        signal.signal(signal.SIGINT, clear_and_end)
    clear()  # what a killed training left
    try:
        yield show
    finally:
        clear()
        signal.signal(signal.SIGINT, interrupt)


class Events:
    """TensorBoard's event files in `folder`, where they replace those of an earlier training."""

    def __init__(self, folder: Path):
        for old in folder.glob("*/events.out.tfevents.*"):
            old.unlink()
        # Two runs, as Keras has them: TensorBoard then draws both into one picture.
        self._train, self._validation = (
            tf.summary.create_file_writer(str(folder / part)) for part in ("train", "validation")
        )
        self._shown = 0

    def show(self, history: History) -> None:
        """Writes the rows that are new in `history`."""
        for row in history[self._shown :]:
            unit, *names = row
            for writer, start in ((self._train, ""), (self._validation, "val_")):
                # `tf.summary.scalar` needs the package `tensorboard`.
                summary = tf.compat.v1.Summary()
                for name in names:
                    if name.startswith("val_") == bool(start):
                        summary.value.add(tag=name.removeprefix(start), simple_value=row[name])
                with writer.as_default():
                    data = summary.SerializeToString()
                    tf.summary.experimental.write_raw_pb(data, step=int(row[unit]))
        self._train.flush()
        self._validation.flush()
        self._shown = len(history)
