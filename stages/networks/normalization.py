"""Normalization by the mean and variance of the training images."""

import numpy as np

from stages.lib.command import UserError
from stages.lib.images import Images
from stages.networks import feed
from stages.networks.runtime import keras

BATCH = 256  # images


def is_unknown(layer: keras.layers.Layer) -> bool:
    """Returns whether `layer` normalises by a mean that it has yet to learn."""
    return isinstance(layer, keras.layers.Normalization) and layer.input_mean is None


def refuse_within(layer: keras.layers.Layer, key: str) -> None:
    """Raises a `UserError` if another layer in `layer`, which stands at `key`, is to be adapted."""
    if any(map(is_unknown, layer._flatten_layers(include_self=False))):
        raise UserError(
            f"params.yaml: {key}: the Normalization in it learns nothing of the images: give it "
            "`mean` and `variance`, or put it before this layer"
        )


def adapt(layer: keras.layers.Normalization, before: keras.Model, images: Images) -> None:
    """Gives `layer` the mean and variance of what it sees of `images`, summed in float64.

    Args:
        layer: A layer that is built.
        before: The network up to `layer`.
        images: uint8 [n, height, width, channels].
    """
    dimensions = len(before.output.shape)
    summed = tuple({*range(dimensions)} - {axis % dimensions for axis in layer.axis})
    count, total, squares = 0, np.float64(0), np.float64(0)
    for batch in feed.cut_all(len(images), BATCH):
        features = feed.predict(before, images[batch])
        features = features.astype(np.float64)
        total += features.sum(summed)
        squares += np.square(features).sum(summed)
        count += features.size // total.size
    mean = total / count
    # Rounded, that of a pixel which never changes may be below 0, and has no root.
    variance = np.maximum(squares / count - mean**2, 0)
    layer.adapt_mean.assign(mean.astype(np.float32))
    layer.adapt_variance.assign(variance.astype(np.float32))
    layer.finalize_state()
