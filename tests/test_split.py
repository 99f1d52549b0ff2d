"""Splits are fair, reproducible, without overlap, and refuse what cannot be split."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from stages.lib import params
from stages.lib.command import UserError
from stages.sources import partition
from stages.split import FILES, UNLABELLED, Options, split

REPOSITORY = Path(__file__).parents[1]
KEY = "datasets.animals.split"
CLASSES = ["cat", "dog", "eel"]


def write_arrays(
    folder: Path,
    labels: list[int],
    test: int = 0,
    unlabelled: int = 3,
    valid: int = 0,
    groups: list[int] | None = None,
) -> Path:
    """Writes what `prepare` writes; each image's first pixel is its own number.

    The images of the parts that it brings itself are all 255 (test) and all 254 (valid).
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = np.zeros((len(labels), 4, 5, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    classes = CLASSES[: max(labels, default=0) + 1]
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", np.array(labels, np.uint8))
    np.save(folder / "groups.npy", np.array(groups or range(len(labels)), np.int32))
    np.save(folder / "valid_images.npy", np.full((valid, 4, 5, 3), 254, np.uint8))
    np.save(folder / "valid_labels.npy", np.arange(valid, dtype=np.uint8) % 2)
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


def run_split(arrays: Path, folder: Path, given: str = "", **options: Any) -> dict[str, np.ndarray]:
    folder.mkdir(exist_ok=True)
    checked = TypeAdapter(Options).validate_python(given or {"seed": 0, **options})
    split(arrays, checked, {name: folder / name for name in FILES}, KEY)
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}


def choose(
    labels: np.ndarray,
    classes: list[str],
    valid: float,
    test: float | None,
    seed: int,
    key: str,
    groups: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    sizes = {"valid": valid} if test is None else {"test": test, "valid": valid}
    own = np.arange(len(labels)) if groups is None else groups
    return partition.choose(labels, own.astype(np.int32), classes, sizes, seed, key)


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


def test_given_parts_stay_what_they_are_and_training_images_are_shuffled(tmp_path: Path) -> None:
    arrays = write_arrays(tmp_path / "arrays", [0] * 30 + [1] * 30, test=8, valid=6)
    found = run_split(arrays, tmp_path / "splits", given="given")
    assert found["test_labels"].tolist() == [0, 1] * 4
    assert found["valid_labels"].tolist() == [0, 1] * 3
    assert (found["test_images"] == 255).all()
    assert (found["valid_images"] == 254).all()
    numbers = found["train_images"][:, 0, 0, 0].tolist()
    assert sorted(numbers) == list(range(60))
    assert 5 < found["train_labels"][:30].sum() < 25, "any stretch is a fair sample"
    again = run_split(arrays, tmp_path / "again", seed=0)
    np.testing.assert_array_equal(again["train_images"], found["train_images"])
    other = run_split(arrays, tmp_path / "other", seed=1)
    assert other["train_images"][:, 0, 0, 0].tolist() != numbers


def test_a_size_is_needed_only_for_a_part_that_is_not_given(tmp_path: Path) -> None:
    arrays = write_arrays(tmp_path / "arrays", [0] * 30 + [1] * 30, valid=6)
    found = run_split(arrays, tmp_path / "splits", test=0.1)
    assert {part: len(found[f"{part}_labels"]) for part in ("train", "valid", "test")} == {
        "train": 54,
        "valid": 6,
        "test": 6,
    }
    assert (found["valid_images"] == 254).all()
    with pytest.raises(UserError, match=rf"{KEY}\.valid: the dataset brings 6 valid images itself"):
        run_split(arrays, tmp_path / "splits", test=0.1, valid=0.1)


def test_a_class_without_a_training_image_is_refused(tmp_path: Path) -> None:
    arrays = write_arrays(tmp_path / "arrays", [0, 2] * 10, test=4, valid=4)
    with pytest.raises(UserError, match="the class 'dog' has 0 images"):
        run_split(arrays, tmp_path / "splits", given="given")


@pytest.mark.parametrize("part", ["", "valid_", "test_"])
def test_a_label_that_is_no_class_is_refused(tmp_path: Path, part: str) -> None:
    arrays = write_arrays(tmp_path / "arrays", [0, 1] * 20, test=4, valid=4)
    labels = np.load(arrays / f"{part}labels.npy").astype(np.uint16)
    labels[3] = 300
    np.save(arrays / f"{part}labels.npy", labels)
    words = rf"/{part}labels\.npy holds the label 300, but the dataset has 2 classes"
    with pytest.raises(UserError, match=words):
        run_split(arrays, tmp_path / "splits", given="given")


def test_more_than_256_classes_keep_their_labels(tmp_path: Path) -> None:
    arrays = write_arrays(tmp_path / "arrays", [0, 1] * 450)
    labels = np.repeat(np.arange(300), 3).astype(np.uint16)
    np.save(arrays / "labels.npy", labels)
    summary = json.loads((arrays / "summary.json").read_text())
    summary["classes"] = [f"kind {at}" for at in range(300)]
    (arrays / "summary.json").write_text(json.dumps(summary))
    found = run_split(arrays, tmp_path / "splits", valid=300, test=300)
    for part in ("train", "valid", "test"):
        assert found[f"{part}_labels"].dtype == np.uint16
        assert sorted(found[f"{part}_labels"]) == list(range(300))


@pytest.mark.parametrize("word", ["givn", "0.1"])
def test_a_word_that_is_not_given_is_refused(word: str) -> None:
    with pytest.raises(UserError, match=rf"{KEY}: expected the word `given`, or .* found '{word}'"):
        params.check(KEY, word, Options)


GROUPED = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 6)),  # the class and the size of each group
    min_size=12,
    max_size=60,
)


def of_groups(found: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels and the groups of images, in an order that mixes both."""
    labels = np.concatenate([[label] * size for label, size in found]).astype(np.uint8)
    groups = np.concatenate([[at] * size for at, (_, size) in enumerate(found)])
    order = np.random.default_rng(0).permutation(len(labels))
    return labels[order], groups[order]


@given(found=GROUPED, valid=st.floats(0.1, 0.3), test=st.floats(0.1, 0.3), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_images_of_one_group_are_in_one_part_and_classes_in_proportion(
    found: list[tuple[int, int]], valid: float, test: float, seed: int
) -> None:
    labels, groups = of_groups([(0, 1), (1, 1), *found])
    largest = int(np.bincount(groups).max())
    try:
        parts = choose(labels, ["cat", "dog"], valid, test, seed, KEY, groups)
    except UserError as error:
        assume("missing from a part" not in str(error) and "expected one" not in str(error))
        raise
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    seen = [set(groups[indices]) for indices in parts.values()]
    assert sum(map(len, seen)) == len(set().union(*seen))
    rest = np.bincount(labels)
    for name, share in (("test", test), ("valid", valid)):
        wanted = round(share * len(labels))
        assert abs(len(parts[name]) - wanted) < largest
        members = np.bincount(labels[parts[name]], minlength=2)
        assert (abs(members - rest * wanted / rest.sum()) < largest + 1).all()
        rest = rest - members
    again = choose(labels, ["cat", "dog"], valid, test, seed, KEY, groups)
    for name, indices in parts.items():
        np.testing.assert_array_equal(indices, again[name])


@given(pairs=st.integers(1, 15), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_sizes_are_exact_where_enough_images_have_no_copy(pairs: int, seed: int) -> None:
    labels, groups = of_groups(
        [(at % 2, 2 + at % 3) for at in range(pairs)] + [(0, 1), (1, 1)] * 40
    )
    parts = choose(labels, ["cat", "dog"], 15, 11, seed, KEY, groups)
    assert (len(parts["valid"]), len(parts["test"])) == (15, 11)


def test_where_groups_have_no_exact_size_the_nearest_is_taken() -> None:
    labels, groups = of_groups([(at % 2, 3) for at in range(20)])
    for wanted, nearest in ((11, 12), (13, 12), (14, 15), (16, 15)):
        parts = choose(labels, ["cat", "dog"], 12, wanted, 0, KEY, groups)
        assert len(parts["test"]) == nearest, wanted


def test_a_group_with_two_classes_stays_together_too() -> None:
    labels = np.array([0, 1] * 30, np.uint8)
    groups = np.arange(60) // 2
    parts = choose(labels, ["cat", "dog"], 10, 10, 0, KEY, groups)
    for indices in parts.values():
        assert set(indices // 2 * 2) | set(indices // 2 * 2 + 1) == set(indices)
    assert [len(indices) for indices in parts.values()] == [40, 10, 10]


def test_copies_are_as_likely_in_each_part_as_other_images() -> None:
    labels, groups = of_groups([(at % 2, 1 + 2 * (at % 4 == 0)) for at in range(400)])
    copied = np.bincount(groups)[groups] > 1
    shares = [
        copied[choose(labels, ["cat", "dog"], 0.1, 0.1, seed, KEY, groups)["test"]].mean()
        for seed in range(20)
    ]
    assert abs(np.mean(shares) - copied.mean()) < 0.05


def test_a_class_of_copies_of_one_image_cannot_be_split_and_the_message_says_so() -> None:
    labels, groups = of_groups([(0, 1)] * 30 + [(1, 10)])
    with pytest.raises(UserError, match=r"'dog' \(10 images, 1 without copies\) is missing"):
        choose(labels, ["cat", "dog"], 5, 5, 0, KEY, groups)


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
        ([0, 1] * 20, 4, {}, (f"{KEY}.valid", "missing", "{valid: 0.1, seed: 0}")),
        ([0, 1] * 20, 0, {"given": "given"}, ("missing", "{valid: 0.1, test: 0.1, seed: 0}")),
        ([0, 1] * 20, 4, {"given": "given"}, (f"{KEY}.valid", "missing", "{valid: 0.1, seed")),
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


@pytest.mark.parametrize("size", [0, 0.0, 1.0, 1.5, -1, True, "0.1"])
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
