"""Storing a user's files in data/raw/D/, under the names that `prepare` expects."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

from stages.lib.command import UserError
from stages.sources.archives import UNLABELLED, check_archive
from stages.sources.array_files import base_name, is_array_file
from stages.sources.locations import is_table, list_files
from stages.sources.names import without_archive_suffix
from stages.sources.packing import pack
from stages.sources.transfer import Fetch, is_url


def store_unlabelled(location: str | None, folder: Path, fetch: Fetch) -> None:
    """Stores the photographs without labels, if `location` names any, as the archive `test1`.

    Raises:
        UserError: The location is another number of archives than one.
    """
    if location is None:
        return
    files = list_files([location])
    if len(files) != 1 or is_table(files[0]) or is_array_file(files[0]):
        raise UserError(
            f"unlabelled: {location}: expected one archive or a folder of photographs, found "
            f"{len(files)} files"
        )
    _store(files[0], folder, PurePath(UNLABELLED).stem, fetch)


def store_labelled(files: Sequence[str], folder: Path, fetch: Fetch) -> None:
    """Stores archives of photographs, each under a name of its own, and tables of their labels.

    What is a folder is packed into a zip archive. Archives stay as they are.

    Raises:
        UserError: A file is neither archive nor table, or there is no archive.
    """
    for file in files:
        name = base_name(file)
        if is_table(file):
            fetch([file], _free_path(folder, PurePath(name).stem, PurePath(name).suffix.lower()))
            continue
        stem = without_archive_suffix(name) or "photographs"
        # `prepare` takes an archive of this name for the unlabelled ones.
        if stem.casefold() == PurePath(UNLABELLED).stem:
            stem = f"labelled-{stem}"
        _store(file, folder, stem, fetch)
    if all(is_table(path.name) for path in folder.iterdir()):
        raise UserError(f"{files[0]}: a table of labels, expected an archive or a folder beside it")


def _store(location: str, folder: Path, stem: str, fetch: Fetch) -> None:
    """Stores an archive under the suffix of its kind, or packs a folder."""
    with TemporaryDirectory(dir=folder, prefix="arriving-") as temporary:
        path = Path(temporary, base_name(location) or stem)
        if not is_url(location) and Path(location).expanduser().is_dir():
            pack(Path(location).expanduser(), path)
        else:
            fetch([location], path)
        path.rename(_free_path(folder, stem, check_archive(path, location)))


def _free_path(folder: Path, stem: str, suffix: str) -> Path:
    # `write_atomically` gives unfinished files the suffix .part, and DVC ignores those.
    stem = re.sub(r"\.part(?=\.|$)", "-part", stem)
    # Some file systems do not tell upper case from lower: compare without case.
    taken = {path.name.casefold() for path in folder.iterdir()}
    free = f"{stem}{suffix}"
    for number in itertools.count(2):
        if free.casefold() not in taken:
            break
        free = f"{stem}-{number}{suffix}"
    return folder / free
