"""Which layers train, and what stays as it is in those that do not."""

import numpy as np
import pytest

from stages.lib.command import UserError
from stages.networks.freezing import freeze, layers_before
from stages.networks.runtime import keras

pytestmark = pytest.mark.usefixtures("tensorflow")


def network(head: str = "head_0") -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4,), name="images"),
            layers.Dense(3, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(3, name="second"),
            layers.Dense(3, name=head),
            layers.Activation("relu", name="last"),
            layers.Dense(2, activation="softmax", name="classes"),
        ]
    )


def set_trainable(model: keras.Model, first: str) -> None:
    freeze([layers_before(model, first, "k")])


def trained(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if layer.trainable]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("second", ["second", "head_0", "last", "classes"]),
        ("head", ["head_0", "last", "classes"]),
        ("all", ["first", "norm", "second", "head_0", "last", "classes"]),
    ],
)
def test_the_layers_from_the_given_one_on_train(first: str, expected: list[str]) -> None:
    model = network()
    set_trainable(model, first)
    assert trained(model) == expected


def test_without_a_head_of_its_own_the_output_layer_is_the_head() -> None:
    model = network("third")
    set_trainable(model, "head")
    assert trained(model) == ["classes"]


def test_each_phase_trains_its_own_layers_but_a_batch_normalisation_stays_frozen() -> None:
    for phases, expected in (
        (["second", "all"], ["first", "second", "head_0", "last", "classes"]),
        (["first", "all"], ["first", "norm", "second", "head_0", "last", "classes"]),
        (["norm", "head", None], ["first", "second", "head_0", "last", "classes"]),
    ):
        model = network()
        freeze([layers_before(model, first, "k") for first in phases])
        assert trained(model) == expected


def test_what_a_recipe_freezes_itself_stays_frozen() -> None:
    model = network()
    model.get_layer("last").trainable = model.get_layer("second").trainable = False
    set_trainable(model, "norm")
    assert trained(model) == ["norm", "head_0", "classes"]


def test_a_layer_that_is_not_there_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"^params.yaml: k: the network has no layer 'secnd'; did"):
        layers_before(network(), "secnd", "k")


def test_what_has_no_weights_cannot_train() -> None:
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(2), keras.layers.ReLU(name="end")]
    )
    with pytest.raises(UserError, match=r"k: no layer from 'end' on has weights to train"):
        layers_before(model, "end", "k")


def test_a_frozen_batch_normalisation_keeps_its_moving_averages() -> None:
    model = network()
    set_trainable(model, "second")
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = [value.numpy() for value in model.get_layer("norm").variables]
    head = model.get_layer("second").kernel.numpy()
    images = np.random.default_rng(0).normal(5, 3, (8, 4))
    model.fit(images, np.arange(8) % 2, verbose=0)
    after = [value.numpy() for value in model.get_layer("norm").variables]
    assert all((old == new).all() for old, new in zip(before, after, strict=True))
    assert (model.get_layer("second").kernel.numpy() != head).any()
