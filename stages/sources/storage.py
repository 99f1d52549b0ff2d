"""Storing a user's files in data/raw/D/, under the names that `prepare` expects."""

import filecmp
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from stages.lib.command import UserError
from stages.sources.archives import UNLABELLED, check_zip
from stages.sources.array_files import base_name, is_array_file
from stages.sources.locations import list_files
from stages.sources.transfer import Fetch


def store_unlabelled(location: str | None, folder: Path, fetch: Fetch) -> None:
    """Stores the zip of photographs without labels, if `location` names one.

    Raises:
        UserError: The location is another number of files than one, or no zip of photographs.
    """
    if location is None:
        return
    files = list_files([location])
    if len(files) != 1 or is_array_file(files[0]):
        raise UserError(f"unlabelled: {location}: expected one zip archive, found {len(files)}")
    fetch(files, folder / UNLABELLED)
    check_zip(folder / UNLABELLED, location)


def store_labelled(files: Sequence[str], folder: Path, fetch: Fetch) -> None:
    """Stores zips of labelled photographs, each under a name of its own.

    The Kaggle competition has a zip of unlabelled photographs beside `train.zip`. It is recognised
    by its contents, whatever its name, and stored as the unlabelled ones.

    Raises:
        UserError: A file is no zip of photographs, or none of them has labels.
    """
    for file in files:
        path = _free_path(folder, base_name(file))
        fetch([file], path)
        names = check_zip(path, file)
        if _is_kaggles_unlabelled(names):
            _move_unlabelled(path, folder / UNLABELLED, file)
    if not any(path.name != UNLABELLED for path in folder.iterdir()):
        raise UserError(f"{files[0]}: its photographs have no labels: expected train.zip beside it")


def _free_path(folder: Path, name: str) -> Path:
    stem = re.sub(r"\.zip$", "", name, flags=re.IGNORECASE) or "photographs"
    # `write_atomically` gives unfinished files the suffix .part, and DVC ignores those.
    stem = re.sub(r"\.part(?=\.|$)", "-part", stem)
    if f"{stem}.zip".casefold() == UNLABELLED:
        stem = f"labelled-{stem}"
    # Some file systems do not tell upper case from lower: compare without case.
    taken = {path.name.casefold() for path in folder.iterdir()}
    free = f"{stem}.zip"
    for number in itertools.count(2):
        if free.casefold() not in taken:
            break
        free = f"{stem}-{number}.zip"
    return folder / free


def _is_kaggles_unlabelled(names: Sequence[str]) -> bool:
    return bool(names) and all(re.fullmatch(r"test1/(\d+\.jpg)?", name) for name in names)


def _move_unlabelled(path: Path, target: Path, location: str) -> None:
    if not target.exists():
        path.rename(target)
    elif filecmp.cmp(path, target, shallow=False):
        path.unlink()
    else:
        raise UserError(
            f"{location} holds unlabelled photographs (test1/1.jpg ..), and `unlabelled` names "
            "others: leave one of them out"
        )
