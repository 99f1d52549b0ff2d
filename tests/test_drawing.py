"""Drawn pictures are reproducible, varied, and told apart by anatomy alone."""

from functools import cache

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from stages.networks.runtime import keras
from stages.sources.drawing import draw, to_jpeg

KINDS = ("cat", "dog")
TRAINING = 400
SIDE = 50


@cache
def small_pictures() -> tuple[np.ndarray, np.ndarray]:
    """600 pictures, float32 [600, 50, 50, 3] in 0 to 1, and their kinds as 0 or 1, [600]."""
    rng = np.random.default_rng(5)
    kinds = np.arange(TRAINING + 200) % 2
    pictures = [
        cv2.resize(draw(KINDS[kind], rng), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        for kind in kinds
    ]
    return np.array(pictures, np.float32) / 255, kinds


def decode(jpeg: bytes) -> np.ndarray:
    """Decode without the help of the module under test, float [height, width, 3], RGB."""
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return decoded.astype(float)


def linear_accuracy(features: np.ndarray, kinds: np.ndarray, strength: float) -> float:
    model = LogisticRegression(C=strength, max_iter=1000)
    model.fit(features[:TRAINING], kinds[:TRAINING])
    return float(model.score(features[TRAINING:], kinds[TRAINING:]))


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_the_same_bytes(kind: str) -> None:
    first, second = (to_jpeg(draw(kind, np.random.default_rng(3))) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("kind", KINDS)
def test_number_of_threads_does_not_change_the_picture(kind: str) -> None:
    threads = cv2.getNumThreads()
    many = draw(kind, np.random.default_rng(3))
    try:
        cv2.setNumThreads(1)
        one = draw(kind, np.random.default_rng(3))
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("kind", KINDS)
def test_different_seeds_give_different_pictures(kind: str) -> None:
    pictures = {draw(kind, np.random.default_rng(seed)).tobytes() for seed in range(10)}
    assert len(pictures) == 10


def test_kinds_differ_for_the_same_seed() -> None:
    cat, dog = (draw(kind, np.random.default_rng(3)) for kind in KINDS)
    assert cat.shape == dog.shape
    assert np.any(cat != dog)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_rgb_bytes_of_varied_size(kind: str) -> None:
    rng = np.random.default_rng(0)
    pictures = [draw(kind, rng) for _ in range(20)]
    for picture in pictures:
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3
        assert all(120 <= side <= 320 for side in picture.shape[:2])
    assert len({picture.shape for picture in pictures}) > 15


def test_unknown_kind_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'fish'.*cat, dog"):
        draw("fish", np.random.default_rng(0))


def test_jpeg_keeps_the_order_of_the_colour_channels() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:] = (200, 120, 40)
    image[16:48, 24:72] = (30, 60, 180)
    decoded = decode(to_jpeg(image))
    assert decoded.shape == image.shape
    assert np.abs(decoded - image).mean() < 4


def test_jpeg_of_a_drawing_decodes_to_nearly_the_same_picture() -> None:
    image = draw("dog", np.random.default_rng(1))
    decoded = decode(to_jpeg(image))
    assert np.abs(decoded - image).mean() < 6


@pytest.mark.slow
def test_mean_colour_and_contrast_do_not_tell_the_kinds_apart() -> None:
    pictures, kinds = small_pictures()
    features = np.hstack([pictures.mean(axis=(1, 2)), pictures.std(axis=(1, 2))])
    assert linear_accuracy(features, kinds, strength=1) < 0.65


@pytest.mark.slow
@pytest.mark.usefixtures("tensorflow")
def test_a_small_convolutional_network_does_clearly_better_than_a_linear_classifier() -> None:
    pictures, kinds = small_pictures()
    linear = linear_accuracy(pictures.reshape(len(pictures), -1), kinds, strength=0.03)
    assert 0.7 < linear < 0.85
    layers: list[keras.Layer] = []
    for filters in (16, 32, 64):
        layers += [
            keras.layers.Conv2D(filters, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
        ]
    head = [keras.layers.Flatten(), keras.layers.Dropout(0.4), keras.layers.Dense(64, "relu")]
    network = keras.Sequential([*layers, *head, keras.layers.Dense(2, "softmax")])
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(pictures[:TRAINING], kinds[:TRAINING], batch_size=32, epochs=15, verbose=0)
    _, accuracy = network.evaluate(pictures[TRAINING:], kinds[TRAINING:], verbose=0)
    assert accuracy > 0.9
