"""Training and evaluation give the same bytes whatever processor they are shown.

The made-up processors have the arithmetic of the real one. Another make's arithmetic is QEMU's.
"""

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import TOP, Project
from other_processor import PROCESSORS, Processor, environment, why_not
from ruamel.yaml import YAML

OWN_PARAMS: Any = YAML(typ="safe").load(TOP / "params.yaml")
# The smallest and the largest caches and what lies between, of both makes.
SHOWN = ("Skylake, small", "4 MiB of L2", "1 GiB of L3", "Zen 2", "Skylake-SP", "Sapphire Rapids")
# Every layer, activation, initializer and optimizer, on images of 12 pixels.
EVERYTHING = [str(TOP / "tests/programs/compute_everything.py"), "12"]
OUTPUTS = ("models", "history", "snapshots", "predictions")

other_processors = pytest.mark.skipif(
    why_not() is not None, reason=f"another processor {why_not()}"
)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project as it is, with the splits of the sample; each model is trained for two steps."""
    project = Project(tmp_path_factory.mktemp("sample") / "project")
    project.folder.mkdir()
    shutil.copytree(TOP / "stages", project.folder / "stages")
    params = YAML().load(TOP / "params.yaml")
    for model in params["models"].values():
        model["training"].pop("epochs", None)
        model["training"] |= {"steps": 2, "every": 1}
    project.write_params(params)
    for stage in ("download", "prepare", "split"):
        for dataset in params["datasets"]:
            project.run(sys.executable, "-m", f"stages.{stage}", dataset)
    return project


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shown")


def train_and_evaluate(project: Project, name: str, **environment: str) -> dict[str, str]:
    """Trains and evaluates the model `name`; returns the hashes of the outputs."""
    for folder in OUTPUTS:
        shutil.rmtree(project.folder / "data" / folder, ignore_errors=True)
    for stage in ("train", "evaluate"):
        command = [sys.executable, "-m", f"stages.{stage}", name]
        shown = project.environment | environment
        done = subprocess.run(command, cwd=project.folder, env=shown, check=False, timeout=600)
        assert done.returncode == 0
    files = [p for folder in OUTPUTS for p in (project.folder / "data" / folder).rglob("*.*")]
    return {str(p.relative_to(project.folder)): sha256(p.read_bytes()).hexdigest() for p in files}


def under(processor: Processor, shown: Path, project: Project, name: str) -> dict[str, str]:
    return train_and_evaluate(project, name, **environment(processor, shown))


def compute_everything(*command: str, **environment: str) -> dict[str, str]:
    done = subprocess.run(
        [*command, *EVERYTHING],
        env=os.environ | {"PYTHONPATH": str(TOP)} | environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    hashes: dict[str, str] = json.loads(done.stdout)
    assert len(hashes) > 280
    return hashes


@other_processors
@pytest.mark.long
def test_what_recipes_can_name_does_not_depend_on_the_caches(shown: Path) -> None:
    small, large = (
        compute_everything(sys.executable, **environment(PROCESSORS[kind], shown))
        for kind in SHOWN[:2]
    )
    assert small == large


@pytest.mark.long
@pytest.mark.skipif(
    not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64: apt-get install qemu-user"
)
def test_what_recipes_can_name_does_not_depend_on_the_arithmetic() -> None:
    interpreter = str(Path(sys.executable).resolve())
    emulated = compute_everything("qemu-x86_64", "-cpu", "EPYC", "-0", sys.executable, interpreter)
    assert emulated == compute_everything(sys.executable)


@other_processors
@pytest.mark.long
@pytest.mark.parametrize("name", OWN_PARAMS["models"])
def test_first_two_steps_and_the_evaluation_do_not_depend_on_the_processor(
    name: str, sample: Project, shown: Path
) -> None:
    first, *others = (under(PROCESSORS[kind], shown, sample, name) for kind in SHOWN)
    assert len(first) > 10
    for other in others:
        assert other == first
