"""Every file in examples/ holds models that params.yaml takes, and that Keras builds.

A file with `evaluation` is a whole params.yaml; the others are entries to copy into one.
"""

import copy
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TOP
from ruamel.yaml import YAML

from stages import download, plot, report, split
from stages.lib import params
from stages.lib.repeats import read_ensembles, read_repeats
from stages.networks import inspection
from stages.networks.evaluation import read_options
from stages.networks.keras_file import save_model
from stages.networks.network import Network, build_network
from stages.networks.optimizers import build_optimizer
from stages.networks.recipe import read_recipes
from stages.results.tables import Model
from stages.sources.formats import Format

pytestmark = pytest.mark.usefixtures("tensorflow")

EXAMPLES = sorted(path.name for path in (TOP / "examples").iterdir())
SHAPES = {"mnist": ((28, 28, 1), 10), "cats_dogs": ((50, 50, 3), 2)}


def add(own: dict[str, Any], entries: dict[str, Any]) -> dict[str, Any]:
    """Returns the project's own params with `entries`, none of which it has."""
    assert entries.keys() <= {"datasets", "models", "fine_tuned"}
    both = copy.deepcopy(own)
    for section, added in entries.items():
        assert not own[section].keys() & added.keys()
        both[section] |= added
    return both


WHOLE = [
    name for name in EXAMPLES if "\nevaluation:" in (TOP / "examples" / name).read_text("utf-8")
]


@pytest.mark.parametrize("example", WHOLE)
def test_a_whole_params_yaml_has_what_dvc_and_all_stages_read(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = YAML(typ="safe").load(TOP / "params.yaml")
    shutil.copy(TOP / "examples" / example, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    assert params.load().keys() >= own.keys()
    read_options()
    params.read("plots", plot.Options)
    params.read("report", report.Options)
    repeated = params.load()["repeated"]
    expected = math.prod(len(repeated[name]) for name in ("models", "seeds", "shares"))
    assert len(read_repeats()) == expected
    assert read_ensembles().keys() == params.load()["ensembles"].keys()


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_models_of_an_example_are_valid_and_build(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = YAML(typ="safe").load(TOP / "params.yaml")
    entries = YAML(typ="safe").load(TOP / "examples" / example)
    both = entries if "evaluation" in entries else add(own, entries)
    monkeypatch.chdir(tmp_path)
    YAML().dump(both, Path("params.yaml"))
    Path("data/models").mkdir(parents=True)
    for name in entries.get("datasets", {}):
        params.read(f"datasets.{name}.download", download.Options)
        params.read(f"datasets.{name}.prepare", Format)
        params.read(f"datasets.{name}.split", split.Options)
    for name, entry in params.list_models(entries).items():
        key = params.model_key(name)
        params.read(key, Model)
        for recipe in read_recipes(f"{key}.training"):
            build_optimizer(recipe.optimizer, 1000, key)
        shape, classes = SHAPES.get(entry["dataset"], SHAPES["cats_dogs"])
        network = params.read(f"{key}.network", Network)
        model = build_network(network, shape, classes, key)
        save_model(model, Path(f"data/models/{name}.keras"))
        assert model.predict_on_batch(np.zeros((2, *shape), np.uint8)).shape == (2, classes)
        assert inspection.count_multiply_adds(model) > 0
        table = inspection.layer_table(model)
        assert {each for inputs in table["inputs"] for each in inputs.split()} <= {*table["name"]}
