"""Computes what recipes can name and prints a hash of each, as JSON: `compute_everything.py SIDE`.

Every layer that takes images or vectors, forward and backward, every activation, three steps of
every optimizer, and every initializer. SIDE is that of the images, in pixels.
"""

import contextlib
import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stages.networks.runtime import keras, set_up, tf

with contextlib.redirect_stdout(sys.stderr):
    set_up("cpu", 2, "any")
layers = keras.layers
# The arguments of those that need some.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "Conv1D": {"filters": 24, "kernel_size": 3},
    "Conv1DTranspose": {"filters": 24, "kernel_size": 3},
    "Conv2D": {"filters": 24, "kernel_size": 3},
    "Conv2DTranspose": {"filters": 24, "kernel_size": 3},
    "SeparableConv2D": {"filters": 24, "kernel_size": 3},
    "SeparableConv1D": {"filters": 24, "kernel_size": 3},
    "DepthwiseConv2D": {"kernel_size": 3, "depth_multiplier": 2},
    "DepthwiseConv1D": {"kernel_size": 3},
    "Dense": {"units": 50},
    "EinsumDense": {"equation": "abcd,de->abce", "output_shape": (None, None, 30)},
    "LSTM": {"units": 20},
    "GRU": {"units": 20},
    "SimpleRNN": {"units": 20},
    "ConvLSTM1D": {"filters": 4, "kernel_size": 3},
    "MultiHeadAttention": {"num_heads": 2, "key_dim": 16},
    "GroupQueryAttention": {"head_dim": 16, "num_query_heads": 4, "num_key_value_heads": 2},
    "GroupNormalization": {"groups": 4},
    "Activation": {"activation": "relu"},
    "CenterCrop": {"height": 8, "width": 8},
    "RandomCrop": {"height": 8, "width": 8},
    "Resizing": {"height": 17, "width": 13},
    "RandomContrast": {"factor": 0.3},
    "RandomBrightness": {"factor": 0.3},
    "RandomHue": {"factor": 0.3},
    "RandomSaturation": {"factor": 0.3},
    "RandomSharpness": {"factor": 0.3},
    "RandomPosterization": {"factor": 4},
    "RandomRotation": {"factor": 0.2},
    "RandomZoom": {"height_factor": 0.2},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
    "RandomShear": {"x_factor": 0.2, "y_factor": 0.2},
    "Rescaling": {"scale": 0.0039, "offset": -0.5},
    "Reshape": {"target_shape": (-1,)},
    "RepeatVector": {"n": 3},
    "Permute": {"dims": (2, 1, 3)},
    "Solarization": {"addition_factor": 0.1},
    "Discretization": {"bin_boundaries": [0.0, 1.0]},
    "AdaptiveAveragePooling2D": {"output_size": 3},
    "AdaptiveMaxPooling2D": {"output_size": 3},
    "Dropout": {"rate": 0.3},
    "GaussianDropout": {"rate": 0.3},
    "AlphaDropout": {"rate": 0.3},
    "SpatialDropout2D": {"rate": 0.3},
    "SpatialDropout1D": {"rate": 0.3},
    "GaussianNoise": {"stddev": 0.3},
    "AveragePooling1D": {"pool_size": 2},
    "AveragePooling2D": {"pool_size": 3, "strides": 1, "padding": "same"},
}
# What Keras says where a layer does not take a form, or cannot be made without a word.
REFUSALS = (
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    NotImplementedError,
    tf.errors.OpError,
)
# Pairs that say more than a layer alone.
CHAINS: dict[str, list[Any]] = {
    "convolution of every width": [
        layers.Conv2D(16, 1),
        layers.Conv2D(64, 3, strides=2),
        layers.Conv2D(96, 5, groups=4),
        layers.Conv2D(48, 3, dilation_rate=2, padding="same"),
        layers.Conv2D(32, (1, 7), padding="same"),
    ],
    "spectral normalization": [layers.SpectralNormalization(layers.Conv2D(16, 3))],
    "bidirectional": [layers.Reshape((-1, 8)), layers.Bidirectional(layers.LSTM(8))],
}


def digest(values: Any) -> str:
    """Returns a hash of all tensors in `values`, which may be nested."""
    total = hashlib.sha256()
    for value in keras.tree.flatten(values):
        if value is not None:
            total.update(np.ascontiguousarray(tf.convert_to_tensor(value).numpy()).tobytes())
    return total.hexdigest()[:16]


def run_layers(chain: list[Any], images: Any) -> Any:
    """Returns what `chain` makes of `images`, and the gradients of the sum of its squares."""
    keras.utils.set_random_seed(0)
    features = inputs = keras.Input(images.shape[1:])
    for layer in chain:
        features = layer(features)
    model = keras.Model(inputs, features)

    @tf.function  # type: ignore[untyped-decorator]
    def step(images: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = model(images, training=True)
            total = sum(
                tf.reduce_sum(tf.cast(o, tf.float32) ** 2) for o in keras.tree.flatten(outputs)
            )
        watched = [images, *(v.value for v in model.trainable_variables)]
        return outputs, tape.gradient(total, watched)

    return [step(images), [v.value for v in model.variables], model(images, training=False)]


def named(module: Any, kind: Callable[[Any], bool]) -> list[tuple[str, Any]]:
    return sorted(inspect.getmembers(module, kind))


def everything(side: int) -> Iterator[tuple[str, Any]]:
    """Yields what is computed, and how, by name."""
    random = np.random.default_rng(0)
    images = tf.constant(random.standard_normal((6, side, side, 8)), tf.float32)
    sequences = tf.reshape(images, (6, side, side * 8))
    for name, make in named(layers, inspect.isclass):
        for form, given in (("images", images), ("rgb", images[..., :3]), ("sequences", sequences)):
            with contextlib.suppress(*REFUSALS):
                layer = make(**ARGUMENTS.get(name, {}))
                if "Attention" in name:
                    inputs = keras.Input(given.shape[1:])
                    layer = keras.Model(inputs, layer(inputs, inputs))
                yield f"{name} of {form}", run_layers([layer], given)
    for name, chain in CHAINS.items():
        yield name, run_layers(chain, images)
    line = tf.linspace(-9.0, 9.0, 10_007)[tf.newaxis]
    for name, function in named(keras.activations, inspect.isfunction):
        with contextlib.suppress(*REFUSALS):
            yield f"activation {name}", tf.function(function)(line)
    for name, make in named(keras.initializers, inspect.isclass):
        with contextlib.suppress(*REFUSALS):
            seeded = "seed" in inspect.signature(make).parameters
            yield f"initializer {name}", (make(seed=0) if seeded else make())((40, 40))
    for name, make in named(keras.optimizers, inspect.isclass):
        with contextlib.suppress(*REFUSALS):
            optimizer = make(0.01)
            keras.utils.set_random_seed(0)
            model = keras.Sequential(
                [
                    keras.Input((side, side, 8)),
                    layers.Conv2D(8, 3),
                    layers.Flatten(),
                    layers.Dense(3),
                ]
            )
            labels = tf.constant(np.arange(6) % 3)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(optimizer, loss)
            for _ in range(3):
                model.train_on_batch(images, labels)
            yield f"optimizer {name}", [v.value for v in model.variables]


print(json.dumps({name: digest(value) for name, value in everything(int(sys.argv[1]))}, indent=0))
