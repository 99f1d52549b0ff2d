"""Trains a model of `params.yaml` by Keras's `fit`, and prints the seconds of the second epoch.

python fit.py plain NAME        arrays in memory, TensorFlow as it comes
python fit.py one-batch NAME    one batch again and again, TensorFlow as the stage sets it up
"""

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from stages.lib import params
from stages.lib.splits import read_part, read_summary
from stages.networks.feed import count_batches
from stages.networks.network import Network, build_network
from stages.networks.objectives import build_objective
from stages.networks.optimizers import build_optimizer
from stages.networks.recipe import TrainingDefaults, read_recipes
from stages.networks.runtime import keras, set_up, tf
from stages.networks.training import VALIDATION_BATCH, compile_model


def main(mode: str, name: str) -> None:
    key = f"models.{name}"
    network = params.read(f"{key}.network", Network)
    [recipe] = read_recipes(f"{key}.training", network.trainable_from)
    folder = Path("data/splits", params.read(f"{key}.dataset", str))
    summary = read_summary(folder)
    train, valid = (read_part(folder, part) for part in ("train", "valid"))
    defaults = params.read("training", TrainingDefaults)
    if mode == "one-batch":
        set_up(defaults.device, defaults.threads, defaults.processor, defaults.precision)
    shape, classes = tuple(summary["image_shape"]), list(summary["classes"])
    model = build_network(network, shape, len(classes), f"{key}.network")
    steps = count_batches(len(train.labels), recipe.batch_size)
    optimizer = build_optimizer(recipe.optimizer, steps, f"{key}.training.optimizer")
    images, labels = np.array(train.images), np.array(train.labels)
    if mode == "one-batch":
        compile_model(model, optimizer, build_objective(None, [], len(classes), key))
        batch = images[: recipe.batch_size], labels[: recipe.batch_size]
        fit = partial(
            model.fit, tf.data.Dataset.from_tensors(batch).repeat(), steps_per_epoch=steps
        )
    else:
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        fit = partial(model.fit, images, labels, batch_size=recipe.batch_size)
    validation = np.array(valid.images), np.array(valid.labels)
    ends: list[float] = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    fit(
        epochs=2,
        callbacks=[note],
        validation_data=validation,
        validation_batch_size=VALIDATION_BATCH,
        verbose=0,
    )
    print(ends[1] - ends[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
