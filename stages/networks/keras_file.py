"""Saving `.keras` files whose bytes depend on the model alone, and opening them safely."""

import inspect
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.command import UserError
from stages.lib.files import whole
from stages.networks.runtime import keras

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


def save_model(model: keras.Model, path: Path) -> None:
    """Writes `model` without its optimizer to `path`: the same weights give the same bytes.

    In `model(x)` and in exported models, some layers of Keras take themselves, and all that come
    after, for layers in training. So those that augment are left out, and others such as `Resizing`
    are told that it is none.

    Keras itself stores the time of saving, in `metadata.json` and in each entry of the zip, and the
    memory addresses of objects that layers share, in `config.json`. This function replaces them;
    `keras.models.load_model` reads the file like any other.
    """
    quiet = _out_of_training(model)
    bare = keras.Model(quiet.inputs, quiet.outputs, name="model")
    keras.saving.save_model(bare, path)
    written = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(path, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "metadata.json":
                metadata = json.loads(content) | {"date_saved": "1980-01-01@00:00:00"}
                content = json.dumps(metadata).encode()
            elif name == "config.json":
                content = _number_shared_objects(content.decode()).encode()
            target.writestr(zipfile.ZipInfo(name, _LONG_AGO), content)


def _out_of_training(model: keras.Model) -> keras.Model:
    """Returns a model with the same weights that is in training only where somebody says so.

    Random layers that change nothing outside training are left out, as all of Keras's are.
    """

    def call(layer: Any, *inputs: Any, **arguments: Any) -> Any:
        if not (isinstance(layer, keras.layers.Layer) and _trains_by_default(layer)):
            return layer(*inputs, **arguments)
        if _is_random(layer) and _is_identity(layer, inputs[0].shape):
            return inputs[0]
        return layer(*inputs, **arguments | {"training": False})

    if not any(map(_trains_by_default, model.layers)):
        return model
    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def _trains_by_default(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer is in training when nobody says that it is none.

    Keras's layers that change images are, also those that draw no random numbers, such as
    `Resizing`. Those of regularization, such as `Dropout`, are not.
    """
    training = inspect.signature(layer.call).parameters.get("training")
    inner = layer._flatten_layers(include_self=False)
    by_itself = training is not None and training.default is True
    return by_itself or any(map(_trains_by_default, inner))


def _is_random(layer: keras.layers.Layer) -> bool:
    return any(variable.name == "seed_generator_state" for variable in layer.variables)


def _is_identity(layer: keras.layers.Layer, shape: tuple[int | None, ...]) -> bool:
    # Half precision holds whole numbers up to 256 too.
    pixels = np.random.default_rng(0).integers(0, 256, [side or 2 for side in shape])
    same = layer(pixels.astype(np.float32), training=False)
    return same.shape == pixels.shape and bool(np.array_equal(same, pixels))


def load_model(path: Path) -> keras.Model:
    """Returns the model in the file `path`, not compiled; nothing in the file runs as a program.

    Raises:
        UserError: There is no such file, it is damaged, or it has a layer of Python code.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: `dvc repro` makes it, `dvc pull` brings it")
    with whole(path), zipfile.ZipFile(path) as archive:
        if b'"class_name": "Lambda"' in archive.read("config.json"):
            raise UserError(
                f"{path} has a Lambda layer, whose Python code would run here, so it is not opened:"
                " build the model of other layers"
            )
        if broken := archive.testzip():
            raise ValueError(f"{broken} in it is damaged")
    with whole(path):
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def _number_shared_objects(config: str) -> str:
    """Replaces the addresses by 1, 2, 3, in the order in which they appear."""
    numbers: dict[str, str] = {}
    return re.sub(
        r'(?<="shared_object_id": )\d+',
        lambda address: numbers.setdefault(address[0], str(len(numbers) + 1)),
        config,
    )
