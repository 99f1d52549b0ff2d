"""`make check-gpu`: here on a CPU, which is trained on in the same way."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TOP
from ruamel.yaml import YAML

from stages import check_gpu
from stages.lib import params
from stages.lib.command import UserError


@pytest.mark.long
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.check_gpu"],
        cwd=TOP,
        env={"CUDA_VISIBLE_DEVICES": "-1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: device is 'gpu', but TensorFlow sees no")
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_two_trainings_on_one_device_are_the_same_bytes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(TOP)
    assert check_gpu.check("cpu")
    assert "the same bytes" in capfd.readouterr().out


def test_trainings_that_differ_are_reported_with_versions_and_hashes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = iter(range(9))

    def write(folder: Path, stage: str, name: str) -> None:
        """Writes what a nondeterministic device would: another model at each training."""
        if stage == "train":
            for kind, text in (("models", str(next(trainings))), ("history", "same")):
                (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
                (folder / "data" / kind / f"{name}.x").write_text(text)
            (folder / "data/timing").mkdir(exist_ok=True)
            environment = {"device": "a GPU", "tensorflow": "2"}
            (folder / "data/timing/mnist_cnn.json").write_text(
                json.dumps({"environment": environment})
            )

    monkeypatch.chdir(TOP)
    monkeypatch.setattr(check_gpu, "run_stage", write)
    assert not check_gpu.check("gpu")
    printed = capsys.readouterr().out
    assert "differ in models. Please report this" in printed
    assert '"tensorflow": "2"' in printed


@pytest.mark.parametrize("of_steps", [True, False])
def test_the_model_trains_for_one_epoch_of_its_first_recipe(of_steps: bool) -> None:
    params_of_all = YAML(typ="safe").load(TOP / "params.yaml")
    own = params_of_all["models"]["mnist_cnn"]
    expected = own["training"] | {"epochs": 1}
    by_steps = {key: value for key, value in expected.items() if key != "epochs"}
    by_steps |= {"steps": 9, "every": 3}
    own["training"] = by_steps if of_steps else [expected | {"epochs": 5}, by_steps]
    checked = check_gpu.one_epoch(params_of_all, "gpu")
    assert checked["models"]["mnist_cnn"]["training"] == expected


@pytest.mark.parametrize("missing", ["models", "datasets", "training"])
def test_params_without_a_section_are_refused(missing: str) -> None:
    params_of_all = YAML(typ="safe").load(TOP / "params.yaml")
    with pytest.raises(UserError, match=r"params\.yaml has no '"):
        check_gpu.one_epoch(params_of_all | {missing: None}, "gpu")


def test_params_without_the_model_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(TOP / "tests/params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"params\.yaml has no 'mnist_cnn'"):
        check_gpu.one_epoch(params.load(), "gpu")
