"""Training: its outputs, the same bytes on every run, interrupted or not, on one device or two."""

import functools
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from stages.lib import params
from stages.lib.command import UserError
from stages.lib.files import write_json
from stages.lib.splits import read_part
from stages.networks.checkpoint import Checkpoint
from stages.networks.entry import fingerprint
from stages.networks.feed import batches, draw_batch
from stages.networks.recipe import Recipe
from stages.networks.runtime import Processor, Runtime, explain, keras, tf
from stages.networks.weights import SNAPSHOT_UNITS, first_weights

TOP = Path(__file__).parent.parent
PROGRAMS = Path(__file__).with_name("programs")
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


def recipe(**values: Any) -> Recipe:
    return params.check("training", {"optimizer": "Adam", "batch_size": 10, **values}, Recipe)


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
        return project, train(project, PYTHONHASHSEED="1")

    return trained


Trained = Callable[[str], tuple[Path, str]]


def write_params(
    project: Path,
    own: dict[str, Any] | None = None,
    layers: list[Any] | None = None,
    **common: Any,
) -> None:
    training = {"seed": 0, "device": "cpu", "precision": "float32", "threads": 2} | common
    precision = (own or {}).get("precision", training["precision"])
    training = {"processor": "any" if precision == "float32" else "this"} | training
    model = RECIPE | {"training": RECIPE["training"] | (own or {})}
    model |= {"network": {"layers": layers}} if layers else {}
    (project / "params.yaml").write_text(
        yaml.safe_dump({"training": training, "models": {"m": model}})
    )


def run(project: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in `project`, as a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(TOP)} | env,
        capture_output=True,
        text=True,
        check=False,
    )


def run_program(project: Path, name: str, *arguments: str, **env: str) -> str:
    """Runs one of tests/programs to a good end and returns what it printed."""
    done = run(project, str(PROGRAMS / name), *arguments, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def train(project: Path, **env: str) -> str:
    """Trains the project's model to a good end and returns what the stage printed."""
    done = run(project, "-m", "stages.train", "m", **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def train_until_killed(project: Path, *arguments: str) -> None:
    done = run(project, str(PROGRAMS / "train_killed.py"), *arguments)
    assert done.returncode == -signal.SIGKILL, done.stderr


def digests(project: Path) -> dict[str, str]:
    paths = [
        project / f"data/{name}" for name in ("models/m.keras", "history/m.csv", "snapshots/m.npy")
    ]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.slow
def test_keras_comes_without_the_libraries_that_only_other_stages_use(tmp_path: Path) -> None:
    run_program(tmp_path, "import_train.py")


def test_every_epoch_sees_each_image_once_in_an_order_of_its_own() -> None:
    epochs = [
        np.concatenate([draw_batch(step, 25, 10, seed=0) for step in range(first, first + 3)])
        for first in (0, 3)
    ]
    for epoch in epochs:
        assert sorted(epoch) == list(range(25))
    assert list(epochs[0]) != list(epochs[1])


def test_another_seed_gives_another_order() -> None:
    assert list(draw_batch(0, 25, 10, seed=0)) != list(draw_batch(0, 25, 10, seed=1))


def test_a_history_by_epochs_has_a_row_an_epoch() -> None:
    three_epochs = recipe(epochs=3)
    assert three_epochs.row_bounds(images=65) == [(0, 7), (7, 14), (14, 21)]
    assert three_epochs.total_steps(images=65) == 21


def test_a_history_by_steps_has_a_row_after_the_first_step_and_every_so_many_more() -> None:
    bounds = recipe(steps=6001, every=500).row_bounds(images=65)
    assert bounds[:2] == [(0, 1), (1, 501)]
    assert [end - 1 for _, end in bounds] == list(range(0, 6001, 500))


def test_a_history_by_steps_ends_with_the_last_step() -> None:
    assert recipe(steps=7, every=3).row_bounds(images=20) == [(0, 1), (1, 4), (4, 7)]
    assert recipe(steps=6, every=3).row_bounds(images=20) == [(0, 1), (1, 4), (4, 6)]
    assert recipe(steps=1, every=3).row_bounds(images=20) == [(0, 1)]
    assert recipe(steps=7, every=3).total_steps(images=20) == 7


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "training needs either `epochs` or `steps`"),
        ({"epochs": 1, "steps": 1, "every": 1}, "training needs either `epochs` or `steps`"),
        ({"steps": 10}, "`steps` needs `every`"),
        ({"epochs": 0}, "training.epochs: expected greater than 0"),
        ({"epochs": 1, "batch_size": "all"}, "training.batch_size: expected a valid integer"),
        ({"epochs": 1, "seed": 2**32}, "training.seed: expected less than 4294967296"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_an_error(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        recipe(**values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.long)]
)
def test_two_runs_give_the_same_bytes_whatever_the_machine_offers(
    project: Path, uninterrupted: Trained, precision: str
) -> None:
    first, printed = uninterrupted(precision)
    assert printed.startswith("device: ")
    processor = "any (AVX2, the same" if precision == "float32" else "this ("
    assert f", 2 threads; processor: {processor}" in printed.splitlines()[0]
    assert printed.splitlines()[0].endswith(f"; precision: {precision}")
    write_params(project, precision=precision)
    run_program(
        project,
        "on_one_core.py",
        "-m",
        "stages.train",
        "m",
        PYTHONHASHSEED="2",
        TZ="Asia/Tokyo",
        LC_ALL="C",
        TF_ENABLE_ONEDNN_OPTS="0",
        TF_XLA_FLAGS="--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
        KERAS_BACKEND="jax",
    )
    assert digests(project) == digests(first)
    assert not (project / "data/checkpoints/m").exists()


@pytest.mark.slow
def test_what_stands_in_keras_json_counts_for_nothing(tmp_path: Path) -> None:
    other = {"floatx": "float16", "epsilon": 0.001, "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(other))
    code = (
        "from stages.networks.runtime import keras, set_up\n"
        "set_up('cpu', 2, 'any')\n"
        "config = keras.config\n"
        "print(config.floatx(), config.epsilon(), config.image_data_format())"
    )
    done = run(tmp_path, "-c", code, KERAS_HOME=str(tmp_path))
    assert done.stdout.splitlines()[-1] == "float32 1e-07 channels_last"


@pytest.mark.slow
def test_half_precision_needs_all_that_the_processor_has(project: Path) -> None:
    write_params(project, precision="mixed_bfloat16", processor="any")
    done = run(project, "-m", "stages.train", "m")
    assert done.returncode == 1
    assert done.stderr.startswith("error: precision is 'mixed_bfloat16', which each kind of proces")
    assert "set training.processor to this" in done.stderr


@pytest.mark.slow
def test_a_models_own_seed_and_precision_replace_the_common_ones(
    project: Path, uninterrupted: Trained
) -> None:
    own = {"seed": 0, "precision": "float32"}
    write_params(project, own, seed=5, precision="mixed_bfloat16")
    assert "precision: float32" in train(project)
    assert digests(project) == digests(uninterrupted("float32")[0])


@pytest.mark.slow
def test_the_outputs_are_a_bare_model_a_history_and_what_it_was_made_with(
    uninterrupted: Trained,
) -> None:
    project, _ = uninterrupted("float32")
    history = pd.read_csv(project / "data/history/m.csv")
    assert list(history["epoch"]) == [1, 2, 3]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} < set(history.columns)
    timing = json.loads((project / "data/timing/m.json").read_text())
    assert {"python", "tensorflow", "keras", "numpy", "device"} < set(timing["environment"])
    accuracy = run_program(project, "measure_with_plain_keras.py", PYTHONPATH="")
    assert float(accuracy) == history["val_accuracy"].iloc[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("tensorflow")
def test_the_weights_of_hidden_units_are_kept_after_each_row_of_the_history(
    project: Path, uninterrupted: Trained
) -> None:
    convolutional = np.load(uninterrupted("float32")[0] / "data/snapshots/m.npy")
    assert convolutional.shape == (3, 0, 8, 8, 1)
    layers = ["Flatten", {"Dense": {"units": 12, "activation": "relu"}}]
    own = {"batch_size": 10, "epochs": None, "steps": 5, "every": 2}
    write_params(project, own, layers)
    train(project)
    snapshots = np.load(project / "data/snapshots/m.npy")
    assert snapshots.shape == (3, SNAPSHOT_UNITS, 8, 8, 1)
    all_units = first_weights(keras.models.load_model(project / "data/models/m.keras"))
    assert all_units is not None
    np.testing.assert_array_equal(snapshots[-1], all_units[:SNAPSHOT_UNITS])
    assert len({snapshot.tobytes() for snapshot in snapshots}) == 3


@pytest.mark.usefixtures("tensorflow")
def test_tensorflow_tunes_nothing_beside_a_training_or_epochs_would_end_late(
    project: Path,
) -> None:
    part = read_part(project / "data/splits/tiny", "train")
    assert not batches(part, [np.arange(5)] * 3).options().autotune.enabled


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision",
    [
        "float32",
        pytest.param("mixed_bfloat16", marks=pytest.mark.long),
        pytest.param("mixed_float16", marks=pytest.mark.long),
    ],
)
def test_a_training_that_was_killed_goes_on_to_the_same_bytes(
    project: Path, uninterrupted: Trained, precision: str
) -> None:
    write_params(project, precision=precision)
    train_until_killed(project)
    assert "going on after row 2 of the history" in train(project)
    assert digests(project) == digests(uninterrupted(precision)[0])


@pytest.mark.slow
def test_a_training_in_steps_that_was_killed_goes_on_to_the_same_bytes_and_snapshots(
    tmp_path: Path,
) -> None:
    whole, killed = (make_project(tmp_path / name) for name in ("whole", "killed"))
    layers = ["Flatten", {"Dense": {"units": 12}}, {"Dropout": {"rate": 0.3}}]
    for project in (whole, killed):
        write_params(project, {"epochs": None, "steps": 11, "every": 3}, layers)
    train(whole)
    train_until_killed(killed)
    assert "going on after row 2 of the history" in train(killed)
    assert digests(killed) == digests(whole)
    assert np.load(killed / "data/snapshots/m.npy").shape == (5, SNAPSHOT_UNITS, 8, 8, 1)


@pytest.mark.long
def test_a_training_that_ran_out_of_disk_goes_on_when_there_is_room(
    project: Path, uninterrupted: Trained
) -> None:
    done = run(project, str(PROGRAMS / "train_on_full_disk.py"))
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "going on after row 1 of the history" in train(project)
    assert digests(project) == digests(uninterrupted("float32")[0])


@pytest.mark.parametrize("other", ["data", "code", "version"])
def test_a_state_knows_its_data_its_code_and_its_versions(
    project: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    folder, environment = project / "data/splits/tiny", {"keras": "3"}
    before = fingerprint(folder, {"seed": 0}, environment)
    assert fingerprint(folder, {"seed": 0}, environment) == before
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
    assert fingerprint(folder, {"seed": 0}, environment) != before


def test_a_state_goes_on_on_another_processor_only_where_that_gives_the_same_bytes() -> None:
    strategy = tf.distribute.get_strategy()
    for portable in (True, False):
        here, there = (
            Runtime(strategy, {"keras": "3", "device": name}, portable).bytes_depend_on
            for name in ("EPYC, 2 threads", "Xeon, 2 threads")
        )
        assert (here == there) == portable
        assert here["keras"] == "3"


@pytest.mark.parametrize("room", ["lib", "networks"])
def test_a_state_knows_two_modules_of_one_file_name_apart(
    project: Path, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    files = {}
    for name, module in (("lib", "stages.lib.files"), ("networks", "stages.networks.network")):
        files[name] = project / name / "files.py"
        files[name].parent.mkdir()
        files[name].write_text("# as it was")
        monkeypatch.setattr(sys.modules[module], "__file__", str(files[name]))
    before = fingerprint(project / "data/splits/tiny")
    files[room].write_text("# another")
    assert fingerprint(project / "data/splits/tiny") != before


def test_a_state_names_files_by_their_path_in_the_repository(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(TOP)
    names = fingerprint(project / "data/splits/tiny")["files"].keys()
    assert {
        "stages/networks/entry.py",
        "stages/networks/network.py",
        "stages/lib/files.py",
    } <= names
    monkeypatch.chdir(project)
    names = fingerprint(Path("data/splits/tiny"))["files"].keys()
    assert {"data/splits/tiny/summary.json", "data/splits/tiny/train_labels.npy"} <= names


@pytest.mark.slow
def test_a_training_that_diverges_says_so_and_leaves_no_model(project: Path) -> None:
    write_params(project, {"optimizer": {"SGD": {"learning_rate": 1e30}}})
    done = run(project, "-m", "stages.train", "m")
    assert done.returncode == 1
    assert re.match(r"error: the training diverged: epoch 1, .* nan", done.stderr), done.stderr
    assert not list((project / "data").glob("*/m.*"))


@pytest.mark.slow
def test_a_state_that_was_cut_off_is_not_believed(project: Path, uninterrupted: Trained) -> None:
    train_until_killed(project, "3000")
    assert "the saved state is incomplete: set aside" in train(project)
    assert digests(project) == digests(uninterrupted("float32")[0])


def test_a_state_that_may_not_be_read_stays_where_it_is() -> None:
    with tempfile.TemporaryDirectory() as top:  # one that a group shares
        state = Path(top) / "state.npz"
        state.write_bytes(b"another user's, and whole")
        state.chmod(0)
        Path(top).chmod(0o777)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may read all
            with pytest.raises(PermissionError):
                Checkpoint(state.parent, {}).read()
        finally:
            os.seteuid(user)
        assert [path.name for path in state.parent.iterdir()] == ["state.npz"]


@pytest.mark.long
def test_a_state_of_another_seed_is_not_resumed_and_gives_another_model(
    project: Path, uninterrupted: Trained
) -> None:
    train_until_killed(project)
    write_params(project, seed=1)
    assert "belongs to other params, data, code or versions: set aside" in train(project)
    anew = digests(project)
    assert anew["m.keras"] != digests(uninterrupted("float32")[0])["m.keras"]
    train(project)
    assert digests(project) == anew


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_an_error_before_any_data_is_read(tmp_path: Path) -> None:
    write_params(tmp_path, device="gpu")
    done = run(tmp_path, "-m", "stages.train", "m", CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: device is 'gpu', but TensorFlow sees no GPU")


@pytest.mark.long
def test_two_devices_share_each_batch_and_learn_what_one_learns(project: Path) -> None:
    printed = run_program(project, "train_on_two_devices.py", "0.0")
    difference, largest = map(float, printed.split()[-2:])
    assert difference < 1e-5 < largest
    run_program(project, "train_on_two_devices.py", "0.5")


@pytest.mark.parametrize(
    ("processor", "features", "expected"),
    [
        ("any", {"avx2"}, "AVX2, the same bytes on every x86-64 processor"),
        ("any", {"avx2", "avx512f"}, "this one also has AVX-512, which `this` uses"),
        ("any", {"avx2", "avx512f", "avx512_bf16"}, "which `this` uses, most in mixed_bfloat16"),
        ("this", {"avx2", "amx_tile"}, "AMX, most in mixed_bfloat16, bytes that another"),
        ("this", {"avx2"}, "AVX2, bytes that another processor may not give"),
        ("this", {"sse2"}, "it lacks AVX2, so its bytes may be its own"),
    ],
)
def test_the_log_says_what_would_be_faster_on_this_processor(
    processor: Processor, features: set[str], expected: str
) -> None:
    said = explain(processor, features)
    assert expected in said
    assert said.startswith(expected) or "this one also has" in said
