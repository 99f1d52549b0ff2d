"""Outputs are whole or absent, and a stage ends with a line for people."""

from pathlib import Path

import numpy as np
import pytest

from stages.lib import command
from stages.lib.command import UserError, run
from stages.lib.files import read_json, write_atomically, write_json


def test_files_and_folders_stand_under_their_names_when_the_block_ends(tmp_path: Path) -> None:
    file, folder = tmp_path / "new/a.txt", tmp_path / "b"
    with write_atomically(file, folder) as (file_part, folder_part):
        file_part.write_text("whole")
        folder_part.mkdir()
        (folder_part / "c.txt").write_text("whole")
        assert not file.exists()
        assert not folder.exists()
    assert file.read_text() == (folder / "c.txt").read_text() == "whole"
    assert {path.name for path in tmp_path.iterdir()} == {"new", "b"}


def test_a_failing_block_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_text("as it was")

    def interrupted() -> None:
        with write_atomically(old, new) as parts:
            for part in parts:
                part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]
    assert old.read_text() == "as it was"


def test_a_folder_replaces_the_one_that_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "stale.png").touch()
    with write_atomically(folder) as [part]:
        part.mkdir()
        (part / "fresh.png").touch()
    assert [path.name for path in folder.iterdir()] == ["fresh.png"]


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with write_atomically(path) as [part]:
        part.touch()
    part.write_text("debris of a killed process")
    with write_atomically(path) as [part]:
        assert not part.exists()
        part.write_text("whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npy"]


def test_json_reads_back(tmp_path: Path) -> None:
    value = {"b": [1, 2.5], "a": "é"}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert list(read_json(tmp_path / "x.json")) == ["b", "a"]


@pytest.mark.parametrize("kind", ["bytes", "array"])
def test_a_full_disk_is_one_line_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def main() -> None:
        with write_atomically(tmp_path / "big.npy") as [part]:
            part.symlink_to("/dev/full")  # the kernel's own full disk
            if kind == "array":
                with part.open("wb") as file:
                    np.save(file, np.zeros(1_000_000))
            else:
                part.write_bytes(b"0" * 1_000_000)

    monkeypatch.setattr("sys.argv", ["stage"])
    with pytest.raises(SystemExit) as ended:
        run(main)
    assert str(ended.value).startswith("error: no space left on the disk")
    assert list(tmp_path.iterdir()) == []


def test_an_error_for_people_ends_the_process_with_its_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def main(name: str) -> None:
        raise UserError(f"no dataset '{name}'")

    monkeypatch.setattr("sys.argv", ["stage", "mnits"])
    with pytest.raises(SystemExit, match="error: no dataset 'mnits'"):
        run(main)


@pytest.mark.parametrize(("given", "found"), [([], "none"), (["mnist", "cats"], "mnist cats")])
def test_a_missing_or_needless_argument_is_named(
    monkeypatch: pytest.MonkeyPatch, given: list[str], found: str
) -> None:
    def main(dataset: str) -> None:
        raise AssertionError(dataset)

    monkeypatch.setattr("sys.argv", ["stage", *given])
    with pytest.raises(SystemExit, match=f"error: expected DATASET, found {found}"):
        run(main)


def test_a_fault_of_the_code_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise FileNotFoundError(2, "No such file", "x")

    monkeypatch.setattr("sys.argv", ["stage"])
    with pytest.raises(FileNotFoundError):
        run(main)


@pytest.mark.parametrize(
    ("parent", "session", "ends"),
    [
        (1, 1, "waits"),  # dvc is process 1
        (1, 77, "exits"),  # init is, and dvc was gone from the start
        (4321, 1, "exits"),  # dvc went later
    ],
)
def test_a_stage_ends_if_its_dvc_is_gone_but_not_if_that_is_process_1_of_a_container(
    monkeypatch: pytest.MonkeyPatch, parent: int, session: int, ends: str
) -> None:
    def end(how: str) -> None:
        raise InterruptedError(how)

    monkeypatch.setattr(command, "PARENT", parent)
    monkeypatch.setattr("os.getppid", lambda: 1)
    monkeypatch.setattr("os.getsid", lambda process: process or session)
    monkeypatch.setattr("time.sleep", lambda _: end("waits"))
    monkeypatch.setattr("os._exit", lambda _: end("exits"))
    with pytest.raises(InterruptedError, match=ends):
        command.end_with_parent()
