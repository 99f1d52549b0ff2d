"""Training: its outputs, the same bytes on every run, interrupted or not, on one device or two."""

import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import train as stage
from stages.lib import params
from stages.lib.command import UserError
from stages.lib.files import write_json

TOP = Path(__file__).parent.parent
# Everything that draws random numbers or depends on the step, and what sums in parallel.
RECIPE: dict[str, Any] = {
    "dataset": "tiny",
    "network": {
        "layers": [
            {"Rescaling": {"scale": 0.00392156862745098}},
            {"RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2}},
            {"Conv2D": {"filters": 8, "kernel_size": 3, "activation": "relu"}},
            "BatchNormalization",
            "Flatten",
            {"Dropout": {"rate": 0.3}},
        ]
    },
    "training": {
        "optimizer": {"Adam": {"learning_rate": {"CosineDecay": {"initial_learning_rate": 0.003}}}},
        "batch_size": 16,
        "epochs": 3,
    },
}


def options(**values: Any) -> stage.Options:
    return params.check(
        "training", {"optimizer": "Adam", "batch_size": 10, **values}, stage.Options
    )


def make_project(top: Path) -> Path:
    """Makes a folder with a dataset of 50 bright and dark squares, its splits, and params.yaml."""
    folder = top / "data/splits/tiny"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", 50), ("valid", 20), ("test", 20)):
        labels = np.arange(count, dtype=np.uint8) % 2
        images = rng.integers(0, 100, (count, 8, 8, 1)) + 120 * labels[:, None, None, None]
        np.save(folder / f"{part}_images.npy", images.astype(np.uint8))
        np.save(folder / f"{part}_labels.npy", labels)
    write_json(folder / "summary.json", {"classes": ["dark", "bright"], "image_shape": [8, 8, 1]})
    write_params(top)
    return top


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, str]]:
    """Returns the project after a training in the given precision, and what that printed."""

    @functools.cache
    def trained(precision: str) -> tuple[Path, str]:
        project = make_project(tmp_path_factory.mktemp(precision))
        write_params(project, precision=precision)
        return project, run(project, PYTHONHASHSEED="1")

    return trained


Trained = Callable[[str], tuple[Path, str]]


def write_params(
    project: Path,
    own: dict[str, Any] | None = None,
    layers: list[Any] | None = None,
    **common: Any,
) -> None:
    training = {"seed": 0, "device": "cpu", "precision": "float32", "threads": 2} | common
    model = RECIPE | {"training": RECIPE["training"] | (own or {})}
    model |= {"network": {"layers": layers}} if layers else {}
    (project / "params.yaml").write_text(
        yaml.safe_dump({"training": training, "models": {"m": model}})
    )


def run(project: Path, code: str = "from stages.train import main; main('m')", **env: str) -> str:
    """Runs `code` as a process of its own and returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(TOP)} | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def digests(project: Path) -> dict[str, str]:
    paths = [
        project / f"data/{name}" for name in ("models/m.keras", "history/m.csv", "snapshots/m.npy")
    ]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_keras_comes_without_the_libraries_that_only_other_stages_use() -> None:
    code = (
        "import sys, stages.train\n"
        "assert not {'matplotlib', 'sklearn'} & sys.modules.keys()\n"
        "import matplotlib, sklearn"
    )
    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(TOP)}, check=True
    )


def test_every_epoch_sees_each_image_once_in_an_order_of_its_own() -> None:
    epochs = [
        np.concatenate([stage._batch(step, 25, 10, seed=0) for step in range(first, first + 3)])
        for first in (0, 3)
    ]
    for epoch in epochs:
        assert sorted(epoch) == list(range(25))
    assert list(epochs[0]) != list(epochs[1])


def test_another_seed_gives_another_order() -> None:
    assert list(stage._batch(0, 25, 10, seed=0)) != list(stage._batch(0, 25, 10, seed=1))


def test_a_history_by_epochs_has_a_row_an_epoch() -> None:
    assert stage._periods(options(epochs=3), steps_per_epoch=7) == [(0, 7), (7, 14), (14, 21)]


def test_a_history_by_steps_has_a_row_after_the_first_step_and_every_so_many_more() -> None:
    periods = stage._periods(options(steps=6001, every=500), steps_per_epoch=7)
    assert periods[:2] == [(0, 1), (1, 501)]
    assert [end - 1 for _, end in periods] == list(range(0, 6001, 500))


def test_a_history_by_steps_ends_with_the_last_step() -> None:
    assert stage._periods(options(steps=7, every=3), 2) == [(0, 1), (1, 4), (4, 7)]
    assert stage._periods(options(steps=6, every=3), 2) == [(0, 1), (1, 4), (4, 6)]
    assert stage._periods(options(steps=1, every=3), 2) == [(0, 1)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "training needs either `epochs` or `steps`"),
        ({"epochs": 1, "steps": 1, "every": 1}, "training needs either `epochs` or `steps`"),
        ({"steps": 10}, "`steps` needs `every`"),
        ({"epochs": 0}, "training.epochs: expected greater than 0"),
        ({"epochs": 1, "batch_size": "all"}, "training.batch_size: expected a valid integer"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_an_error(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        options(**values)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_two_runs_give_the_same_bytes_whatever_the_machine_offers(
    project: Path, uninterrupted: Trained, precision: str
) -> None:
    first, printed = uninterrupted(precision)
    assert printed.startswith("device: ")
    assert printed.splitlines()[0].endswith(f"2 threads; precision: {precision}")
    write_params(project, precision=precision)
    one_core = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    run(
        project,
        one_core + "from stages.train import main; main('m')",
        PYTHONHASHSEED="2",
        TZ="Asia/Tokyo",
        LC_ALL="C",
        TF_ENABLE_ONEDNN_OPTS="0",
        KERAS_BACKEND="jax",
    )
    assert digests(project) == digests(first)
    assert not (project / "data/checkpoints/m").exists()


def test_a_models_own_seed_and_precision_replace_the_common_ones(
    project: Path, uninterrupted: Trained
) -> None:
    own = {"seed": 0, "precision": "float32"}
    write_params(project, own, seed=5, precision="mixed_bfloat16")
    assert "precision: float32" in run(project)
    assert digests(project) == digests(uninterrupted("float32")[0])


def test_the_outputs_are_a_bare_model_a_history_and_what_it_was_made_with(
    uninterrupted: Trained,
) -> None:
    project, _ = uninterrupted("float32")
    history = pd.read_csv(project / "data/history/m.csv")
    assert list(history["epoch"]) == [1, 2, 3]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} < set(history.columns)
    timing = json.loads((project / "data/timing/m.json").read_text())
    assert {"python", "tensorflow", "keras", "numpy", "device"} < set(timing["environment"])
    code = """
import keras, numpy as np
model = keras.models.load_model("data/models/m.keras")
assert getattr(model, "optimizer", None) is None
images = np.load("data/splits/tiny/valid_images.npy")
assert images.dtype == np.uint8
probabilities = model.predict(images, verbose=0)
assert probabilities.dtype == np.float32 and np.allclose(probabilities.sum(1), 1, atol=1e-6)
print((probabilities.argmax(1) == np.load("data/splits/tiny/valid_labels.npy")).mean())
"""
    assert float(run(project, code, PYTHONPATH="")) == history["val_accuracy"].iloc[-1]


def test_the_weights_of_hidden_units_are_kept_after_each_row_of_the_history(
    project: Path, uninterrupted: Trained
) -> None:
    convolutional = np.load(uninterrupted("float32")[0] / "data/snapshots/m.npy")
    assert convolutional.shape == (3, 0, 8, 8, 1)
    layers = ["Flatten", {"Dense": {"units": 12, "activation": "relu"}}]
    own = {"batch_size": 10, "epochs": None, "steps": 5, "every": 2}
    write_params(project, own, layers)
    run(project)
    snapshots = np.load(project / "data/snapshots/m.npy")
    assert snapshots.shape == (3, stage.UNITS, 8, 8, 1)
    code = """
import keras, numpy as np
kernel = keras.models.load_model("data/models/m.keras").layers[2].kernel.numpy()
snapshots = np.load("data/snapshots/m.npy")
assert (snapshots[2].reshape(10, 64) == kernel.T[:10]).all()
assert len({snapshot.tobytes() for snapshot in snapshots}) == 3
"""
    run(project, code)


def test_tensorflow_tunes_nothing_beside_a_training_or_epochs_would_end_late(
    project: Path,
) -> None:
    code = """
import numpy as np
from pathlib import Path
from stages.lib.splits import read_part
from stages.train import _dataset
batches = _dataset(read_part(Path("data/splits/tiny"), "train"), [np.arange(5)] * 3)
print(batches.options().autotune.enabled)
"""
    assert run(project, code).split()[-1] == "False"


# Ends the process right after the state of epoch 2 is written, or halfway through writing it.
KILLED = """
import os, signal
import numpy as np
from stages import train
from stages.networks.checkpoint import Checkpoint
save = Checkpoint.save
def save_and_die(self, model, progress):
    save(self, model, progress)
    if len(progress.history) == 2:
        self.wait()
        {before}
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoint.save = save_and_die
train.main("m")
"""


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_training_that_was_killed_goes_on_to_the_same_bytes(
    project: Path, uninterrupted: Trained, precision: str
) -> None:
    write_params(project, precision=precision)
    with pytest.raises(AssertionError):
        run(project, KILLED.format(before="pass"))
    assert "going on after row 2 of the history" in run(project)
    assert digests(project) == digests(uninterrupted(precision)[0])


def test_a_training_in_steps_that_was_killed_goes_on_to_the_same_bytes_and_snapshots(
    tmp_path: Path,
) -> None:
    whole, killed = (make_project(tmp_path / name) for name in ("whole", "killed"))
    layers = ["Flatten", {"Dense": {"units": 12}}, {"Dropout": {"rate": 0.3}}]
    for project in (whole, killed):
        write_params(project, {"epochs": None, "steps": 11, "every": 3}, layers)
    run(whole)
    with pytest.raises(AssertionError):
        run(killed, KILLED.format(before="pass"))
    assert "going on after row 2 of the history" in run(killed)
    assert digests(killed) == digests(whole)
    assert np.load(killed / "data/snapshots/m.npy").shape == (5, stage.UNITS, 8, 8, 1)


def test_a_training_that_ran_out_of_disk_goes_on_when_there_is_room(
    project: Path, uninterrupted: Trained
) -> None:
    code = """
import errno
from stages import train
from stages.networks import checkpoint
savez, saved = checkpoint.np.savez, []
def full(file, **arrays):
    if saved:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")
    saved.append(savez(file, **arrays))
checkpoint.np.savez = full
train.main("m")
"""
    with pytest.raises(AssertionError, match="No space left"):
        run(project, code)
    assert "going on after row 1 of the history" in run(project)
    assert digests(project) == digests(uninterrupted("float32")[0])


@pytest.mark.parametrize("other", ["data", "code", "version"])
def test_a_state_knows_its_data_its_code_and_its_versions(
    project: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    folder, environment = project / "data/splits/tiny", {"keras": "3"}
    before = stage.identity(folder, {"seed": 0}, environment)
    assert stage.identity(folder, {"seed": 0}, environment) == before
    if other == "data":
        labels = folder / "train_labels.npy"
        content = labels.read_bytes()
        labels.write_bytes(content[:-1] + bytes([1 - content[-1]]))
    elif other == "code":
        changed = project / "network.py"
        changed.write_text("# another")
        monkeypatch.setattr(sys.modules["stages.networks.network"], "__file__", str(changed))
    else:
        environment = {"keras": "4"}
    assert stage.identity(folder, {"seed": 0}, environment) != before


def test_a_training_that_diverges_says_so_and_leaves_no_model(project: Path) -> None:
    write_params(project, {"optimizer": {"SGD": {"learning_rate": 1e30}}})
    code = "import sys; from stages.train import main, run; sys.argv[1:] = 'm'; run(main)"
    with pytest.raises(AssertionError, match=r"error: the training diverged: epoch 1, .* nan"):
        run(project, code)
    assert not list((project / "data").glob("*/m.*"))


def test_a_state_that_was_cut_off_is_not_believed(project: Path, uninterrupted: Trained) -> None:
    with pytest.raises(AssertionError):
        run(project, KILLED.format(before="os.truncate(self._path, 3000)"))
    assert "the saved state is incomplete: set aside" in run(project)
    assert digests(project) == digests(uninterrupted("float32")[0])


def test_a_state_of_another_seed_is_not_resumed_and_gives_another_model(
    project: Path, uninterrupted: Trained
) -> None:
    with pytest.raises(AssertionError):
        run(project, KILLED.format(before="pass"))
    write_params(project, seed=1)
    assert "belongs to other params, data, code or versions: set aside" in run(project)
    resumed = digests(project)
    assert resumed["m.keras"] != digests(uninterrupted("float32")[0])["m.keras"]
    run(project)
    assert digests(project) == resumed


def test_a_gpu_that_is_not_there_is_an_error_before_any_data_is_read(tmp_path: Path) -> None:
    write_params(tmp_path, device="gpu")
    done = subprocess.run(
        [sys.executable, "-m", "stages.train", "m"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(TOP), "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: device is 'gpu', but TensorFlow sees no GPU")


def test_two_devices_share_each_batch_and_learn_what_one_learns(project: Path) -> None:
    code = """
import numpy as np
from pathlib import Path
from stages import train
from stages.lib import params
from stages.lib.command import UserError
from stages.networks.checkpoint import Checkpoint
from stages.networks.network import Network, build_network, build_optimizer
from stages.networks.runtime import keras, strategy_over, tf
from stages.lib.splits import read_part
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
folder = Path("data/splits/tiny")
network = Network(layers=["Flatten", {"Dropout": {"rate": DROPOUT}}])
options = train.Options(optimizer={"SGD": {"learning_rate": 1e-5}}, batch_size=16, epochs=2)
weights = []
for devices in (["CPU:0"], ["CPU:0", "CPU:1"]):
    keras.utils.set_random_seed(0)
    strategy = strategy_over(devices)
    assert strategy.num_replicas_in_sync == len(devices)
    with strategy.scope():
        model = build_network(network, (8, 8, 1), 2, "n")
        optimizer = build_optimizer(options.optimizer, 8, "o")
        train.compile_model(model, optimizer)
    state = Checkpoint(Path("state"), {})
    with state.locked():
        progress = train.train(
            model, read_part(folder, "train"), read_part(folder, "valid"), options, 0, state
        )
    weights.append(model.get_weights()[0])
assert len(progress.history) == 2
print(abs(weights[0] - weights[1]).max(), abs(weights[0]).max())
"""
    difference, largest = map(float, run(project, code.replace("DROPOUT", "0.0")).split()[-2:])
    assert difference < 1e-5 < largest
    run(project, code.replace("DROPOUT", "0.5"))
