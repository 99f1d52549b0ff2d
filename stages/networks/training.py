"""The training of a network, phase by phase and row by row of its history.

What it computes depends on the seed and the steps alone: not on where a row of the history ends,
nor on an interruption.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from stages.lib.command import UserError
from stages.lib.splits import Part
from stages.networks import feed
from stages.networks.augmentation import Augmentation
from stages.networks.bar import Bar
from stages.networks.checkpoint import Checkpoint, Progress
from stages.networks.freezing import freeze, layers_before, set_trainable
from stages.networks.objectives import Objective, build_objective, weigh_classes
from stages.networks.optimizers import build_optimizer, check_optimizer
from stages.networks.recipe import Recipe
from stages.networks.runtime import keras, tf
from stages.networks.stopping import Watch
from stages.networks.weights import take_snapshot

VALIDATION_BATCH = 256  # images
# Below SMALL_NETWORK parameters, TensorFlow runs STEPS_PER_CALL steps in one call. This trains
# `mnist_fc` twice as fast, with identical bytes; larger networks gain nothing and would react late
# to Ctrl-C.
SMALL_NETWORK = 2_000_000
STEPS_PER_CALL = 50


@dataclass(frozen=True)
class Training:
    """What a model learns from, what it is validated on, and how.

    Attributes:
        phases: Recipes, one after the other.
        seed: Seeds the shuffling and the random layers.
        classes: The names of the classes.
        key: Where the phases stand in `params.yaml`, for error messages.
    """

    train_part: Part
    valid_part: Part
    phases: list[Recipe]
    seed: int
    classes: list[str]
    key: str

    def key_of(self, number: int) -> str:
        """Returns where the phase `number` stands in `params.yaml`."""
        return self.key if len(self.phases) == 1 else f"{self.key}[{number}]"


def train(
    model: keras.Model,
    training: Training,
    checkpoint: Checkpoint,
    report: Callable[[list[dict[str, float]]], None] = lambda _: None,
) -> Progress:
    """Trains `model` from where `checkpoint` left off.

    Args:
        model: Built, in the scope of its strategy.
        training: What to train it on, and how.
        checkpoint: Its state, locked.
        report: Is told the history whenever it has grown, and that of an interrupted training.

    Returns:
        The history: a row an epoch (`epoch`, counted from 1) or every `every` steps (`step`,
        counted from 0), with `loss`, `accuracy` and other metrics as means over the steps since the
        row before, and the same of validation with `val_` before it. Where a recipe keeps the best
        row, `kept` is 1 for the row whose weights the model has. The snapshots: one after each row.

    Raises:
        UserError: The loss is not a finite number, or Keras does not accept a recipe.
    """
    progress = checkpoint.read()
    if progress.history:
        print(f"going on after row {len(progress.history)} of the history", flush=True)
        report(progress.history)
    trainable = [layer.trainable for layer in model.layers]
    frozen = [
        layers_before(model, recipe.trainable_from, f"{training.key_of(number)}.trainable_from")
        for number, recipe in enumerate(training.phases)
    ]
    kept: int | None = None
    first = max(0, len(progress.starts) - 1)
    for number in range(first + 1, len(training.phases)):
        _Phase(model, training, number)  # says what is wrong in it, before hours of training
    for number in range(first, len(training.phases)):
        set_trainable(model, trainable)
        freeze(frozen[: number + 1])
        if number == len(progress.starts):
            progress.starts.append(len(progress.history))
            progress.kept = []
        phase = _Phase(model, training, number)
        phase.resume(progress)
        phase.run(checkpoint, report)
        kept = phase.watch.kept
        if kept is not None:
            kept += progress.starts[number]
            model.set_weights(progress.kept)
    set_trainable(model, trainable)  # the file has it, for what starts from the model
    if any(recipe.restore_best or recipe.callbacks for recipe in training.phases):
        last = len(progress.history) - 1 if kept is None else kept
        progress.history = [
            row | {"kept": int(index == last)} for index, row in enumerate(progress.history)
        ]
    return progress


class _Phase:
    """One recipe of a training. The layers that it is not to train are frozen already."""

    def __init__(self, model: keras.Model, training: Training, number: int):
        self.model, self.training, self.number = model, training, number
        self.recipe, key = training.phases[number], training.key_of(number)
        images, labels = training.train_part.images, training.train_part.labels
        classes = len(training.classes)
        recipe = self.recipe
        self.augmentation = None
        if recipe.augment:
            shape = images.shape[1:]
            self.augmentation = Augmentation(recipe.augment, shape, classes, f"{key}.augment")
        names = training.classes
        self.weights = weigh_classes(recipe.class_weight, names, labels, f"{key}.class_weight")
        steps = recipe.total_steps(len(labels))
        check_optimizer(recipe.optimizer, steps, f"{key}.optimizer")
        with model.distribute_strategy.scope():
            objective = build_objective(
                recipe.loss,
                recipe.metrics,
                classes,
                key,
                soft=self.augmentation is not None,
                weighted=self.weights is not None,
            )
            optimizer = build_optimizer(recipe.optimizer, steps, f"{key}.optimizer")
            compile_model(model, optimizer, objective)
        self.dense = objective.dense
        self.validation = self._validation()
        self.watch = Watch(recipe, model, objective.directions, key)

    def resume(self, progress: Progress) -> None:
        """Goes to the row that `progress` has reached, which may be the start."""
        self.progress, model, recipe = progress, self.model, self.recipe
        with model.distribute_strategy.scope():
            # Its own variables must exist before a state can fill them.
            model.optimizer.build(model.trainable_variables)
        start = progress.starts[self.number]
        for row in progress.history[start:]:
            self.watch.see(row)
        # After the rows were seen, since a callback has changed the learning rate there.
        if progress.values:
            progress.fill(model)
        self.done = len(progress.history) - start
        before = progress.history[start - 1] if start else {"epoch": 0, "step": -1}
        self.offset = int(before[recipe.unit]) + (recipe.unit == "step")
        model.make_train_function()
        if model.distribute_strategy.num_replicas_in_sync > 1:
            # Variables of metrics cannot be made in a step of several devices.
            model.evaluate(self.validation.take(1), verbose=0)

    @property
    def steps_per_epoch(self) -> int:
        return feed.count_batches(len(self.training.train_part.labels), self.recipe.batch_size)

    def run(self, checkpoint: Checkpoint, report: Callable[[list[dict[str, float]]], None]) -> None:
        """Trains to the end of the phase, and saves the state after each row of the history."""
        recipe, progress = self.recipe, self.progress
        bounds = recipe.row_bounds(len(self.training.train_part.labels))
        bar = Bar(bounds[-1][1])
        for first, end in bounds[self.done :]:
            if self.watch.stopped:
                break
            started = time.perf_counter()
            place = end // self.steps_per_epoch if recipe.epochs else end - 1
            row: dict[str, float] = {recipe.unit: self.offset + place}
            row |= self._learn(first, end, bar)
            with averaged(self.model):
                measured = self.model.evaluate(self.validation, verbose=0, return_dict=True)
                row |= {f"val_{name}": float(value) for name, value in sorted(measured.items())}
                if not all(map(math.isfinite, row.values())):
                    raise UserError(
                        f"the training diverged: {format_row(row)}; lower the learning rate in the "
                        "model's `training.optimizer` in params.yaml"
                    )
                self.watch.see(row)
                if self.watch.kept == self.done:
                    progress.kept = self.model.get_weights()
                self.done += 1
                progress.history.append(row)
                progress.snapshots.append(take_snapshot(self.model))
            checkpoint.save(self.model, progress)
            clear = "\033[K" if sys.stdout.isatty() else ""
            print(f"{clear}{format_row(row)} ({time.perf_counter() - started:.1f} s)", flush=True)
            report(progress.history)
        # Where the optimizer averages the weights, those are what the phase has learned.
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def _learn(self, first: int, end: int, bar: Bar) -> dict[str, float]:
        """Runs the steps from `first` on, and returns the means of their metrics."""
        model, epoch = self.model, self.steps_per_epoch
        shift = self.offset * (epoch if self.recipe.epochs else 1)  # the steps of phases before
        first, end = first + shift, end + shift
        cuts = [step for step in range(first + 1, end) if step % epoch == 0]
        model.reset_metrics()
        for start, stop in pairwise([first, *cuts, end]):
            if start % epoch == 0:
                feed.seed_layers(model, self.training.seed, start)
            dataset = self._batches(range(start, stop))
            batches = iter(model.distribute_strategy.experimental_distribute_dataset(dataset))
            for step in range(start, stop, model.steps_per_execution):
                model.train_function(batches)
                bar.show(min(step + model.steps_per_execution, stop) - shift)
        return {name: float(value) for name, value in sorted(model.get_metrics_result().items())}

    def _batches(self, steps: range) -> tf.data.Dataset:
        recipe, part, seed = self.recipe, self.training.train_part, self.training.seed
        images = len(part.labels)
        dataset = feed.batches(
            part, [feed.draw_batch(step, images, recipe.batch_size, seed) for step in steps]
        )
        if self.dense:
            dataset = dataset.map(self._with_probabilities)
        if self.augmentation is not None:
            seeds = np.stack([self.augmentation.seeds(seed, step) for step in steps])
            drawn = tf.data.Dataset.from_tensor_slices(seeds)
            change = self.augmentation.change
            dataset = tf.data.Dataset.zip(dataset, drawn).map(
                lambda batch, now: change(batch[0], batch[1], now)
            )
        if self.weights is not None:
            dataset = dataset.map(self._with_weights)
        return dataset.prefetch(feed.AHEAD)

    def _validation(self) -> tf.data.Dataset:
        part = self.training.valid_part
        dataset = feed.batches(part, feed.cut_all(len(part.labels), VALIDATION_BATCH))
        if self.dense:
            dataset = dataset.map(self._with_probabilities)
        return dataset.prefetch(feed.AHEAD)

    def _with_probabilities(self, images: Any, labels: Any) -> tuple[Any, Any]:
        # `one_hot` takes no uint16, in which more than 256 classes are counted.
        return images, tf.one_hot(tf.cast(labels, tf.int32), len(self.training.classes))

    def _with_weights(self, images: Any, labels: Any) -> tuple[Any, Any, Any]:
        weights = tf.constant(self.weights)
        if self.dense:
            return images, labels, tf.linalg.matvec(labels, weights)
        return images, labels, tf.gather(weights, tf.cast(labels, tf.int32))


def compile_model(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, objective: Objective
) -> None:
    """Prepares `model` for training, within the scope of the strategy that it was built in."""
    # TensorFlow fails to run several steps in one call under a strategy of several devices.
    one_device = tf.distribute.get_strategy().num_replicas_in_sync == 1
    small = model.count_params() < SMALL_NETWORK
    model.compile(
        optimizer,
        objective.loss,
        metrics=objective.metrics,
        steps_per_execution=STEPS_PER_CALL if small and one_device else 1,
    )


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Within it, the weights are the averages that the optimizer keeps, if it keeps any.

    `Model.fit` would write them into the weights at its end, and go on from there.
    """
    optimizer = model.optimizer
    if not getattr(optimizer, "inner_optimizer", optimizer).use_ema:
        yield
        return
    weights = [variable.numpy() for variable in model.trainable_variables]
    optimizer.finalize_variable_values(model.trainable_variables)
    yield
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)


def format_row(row: dict[str, float]) -> str:
    """Writes a row of the history in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in row.items())
