"""What is inside a trained network: its layers, and what it makes of images.

Whatever makes no sense for a network (the filters of one without convolutions) is `None` or empty.
"""

from math import prod

import numpy as np
import pandas as pd

from stages.networks.runtime import keras, tf

# Of feature maps, so that what is kept of a deep network stays small.
MOST_CHANNELS = 64
LARGEST_SIDE = 64
ACTIVATIONS = (keras.layers.Activation, keras.layers.ReLU)


def layer_table(model: keras.Model) -> pd.DataFrame:
    """Returns a row a layer, in the order of computation.

    Its columns are `name`, `type`, `output_shape` (such as `24 x 24 x 64`, for one image),
    `parameters` and `inputs`, the names of the layers before it with a space between two.
    """
    return pd.DataFrame(
        {
            "name": layer.name,
            "type": type(layer).__name__,
            "output_shape": " x ".join(map(str, layer.output.shape[1:])),
            "parameters": layer.count_params(),
            "inputs": " ".join(_inputs(layer)),
        }
        for layer in model.layers
    )


def count_multiply_adds(model: keras.Model) -> int:
    """Returns the multiply-adds of all weight matrices and filters for one image.

    A layer applies its kernel once at each place of its output. Biases, normalisations and
    activations are left out, as is usual: VGG-16 has 15.5 billion at 224x224, as published.
    """
    return sum(
        prod(getattr(layer, name).shape) * prod(layer.output.shape[1:-1])
        for layer in model.layers
        for name in ("kernel", "depthwise_kernel", "pointwise_kernel")
        if hasattr(layer, name)
    )


def _inputs(layer: keras.layers.Layer) -> list[str]:
    tensors = [] if isinstance(layer, keras.layers.InputLayer) else layer.input
    return [t._keras_history.operation.name for t in keras.tree.flatten(tensors)]


def feature_maps(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what each convolution and each activation of maps gives for `images`.

    Args:
        model: The network.
        images: uint8 [n, height, width, channels].

    Returns:
        float16 [n, height, width, channels] by the layers' names in the order of computation: the
        first 64 channels, made smaller where a side is longer than 64.
    """
    layers = _map_layers(model, *ACTIVATIONS)
    if not layers:
        return {}
    outputs = keras.Model(model.inputs, [layer.output for layer in layers])(
        [images], training=False
    )
    maps = {}
    for layer, output in zip(layers, keras.tree.flatten(outputs), strict=True):
        kept = tf.cast(output[..., :MOST_CHANNELS], tf.float32)
        size = [min(side, LARGEST_SIDE) for side in kept.shape[1:3]]
        if size != kept.shape[1:3]:
            kept = tf.image.resize(kept, size, "area")
        maps[layer.name] = np.clip(kept.numpy(), -6e4, 6e4).astype(np.float16)
    return maps


def _map_layers(model: keras.Model, *kinds: type[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """Returns the convolutions and the layers of other `kinds` that give maps.

    There are none in a network without convolutions.
    """
    shapes = [(layer, layer.output.shape) for layer in model.layers]
    maps = [layer for layer, shape in shapes if len(shape) == 4 and max(shape[1:3]) > 1]
    if not any(hasattr(layer, "kernel_size") for layer in maps):
        return []
    return [m for m in maps if hasattr(m, "kernel_size") or isinstance(m, kinds)]


def _last_maps(model: keras.Model) -> keras.layers.Layer | None:
    """Returns the last layer of maps that every path through the network goes through.

    The last one of all may see a part only: in Inception-v3 it is one branch of several.
    """
    maps = _map_layers(model, *ACTIVATIONS, keras.layers.Add, keras.layers.Concatenate)
    used = {name: index for index, layer in enumerate(model.layers) for name in _inputs(layer)}
    found, passed = None, 0  # as far as something from before is used
    for index, layer in enumerate(model.layers):
        if passed <= index and layer in maps:
            found = layer
        passed = max(passed, used.get(layer.name, 0))
    return found


def grad_cam(
    model: keras.Model, images: np.ndarray, classes: np.ndarray
) -> tuple[str, np.ndarray] | None:
    """Returns where in `images` the network's last maps have what speaks for given classes.

    Grad-CAM, of the score before the softmax: https://arxiv.org/abs/1610.02391, equations 1 and 2.

    Args:
        model: A network that ends with a dense softmax layer.
        images: uint8 [n, height, width, channels].
        classes: Indexes of classes, int [n, k].

    Returns:
        The layer's name and float32 [n, k, height, width], as large as its maps; `None` for a
        network without convolutions.
    """
    last = _last_maps(model)
    if last is None:
        return None
    output = model.layers[-1]
    until = keras.Model(model.inputs, [last.output, output.input])
    heat = []
    for wanted in classes.T:
        with tf.GradientTape() as tape:
            maps, features = until([images], training=False)
            scores = tf.cast(features, tf.float32) @ tf.convert_to_tensor(output.kernel)
            score = tf.gather(scores, wanted, batch_dims=1)
        gradients = tf.cast(tape.gradient(score, maps), tf.float32)
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        heat.append(tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1)).numpy())
    return last.name, np.stack(heat, axis=1)
