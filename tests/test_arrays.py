"""Datasets that come as arrays: any public layout gives the right images and labels, or an error.

Each test runs the stages' own functions, download and prepare, on files that it writes.
"""

import gzip
import io
import itertools
import random
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.download import download
from stages.lib import params
from stages.lib.command import UserError
from stages.lib.files import read_json
from stages.prepare import FILES, prepare
from stages.sources.formats import Format
from stages.sources.idx import IDX_NAMES, read_idx
from stages.split import FILES as SPLIT_FILES
from stages.split import Options, split

MNIST = Path(__file__).parents[2] / "shared/data/mnist"
RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (12, 4, 4), np.uint8)
TEST = RNG.integers(0, 256, (6, 4, 4), np.uint8)
# The first pixel as no label could be: a CSV file shows by it which column has the labels.
TRAIN[:, 0, 0], TEST[:, 0, 0], TRAIN[:, 3, 3], TEST[:, 3, 3] = 0, 0, 0, 0
TRAIN_LABELS = np.arange(12, dtype=np.uint8) % 3
TEST_LABELS = np.arange(6, dtype=np.uint8) % 3
CONTENTS = (TRAIN, TRAIN_LABELS, TEST, TEST_LABELS)

Dataset = dict[str, Any]


# Without the clock, so that tests with such contents have the same names in every process.
pack = partial(gzip.compress, mtime=0)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return (
        bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    )


def npz(**named: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **named)  # type: ignore[arg-type]
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def table(
    images: np.ndarray, labels: np.ndarray | None, header: str = "", delimiter: str = ","
) -> bytes:
    """A line for each image, the label first."""
    rows = images.reshape(len(images), -1)
    if labels is not None:
        rows = np.hstack([labels.reshape(-1, 1), rows])
    lines = [header] * bool(header) + [delimiter.join(map(str, row)) for row in rows.tolist()]
    return "".join(f"{line}\n" for line in lines).encode()


def zip_of(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def prepared(
    folder: Path, source: str | list[str], subset: str | None = None, **options: Any
) -> Dataset:
    """Downloads and prepares a dataset, and returns the outputs by name."""
    raw, out = folder / "data/raw", folder / "data/arrays"
    raw.mkdir(parents=True)
    out.mkdir()
    download("mine", raw, source, subset=subset)
    checked = params.check("datasets.mine.prepare", options, Format).root
    prepare(raw, checked, {name: out / name for name in FILES})
    arrays = {path.stem: np.load(path) for path in out.glob("*.npy")}
    return {**arrays, "summary": read_json(out / "summary.json")}


def check(found: Dataset, channels: int = 1) -> None:
    """The dataset is that of `CONTENTS`."""
    assert channels == 1
    np.testing.assert_array_equal(found["images"], TRAIN[..., np.newaxis], strict=True)
    np.testing.assert_array_equal(found["labels"], TRAIN_LABELS, strict=True)
    np.testing.assert_array_equal(found["test_images"], TEST[..., np.newaxis], strict=True)
    np.testing.assert_array_equal(found["test_labels"], TEST_LABELS, strict=True)
    assert found["summary"]["classes"] == ["0", "1", "2"]


def refused(folder: Path, *words: str, source: str | list[str] = "", **options: Any) -> None:
    with pytest.raises(UserError) as error:
        prepared(folder, source or str(folder / "mine"), **options)
    for word in words:
        assert word in str(error.value)
    assert len(str(error.value)) < 500


# IDX

NAMES = {
    "original": IDX_NAMES,
    "plain": tuple(name.removesuffix(".gz") for name in IDX_NAMES),
    "dotted": tuple(
        name.removesuffix(".gz").replace("-idx", ".idx").replace("t10k", "test")
        for name in IDX_NAMES
    ),
    "emnist": tuple(f"emnist-letters-{name.replace('t10k', 'test')}" for name in IDX_NAMES),
    "qmnist": tuple(f"qmnist-{name.replace('t10k', 'test')}" for name in IDX_NAMES),
    "nested": tuple(f"MNIST/raw/{name}" for name in IDX_NAMES),
    "twice": tuple(name.removesuffix(".gz").replace("-idx", ".idx") for name in IDX_NAMES),
}


def idx_files(names: Sequence[str] = IDX_NAMES, contents: Sequence[Any] = CONTENTS) -> Any:
    return {
        name: pack(idx(array)) if name.endswith(".gz") else idx(array)
        for name, array in zip(names, contents, strict=True)
    }


@pytest.mark.parametrize("way", ["folder", "zip", "list", "list of zips"])
@pytest.mark.parametrize("naming", NAMES)
def test_idx_files_are_read_under_every_public_name(tmp_path: Path, naming: str, way: str) -> None:
    files = idx_files(NAMES[naming])
    if naming == "twice":  # as a popular archive on Kaggle has them
        files |= {f"{(n := name.replace('.', '-'))}/{n}": files[name] for name in files}
    write(tmp_path / "mine", {**files, ".hidden": b"", "readme.md": b"Digits."})
    write(tmp_path, {"mine.zip": zip_of({**files, "__MACOSX/._x-images-idx3-ubyte": b"no"})})
    for number, (name, content) in enumerate(files.items()):
        write(tmp_path, {f"{number}.zip": zip_of({name: content})})
    sources: dict[str, str | list[str]] = {
        "folder": str(tmp_path / "mine"),
        "zip": str(tmp_path / "mine.zip"),
        "list": [str(tmp_path / "mine" / name) for name in files],
        "list of zips": [str(tmp_path / f"{number}.zip") for number in range(len(files))],
    }
    check(prepared(tmp_path, sources[way], format="idx"))
    assert sorted(p.name for p in (tmp_path / "data/raw").iterdir()) == sorted(
        [*IDX_NAMES, "origin.txt"]
    )


def test_compressed_idx_files_keep_their_bytes(tmp_path: Path) -> None:
    files = idx_files(NAMES["emnist"])
    write(tmp_path / "mine", files)
    prepared(tmp_path, str(tmp_path / "mine"), format="idx")
    for name, content in zip(IDX_NAMES, files.values(), strict=True):
        assert (tmp_path / "data/raw" / name).read_bytes() == content


def emnist(sets: Sequence[str] = ("balanced", "letters", "mnist")) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for number, name in enumerate(sets):
        contents = (TRAIN, TRAIN_LABELS + 1 + number, TEST, TEST_LABELS + 1 + number)
        names = [f"gzip/emnist-{name}-{file.replace('t10k', 'test')}" for file in IDX_NAMES]
        files |= idx_files(names, contents)
        files[f"gzip/emnist-{name}-mapping.txt"] = b"1 65 97\n"
    return files


def test_one_of_emnists_sets_is_chosen_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, {"gzip.zip": zip_of(emnist())})
    found = prepared(tmp_path, str(tmp_path / "gzip.zip"), "letters", format="idx")
    assert found["summary"]["classes"] == ["2", "3", "4"]
    assert found["labels"].tolist() == TRAIN_LABELS.tolist()


@pytest.mark.parametrize("subset", [None, "leters"])
def test_without_a_known_set_the_error_lists_them(tmp_path: Path, subset: str | None) -> None:
    write(tmp_path, {"gzip.zip": zip_of(emnist())})
    source = str(tmp_path / "gzip.zip")
    refused(
        tmp_path, "balanced, letters, mnist", "subset", source=source, subset=subset, format="idx"
    )


def test_the_set_in_the_middle_of_emnists_names_is_told_from_mnist(tmp_path: Path) -> None:
    write(tmp_path / "mine", emnist())
    found = prepared(tmp_path, str(tmp_path / "mine"), "mnist", format="idx")
    assert found["summary"]["classes"] == ["3", "4", "5"]


def test_emnists_letters_are_turned_and_named(tmp_path: Path) -> None:
    wide = RNG.integers(0, 256, (6, 2, 3), np.uint8)
    labels = np.array([1, 26, 3, 3, 26, 1], np.uint8)
    write(tmp_path / "mine", idx_files(contents=(wide, labels, wide, labels)))
    options: Any = {"format": "idx", "transpose": True, "classes": ["A", "C", "Z"]}
    found = prepared(tmp_path, str(tmp_path / "mine"), **options)
    assert found["summary"]["classes"] == ["A", "C", "Z"]
    assert found["labels"].tolist() == [0, 2, 1, 1, 2, 0]
    expected = wide.transpose(0, 2, 1)[..., np.newaxis]
    np.testing.assert_array_equal(found["images"], expected)
    np.testing.assert_array_equal(found["test_images"], expected)
    assert found["summary"]["image_shape"] == [3, 2, 1]
    assert (tmp_path / "data/arrays/sizes.csv").read_text() == "width,height,images\n2,3,12\n"


def test_classes_need_a_name_for_each_label_that_occurs(tmp_path: Path) -> None:
    write(tmp_path / "mine", idx_files())
    words = ("3 labels occur (0, 1, 2)", "`classes` has 2 names")
    refused(tmp_path, *words, format="idx", classes=["A", "B"])


def test_the_class_of_qmnist_is_the_first_of_its_columns(tmp_path: Path) -> None:
    def columns(labels: np.ndarray) -> np.ndarray:
        rest = RNG.integers(100, 70000, (len(labels), 7))
        return np.column_stack([labels, rest]).astype(">i4")

    files = {
        "qmnist-train-images-idx3-ubyte.gz": pack(idx(TRAIN)),
        "qmnist-train-labels-idx2-int.gz": pack(idx(columns(TRAIN_LABELS), 12)),
        "qmnist-test-images-idx3-ubyte.gz": pack(idx(TEST)),
        "qmnist-test-labels-idx2-int": idx(columns(TEST_LABELS), 12),
    }
    check(prepared(tmp_path, str(write(tmp_path / "mine", files)), format="idx"))


def test_idx_images_may_have_colours(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (6, 4, 5, 3), np.uint8)
    write(tmp_path / "mine", idx_files(contents=(colours, TEST_LABELS, colours, TEST_LABELS)))
    found = prepared(tmp_path, str(tmp_path / "mine"), format="idx")
    np.testing.assert_array_equal(found["images"], colours)


def test_a_training_part_alone_is_read_and_split_needs_a_test(tmp_path: Path) -> None:
    write(tmp_path / "mine", dict(itertools.islice(idx_files().items(), 2)))
    found = prepared(tmp_path, str(tmp_path / "mine"), format="idx")
    np.testing.assert_array_equal(found["images"][..., 0], TRAIN)
    assert found["test_images"].shape == (0, 4, 4, 1)
    files = {name: tmp_path / name for name in SPLIT_FILES}
    with pytest.raises(UserError, match="test is missing: the dataset brings no test images"):
        split(tmp_path / "data/arrays", Options(valid=3, seed=0), files, "datasets.mine.split")
    options = Options(valid=3, test=3, seed=0)
    split(tmp_path / "data/arrays", options, files, "datasets.mine.split")
    assert len(np.load(tmp_path / "test_labels.npy")) == 3


@pytest.mark.parametrize("missing", IDX_NAMES)
def test_a_part_without_its_other_file_is_an_error_with_its_name(
    tmp_path: Path, missing: str
) -> None:
    files = idx_files()
    del files[missing]
    write(tmp_path / "mine", files)
    refused(tmp_path, f"has no {missing}", format="idx")


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        (IDX_NAMES[0], TRAIN.reshape(12, 2, 2, 2, 2), ("5 dimensions", "volumes")),
        (IDX_NAMES[0], TRAIN.reshape(12, 2, 2, 4), ("4 dimensions [n, 2, 2, 4]", "volumes")),
        (IDX_NAMES[0], TRAIN[:, np.newaxis], ("channels first", "[n, 4, 4, 1]", "moveaxis")),
        (IDX_NAMES[0], TRAIN.reshape(12, 16)[:, :15], ("15 values an image", "shape: [height")),
        (IDX_NAMES[0], TRAIN[:, :0], ("without a pixel",)),
        (IDX_NAMES[0], TRAIN[:9], ("9 train images but 12 train labels",)),
        (IDX_NAMES[1], TRAIN, ("labels have 3 dimensions", "one label an image")),
        (IDX_NAMES[2], TEST[:, :3], ("4 pixels high and 4 wide", "3 and 4")),
    ],
)
def test_arrays_that_are_no_labelled_images_are_refused(
    tmp_path: Path, name: str, array: np.ndarray, words: Sequence[str]
) -> None:
    write(tmp_path / "mine", idx_files() | {name: pack(idx(array))})
    refused(tmp_path, *words, format="idx")


# NumPy's files


def keras() -> dict[str, np.ndarray]:
    return dict(zip(("x_train", "y_train", "x_test", "y_test"), CONTENTS, strict=True))


def medmnist() -> dict[str, np.ndarray]:
    return {
        "train_images": TRAIN,
        "train_labels": TRAIN_LABELS[:, np.newaxis],
        "val_images": TEST[:3],
        "val_labels": TEST_LABELS[:3, np.newaxis],
        "test_images": TEST,
        "test_labels": TEST_LABELS[:, np.newaxis],
    }


@pytest.mark.parametrize("packed", [False, True])
def test_keras_npz_is_read(tmp_path: Path, packed: bool) -> None:
    files = {"mnist.npz": npz(**keras())}
    if packed:
        files = {"archive.zip": zip_of(files)}
    write(tmp_path / "mine", files)
    check(prepared(tmp_path, str(tmp_path / "mine"), format="npz"))


@pytest.mark.parametrize("name", ["data", "images", "train", "my_train_data", "x", "mnist-test"])
@pytest.mark.parametrize("labels", ["y", "image_labels", "data_y"])
def test_the_names_of_arrays_say_more_than_that_of_their_file(
    tmp_path: Path, name: str, labels: str
) -> None:
    named = {key.replace("y", labels): array for key, array in keras().items()}
    write(tmp_path, {f"{name}.npz": npz(**named)})
    check(prepared(tmp_path, str(tmp_path / f"{name}.npz"), format="npz"))


@pytest.mark.parametrize("channels", [1, 3])
def test_medmnist_npz_keeps_its_validation_part(tmp_path: Path, channels: int) -> None:
    named = medmnist()
    if channels == 3:
        named |= {n: np.stack([a] * 3, 3) for n, a in named.items() if n.endswith("images")}
    write(tmp_path, {"bloodmnist.npz": npz(**named)})
    found = prepared(tmp_path, str(tmp_path / "bloodmnist.npz"), format="npz")
    assert found["images"].shape == (12, 4, 4, channels)
    np.testing.assert_array_equal(found["valid_images"][..., 0], TEST[:3])
    np.testing.assert_array_equal(found["valid_labels"], TEST_LABELS[:3], strict=True)
    np.testing.assert_array_equal(found["test_images"][..., channels - 1], TEST)
    np.testing.assert_array_equal(found["labels"], TRAIN_LABELS, strict=True)
    assert found["summary"]["images"] == {
        "labelled": 12,
        "valid": 3,
        "test": 6,
        "unlabelled": 0,
        "left_out": 0,
    }


def test_one_of_several_npz_files_is_chosen_by_its_name(tmp_path: Path) -> None:
    other = medmnist() | {"train_labels": 2 - TRAIN_LABELS[:, np.newaxis]}
    write(tmp_path / "mine", {"bloodmnist.npz": npz(**other), "pathmnist.npz": npz(**medmnist())})
    check(prepared(tmp_path, str(tmp_path / "mine"), "pathmnist", format="npz"))
    refused(
        tmp_path / "again", "bloodmnist, pathmnist", source=str(tmp_path / "mine"), format="npz"
    )


@pytest.mark.parametrize(
    "names",
    [
        ("kmnist-train-imgs", "kmnist-train-labels", "kmnist-test-imgs", "kmnist-test-labels"),
        ("X_kannada_MNIST_train", "y_kannada_MNIST_train", "X_kannada_MNIST_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("x", "y", "x-test", "y-test"),
        ("train_data", "train_data_labels", "test_data", "test_data_labels"),
        ("images", "image_labels", "images_test", "image_labels_test"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_arrays_in_files_of_their_own_are_read_by_the_files_names(
    tmp_path: Path, names: Sequence[str], suffix: str
) -> None:
    save: Callable[[np.ndarray], bytes] = (
        (lambda array: npz(arr_0=array)) if suffix == ".npz" else npy
    )
    files = {name + suffix: save(array) for name, array in zip(names, CONTENTS, strict=True)}
    check(prepared(tmp_path, str(write(tmp_path / "mine", files)), format="npz"))


@pytest.mark.parametrize(
    "convert",
    [
        *(
            lambda a, kind=kind: a.astype(kind)
            for kind in ("<u2", ">u2", "<i8", "<i2", "<f4", "<f8")
        ),
        *(
            lambda a, kind=kind: (a / np.float64(255)).astype(kind)
            for kind in ("<f2", "<f4", "<f8")
        ),
        lambda a: (a / 255).astype(np.float32).astype(np.float64),
        lambda a: np.asfortranarray(a),
        lambda a: a.reshape(len(a), -1),
        lambda a: a[..., np.newaxis],
    ],
)
def test_images_of_other_types_are_the_same_in_bytes(
    tmp_path: Path, convert: Callable[[np.ndarray], np.ndarray]
) -> None:
    named = keras()
    named |= {name: convert(named[name]) for name in ("x_train", "x_test")}
    write(tmp_path, {"mine.npz": npz(**named)})
    check(prepared(tmp_path, str(tmp_path / "mine.npz"), format="npz"))


@pytest.mark.parametrize("train", [TRAIN.astype("f4"), TRAIN, (TRAIN > 99).astype("u1")])
def test_floats_of_0_and_1_beside_numbers_that_are_taken_as_they_are_are_refused(
    tmp_path: Path, train: np.ndarray
) -> None:
    named = keras() | {"x_train": train, "x_test": (TEST > 99).astype("f8")}
    write(tmp_path, {"mine.npz": npz(**named)})
    with pytest.raises(UserError, match=r"x_test: holds 0 and 1 alone, as float64, and .*x_train"):
        prepared(tmp_path, str(tmp_path / "mine.npz"), format="npz")


def test_floats_of_0_and_1_in_all_parts_are_black_and_white(tmp_path: Path) -> None:
    both = {
        f"x_{part}": (array > 99).astype("f4") for part, array in (("train", TRAIN), ("test", TEST))
    }
    write(tmp_path, {"mine.npz": npz(**keras() | both)})
    found = prepared(tmp_path, str(tmp_path / "mine.npz"), format="npz")
    np.testing.assert_array_equal(found["images"][..., 0], 255 * both["x_train"])
    np.testing.assert_array_equal(found["test_images"][..., 0], 255 * both["x_test"])


def test_flat_images_that_are_no_squares_take_their_shape_from_params(tmp_path: Path) -> None:
    named = keras() | {"x_train": TRAIN.reshape(12, 16), "x_test": TEST.reshape(6, 16)}
    write(tmp_path, {"mine.npz": npz(**named)})
    found = prepared(tmp_path, str(tmp_path / "mine.npz"), format="npz", shape=[2, 8])
    np.testing.assert_array_equal(found["images"], TRAIN.reshape(12, 2, 8, 1))


def instead(
    name: str, place: tuple[int, ...], value: Any, kind: str, divided_by: int = 1
) -> dict[str, np.ndarray]:
    array = (keras()[name] / divided_by).astype(kind)
    array[place] = value
    return {name: array}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": TRAIN.astype(object)}, ("x_train", "Python objects")),
        ({"y_test": np.array(["a", None] * 3, object)}, ("y_test", "Python objects")),
        ({"x_train": TRAIN.astype(bool)}, ("x_train: holds bool",)),
        ({"x_train": TRAIN.astype(complex)}, ("complex",)),
        ({"y_train": TRAIN_LABELS.astype(str)}, ("y_train: holds <U", "labels: whole numbers")),
        (instead("x_train", (7, 2, 1), 256, "u2"), ("the uint16 256 in image 7",)),
        (instead("x_train", (7, 2, 1), -1, "i8"), ("the int64 -1 in image 7",)),
        (instead("x_train", (7, 2, 1), 12.5, "f8"), ("the float64 12.5 in image 7",)),
        (instead("x_train", (7, 2, 1), np.nan, "f4"), ("nan in image 7",)),
        (instead("x_train", (7, 2, 1), np.inf, "f4"), ("inf in image 7",)),
        (instead("x_train", (7, 2, 1), np.nan, "f4", 255), ("nan in image 7",)),
        (instead("x_train", (7, 2, 1), np.inf, "f4", 255), ("inf in image 7",)),
        ({"x_train": TRAIN / 127.5 - 1}, ("x_train: holds the float64 -",)),
        ({"x_train": RNG.random((12, 4, 4))}, ("x_train: holds the float64 0.",)),
        (instead("y_train", (3,), -1, "i8"), ("the label -1 in row 3",)),
        (instead("y_train", (3,), 0.5, "f8"), ("the label 0.5 in row 3",)),
        (instead("y_train", (3,), np.nan, "f8"), ("the label nan in row 3",)),
        ({"y_train": np.eye(3)[TRAIN_LABELS]}, ("[n, 3]", "argmax")),
        ({"y_train": np.zeros((12, 14), int)}, ("[n, 14]", "one label an image")),
        ({"x_train": np.zeros((12, 8, 8, 8), "u1")}, ("[n, 8, 8, 8]", "volumes")),
        ({"x_train": np.zeros((12, 3, 8, 8), "u1")}, ("[n, 3, 8, 8]", "channels first")),
        ({"x_train": np.zeros((12, 8, 8, 4), "u1")}, ("[n, 8, 8, 4]", "1 or 3 channels")),
        ({"x_train": np.zeros((), "u1")}, ("0 dimensions",)),
        ({"y_train": np.array(3)}, ("labels have 0 dimensions",)),
        ({"train_images": TRAIN}, ("x_train", "train_images", "are both the train images")),
    ],
)
def test_arrays_that_are_no_images_or_labels_are_refused_by_name(
    tmp_path: Path, changes: dict[str, np.ndarray], words: Sequence[str]
) -> None:
    write(tmp_path, {"mine.npz": npz(**keras() | changes)})
    refused(tmp_path, *words, source=str(tmp_path / "mine.npz"), format="npz")


@pytest.mark.parametrize("missing", ["x_train", "y_train", "x_test", "y_test"])
def test_an_npz_file_that_lacks_an_array_is_refused_with_those_it_has(
    tmp_path: Path, missing: str
) -> None:
    named = keras()
    del named[missing]
    write(tmp_path, {"mine.npz": npz(**named)})
    source = str(tmp_path / "mine.npz")
    content = "images" if missing.startswith("x") else "labels"
    refused(tmp_path, f"no {missing[2:]} {content}", *named, source=source, format="npz")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "cut off or damaged"),
        (b"<html>", "cut off or damaged"),
        (npz(**keras())[:-30], "cut off or damaged"),
        (zip_of({"x_train.npy": b"no"}), "NumPy's format"),
        (
            zip_of({"x_train.npy": npy(TRAIN)[:-9], "y_train.npy": npy(TRAIN_LABELS)}),
            "bytes of val",
        ),
        (zip_of({"x_train.npy": npy(TRAIN) + b"x", "y_train.npy": npy(TRAIN_LABELS)}), "goes on"),
        (zip_of({"readme.txt": b"no"}), "holds no array (readme.txt)"),
        (zip_of({}), "holds no array"),
    ],
)
def test_a_damaged_npz_file_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    write(tmp_path, {"mine.npz": content})
    refused(tmp_path, "mine.npz", word, source=str(tmp_path / "mine.npz"), format="npz")


# CSV

PIXELS = [f"pixel{number}" for number in range(16)]
FORMS = {
    "without a header": {},
    "Kaggle's": {"header": ",".join(["label", *PIXELS])},
    "a class": {"header": ",".join(["Class", *PIXELS])},
    "semicolons": {"delimiter": ";"},
    "tabs": {"delimiter": "\t", "header": "\t".join(["label", *PIXELS])},
    "quoted names": {"header": ",".join(f'"{name}"' for name in ["label", *PIXELS])},
    "zeros as names": {"header": ",".join(["0", *(["0"] + [f"0.{i}" for i in range(1, 17)])[1:]])},
    "numbers as names": {"header": ",".join(["label", *map(str, range(16))])},
}


@pytest.mark.parametrize("packing", ["plain", "gzip", "zip", "zips"])
@pytest.mark.parametrize("form", FORMS)
def test_csv_files_of_pixels_are_read(tmp_path: Path, form: str, packing: str) -> None:
    files = {
        f"mnist_{part}.csv": table(images, labels, **FORMS[form])
        for part, images, labels in (("train", TRAIN, TRAIN_LABELS), ("test", TEST, TEST_LABELS))
    }
    if packing == "gzip":
        files = {f"{name}.gz": pack(content) for name, content in files.items()}
    elif packing == "zip":
        files = {"archive.zip": zip_of(files)}
    elif packing == "zips":
        files = {f"{name}.zip": zip_of({name: content}) for name, content in files.items()}
    write(tmp_path / "mine", files)
    check(prepared(tmp_path, str(tmp_path / "mine"), format="csv"))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text + "\n\n",
        lambda text: text.rstrip("\n"),
        lambda text: text.replace(",", ", "),
        lambda text: text.replace(",", ".0,"),
    ],
)
def test_what_programs_write_differently_is_the_same_data(
    tmp_path: Path, change: Callable[[str], str]
) -> None:
    for part, images, labels in (("train", TRAIN, TRAIN_LABELS), ("test", TEST, TEST_LABELS)):
        text = change(table(images, labels).decode())
        write(tmp_path / "mine", {f"{part}.csv": text.encode()})
    check(prepared(tmp_path, str(tmp_path / "mine"), format="csv"))


@pytest.mark.parametrize("numbered", [False, True])
def test_kaggles_test_csv_without_labels_is_there_to_be_predicted(
    tmp_path: Path, numbered: bool
) -> None:
    header, test = ",".join(PIXELS), table(TEST, None, ",".join(PIXELS))
    if numbered:
        test = table(TEST, 10 + np.arange(6), f"id,{header}")
    train = table(TRAIN, TRAIN_LABELS, f"label,{header}")
    submission = b"ImageId,Label\n1,0\n2,0\n"
    files = {"train.csv": train, "test.csv": test, "sample_submission.csv": submission}
    write(tmp_path, {"digit-recognizer.zip": zip_of(files)})
    found = prepared(tmp_path, str(tmp_path / "digit-recognizer.zip"), format="csv")
    np.testing.assert_array_equal(found["images"][..., 0], TRAIN)
    np.testing.assert_array_equal(found["unlabelled_images"][..., 0], TEST)
    first = 10 if numbered else 1
    assert found["unlabelled_names"].tolist() == [str(first + number) for number in range(6)]
    assert found["test_images"].shape == (0, 4, 4, 1)
    assert found["summary"]["images"]["unlabelled"] == 6


def test_handwritten_letters_in_one_file_are_named_and_turned(tmp_path: Path) -> None:
    names = ",".join(["0", *(f"0.{number}" for number in range(1, 17))])
    content = table(TRAIN, TRAIN_LABELS, names)
    write(tmp_path, {"A_Z Handwritten Data.csv": content})
    source = str(tmp_path / "A_Z Handwritten Data.csv")
    options: Any = {"format": "csv", "classes": ["A", "B", "C"], "transpose": True}
    found = prepared(tmp_path, source, **options)
    np.testing.assert_array_equal(found["images"][..., 0], TRAIN.transpose(0, 2, 1))
    assert found["summary"]["images_per_class"] == {"A": 4, "B": 4, "C": 4}


@pytest.mark.parametrize("column", [16, "digit"])
def test_the_column_of_labels_can_be_named(tmp_path: Path, column: int | str) -> None:
    rows = np.hstack([TRAIN.reshape(12, 16), TRAIN_LABELS.reshape(12, 1)])
    header = ",".join([*PIXELS, "digit"]) if column == "digit" else ""
    write(tmp_path, {"mine.csv": table(rows, None, header)})
    source = str(tmp_path / "mine.csv")
    found = prepared(tmp_path, source, format="csv", label_column=column)
    np.testing.assert_array_equal(found["images"][..., 0], TRAIN)
    np.testing.assert_array_equal(found["labels"], TRAIN_LABELS)


@pytest.mark.parametrize("column", [0, "id"])
def test_numbers_of_the_rows_that_are_named_as_labels_leave_no_square(
    tmp_path: Path, column: int | str
) -> None:
    rows = np.hstack(
        [np.arange(12)[:, np.newaxis], TRAIN_LABELS[:, np.newaxis], TRAIN.reshape(12, 16)]
    )
    write(tmp_path, {"mine.csv": table(rows, None, ",".join(["id", "label", *PIXELS]))})
    source = str(tmp_path / "mine.csv")
    refused(
        tmp_path, "18 columns, expected a label", source=source, format="csv", label_column=column
    )


def test_where_the_first_or_the_last_column_may_be_labels_params_has_to_say(tmp_path: Path) -> None:
    rows = np.hstack([TRAIN.reshape(12, 16), TRAIN_LABELS.reshape(12, 1)])
    rows[:, 0] = np.arange(12)
    write(tmp_path, {"mine.csv": table(rows, None)})
    refused(
        tmp_path, "cannot be told", "label_column", source=str(tmp_path / "mine.csv"), format="csv"
    )


def test_csv_images_that_are_no_squares_take_their_shape_from_params(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (12, 2, 4, 3), np.uint8)
    content = table(colours, TRAIN_LABELS, ",".join(["label", *map(str, range(24))]))
    write(tmp_path, {"mine.csv": content})
    source = str(tmp_path / "mine.csv")
    found = prepared(tmp_path, source, format="csv", shape=[2, 4, 3])
    np.testing.assert_array_equal(found["images"], colours)
    refused(tmp_path / "again", "25 columns", "`shape: [height", source=source, format="csv")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (sorted(PIXELS), "'pixel15' stands before 'pixel2'"),
        (PIXELS[::-1], "'pixel15' stands before 'pixel14'"),
        (
            sorted(f"{row}x{column}" for row in (9, 10) for column in range(8)),
            "'10x7' stands befor",
        ),
    ],
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_pixels_in_another_order_than_their_numbers_are_refused(
    tmp_path: Path, names: list[str], words: str, part: str
) -> None:
    files = {"train.csv": table(TRAIN, TRAIN_LABELS, ",".join(["label", *PIXELS]))}
    files[f"{part}.csv"] = table(TRAIN, TRAIN_LABELS, ",".join(["label", *names]))
    write(tmp_path, files)
    refused(
        tmp_path,
        f"{part}.csv",
        words,
        source=[str(tmp_path / name) for name in files],
        format="csv",
    )


@pytest.mark.parametrize("turned", [False, True])
def test_pixels_named_by_row_and_column_are_read(tmp_path: Path, turned: bool) -> None:
    names = [f"{row}x{column}" for row in range(8, 12) for column in range(8, 12)]
    names = ["x".join(name.split("x")[::-1]) for name in names] if turned else names
    write(tmp_path, {"mine.csv": table(TRAIN, TRAIN_LABELS, ",".join(["label", *names]))})
    found = prepared(tmp_path, str(tmp_path / "mine.csv"), format="csv", transpose=turned)
    expected = TRAIN.transpose(0, 2, 1) if turned else TRAIN
    np.testing.assert_array_equal(found["images"][..., 0], expected)


def broken(old: str, new: str) -> bytes:
    text = table(np.full((5, 2, 2), 7, np.uint8), np.arange(5)).decode()
    assert old in text
    return text.replace(old, new).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (broken("2,7,7,7,7", "2,7,7,7"), ("line 3", "4 values, expected 5")),
        (broken("2,7,7,7,7", "2,7,7,7,7,7"), ("line 3", "6 values, expected 5")),
        (broken("2,7,7,7,7", "2,7,7,x,7"), ("line 3", "'x' in column 4", "0 to 255")),
        (broken("2,7,7,7,7", "2,7,7,,7"), ("line 3", "'' in column 4")),
        (broken("2,7,7,7,7", "2,7,7,256,7"), ("line 3", "'256' in column 4")),
        (broken("2,7,7,7,7", "2,7,7,-1,7"), ("line 3", "'-1' in column 4")),
        (broken("2,7,7,7,7", "2,7,7,1.5,7"), ("line 3", "'1.5' in column 4")),
        (broken("2,7,7,7,7", "2,7,7,nan,7"), ("line 3", "'nan' in column 4")),
        (broken("2,7,7,7,7", "2,7,7,0x7,7"), ("line 3", "'0x7' in column 4")),
        (broken("2,7,7,7,7", "two,7,7,7,7"), ("line 3", "'two' in column 1", "a label")),
        (broken("2,7,7,7,7", "-1,7,7,7,7"), ("line 3", "'-1' in column 1")),
        (broken("0,7,7,7,7", "0,7,7,x,7"), ("line 1", "'x' in column 4")),
        (broken("2,7,7,7,7", "\n2,7,7,x,7"), ("line 4", "'x'")),
        (broken("2,7,7,7,7", "2,7,7,\xff,7").decode().encode("latin1"), ("line 3", "UTF-8")),
        (broken("0,7,7,7,7", "0,7;7,7,7"), ("separated by one of",)),
        (b"\n\n", ("no line in it",)),
        (b"<html>", ("'<html>'", "separated by one of")),
        (pack(broken("2,7", "2,7"))[:-4], ("cut off or damaged",)),
        (b"label,class,a,b,c,d\n1,1,2,3,4,5\n0,1,2,3,4,5\n", ("label, class", "label_column")),
    ],
)
def test_a_csv_file_with_a_fault_is_refused_by_its_name_and_line(
    tmp_path: Path, content: bytes, words: Sequence[str]
) -> None:
    write(tmp_path, {"train.csv": content})
    refused(tmp_path, "train.csv", *words, source=str(tmp_path / "train.csv"), format="csv")


def test_a_csv_of_labels_beside_photographs_makes_no_dataset_of_arrays(tmp_path: Path) -> None:
    photographs = {f"cat.{number}.jpg": b"\xff\xd8\xff" for number in range(3)}
    files = {"labels.csv": b"file,label\ncat.0.jpg,cat\n", "pixels.csv": table(TRAIN, TRAIN_LABELS)}
    write(tmp_path, {"pets.zip": zip_of(photographs | files)})
    raw = tmp_path / "raw"
    raw.mkdir()
    download("pets", raw, str(tmp_path / "pets.zip"))
    assert sorted(path.name for path in raw.iterdir()) == ["origin.txt", "pets.zip"]


# All three


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_dataset_is_the_same_as_idx_npz_and_csv(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    count, side = data.draw(st.integers(2, 8)), data.draw(st.integers(1, 4))
    images = data.draw(arrays(np.uint8, (count, side, side)))
    labels = data.draw(arrays(np.uint8, count).filter(lambda labels: len(set(labels)) > 1))
    header = ",".join(["label", *(f"p{number}" for number in range(side**2))])
    written = {
        "idx": idx_files(IDX_NAMES[:2], (images, labels)),
        "npz": {"mine.npz": npz(x_train=images, y_train=labels)},
        "csv": {"train.csv": table(images, labels, header)},
    }
    folder = tmp_path_factory.mktemp("same")
    found = {}
    for kind, files in written.items():
        write(folder / kind, files)
        paths = [str(folder / kind / name) for name in files]
        prepared(folder / kind, paths, format=kind)
        outputs = sorted((folder / kind / "data/arrays").iterdir())
        found[kind] = {path.name: path.read_bytes() for path in outputs}
    assert found["idx"] == found["npz"] == found["csv"]
    np.testing.assert_array_equal(
        np.load(folder / "idx/data/arrays/images.npy")[..., 0], images, strict=True
    )


@pytest.mark.parametrize(
    ("files", "right", "wrong"),
    [
        (idx_files(), "idx", "photos"),
        (idx_files(), "idx", "csv"),
        ({"mine.npz": npz(**keras())}, "npz", "idx"),
        ({"mine.csv": table(TRAIN, TRAIN_LABELS)}, "csv", "npz"),
        ({"mine.zip": zip_of({"cat.0.jpg": b"\xff\xd8\xff"})}, "photos", "idx"),
    ],
)
def test_another_format_is_refused_with_the_right_one(
    tmp_path: Path, files: dict[str, bytes], right: str, wrong: str
) -> None:
    write(tmp_path / "mine", files)
    refused(tmp_path, f"`format: {wrong}` does not read it", f"`format: {right}`", format=wrong)


def test_of_copies_in_two_formats_one_is_taken_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"fashion-mnist_train.csv": table(TRAIN, TRAIN_LABELS)}
    write(tmp_path, {"archive.zip": zip_of(idx_files(NAMES["plain"]) | other)})
    check(prepared(tmp_path, str(tmp_path / "archive.zip"), format="idx"))
    assert "passes over" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("classes", "dtype"), [(256, np.uint8), (257, np.uint16), (300, np.uint16)]
)
@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_labels_of_many_classes_are_right_after_the_split(
    tmp_path: Path, classes: int, dtype: type, kind: str
) -> None:
    labels = np.repeat(np.arange(classes), 3) * 10
    images = np.zeros((len(labels), 4, 4), np.uint8)
    images[:, 1, :2] = np.stack([labels // 10 // 256, labels // 10 % 256], 1)
    images[:, 2, 0] = np.arange(len(labels)) % 3  # none is a copy
    content = npz(x_train=images, y_train=labels) if kind == "npz" else table(images, labels)
    write(tmp_path / "mine", {f"mine.{kind}": content})
    options: Any = {"label_column": 0} if kind == "csv" else {}
    found = prepared(tmp_path, str(tmp_path / "mine"), format=kind, **options)
    assert found["labels"].dtype == found["test_labels"].dtype == dtype
    files = {name: tmp_path / name for name in SPLIT_FILES}
    chosen = Options(valid=classes, test=classes, seed=0)
    split(tmp_path / "data/arrays", chosen, files, "datasets.mine.split")
    for part in ("train", "valid", "test"):
        images, labels = (np.load(tmp_path / f"{part}_{name}.npy") for name in ("images", "labels"))
        assert labels.dtype == dtype
        assert sorted(labels.tolist()) == list(range(classes))
        pixels = images[:, 1, :2, 0].astype(int)
        np.testing.assert_array_equal(pixels[:, 0] * 256 + pixels[:, 1], labels)


# Harm


def bomb(start: bytes, size: int) -> bytes:
    """So many zeros behind `start`, compressed a thousand times."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6) as stream:
        stream.write(start)
        for _ in range(size >> 20):
            stream.write(bytes(1 << 20))
    return file.getvalue()


SIZE = 128 << 20
STARTS = {
    "zeros": b"",
    "a small shape": idx(TRAIN)[:16],
    "a shape of terabytes": b"\0\0\x08\x03" + b"\0\xff\xff\xff" * 3,
    "many dimensions": b"\0\0\x08\xff",
}


def peak(run: Callable[[], object]) -> float:
    """The most memory in MiB that is in use while `run` is called, NumPy's included."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def zeros() -> bytes:
    return bomb(b"", SIZE)


@pytest.mark.parametrize("start", STARTS)
def test_a_gzip_bomb_given_as_idx_is_refused_with_memory_flat(
    tmp_path: Path, start: str, zeros: bytes
) -> None:
    files = idx_files() | {IDX_NAMES[0]: pack(STARTS[start]) + zeros}
    write(tmp_path / "mine", files)
    assert peak(lambda: refused(tmp_path, IDX_NAMES[0], "expected", format="idx")) < 60


def test_a_gzip_bomb_given_as_csv_is_refused_with_memory_flat(tmp_path: Path, zeros: bytes) -> None:
    write(tmp_path, {"train.csv.gz": zeros})
    source = str(tmp_path / "train.csv.gz")
    assert peak(lambda: refused(tmp_path, "line 1", source=source, format="csv")) < 60


DAMAGED = {
    IDX_NAMES[0]: ("idx", idx_files()),
    IDX_NAMES[1]: ("idx", idx_files()),
    "archive.zip": ("idx", {"archive.zip": zip_of(idx_files())}),
    "mnist.npz": ("npz", {"mnist.npz": npz(**keras())}),
    "mnist.csv.gz": ("csv", {"mnist.csv.gz": pack(table(TRAIN, TRAIN_LABELS))}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_bytes_give_an_error_and_never_another_dataset(tmp_path: Path, name: str) -> None:
    kind, files = DAMAGED[name]
    rng = random.Random(0)  # noqa: S311
    refusals = 0
    for attempt in range(60):
        content = bytearray(files[name])
        for _ in range(rng.choice((1, 2, 8))):
            place = rng.randrange(len(content))
            if rng.random() < 0.7:
                content[place] = rng.randrange(256)
            elif rng.random() < 0.5:
                del content[place : place + rng.randrange(1, 9)]
            else:
                content[place:place] = rng.randbytes(5)
        folder = tmp_path / str(attempt)
        write(folder / "mine", files | {name: bytes(content)})
        try:
            found = prepared(folder, str(folder / "mine"), format=kind)
        except UserError:
            refusals += 1
        else:
            np.testing.assert_array_equal(found["images"][..., 0], TRAIN)
            np.testing.assert_array_equal(found["labels"], TRAIN_LABELS)
    assert refusals > 30


@pytest.mark.parametrize("shape", [(12, 4, 4), (1 << 20, 1 << 10, 1 << 10)])
def test_a_bomb_in_an_npz_file_is_refused_with_memory_flat(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    file = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(TRAIN) | {"shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(tmp_path / "mine.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x_train.npy", "w") as member:
            member.write(file.getvalue())
            for _ in range(SIZE >> 20):
                member.write(bytes(1 << 20))
        archive.writestr("y_train.npy", npy(TRAIN_LABELS))
    source = str(tmp_path / "mine.npz")
    assert peak(lambda: refused(tmp_path, "x_train", source=source, format="npz")) < 60


def test_large_arrays_are_prepared_with_memory_flat(tmp_path: Path) -> None:
    count = 120_000
    labels = (np.arange(count) % 2).astype(np.uint8)
    content = bomb(b"\0\0\x08\x03" + np.array([count, 32, 32], ">u4").tobytes(), 0)
    rest = pack(bytes(1 << 20)) * (count // 1024) + pack(bytes(count % 1024 << 10))
    write(tmp_path / "mine", {IDX_NAMES[0]: content + rest, IDX_NAMES[1]: idx(labels)})
    (tmp_path / "mine" / IDX_NAMES[1]).write_bytes(pack(idx(labels)))
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    out.mkdir()

    def run() -> None:
        download("mine", raw, str(tmp_path / "mine"))
        checked = params.check("x", {"format": "idx"}, Format).root
        prepare(raw, checked, {name: out / name for name in FILES})

    most = peak(run)
    assert np.load(out / "images.npy", mmap_mode="r").shape == (count, 32, 32, 1)
    assert most < 60, "the images take 117 MiB"


@pytest.mark.skipif(
    not MNIST.is_dir(), reason="the original MNIST files are not beside the project"
)
def test_mnist_is_the_same_from_its_files_from_npz_and_from_csv(tmp_path: Path) -> None:
    images, labels = (read_idx(MNIST / name)[:2000] for name in IDX_NAMES[2:])
    found = {}
    for kind, files in (
        ("npz", {"mnist.npz": npz(x_train=images, y_train=labels)}),
        ("csv", {"mnist_train.csv": table(images, labels)}),
        ("idx", idx_files(IDX_NAMES[:2], (images, labels))),
    ):
        write(tmp_path / kind / "mine", files)
        found[kind] = prepared(tmp_path / kind, str(tmp_path / kind / "mine"), format=kind)
        np.testing.assert_array_equal(found[kind]["images"][..., 0], images, strict=True)
        np.testing.assert_array_equal(found[kind]["labels"], labels, strict=True)
