"""An exported file computes what its model does, and has the same bytes twice."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TOP, Project
from ruamel.yaml import YAML

from stages import export
from stages.lib import params
from stages.lib.command import UserError
from stages.lib.files import read_json
from stages.lib.images import Images
from stages.lib.splits import Part
from stages.networks import exporting
from stages.networks.exporting import FORMATS
from stages.networks.keras_file import load_model, save_model
from stages.networks.network import Network, build_network
from stages.networks.runtime import keras

pytestmark = pytest.mark.usefixtures("tensorflow")

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 12, 12, 3), np.uint8)
SCALED: dict[str, Any] = {"Rescaling": {"scale": 1 / 255}}
NETWORKS: dict[str, list[Any]] = {
    "dense": [SCALED, "Flatten", {"Dense": {"units": 8, "activation": "gelu"}}],
    "convolutions": [
        SCALED,
        {"Conv2D": {"filters": 4, "kernel_size": 3, "activation": "relu"}},
        "BatchNormalization",
        "MaxPooling2D",
        {"SeparableConv2D": {"filters": 4, "kernel_size": 3, "padding": "same"}},
        {"Conv2D": {"filters": 4, "kernel_size": 2, "dilation_rate": 2, "activation": "swish"}},
        "LayerNormalization",
        {"Dropout": {"rate": 0.5}},
        "GlobalAveragePooling2D",
    ],
    # Keras takes a model for one in training if it resizes its images.
    "resized": [
        {"Resizing": {"height": 16, "width": 16}},
        {"Conv2D": {"filters": 4, "kernel_size": 3}},
        "BatchNormalization",
        {"Dropout": {"rate": 0.5}},
        "Flatten",
    ],
    "augmented": [
        SCALED,
        "RandomFlip",
        {"RandomRotation": {"factor": 0.4}},
        {"RandomTranslation": {"height_factor": 0.4, "width_factor": 0.4}},
        "Solarization",
        {"GaussianNoise": {"stddev": 1.0}},
        "Flatten",
    ],
}


def build(layers: list[Any], folder: Path) -> keras.Model:
    """Returns a network as the stages open it, with the moving averages of a trained one."""
    keras.utils.set_random_seed(0)
    model = build_network(Network(layers=layers), PIXELS.shape[1:], 3, "network")
    rng = np.random.default_rng(0)
    for variable in model.non_trainable_variables:
        if variable.name.startswith("moving_"):
            variable.assign(rng.uniform(0.5, 2, variable.shape))
    save_model(model, folder / "model.keras")
    return load_model(folder / "model.keras")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("network", NETWORKS)
def test_an_exported_model_gives_the_models_probabilities(
    network: str, name: str, tmp_path: Path
) -> None:
    model = build(NETWORKS[network], tmp_path)
    expected = model.predict(PIXELS, verbose=0)
    predict = exporting.export(model, name, tmp_path / FORMATS[name].file, 1, "exports.m")
    for batch_size in (7, 3, 1):
        found = exporting.run(predict, Images(PIXELS), batch_size)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    # The model itself is as it was, and so is what it computes with.
    assert np.array_equal(model.predict(PIXELS, verbose=0), expected)


def test_an_exported_file_has_the_operations_of_the_network_and_a_weight_once(
    tmp_path: Path,
) -> None:
    import onnx

    model = build([SCALED, "Flatten", {"Dense": {"units": 500}}], tmp_path)
    size = 4 * model.count_params()
    for name, each in FORMATS.items():
        path = tmp_path / each.file
        exporting.export(model, name, path, 1, "exports.m")
        assert size - 10_000 < exporting.count_bytes(path) < size + 100_000
    graph = onnx.load(tmp_path / "model.onnx").graph
    products = [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    assert len(products) == 2
    assert [each.name for each in graph.input] == ["images"]
    assert [each.name for each in graph.output] == ["probabilities"]


def test_what_a_format_cannot_hold_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = build([{"Reshape": {"target_shape": [12, 36]}}, {"GRU": {"units": 4}}], tmp_path)
    with pytest.raises(UserError, match=r"^params.yaml: exports.m: litert cannot hold .+") as error:
        exporting.export(model, "litert", tmp_path / "model.tflite", 1, "exports.m")
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_another_accuracy_is_an_error_that_names_the_format_and_both(tmp_path: Path) -> None:
    model = build(NETWORKS["dense"], tmp_path)
    said = model.predict(PIXELS, verbose=0)
    test = Part(Images(PIXELS), said.argmax(axis=1).astype(np.uint8))
    for name in FORMATS:
        (tmp_path / name).mkdir()
        found = export.export(model, test, said, [name], tmp_path / name, 7, 1, "exports.m")
        assert found["model"] == {"test_accuracy": 1}
        assert found[name].keys() == {"test_accuracy", "bytes"}
        assert found[name]["test_accuracy"] == 1
    wrong = np.roll(said, 1, axis=1)
    (tmp_path / "wrong").mkdir()
    with pytest.raises(UserError, match=r"onnx has a test accuracy of 100.00%, the model 0.00%"):
        export.export(model, test, wrong, ["onnx"], tmp_path / "wrong", 7, 1, "exports.m")


@pytest.mark.parametrize(
    ("exports", "message"),
    [
        ({"dense": "onnx"}, "exports.dense: expected a valid list, found 'onnx'"),
        ({"dense": []}, "exports.dense: no format, expected some of savedmodel, onnx, litert"),
        ({"dense": ["onnx", "tflite"]}, "exports.dense.1: expected 'savedmodel', 'onnx' or"),
        ({"dense": ["onnx", "onnx"]}, "exports.dense[1]: onnx stands there twice"),
        ({"dens": ["onnx"]}, "exports.dens: no model 'dens'; did you mean 'dense'?"),
        (["dense"], "exports: expected one key for each of the models to export"),
    ],
)
def test_a_mistake_in_exports_is_one_line_that_names_the_key(
    exports: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = YAML(typ="safe").load(TOP / "tests/params.yaml") | {"exports": exports}
    YAML().dump(content, Path("params.yaml"))
    with pytest.raises(UserError, match=re.escape(f"params.yaml: {message}")):
        export.read_formats(f"exports.{next(iter(exports))}")


def test_a_missing_package_is_one_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Python's own way to say that a module cannot be imported.
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UserError, match=r"onnx needs tf2onnx: .*requirements-exports.txt"):
        exporting.require("onnx", "exports.m")
    exporting.require("savedmodel", "exports.m")


EXPORT = """
import sys
from pathlib import Path
from stages.networks import exporting
from stages.networks.keras_file import load_model
from stages.networks.runtime import set_up
set_up("cpu", 2, "any")
for name in sys.argv[2:]:
    path = Path(exporting.FORMATS[name].file)
    exporting.export(load_model(Path(sys.argv[1])), name, path, 2, "exports.m")
"""


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [pytest.param("convolutions", marks=pytest.mark.long), "augmented"]
)
def test_two_processes_in_two_folders_write_the_same_bytes(network: str, tmp_path: Path) -> None:
    build(NETWORKS[network], tmp_path)
    found: list[dict[str, bytes]] = []
    for place, formats in (("one", list(FORMATS)), ("far/two", list(FORMATS)), ("3", ["litert"])):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        subprocess.run(
            [sys.executable, "-c", EXPORT, str(tmp_path / "model.keras"), *formats],
            cwd=folder,
            # As dvc.yaml has it.
            env=Project(folder).environment | {"PYTHONPATH": str(TOP), "PYTHONHASHSEED": "0"},
            check=True,
        )
        found.append(files(folder))
    assert found[0] == found[1]
    assert len(found[0]) == 5
    assert found[2].items() <= found[0].items()
    for content in found[0].values():
        assert str(tmp_path).encode() not in content
        assert str(TOP).encode() not in content


@pytest.mark.long
def test_exports_run_alone_give_the_same_bytes_and_stand_in_the_metrics(project: Project) -> None:
    folder = project.folder
    assert not (folder / "data/exports").exists()
    project.set_param("exports", {"cnn": ["litert", "savedmodel", "onnx"]})
    assert project.repro() == {"export@cnn"}
    assert "up to date" in project.run("dvc", "status")
    first = files(folder / "data/exports/cnn")
    assert {name.partition("/")[0] for name in first} == {
        *("savedmodel", "model.onnx", "model.tflite", "metrics.json")
    }
    metrics = read_json(folder / "reports/exports/cnn.json")
    assert (folder / "reports/exports/cnn.json").read_bytes() == first["metrics.json"]
    own = read_json(folder / "reports/metrics/cnn.json")["test_accuracy"]
    assert [metrics[name]["test_accuracy"] for name in ("model", *FORMATS)] == [own] * 4
    assert metrics["onnx"]["bytes"] == len(first["model.onnx"])
    shown = project.run("dvc", "metrics", "show")
    assert "reports/exports/cnn.json" in shown
    assert "onnx.test_accuracy" in shown
    assert "exports.cnn" in project.run("dvc", "params", "diff")
    assert "data/exports" not in project.run("git", "status", "--short")

    project.run("dvc", "repro", "--force", "--single-item", "export@cnn")
    assert files(folder / "data/exports/cnn") == first
    # The place of a format changes nothing, and a format less leaves the others as they are.
    project.set_param("exports.cnn", ["savedmodel"])
    assert project.repro() == {"export@cnn"}
    fewer = files(folder / "data/exports/cnn")
    assert {name: first[name] for name in fewer if "/" in name}.items() <= fewer.items()
    assert "model.onnx" not in fewer
    # What no model exports any more is named like all that is left over.
    project.set_param("exports", {"dense": ["onnx"]})
    assert project.repro() == {"export@dense"}
    project.set_param("report.title", "Another")
    said = project.run("dvc", "repro", "report")
    assert "data/exports/cnn reports/exports/cnn.json" in said
    assert "data/exports/dense" not in said
    project.run("python", "-m", "stages.check")


@pytest.mark.long
def test_pushed_exports_are_pulled_and_not_made_again(project: Project, tmp_path: Path) -> None:
    project.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    before = project.folder / "dvc.lock"
    lock = before.read_bytes()
    project.set_param("exports", {"dense": ["onnx"]})
    assert project.repro() == {"export@dense"}
    project.run("dvc", "push", "--quiet", "--run-cache")
    first = files(project.folder / "data/exports")
    metrics = (project.folder / "reports/exports/dense.json").read_bytes()
    # A colleague's clone, in which nobody has exported yet.
    before.write_bytes(lock)
    for gone in (".dvc/cache", "data/exports", "reports/exports"):
        shutil.rmtree(project.folder / gone)
    assert project.repro("--pull") == set()
    assert files(project.folder / "data/exports") == first
    assert (project.folder / "reports/exports/dense.json").read_bytes() == metrics


@pytest.mark.long
def test_a_test_set_that_changes_is_exported_anew_and_a_wrong_file_is_not_kept(
    project: Project,
) -> None:
    project.set_param("exports", {"cnn": ["onnx"]})
    project.repro()
    project.set_param("datasets.pictures.split.test", 9)
    assert {"evaluate@cnn", "export@cnn"} <= project.repro()
    # What `evaluate` found of another model.
    path = project.folder / "data/predictions/cnn/test_probabilities.npy"
    wrong = np.roll(np.load(path), 1, axis=1)
    path.unlink()  # a link to the cache may be read-only
    np.save(path, wrong)
    said = project.run("python", "-m", "stages.export", "cnn", fails=True)
    last = said.splitlines()[-1]
    assert re.match(r"error: params.yaml: exports.cnn: onnx has a test accuracy of .*%, the", last)
    assert params.read("exports.cnn", list[str], project.folder / "params.yaml") == ["onnx"]
    assert not list(project.folder.glob("data/exports/*.part*"))
