"""A tiny project that runs the real stages through the real DVC."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from stages.sources.idx import write_idx

TOP = Path(__file__).parent.parent


class Project:
    """A copy of the pipeline in a folder of its own, with tiny data and small networks."""

    def __init__(self, folder: Path):
        self.folder = folder
        home = folder.with_name("home")
        # Nothing of the user's own settings, and nothing of the tests' in theirs.
        self.environment = os.environ | {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": "",
            "SHELL": "/bin/sh",  # the one that stays beside what it runs, and cron's and Docker's
            "DVC_NO_ANALYTICS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",  # no look for keys in a network
            "DVC_SITE_CACHE_DIR": str(home / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(home / "global"),
            "DVC_SYSTEM_CONFIG_DIR": str(home / "system"),
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@example.com",
            "GIT_COMMITTER_NAME": "A",
            "GIT_COMMITTER_EMAIL": "a@example.com",
        }

    def run(self, *command: str, fails: bool = False) -> str:
        """Runs a command in the project and returns what it printed, standard error included."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=900,  # seven times what the longest takes on an idle machine
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def repro(self, *arguments: str) -> set[str]:
        """Runs `dvc repro` and returns the stages whose command it ran."""
        return set(re.findall(r"Running stage '(.*)':", self.run("dvc", "repro", *arguments)))

    def read_params(self) -> Any:
        return YAML().load(self.folder / "params.yaml")

    def write_params(self, params: Any) -> None:
        YAML().dump(params, self.folder / "params.yaml")

    def set_param(self, key: str, value: Any) -> None:
        """Sets the value at `key`, names joined by dots; they may be new."""
        params = self.read_params()
        *path, last = key.split(".")
        section = params
        for name in path:
            section = section[name]
        section[last] = value
        self.write_params(params)

    def copy(self, folder: Path) -> "Project":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)


def write_digits(folder: Path) -> None:
    """Writes 60 + 20 images of 12x12 in the IDX format: three classes, a bright bar each."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        labels = np.arange(count, dtype=np.uint8) % 3
        images = rng.integers(0, 120, (count, 12, 12), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[4 * label : 4 * label + 4] += 120
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)


def write_photographs(folder: Path) -> None:
    """Writes zips with 20 red and 20 blue photographs, and 6 without labels."""
    rng = np.random.default_rng(0)
    for name, entries in (
        ("pictures.zip", [f"train/{kind}.{i}.jpg" for kind in ("red", "blue") for i in range(20)]),
        ("more.zip", [f"test1/{i}.jpg" for i in range(1, 7)]),
    ):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for entry in entries:
                image = rng.integers(0, 150, (40, 30, 3), dtype=np.uint8)
                image[..., 0 if "blue" in entry else 2] += 100
                archive.writestr(entry, cv2.imencode(".jpg", image)[1].tobytes())


# The files that take longest: they run first, so that no worker is left with one at the end.
LONGEST = ("test_docs.py", "test_train.py", "test_pipeline_graph.py", "test_pipeline_leaves.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as slow what takes minutes, or needs the tiny project: making it takes one."""
    for item in items:
        takes_minutes = any(item.get_closest_marker(name) for name in ("long", "faults"))
        if "reproduced" in getattr(item, "fixturenames", ()) or takes_minutes:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seeds what a test draws, its fixtures too: whatever ran before, it sees the same weights."""
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(0)


def pytest_collection_finish() -> None:
    """Refuses test files that start TensorFlow when they are imported: no test could set it up."""
    if context := sys.modules.get("tensorflow.python.eager.context"):
        assert context.context_safe() is None or not context.context()._initialized


@pytest.fixture(scope="session")
def tensorflow() -> None:
    """Sets TensorFlow up for every test that uses it in its own process: once is all it allows."""
    from stages.networks.runtime import set_up

    set_up("cpu", threads=1, processor="any")


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """The tiny project after its first `dvc repro`. Not to be changed: `project` is a copy."""
    top = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        top = top.parent  # common to all workers: the first that needs the project makes it
    done = top / "reproduced/done"
    with FileLock(top / "reproduced.lock"):
        if not done.exists():
            shutil.rmtree(done.parent, ignore_errors=True)
            params, own = YAML().load(TOP / "tests/params.yaml"), YAML().load(TOP / "params.yaml")
            params |= {name: own[name] for name in ("evaluation", "plots")}
            reproduce(Project(done.with_name("project")), params)
            done.touch()
    return Project(done.with_name("project"))


def reproduce(project: Project, params: Any) -> None:
    """Makes a tiny project and runs it once, with a commit before and a commit after."""
    shutil.copytree(
        TOP / "stages", project.folder / "stages", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("dvc.yaml", ".dvcignore", ".gitattributes", ".gitignore"):
        shutil.copy(TOP / name, project.folder)
    for path in (TOP / "data").rglob(".gitignore"):
        copied = project.folder / path.relative_to(TOP)
        copied.parent.mkdir(parents=True)
        shutil.copy(path, copied)
    source = project.folder / "source"
    (source / "digits").mkdir(parents=True)
    write_digits(source / "digits")
    write_photographs(source)
    project.write_params(params)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("dvc", "init", "--quiet")
    shutil.copytree(TOP / ".dvc/plots", project.folder / ".dvc/plots", dirs_exist_ok=True)
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message=Before the first run")
    project.repro()
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message=After the first run")


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the tiny project, all up to date."""
    return reproduced.copy(tmp_path / "project")


FAULTS = TOP / "docs/reliability.md"
TABLE = re.compile(
    "(?<=<!-- make test-faults writes this table -->\n\n).*?(?=\n<!-- end -->)", re.DOTALL
)


def faults_table(page: str, notes: list[tuple[str, int, str]]) -> str:
    """Returns the page with the rows of a run: what it did not try keeps its row."""
    found = TABLE.search(page)
    assert found, f"{FAULTS} has no place for the table"
    head, line, *old = found[0].splitlines()
    rows = {row.split("|")[1].strip(): row for row in old}
    for fault in {fault for fault, _, _ in notes}:
        tries = sum(number for name, number, _ in notes if name == fault)
        [command] = {command for name, _, command in notes if name == fault}
        rows[fault] = f"| {fault} | {tries} | nothing | `{command}` |"
    return TABLE.sub("\n".join([head, line, *(rows[fault] for fault in sorted(rows)), ""]), page)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """After `make test-faults`, writes its table, and fails if the page was another."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput") or config.option.markexpr != "faults" or not reporter:
        return
    if config.option.keyword or session.testsfailed:
        return
    properties = [p for report in reporter.stats.get("passed", ()) for p in report.user_properties]
    notes = [value for name, value in properties if name == "fault"]
    page = FAULTS.read_text(encoding="utf-8")
    written = faults_table(page, notes)
    if written != page:
        FAULTS.write_text(written, encoding="utf-8")
        reporter.write_line(f"{FAULTS} has a new table: commit it", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
