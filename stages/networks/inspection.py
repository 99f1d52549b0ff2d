"""What is inside a trained network: its layers, and what they make of images.

What makes no sense for a network (the feature maps of one without convolutions) is `None` or empty.
"""

from itertools import chain
from math import prod
from typing import Any

import numpy as np
import pandas as pd

from stages.networks import weights
from stages.networks.runtime import keras, tf
from stages.networks.views import Views, predict

# The most that is kept of a layer's feature maps, so that those of a deep network stay small.
MOST_CHANNELS = 64
LARGEST_SIDE = 64  # pixels
UNITS = 225  # hidden units whose weights are kept
ACTIVATIONS = (keras.layers.Activation, keras.layers.ReLU)
HEADS = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


def choose(count: int, most: int, seed: int) -> np.ndarray:
    """Returns at most `most` of the indexes below `count`, in ascending order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def inspect(
    model: keras.Model, images: np.ndarray, seed: int, views: Views | None = None
) -> dict[str, Any]:
    """Returns what is inside the network, as far as it makes sense for it.

    Args:
        model: A trained network.
        images: Examples to look at, uint8 [n, height, width, channels].
        seed: Chooses the hidden units where there are many.
        views: Those whose mean `predict` takes.

    Returns:
        Arrays by name; `feature_maps` is a mapping of arrays, and `grad_cam_layer` is a name.
    """
    probabilities = predict(model, images, len(images), views)
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    units = weights.first_weights(model)
    layer, heat = grad_cam(model, images, likeliest) or (None, None)
    return {
        "weights": None if units is None else units[choose(len(units), UNITS, seed)],
        "class_images": weights.class_images(model),
        "filters": weights.first_filters(model),
        "feature_maps": feature_maps(model, images),
        "grad_cam": heat,
        "grad_cam_layer": layer,
        "examples_images": images,
        "examples_probabilities": probabilities,
    }


def layer_table(model: keras.Model) -> pd.DataFrame:
    """Returns a row a layer, in the order of computation.

    The columns are `name`, `type`, `output_shape` (such as `24 x 24 x 64`, for one image),
    `parameters`, and `inputs`: the names of the layers it takes, separated by spaces.
    """
    return pd.DataFrame(
        {
            "name": layer.name,
            "type": type(layer).__name__,
            "output_shape": " x ".join(map(str, layer.output.shape[1:])),
            "parameters": layer.count_params(),
            "inputs": " ".join(_input_names(layer)),
        }
        for layer in model.layers
    )


def count_multiply_adds(model: keras.Model) -> int:
    """Returns the number of multiply-adds in all weight matrices and filters, for one image.

    A layer applies its kernel once at each place of its output, a transposed convolution at each of
    its input, a recurrent layer at each step. Attention also multiplies queries with keys, and the
    weights that this gives with values. Biases, normalisations and activations do not count, as is
    usual: VGG-16 has the published 15.5 billion at 224x224.
    """
    return sum(_multiply_adds(layer, layer.input, layer.output) for layer in model.layers)


def _multiply_adds(layer: keras.layers.Layer, given: Any, made: Any) -> int:
    if isinstance(layer, keras.layers.Bidirectional):
        both = (layer.forward_layer, layer.backward_layer)
        return sum(_multiply_adds(each, given, made) for each in both)
    if isinstance(layer, keras.layers.TimeDistributed):
        step, result = (
            keras.KerasTensor((each.shape[0], *each.shape[2:])) for each in (given, made)
        )
        return int(given.shape[1]) * _multiply_adds(layer.layer, step, result)
    if isinstance(layer, keras.layers.Attention):
        query, value, *_ = given
        return int(query.shape[1] * value.shape[1] * (query.shape[2] + value.shape[2]))
    if isinstance(layer, HEADS):
        return _attention(layer, *given)
    if isinstance(layer, keras.layers.EinsumDense) and "." not in layer.equation:
        terms = layer.equation.split("->")[0].split(",")
        named = dict(zip("".join(terms), (*given.shape, *layer.kernel.shape), strict=True))
        return int(prod(size for name, size in named.items() if name != terms[0][0]))
    places, holder = prod(made.shape[1:-1]) if hasattr(made, "shape") else 1, layer
    if isinstance(layer, keras.layers.RNN):
        # What it returns has the steps only where all are asked for.
        steps, holder = given.shape[1], layer.cell
        places = steps * (prod(made.shape[-3:-1]) if len(given.shape) == 5 else 1)
    elif "Transpose" in type(layer).__name__:
        places = prod(given.shape[1:-1])
    names = ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel")
    sizes = (prod(getattr(holder, name).shape) for name in names if hasattr(holder, name))
    return int(places * sum(sizes))


def _attention(layer: keras.layers.Layer, query: Any, value: Any, *_: Any) -> int:
    """Counts the projections, and all heads' products of queries with keys, weights with values."""
    queries, values = (prod(each.shape[1:-1]) for each in (query, value))
    places = {"query": queries, "gate": queries, "output": queries, "key": values, "value": values}
    kernels = {
        name: getattr(layer, f"_{name}_dense").kernel.shape
        for name in places
        if hasattr(layer, f"_{name}_dense")
    }
    # A query meets the keys on the axes of attention, which are all unless the layer names some.
    axes = getattr(layer, "attention_axes", None) or range(1, len(value.shape) - 1)
    pairs = queries * prod(value.shape[axis] for axis in axes)
    products = pairs * (prod(kernels["query"][1:]) + prod(kernels["output"][:2]))
    return int(products + sum(places[name] * prod(shape) for name, shape in kernels.items()))


def _input_names(layer: keras.Operation) -> list[str]:
    """Returns the layers whose outputs `layer` takes, past operations that are no layers."""
    tensors = [] if isinstance(layer, keras.layers.InputLayer) else layer.input
    sources = [tensor._keras_history.operation for tensor in keras.tree.flatten(tensors)]
    names = [
        [source.name] if isinstance(source, keras.layers.Layer) else _input_names(source)
        for source in sources
    ]
    return list(dict.fromkeys(chain.from_iterable(names)))


def feature_maps(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what each convolution and each activation layer gives for `images`.

    Args:
        model: The network.
        images: uint8 [n, height, width, channels].

    Returns:
        float16 [n, height, width, channels] by the layers' names, in the order of computation: the
        first `MOST_CHANNELS` channels, each side reduced to `LARGEST_SIDE` where it is longer.
    """
    layers = _map_layers(model, *ACTIVATIONS)
    if not layers:
        return {}
    outputs = keras.Model(model.inputs, [layer.output for layer in layers])(
        [images], training=False
    )
    maps = {}
    for layer, output in zip(layers, keras.tree.flatten(outputs), strict=True):
        channels = tf.cast(output[..., :MOST_CHANNELS], tf.float32)
        size = [min(side, LARGEST_SIDE) for side in channels.shape[1:3]]
        if size != channels.shape[1:3]:
            channels = tf.image.resize(channels, size, "area")
        # float16 ends at 65,504.
        maps[layer.name] = np.clip(channels.numpy(), -6e4, 6e4).astype(np.float16)
    return maps


def _map_layers(model: keras.Model, *kinds: type[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """Returns the convolutions and the layers of other `kinds` whose output has height and width.

    In a network without convolutions, there are none.
    """
    shapes = [(layer, layer.output.shape) for layer in model.layers]
    layers = [layer for layer, shape in shapes if len(shape) == 4 and max(shape[1:3]) > 1]
    if not any(hasattr(layer, "kernel_size") for layer in layers):
        return []
    return [each for each in layers if hasattr(each, "kernel_size") or isinstance(each, kinds)]


def _last_map_layer(model: keras.Model) -> keras.layers.Layer | None:
    """Returns the last layer of maps that every path through the network goes through.

    The very last layer of maps may lie on one path only: in Inception-v3 it is one of several
    branches.
    """
    candidates = _map_layers(model, *ACTIVATIONS, keras.layers.Add, keras.layers.Concatenate)
    last_use = {
        name: index for index, layer in enumerate(model.layers) for name in _input_names(layer)
    }
    # Up to the index `bypassed`, a layer takes the output of an earlier one, past those in between:
    # they lie on one path of several.
    found, bypassed = None, 0
    for index, layer in enumerate(model.layers):
        if bypassed <= index and layer in candidates:
            found = layer
        bypassed = max(bypassed, last_use.get(layer.name, 0))
    return found


def grad_cam(
    model: keras.Model, images: np.ndarray, classes: np.ndarray
) -> tuple[str, np.ndarray] | None:
    """Returns where in `images` the network's last maps speak for given classes: Grad-CAM.

    https://arxiv.org/abs/1610.02391, equations 1 and 2, for the score before the softmax.

    Args:
        model: A network that ends with a dense softmax layer.
        images: uint8 [n, height, width, channels].
        classes: Indexes of classes, int [n, k].

    Returns:
        The layer's name and float32 [n, k, height, width], the size of its maps; `None` for a
        network without convolutions.
    """
    last = _last_map_layer(model)
    if last is None:
        return None
    output = model.layers[-1]
    maps_and_features = keras.Model(model.inputs, [last.output, output.input])
    heat = []
    for indexes in classes.T:
        with tf.GradientTape() as tape:
            maps, features = maps_and_features([images], training=False)
            scores = tf.cast(features, tf.float32) @ tf.convert_to_tensor(output.kernel)
            score = tf.gather(scores, indexes, batch_dims=1)
        gradients = tf.cast(tape.gradient(score, maps), tf.float32)
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        heat.append(tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1)).numpy())
    return last.name, np.stack(heat, axis=1)
