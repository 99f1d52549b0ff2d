"""When a training ends early, when its learning rate falls, and which row's weights are kept."""

import inspect
import math
from typing import Any

from stages.lib.command import UserError
from stages.lib.params import suggest
from stages.networks.recipe import Recipe
from stages.networks.runtime import keras
from stages.networks.vocabulary import blame, build, name_and_arguments

CALLBACKS = ("EarlyStopping", "ReduceLROnPlateau")


class Watch:
    """Watches the history of a phase, row by row, for `callbacks` and `restore_best`.

    Its state follows from the rows alone: a training that goes on shows it those before again.

    Args:
        recipe: What to watch for.
        model: Compiled; a callback may change the learning rate of its optimizer.
        directions: `min` or `max` for each column that can be watched.
        key: Where `recipe` stands in `params.yaml`, for error messages.

    Raises:
        UserError: A callback or a column is unknown, or the parts of the recipe do not go together.
    """

    def __init__(self, recipe: Recipe, model: keras.Model, directions: dict[str, str], key: str):
        self._directions, self._model, self._rows = directions, model, 0
        self._column = recipe.restore_best
        self._best: float | None = None
        self.kept: int | None = None  # the number of the row in the phase, counted from 0
        if self._column is not None:
            self._check_column(self._column, f"{key}.restore_best")
        self._callbacks = [
            self._build_callback(spec, f"{key}.callbacks[{index}]")
            for index, spec in enumerate(recipe.callbacks)
        ]
        self._keeper = None
        for index, callback in enumerate(self._callbacks):
            if getattr(callback, "restore_best_weights", False):
                if self._column is not None or self._keeper is not None:
                    raise UserError(
                        f"params.yaml: {key}.callbacks[{index}].EarlyStopping.restore_best_weights:"
                        " another line says which weights are kept too: leave one of them"
                    )
                self._keeper = callback
                # It would copy the weights itself, and a state could not hold them.
                callback.restore_best_weights = False
            callback.set_model(model)
            callback.on_train_begin()
        model.stop_training = False

    def _check_column(self, column: Any, key: str) -> None:
        if not isinstance(column, str) or column not in self._directions:
            known = f"known: {', '.join(self._directions)}"
            hint = suggest(str(column), self._directions, known)
            raise UserError(f"params.yaml: {key}: the history has no column '{column}'; {hint}")

    def _build_callback(self, spec: Any, key: str) -> keras.callbacks.Callback:
        name, arguments = name_and_arguments(spec, key)
        if name not in CALLBACKS:
            hint = suggest(name, CALLBACKS, f"known: {', '.join(CALLBACKS)}")
            raise UserError(f"params.yaml: {key}: no callback '{name}' here; {hint}")
        defaults = inspect.signature(getattr(keras.callbacks, name)).parameters
        monitor = arguments.get("monitor", defaults["monitor"].default)
        self._check_column(monitor, f"{key}.{name}.monitor")
        mode = arguments.get("mode", "auto")
        if mode not in ("auto", "min", "max"):
            raise UserError(
                f"params.yaml: {key}.{name}.mode: expected auto, min or max, found {mode!r}"
            )
        for argument, value in arguments.items():
            default = defaults[argument].default if argument in defaults else None
            of_numbers = isinstance(default, int | float) and not isinstance(default, bool)
            # A baseline is none unless it is given.
            if of_numbers or (argument == "baseline" and value is not None):
                _check_number(value, f"{key}.{name}.{argument}")
        if mode == "auto":
            arguments = arguments | {"mode": self._directions[monitor]}
        callback = build({name: arguments}, keras.callbacks, keras.callbacks.Callback, key)
        if name == "ReduceLROnPlateau":
            with blame(f"{key}.{name}"):
                _check_rate(self._model.optimizer)
        return callback

    def see(self, row: dict[str, float]) -> None:
        """Shows it the next row of the history; `kept` and `stopped` may change."""
        number, self._rows = self._rows, self._rows + 1
        for callback in self._callbacks:
            callback.on_epoch_end(number, dict(row))
        if self._keeper is not None and self._keeper.best is not None:
            self.kept = self._keeper.best_epoch
        if self._column is not None:
            value = row[self._column]
            up = self._directions[self._column] == "max"
            if self._best is None or (value > self._best if up else value < self._best):
                self._best, self.kept = value, number

    @property
    def stopped(self) -> bool:
        """Whether a callback has ended the phase."""
        return bool(self._model.stop_training)


def _check_number(value: Any, key: str) -> None:
    """Raises what Keras would raise after the first epoch, or later."""
    if not isinstance(value, int | float) or math.isnan(value):
        raise UserError(f"params.yaml: {key}: expected a number, found {value!r}")


def _check_rate(optimizer: keras.optimizers.Optimizer) -> None:
    """Raises what Keras would raise after many epochs: a schedule leaves nothing to change."""
    rate = optimizer.learning_rate
    optimizer.learning_rate = float(rate)
