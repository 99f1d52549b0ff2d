"""What a killed `dvc` leaves half-written is mended before the next one stumbles over it."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project

from stages.kept.state import mend_state


def recover(project: Project) -> list[str]:
    return project.run("python", "-m", "stages.recover").splitlines()


def entries(project: Project) -> list[Path]:
    """Returns the folders of the run cache, each with its entries."""
    return sorted((project.folder / ".dvc/cache/runs").glob("*/*"))


def half_written(name: str, done: str = "removed") -> str:
    return f"{name} was half-written by a killed dvc: {done}"


CHECK = ("python", "-m", "stages.check")
DOWNLOAD = ("dvc", "repro", "--force", "download@digits")
NEWER = "; `dvc repro` takes what is newer from its cache"


def test_after_all_of_data_was_removed_everything_comes_from_the_cache(project: Project) -> None:
    shutil.rmtree(project.folder / "data")
    assert recover(project) == []
    assert project.repro() == set()
    assert (project.folder / "data/models/dense.keras").exists()


def test_what_a_killed_dvc_left_is_mended_and_nothing_runs_again(project: Project) -> None:
    lock, rwlock = project.folder / "dvc.lock", project.folder / ".dvc/tmp/rwlock"
    whole = lock.read_bytes()
    for content in ("", '{"write": {"/a": {"pid": 1, '):
        rwlock.write_text(content)
        assert "corrupted" in project.run("dvc", "repro", "download@digits", fails=True)
        assert recover(project) == [half_written(".dvc/tmp/rwlock")]
    for part in (b"", whole[: whole.index(b"md5", len(whole) // 2) + 2]):
        lock.write_bytes(part)
        printed = project.run(*CHECK, fails=True)
        assert printed.splitlines()[-1] == "To mend this: make mend"
        assert recover(project) == [half_written("dvc.lock", "restored from Git") + NEWER]
        assert lock.read_bytes() == whole
    # An entry of the run cache for what runs next: its folder alone, and with a part of it.
    used = entries(project)
    for folder in used[:2]:
        (folder / ".abcdefghijklmnopqrstuv.tmp").write_text("cmd: exec")
    empty = used[0].with_name("0" * 64)
    empty.mkdir()
    # A dvc.lock that no commit has.
    project.run("git", "rm", "--cached", "--quiet", "dvc.lock")
    lock.write_bytes(b"")
    names = [str(folder.relative_to(project.folder)) for folder in (empty, *used[:2])]
    assert recover(project) == [
        half_written("dvc.lock") + NEWER,
        *(half_written(name) for name in sorted(names)),
    ]
    assert recover(project) == []
    assert project.repro() == set()
    assert lock.read_bytes() == whole


def test_a_dead_dvc_holds_nothing_though_something_has_its_number(project: Project) -> None:
    rwlock = project.folder / ".dvc/tmp/rwlock"
    raw = str(project.folder / "data/raw/digits")

    def hold(number: int, kind: str) -> None:
        holder = {"pid": number, "cmd": "dvc repro"}
        rwlock.write_text(json.dumps({kind: {raw: holder if kind == "write" else [holder]}}))

    with subprocess.Popen(["true"]) as zombie, subprocess.Popen(["sleep", "600"]) as another:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)  # it has ended; nobody asked
        for number in (zombie.pid, another.pid):
            for kind in ("write", "read"):
                hold(number, kind)
                os.utime(rwlock, (0, 0))  # written before the other program started
                if number == zombie.pid:
                    assert "busy" in project.run(*DOWNLOAD, fails=True)
                assert recover(project) == [f".dvc/tmp/rwlock names a dead dvc ({number}): removed"]
        project.run(*DOWNLOAD)
        hold(another.pid, "write")  # now it may be the one that wrote it
        assert recover(project) == []
        assert "another dvc runs a stage here" in project.run(*CHECK, fails=True)
        another.kill()


def test_an_empty_folder_of_the_run_cache_stops_dvc_until_it_is_removed(project: Project) -> None:
    (project.folder / "dvc.lock").unlink()
    folders = entries(project)
    for folder in folders:
        for entry in folder.iterdir():
            entry.unlink()
    assert "'NoneType'" in project.run("dvc", "repro", "download@digits", fails=True)
    assert len(recover(project)) == len(folders)
    assert project.repro("download@digits") == {"download@digits"}


def test_every_part_of_a_dvc_lock_that_stops_dvc_is_mended(
    reproduced: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA

    shutil.copytree(reproduced.folder / ".dvc/tmp", tmp_path / ".dvc/tmp")
    monkeypatch.chdir(tmp_path)
    lines = (reproduced.folder / "dvc.lock").read_bytes().splitlines(keepends=True)
    taken_for_whole = 0
    # Each kind of line, at the start, where the parts are short.
    for count in range(120):
        part = b"".join(lines[:count])
        Path("dvc.lock").write_bytes(part)
        if not mend_state():
            taken_for_whole += 1
            COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(part))
    assert taken_for_whole > 60
    Path("dvc.lock").write_bytes(b"<<<<<<< ours\na: 1\n=======\na: 2\n>>>>>>> theirs\n")
    assert mend_state() == []


def test_nothing_is_touched_while_another_dvc_works(project: Project) -> None:
    lock = project.folder / "dvc.lock"
    lock.write_bytes(b"")
    with (project.folder / ".dvc/tmp/lock").open("r+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert recover(project) == []
        assert lock.read_bytes() == b""
        printed = project.run(*CHECK, fails=True)
    assert "error: another dvc works here: wait for it" in printed
    assert recover(project) == [half_written("dvc.lock", "restored from Git") + NEWER]


def test_no_slow_package_is_loaded_for_it() -> None:
    program = "import stages.recover, sys; print(*{m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert not {"tensorflow", "keras", "numpy", "pandas", "cv2", "dvc_data"} & set(loaded)
