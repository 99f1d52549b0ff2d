"""Layers that change batches of training images, and with some of them the labels: `augment`.

They are no part of the network: nothing of them is in the saved model, and validation does without.
"""

from typing import Any

import numpy as np

from stages.lib.command import UserError
from stages.networks.feed import own_seeds, seed_states
from stages.networks.runtime import keras, tf
from stages.networks.vocabulary import Spec, blame, build, name_and_arguments

# They mix images, so labels must be mixed with them, which a layer of a network never sees.
LABEL_LAYERS = ("MixUp", "CutMix")


def refuse_label_layer(spec: Spec, key: str) -> None:
    """Raises a `UserError` if the layer `spec` of a network, at `key`, would change labels."""
    name, arguments = name_and_arguments(spec, key)
    if name in LABEL_LAYERS:
        written = ", ".join(f"{argument}: {value}" for argument, value in arguments.items())
        raise UserError(
            f"params.yaml: {key}.{name}: mixes images and their labels, which a layer of the "
            f"network does not see: write `augment: [{name}: {{{written}}}]` into the model's "
            "`training`"
        )


class Augmentation:
    """The layers of a recipe's `augment`, in order.

    Args:
        specs: Layers of `keras.layers` that draw random numbers.
        image_shape: Height, width, channels.
        classes: The number of classes.
        key: Where `specs` stand in `params.yaml`, for error messages.

    Raises:
        UserError: Keras has no such layer, it is not random, or it changes the images' size.
    """

    def __init__(
        self, specs: list[Spec], image_shape: tuple[int, int, int], classes: int, key: str
    ):
        self._layers = []
        for index, spec in enumerate(specs):
            path = f"{key}[{index}]"
            name, arguments = name_and_arguments(spec, path)
            # In half precision, pixels would be rounded.
            exact = {name: {"dtype": "float32"} | arguments}
            layer = build(exact, keras.layers, keras.layers.Layer, path)
            with blame(f"{path}.{name}"):
                images, labels = tf.zeros((2, *image_shape)), tf.one_hot([0, classes - 1], classes)
                changed, labels = _apply(layer, images, labels)
            if not seed_states(layer.variables):
                raise UserError(
                    f"params.yaml: {path}.{name}: draws no random numbers: write it into the "
                    "network's `layers`, which see validation images too"
                )
            if changed.shape != (2, *image_shape) or labels.shape != (2, classes):
                raise UserError(
                    f"params.yaml: {path}.{name}: gives images of {tuple(changed.shape[1:])}, "
                    f"expected {image_shape}: augmentation keeps the size of images"
                )
            self._layers.append(layer)
        self._states = [state for layer in self._layers for state in seed_states(layer.variables)]
        self._own = [seed for layer in self._layers for seed in own_seeds(layer.get_config())]

    def seeds(self, seed: int, step: int) -> np.ndarray:
        """Returns what the layers draw from in `step`, uint32 [states, 2]."""
        return np.stack(
            [
                # The last number is no layer's of the network: see `seed_layers`.
                np.random.SeedSequence((seed, index, step, *self._own, 2**32)).generate_state(2)
                for index in range(len(self._states))
            ]
        )

    def change(self, images: Any, labels: Any, seeds: Any) -> tuple[Any, Any]:
        """Returns a batch, changed.

        Args:
            images: [n, height, width, channels].
            labels: float32 [n, classes].
            seeds: Of the step.
        """
        for index, state in enumerate(self._states):
            state.assign(seeds[index])
        images = tf.cast(images, tf.float32)
        for layer in self._layers:
            images, labels = _apply(layer, images, labels)
        return images, labels


def _apply(layer: keras.layers.Layer, images: Any, labels: Any) -> tuple[Any, Any]:
    if not hasattr(layer, "transform_labels"):
        return layer(images, training=True), labels
    changed = layer({"images": images, "labels": labels}, training=True)
    return changed["images"], changed["labels"]
