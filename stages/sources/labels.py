"""The class of each photograph: from its folder, its name, or a table.

One rule, `prepare.labels`. Where it is left out and more than one reading is possible, it is an
error that shows them.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple
from unicodedata import normalize

from stages.lib.command import UserError
from stages.lib.params import nearest
from stages.sources.layouts import STRUCTURE, below_top

# Kaggle's names begin with the class: cat.0.jpg, dog.12499.jpg.
KAGGLE_NAME = re.compile(r"([^.]+)\.\d+\.\w+")

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
    return Reading("folder", words, [names[0].strip() or None if names else None for names in rest])


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


def check_folders(where: str, paths: Sequence[str], folders: Sequence[tuple[str, ...]]) -> None:
    """Raises a `UserError` if it is unclear which folders are the classes.

    Either a folder beside them says how files are stored (`cat`, `images`), or two levels of
    folders are crossed: `day/cat`, `day/dog`, `night/cat`, `night/dog`.
    """
    rest, _ = below_top(folders)
    first = {names[0] for names in rest if names}
    structural = sorted(name for name in first if _plain(name) in STRUCTURE)
    if structural and len(structural) < len(first):
        other = sorted(first - set(structural))[0]
        raise UserError(
            f"{where}: the folder '{structural[0]}' stands beside '{other}': is it a class? Say "
            "`prepare.labels: folder` if it is, or name it under `prepare.unlabelled`"
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
    return len(words - {"part", "batch", "set", "fold", "new", "more", "extra", ""}) > 1


def _ambiguous(where: str, paths: Sequence[str], first: Reading, second: Reading) -> UserError:
    at = _differ(first, second)[0]
    return UserError(
        f"{where}: is the class of {paths[at]} '{first.labels[at]}' ({first.words}) or "
        f"'{second.labels[at]}' ({second.words})? Say `prepare.labels: {first.key}` or "
        f"`prepare.labels: {second.key}`"
    )


def fold(label: str) -> str:
    """Returns a class name in small letters and in one Unicode form (NFC)."""
    return normalize("NFC", label).strip().lower()


def name_classes(
    where: str, labels: Labels, archives: Sequence[str], classes: Mapping[str, Sequence[str]]
) -> Labels:
    """Gives the classes their names: as `classes` says, else in small letters.

    Args:
        where: What holds the photographs, for messages.
        labels: What the photographs' folders, names or table say.
        archives: The archive of each photograph.
        classes: Names of classes, and what is to be called so.

    Raises:
        UserError: `classes` renames what is not there, or one archive has two classes that differ
            by upper and lower case or their Unicode form alone.
    """
    named = {normalize("NFC", old): new for new, olds in classes.items() for old in olds}
    known = {normalize("NFC", label) for label in labels if label}
    for old in named:
        if fold(old) not in map(fold, known):
            match = nearest(old, known)
            hint = f"; did you mean '{match}'?" if match else ""
            raise UserError(
                f"{where}: `prepare.classes` names '{old}', found "
                f"{', '.join(sorted(known)[:10])}{hint}"
            )
    by_fold = {fold(old): new for old, new in named.items()}
    spellings: dict[tuple[str, str], str] = {}
    for label, archive in zip(labels, archives, strict=True):
        if label:
            other = spellings.setdefault((archive, fold(label)), label)
            if other != label and not {normalize("NFC", name) for name in (label, other)} <= set(
                named
            ):
                raise UserError(
                    f"{where}: {archive} has the classes {other!r} and {label!r}, which differ by "
                    "case or Unicode form alone: say in `prepare.classes` which is which, such as "
                    f"{{{fold(label)}: [{other}, {label}]}} if they are one"
                )
    return [
        label and (named.get(normalize("NFC", label)) or by_fold.get(fold(label)) or fold(label))
        for label in labels
    ]
