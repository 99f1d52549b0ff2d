"""`make` in a folder whose path has a space and an umlaut, with the real pip, uv and DVC."""

import os
import shutil
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import TOP, Project

WHEEL = "tiny-1.0-py3-none-any.whl"


def write_wheel(folder: Path) -> None:
    """Writes a package with one module and one command; it brings those that the tests run with."""
    info = "tiny-1.0.dist-info"
    files = {
        "beside.pth": f"{sysconfig.get_path('purelib')}\n",
        "tiny.py": "def main() -> None:\n    print('installed')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntiny = tiny:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        for name, content in (files | {f"{info}/RECORD": record}).items():
            wheel.writestr(name, content)


@pytest.fixture
def made(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the tiny project in `a b/ü`, with the Makefile and one package to install."""
    (tmp_path / "a b").mkdir()
    project = reproduced.copy(tmp_path / "a b/ü")
    shutil.copy(TOP / "Makefile", project.folder)
    write_wheel(project.folder)
    (project.folder / "requirements.txt").write_text(f"./{WHEEL}\n")
    # The user's own pip says so when it is called.
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("pip", "pip3", "uv"):
        (programs / name).write_text(f"#!/bin/sh\necho the own {name} of the user\nexit 1\n")
        (programs / name).chmod(0o755)
    project.environment |= {
        "PATH": f"{programs}{os.pathsep}{project.environment['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return project


@pytest.mark.long
def test_make_installs_into_the_project_alone_and_runs_it_whatever_its_path(
    made: Project, tmp_path: Path
) -> None:
    own = tmp_path / "own"  # where pip would install for the user
    made.environment |= {"PYTHONUSERBASE": str(own), "PIP_NO_CACHE_DIR": "1", "UV_NO_CACHE": "1"}
    beside = set(tmp_path.rglob("*")) - set(made.folder.rglob("*"))
    printed = made.run("make", "reproduce")
    assert "Data and pipelines are up to date." in printed
    assert f"The report: {made.folder}/reports/index.html" in printed
    assert "of the user" not in printed
    assert "Data and pipelines are up to date." in made.run("make", "reproduce", "JOBS=4")
    lines = made.run("make", "reproduce", "JOBS=two", fails=True).splitlines()
    assert "error: JOBS is 'two', expected how many stages may run at once: 1 or more" in lines
    now = set(tmp_path.rglob("*")) - set(made.folder.rglob("*"))
    assert {path for path in now - beside if "home" not in path.parts} == set()
    assert made.run(".venv/bin/tiny") == "installed\n"
    assert made.run("sh", "-c", ". .venv/bin/activate && tiny") == "installed\n"
    assert not own.exists()

    # Called again, it installs nothing. Where there is a remote, it brings what is missing here.
    made.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    made.run("dvc", "push", "--quiet", "--run-cache")
    shutil.rmtree(made.folder / ".dvc/cache")
    shutil.rmtree(made.folder / "data/models")
    printed = made.run("make", "reproduce")
    assert "Running stage" not in printed
    assert " -m venv " not in printed
    assert (made.folder / "data/models/dense.keras").exists()
