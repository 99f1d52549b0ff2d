"""Photographs as people have them are read right, or refused in a line that says what to do."""

import io
import os
import re
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unicodedata import normalize

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photograph_files import (
    CONTAINERS,
    by_class,
    contents,
    numbers,
    of_classes,
    read_dataset,
    shade,
    write_tree,
    zip_of,
)

from stages.lib import params
from stages.lib.command import UserError
from stages.sources import members
from stages.sources.formats import Format

CATS_AND_DOGS = {"cat": [0, 1, 2], "dog": [3, 4, 5]}


def said_by(folder: Path, *sources: Path, **options: Any) -> str:
    """The message with which a dataset is refused."""
    with pytest.raises(UserError) as error:
        read_dataset(folder, sources, **options)
    return str(error.value)


# What a label is


@pytest.mark.parametrize(
    ("tree", "labels", "expected"),
    [
        (of_classes("cat", "dog"), None, CATS_AND_DOGS),
        (of_classes("PetImages/Cat", "PetImages/Dog"), None, CATS_AND_DOGS),
        (of_classes("data/cat/indoor", "data/dog"), None, CATS_AND_DOGS),
        (of_classes("data/cat/indoor", "data/dog/indoor"), None, CATS_AND_DOGS),
        (of_classes("a/b/c/cat", "a/b/c/dog"), None, CATS_AND_DOGS),
        (of_classes("train\\cat", "train\\dog"), None, CATS_AND_DOGS),
        ({"cat.0.png": 0, "cat.1.png": 1, "dog.7.png": 2}, None, {"cat": [0, 1], "dog": [2]}),
        # Class folders win over names that look like Kaggle's.
        (
            of_classes("ok", "worn", name="cam1.000{number}.png"),
            None,
            {"ok": [0, 1, 2], "worn": [3, 4, 5]},
        ),
        (of_classes("cat", "dog", name="Screenshot at 10.3{number}.png"), None, CATS_AND_DOGS),
        (of_classes("0", "1", "7", each=1), None, {"0": [0], "1": [1], "7": [2]}),
        (of_classes("train", "bus", each=2), "folder", {"bus": [2, 3], "train": [0, 1]}),
        (
            of_classes("day/cat", "day/dog", "night/cat", "night/dog", each=1),
            "folder",
            {"day": [0, 1], "night": [2, 3]},
        ),
        (
            of_classes("batch1", "batch2", name="cat.{number}.png", each=1)
            | {"batch2/dog.9.png": 9},
            "name",
            {"cat": [0, 1], "dog": [9]},
        ),
        (
            {"Abyssinian_12.png": 1, "great_dane_3.png": 2},
            r"(.+)_\d+",
            {"abyssinian": [1], "great_dane": [2]},
        ),
        ({"cat (1).png": 1, "dog (2).png": 2}, r"(\w+) \(\d+\)", {"cat": [1], "dog": [2]}),
    ],
)
def test_the_class_is_what_a_person_would_say(
    tmp_path: Path, tree: dict[str, int], labels: str | None, expected: dict[str, list[int]]
) -> None:
    chosen: dict[str, Any] = {} if labels is None else {"labels": labels}
    found = read_dataset(tmp_path, write_tree(tmp_path / "pets.zip", tree), **chosen)
    assert by_class(found) == expected
    assert found["reasons"] == {}


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (
            of_classes("batch1", name="cat.{number}.png")
            | of_classes("batch2", name="dog.{number}.png"),
            ("'batch1'", "'cat'", "prepare.labels: folder", "prepare.labels: name"),
        ),
        (
            of_classes("day/cat", "day/dog", "night/cat", "night/dog"),
            ("'day'", "'cat'", "prepare.labels: folder"),
        ),
        (of_classes("cat", "dog", "images"), ("'images'", "'cat'", "prepare.labels: folder")),
        (of_classes("images"), ("0.png", "prepare.labels", "folder of its own")),
        ({"a.png": 0, "b.png": 1}, ("a.png", "prepare.labels")),
        ({"Abyssinian_12.png": 0, "beagle_3.png": 1}, ("Abyssinian_12.png", r"'(.+)_\d+'")),
        ({f"cam{n}.000{n}.png": n for n in range(4)}, ("'cam0'", "numbers", "labels: name")),
        (of_classes("train/cat", "test/cat", "extra/cat"), ("extra", "unlabelled")),
    ],
)
def test_where_two_readings_are_possible_or_none_it_says_how_to_choose(
    tmp_path: Path, tree: dict[str, int], words: tuple[str, ...]
) -> None:
    said = said_by(tmp_path, write_tree(tmp_path / "pets.zip", tree))
    for word in words:
        assert word in said
    assert "\n" not in said


def test_the_reading_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_dataset(tmp_path, write_tree(tmp_path / "pets.zip", of_classes("a/cat", "a/dog")))
    assert "the class of a photograph is its folder in a/" in capsys.readouterr().out


def test_a_photograph_beside_the_class_folders_is_broken_with_the_reason(tmp_path: Path) -> None:
    tree = of_classes("top/cat", "top/dog", each=5) | {"top/logo.png": 90, "cover.png": 91}
    found = read_dataset(tmp_path, write_tree(tmp_path / "pets.zip", tree), max_broken=0.2)
    assert by_class(found) == {"cat": [0, 1, 2, 3, 4], "dog": [5, 6, 7, 8, 9]}
    reason = "no class in its folder in top/"
    assert found["reasons"] == {"pets.zip/cover.png": reason, "pets.zip/top/logo.png": reason}


def test_classes_are_renamed_and_merged(tmp_path: Path) -> None:
    tree = of_classes("Dog", "dogs", "cat", "Eel")
    classes = {"Hund": ["dog", "dogs"], "eel": ["Eel"]}
    found = read_dataset(tmp_path, write_tree(tmp_path / "pets.zip", tree), classes=classes)
    assert by_class(found) == {"Hund": [0, 1, 2, 3, 4, 5], "cat": [6, 7, 8], "eel": [9, 10, 11]}


def test_a_class_that_is_not_there_cannot_be_renamed(tmp_path: Path) -> None:
    pets = write_tree(tmp_path / "pets.zip", of_classes("cat", "dog"))
    said = said_by(tmp_path, pets, classes={"hound": ["dogs"]})
    assert "'dogs'" in said
    assert "did you mean 'dog'?" in said


@pytest.mark.parametrize("other", ["Café", normalize("NFD", "café")])
def test_spellings_are_one_class_across_archives_and_an_error_within_one(
    tmp_path: Path, other: str
) -> None:
    first = of_classes("café", "zoo")
    second = {f"{other}/{number}.png": number for number in (20, 21)}
    pair = [
        write_tree(tmp_path / "a.zip", first),
        write_tree(tmp_path / "b.zip", second | {"zoo/9.png": 9}),
    ]
    assert by_class(read_dataset(tmp_path, pair))["café"] == [0, 1, 2, 20, 21]
    together = write_tree(tmp_path / "all.zip", first | second)
    assert "prepare.classes" in said_by(tmp_path / "one", together)
    classes = {"café": sorted({"café", normalize("NFC", other)})}
    found = read_dataset(tmp_path / "two", together, classes=classes)
    assert sorted(by_class(found)["café"]) == [0, 1, 2, 20, 21]


def test_small_and_capital_letters_can_be_two_classes(tmp_path: Path) -> None:
    letters = write_tree(tmp_path / "letters.zip", of_classes("A", "a", "b", each=2))
    found = read_dataset(tmp_path, letters, classes={"A": ["A"], "a": ["a"]})
    assert by_class(found) == {"A": [0, 1], "a": [2, 3], "b": [4, 5]}


# A table of labels

TABLE = b"file,label\n0.png,cat\n1.png,cat\n2.png,dog\n3.png,dog\n"
FLAT = {f"{number}.png": number for number in range(4)}
OF_TABLE = {"cat": [0, 1], "dog": [2, 3]}


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_table_may_lie_in_what_holds_the_photographs(tmp_path: Path, container: str) -> None:
    pets = write_tree(tmp_path / container, FLAT | {"labels.csv": TABLE})
    assert by_class(read_dataset(tmp_path, pets)) == OF_TABLE


@pytest.mark.parametrize(
    ("table", "labels"),
    [
        (TABLE, {"csv": "labels.csv"}),
        (TABLE.replace(b",", b";").replace(b"\n", b"\r\n"), {"csv": "labels.csv"}),
        (TABLE.decode().encode("utf-16"), {"csv": "labels.csv"}),
        (b"\xef\xbb\xbf" + TABLE.replace(b",", b"\t"), {"csv": "labels.csv"}),
        (TABLE.replace(b".png", b""), {"csv": "labels.csv"}),
        (
            TABLE.replace(b"file,label", b"id,breed"),
            {"csv": "labels.csv", "file": "id", "label": "breed"},
        ),
        (
            b'n,label,file\n1,"cat",images\\0.png\n2,cat,./1.png\n3,dog,/data/2.png\n4,dog,3.png\n',
            {"csv": "labels.csv"},
        ),
    ],
)
def test_a_table_beside_the_archive_is_read_as_it_is_written(
    tmp_path: Path, table: bytes, labels: dict[str, str]
) -> None:
    (tmp_path / "labels.csv").write_bytes(table)
    tree = {f"images/{path}": number for path, number in FLAT.items()}
    if b"/data/2.png" in table:
        tree = {"images/0.png": 0, "1.png": 1, "2.png": 2, "images/3.png": 3}
    pets = write_tree(tmp_path / "pets.zip", tree)
    found = read_dataset(tmp_path, [pets, tmp_path / "labels.csv"], labels=labels)
    assert by_class(found) == OF_TABLE


@pytest.mark.parametrize("chosen", [{}, {"labels": {"csv": "labels.csv"}}])
def test_photographs_that_a_table_does_not_name_are_listed(
    tmp_path: Path, chosen: dict[str, Any]
) -> None:
    pets = write_tree(tmp_path / "pets.zip", FLAT | {"9.png": 9, "labels.csv": TABLE})
    found = read_dataset(tmp_path, pets, **chosen)
    assert by_class(found) == OF_TABLE
    assert found["reasons"]["pets.zip/9.png"] == "not in pets.zip/labels.csv"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (TABLE + b"7.png,cat\n8.png,cat\n", ("7.png, 8.png of 6 files not found",)),
        (TABLE + b"0.png,dog\n", ("0.png is both 'cat' and 'dog'",)),
        (TABLE + b"a/0.png,dog\n", ("0.png is both",)),
        (TABLE + b"0.png\n", ("row 6", "1 fields, expected 2")),
        (TABLE + b"0.png,\n", ("row 6", "no label")),
        (TABLE.replace(b"label", b"lable"), ("'label'", "did you mean 'lable'?")),
        (b"", ("no column 'file'",)),
        (TABLE.replace(b"2.png,dog", b'2.png,"dog'), ("no table",)),
        (
            TABLE.replace(b"file,label", b"file,label,label").replace(b"\n", b",x\n"),
            ("comes twice",),
        ),
        (TABLE + "é.png,chat\n".encode("latin-1"), ("not in UTF-8", "prepare.encoding")),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    tmp_path: Path, table: bytes, words: tuple[str, ...]
) -> None:
    pets = write_tree(tmp_path / "pets.zip", FLAT | {"labels.csv": table})
    said = said_by(tmp_path, pets, labels={"csv": "labels.csv"})
    for word in ("labels.csv", *words):
        assert word in said


def test_a_table_that_names_nothing_of_a_given_part_is_refused(tmp_path: Path) -> None:
    tree = {"train/1.png": 1, "train/2.png": 2, "val/3.png": 3, "val/4.png": 4}
    table = b"file,label\n1.png,cat\n2.png,dog\n"
    pets = write_tree(tmp_path / "pets.zip", tree | {"labels.csv": table})
    said = said_by(tmp_path, pets, labels={"csv": "labels.csv"})
    assert "no photograph of the valid part has a class" in said


def test_a_validation_part_without_classes_is_refused_however_few_are_in_it(tmp_path: Path) -> None:
    tree = of_classes("train/cat", "train/dog", each=10) | {"valid/1.png": 60}
    said = said_by(tmp_path, write_tree(tmp_path / "pets.zip", tree))
    assert "no photograph of the valid part has a class in its folder" in said


def test_a_name_in_a_table_that_fits_two_photographs_is_refused(tmp_path: Path) -> None:
    tree: dict[str, Any] = {"a/1.png": 1, "b/1.png": 2}
    tree["labels.csv"] = b"file,label\n1.png,cat\n"
    said = said_by(tmp_path, write_tree(tmp_path / "pets.zip", tree), labels={"csv": "labels.csv"})
    assert "1.png fits a/1.png and b/1.png" in said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_folders_and_a_table_that_disagree_are_refused(tmp_path: Path, encoding: str) -> None:
    rows = ["file,label", *(f"{number}.png,x{number % 2}" for number in range(6))]
    tree = of_classes("cat", "dog") | {"labels.csv": "\n".join(rows).encode(encoding)}
    said = said_by(tmp_path, write_tree(tmp_path / "pets.zip", tree))
    assert "prepare.labels: {csv: labels.csv}" in said
    assert "prepare.labels: folder" in said


# Given parts, and photographs without labels


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        ("train", "valid", "test"),
        ("data/Train", "data/Val", "data/Test"),
        ("x/training_set", "x/validation_set", "x/test_set"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
        ("training", "dev", "testing"),
    ],
)
def test_given_parts_are_kept(tmp_path: Path, train: str, valid: str, test: str) -> None:
    folders = [f"{part}/{name}" for part in (train, valid, test) for name in ("cat", "dog")]
    tree = of_classes(*folders, each=2, name="{number}.png")
    found = read_dataset(tmp_path, write_tree(tmp_path / "pets.zip", tree))
    assert by_class(found) == {"cat": [0, 1], "dog": [2, 3]}
    assert by_class(found, "valid_") == {"cat": [4, 5], "dog": [6, 7]}
    assert by_class(found, "test_") == {"cat": [8, 9], "dog": [10, 11]}


def test_parts_may_stand_below_the_classes_or_name_the_archives(tmp_path: Path) -> None:
    below = of_classes("cat/train", "cat/test", "dog/train", "dog/test", each=1)
    found = read_dataset(tmp_path, write_tree(tmp_path / "pets.zip", below))
    assert (by_class(found), by_class(found, "test_")) == (
        {"cat": [0], "dog": [2]},
        {"cat": [1], "dog": [3]},
    )
    train = write_tree(tmp_path / "train.zip", of_classes("cat", "dog"))
    test = write_tree(tmp_path / "test.tar", {"cat/a.png": 30, "dog/b.png": 31})
    found = read_dataset(tmp_path / "two", [train, test])
    assert (by_class(found), by_class(found, "test_")) == (
        CATS_AND_DOGS,
        {"cat": [30], "dog": [31]},
    )


def test_a_test_part_of_one_class_keeps_it_though_its_folder_is_written_otherwise(
    tmp_path: Path,
) -> None:
    train = write_tree(tmp_path / "train.zip", of_classes("cat", "dog"))
    test = write_tree(tmp_path / "test.zip", {"Cat/1.png": 30, "Cat/2.png": 31})
    found = read_dataset(tmp_path, [train, test])
    assert by_class(found, "test_") == {"cat": [30, 31]}
    assert len(found["unlabelled_names"]) == 0


@pytest.mark.parametrize(
    "folder", ["test1", "test", "single_prediction", "test/unknown", "seg_pred/seg_pred"]
)
@pytest.mark.parametrize("labelled", ["train/{kind}.{turn}.png", "train/{kind}/{turn}.png"])
def test_photographs_without_labels_are_no_class(
    tmp_path: Path, folder: str, labelled: str
) -> None:
    tree: dict[str, Any] = {
        labelled.format(kind=kind, turn=turn): first + turn
        for kind, first in (("cat", 0), ("dog", 3))
        for turn in range(3)
    }
    tree |= {f"{folder}/{number}.png": 50 + number for number in (10, 9)}
    tree |= {f"__MACOSX/{folder}/._{number}.png": b"\0\5\x16\7" for number in (10, 9)}
    found = read_dataset(tmp_path, write_tree(tmp_path / "any name.zip", tree))
    assert by_class(found) == CATS_AND_DOGS
    assert numbers(found["unlabelled_images"]) == [59, 60]
    assert found["unlabelled_names"].tolist() == ["9", "10"]


def test_more_folders_without_labels_can_be_named(tmp_path: Path) -> None:
    tree = of_classes("cat", "dog") | {"new/photos/1.png": 40, "new/photos/2.png": 41}
    pets = write_tree(tmp_path / "pets.zip", tree)
    found = read_dataset(tmp_path, pets, unlabelled=["new/photos"])
    assert by_class(found) == CATS_AND_DOGS
    assert numbers(found["unlabelled_images"]) == [40, 41]
    assert "'newer'" in said_by(tmp_path / "no", pets, unlabelled=["newer"])


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_download_calls_unlabelled_is_so_whatever_is_in_it(
    tmp_path: Path, container: str
) -> None:
    pets = write_tree(tmp_path / "labelled.zip", of_classes("cat", "dog"))
    more = write_tree(tmp_path / container, {"cat/1.png": 40, "dog/1.png": 41, "dog/2.png": 42})
    found = read_dataset(tmp_path, pets, more)
    assert by_class(found) == CATS_AND_DOGS
    # Where stems repeat, the path is the id.
    assert found["unlabelled_names"].tolist() == ["cat/1.png", "dog/1.png", "2"]


def test_a_stem_that_is_the_path_of_another_photograph_is_no_id(tmp_path: Path) -> None:
    pets = write_tree(tmp_path / "labelled.zip", of_classes("cat", "dog"))
    more = write_tree(tmp_path / "more.zip", {"x.png": 40, "in/x.png": 41, "x.png.png": 42})
    found = read_dataset(tmp_path, pets, more)
    assert found["unlabelled_names"].tolist() == ["in/x.png", "x.png", "x.png.png"]


def test_two_photographs_without_labels_of_one_path_are_refused(tmp_path: Path) -> None:
    pets = write_tree(tmp_path / "labelled.zip", of_classes("cat", "dog"))
    more = write_tree(tmp_path / "more.zip", {"1.png": 40, "2.png": 41})
    with zipfile.ZipFile(more, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("1.png", archive.read("2.png"))
    expected = "/1.png: 2 photographs without labels have this name"
    assert expected in said_by(tmp_path / "in", pets, to_predict=more)


# Containers


def test_a_bundle_of_archives_is_opened(tmp_path: Path) -> None:
    train = zip_of(
        {f"train/{kind}.{n}.png": n + at for at, kind in ((0, "cat"), (3, "dog")) for n in range(3)}
    )
    tar = write_tree(tmp_path / "test1.tar.gz", {"1.png": 40, "2.png": 41}).read_bytes()
    bundle = write_tree(
        tmp_path / "dogs-vs-cats.zip",
        {"train.zip": train, "test1.tar.gz": tar, "sampleSubmission.csv": b"id,label\n1,0\n"},
    )
    found = read_dataset(tmp_path, bundle)
    assert by_class(found) == CATS_AND_DOGS
    assert numbers(found["unlabelled_images"]) == [40, 41]
    assert found["reasons"] == {"dogs-vs-cats.zip/sampleSubmission.csv": "no photograph"}


def test_a_tar_of_many_archives_is_opened(tmp_path: Path) -> None:
    """ImageNet's comes as 1,000 tars in a tar: more than a process may have open."""
    inner = {
        f"{kind}.zip": zip_of({f"{kind}/a.png": number}) for number, kind in enumerate("abcde")
    }
    found = read_dataset(tmp_path, write_tree(tmp_path / "all.tar.xz", inner))
    assert by_class(found) == {kind: [number] for number, kind in enumerate("abcde")}


def test_archives_within_archives_within_archives_are_refused(tmp_path: Path) -> None:
    innermost = zip_of({"cat/1.png": 1, "dog/1.png": 2})
    tree = {"outer/inner.zip": zip_of({"innermost.zip": innermost})}
    said = said_by(tmp_path, write_tree(tmp_path / "pets.tar", tree))
    assert "outer/inner.zip" in said
    assert "unpack" in said


@pytest.mark.parametrize("container", CONTAINERS)
def test_an_archive_among_photographs_is_refused_and_both_are_named(
    tmp_path: Path, container: str
) -> None:
    tree = of_classes("cat", "dog") | {"more.zip": zip_of(of_classes("eel"))}
    said = said_by(tmp_path, write_tree(tmp_path / container, tree))
    assert "more.zip" in said
    assert "cat/0.png" in said


def test_a_folder_is_packed_without_dates_or_hidden_files(tmp_path: Path) -> None:
    tree = of_classes("cat", "dog") | {".git/config": b"", "cat/.DS_Store": b"", "note.txt": b"a"}
    packed = []
    for turn, name in enumerate(("one", "two")):
        pets = write_tree(tmp_path / name / "pets", dict(sorted(tree.items(), reverse=turn == 1)))
        os.utime(pets / "cat/0.png", (turn * 1e8, turn * 1e8))
        (pets / "cat/1.png").chmod(0o600 + 0o44 * turn)
        read_dataset(tmp_path / name, pets)
        packed.append((tmp_path / name / "data/raw/pets/pets.zip").read_bytes())
    assert packed[0] == packed[1]
    with zipfile.ZipFile(tmp_path / "one/data/raw/pets/pets.zip") as archive:
        assert archive.namelist() == sorted(name for name in tree if "/." not in f"/{name}")
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("container", CONTAINERS)
def test_hidden_and_system_folders_are_passed_over_at_any_depth(
    tmp_path: Path, container: str
) -> None:
    hidden = ["cat/.ipynb_checkpoints", ".thumbnails/cat", "dog/@eaDir/x", "__MACOSX/cat"]
    hidden += ("$RECYCLE.BIN", ".Trash-1000/files/dog", "cat/sub/System Volume Information")
    tree = of_classes("cat", "dog") | {f"{folder}/9.png": 9 for folder in hidden}
    found = read_dataset(tmp_path, write_tree(tmp_path / container, tree))
    assert by_class(found) == CATS_AND_DOGS


@pytest.mark.parametrize("container", ["pets.zip", "pets.tar", "pets.tar.gz"])
def test_names_that_lead_elsewhere_are_refused_and_listed(tmp_path: Path, container: str) -> None:
    evil = {"../../evil.png": 90, "/etc/evil.png": 91, "C:\\evil.png": 92, "cat/../../e.png": 93}
    pets = write_tree(tmp_path / container, of_classes("cat", "dog", each=20) | evil)
    found = read_dataset(tmp_path, pets)
    assert sorted(by_class(found)) == ["cat", "dog"]
    assert len(found["images"]) == 40
    assert sorted(found["reasons"].values()) == [
        *("its name is absolute", "its name is absolute"),
        *("its name leads out of the archive", "its name leads out of the archive"),
    ]
    assert "evil" in said_by(tmp_path / "strict", pets, max_broken=0)


@pytest.mark.parametrize("container", ["pets", "pets.zip", "pets.tar", "pets.tar.gz"])
def test_links_are_refused_and_listed(tmp_path: Path, container: str) -> None:
    tree = of_classes("cat", "dog", each=10)
    path = write_tree(tmp_path / container, tree)
    if container == "pets":
        (path / "cat/link.png").symlink_to("0.png")
    elif container == "pets.zip":
        with zipfile.ZipFile(path, "a") as archive:
            entry = zipfile.ZipInfo("cat/link.png")
            entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "0.png")
    else:
        mode: Any = "w:gz" if container.endswith("gz") else "w"
        with tarfile.open(path, mode) as tar:
            for name, content in contents(tree).items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            member = tarfile.TarInfo("cat/link.png")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    found = read_dataset(tmp_path, path)
    assert len(found["images"]) == 20
    assert list(found["reasons"].values()) == ["a link"]


@pytest.mark.parametrize("container", ["pets.zip", "pets.tar"])
def test_names_that_are_not_utf8_are_read_by_the_stated_encoding(
    tmp_path: Path, container: str
) -> None:
    path = tmp_path / container
    if container == "pets.zip":
        # As old Windows programs write them: without the flag for UTF-8.
        path.write_bytes(zip_of(of_classes("kat", "dog")).replace(b"kat/", b"k\x84t/"))
    else:
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="cp437") as tar:
            for name, content in contents(of_classes("kät", "dog")).items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    said = said_by(tmp_path / "no", path)
    assert "prepare.encoding" in said
    assert "not UTF-8" in said
    found = read_dataset(tmp_path, path, encoding="cp437")
    assert by_class(found) == {"dog": [3, 4, 5], "kät": [0, 1, 2]}


@pytest.mark.parametrize(
    ("start", "word"),
    [
        (b"7z\xbc\xaf\x27\x1c\0\4", "7z"),
        (b"Rar!\x1a\7\1\0", "rar"),
        (b"\x28\xb5\x2f\xfd\4\0", "Zstandard"),
        (b"<html>sign in</html>", "a web page"),
        (b"", "an empty file"),
        (b"PK\3\4 and no more", "cut off or damaged"),
        (b"\x1f\x8b and no more", "cut off or damaged"),
        (b"\xff\xd8\xff\xe0", "ff d8 ff e0"),
    ],
)
def test_what_is_no_archive_is_refused_by_name(tmp_path: Path, start: bytes, word: str) -> None:
    (tmp_path / "pets.zip").write_bytes(start)
    said = said_by(tmp_path, tmp_path / "pets.zip")
    assert word in said
    assert str(tmp_path / "pets.zip") in said
    assert "data/raw" not in said


@pytest.mark.parametrize("container", ["pets.zip", "pets.tar", "pets.tar.gz", "pets.tar.xz"])
@pytest.mark.parametrize("share", [0.3, 0.6])  # a tar ends with zeros
def test_an_archive_that_is_cut_off_is_never_read_in_part(
    tmp_path: Path, container: str, share: float
) -> None:
    path = write_tree(tmp_path / container, of_classes("cat", "dog", each=8))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "cut off or damaged" in said_by(tmp_path, path)


def test_a_damaged_header_is_not_the_end_of_a_tar(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "pets.tar", of_classes("cat", "dog", each=5))
    content = bytearray(path.read_bytes())
    content[content.index(b"dog/7.png") + 110] ^= 255
    path.write_bytes(content)
    assert "damaged" in said_by(tmp_path, path)


METHODS = {"deflate": 8, "bzip2": 12, "lzma": 14}


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_member_is_one_broken_file(tmp_path: Path, method: str) -> None:
    tree = of_classes("cat", "dog", each=20)
    content = bytearray(zip_of(tree, METHODS[method]))
    place = content.index(b"cat/3.png") + 60
    content[place : place + 40] = bytes(40)
    (tmp_path / "pets.zip").write_bytes(content)
    found = read_dataset(tmp_path, tmp_path / "pets.zip")
    assert found["reasons"] == {"pets.zip/cat/3.png": "damaged in its archive"}
    assert len(found["images"]) == 39


@pytest.mark.parametrize(
    ("flags", "method", "reason"),
    [
        (1, 0, "encrypted: pack it without a password"),
        (0, 9, "compressed with Deflate64, which is not read: pack it anew"),
        (0, 97, "compressed with a rare method, which is not read: pack it anew"),
    ],
)
def test_what_cannot_be_read_for_its_packing_says_so(
    tmp_path: Path, flags: int, method: int, reason: str
) -> None:
    content = bytearray(zip_of(of_classes("cat", "dog", each=20)))
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = content.index(signature)
        content[place + at] |= flags
        content[place + at + 2] = method
    (tmp_path / "pets.zip").write_bytes(content)
    found = read_dataset(tmp_path, tmp_path / "pets.zip")
    assert found["reasons"] == {"pets.zip/cat/0.png": reason}


def test_a_file_larger_than_the_bound_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "MAX_FILE", 1 << 20)
    tree = of_classes("cat", "dog", each=20)
    content = zip_of(tree | {"cat/zeros.png": bytes(3 << 20)}, zipfile.ZIP_DEFLATED)
    (tmp_path / "pets.zip").write_bytes(content)
    found = read_dataset(tmp_path, tmp_path / "pets.zip")
    assert found["reasons"] == {"pets.zip/cat/zeros.png": "larger than 1 MiB"}


def test_what_is_read_otherwise_than_it_is_stored_is_noted(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 4096, (16, 16, 3), np.uint16)
    tree = of_classes("cat", "dog") | {"cat/12 bits.png": cv2.imencode(".png", deep)[1].tobytes()}
    found = read_dataset(tmp_path, write_tree(tmp_path / "pets.tar", tree))
    assert found["notes"] == [
        {
            "file": "pets.tar/cat/12 bits.png",
            "note": f"16-bit values up to {deep.max():,}: read as 12 bits",
        }
    ]
    assert found["images"].max() > 200


def test_a_class_that_loses_much_fails_the_stage_though_the_whole_does_not(tmp_path: Path) -> None:
    tree = of_classes("cat", each=40) | {f"dog/{n}.webp": b"RIFF" for n in range(1, 3)}
    tree |= {f"dog/{n}.png": n for n in range(50, 52)}
    said = said_by(tmp_path, write_tree(tmp_path / "pets.zip", tree))
    assert "2 of 4 photographs of the class 'dog'" in said


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"labels": "fodler"}, "labels: expected folder, name, a pattern with one group"),
        ({"labels": "(a)(b)"}, "labels: expected folder, name, a pattern with one group"),
        ({"labels": "(a"}, "labels: expected a pattern"),
        ({"labels": {"csv": "a.csv", "fil": "x"}}, "labels.fil: unknown key"),
        ({"encoding": "utf-9"}, "encoding: expected an encoding"),
        ({"classes": {"a": ["x"], "b": ["x"]}}, "classes: expected each name once"),
        ({"duplicates": "remove"}, "duplicates: expected 'drop' or 'keep'"),
    ],
)
def test_a_wrong_option_is_named(option: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        params.check("datasets.pets.prepare", {"format": "photos", **option}, Format)
    assert said in str(error.value)


# What public datasets and their users do


@pytest.mark.parametrize(
    ("folders", "train", "test"),
    [
        ("pets_train/pets_train/{}", {"cat": [0], "dog": [1]}, {"cat": [2], "dog": [3]}),
        ("train data/{}", {"cat": [0], "dog": [1]}, {"cat": [2], "dog": [3]}),
        ("test/train/{}", {"cat": [0], "dog": [1]}, {"cat": [2], "dog": [3]}),
        ("pets-train /{}", {"cat": [0], "dog": [1]}, {"cat": [2], "dog": [3]}),
    ],
)
def test_parts_are_known_in_longer_names_and_below_a_folder_of_such_a_name(
    tmp_path: Path, folders: str, train: dict[str, list[int]], test: dict[str, list[int]]
) -> None:
    other = "/".join(
        part if part == "test" else part.replace("train", "test") for part in folders.split("/")
    )
    paths = [way.format(name) for way in (folders, other) for name in ("cat", "dog")]
    found = read_dataset(tmp_path, write_tree(tmp_path / "pets.zip", of_classes(*paths, each=1)))
    assert (by_class(found), by_class(found, "test_")) == (train, test)


@pytest.mark.parametrize(
    "names",
    [
        ("food-train.zip", "food-test.zip"),
        ("train.zip", "test (1).zip"),
        ("a/train.zip", "b/train.zip", "a/test.zip"),
    ],
)
def test_archives_may_have_the_names_of_parts_too(tmp_path: Path, names: tuple[str, ...]) -> None:
    archives = [
        write_tree(tmp_path / name, {f"cat/{at}.png": 2 * at, f"dog/{at}.png": 2 * at + 1})
        for at, name in enumerate(names)
    ]
    found = read_dataset(tmp_path, archives)
    last = 2 * (len(names) - 1)
    assert by_class(found, "test_") == {"cat": [last], "dog": [last + 1]}
    assert len(found["images"]) == last


def test_a_folder_of_folders_of_archives_is_the_same_as_their_zip(tmp_path: Path) -> None:
    tree = {
        f"{part}/{kind}.zip": zip_of({f"{kind}/{part}.png": number})
        for number, (part, kind) in enumerate(
            (part, kind) for part in ("train", "test") for kind in ("cat", "dog")
        )
    }
    for container in ("pets", "pets.zip", "pets.tar.gz"):
        folder = tmp_path / container.replace(".", "-")
        found = read_dataset(folder, write_tree(folder / container, tree))
        assert by_class(found) == {"cat": [0], "dog": [1]}
        assert by_class(found, "test_") == {"cat": [2], "dog": [3]}


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (of_classes("X_images_part_1", "X_images_part_2"), ("X_images_part_1", "labels: folder")),
        (of_classes("100CANON", "101CANON"), ("100CANON", "labels: folder")),
        (of_classes("2023-01-01", "2023-02-01"), ("2023-01-01", "labels: folder")),
        (of_classes("original", "resized"), ("'original'", "labels: folder")),
        (of_classes("daisy", "rose", "flowers/daisy", "flowers/rose"), ("'flowers'", "daisy")),
        (
            {
                f"images/{kind}_{n}.png": 10 * at + n
                for n in range(3)
                for at, kind in enumerate("ab")
            }
            | {
                f"masks/{kind}_{n}.png": 50 + 10 * at + n
                for n in range(3)
                for at, kind in enumerate("ab")
            },
            ("'masks'", "masks of the other photographs", "unlabelled: [masks]"),
        ),
        (
            of_classes("benign", "malign") | {"benign/0_mask.png": 50, "benign/1_mask.png": 51},
            ("'benign'", "masks beside photographs"),
        ),
        (
            of_classes("cat/test1", "cat/in", "dog/test1", "dog/in"),
            ("'test1'", "cat", "prepare.unlabelled"),
        ),
        (
            of_classes("cat", "dog") | {"seen.csv": b"file,label\ncat/0.png,cat\ndog/3.png,dog\n"},
            ("seen.csv does not name", "labels: folder"),
        ),
        (
            of_classes("cat", "dog") | {f"bird/{n}.svg": b"<svg></svg>" for n in range(3)},
            ("bird/0.svg (SVG",),
        ),
    ],
)
def test_what_is_no_class_is_asked_for(
    tmp_path: Path, tree: dict[str, Any], words: tuple[str, ...]
) -> None:
    said = said_by(tmp_path, write_tree(tmp_path / "pets.zip", tree))
    for word in words:
        assert word in said


def test_archives_with_different_folders_above_the_classes_are_asked_for(tmp_path: Path) -> None:
    first = write_tree(tmp_path / "a.zip", of_classes("mine/cat", "mine/dog"))
    second = write_tree(tmp_path / "b.zip", of_classes("cat", "eel"))
    assert "'mine'" in said_by(tmp_path, first, second)
    same_top = write_tree(tmp_path / "c.zip", {"mine/eel/9.png": 9})
    found = read_dataset(tmp_path / "ok", [first, same_top])
    assert by_class(found) == CATS_AND_DOGS | {"eel": [9]}


@pytest.mark.parametrize("container", ["pets.zip", "pets.tar", "pets.tar.gz"])
def test_archives_that_were_joined_are_not_read_in_part(tmp_path: Path, container: str) -> None:
    first = write_tree(tmp_path / container, of_classes("cat", "dog")).read_bytes()
    second = write_tree(tmp_path / container, of_classes("eel", "fox")).read_bytes()
    (tmp_path / container).write_bytes(first + second)
    assert "other data stand" in said_by(tmp_path, tmp_path / container)


def test_of_a_file_that_was_added_to_a_tar_again_the_last_is_taken(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "pets.tar", of_classes("cat", "dog"))
    with tarfile.open(path, "a") as tar:
        content = shade(77)
        member = tarfile.TarInfo("cat/0.png")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    assert by_class(read_dataset(tmp_path, path))["cat"] == [77, 1, 2]


def test_a_link_to_a_folder_is_an_error(tmp_path: Path) -> None:
    pets = write_tree(tmp_path / "pets", of_classes("cat", "eel"))
    (tmp_path / "elsewhere").mkdir()
    (pets / "dog").symlink_to(tmp_path / "elsewhere")
    assert "pets/dog is a link to a folder" in said_by(tmp_path, pets)


def test_a_name_in_utf8_beside_the_stored_one_is_taken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for number, kind in enumerate("猫犬"):
            entry = zipfile.ZipInfo(f"{'?' * (number + 1)}/1.png")
            name, stored = f"{kind}/1.png".encode(), entry.filename.encode()
            field = b"\1" + struct.pack("<I", zlib.crc32(stored)) + name
            entry.extra = struct.pack("<HH", 0x7075, len(field)) + field
            archive.writestr(entry, shade(number))
    assert by_class(read_dataset(tmp_path, tmp_path / "pets.zip")) == {"猫": [0], "犬": [1]}


def test_a_new_name_that_differs_from_a_class_by_case_is_asked_for(tmp_path: Path) -> None:
    pets = write_tree(tmp_path / "pets.zip", of_classes("dog", "dogs", "cat"))
    said = said_by(tmp_path, pets, classes={"Dog": ["dogs"]})
    assert "'Dog'" in said
    assert "'dog'" in said


# Damage of any kind


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Changes a file as disks, networks and people do."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        start, length = int(rng.integers(len(data))), int(rng.integers(1, 40))
        kind = rng.integers(5)
        if kind == 0:
            data[start] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[start : start + length] = rng.bytes(min(length, len(data) - start))
        elif kind == 2:
            del data[start : start + length]
        elif kind == 3:
            data[start:start] = rng.bytes(length)
        else:
            data = data[: max(start, 1)]
    return bytes(data)


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(start, marks=pytest.mark.long) for start in range(50, 1000, 50))]
)
def test_a_mutated_archive_gives_the_photographs_that_were_in_it_or_an_error(
    tmp_path: Path, first: int
) -> None:
    tree = of_classes("cat", "dog", each=4)
    known = {
        name: write_tree(tmp_path / name, tree).read_bytes() for name in CONTAINERS if "." in name
    }
    known["deflated.zip"] = zip_of(tree, zipfile.ZIP_DEFLATED)
    known["bundle.zip"] = zip_of({"inner.zip": zip_of(tree)})
    messages = []
    for seed in range(first, first + 50):
        rng = np.random.default_rng(seed)
        # Every second one is a zip: 500 in all.
        names = sorted(name for name in known if (".zip" in name) == (seed % 2 == 0))
        name = names[seed // 2 % len(names)]
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / name).write_bytes(mutate(known[name], rng))
        started = time.monotonic()
        try:
            found = read_dataset(folder, folder / name, max_broken=1)
        except UserError as error:
            messages.append(str(error))
        else:
            # Nothing in a tar says what a file's bytes were: only decoding can tell.
            seen = [(number, label) for label, some in by_class(found).items() for number in some]
            assert len(seen) == len(set(seen)) <= 8
            if name != "pets.tar":
                assert set(numbers(found["images"])) <= set(range(8))
        assert time.monotonic() - started < 1
    assert messages
    assert not any("\n" in message for message in messages)


# Any tree

NAMES = st.sampled_from(
    [
        *(
            "cat",
            "Cat",
            "dog",
            "train",
            "test",
            "test1",
            "images",
            "data",
            "batch 1",
            "0",
            "1",
            "né",
        ),
        *("a.b", "cat.1", "dog.2", "x_3", ".hidden", "__MACOSX", "$RECYCLE.BIN"),
    ]
)
FILE_NAMES = st.builds(
    "{}{}".format, NAMES, st.sampled_from((".png", ".PNG", ".jpg", ".txt", "", ".jpeg"))
)
PATHS = st.lists(NAMES, max_size=3).flatmap(
    lambda folders: FILE_NAMES.map(lambda name: "/".join([*folders, name]))
)


def distinct(paths: list[str]) -> Iterator[str]:
    """Leaves out a path that is the folder of another, which no folder can hold."""
    for path in paths:
        if not any(other.startswith(f"{path}/") for other in paths):
            yield path


@given(paths=st.lists(PATHS, min_size=2, max_size=8, unique=True))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_tree_gives_the_same_as_folder_zip_and_tar(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str]
) -> None:
    tree = {path: shade(at) for at, path in enumerate(distinct(paths))}
    outcomes = []
    top = tmp_path_factory.mktemp("any")
    for number, container in enumerate(("pets", "pets.zip", "pets.tar", "pets.tar.gz")):
        folder = top / str(number)
        source = write_tree(folder / container, tree)
        try:
            found = read_dataset(folder, source, max_broken=1)
        except UserError as error:
            message = re.sub(
                r"pets\.(zip|tar\.gz|tar)", "pets", str(error).replace(str(folder), "")
            )
            # A folder is packed without its hidden files.
            outcomes.append(re.sub(r"\(\d+ files left out\)", "", message))
        else:
            arrays = {name: found[name].tolist() for name in found if name.endswith("images")}
            labels = {name: found[name].tolist() for name in found if name.endswith("labels")}
            outcomes.append(repr((arrays, labels, found["summary"]["classes"])))
    if "the folder " in outcomes[0]:  # it says so of a folder alone
        assert all(isinstance(outcome, str) for outcome in outcomes)
        return
    assert len(set(outcomes)) == 1, outcomes


def test_arrays_hold_what_was_written(tmp_path: Path) -> None:
    tree = of_classes("cat", "dog")
    found = read_dataset(tmp_path, write_tree(tmp_path / "pets.tar", tree))
    assert numbers(found["images"]) == list(range(6))
    assert found["labels"].dtype == np.uint8
