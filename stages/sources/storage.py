"""Storing a user's files in data/raw/D/, under the names that `prepare` expects."""

import filecmp
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from stages.lib.command import UserError
from stages.sources.archives import UNLABELLED, check_zip
from stages.sources.idx import GZIP_MAGIC, IDX_NAMES, read_idx, write_idx
from stages.sources.locations import file_name, idx_name, list_files
from stages.sources.transfer import Fetch


def store_idx(files: Sequence[str], folder: Path, fetch: Fetch) -> None:
    """Stores the four IDX files under their original names, and compresses those that are plain.

    Raises:
        UserError: A file is missing, is damaged, comes twice or is another.
    """
    by_name: dict[str, str] = {}
    for file in files:
        name = idx_name(file)
        if name is None or name in by_name:
            other = by_name.get(name or "", "the IDX files")
            raise UserError(f"{file} does not go with {other}: expected the four IDX files alone")
        by_name[name] = file
    missing = [name for name in IDX_NAMES if name not in by_name]
    if missing:
        raise UserError(f"the source has no {', '.join(missing)} (with or without .gz)")
    for name in IDX_NAMES:
        path = folder / name
        fetch([by_name[name]], path)
        try:
            array = read_idx(path)
        except UserError as error:
            # Name the user's file, not its copy.
            raise UserError(str(error).replace(str(path), by_name[name])) from None
        with path.open("rb") as stored:
            compressed = stored.read(2) == GZIP_MAGIC
        if not compressed:
            write_idx(path, array)


def store_unlabelled(location: str | None, folder: Path, fetch: Fetch) -> None:
    """Stores the zip of photographs without labels, if `location` names one.

    Raises:
        UserError: The location is another number of files than one, or no zip of photographs.
    """
    if location is None:
        return
    files = list_files([location])
    if len(files) != 1 or idx_name(files[0]):
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
        path = _free_path(folder, file_name(file))
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
