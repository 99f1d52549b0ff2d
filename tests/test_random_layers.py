"""A layer that augments gives in training, which is compiled, what it gives by itself."""

from typing import Any

import numpy as np
import pytest
from augmenting import AUGMENTING

from stages.lib.command import UserError
from stages.networks.augmentation import Augmentation
from stages.networks.feed import seed_states
from stages.networks.network import Network, build_network
from stages.networks.runtime import keras, tf
from stages.networks.vocabulary import FAULTY_LAYERS

pytestmark = pytest.mark.usefixtures("tensorflow")

PIXELS = np.random.default_rng(0).uniform(0, 255, (6, 12, 12, 3)).astype(np.float32)


def compare(name: str, arguments: dict[str, Any], trials: int) -> float:
    """Returns the largest difference between a layer compiled for any batch and not compiled."""
    layer = getattr(keras.layers, name)(**arguments)
    layer(PIXELS, training=True)

    @tf.function(input_signature=[tf.TensorSpec((None, *PIXELS.shape[1:]))])  # type: ignore[untyped-decorator]
    def compiled(images: Any) -> Any:
        return layer(images, training=True)

    def draw(function: Any, trial: int) -> np.ndarray:
        for index, state in enumerate(seed_states(layer.variables)):
            state.assign(np.random.SeedSequence((trial, index)).generate_state(2))
        return np.asarray(function(PIXELS))

    differences = [
        draw(compiled, trial) - draw(lambda images: layer(images, training=True), trial)
        for trial in range(trials)
    ]
    return float(np.abs(differences).max())


@pytest.mark.parametrize("name", AUGMENTING)
def test_a_layer_changes_a_batch_of_any_size_as_it_does_one_of_a_known_size(name: str) -> None:
    assert compare(name, AUGMENTING[name], trials=2) < 0.01


@pytest.mark.parametrize("name", FAULTY_LAYERS)
def test_a_layer_that_keras_computes_wrongly_is_refused(name: str) -> None:
    assert compare(name, {}, trials=4) > 1  # else Keras has mended it, and it may be used
    with pytest.raises(UserError, match=rf"^params.yaml: augment\[0\].{name}: Keras computes"):
        Augmentation([name], (12, 12, 3), 2, "augment")
    with pytest.raises(UserError, match=r"such as RandomPerspective or RandAugment$"):
        build_network(Network(layers=[name, "Flatten"]), (12, 12, 3), 2, "network")
