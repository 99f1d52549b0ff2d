"""Outputs are whole or absent."""

from pathlib import Path

import numpy as np
import pytest

from stages.lib.command import run
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
