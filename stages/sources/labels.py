"""The class of each photograph: from its folder, its name, or a table.

One rule, `prepare.labels`. Where it is left out and more than one reading is possible, it is an
error that shows them.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from stages.lib.command import UserError
from stages.sources.class_names import fold
from stages.sources.layouts import PARTS, STRUCTURE, below_top

# Kaggle's names begin with the class: cat.0.jpg, dog.12499.jpg.
KAGGLE_NAME = re.compile(r"([^.]+)\.\d+\.\w+")

# Words for a share of the files, before a number: `batch_1`, `100CANON`.
STORES = ("part", "batch", "fold", "session", "page", "canon", "day", "chunk", "shard", "folder")

# The class of each photograph; None where this reading gives none.
Labels = list[str | None]


class Reading(NamedTuple):
    """One way to read the classes of photographs.

    Attributes:
        key: What `prepare.labels` says to choose it.
        words: What it goes by, for people.
        labels: What it gives.
        from_table: Whether it is a table's, which need not name every photograph.
    """

    key: str
    words: str
    labels: Labels
    from_table: bool = False


def read_folders(folders: Sequence[tuple[str, ...]]) -> Reading:
    """Reads each class from the first folder that tells classes apart, below any common top."""
    rest, top = below_top(folders)
    words = f"its folder{f' in {top}/' if top else ''}"
    return Reading("folder", words, [_first(names) for names in rest])


def read_folders_by_archive(folders: Sequence[tuple[str, ...]], archives: Sequence[str]) -> Reading:
    """Reads likewise, but below the top of each archive where that has several folders."""
    own: dict[str, list[int]] = defaultdict(list)
    for at, archive in enumerate(archives):
        own[archive].append(at)
    rest = list(folders)
    for places in own.values():
        below, _ = below_top([folders[at] for at in places])
        if len({names[:1] for names in below if names}) > 1:
            for at, names in zip(places, below, strict=True):
                rest[at] = names
    rest, _ = below_top(rest)
    words = "its folder below the top of its archive"
    return Reading("folder", words, [_first(names) for names in rest])


def _first(names: tuple[str, ...]) -> str | None:
    return names[0].strip() or None if names else None


def read_names(paths: Sequence[str]) -> Reading:
    """Reads each class from a name such as Kaggle's `cat.0.jpg`."""
    matches = (KAGGLE_NAME.fullmatch(PurePosixPath(path).name) for path in paths)
    labels = [match[1].strip() or None if match else None for match in matches]
    return Reading("name", "its name, as in cat.0.jpg", labels)


def read_pattern(pattern: str, paths: Sequence[str]) -> Reading:
    """Reads each class from the group of `pattern`, which fits whole names without their suffix."""
    compiled = re.compile(pattern)
    labels: Labels = []
    for path in map(PurePosixPath, paths):
        match = compiled.fullmatch(path.stem) or compiled.fullmatch(path.name)
        labels.append(match[1].strip() or None if match and match[1] else None)
    return Reading(pattern, f"its name, by the pattern {pattern}", labels)


def choose(
    where: str, paths: Sequence[str], folders: Reading, names: Reading, table: Reading | None
) -> Reading:
    """Returns the only possible reading.

    Class folders win over names. Folders that differ by numbers or say how files are stored
    are none, if the names tell classes.

    Args:
        where: What holds the photographs, for messages.
        paths: The photographs' paths.
        folders: What the folders say.
        names: What the names say.
        table: What a table says, if there is one.

    Raises:
        UserError: No reading is possible, or more than one.
    """
    by_folder = len(_classes(folders)) > 1
    if table and by_folder:
        pairs = zip(table.labels, folders.labels, strict=True)
        missing = next((at for at, (own, label) in enumerate(pairs) if label and not own), None)
        if missing is not None:
            raise UserError(
                f"{where}: {table.words} does not name {paths[missing]}, which a class folder "
                f"holds: say `prepare.labels: folder` or `prepare.labels: {table.key}`"
            )
    named = sum(label is not None for label in names.labels)
    by_name = 2 * named >= len(paths) > 0 and (len(_classes(names)) > 1 or not by_folder)
    if table and by_folder and not _agree(table, folders):
        raise _ambiguous(where, paths, table, folders)
    if table:
        return table
    if by_folder and by_name and _differ(folders, names) and not _tell(_classes(folders)):
        raise _ambiguous(where, paths, folders, names)
    if by_folder:
        return folders
    if by_name and len(_classes(names)) > 1 and not _tell(_classes(names)):
        first, second = sorted(_classes(names))[:2]
        raise UserError(
            f"{where}: the names give the classes '{first}', '{second}', ..., which differ by "
            "numbers alone: say `prepare.labels: name` if they are the classes"
        )
    if by_name:
        return names
    example = paths[0] if paths else "none"
    raise UserError(
        f"{where}: neither folders nor names tell classes apart ({example}): put each class into a "
        "folder of its own, or set `prepare.labels` to a pattern such as '(.+)_\\d+' or to a table"
    )


def check_folders(
    where: str,
    paths: Sequence[str],
    folders: Sequence[tuple[str, ...]],
    archives: Sequence[str],
) -> None:
    """Raises a `UserError` if it is unclear which folders are the classes.

    Folders say how files are stored (`images`, `batch_1`, dates, `my_train`); one has a tree of the
    classes again; archives have different tops; or two levels are crossed: `day/cat`, `day/dog`,
    `night/cat`, `night/dog`.
    """
    rest, top = below_top(folders)
    first = {names[0] for names in rest if names}
    stored = [name for name in sorted(first) if _plain(name) in STRUCTURE]
    if stored or _are_stores(first):
        name = [*stored, *sorted(first)][0]
        raise UserError(
            f"{where}: is '{'/'.join(filter(None, (top, name)))}' a class, beside "
            f"'{min(first - {name})}'? Say `prepare.labels: folder` if it is, or name what is none "
            "under `prepare.unlabelled`"
        )
    again = defaultdict[str, set[str]](set)
    for names in rest:
        again[names[0] if names else ""] |= set(names[1:]) & first
    twice = next((name for name, inside in sorted(again.items()) if len(inside) > 1), None)
    if twice:
        raise UserError(
            f"{where}: '{twice}' stands beside the classes and has the folders "
            f"{', '.join(sorted(again[twice])[:3])} too: take it out, or name it under "
            "`prepare.unlabelled`"
        )
    one_by_one = read_folders_by_archive(folders, archives)
    other = [] if top else _differ(read_folders(folders), one_by_one)
    if other:
        outer, inner = rest[other[0]][0], one_by_one.labels[other[0]]
        raise UserError(
            f"{where}: is the class of {paths[other[0]]} '{outer}' or '{inner}'? Say "
            f"`prepare.labels: folder` for '{outer}', or pack all archives with the same folders "
            "above the classes"
        )
    second: dict[str, set[str]] = defaultdict(set)
    for names in rest:
        second[names[1] if len(names) > 1 else ""].add(names[0] if names else "")
    if "" not in second and len(second) > 1 and all(len(above) > 1 for above in second.values()):
        at = next(index for index, names in enumerate(rest) if len(names) > 1)
        outer, inner = rest[at][:2]
        raise UserError(
            f"{where}: is the class of {paths[at]} '{outer}' or '{inner}'? Say `prepare.labels: "
            f"folder` for '{outer}', or name the folders so that the outer one is the class"
        )


def _are_stores(names: set[str]) -> bool:
    """Tells folders that differ by a number, a date or a part and say how files are stored."""
    if all(re.fullmatch(r"\d{4}[-_. ]?\d\d[-_. ]?\d\d", name) for name in names):
        return True
    words = [_plain(name).split("_") for name in names]
    stems = {" ".join(word for word in some if word not in PARTS) for some in words}
    stored = {word for some in words for word in some} & {*STRUCTURE, *STORES}
    return len(stems) == 1 < len(names) and bool(stored)


def _classes(reading: Reading) -> set[str]:
    return {fold(label) for label in reading.labels if label}


def _agree(first: Reading, second: Reading) -> bool:
    """Tells whether two readings part the photographs in the same way, where both say something."""
    pairs = {
        (fold(a), fold(b)) for a, b in zip(first.labels, second.labels, strict=True) if a and b
    }
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def _differ(first: Reading, second: Reading) -> list[int]:
    """Returns the photographs to which two readings give different names."""
    pairs = enumerate(zip(first.labels, second.labels, strict=True))
    return [index for index, (a, b) in pairs if a and b and fold(a) != fold(b)]


def _plain(name: str) -> str:
    """Returns a name without numbers and what joins words: `batch` for `Batch-01`."""
    return re.sub(r"[\W\d_]+", "_", name.lower()).strip("_")


def _tell(classes: set[str]) -> bool:
    """Tells whether names differ by more than numbers and words about storage."""
    words = {"" if (word := _plain(name)) in STRUCTURE else word for name in classes}
    return len(words - {*STORES, "new", "more", "extra", ""}) > 1


def _ambiguous(where: str, paths: Sequence[str], first: Reading, second: Reading) -> UserError:
    at = _differ(first, second)[0]
    return UserError(
        f"{where}: is the class of {paths[at]} '{first.labels[at]}' ({first.words}) or "
        f"'{second.labels[at]}' ({second.words})? Say `prepare.labels: {first.key}` or "
        f"`prepare.labels: {second.key}`"
    )
