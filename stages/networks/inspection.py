"""What is inside a trained network: its layers, and what they make of images.

What makes no sense for a network (the feature maps of one without convolutions) is `None` or empty.
"""

from math import prod

import numpy as np
import pandas as pd

from stages.networks.runtime import keras, tf

# The most that is kept of a layer's feature maps, so that those of a deep network stay small.
MOST_CHANNELS = 64
LARGEST_SIDE = 64  # pixels
ACTIVATIONS = (keras.layers.Activation, keras.layers.ReLU)


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

    A layer applies its kernel once at each place of its output. Biases, normalisations and
    activations do not count, as is usual: VGG-16 has the published 15.5 billion at 224x224.
    """
    return sum(
        prod(getattr(layer, name).shape) * prod(layer.output.shape[1:-1])
        for layer in model.layers
        for name in ("kernel", "depthwise_kernel", "pointwise_kernel")
        if hasattr(layer, name)
    )


def _input_names(layer: keras.layers.Layer) -> list[str]:
    tensors = [] if isinstance(layer, keras.layers.InputLayer) else layer.input
    return [t._keras_history.operation.name for t in keras.tree.flatten(tensors)]


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
