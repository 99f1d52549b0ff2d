"""How fast networks learn: the stage `train` against Keras's `fit`, and against itself.

The images are random, which changes no speed. Timed is the second epoch, when all is compiled.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from subprocess import PIPE
from time import perf_counter
from typing import Any

import numpy as np
from conftest import TOP
from measure import Row, alternate, ratio
from ruamel.yaml import YAML

from stages.lib.files import write_json

# How many training images of which shape, in how many classes: an epoch takes seconds.
DATA: dict[str, tuple[int, tuple[int, ...], int]] = {
    "mnist_dense": (100_000, (28, 28, 1), 10),
    "mnist_cnn": (6_000, (28, 28, 1), 10),
    "cats_dogs_vgg16": (512, (50, 50, 3), 2),
    "cats_dogs_vgg16_tuned": (512, (50, 50, 3), 2),
}
GPU_IMAGES, PUBLISHED_SECONDS = 20_000, 51  # an epoch of VGG-16 in the book chapter


def measure(folder: Path) -> Iterator[Row]:
    """Compares epochs of `train` with those of `fit`, and with those of other settings."""
    (folder / "stages").symlink_to(TOP / "stages")
    for name, data in DATA.items():
        write_splits(folder / "data/splits" / name, *data)
    if shutil.which("nvidia-smi"):
        name = "cats_dogs_vgg16"
        write_splits(folder / "data/splits/gpu", GPU_IMAGES, *DATA[name][1:])
        seconds = train(folder, name, dataset="gpu", device="gpu")
        row = f"seconds an epoch of VGG-16 on a GPU, {GPU_IMAGES:,} images"
        yield (row, f"{seconds:.1f}", f"{PUBLISHED_SECONDS} were published")

    def compare(name: str, one: Callable[[], float], other: Callable[[], float], to: str) -> Row:
        # Seconds: the speed of the first to that of the second is the second's to the first's.
        seconds, others = alternate(one, other)
        return (name, ratio(others, seconds), to)

    for name, augmented in (
        ("mnist_dense", "mnist_dense"),
        ("mnist_cnn", None),
        ("cats_dogs_vgg16", "cats_dogs_vgg16_tuned"),
    ):
        stage, plain = partial(train, folder, name, processor="this"), partial(fit, folder, name)
        yield compare(f"speed of `train` to `fit`, {name}", stage, plain, "0.97 or more")
        if augmented:
            stage = partial(train, folder, augmented)
            one = partial(fit, folder, augmented, "one-batch")
            row = f"speed to that on one batch, kept in memory, {augmented}"
            yield compare(row, stage, one, "0.95 or more")
    this = partial(train, folder, name, processor="this")
    row = f"speed of processor `any` to `this`, {name}"
    yield compare(row, partial(train, folder, name), this, "0.62 or more")
    if "bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        half = partial(train, folder, name, processor="this", precision="mixed_bfloat16")
        row = f"speed of mixed_bfloat16 to float32, {name}"
        yield compare(row, half, this, "1.8 or more")


def write_splits(folder: Path, count: int, shape: tuple[int, ...], classes: int) -> None:
    """Writes random images: `count` to learn from, a tenth as many to validate on."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for part, images in (("train", count), ("valid", count // 10)):
        pixels = rng.integers(0, 256, (images, *shape), np.uint8)
        np.save(folder / f"{part}_images.npy", pixels)
        np.save(folder / f"{part}_labels.npy", rng.integers(0, classes, images, np.uint8))
    summary = {"image_shape": shape, "classes": [str(number) for number in range(classes)]}
    write_json(folder / "summary.json", summary)


def write_params(folder: Path, name: str, dataset: str, **settings: Any) -> None:
    params = YAML().load(TOP / "params.yaml")
    model = params["models"][name]
    model["dataset"] = dataset
    model["training"]["epochs"] = 2
    training = params["training"] | settings
    YAML().dump({"models": {name: model}, "training": training}, folder / "params.yaml")


def train(folder: Path, name: str, dataset: str = "", **settings: Any) -> float:
    """Returns the seconds of an epoch of the stage `train`."""
    write_params(folder, name, dataset or name, **settings)
    shutil.rmtree(folder / "data/checkpoints", ignore_errors=True)
    with start(folder, "-m", "stages.train", name) as process:
        ends = [perf_counter() for line in output(process) if line.startswith("epoch ")]
    return ends[1] - ends[0]


def fit(folder: Path, name: str, mode: str = "plain") -> float:
    """Returns the seconds of an epoch of Keras's `fit`: see fit.py."""
    write_params(folder, name, name)
    with start(folder, str(Path(__file__).with_name("fit.py")), mode, name) as process:
        *_, seconds = output(process)
    return float(seconds)


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(TOP)}
    command = (sys.executable, *command)
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=PIPE, text=True)


def output(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yields the lines of a process as they come; its end has to be good."""
    assert process.stdout
    yield from process.stdout
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, process.args)
