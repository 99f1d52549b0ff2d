"""Models as artifacts: brought from another repository and opened without this project."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project
from ruamel.yaml import YAML

from stages.lib import params

TOP = Path(__file__).parent.parent
OPEN = Path(__file__).with_name("programs") / "open_with_plain_keras.py"
# DVC's rule for the names of artifacts.
NAME = re.compile(r"[a-z0-9]([a-z0-9-/]*[a-z0-9])?")


def test_every_model_of_params_yaml_is_an_artifact_and_nothing_else_is() -> None:
    artifacts = YAML(typ="safe").load(TOP / "dvc.yaml")["artifacts"]
    models = params.load(TOP / "params.yaml")["models"]
    assert artifacts == {
        model.lower().replace("_", "-"): {"path": f"data/models/{model}.keras", "type": "model"}
        for model in models
    }
    assert all(NAME.fullmatch(name) for name in artifacts)


@pytest.fixture
def published(project: Project, tmp_path: Path) -> Project:
    """The tiny project with its models pushed to a remote, one of them in a version."""
    pipeline = YAML().load(project.folder / "dvc.yaml")
    pipeline["artifacts"] = {"dense": {"path": "data/models/dense.keras", "type": "model"}}
    YAML().dump(pipeline, project.folder / "dvc.yaml")
    project.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    project.run("git", "commit", "--all", "--quiet", "--message=Publish")
    project.run("dvc", "push", "--quiet", "train@dense", "train@cnn")
    # DVC sees annotated tags only.
    project.run("git", "tag", "--annotate", "dense@v1.0.0", "--message=The first version")
    return project


@pytest.mark.long
def test_a_model_brought_from_another_repository_opens_with_plain_keras(
    published: Project, tmp_path: Path
) -> None:
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.folder.mkdir()
    repository = published.folder.as_uri()
    for command in (
        ("dvc", "get", repository, "data/models/cnn.keras"),
        ("dvc", "artifacts", "get", repository, "dense"),
        ("dvc", "artifacts", "get", repository, "dense", "--rev", "v1.0.0", "--out", "v1.keras"),
    ):
        elsewhere.run(*command)
    files = {path.name: path for path in elsewhere.folder.iterdir()}
    assert files.keys() == {"cnn.keras", "dense.keras", "v1.keras"}
    for name, original in (("cnn", "cnn"), ("dense", "dense"), ("v1", "dense")):
        model = published.folder / f"data/models/{original}.keras"
        assert files[f"{name}.keras"].read_bytes() == model.read_bytes()
    done = subprocess.run(
        [sys.executable, str(OPEN), "cnn.keras", "dense.keras"],
        cwd=elsewhere.folder,
        # Keras alone: neither this project's code nor its files are at hand.
        env=os.environ | {"PYTHONPATH": "", "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "cnn.keras": [[10, 10, 3], [5, 2]],
        "dense.keras": [[12, 12, 1], [5, 3]],
    }
