"""`make check` names what DVC trusts and should not, and `make mend` restores it."""

import functools
import hashlib
import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from ruamel.yaml import YAML

UNFINISHED = ".abcdefghijklmnopqrst-_.tmp"


def object_of(project: Project, path: str, top: str = ".dvc/cache") -> Path:
    """Returns the object of an output, or of a file in a folder that is one, in a store."""
    stages: Any = YAML(typ="safe").load(project.folder / "dvc.lock")["stages"].values()
    hashes = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
    store = project.folder / top / "files/md5"
    if path not in hashes:
        folder = str(Path(path).parent)
        whole_list = (
            project.folder / ".dvc/cache/files/md5" / hashes[folder][:2] / hashes[folder][2:]
        )
        members = json.loads(whole_list.read_text())
        hashes = {f"{folder}/{member['relpath']}": member["md5"] for member in members}
    return Path(store, hashes[path][:2], hashes[path][2:])


def flip(path: Path) -> None:
    """Flips a bit in the middle of a file, as a disk does: its time and mode stay."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(status.st_mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def digests(project: Project, *folders: str) -> dict[str, str]:
    """Returns the hash of each file below the folders, by its path."""
    return {
        path.relative_to(project.folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324
        for folder in folders
        for path in sorted((project.folder / folder).rglob("*"))
        if path.is_file()
    }


def check(project: Project, *options: str, fails: bool = True) -> list[str]:
    """Runs `make check`, and returns what it says but for the count of what it checked."""
    lines = project.run("python", "-m", "stages.check", *options, fails=fails).splitlines()
    return [line for line in lines if not line.startswith("checked ")]


@pytest.fixture(scope="module")
def pushed_once(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = reproduced.copy(tmp_path_factory.mktemp("pushed") / "project")
    project.run("dvc", "remote", "add", "--quiet", "--default", "storage", "../storage")
    project.run("dvc", "push", "--quiet")
    return project


@pytest.fixture
def pushed(pushed_once: Project, tmp_path: Path) -> Project:
    """The tiny project with all of its results in a remote, the folder `../storage`."""
    shutil.copytree(pushed_once.folder.with_name("storage"), tmp_path / "storage")
    return pushed_once.copy(tmp_path / "project")


def test_what_no_dvc_command_notices_is_named_and_mended_from_the_other_copy(
    project: Project,
) -> None:
    here, everything = project.folder, ("data", "reports", ".dvc/cache/files")
    before = digests(project, *everything)
    assert check(project, fails=False) == ["all of it is whole"]
    project.run("dvc", "status")  # which hashes each file, and remembers its time
    flip(object_of(project, "data/models/cnn.keras"))
    flip(here / "data/splits/digits/test_images.npy")
    assert "up to date" in project.run("dvc", "status")
    # As a full disk leaves a folder.
    object_of(project, "data/predictions/cnn/per_class.csv").unlink()
    truncated = object_of(project, "reports/figures/dense")
    truncated.chmod(0o644)
    truncated.write_bytes(b"")
    truncated.chmod(0o444)
    (here / "data/history/dense.csv").unlink()
    (here / "reports/metrics/dense.json").write_text("{")
    for stray in (
        f".dvc/cache/files/md5/00/{UNFINISHED}",
        "data/models/dense.part.keras",
        f"data/models/{UNFINISHED}",
        f"reports/figures/dense/{UNFINISHED}",
    ):
        (here / stray).parent.mkdir(exist_ok=True)
        (here / stray).touch()

    elsewhere = "altered in the workspace, whole in the cache"
    assert check(project) == [
        "evaluate@cnn: data/predictions/cnn/per_class.csv: missing in the cache, whole in the "
        "workspace",
        "evaluate@dense: reports/metrics/dense.json: altered in the workspace",
        # DVC knows the list no more, so it is made from the folder, without the stray file.
        "plot@dense: reports/figures/dense/: altered in the cache",
        f"split@digits: data/splits/digits/test_images.npy: {elsewhere}",
        "train@cnn: data/models/cnn.keras: altered in the cache, whole in the workspace",
        "train@dense: data/history/dense.csv: missing in the workspace, whole in the cache",
        f".dvc/cache/files/md5/00/{UNFINISHED}: left half-written, or no file of the output",
        f"data/models/{UNFINISHED}: left half-written, or no file of the output",
        "data/models/dense.part.keras: left half-written, or no file of the output",
        f"reports/figures/dense/{UNFINISHED}: left half-written, or no file of the output",
        "To mend this: make mend",
    ]
    assert check(project, "--mend", fails=False)[-2:] == ["mended 10 of 10", "all of it is whole"]
    assert digests(project, *everything) == before
    assert check(project, fails=False) == ["all of it is whole"]
    assert "up to date" in project.run("dvc", "status")


@pytest.mark.long
def test_what_is_whole_nowhere_is_deleted_so_that_its_stage_runs_again(project: Project) -> None:
    path = "data/splits/digits/valid_images.npy"
    before = digests(project, "data")
    project.run("dvc", "status")
    for copy in (project.folder / path, object_of(project, path)):
        flip(copy)
    assert "up to date" in project.run("dvc", "status")
    damage = f"split@digits: {path}: altered in the cache and the workspace"
    assert check(project) == [damage, "To mend this: make mend reproduce"]
    assert check(project, "--mend", fails=False) == [
        damage,
        f"split@digits: {path}: missing in the cache and the workspace",
        "mended 0 of 1",
        "To mend the rest: make reproduce",
    ]
    assert project.repro() == {"split@digits"}
    assert digests(project, "data") == before
    assert check(project, fails=False) == ["all of it is whole"]


def test_the_remote_is_checked_too_and_mends_and_is_mended(pushed: Project) -> None:
    storage = "../storage"
    before = digests(pushed, storage)
    model, member = "data/models/cnn.keras", "data/predictions/dense/roc.csv"
    flip(object_of(pushed, model, storage))
    object_of(pushed, member, storage).unlink()
    object_of(pushed, "data/history/cnn.csv", storage).unlink()
    for copy in (
        pushed.folder / "data/models/dense.keras",
        object_of(pushed, "data/models/dense.keras"),
    ):
        flip(copy)
    assert "up to date" in pushed.run("dvc", "push", "data/predictions/dense")
    local = "whole in the cache and the workspace"
    unpushed = f"train@cnn: data/history/cnn.csv: missing in the remote 'storage', {local}"
    assert check(pushed) == [
        f"evaluate@dense: {member}: missing in the remote 'storage', {local}",
        unpushed,
        f"train@cnn: {model}: altered in the remote 'storage', {local}",
        "train@dense: data/models/dense.keras: altered in the cache and the workspace, whole in "
        "the remote 'storage'",
        "To mend this: make mend && dvc push",
    ]
    assert check(pushed, "--mend")[-3:] == [unpushed, "mended 3 of 4", "To mend the rest: dvc push"]
    pushed.run("dvc", "push")
    assert digests(pushed, storage) == before
    assert check(pushed, fails=False) == ["all of it is whole"]


def test_a_clone_without_data_is_told_so_in_a_line_a_stage_and_filled(pushed: Project) -> None:
    before = digests(pushed, "data", "reports")
    for folder in (".dvc/cache", "data", "reports/figures"):
        shutil.rmtree(pushed.folder / folder)
    lines = check(pushed)
    nowhere = "missing in the cache and the workspace, whole in the remote 'storage'"
    assert f"download@digits: all 5 files: {nowhere}" not in lines  # the list is in no workspace
    assert f"split@digits: all 10 files: {nowhere}" in lines
    assert lines[-1] == "To mend this: make mend"
    assert check(pushed, "--mend", fails=False)[-1] == "all of it is whole"
    in_git = ("data/ensembles/", "data/live/", "data/timing/")
    assert digests(pushed, "data", "reports") == {
        p: h for p, h in before.items() if not p.startswith(in_git)
    }


@pytest.fixture
def served(pushed: Project) -> Iterator[Path]:
    """The remote's folder, which a web server now gives to the project: it cannot be hashed."""
    storage = pushed.folder.with_name("storage")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(storage))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        pushed.run("dvc", "remote", "modify", "storage", "url", url)
        yield storage
        server.shutdown()


def test_a_remote_that_is_no_folder_is_asked_for_sizes_and_read_on_demand(
    pushed: Project, served: Path
) -> None:
    truncated = object_of(pushed, "data/models/cnn.keras", str(served))
    truncated.chmod(0o644)
    truncated.write_bytes(truncated.read_bytes()[:-1])
    flip(object_of(pushed, "data/models/dense.keras", str(served)))
    altered = "altered in the remote 'storage', whole in the cache and the workspace"
    assert check(pushed)[:-1] == [f"train@cnn: data/models/cnn.keras: {altered}"]
    assert check(pushed, "--fetch")[:-1] == [
        f"train@{model}: data/models/{model}.keras: {altered}" for model in ("cnn", "dense")
    ]


def test_a_remote_that_cannot_be_asked_is_named_and_all_else_is_checked(pushed: Project) -> None:
    # Without the section that says where it is; what a server says has this place too.
    with (pushed.folder / ".dvc/config").open("w") as config:
        config.write("[core]\n    remote = storage\n")
    flip(pushed.folder / "data/models/cnn.keras")
    assert check(pushed) == [
        "train@cnn: data/models/cnn.keras: altered in the workspace, whole in the cache",
        "the remote 'storage' cannot be asked, so it is not checked: config file error: remote "
        "'storage' doesn't exist",
        "To mend this: make mend",
    ]
