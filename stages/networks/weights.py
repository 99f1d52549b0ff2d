"""A network's weights as images.

What makes no sense for a network (the filters of one without convolutions) is `None`.
"""

from itertools import pairwise
from math import prod

import numpy as np

from stages.networks.runtime import keras

SNAPSHOT_UNITS = 10  # hidden units whose weights a snapshot holds


def first_weights(model: keras.Model) -> np.ndarray | None:
    """Returns the weights of the first layer's units as images.

    Returns:
        float32 [units, height, width, channels]; `None` unless the first layer with weights is a
        dense one that sees all pixels.
    """
    layers = _weighted_layers(model)
    if not layers or not isinstance(layers[0], keras.layers.Dense):
        return None
    return _as_images(layers[0].kernel.numpy(), model)


def take_snapshot(model: keras.Model) -> np.ndarray:
    """Returns `first_weights` of the first `SNAPSHOT_UNITS` units, of none where it is `None`."""
    weights = first_weights(model)
    if weights is None:
        return np.empty((0, *model.input_shape[1:]), np.float32)
    return weights[:SNAPSHOT_UNITS]


def class_images(model: keras.Model) -> np.ndarray | None:
    """Returns the product of all weight matrices.

    It shows what the network would look for in each class if all its units were linear.

    Returns:
        float32 [classes, height, width, channels]; `None` unless all weights are those of dense
        layers that follow each other.
    """
    layers = _weighted_layers(model)
    if not all(isinstance(layer, keras.layers.Dense) for layer in layers):
        return None
    if any(len(keras.tree.flatten(layer.input)) > 1 for layer in model.layers):
        return None
    kernels = [layer.kernel.numpy() for layer in layers]
    if any(before.shape[1] != after.shape[0] for before, after in pairwise(kernels)):
        return None
    # `@` uses BLAS, whose order of summation depends on the number of cores; `einsum` does not.
    *others, product = (kernel.astype(np.float64) for kernel in kernels)
    for kernel in reversed(others):
        product = np.einsum("ij,jk->ik", kernel, product)
    return _as_images(product.astype(np.float32), model)


def first_filters(model: keras.Model) -> np.ndarray | None:
    """Returns the filters of the first convolution, float32 [filters, height, width, channels]."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel: np.ndarray = layer.kernel.numpy()
            return np.moveaxis(kernel, -1, 0)
    return None


def _weighted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if layer.count_params()]


def _as_images(kernel: np.ndarray, model: keras.Model) -> np.ndarray | None:
    shape = model.input_shape[1:]
    return kernel.T.reshape(-1, *shape) if kernel.shape[0] == prod(shape) else None
