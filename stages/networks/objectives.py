"""What a training minimises and measures: losses, metrics and the weights of classes.

Keras's losses and metrics differ in the labels that they take, indexes of classes or a probability
for each class, and say nothing of labels of the other kind. So each is given its own kind, and is
tried on a few right and wrong predictions before it is used.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from stages.lib.command import UserError
from stages.lib.params import suggest
from stages.networks.runtime import keras, tf
from stages.networks.vocabulary import Spec, blame, build, name_and_arguments

CROSS_ENTROPY = "SparseCategoricalCrossentropy"
# It takes indexes alone, and its name does not say so.
GENERALIZED = "CategoricalGeneralizedCrossEntropy"
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Objective:
    """What a phase of a training minimises and measures.

    Attributes:
        loss: What `compile` takes.
        metrics: Beside the loss, accuracy first.
        dense: Whether the labels are probabilities, float32 [n, classes], and not indexes [n].
        directions: `min` or `max` for each column of the history that is better so.
    """

    loss: Any
    metrics: list[keras.metrics.Metric]
    dense: bool
    directions: dict[str, str]


def build_objective(
    loss: Spec,
    metrics: list[Spec],
    classes: int,
    key: str,
    soft: bool = False,
    weighted: bool = False,
) -> Objective:
    """Builds what a recipe minimises and measures.

    Args:
        loss: A loss of `keras.losses`, `None` for the cross-entropy.
        metrics: Metrics of `keras.metrics`.
        classes: The number of classes.
        key: Where the recipe stands in `params.yaml`, for error messages.
        soft: Whether labels come as probabilities, whatever the loss.
        weighted: Whether classes have weights.

    Raises:
        UserError: Keras has no such loss or metric, it does not tell right from wrong, or cannot
            take such labels or weights.
    """
    name, arguments = name_and_arguments(CROSS_ENTROPY if loss is None else loss, f"{key}.loss")
    dense = soft or not (name.startswith("Sparse") or name == GENERALIZED)
    if loss is None:
        # As text, which computes the same and is what the published models are trained with.
        made: Any = "categorical_crossentropy" if soft else "sparse_categorical_crossentropy"
    else:
        made = _build_loss(name, arguments, dense, classes, f"{key}.loss")
        if weighted:
            _refuse_one_of_a_batch(made, classes, dense, f"{key}.loss.{name}")
    # Pass the metric object, not the string: Keras would create it inside the first traced step and
    # trace that step twice.
    accuracy = (
        keras.metrics.CategoricalAccuracy if dense else keras.metrics.SparseCategoricalAccuracy
    )
    directions = {"loss": "min", "accuracy": "max"}
    measures = [accuracy(name="accuracy")]
    for measure in build_metrics(metrics, classes, f"{key}.metrics"):
        directions[measure.name] = measure.direction
        measures.append(measure)
    both = {f"{part}{name}": way for part in ("", "val_") for name, way in directions.items()}
    return Objective(made, measures, dense, both)


def _build_loss(
    name: str, arguments: dict[str, Any], dense: bool, classes: int, key: str
) -> keras.losses.Loss:
    _refuse_logits(arguments, f"{key}.{name}")
    if dense and name == GENERALIZED:
        raise UserError(
            f"params.yaml: {key}.{name}: takes one class for each image, and `augment` gives a "
            "probability for each class: leave one of the two out"
        )
    if dense:
        name = name.removeprefix("Sparse")
    loss = build({name: arguments}, keras.losses, keras.losses.Loss, key)
    right, wrong = _try_out(loss, classes, dense, f"{key}.{name}")
    if not right < wrong:
        raise UserError(
            f"params.yaml: {key}.{name}: is not smaller for right predictions than for wrong ones, "
            "so a classifier cannot learn by it; CategoricalCrossentropy can"
        )
    return loss


def _refuse_one_of_a_batch(loss: keras.losses.Loss, classes: int, dense: bool, key: str) -> None:
    labels = np.eye(classes, dtype=np.float32) if dense else np.arange(classes)
    said = np.full((classes, classes), 1 / classes, np.float32)
    if not len(np.shape(loss.call(tf.constant(labels), tf.constant(said)))):
        raise UserError(
            f"params.yaml: {key}: gives one number for a whole batch, in which `class_weight` "
            "weighs no class: give it `axis: [1]`, or leave one of the two out"
        )


def build_metrics(specs: list[Spec], classes: int, key: str) -> list["Measure"]:
    """Builds the metrics `specs`, which stand at `key` of `params.yaml`.

    Raises:
        UserError: Keras has no such metric, it does not tell right from wrong, or is no one number.
    """
    taken = {"loss", "accuracy", "epoch", "step", "kept", "val_loss", "val_accuracy"}
    measures = []
    for index, spec in enumerate(specs):
        path = f"{key}[{index}]"
        name, arguments = name_and_arguments(spec, path)
        _refuse_logits(arguments, f"{path}.{name}")
        metric = build(spec, keras.metrics, keras.metrics.Metric, path)
        if "y_pred" not in inspect.signature(metric.update_state).parameters:
            raise UserError(f"params.yaml: {path}.{name}: compares no predictions with labels")
        column = _column(metric, arguments, taken)
        measure = Measure(metric, column, sparse=name.startswith("Sparse"))
        if measure.name in taken or not measure.name.isidentifier():
            raise UserError(
                f"params.yaml: {path}.{name}: its column would be '{measure.name}': give it "
                "another name, `name: …`, of letters, digits and _"
            )
        taken |= {measure.name, f"val_{measure.name}"}
        right, wrong = _try_out(measure.once, classes, measure.dense, f"{path}.{name}")
        if right == wrong:
            raise UserError(
                f"params.yaml: {path}.{name}: is the same for right and for wrong predictions, so "
                "it says nothing of a classifier"
            )
        measure.direction = "max" if right > wrong else "min"
        measures.append(measure)
    return measures


def _column(metric: keras.metrics.Metric, arguments: dict[str, Any], taken: set[str]) -> str:
    """Returns the name of a metric's column.

    Keras numbers those without a name through the whole process, and a training that goes on is
    another one. So they are numbered here, in the list that they stand in.
    """
    default = inspect.signature(type(metric)).parameters["name"].default
    name: str = metric.name
    if arguments.get("name", default) is not None:
        return name
    own = re.sub(r"_\d+$", "", name)
    return next(each for n in count() if (each := f"{own}_{n}" if n else own) not in taken)


def _refuse_logits(arguments: dict[str, Any], key: str) -> None:
    if arguments.get("from_logits"):
        raise UserError(
            f"params.yaml: {key}.from_logits: the network ends in a softmax, which gives "
            "probabilities: leave it out"
        )


class Measure(keras.metrics.Metric):  # type: ignore[misc]  # untyped
    """A metric that gets labels of the kind that it takes, whatever the loss takes.

    Attributes:
        direction: `max` if right predictions give more, else `min`.
    """

    direction = "max"

    def __init__(self, metric: keras.metrics.Metric, name: str, sparse: bool):
        super().__init__(name=name)
        self.metric, self.dense = metric, not sparse

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes indexes [n] or probabilities [n, classes], and what was predicted."""
        del sample_weight  # the weights of classes are for the loss alone
        if len(y_true.shape) == 2 and y_true.shape[1] == y_pred.shape[1]:
            # A mixed image counts as what it shows most, as for the accuracy: many a metric takes
            # each probability above 0 for a class that is there.
            y_true = tf.argmax(y_true, axis=1)
        if self.dense:
            indexes = tf.reshape(tf.cast(y_true, tf.int32), [-1])
            y_true = tf.one_hot(indexes, y_pred.shape[1])
        self.metric.update_state(y_true, y_pred)

    def result(self) -> Any:
        """Returns the metric since it was reset."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Forgets what it has seen."""
        self.metric.reset_state()

    def once(self, y_true: np.ndarray, y_pred: np.ndarray) -> Any:
        """Returns the metric of these labels and predictions alone."""
        self.reset_state()
        self.update_state(tf.constant(y_true), tf.constant(y_pred))
        result = self.result()
        self.reset_state()
        return result


def _try_out(
    measure: Callable[[Any, Any], Any], classes: int, dense: bool, key: str
) -> tuple[float, float]:
    """Returns what `measure` gives for right and for wrong predictions."""
    # The true class comes first in right predictions, last in wrong ones, and ties with none: a
    # metric of the first k classes tells them apart too.
    identity = np.eye(classes, dtype=np.float32)
    distance = (np.arange(classes) - np.arange(classes)[:, None]) % classes
    last = (distance + 1) / (classes * (classes + 1) / 2)
    first = (classes - distance) / (classes * (classes + 1) / 2)
    right = (0.7 * identity + 0.3 * first).astype(np.float32)
    wrong = (0.7 * np.roll(identity, 1, axis=1) + 0.3 * last).astype(np.float32)
    labels = identity if dense else np.arange(classes)
    found = []
    for predictions in (right, wrong):
        with blame(key):
            try:
                value = keras.ops.convert_to_numpy(measure(labels, predictions))
            except tf.errors.OpError as error:
                raise ValueError(error.message) from error
        if value.ndim or not np.isfinite(value):
            raise UserError(
                f"params.yaml: {key}: gives {value.size} values, expected one finite number for "
                "all images"
            )
        found.append(float(value))
    return found[0], found[1]


def weigh_classes(spec: Any, names: list[str], labels: np.ndarray, key: str) -> np.ndarray | None:
    """Returns how much an image of each class counts in the loss, float32 [classes].

    Args:
        spec: `balanced`, by which each class counts alike however many images it has; or a number
            for each class by its name; or `None`.
        names: The names of the classes, in order.
        labels: The labels of the training images.
        key: Where `spec` stands in `params.yaml`, for error messages.

    Raises:
        UserError: A class is unknown, or one is missing; or no training image counts.
    """
    if spec is None:
        return None
    if spec == "balanced":
        counts = np.bincount(labels, minlength=len(names))
        seen = np.count_nonzero(counts)
        return (len(labels) / (seen * np.maximum(counts, 1))).astype(np.float32)
    if not isinstance(spec, dict):
        raise UserError(
            f"params.yaml: {key}: expected balanced, or a number for each class by its name, found "
            f"{spec!r}"
        )
    weights = {str(name): weight for name, weight in spec.items()}
    for name in weights:
        if name not in names:
            hint = suggest(name, names, f"classes: {', '.join(names)}")
            raise UserError(f"params.yaml: {key}.{name}: the dataset has no such class; {hint}")
        weight = weights[name]
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 <= weight <= LARGEST:
            raise UserError(
                f"params.yaml: {key}.{name}: expected a number that is 0 or more, found {weight!r}"
            )
    if missing := [name for name in names if name not in weights]:
        raise UserError(
            f"params.yaml: {key}: has no weight for {', '.join(missing)}: give each class one"
        )
    chosen = np.array([weights[name] for name in names], np.float32)
    if not chosen[labels].any():
        raise UserError(
            f"params.yaml: {key}: is 0 for the class of each training image, so nothing would be "
            "learned: give a class more"
        )
    return chosen
