"""Networks that have learned something before: applications with weights, models of this project.

Both take raw pixels, as all networks here do, and end before an output layer.
"""

import hashlib
import inspect
import os
import re
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

import numpy as np

from stages.lib.command import UserError
from stages.networks.applications import find_application
from stages.networks.freezing import HEAD_PREFIX
from stages.networks.keras_file import load_model
from stages.networks.runtime import keras
from stages.networks.vocabulary import Spec, blame

IMAGENET = "imagenet"
PREPROCESSING = "preprocessing"  # the name of the layer that scales the pixels
RESERVED_BY_BUILDER = ("weights", "classes", "include_top", "include_preprocessing")


def application_with_weights(
    spec: Spec, weights: str, sha256: str | None, pixels: keras.KerasTensor, key: str
) -> keras.KerasTensor:
    """Returns the feature maps that an application with `weights` gives of `pixels`.

    Args:
        spec: A function of `keras.applications` and its arguments; it gets no layers on top.
        weights: `imagenet`, which Keras fetches and keeps, or the path of a file of weights.
        sha256: What that file must have; `None` for `imagenet`.
        pixels: 0 to 255, RGB or grey. The builder scales them as `preprocess_input` of the
            application's module does.
        key: Where the network stands in `params.yaml`, for error messages.

    Raises:
        UserError: There is no such application or file, the file is another one or does not fit.
    """
    path = f"{key}.application"
    make, name, arguments = find_application(spec, path, RESERVED_BY_BUILDER)
    if weights != IMAGENET:
        _check_file(Path(weights), sha256, key)
    pixels = _to_rgb(pixels)
    scale, offset, swapped = preprocessing(make)
    if not (np.all(scale == 1) and np.all(offset == 0)):
        rescaling = keras.layers.Rescaling(
            scale.tolist(), offset.tolist(), name=PREPROCESSING, dtype="float32"
        )
        pixels = rescaling(pixels)
    given = {"weights": weights, "include_top": False, "input_tensor": pixels}
    with blame(f"{path}.{name}" if weights == IMAGENET else f"{key}.weights"), catch_warnings():
        # Else Keras leaves random weights in layers that the file does not have.
        filterwarnings("error", message=".*freshly-initialized")
        try:
            application = make(**arguments, **given)
        except UserWarning as warning:
            raise ValueError(f"the file lacks weights of this network: {warning}") from None
        except Exception as error:  # Keras raises this class itself where it cannot fetch
            if failed := re.match(r"URL fetch failure on (\S+): (.*)", str(error)):
                raise UserError(_cannot_fetch(*failed.groups())) from error
            raise
    if swapped:
        _swap_red_and_blue(application)
    return application.output


def preprocessing(make: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """Returns what `preprocess_input` does for the application that `make` builds.

    Returns:
        A scale and an offset, float64 [3], of red, green and blue; and whether the application
        wants them as blue, green and red.

    Raises:
        UserError: It mixes channels.
    """
    function = inspect.getmodule(make).preprocess_input  # type: ignore[union-attr]  # has a module
    # Its values for black and for each primary colour say all about an affine function.
    black = function(np.zeros((1, 1, 3)))[0, 0]
    primaries = np.stack([function(colour.copy())[0, 0] for colour in np.eye(3)[:, None, None]])
    matrix = np.asarray(primaries - black, np.float64)  # from pixels to the network's channels
    swapped = not np.any(np.diag(matrix)[[0, 2]])
    if swapped:
        matrix, black = matrix[:, ::-1], black[::-1]
    if np.any(matrix - np.diag(np.diag(matrix))):
        raise UserError(
            f"keras.applications.{make.__name__} mixes the channels of its pixels, which no layer "
            "here does: leave `weights` out"
        )
    return np.diag(matrix), np.asarray(black, np.float64), swapped


def _swap_red_and_blue(application: keras.Model) -> None:
    """Lets an application of blue, green, red take red, green, blue."""
    start = [layer.name for layer in application.layers].index(PREPROCESSING)
    first = next(layer for layer in application.layers[start:] if layer.weights)
    first.kernel.assign(first.kernel.numpy()[:, :, ::-1])


def _to_rgb(pixels: keras.KerasTensor) -> keras.KerasTensor:
    if pixels.shape[-1] != 1:
        return pixels
    return keras.layers.Concatenate(name="grey_to_rgb")([pixels] * 3)


def _check_file(path: Path, sha256: str | None, key: str) -> None:
    if not path.is_file():
        raise UserError(
            f"params.yaml: {key}.weights: there is no file '{path}' (paths are relative to the "
            f"project's top folder): put it there, or write {IMAGENET}"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise UserError(
            f"params.yaml: {key}.weights_sha256: expected that of {path}, by which DVC sees that "
            f"it changed, found {sha256}: write {found}"
        )


def _cannot_fetch(url: str, reason: str) -> str:
    folder = Path(os.environ.get("KERAS_HOME", "~/.keras")) / "models"
    return (
        f"the weights cannot be fetched from {url} ({reason}): fetch that file elsewhere and put "
        f"it into {folder}"
    )


def learned_features(
    path: Path, pixels: keras.KerasTensor, taken: set[str], key: str
) -> keras.KerasTensor:
    """Returns what the model in the file `path` gives its output layer, of `pixels`.

    Args:
        path: A model that this project has trained.
        pixels: 0 to 255, of the shape that the model takes, or grey where that takes colours.
        taken: The names of the layers before it; one of the model that has such a name gets the
            model's name before its own.
        key: Where its name stands in `params.yaml`, for error messages.

    Raises:
        UserError: There is no such file, or the model takes images of another shape.
    """
    model = load_model(path)
    expected = model.input_shape[1:]
    if expected[-1] == 3:
        pixels = _to_rgb(pixels)
    if pixels.shape[1:] != expected:
        raise UserError(
            f"params.yaml: {key}: {path.stem} takes images of {_size(expected)}, expected "
            f"{_size(pixels.shape[1:])}, as those here: give the dataset its `image_size`"
        )
    for layer in model.layers:
        # The head is the one that comes now.
        if layer.name.startswith(HEAD_PREFIX) or layer.name in taken:
            layer.name = f"{path.stem}_{layer.name}"
    features = pixels

    def call(layer: Any, *inputs: Any, **arguments: Any) -> Any:
        nonlocal features
        features = layer(*inputs, **arguments)
        return features

    # The same layers on other images, in one graph: each can be frozen by itself.
    inner = keras.Model(model.inputs, model.layers[-1].input)
    with blame(key):
        keras.models.clone_model(inner, [pixels], lambda layer: layer, call)
    return features


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
