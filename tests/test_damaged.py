"""A damaged file ends a stage with one line that names it, and nothing in a file runs."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import TOP, Project

from stages.lib.command import UserError
from stages.lib.files import read_array, read_arrays, read_json
from stages.results.reading import read_results

HINT = "cannot be read, so it is damaged: `make mend reproduce` restores it, or makes it again ("


def damaged(content: bytes) -> dict[str, bytes]:
    """Returns what a kill, a full disk and a failing disk make of a file."""
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    return {
        "empty": b"",
        "cut off": content[:-1],
        "its head": content[:20],
        "flipped": bytes(flipped),
        "zeros": bytes(len(content)),
    }


@pytest.mark.parametrize("how", ["empty", "cut off", "its head", "flipped", "zeros"])
@pytest.mark.usefixtures("tensorflow")
def test_a_model_that_does_not_open_is_named(how: str, reproduced: Project, tmp_path: Path) -> None:
    from stages.networks.keras_file import load_model

    whole = reproduced.folder / "data/models/cnn.keras"
    path = tmp_path / "cnn.keras"
    path.write_bytes(damaged(whole.read_bytes())[how])
    with pytest.raises(UserError, match=re.escape(f"{path} {HINT}")):
        load_model(path)


def test_evaluate_says_it_in_one_line(project: Project) -> None:
    model = project.folder / "data/models/cnn.keras"
    model.write_bytes(model.read_bytes()[:-100])
    *_, line = project.run("python", "-m", "stages.evaluate", "cnn", fails=True).splitlines()
    assert line == f"error: data/models/cnn.keras {HINT}File is not a zip file)"


@pytest.mark.usefixtures("tensorflow")
def test_a_model_with_python_code_in_it_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.networks.keras_file import load_model
    from stages.networks.runtime import keras

    monkeypatch.chdir(tmp_path)
    ran = Path("ran")
    layer = keras.layers.Lambda(lambda x: (open("ran", "w"), x)[1])  # noqa: PTH123, SIM115
    keras.Sequential([keras.Input((2,)), layer]).save("code.keras")
    assert ran.exists()
    ran.unlink()
    with pytest.raises(UserError, match=r"code\.keras has a Lambda layer, whose Python code would"):
        load_model(Path("code.keras"))
    assert not ran.exists()


FILES = {
    "data/history/dense.csv": ("empty", "zeros"),
    "data/predictions/dense/examples_images.npy": ("empty", "cut off", "its head", "zeros"),
    "data/predictions/cnn/feature_maps.npz": ("empty", "cut off", "its head", "flipped", "zeros"),
    "data/predictions/dense/layers.csv": ("empty", "zeros"),
    "data/predictions/dense/summary.json": ("empty", "its head", "zeros"),
    "data/predictions/dense/metrics.json": ("empty", "its head", "zeros"),
}


def test_each_file_that_plot_and_report_read_is_named(
    reproduced: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("data/history", "data/predictions"):
        shutil.copytree(reproduced.folder / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    for name, ways in FILES.items():
        whole = Path(name).read_bytes()
        for how in ways:
            Path(name).write_bytes(damaged(whole)[how])
            with pytest.raises(UserError, match=re.escape(f"{name} {HINT}")):
                read_results("cnn" if "cnn" in name else "dense")
        Path(name).write_bytes(whole)
        assert read_results("dense").files


def test_an_array_of_python_objects_is_not_read(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "objects.npz", objects=objects)
    for read, name in ((read_array, "objects.npy"), (read_arrays, "objects.npz")):
        with pytest.raises(UserError, match=r"Object arrays cannot be loaded"):
            read(tmp_path / name)


def test_no_stage_reads_or_writes_a_file_of_pickles() -> None:
    unsafe = re.compile(
        r"allow_pickle=True|safe_mode=False|enable_unsafe_deserialization"
        r"|^\s*(import|from) (pickle|dill|joblib|marshal|shelve|cloudpickle)\b",
        re.MULTILINE,
    )
    # Dask pickles what it sends to a worker, and runs it: nothing of that is in a file.
    cluster = TOP / "stages/lib/cluster.py"
    sources = [path for path in (TOP / "stages").rglob("*.py") if path != cluster]
    assert len(sources) > 50
    for path in sources:
        assert not unsafe.search(path.read_text(encoding="utf-8")), path


def test_no_output_of_the_pipeline_holds_a_pickle(reproduced: Project) -> None:
    endings = {".csv", ".gz", ".html", ".js", ".json", ".keras", ".md", ".npy", ".npz"}
    endings |= {".png", ".txt", ".zip"}  # a zip holds photographs as they came
    opened = set()
    for folder in ("data", "reports"):
        for path in sorted((reproduced.folder / folder).rglob("*")):
            if not path.is_file() or path.name == ".gitignore":
                continue
            assert path.suffix in endings, path
            opened.add(path.suffix)
            if path.suffix == ".npy":
                read_array(path)
            elif path.suffix == ".npz":
                read_arrays(path)
            elif path.suffix == ".json":
                read_json(path)
            elif path.suffix == ".keras":
                with zipfile.ZipFile(path) as archive:
                    names = ["config.json", "metadata.json", "model.weights.h5"]
                    assert archive.namelist() == names
                    assert all(json.loads(archive.read(name)) for name in names[:2])
                    with archive.open(names[2]) as file, h5py.File(file) as weights:
                        weights.visititems(assert_numbers)
    assert {".keras", ".npy", ".npz", ".json"} <= opened


def assert_numbers(name: str, item: object) -> None:
    """Fails unless a dataset of an HDF5 file holds numbers; `vars` of a group holds no data."""
    if isinstance(item, h5py.Dataset):
        assert item.dtype.kind in "iufb" or item.dtype.itemsize == 2, name  # 2: bfloat16


@pytest.mark.usefixtures("tensorflow")
def test_a_state_of_a_training_with_any_byte_altered_is_set_aside_or_gives_the_same(
    tmp_path: Path,
) -> None:
    from stages.networks.checkpoint import Checkpoint, Progress
    from stages.networks.runtime import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    checkpoint = Checkpoint(tmp_path / "net", {})
    state, aside = checkpoint.folder / "state.npz", checkpoint.folder / "set-aside.npz"
    with checkpoint.locked():
        checkpoint.save(model, Progress([{"loss": 1.0}], [np.zeros(3)]))
        checkpoint.wait()
        weights, whole = model.get_weights(), state.read_bytes()
        found = {"same": 0, "set aside": 0}
        # What is not checked by a sum is at the end: the list of what the file holds.
        for at in [*range(0, len(whole), 31), *range(len(whole) - 120, len(whole))]:
            altered = bytearray(whole)
            altered[at] ^= 0x40
            state.write_bytes(altered)
            aside.unlink(missing_ok=True)
            progress = checkpoint.read()
            assert bool(progress.history) != aside.exists()
            if progress.history:
                progress.fill(model)
            assert all(map(np.array_equal, model.get_weights(), weights))
            found["set aside" if aside.exists() else "same"] += 1
    assert min(found.values()) > 20, found
