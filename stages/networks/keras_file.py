"""Saving `.keras` files whose bytes depend on the model alone, and opening them safely."""

import io
import json
import re
import zipfile
from pathlib import Path

from stages.lib.command import UserError
from stages.lib.files import whole
from stages.networks.runtime import keras

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


def save_model(model: keras.Model, path: Path) -> None:
    """Writes `model` without its optimizer to `path`: the same weights give the same bytes.

    Keras itself stores the time of saving, in `metadata.json` and in each entry of the zip, and the
    memory addresses of objects that layers share, in `config.json`. This function replaces them;
    `keras.models.load_model` reads the file like any other.
    """
    bare = keras.Model(model.inputs, model.outputs, name="model")
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
