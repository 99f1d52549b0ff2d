"""Classifies images with a trained model: `python -m stages.classify MODEL IMAGE...`.

Reads `data/models/M.keras`, the class names in its dataset's `data/splits/D/summary.json`, the
temperature that corrects its probabilities in `reports/metrics/M.json` if that is there, and
images: files of any kind that OpenCV reads, folders and archives of them, or `-` for a list of
paths on standard input. Writes one line per image, in the order given: path, class, probability.

A photograph is resized as `prepare` does. For a network of one channel, an image is made to look
as MNIST's digits do: see `to_digit`. Where it shows no digit, or no class is likely enough, the
class is `unsure` (in JSON null), with the likeliest class's probability, and 0 without a digit.

The exit status is 0 if all images were read; 1 if one was not (standard error says why; the others
are classified) or the model is missing; 2 if the command was wrong. Few images are in memory.
"""

import argparse
import csv
import json
import os
import signal
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path

import numpy as np
from pydantic import PositiveInt

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.splits import read_summary
from stages.results import temperature
from stages.sources.arrays import Image
from stages.sources.decoding import decode_ahead, decode_image
from stages.sources.digits import to_digit
from stages.sources.formats import Format, Photos
from stages.sources.image_files import Content, read_contents
from stages.sources.resizing import resize

BATCH_SIZE = 250
# What is said of a digit whose likeliest class has less than this probability: of MNIST's own test
# digits 0.4%, of which 56% would be wrong.
SURE, UNSURE = 0.5, "unsure"

Predict = Callable[[np.ndarray], np.ndarray]
# Pixels, the reason why a file was not read, or None where a digit is wanted and none is seen.
Pixels = Image | str | None
# An image's class with its probability; no class if unsure. Or the reason why it was not read.
Answer = tuple[str | None, float] | str


def classify(
    images: Iterable[tuple[str, Pixels]], load: Callable[[], Predict], classes: list[str]
) -> Iterator[tuple[str, Answer]]:
    """Classifies images, a batch at a time.

    Args:
        images: Each image's path and its pixels, uint8 [height, width, channels].
        load: Returns the function that turns uint8 [n, height, width, channels] into probabilities
            [n, classes]. Called when the first image is there.
        classes: The names of the classes.

    Yields:
        Each image's path and answer.
    """
    predict = None
    images = iter(images)
    while batch := list(islice(images, BATCH_SIZE)):
        pixels = [image for _, image in batch if isinstance(image, np.ndarray)]
        probabilities: Iterator[np.ndarray] = iter(())
        if pixels:
            predict = predict or load()
            probabilities = iter(predict(np.stack(pixels)))
        for path, image in batch:
            if isinstance(image, str):
                yield path, image
            elif image is None:
                yield path, (None, 0.0)
            else:
                row = next(probabilities)
                sure = image.shape[2] > 1 or row.max() >= SURE
                yield path, (classes[row.argmax()] if sure else None, float(row.max()))


def to_pixels(content: Content, shape: tuple[int, int, int], options: Photos) -> Pixels:
    """Returns a file's image as uint8 `shape` (the network's), or why there is none.

    A photograph becomes what `options` made of those that the network knows.
    """
    height, width, channels = shape
    if isinstance(content, str):
        return content
    decoded = decode_image(content, options.max_pixels, options.enough)
    if isinstance(decoded, str):
        return decoded
    if channels == 1:
        return to_digit(decoded.image, height, width)
    return resize(decoded.image, height, width, options.interpolation)


def read_input_shape(path: Path, name: str) -> tuple[int, int, int]:
    """Returns height, width and channels of a saved model's images, without TensorFlow.

    Raises:
        UserError: The file is missing, or is no model that takes images.
    """
    if not path.is_file():
        raise UserError(
            f"there is no {path}: `dvc repro train@{name}` trains it, "
            "`dvc pull` brings it if it was pushed"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
        _, height, width, channels = config["config"]["layers"][0]["config"]["batch_shape"]
    except (zipfile.BadZipFile, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged, or no model of images ({error}): `dvc checkout {path}` or "
            f"`dvc repro --force train@{name}` writes it anew"
        ) from None
    return height, width, channels


def read_classes(dataset: str) -> list[str]:
    """Returns the names of a dataset's classes; raises a `UserError` if it is not split yet."""
    folder = Path("data/splits") / dataset
    if not (folder / "summary.json").is_file():
        raise UserError(
            f"there is no {folder}/summary.json, which names the classes: "
            f"`dvc repro split@{dataset}` makes it, `dvc pull` brings it if it was pushed"
        )
    classes: list[str] = read_summary(folder)["classes"]
    return classes


def load_model(path: Path, classes: list[str]) -> Predict:
    """Loads a model and returns its function from images to probabilities."""
    # Import TensorFlow late: it takes seconds, and errors in the arguments are reported at once.
    from stages.networks.keras_file import load_model as load_keras
    from stages.networks.runtime import Device, Processor, set_up
    from stages.networks.views import predict, read_views

    device: Device = params.read("evaluation.device", Device)  # type: ignore[arg-type]
    processor: Processor = "any"
    if "processor" in params.load()["evaluation"]:
        processor = params.read("evaluation.processor", Processor)  # type: ignore[arg-type]
    with redirect_stdout(sys.stderr):  # keep standard output for the answers
        runtime = set_up(device, params.read("evaluation.threads", PositiveInt), processor)
    model = load_keras(path)
    runtime.check(model)
    views = read_views(path.stem)
    if model.output_shape[-1] != len(classes):
        raise UserError(
            f"{path} knows {model.output_shape[-1]} classes, its dataset has {len(classes)}: "
            "`dvc repro` trains it on the dataset as it is now"
        )
    degrees = temperature.read(path.stem)
    return lambda images: temperature.scale(predict(model, images, len(images), views), degrees)


def parse(arguments: Iterable[str]) -> argparse.Namespace:
    """Returns the command's arguments; ends the process with status 2 if they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.classify",
        description="Classifies images: one line per image, with its path, class and probability.",
        epilog="The exit status is 1 if an image could not be read; the others are classified.",
    )
    parser.add_argument("name", metavar="MODEL", help="a name under `models` in params.yaml")
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="file, folder, zip or tar; - for paths on standard input",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON lines: one object per image")
    form.add_argument("--csv", action="store_true", help="CSV with a header")
    return parser.parse_args(list(arguments))


def list_paths(arguments: Iterable[str]) -> Iterator[Path]:
    """Yields the paths given; for `-`, those on standard input, one per line."""
    for argument in arguments:
        if argument == "-":
            lines = (os.fsdecode(line).rstrip("\r\n") for line in sys.stdin.buffer)
            yield from (Path(line) for line in lines if line)
        else:
            yield Path(argument)


def write_answers(answers: Iterable[tuple[str, Answer]], form: str) -> bool:
    """Writes classes to standard output, and why an image was not read to standard error.

    Args:
        answers: The images' paths and answers.
        form: `json`, `csv` or `text`.

    Returns:
        Whether every image was read.
    """
    complete = True
    table = csv.writer(sys.stdout, lineterminator="\n")
    if form == "csv":
        table.writerow(["path", "class", "probability"])
    for path, answer in answers:
        if isinstance(answer, str):
            complete = False
            print(f"{path}: {answer}", file=sys.stderr)
            continue
        name, probability = answer
        if form == "json":
            print(json.dumps({"path": path, "class": name, "probability": round(probability, 4)}))
        elif form == "csv":
            table.writerow([path, name or UNSURE, f"{probability:.4f}"])
        else:
            print(path, name or UNSURE, f"{probability:.4f}", sep="\t")
    return complete


def main(*arguments: str) -> None:
    """Classifies images with one model of `params.yaml`."""
    options = parse(arguments)
    dataset = params.read(f"{params.model_key(options.name)}.dataset", str)
    path = Path("data/models") / f"{options.name}.keras"
    shape = read_input_shape(path, options.name)
    classes = read_classes(dataset)
    prepared = params.read(f"datasets.{dataset}.prepare", Format).root
    photos = Photos(format="photos", decoding="full")  # for networks that know arrays
    if isinstance(prepared, Photos):
        photos = prepared

    images = decode_ahead(
        read_contents(list_paths(options.images), photos.encoding),
        lambda content: to_pixels(content, shape, photos),
    )
    answers = classify(images, lambda: load_model(path, classes), classes)
    # A path need not be valid UTF-8: write its bytes back as they came in.
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    form = "json" if options.json else "csv" if options.csv else "text"
    if not write_answers(answers, form):
        sys.exit(1)


if __name__ == "__main__":
    # Let `| head` end the command without a traceback.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    run(main)
