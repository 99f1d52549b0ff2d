"""What a network is fed in training: its batches, and the random state of its layers.

Both depend on the seed and the step alone. So a training that goes on in another process sees the
same images in the same order, and draws the same random numbers.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from stages.lib.splits import Part
from stages.networks.runtime import keras, tf

# Bytes that are read at a time, and how often ahead of the batch that is fed. A call of Python for
# each batch would take 5% of a small network's time.
READ, READS_AHEAD = 1 << 21, 4
AHEAD = 2  # batches that are ready, augmented, while the network learns from another


def count_batches(images: int, batch_size: int) -> int:
    """Returns the number of batches that hold all images once: the steps of an epoch.

    The last batch may be smaller. A last image alone belongs to the batch before it: TensorFlow
    has kernels of its own for one image, which follow the processor (see `portable`).
    """
    return max(1, math.ceil((images - 1) / batch_size))


def cut(order: np.ndarray, batch: int, batch_size: int) -> np.ndarray:
    """Returns the indexes in the batch number `batch` of `order`."""
    last = batch == count_batches(len(order), batch_size) - 1
    return order[batch * batch_size : None if last else (batch + 1) * batch_size]


def cut_all(images: int, batch_size: int) -> list[np.ndarray]:
    """Returns the indexes in each batch of so many images in their own order."""
    order = np.arange(images)
    return [cut(order, n, batch_size) for n in range(count_batches(images, batch_size))]


def draw_batch(step: int, images: int, batch_size: int, seed: int) -> np.ndarray:
    """Returns the indexes of the images that the network sees in `step`, int [batch_size].

    Each epoch has its own order of all images.
    """
    epoch, batch = divmod(step, count_batches(images, batch_size))
    return cut(_permutation(images, seed, epoch), batch, batch_size)


# All batches of an epoch are cut from one permutation.
@lru_cache(maxsize=1)
def _permutation(images: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(images)


def batches(part: Part, indexes: Sequence[np.ndarray]) -> tf.data.Dataset:
    """Returns the images and labels of `part` as batches, one for each array of `indexes`.

    They are read from the disk when they are needed, in another thread.
    """
    images, labels, order = part.images, part.labels, np.concatenate(indexes)
    rows = max(1, READ // math.prod(images.shape[1:]))

    def read(start: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = order[start : start + rows]
        return images[chosen], labels[chosen]

    def with_shapes(start: Any) -> tuple[Any, Any]:
        pixels, classes = tf.numpy_function(read, [start], [tf.uint8, labels.dtype])
        return tf.ensure_shape(pixels, (None, *images.shape[1:])), tf.ensure_shape(classes, (None,))

    # Disable autotuning: this pipeline has nothing to tune, and the tuner's sleeping thread delayed
    # the end of an epoch (5.1 s instead of 2.6 s).
    options = tf.data.Options()
    options.autotune.enabled = False
    return (
        tf.data.Dataset.range(0, len(order), rows)
        .map(with_shapes)
        .prefetch(READS_AHEAD)
        .rebatch(np.array([len(batch) for batch in indexes]))
        # Keras warns about a dataset that ends without having said when.
        .apply(tf.data.experimental.assert_cardinality(len(indexes)))
        .with_options(options)
    )


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Returns probabilities, float32 [n, classes], for uint8 [n, height, width, channels]."""
    # One image alone would be computed by other kernels: see `count_batches`.
    pixels = np.repeat(images, 2, axis=0) if len(images) == 1 else images
    probabilities: np.ndarray = model.predict_on_batch(pixels)
    return probabilities[: len(images)]


def seed_layers(model: keras.Model, seed: int, step: int) -> None:
    """Sets the random state of dropout and augmentation layers for the steps from `step` on.

    A layer's own `seed` counts too: layers that differ in it alone draw other numbers.
    """
    own = {
        id(state): own_seeds(layer.get_config())
        for layer in model.layers
        for state in seed_states(layer.non_trainable_variables)
    }
    for index, state in enumerate(seed_states(model.non_trainable_variables)):
        entropy = (seed, index, step, *own.get(id(state), ()))
        state.assign(np.random.SeedSequence(entropy).generate_state(2))


def seed_states(variables: list[Any]) -> list[Any]:
    """Returns those of `variables` that are the states of random generators."""
    return [variable for variable in variables if variable.name == "seed_generator_state"]


def own_seeds(config: Any) -> list[int]:
    """Returns the seeds that stand in a layer's configuration, or in one nested in it."""
    if isinstance(config, list | tuple):
        return [seed for each in config for seed in own_seeds(each)]
    if not isinstance(config, dict):
        return []
    found = []
    for name, value in config.items():
        if name == "seed" and isinstance(value, int):
            found.append(value + 1)  # SeedSequence takes a 0 at its end for nothing
        else:
            found += own_seeds(value)
    return found
