"""Trained models in formats for other programs, by Keras's own export, and their runtimes.

Each takes float32 images [n, height, width, channels] of pixels 0 to 255, called `images`, n being
any number, and gives float32 probabilities [n, classes]:

    savedmodel   a folder; its endpoint `serve` by `tf.saved_model.load`, or TensorFlow Serving
    onnx         a file for ONNX Runtime
    litert       a file for LiteRT, once called TensorFlow Lite

The same model gives the same bytes, whatever the processor, the folder and the other formats, under
the same PYTHONHASHSEED (`onnx_file`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.command import UserError, to_user_error
from stages.lib.images import Images
from stages.networks import onnx_file, portable
from stages.networks.runtime import keras, silent_stderr, tf

Predict = Callable[[np.ndarray], np.ndarray]  # of float32 images, to probabilities


@dataclass(frozen=True)
class Format:
    """A format of exported models.

    Attributes:
        file: The name of its file or folder.
        packages: What it needs beside TensorFlow, by their names in Python.
        write: Writes a silent model (`silence`) to a path.
        load: Opens a path in the format's runtime, which computes with so many threads.
    """

    file: str
    packages: tuple[str, ...]
    write: Callable[[keras.Model, Path], None]
    load: Callable[[Path, int], Predict]


def silence(model: keras.Model) -> keras.Model:
    """Returns a network that computes what `model` does when it is no training.

    Keras exports what `model(images)` does. In that, Keras takes a model for one in training where
    a layer of it, such as `Resizing`, does so by default: its batch normalisation and dropout would
    follow. Here `training` is said to be False.
    """
    [given] = model.inputs
    images = keras.Input(given.shape[1:], name="images")
    return keras.Model(images, model(images, training=False), name="model")


def _signature(model: keras.Model) -> list[keras.InputSpec]:
    [images] = model.inputs
    return [keras.InputSpec(shape=images.shape, dtype=images.dtype, name=images.name)]


def write_savedmodel(model: keras.Model, path: Path) -> None:
    """Writes a SavedModel, as `model.export` does, but each weight once and in the model's order.

    `fingerprint.pb` is left out: it has a random number, and nothing needs it.
    """
    archive = keras.export.ExportArchive()
    serve = archive.add_endpoint("serve", model.__call__, _signature(model))
    order = {id(variable.value): place for place, variable in enumerate(model.variables)}
    graph = serve.get_concrete_function().graph
    graph.variables = sorted(graph.variables, key=lambda variable: order[id(variable)])
    archive.write_out(path, verbose=False)
    (path / "fingerprint.pb").unlink()


def load_savedmodel(path: Path, _: int) -> Predict:
    """Opens a SavedModel in TensorFlow, whose threads `set_up` has set."""
    loaded = tf.saved_model.load(str(path))  # has the weights, which `serve` alone would lose
    return lambda images: loaded.serve(tf.constant(images)).numpy()


def write_onnx(model: keras.Model, path: Path) -> None:
    """Writes an ONNX file."""
    model.export(path, format="onnx", verbose=False, input_signature=_signature(model))
    onnx_file.tidy(path)


def load_onnx(path: Path, threads: int) -> Predict:
    """Opens an ONNX file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors come as exceptions
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(images: np.ndarray) -> np.ndarray:
        return np.asarray(session.run([onnx_file.OUTPUT], {"images": images})[0])

    return predict


def write_litert(model: keras.Model, path: Path) -> None:
    """Writes a LiteRT file."""
    model.export(path, format="litert", verbose=False, input_signature=_signature(model))


def load_litert(path: Path, threads: int) -> Predict:
    """Opens a LiteRT file in LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()  # here it says which operations it lacks
    [given], [made] = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(given["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(made["index"]))

    return predict


# In the order in which they are written, whatever the order in params.yaml: TensorFlow numbers its
# functions as they come, and a SavedModel has the numbers.
FORMATS = {
    "savedmodel": Format("savedmodel", (), write_savedmodel, load_savedmodel),
    "onnx": Format("model.onnx", ("tf2onnx", "onnx", "onnxruntime"), write_onnx, load_onnx),
    "litert": Format("model.tflite", ("ai_edge_litert",), write_litert, load_litert),
}


def require(name: str, key: str) -> None:
    """Raises a `UserError` if the format `name`, which stands at `key`, lacks a package."""
    missing = [package for package in FORMATS[name].packages if not find_spec(package)]
    if missing:
        raise UserError(
            f"params.yaml: {key}: {name} needs {' and '.join(missing)}: run "
            "`pip install -r requirements-exports.txt`"
        )


def export(model: keras.Model, name: str, path: Path, threads: int, key: str) -> Predict:
    """Writes `model` in the format `name` to `path`, and opens that in the format's own runtime.

    Args:
        model: A trained network.
        name: One of `FORMATS`.
        path: What to write.
        threads: What the runtime computes with.
        key: Where the format stands in `params.yaml`, for error messages.

    Raises:
        UserError: The format cannot hold a layer of the network, or its runtime cannot run it.
    """
    with _refuse(name, key), silent_stderr(), portable.whole_operations():
        FORMATS[name].write(silence(model), path)
        return FORMATS[name].load(path, threads)


@contextmanager
def _refuse(name: str, key: str) -> Iterator[None]:
    """Turns what a converter or a runtime raises into a `UserError`: each has errors of its own."""
    try:
        yield
    except Exception as error:
        if to_user_error(error):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"params.yaml: {key}: {name} cannot hold this network: {lines[0].strip()}"
        ) from error


def run(predict: Predict, images: Images, batch_size: int) -> np.ndarray:
    """Returns probabilities, float32 [n, classes], for uint8 [n, height, width, channels]."""
    starts = range(0, len(images), batch_size)
    pixels: Any = (images[start : start + batch_size].astype(np.float32) for start in starts)
    return np.concatenate([predict(batch) for batch in pixels])


def count_bytes(path: Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
