"""How fast photographs become arrays, and in how much memory.

The yardstick is what the book chapter does: one process that reads, resizes and lists extracted
files, and saves the list.
"""

import os
import shutil
import statistics
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

import simplejpeg
from conftest import TOP
from measure import ROUNDS, Row, alternate, peak_memory, ratio, run
from ruamel.yaml import YAML

from stages.sources.sample import write_drawn_photographs

LOOP = """
import glob, sys, cv2, numpy
images = [cv2.resize(cv2.imread(name), (50, 50)) for name in sorted(glob.glob(sys.argv[1] + "/*"))]
numpy.save(sys.argv[2], images)
"""
REAL = ("dogs-vs-cats-subset.zip", "dogs-vs-cats-subset-more.zip")
PREPARE = {"format": "photos", "image_size": 50, "duplicates": "keep"}


def measure(folder: Path, count: int) -> Iterator[Row]:
    """Compares `prepare` with the loop, with all that the processor can decode, and its memory.

    Args:
        folder: An empty one, for everything.
        count: The number of photographs; of Kaggle's where they are, else of drawn ones.
    """
    contents = read_photographs(folder)
    write_project(folder, "many", contents, count)
    loose = folder / "loose"
    with zipfile.ZipFile(folder / "data/raw/many/train.zip") as archive:
        archive.extractall(folder)
        (folder / "train").rename(loose)

    def loop() -> float:
        return run([sys.executable, "-c", LOOP, str(loose), "loop.npy"], folder).seconds

    def prepare() -> float:
        return run([sys.executable, "-m", "stages.prepare", "many"], folder).seconds

    loops, prepares = alternate(loop, prepare)
    name = f"photographs a second, `prepare` to the loop, {count:,} photographs"
    yield (name, ratio(loops, prepares), "2.5 or more")
    seconds = statistics.median(decode_all(contents, count) for _ in range(ROUNDS))
    share = seconds / statistics.median(prepares)
    yield ("share of the speed at which all cores decode in memory", f"{share:.0%}", "")
    for number in (count // 5, count * 4):
        write_project(folder, "many", contents, number)
        shutil.rmtree(folder / "data/arrays")
        peak = peak_memory([sys.executable, "-m", "stages.prepare", "many"], folder)
        yield (f"peak memory of `prepare`, {number:,} photographs", f"{peak >> 20} MB", "700 MB")


def read_photographs(folder: Path) -> list[bytes]:
    """Returns the photographs that are here as files of JPEG."""
    archives = [TOP.parent / "shared/data" / name for name in REAL]
    if not archives[0].exists():
        write_drawn_photographs(folder, seed=0)
        archives = [folder / "train.zip"]
    contents = []
    for path in archives:
        with zipfile.ZipFile(path) as archive:
            contents += [archive.read(name) for name in archive.namelist() if name.endswith("jpg")]
    return contents


def write_project(folder: Path, dataset: str, contents: list[bytes], count: int) -> None:
    """Writes a dataset of `count` photographs, the given ones again and again, and its params."""
    raw = folder / "data/raw" / dataset
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "origin.txt").write_text("a benchmark")
    with zipfile.ZipFile(raw / "train.zip", "w") as archive:
        for number, content in enumerate(islice(cycle(contents), count)):
            kind = "dog" if number % 2 else "cat"
            archive.writestr(f"train/{kind}.{number}.jpg", content)
    YAML().dump({"datasets": {dataset: {"prepare": PREPARE}}}, folder / "params.yaml")
    if not (folder / "stages").exists():
        (folder / "stages").symlink_to(TOP / "stages")


def decode_all(contents: list[bytes], count: int) -> float:
    """Returns the seconds in which all cores decode so many photographs, and do nothing else."""

    def decode(content: bytes) -> None:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
        by = max(by for by in (1, 2, 4, 8) if by == 1 or min(height, width) >= 100 * by)
        simplejpeg.decode_jpeg(
            content, strict=False, min_height=-(-height // by), min_width=-(-width // by)
        )

    started = perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, islice(cycle(contents), count), chunksize=100))
    return perf_counter() - started
