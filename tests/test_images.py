"""Images on the disk: the same pixels and the same training as in memory, without the memory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib import images as reading
from stages.lib import params
from stages.lib.images import Images, read_images
from stages.lib.splits import Part
from stages.networks import feed
from stages.networks.checkpoint import Checkpoint
from stages.networks.network import Network, build_network
from stages.networks.recipe import check_recipes
from stages.networks.runtime import keras
from stages.networks.training import Training, train
from stages.networks.views import predict

PROGRAMS = Path(__file__).with_name("programs")
SHAPE, CLASSES = (5, 4, 3), ["cat", "dog"]
PIXELS = np.random.default_rng(0).integers(0, 256, (75, *SHAPE), np.uint8)
LABELS = (np.arange(75) % 2).astype(np.uint8)
RECIPE = {
    "optimizer": {"SGD": {"learning_rate": 0.001}},
    "batch_size": 16,
    "epochs": 2,
    "augment": ["RandomFlip", {"MixUp": {"alpha": 0.4}}],
    "class_weight": "balanced",
}


@pytest.fixture(params=["mapped", "row by row"])
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> Images:
    """`PIXELS` in a file, read in each of the two ways."""
    if request.param == "row by row":
        monkeypatch.setattr(reading, "MAPPED", 0)
    np.save(tmp_path / "images.npy", PIXELS)
    return read_images(tmp_path / "images.npy")


def test_a_file_gives_the_pixels_of_the_array_in_any_order(stored: Images) -> None:
    assert stored.shape == PIXELS.shape
    for rows in (slice(3, 9), slice(70, 90), np.array([74, 0, 31, 31]), np.array([], int)):
        found = stored[rows]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, PIXELS[rows])


def test_a_choice_of_a_choice_gives_the_pixels_of_both(stored: Images) -> None:
    chosen = stored.choose(np.arange(5, 70)).choose(np.array([2, 60, 0]))
    assert len(chosen) == 3
    np.testing.assert_array_equal(chosen[:], PIXELS[[7, 65, 5]])
    np.testing.assert_array_equal(chosen[np.array([1])], PIXELS[[65]])


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("size", [1, 150, 1 << 21], ids=["rows", "parts of batches", "all"])
def test_batches_are_the_same_however_many_bytes_are_read_at_a_time(
    stored: Images, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(feed, "READ", size)
    indexes = [feed.draw_batch(step, 33, 8, seed=0) for step in range(6)]
    assert [len(batch) for batch in indexes] == [8, 8, 8, 9, 8, 8]
    dataset = feed.batches(Part(stored, LABELS), indexes)
    assert dataset.cardinality() == 6
    for (images, labels), rows in zip(dataset, indexes, strict=True):
        np.testing.assert_array_equal(images, PIXELS[rows])
        np.testing.assert_array_equal(labels, LABELS[rows])


@pytest.mark.usefixtures("tensorflow")
def test_a_training_from_a_file_has_the_bytes_of_one_from_memory(
    tmp_path: Path, stored: Images
) -> None:
    def trained(images: Images, folder: Path) -> Any:
        keras.utils.set_random_seed(0)
        keras.backend.clear_session()
        layers = ["Normalization", {"Conv2D": {"filters": 2, "kernel_size": 3}}, "Flatten"]
        network = params.check("network", {"layers": layers}, Network)
        model = build_network(network, SHAPE, 2, "network", images)
        part, phases = Part(images, LABELS), check_recipes("training", RECIPE)
        checkpoint = Checkpoint(folder, {})
        with checkpoint.locked():
            progress = train(model, Training(part, part, phases, 0, CLASSES, "t"), checkpoint)
        weights = [value.tobytes() for value in model.get_weights()]
        return weights, progress.history, predict(model, images, 7).tobytes()

    assert trained(stored, tmp_path / "file") == trained(Images(PIXELS), tmp_path / "memory")


@pytest.mark.long
def test_a_million_images_of_7_gigabytes_are_learned_from_and_predicted_in_two_gigabytes(
    tmp_path: Path,
) -> None:
    for part, count in (("train", 1_000_000), ("valid", 50_000)):
        with (tmp_path / f"{part}_images.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, 50, 50, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + count * 7500)  # holes: they take no disk
        np.save(tmp_path / f"{part}_labels.npy", (np.arange(count) % 2).astype(np.uint8))
    command = [sys.executable, str(PROGRAMS / "learn_from_a_large_file.py"), str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(PROGRAMS.parent.parent)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 2_000_000_000
