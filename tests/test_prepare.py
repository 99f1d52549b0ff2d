"""Downloaded files become arrays: complete, in a fixed order, with a list of what was left out."""

import csv
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from stages.lib import params
from stages.lib.command import UserError
from stages.lib.files import natural_key, read_json
from stages.prepare import FILES, prepare
from stages.sources.archives import open_archives
from stages.sources.arrays import ARRAYS, write_rows
from stages.sources.decoding import READ_AHEAD, decode_image, to_square
from stages.sources.formats import Format
from stages.sources.idx import write_idx
from stages.sources.photograph_arrays import prepare_photos, read_photographs
from stages.sources.photographs import Photograph, find_photographs

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared/data"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real data are not beside the project"
)
KEY = "datasets.animals.prepare"
# RGB
RED, GREEN, BLUE = (230, 20, 20), (20, 230, 20), (20, 20, 230)

Entries = Sequence[tuple[str, bytes]]


def picture(colour: tuple[int, int, int], suffix: str = ".jpg", width: int = 40) -> bytes:
    """The content of a file with an even picture, 30 pixels high."""
    image = np.full((30, width, 3), colour[::-1], np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


def shade(number: int) -> bytes:
    """A picture that tells its number, up to 127, in the red channel."""
    return picture((2 * number, 60, 60), ".png")


def animals(count: int = 20) -> list[tuple[str, bytes]]:
    """So many cats and as many dogs, named as Kaggle does; the dogs' numbers begin at 60."""
    cats = [(f"train/cat.{number}.jpg", shade(number)) for number in range(count)]
    return cats + [(f"train/dog.{number}.jpg", shade(60 + number)) for number in range(count)]


def write_zip(path: Path, entries: Entries, compression: int = zipfile.ZIP_STORED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "data/raw/animals"
    folder.mkdir(parents=True)
    (folder / "origin.txt").write_text("sample\n")
    return folder


SHAPES = ((30, 10, 3), (20, 40, 3))


def options(**values: Any) -> Any:
    return TypeAdapter(Format).validate_python(values).root


def prepared(raw: Path, out: Path | None = None, **values: Any) -> dict[str, Any]:
    """Prepares a dataset, of small photographs by default, and returns the outputs by name."""
    out = out or raw.parents[1] / "arrays/animals"
    out.mkdir(parents=True, exist_ok=True)
    if "format" not in values:
        # Many of these photographs are all the same; tests/test_copies.py is about that.
        values = {"format": "photos", "image_size": 8, "duplicates": "keep", **values}
    prepare(raw, options(**values), {name: out / name for name in FILES})
    with (out / "left_out.csv").open(newline="") as file:
        left_out = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    arrays = {path.stem: np.load(path) for path in out.glob("*.npy")}
    return {**arrays, "summary": read_json(out / "summary.json"), "left_out": left_out}


def numbers(images: np.ndarray) -> list[int]:
    """The numbers that `shade` put into the pictures."""
    return [round(red / 2) for red in images[:, 4, 4, 0].tolist()]


def decoded(content: bytes, size: int, interpolation: Any) -> np.ndarray:
    found = decode_image(content)
    assert not isinstance(found, str)
    return to_square(found, size, interpolation).image


def refused(raw: Path, *words: str, **values: Any) -> None:
    with pytest.raises(UserError) as error:
        prepared(raw, **values)
    for word in words:
        assert word in str(error.value)


# Photographs: what is in the arrays


def test_sizes_before_resizing_are_counted_with_those_of_unlabelled_photographs(raw: Path) -> None:
    tall, wide = (cv2.imencode(".jpg", np.zeros(shape, np.uint8))[1].tobytes() for shape in SHAPES)
    labelled = [("cat.0.jpg", tall), ("cat.1.jpg", wide), ("dog.0.jpg", tall), ("dog.1.jpg", b"")]
    write_zip(raw / "train.zip", labelled)
    write_zip(raw / "test1.zip", [("1.jpg", tall)])
    prepared(raw, format="photos", image_size=8, max_broken=0.5, duplicates="keep")
    table = (raw.parents[1] / "arrays/animals/sizes.csv").read_text()
    assert table == "width,height,images\n10,30,3\n40,20,1\n"


def test_photographs_come_by_class_and_number_with_their_labels(raw: Path) -> None:
    write_zip(raw / "train.zip", animals())
    found = prepared(raw)
    assert found["images"].shape == (40, 8, 8, 3)
    assert found["images"].dtype == found["labels"].dtype == np.uint8
    assert numbers(found["images"]) == [*range(20), *range(60, 80)]
    assert found["labels"].tolist() == [0] * 20 + [1] * 20
    assert found["summary"] == {
        "origin": "sample",
        "classes": ["cat", "dog"],
        "image_shape": [8, 8, 3],
        "images": {"labelled": 40, "test": 0, "unlabelled": 0, "left_out": 0},
        "images_per_class": {"cat": 20, "dog": 20},
    }


def test_what_a_dataset_lacks_is_an_empty_array(raw: Path) -> None:
    write_zip(raw / "train.zip", animals())
    found = prepared(raw)
    assert found["test_images"].shape == found["unlabelled_images"].shape == (0, 8, 8, 3)
    assert found["test_labels"].shape == found["unlabelled_names"].shape == (0,)
    assert found["unlabelled_names"].dtype.kind == "U"
    assert found["unlabelled_left_out"].tolist() == []


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_colours_are_in_the_order_red_green_blue(suffix: str) -> None:
    for channel, colour in enumerate((RED, GREEN, BLUE)):
        image = decoded(picture(colour, suffix), 5, "area")
        assert (image.argmax(axis=2) == channel).all()


def test_a_grey_photograph_gets_three_channels() -> None:
    grey = cv2.imencode(".jpg", np.full((9, 9), 100, np.uint8))[1].tobytes()
    image = decoded(grey, 5, "area")
    assert image.shape == (5, 5, 3)


def test_a_photograph_is_turned_as_its_camera_says() -> None:
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:16] = 255
    jpeg = cv2.imencode(".jpg", upright)[1].tobytes()
    # The tag 0x0112 (orientation) is 6: the top of the scene is at the right.
    tags = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    segment = b"\xff\xe1" + struct.pack(">H", len(tags) + 8) + b"Exif\0\0" + tags
    image = decoded(jpeg[:2] + segment + jpeg[2:], 32, "area")
    assert image[:, 20:].min() > 200
    assert image[:, :12].max() < 50


@pytest.mark.parametrize(
    "interpolation",
    ["nearest", "linear", "cubic", "area", "lanczos4", "linear_exact", "nearest_exact"],
)
def test_every_interpolation_is_opencvs_own(interpolation: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    image = decoded(cv2.imencode(".png", noise[..., ::-1])[1].tobytes(), 7, interpolation)
    flag = getattr(cv2, f"INTER_{interpolation.upper()}")
    np.testing.assert_array_equal(image, cv2.resize(noise, (7, 7), interpolation=flag))


def test_unlabelled_photographs_keep_their_names_in_natural_order(raw: Path) -> None:
    write_zip(raw / "train.zip", animals())
    entries = [(f"test1/{number}.jpg", shade(number)) for number in (10, 1, 100, 2)]
    write_zip(raw / "test1.zip", entries)
    found = prepared(raw)
    assert found["unlabelled_names"].tolist() == ["1", "2", "10", "100"]
    assert numbers(found["unlabelled_images"]) == [1, 2, 10, 100]
    assert found["summary"]["images"]["unlabelled"] == 4
    assert found["summary"]["images"]["labelled"] == 40


@given(st.lists(st.from_regex(r"[a-z]{0,2}[0-9]{0,4}", fullmatch=True)))
def test_names_are_sorted_as_people_count(names: list[str]) -> None:
    ordered = sorted(names, key=natural_key)
    for first, second in pairwise(ordered):
        letters = [name.rstrip("0123456789") for name in (first, second)]
        digits = [
            int(f"0{name[len(start) :]}")
            for name, start in zip((first, second), letters, strict=True)
        ]
        assert letters[0] < letters[1] or (letters[0] == letters[1] and digits[0] <= digits[1])


def test_a_name_may_hold_more_digits_than_a_number() -> None:
    assert natural_key("9" * 5000) < natural_key("1" * 5001)


# Photographs: what is left out


def damaged_zip(path: Path, entries: Entries, victim: str) -> None:
    """Writes a zip in which the content of one entry does not fit its checksum."""
    write_zip(path, entries)
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo(victim).header_offset + 30 + len(victim) + 100
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)


def test_every_broken_file_is_left_out_with_its_reason(raw: Path) -> None:
    jpeg = picture(RED)
    broken = [
        ("train/cat.900.jpg", b""),
        ("train/cat.901.jpg", b"<html>404</html>"),
        ("train/cat.902.jpg", jpeg[: len(jpeg) // 2]),
        ("train/cat.903.jpg", jpeg[:-2]),
        ("train/cat.904.png", picture(RED, ".png")[:-20]),
        ("train/cat.905.jpg", jpeg),
        ("7.jpg", jpeg),
    ]
    others = [
        ("train/", b""),
        ("train/Thumbs.db", b"thumbs"),
        ("readme.txt", b"read me"),
        ("train/cat.1.txt", b"a cat"),
        ("__MACOSX/train/cat.0.jpg", b"\0\5\x16\7"),
        ("train/._cat.0.jpg", b"\0\5\x16\7"),
    ]
    damaged_zip(raw / "train.zip", animals(40) + broken + others, "train/cat.905.jpg")
    write_zip(raw / "test1.zip", [("test1/1.jpg", b""), ("test1/2.jpg", jpeg)])
    found = prepared(raw, max_broken=0.2)
    assert found["left_out"] == {
        "test1.zip/test1/1.jpg": "empty",
        "train.zip/7.jpg": "no class in its name, as in cat.0.jpg",
        "train.zip/__MACOSX/train/cat.0.jpg": "hidden, or made by the system",
        "train.zip/readme.txt": "no photograph",
        "train.zip/train/._cat.0.jpg": "hidden, or made by the system",
        "train.zip/train/Thumbs.db": "no photograph",
        "train.zip/train/cat.1.txt": "no photograph",
        "train.zip/train/cat.900.jpg": "empty",
        "train.zip/train/cat.901.jpg": "not an image",
        "train.zip/train/cat.902.jpg": "cut off",
        "train.zip/train/cat.903.jpg": "cut off",
        "train.zip/train/cat.904.png": "cut off",
        "train.zip/train/cat.905.jpg": "damaged in its archive",
    }
    assert list(found["left_out"]) == sorted(found["left_out"])
    assert found["summary"]["images"] == {
        "labelled": 80,
        "test": 0,
        "unlabelled": 1,
        "left_out": 13,
    }
    assert numbers(found["images"]) == [*range(40), *range(60, 100)]
    assert found["unlabelled_names"].tolist() == ["2"]
    assert found["unlabelled_left_out"].tolist() == ["1"]


@pytest.mark.parametrize(("max_broken", "passes"), [(0.1, True), (0.09, False), (0, False)])
def test_more_broken_photographs_than_allowed_fail_the_stage(
    raw: Path, max_broken: float, passes: bool
) -> None:
    broken = [("train/cat.98.jpg", b""), ("train/dog.99.jpg", b"no"), ("train/notes.txt", b"")]
    write_zip(raw / "train.zip", animals(9) + broken)
    if passes:
        assert len(prepared(raw, max_broken=max_broken)["images"]) == 18
    else:
        said = ("2 of 20", "10.0%", "max_broken", "train.zip/train/cat.98.jpg (empty)")
        refused(raw, *said, max_broken=max_broken)


@pytest.mark.parametrize("content", [b"", b"<html>sign in</html>", None])
def test_an_archive_that_is_no_zip_is_named(raw: Path, content: bytes | None) -> None:
    whole = write_zip(raw / "train.zip", animals()).read_bytes()
    (raw / "more.zip").write_bytes(whole[: len(whole) // 2] if content is None else content)
    refused(raw, "more.zip", "found a")


def test_a_dataset_that_cannot_train_a_classifier_is_refused(raw: Path) -> None:
    refused(raw, "no archive of photographs")
    write_zip(raw / "test1.zip", [("test1/1.jpg", shade(1))])
    refused(raw, "no labelled image")
    write_zip(raw / "train.zip", [("readme.txt", b"nothing here")])
    refused(raw, "no labelled image")
    write_zip(raw / "train.zip", animals()[:20])
    refused(raw, "20 labelled images", "'cat'", "two classes")


@pytest.mark.parametrize(("classes", "dtype"), [(256, np.uint8), (257, np.uint16)])
def test_labels_of_photographs_are_bytes_where_these_suffice(
    raw: Path, classes: int, dtype: type
) -> None:
    write_zip(raw / "train.zip", [(f"{n:03}/a.png", shade(1)) for n in range(classes)])
    labels = prepared(raw, duplicates="keep")["labels"]
    assert labels.dtype == dtype
    assert labels.tolist() == list(range(classes))


def test_files_without_an_origin_are_refused(raw: Path) -> None:
    (raw / "origin.txt").unlink()
    refused(raw, "origin.txt", "dvc repro")


# Photographs: the same bytes, little memory


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_neither_order_nor_number_of_archives_changes_the_arrays(raw: Path, tmp_path: Path) -> None:
    # Two photographs of one name both stay, wherever they are.
    entries = [*animals(), ("train/cat.3.jpg", shade(110)), ("train/dog.3.jpg", shade(111))]
    rng = np.random.default_rng(0)
    found = []
    for trial, archives in enumerate((["a"], ["a"], ["a", "b"], ["x", "y", "z"])):
        for path in raw.glob("*.zip"):
            path.unlink()
        entries = [entries[place] for place in rng.permutation(len(entries))]
        for number, name in enumerate(archives):
            names = set()
            with zipfile.ZipFile(raw / f"{name}.zip", "w") as archive:
                for file, content in entries[number :: len(archives)]:
                    if file in names:
                        with pytest.warns(UserWarning, match="Duplicate"):
                            archive.writestr(file, content)
                    else:
                        archive.writestr(file, content)
                    names.add(file)
        out = tmp_path / f"out{trial}"
        assert len(prepared(raw, out)["images"]) == 42
        # The other tables name the archives.
        found.append({n: c for n, c in contents(out).items() if n in (*ARRAYS, "summary.json")})
    assert all(outputs == found[0] for outputs in found)


def test_number_of_workers_does_not_change_a_byte(raw: Path, tmp_path: Path) -> None:
    write_zip(raw / "train.zip", [*animals(50), ("train/cat.99.jpg", b"")])
    write_zip(raw / "test1.zip", [(f"test1/{number}.jpg", shade(number)) for number in range(9)])
    found = []
    for workers in (1, 2, 5):
        out = tmp_path / str(workers)
        out.mkdir()
        files = {name: out / name for name in FILES}
        said = prepare_photos(raw, options(format="photos", duplicates="keep"), files, workers)
        found.append((said, contents(out)))
    assert set(found[0][1]) == set(FILES) - {"left_out.csv", "sizes.csv", "summary.json"}
    assert found[0] == found[1] == found[2]


def test_few_photographs_are_read_ahead(raw: Path) -> None:
    chosen = options(format="photos")
    taken = 0

    def counted() -> Iterator[Photograph]:
        nonlocal taken
        for photograph in photographs:
            taken += 1
            yield photograph

    with open_archives([write_zip(raw / "train.zip", animals(60))]) as members:
        photographs = find_photographs("animals", members, [], chosen).photographs
        images = read_photographs(counted(), chosen)
        for given_back, _ in enumerate(islice(images, 50)):
            assert taken - given_back <= READ_AHEAD
        assert [photograph for photograph, _ in images] == photographs[50:]
    assert taken == 120


def test_memory_does_not_grow_with_the_number_of_photographs(raw: Path, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        write_zip(raw / "train.zip", [*animals(1), *many[:count]])
        files = {name: tmp_path / name for name in FILES}
        tracemalloc.start()
        try:
            prepare_photos(raw, options(format="photos", image_size=100, duplicates="keep"), files)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    many = [(f"train/cat.{number}.jpg", picture(RED)) for number in range(1, 1200)]
    peak(10)
    few, all_of_them = peak(300), peak(1200)
    # 900 more images take 27 MB on the disk; in memory, each takes a name and a place.
    assert (tmp_path / "images.npy").stat().st_size > 1200 * 30_000
    assert all_of_them - few < 4_000_000


@pytest.mark.parametrize("count", [0, 1, 3])
def test_rows_are_written_as_numpy_writes_an_array(tmp_path: Path, count: int) -> None:
    array = np.arange(count * 12, dtype=np.uint8).reshape(count, 2, 2, 3)
    np.save(tmp_path / "expected.npy", array)
    write_rows(tmp_path / "found.npy", iter(array), (2, 2, 3))
    assert (tmp_path / "found.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


# MNIST's format


def write_mnist(raw: Path, train: int = 12, test: int = 6, suffix: str = "-ubyte.gz") -> None:
    for part, count in (("train", train), ("t10k", test)):
        images = np.zeros((count, 4, 3), np.uint8)
        images[:, 0, 0] = np.arange(count)
        write_idx(raw / f"{part}-images-idx3{suffix}", images)
        write_idx(raw / f"{part}-labels-idx1{suffix}", np.arange(count, dtype=np.uint8) % 3)


@pytest.mark.parametrize("suffix", ["-ubyte.gz", "-ubyte"])
def test_mnist_keeps_its_two_parts_and_their_order(raw: Path, suffix: str) -> None:
    write_mnist(raw, suffix=suffix)
    found = prepared(raw, format="idx")
    assert found["images"].shape == (12, 4, 3, 1)
    assert found["images"][:, 0, 0, 0].tolist() == list(range(12))
    assert found["labels"].tolist() == [0, 1, 2] * 4
    assert found["test_images"].shape == (6, 4, 3, 1)
    assert found["test_labels"].tolist() == [0, 1, 2] * 2
    assert found["unlabelled_images"].shape == (0, 4, 3, 1)
    assert found["left_out"] == {}
    assert found["summary"] == {
        "origin": "sample",
        "classes": ["0", "1", "2"],
        "image_shape": [4, 3, 1],
        "images": {"labelled": 12, "test": 6, "unlabelled": 0, "left_out": 0},
        "images_per_class": {"0": 4, "1": 4, "2": 4},
    }


def test_labels_with_gaps_become_indexes_of_their_classes(raw: Path) -> None:
    write_mnist(raw)
    write_idx(raw / "train-labels-idx1-ubyte.gz", np.array([9, 4] * 6, np.uint8))
    write_idx(raw / "t10k-labels-idx1-ubyte.gz", np.array([4, 7] * 3, np.uint8))
    found = prepared(raw, format="idx")
    assert found["summary"]["images_per_class"] == {"4": 6, "7": 0, "9": 6}
    assert found["labels"].tolist() == [2, 0] * 6
    assert found["test_labels"].tolist() == [0, 1] * 3


def test_mnist_files_that_do_not_fit_are_refused(raw: Path) -> None:
    def instead(name: str, array: np.ndarray, *words: str) -> None:
        write_mnist(raw)
        write_idx(raw / name, array)
        refused(raw, *words, format="idx")

    write_mnist(raw)
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    refused(raw, "t10k-labels-idx1-ubyte", format="idx")
    one_less = np.zeros(11, np.uint8)
    instead("train-labels-idx1-ubyte.gz", one_less, "12 train images but 11 train labels")
    instead("train-images-idx3-ubyte.gz", one_less, "train", "1 dimensions", "expected 3")
    larger = np.zeros((6, 4, 4), np.uint8)
    instead("t10k-images-idx3-ubyte.gz", larger, "4 pixels high and 3 wide", "4 and 4")
    write_mnist(raw, train=0)
    refused(raw, "no labelled image", format="idx")
    write_mnist(raw, train=1, test=1)
    refused(raw, "two classes", format="idx")


# The command and its options


def run_stage(folder: Path, params: str) -> subprocess.CompletedProcess[str]:
    (folder / "params.yaml").write_text(f"datasets: {{animals: {{prepare: {params}}}}}")
    command = [sys.executable, "-m", "stages.prepare", "animals"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_command_writes_every_file_twice_the_same(raw: Path, tmp_path: Path) -> None:
    write_zip(raw / "train.zip", [*animals(), ("train/cat.99.jpg", b"")])
    write_zip(raw / "test1.zip", [("test1/1.jpg", shade(1))])
    outputs = []
    for _ in range(2):
        done = run_stage(tmp_path, "{format: photos, interpolation: linear, duplicates: keep}")
        assert done.returncode == 0, done.stderr
        outputs.append(contents(tmp_path / "data/arrays/animals"))
    assert set(outputs[0]) == set(FILES)
    assert outputs[0] == outputs[1]
    assert np.load(tmp_path / "data/arrays/animals/images.npy").shape == (40, 50, 50, 3)
    assert "41/41" in done.stderr  # the progress bar
    assert "41/41" not in done.stdout


def test_a_failed_command_says_why_in_one_line_and_leaves_nothing(
    raw: Path, tmp_path: Path
) -> None:
    write_zip(raw / "train.zip", [*animals(), *((f"train/cat.9{n}.jpg", b"") for n in range(9))])
    done = run_stage(tmp_path, "{format: photos, duplicates: keep}")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: data/raw/animals: 9 of 49 photographs are broken (18.4%")
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "data/arrays/animals").iterdir()) == []


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"format": "photo"},
            "format: no 'photo'; did you mean 'photos'? (known: idx, npz, csv, photos)",
        ),
        ({}, "format: is missing"),
        (
            {"format": "photos", "image_sise": 9},
            "image_sise: unknown key; did you mean 'image_size'",
        ),
        ({"format": "photos", "image_size": 0}, "image_size: expected greater than or equal to 1"),
        ({"format": "photos", "max_broken": 2}, "max_broken: expected less than or equal to 1"),
        ({"format": "photos", "interpolation": "bilinear"}, "interpolation: expected 'nearest'"),
        ({"format": "idx", "image_size": 9}, "image_size: unknown key"),
    ],
)
def test_a_wrong_option_is_named_by_its_full_key(section: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        params.check(KEY, section, Format)
    assert f"params.yaml: {KEY}.{said}" in str(error.value)


# Real data


@needs_shared
def test_real_photographs_are_prepared_as_they_are(raw: Path) -> None:
    with zipfile.ZipFile(SHARED / "dogs-vs-cats-subset.zip") as archive:
        names = [f"train/{kind}.{number}.jpg" for kind in ("cat", "dog") for number in range(150)]
        entries = [(name, archive.read(name)) for name in sorted(names)]
    write_zip(raw / "train.zip", entries)
    (raw / "test1.zip").symlink_to(SHARED / "dogs-vs-cats-test1.zip")
    found = prepared(raw, image_size=50, decoding="full")
    assert found["left_out"] == {}
    assert found["summary"]["images_per_class"] == {"cat": 150, "dog": 150}
    assert found["unlabelled_names"].tolist() == [str(number) for number in range(1, 501)]
    # Each photograph lies at the place of its number, and is what OpenCV alone makes of it.
    content = dict(entries)
    for place, name in enumerate(names):
        blue_first = cv2.imdecode(np.frombuffer(content[name], np.uint8), cv2.IMREAD_COLOR)
        assert blue_first is not None
        expected = cv2.resize(blue_first, (50, 50), interpolation=cv2.INTER_AREA)[..., ::-1]
        np.testing.assert_array_equal(found["images"][place], expected)
    # What is reduced while it is decoded hardly differs, and `area` is where it does not.
    reduced = prepared(raw, image_size=50)["images"]
    assert 0.5 < np.abs(reduced.astype(int) - found["images"]).mean() < 3
    linear: dict[str, Any] = {"image_size": 50, "interpolation": "linear"}
    smooth, same = prepared(raw, **linear), prepared(raw, **linear, decoding="full")
    np.testing.assert_array_equal(smooth["images"], same["images"])


@needs_shared
def test_all_of_mnist_is_prepared(raw: Path) -> None:
    for path in (SHARED / "mnist").iterdir():
        (raw / path.name).symlink_to(path)
    found = prepared(raw, format="idx")
    assert found["images"].shape == (60000, 28, 28, 1)
    assert found["test_images"].shape == (10000, 28, 28, 1)
    per_class = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert list(found["summary"]["images_per_class"].values()) == per_class
    assert np.bincount(found["test_labels"]).tolist() == [
        *(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    ]
