"""Exports one model to the formats that `exports` asks for: `python -m stages.export MODEL`.

Reads `data/models/M.keras`, the test images in its dataset's `data/splits/D/`, and what `evaluate`
found of them in `data/predictions/M/`. Writes `data/exports/M/`, by Keras's own export:

    savedmodel/     for TensorFlow and TensorFlow Serving
    model.onnx      for ONNX Runtime
    model.tflite    for LiteRT
    metrics.json    the same bytes as `reports/exports/M.json`: see dvc.yaml

`reports/exports/M.json` has the accuracy on the test images of the model and of each exported file,
measured with the format's own runtime, and the file's bytes. It runs on CPUs alone: so the bytes do
not depend on a GPU. Expect the accuracies to be equal; a difference over 0.1 points is an error.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import PositiveInt

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import read_array, write_atomically, write_json
from stages.lib.splits import Part, read_part
from stages.networks import exporting
from stages.networks.exporting import FORMATS
from stages.networks.keras_file import load_model
from stages.networks.runtime import keras, set_up
from stages.results.statistics import round_accuracy

TOLERANCE = 0.001  # of the accuracy: 0.1 points

Name = Literal["savedmodel", "onnx", "litert"]


def read_formats(key: str) -> list[str]:
    """Returns the formats at `key` of `params.yaml`, in the order of `FORMATS`.

    Raises:
        UserError: It is no list, one is unknown or repeated, or a package that it needs is missing.
    """
    asked = params.read(key, list[Name])
    if not asked:
        raise UserError(f"params.yaml: {key}: no format, expected some of {', '.join(FORMATS)}")
    for place, name in enumerate(asked):
        if name in asked[:place]:
            raise UserError(f"params.yaml: {key}[{place}]: {name} stands there twice")
        exporting.require(name, key)
    return [name for name in FORMATS if name in asked]


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the share of images whose likeliest class is their label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def export(
    model: keras.Model,
    test: Part,
    probabilities: np.ndarray,
    formats: list[str],
    folder: Path,
    batch_size: int,
    threads: int,
    key: str,
) -> dict[str, Any]:
    """Writes `model` in `formats` to `folder`, and returns what was measured.

    Args:
        model: A trained network.
        test: The test images.
        probabilities: What the model itself says of them, float32 [n, classes].
        formats: Names of `FORMATS`.
        folder: Where to write.
        batch_size: Images at a time.
        threads: What the runtimes compute with.
        key: Where `formats` stands in `params.yaml`, for error messages.

    Raises:
        UserError: A format cannot hold the network, or its accuracy is another.
    """
    own = accuracy(test.labels, probabilities)
    metrics: dict[str, Any] = {"model": {"test_accuracy": round_accuracy(own)}}
    for name in formats:
        path = folder / FORMATS[name].file
        predict = exporting.export(model, name, path, threads, key)
        found = accuracy(test.labels, exporting.run(predict, test.images, batch_size))
        if abs(found - own) > TOLERANCE + 1e-9:  # floats: 0.1 points themselves are allowed
            raise UserError(
                f"params.yaml: {key}: {name} has a test accuracy of {found:.2%}, the model "
                f"{own:.2%}, expected at most 0.1 points between them: leave {name} out, and "
                "please report this"
            )
        size = exporting.count_bytes(path)
        metrics[name] = {"test_accuracy": round_accuracy(found), "bytes": size}
    return metrics


def main(name: str) -> None:
    """Exports the model named `name` in `params.yaml`."""
    key = f"exports.{name}"
    formats = read_formats(key)
    batch_size = params.read("evaluation.batch_size", PositiveInt)
    threads = params.read("evaluation.threads", PositiveInt)
    dataset = params.read(f"{params.model_key(name)}.dataset", str)
    test = read_part(Path("data/splits") / dataset, "test")
    predictions = Path("data/predictions") / name
    plain = predictions / "test_probabilities_plain.npy"  # without `evaluation.test_time`
    probabilities = read_array(plain if plain.exists() else predictions / "test_probabilities.npy")
    set_up("cpu", threads, "any")
    model = load_model(Path("data/models") / f"{name}.keras")
    outputs = (Path("data/exports") / name, Path("reports/exports") / f"{name}.json")
    with write_atomically(*outputs) as (folder, metrics_file):
        folder.mkdir()
        metrics = export(model, test, probabilities, formats, folder, batch_size, threads, key)
        for path in (folder / "metrics.json", metrics_file):
            write_json(path, metrics)


if __name__ == "__main__":
    run(main)
