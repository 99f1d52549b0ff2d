"""A network's weights as images.

What makes no sense for a network (the filters of one without convolutions) is `None`.
"""

from itertools import pairwise
from math import prod

import numpy as np

from stages.networks.runtime import keras


def first_weights(model: keras.Model) -> np.ndarray | None:
    """Returns the weights of the first layer's units as images.

    Returns:
        float32 [units, height, width, channels], or `None` unless the first layer that has weights
        is a dense one which sees all pixels.
    """
    weighted = _weighted(model)
    if not weighted or not isinstance(weighted[0], keras.layers.Dense):
        return None
    return _as_images(weighted[0].kernel.numpy(), model)


def class_images(model: keras.Model) -> np.ndarray | None:
    """Returns the product of all weight matrices: what each class would be, were all units linear.

    Returns:
        float32 [classes, height, width, channels], or `None` unless all weights are of dense layers
        which follow each other.
    """
    weighted = _weighted(model)
    if not all(isinstance(layer, keras.layers.Dense) for layer in weighted):
        return None
    if any(len(keras.tree.flatten(layer.input)) > 1 for layer in model.layers):
        return None
    kernels = [layer.kernel.numpy() for layer in weighted]
    if any(before.shape[1] != after.shape[0] for before, after in pairwise(kernels)):
        return None
    # BLAS, behind `@`, sums in as many parts as there are cores, to other bytes; `einsum` does not.
    *others, product = (kernel.astype(np.float64) for kernel in kernels)
    for kernel in reversed(others):
        product = np.einsum("ij,jk->ik", kernel, product)
    return _as_images(product.astype(np.float32), model)


def _weighted(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if layer.count_params()]


def _as_images(kernel: np.ndarray, model: keras.Model) -> np.ndarray | None:
    shape = model.input_shape[1:]
    return kernel.T.reshape(-1, *shape) if kernel.shape[0] == prod(shape) else None


def first_filters(model: keras.Model) -> np.ndarray | None:
    """Returns the filters of the first convolution, float32 [filters, height, width, channels]."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel: np.ndarray = layer.kernel.numpy()
            return np.moveaxis(kernel, -1, 0)
    return None
