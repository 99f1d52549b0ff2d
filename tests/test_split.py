"""Splits are fair, reproducible, without overlap, and refuse what cannot be split."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from stages.lib import params
from stages.lib.command import UserError
from stages.split import FILES, UNLABELLED, Options, choose, split

REPOSITORY = Path(__file__).parents[1]
KEY = "datasets.animals.split"
CLASSES = ["cat", "dog", "eel"]


def write_arrays(folder: Path, labels: list[int], test: int = 0, unlabelled: int = 3) -> Path:
    """Writes what `prepare` writes; each image's first pixel is its own number."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.zeros((len(labels), 4, 5, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    classes = CLASSES[: max(labels, default=0) + 1]
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", np.array(labels, np.uint8))
    np.save(folder / "test_images.npy", np.full((test, 4, 5, 3), 255, np.uint8))
    np.save(folder / "test_labels.npy", np.arange(test, dtype=np.uint8) % 2)
    np.save(folder / "unlabelled_images.npy", np.zeros((unlabelled, 4, 5, 3), np.uint8))
    np.save(folder / "unlabelled_names.npy", np.arange(unlabelled).astype(np.str_))
    np.save(folder / "unlabelled_left_out.npy", np.array(["broken"]))
    summary = {
        "origin": "drawn",
        "classes": classes,
        "image_shape": [4, 5, 3],
        "images": {
            "labelled": len(labels),
            "test": test,
            "unlabelled": unlabelled,
            "left_out": 2,
        },
        "images_per_class": {},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def run_split(arrays: Path, folder: Path, **options: Any) -> dict[str, np.ndarray]:
    folder.mkdir(exist_ok=True)
    checked = TypeAdapter(Options).validate_python({"seed": 0, **options})
    split(arrays, checked, {name: folder / name for name in FILES}, KEY)
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}


def labels_of(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts).astype(np.uint8)


@given(
    counts=st.lists(st.integers(20, 120), min_size=2, max_size=3),
    valid=st.floats(0.1, 0.4),
    test=st.none() | st.floats(0.1, 0.4),
    seed=st.integers(0, 2**32 - 1),
)
def test_parts_are_complete_stratified_and_apart(
    counts: list[int], valid: float, test: float | None, seed: int
) -> None:
    labels = labels_of(counts)
    assume(min(counts) * min(valid, test or 1) > 2)
    parts = choose(labels, CLASSES[: len(counts)], valid, test, seed, KEY)

    together = np.concatenate(list(parts.values()))
    assert sorted(together) == list(range(len(labels)))
    asked = {"valid": valid} if test is None else {"valid": valid, "test": test}
    for name, share in asked.items():
        assert len(parts[name]) == round(share * len(labels))
    # Each part is taken from what the parts before it left.
    rest = np.array(counts)
    for name in [part for part in ("test", "valid") if part in asked]:
        found = np.bincount(labels[parts[name]], minlength=len(counts))
        assert (abs(found - rest * len(parts[name]) / rest.sum()) < 1).all()
        rest = rest - found
    assert (np.bincount(labels[parts["train"]]) == rest).all()

    again = choose(labels, CLASSES[: len(counts)], valid, test, seed, KEY)
    for name, indices in parts.items():
        np.testing.assert_array_equal(indices, again[name])


@given(counts=st.lists(st.integers(0, 12), min_size=2, max_size=3), data=st.data())
def test_any_split_of_few_images_works_or_names_the_key(
    counts: list[int], data: st.DataObject
) -> None:
    size = st.integers(1, 12) | st.floats(0.01, 0.99)
    valid, test = data.draw(size), data.draw(st.none() | size)
    labels = labels_of(counts)
    parts, said = {}, KEY
    try:
        parts = choose(labels, CLASSES[: len(counts)], valid, test, 0, KEY)
    except UserError as error:
        said = str(error)
    assert KEY in said
    for indices in parts.values():
        assert set(labels[indices]) == set(range(len(counts)))


@pytest.mark.parametrize(
    ("images", "valid", "test", "sizes"),
    [
        (5000, 0.1, 0.1, (4000, 500, 500)),
        (60000, 0.1666667, None, (50000, 10000)),
        (5000, 1000, 500, (3500, 1000, 500)),
        (25000, 5000, 0.1, (17500, 5000, 2500)),
    ],
)
def test_counts_and_shares_are_of_all_labelled_images(
    images: int, valid: float, test: float | None, sizes: tuple[int, ...]
) -> None:
    labels = labels_of([images // 2, images - images // 2])
    parts = choose(labels, ["cat", "dog"], valid, test, 0, KEY)
    names = ("train", "valid", "test")[: len(sizes)]
    assert tuple(len(parts[name]) for name in names) == sizes


def test_another_seed_gives_another_split() -> None:
    labels = labels_of([50, 50])
    first, second = (choose(labels, ["cat", "dog"], 0.2, 0.2, seed, KEY) for seed in (0, 1))
    assert set(first["test"]) != set(second["test"])


def test_any_stretch_of_a_part_holds_every_class() -> None:
    labels = labels_of([1000, 1000])
    train = choose(labels, ["cat", "dog"], 0.1, 0.1, 0, KEY)["train"]
    for start in range(0, 1600, 64):
        assert 0.2 < labels[train[start : start + 64]].mean() < 0.8


def test_images_keep_their_labels(tmp_path: Path) -> None:
    labels = [0] * 30 + [1] * 50 + [2] * 20
    arrays = write_arrays(tmp_path / "arrays", labels)
    found = run_split(arrays, tmp_path / "splits", valid=0.2, test=10)
    seen = []
    for part in ("train", "valid", "test"):
        images = found[f"{part}_images"]
        numbers = images[:, 0, 0, 0]
        assert images.flags.c_contiguous
        assert images.dtype == found[f"{part}_labels"].dtype == np.uint8
        assert found[f"{part}_labels"].tolist() == [labels[number] for number in numbers]
        seen += numbers.tolist()
    assert sorted(seen) == list(range(100))


def test_a_test_set_of_its_own_stays_what_it_is(tmp_path: Path) -> None:
    arrays = write_arrays(tmp_path / "arrays", [0, 1] * 20, test=8)
    found = run_split(arrays, tmp_path / "splits", valid=0.25)
    assert found["test_labels"].tolist() == [0, 1] * 4
    assert (found["test_images"] == 255).all()
    assert len(found["train_images"]) == 30


def test_unlabelled_images_are_passed_on_unchanged(tmp_path: Path) -> None:
    arrays = write_arrays(tmp_path / "arrays", [0, 1] * 20)
    run_split(arrays, tmp_path / "splits", valid=0.25, test=0.25)
    for name in UNLABELLED:
        assert (tmp_path / "splits" / name).read_bytes() == (arrays / name).read_bytes()


def test_files_are_what_numpy_itself_writes(tmp_path: Path) -> None:
    arrays = write_arrays(tmp_path / "arrays", [0, 1] * 20)
    found = run_split(arrays, tmp_path / "splits", valid=0.25, test=0.25)
    for name, array in found.items():
        np.save(tmp_path / "expected.npy", array)
        written = (tmp_path / "splits" / f"{name}.npy").read_bytes()
        assert written == (tmp_path / "expected.npy").read_bytes()


@pytest.mark.parametrize(
    ("labels", "own_test", "options", "words"),
    [
        ([0, 1] * 20, 4, {"valid": 0.1, "test": 0.1}, (f"{KEY}.test", "4 test images")),
        ([0, 1] * 20, 0, {"valid": 0.1}, (f"{KEY}.test", "missing")),
        ([0, 1] * 20, 0, {"valid": 0.5, "test": 0.5}, (KEY, "20 test and 20 valid", "train")),
        ([0, 1] * 20, 0, {"valid": 300, "test": 0.1}, (KEY, "300 valid", "of 40")),
        ([0, 1] * 20, 0, {"valid": 0.1, "test": 1}, (f"{KEY}.test", "1 of 40", "2 classes")),
        ([0] * 20 + [1] * 2, 0, {"valid": 0.2, "test": 0.2}, (KEY, "'dog'", "2 images")),
        ([0] * 95 + [1] * 5, 0, {"valid": 4, "test": 4}, (KEY, "'dog'", "5 images")),
        ([], 0, {"valid": 0.1, "test": 0.1}, ("images.npy", "no images")),
    ],
)
def test_what_cannot_be_split_is_refused(
    tmp_path: Path,
    labels: list[int],
    own_test: int,
    options: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    arrays = write_arrays(tmp_path / "arrays", labels, test=own_test)
    with pytest.raises(UserError) as error:
        run_split(arrays, tmp_path / "splits", **options)
    for word in words:
        assert word in str(error.value)


def test_labels_of_another_length_are_refused(tmp_path: Path) -> None:
    arrays = write_arrays(tmp_path / "arrays", [0, 1] * 20)
    np.save(arrays / "labels.npy", np.zeros(39, np.uint8))
    with pytest.raises(UserError, match=r"40 images but labels\.npy 39 labels"):
        run_split(arrays, tmp_path / "splits", valid=0.1, test=0.1)


@pytest.mark.parametrize("size", [0, 0.0, 1.0, 1.5, -1, True, "0.1", None])
def test_a_size_is_a_count_or_a_share(size: Any) -> None:
    with pytest.raises(UserError, match=rf"{KEY}\.valid: expected a count .* found"):
        params.check(KEY, {"valid": size, "seed": 0}, Options)


def test_the_command_writes_every_file_twice_the_same(tmp_path: Path) -> None:
    write_arrays(tmp_path / "data/arrays/animals", [0] * 30 + [1] * 20)
    (tmp_path / "params.yaml").write_text(
        "datasets: {animals: {split: {valid: 0.2, test: 0.2, seed: 3}}}"
    )
    folder = tmp_path / "data/splits/animals"

    def contents() -> dict[str, bytes]:
        command = [sys.executable, "-m", "stages.split", "animals"]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first = contents()
    assert set(first) == set(FILES)
    assert json.loads(first["summary.json"]) == {
        "origin": "drawn",
        "classes": ["cat", "dog"],
        "image_shape": [4, 5, 3],
        "images": {
            "train": {"cat": 18, "dog": 12},
            "valid": {"cat": 6, "dog": 4},
            "test": {"cat": 6, "dog": 4},
        },
        "unlabelled": 3,
        "left_out": 2,
    }
    assert contents() == first
