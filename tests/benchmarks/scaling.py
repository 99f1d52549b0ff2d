"""How far the pipeline goes: what an image and a model take, carried on to very many of them."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from conftest import TOP, Project
from measure import Row, run
from photographs import read_photographs, write_project
from ruamel.yaml import YAML

from stages.lib.files import write_json

IMAGE_BYTES = 50 * 50 * 3
FEW_AND_MANY = (5_000, 50_000)
IMAGES, WORKERS = (1_000_000, 100_000_000), (1, 16, 256)
MODELS, PATIENCE = (10, 100, 1000), 120  # seconds


class Measured(NamedTuple):
    """Seconds that one image takes, but for `photograph`: the bytes of its file."""

    photograph: float
    prepare: float
    split: float
    hashing: float


def measure_images(folder: Path) -> Measured:
    """Measures the work on one image as the difference between many and few."""
    contents = read_photographs(folder)
    few, many = FEW_AND_MANY
    cpu, seconds = [], []
    for count in FEW_AND_MANY:
        write_project(folder, "some", contents, count)
        cpu.append(run([sys.executable, "-m", "stages.prepare", "some"], folder).cpu)
        seconds.append(split(folder / "split", count))
    buffer = bytes(256 << 20)
    started = perf_counter()
    md5(buffer, usedforsecurity=False)
    hashing = (perf_counter() - started) / len(buffer) * IMAGE_BYTES
    size = sum(map(len, contents)) / len(contents)
    prepare, split_one = ((found[1] - found[0]) / (many - few) for found in (cpu, seconds))
    return Measured(size, prepare, split_one, hashing)


def split(folder: Path, count: int) -> float:
    """Returns the seconds in which `split` writes so many images of random bytes."""
    arrays = folder / "data/arrays/some"
    arrays.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 50, 50, 3), np.uint8)
    for name in ("", "valid_", "test_", "unlabelled_"):
        images = pixels if not name else pixels[:0]
        np.save(arrays / f"{name}images.npy", images)
        np.save(arrays / f"{name}labels.npy", (np.arange(len(images)) % 2).astype(np.uint8))
    np.save(arrays / "groups.npy", np.arange(count, dtype=np.int32))
    for name in ("names", "left_out"):
        np.save(arrays / f"unlabelled_{name}.npy", np.array([], np.str_))
    numbers = {"unlabelled": 0, "left_out": 0}
    summary = {"origin": "", "classes": ["a", "b"], "image_shape": [50, 50, 3], "images": numbers}
    write_json(arrays / "summary.json", summary)
    sizes = {"valid": 0.1, "test": 0.1, "seed": 0}
    YAML().dump({"datasets": {"some": {"split": sizes}}}, folder / "params.yaml")
    (folder / "stages").symlink_to(TOP / "stages")
    seconds = run([sys.executable, "-m", "stages.split", "some"], folder).seconds
    shutil.rmtree(folder)
    return seconds


def measure_models(folder: Path) -> Iterator[tuple[int, int, float | None]]:
    """Yields numbers of models, of their stages, and the seconds in which DVC plans them.

    None where it takes longer than `PATIENCE`.
    """
    for count in MODELS:
        project = Project(folder / f"models-{count}")
        shutil.copytree(TOP / "stages", project.folder / "stages")
        shutil.copy(TOP / "dvc.yaml", project.folder)
        params, own = (YAML().load(TOP / path) for path in ("tests/params.yaml", "params.yaml"))
        params |= {name: own[name] for name in ("evaluation", "plots")}
        params["models"] = {f"m{number}": params["models"]["dense"] for number in range(count)}
        project.write_params(params)
        (project.folder / "source").mkdir()
        project.run("git", "init", "--quiet")
        project.run("dvc", "init", "--quiet")
        stages = 7 + 3 * count  # of two datasets, and the report
        command = ["timeout", str(PATIENCE), "dvc", "stage", "list", "--name-only"]
        try:
            yield count, stages, run(command, project.folder, project.environment).seconds
        except subprocess.CalledProcessError:
            yield count, stages, None


def measure(folder: Path) -> tuple[list[Row], list[Row]]:
    """Returns what an image and a model take, and what that makes for very many images."""
    found = measure_images(folder)
    size = f"{IMAGE_BYTES:,} bytes"
    rows: list[Row] = [
        ("a photograph's file", f"{found.photograph:,.0f} bytes", "measured"),
        ("its image in `data/arrays`, and once more in `data/splits`", size, "computed"),
        ("`prepare`, a core", f"{1 / found.prepare:,.0f} photographs a second", "measured"),
        ("`split`, one process", f"{1 / found.split:,.0f} images a second", "measured"),
        ("DVC's checksum, one process", f"{1 / found.hashing:,.0f} images a second", "measured"),
    ]
    for count, stages, seconds in measure_models(folder):
        text = f"more than {PATIENCE} s" if seconds is None else f"{seconds:.1f} s"
        rows.append((f"DVC reads {count:,} models, {stages:,} stages", text, "measured"))
    many: list[Row] = [
        (
            f"{images:,}",
            str(workers),
            write_time(images * found.prepare / workers),
            write_time(images * found.split),
            write_time(2 * images * found.hashing),
            f"{images * (found.photograph + 4 * IMAGE_BYTES) / 1e12:.2f} TB",
        )
        for images in IMAGES
        for workers in WORKERS
    ]
    return rows, many


def write_time(seconds: float) -> str:
    """Writes a time in its natural unit."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:,.0f} s"
