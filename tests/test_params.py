"""`params.yaml` is read as DVC reads it, and a wrong key is named in full."""

import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.serialize import load_yaml

from stages.lib import params
from stages.lib.command import UserError
from stages.lib.params import Section


class Recipe(Section):
    rate: float
    batch_size: int = 1
    name: str = ""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def message(tmp_path: Path, text: str, key: str = "training") -> str:
    with pytest.raises(UserError) as raised:
        params.read(key, Recipe, write(tmp_path, text))
    return str(raised.value)


@pytest.mark.parametrize("number", ["1e-6", "1E-6", "0.000001", "1.0e-06", "+1e-6"])
def test_a_number_is_the_float_that_dvc_sees(tmp_path: Path, number: str) -> None:
    path = write(tmp_path, f"training: {{rate: {number}}}")
    ours = params.read("training", Recipe, path).rate
    assert ours == 1e-6
    assert ours == load_yaml(str(path))["training"]["rate"]


def test_an_unknown_key_is_named_in_full_with_the_nearest_known_one(tmp_path: Path) -> None:
    assert message(tmp_path, "training: {rate: 1, batch_sise: 2}") == (
        "params.yaml: training.batch_sise: unknown key; did you mean 'batch_size'? "
        "(known: batch_size, name, rate)"
    )


def test_a_missing_key_is_named_in_full(tmp_path: Path) -> None:
    assert message(tmp_path, "training: {}") == "params.yaml: training.rate: is missing"


@pytest.mark.parametrize("value", ["fast", "'1'", "true", "[1]", "null"])
def test_a_wrong_type_is_an_error_that_shows_the_value(tmp_path: Path, value: str) -> None:
    text = message(tmp_path, f"training: {{rate: {value}}}")
    assert text.startswith("params.yaml: training.rate: expected a valid number, found ")


def test_a_fraction_is_no_integer(tmp_path: Path) -> None:
    text = message(tmp_path, "training: {rate: 1, batch_size: 2.5}")
    assert text == "params.yaml: training.batch_size: expected a valid integer, found 2.5"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trainin: {rate: 1}", "trainin: unknown key; did you mean 'training'?"),
        ("models: {a: {datset: mnist}}", "models.a.datset: unknown key; did you mean 'dataset'?"),
        ("datasets: {a: {spilt: {}}}", "datasets.a.spilt: unknown key; did you mean 'split'?"),
        ("models: [a]", "models: expected one key for each of the models"),
        ("models: {a: 3}", "models.a: expected keys: dataset, network, training, published"),
        ("models: {a.b: {}}", "models.a.b: a name needs letters, digits and _ only"),
        ("training:", "training: expected keys, found None"),
        ("evaluation: [auto]", "evaluation: expected keys, found ['auto']"),
        ("1: {rate: 1}", "1: unknown key (known: "),
        ("models: {a: {null: 1}}", "models.a.None: unknown key (known: "),
        ("datasets: {2024: {}}", "datasets.2024: YAML takes this name for no text: put it into qu"),
        ("models: {'1': {}}\nexports: {1: {}}", "exports.1: YAML takes this name for no text: put"),
        ("models: {cnn: {}, CNN: {}}", "models.CNN: its files would be those of models.cnn ("),
        ("datasets: {Cats: {}, cats: {}}", "datasets.cats: its files would be those of datasets.C"),
        (
            "models: {a: {}}\nfine_tuned: {a: {}}",
            "fine_tuned.a: its files would be those of models.a (",
        ),
        (
            "fine_tuned: {a: {}}\nensembles: {A: {}}",
            "ensembles.A: its files would be those of fine_tuned.a (",
        ),
        ("models: {true: {}}", "models.True: YAML takes this name for no text: put it into quotes"),
    ],
)
def test_what_stands_around_the_sections_is_checked(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert message(tmp_path, text).startswith(f"params.yaml: {expected}")


def test_a_missing_section_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    text = message(tmp_path, "models: {mnist_cnn: {}}", "models.mnist_cn.training")
    assert text == (
        "params.yaml: models.mnist_cn.training is missing; did you mean 'models.mnist_cnn'?"
    )


def test_a_file_that_is_no_yaml_is_an_error_for_people(tmp_path: Path) -> None:
    assert "is no valid YAML" in message(tmp_path, "training: {rate: 1")
    assert "is no valid YAML" in message(tmp_path, "training: {rate: 1}\ntraining: {rate: 2}")
    for value in ("2024-02-30", "2024-01-01T25:00:00Z", "0x_", "1" * 5000, "[" * 2000):
        assert "is no valid YAML" in message(tmp_path, f"training: {{name: {value}}}")


def test_a_missing_file_says_where_to_run() -> None:
    with pytest.raises(UserError, match="run from the project's top folder"):
        params.read("training", Recipe, Path("nowhere/params.yaml"))


@pytest.mark.slow
def test_a_wrong_key_ends_a_stage_with_one_line_and_no_traceback(tmp_path: Path) -> None:
    write(tmp_path, "training: {sed: 0}\nmodels: {a: {dataset: b, network: {}, training: {}}}")
    stage = subprocess.run(
        [sys.executable, "-m", "stages.train", "a"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert stage.returncode == 1
    assert stage.stderr == (
        "error: params.yaml: training.sed: unknown key; did you mean 'seed'? "
        "(known: device, precision, processor, seed, threads)\n"
    )


def test_a_model_of_an_unknown_dataset_is_an_error_with_the_nearest_known_one(
    tmp_path: Path,
) -> None:
    text = "datasets: {mnist: {}}\nmodels: {cnn: {dataset: mnits}}\ntraining: {rate: 1}"
    assert message(tmp_path, text) == (
        "params.yaml: models.cnn.dataset: no dataset 'mnits'; did you mean 'mnist'?"
    )
