"""The photographs in a dataset's archives: which they are, their classes and parts, their order."""

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from stages.lib.command import UserError
from stages.lib.files import natural_key
from stages.sources import label_tables, labels
from stages.sources.arrays import LeftOut
from stages.sources.class_names import fold, name_classes
from stages.sources.formats import Photos, Table
from stages.sources.kinds import START, is_picture
from stages.sources.labels import Reading
from stages.sources.layouts import Place, lay_out, place, refuse_masks
from stages.sources.members import Member
from stages.sources.names import is_hidden, is_photograph, tidy

# A table's name, and what gives its content.
TableFile = tuple[str, Callable[[], bytes | str]]


@dataclass(frozen=True)
class Photograph:
    """A photograph in an archive.

    Attributes:
        member: Its file.
        part: `train`, `valid` or `test` of a split that the dataset brings, else `train`;
            `unlabelled` where it is to have no class.
        label: Its class; None if it is unlabelled.
    """

    member: Member
    part: str
    label: str | None = None

    def __str__(self) -> str:
        return self.member.file

    @property
    def stem(self) -> str:
        """The name without folder and suffix: `cat.0`."""
        return PurePosixPath(self.member.path).stem


class Found(NamedTuple):
    """What there is in the archives of a dataset.

    Attributes:
        photographs: Sorted by class, then by name with numbers in their natural order.
        broken: Photographs that cannot be used, each with the reason.
        left_out: Other files.
        words: What the classes were read from.
    """

    photographs: list[Photograph]
    broken: list[LeftOut]
    left_out: list[LeftOut]
    words: str


def find_photographs(
    where: str, members: Iterable[Member], tables: Iterable[TableFile], options: Photos
) -> Found:
    """Finds the photographs and their classes.

    Args:
        where: What holds the archives, for messages.
        members: The files in the archives.
        tables: The tables beside them.
        options: Where the classes come from, and what they are called.

    Raises:
        UserError: The classes or the parts are not clear.
    """
    pictures: list[Member] = []
    broken: list[LeftOut] = []
    left_out: list[LeftOut] = []
    tables = list(tables)
    for member in members:
        if tidy(member.path)[1]:
            (broken if is_photograph(member.path) else left_out).append(
                (member.file, member.refused)
            )
        elif is_hidden(member.path):
            left_out.append((member.file, "hidden, or made by the system"))
        elif is_photograph(member.path) or is_picture(member.read(START)):
            pictures.append(member)
        elif member.refused == "a link" and not PurePosixPath(member.path).suffix:
            broken.append((member.file, "a link, perhaps to a folder"))
        else:
            left_out.append((member.file, member.refused or "no photograph"))
            if member.path.lower().endswith(label_tables.SUFFIXES):
                tables.append((member.file, member.read))
    pictures.sort(key=lambda member: (member.path, member.archive))
    places = lay_out(where, [place(m.archive, m.path) for m in pictures], options.unlabelled)
    labelled = [at for at, found in enumerate(places) if found.labelled]
    if options.labels != "folder":
        refuse_masks(where, [pictures[at].path for at in labelled])
    reading, places = _read(where, pictures, places, labelled, tables, options)
    archives = [pictures[at].archive for at in labelled]
    named = name_classes(where, reading.labels, archives, options.classes)
    classes = dict(zip(labelled, named, strict=True))
    photographs = []
    for at, (member, found) in enumerate(zip(pictures, places, strict=True)):
        if not found.labelled:
            photographs.append(Photograph(member, "unlabelled"))
        elif classes[at]:
            photographs.append(Photograph(member, found.part or "train", classes[at]))
        elif reading.from_table:
            left_out.append((member.file, f"not in {reading.words}"))
        else:
            broken.append((member.file, f"no class in {reading.words}"))
    return Found(sort(photographs), broken, left_out, reading.words)


def _read(
    where: str,
    pictures: Sequence[Member],
    places: list[Place],
    labelled: list[int],
    tables: Sequence[TableFile],
    options: Photos,
) -> tuple[Reading, list[Place]]:
    """Reads the classes; a test part that has none becomes unlabelled, and leaves `labelled`."""
    while True:
        paths = [pictures[at].path for at in labelled]
        readings = _readings(paths, [places[at].folders for at in labelled], tables, options)
        bare = _without_classes([places[at].part for at in labelled], readings)
        if not bare:
            break
        for at in bare:
            places[labelled[at]] = replace(places[labelled[at]], labelled=False)
        labelled[:] = [at for at in labelled if places[at].labelled]
        if len({places[at].part for at in labelled}) == 1:
            places = [replace(found, part=None) for found in places]
    parts = [places[at].part for at in labelled]
    if len(readings) == 1 or not labelled:
        _check_parts(where, readings[0], parts)
        return readings[0], places
    folders, names, *table = readings
    reading = labels.choose(where, paths, folders, names, table[0] if table else None)
    _check_parts(where, reading, parts)
    if reading is folders:
        archives = [pictures[at].archive for at in labelled]
        labels.check_folders(where, paths, [places[at].folders for at in labelled], archives)
    return reading, places


def _check_parts(where: str, reading: Reading, parts: Sequence[str | None]) -> None:
    for part in sorted({part for part in parts if part}):
        if not any(own for own, at in zip(reading.labels, parts, strict=True) if at == part):
            raise UserError(
                f"{where}: no photograph of the {part} part has a class in {reading.words}: add "
                "them, or name the part's folder under `prepare.unlabelled`"
            )


def _readings(
    paths: list[str],
    folders: list[tuple[str, ...]],
    tables: Sequence[TableFile],
    options: Photos,
) -> list[Reading]:
    """Returns the reading that the options choose, or else all that come into question."""
    if isinstance(options.labels, Table):
        return [_read_table(paths, tables, options.labels, options.encoding)]
    if options.labels == "folder":
        return [labels.read_folders(folders)]
    if options.labels == "name":
        return [labels.read_names(paths)]
    if options.labels is not None:
        return [labels.read_pattern(options.labels, paths)]
    found = [labels.read_folders(folders), labels.read_names(paths)]
    usual = Table(csv="")
    fitting = [
        (name, read)
        for name, read in tables
        if isinstance(content := read(), bytes)
        and label_tables.has_columns(content, (usual.file, usual.label))
    ]
    if len(fitting) > 1:
        names = " and ".join(name for name, _ in fitting[:2])
        raise UserError(f"{names} both have labels: name one, `prepare.labels: {{csv: NAME}}`")
    for name, read in fitting:
        table = Table(csv=PurePosixPath(name).name)
        found.append(_read_table(paths, [(name, read)], table, options.encoding))
    return found


def _read_table(
    paths: list[str], tables: Sequence[TableFile], table: Table, encoding: str | None
) -> Reading:
    fitting = [entry for entry in tables if f"/{entry[0]}".endswith(f"/{table.csv}")]
    if len(fitting) != 1:
        names = ", ".join(sorted(name for name, _ in fitting or tables)) or "none"
        raise UserError(
            f"`prepare.labels.csv: {table.csv}` fits {len(fitting) or 'no'} tables in the source "
            f"or its archives, expected one; tables there: {names}"
        )
    [(name, read)] = fitting
    content = read()
    if isinstance(content, str):
        raise UserError(f"{name}: {content}")
    found = label_tables.read_table(name, content, encoding, table.file, table.label)
    result: labels.Labels = [None] * len(paths)
    for at, label in label_tables.match_files(name, found, paths):
        result[at] = label
    return Reading(f"{{csv: {table.csv}}}", name, result, from_table=True)


def _without_classes(parts: Sequence[str | None], readings: Sequence[Reading]) -> list[int]:
    """Returns the test images if they have no class, or all one that no other part has.

    Kaggle's are `test/1.jpg`, Keras's examples want `test/unknown/1.jpg`.
    """
    test = [at for at, part in enumerate(parts) if part == "test"]
    for reading in readings:
        own = {fold(label) for at in test if (label := reading.labels[at])}
        others = {
            fold(label)
            for label, part in zip(reading.labels, parts, strict=True)
            if label and part != "test"
        }
        if len(own) > 1 or own & others:
            return []
    return test


def sort(photographs: Iterable[Photograph]) -> list[Photograph]:
    """Sorts photographs by class and name; those of one path and class by content.

    So neither the order in an archive nor the way they are spread over archives matters.
    """

    def key(photograph: Photograph) -> tuple[Any, ...]:
        path = photograph.member.path
        name = natural_key(PurePosixPath(path).name)
        return (photograph.label or "", name, natural_key(path), path)

    def content_key(photograph: Photograph) -> tuple[Any, ...]:
        content = photograph.member.read()
        crc = zlib.crc32(content) if isinstance(content, bytes) else 0
        return (crc, photograph.member.size, photograph.member.archive)

    result: list[Photograph] = []
    for _, group in groupby(sorted(photographs, key=key), key):
        same = list(group)
        result += sorted(same, key=content_key) if len(same) > 1 else same
    return result


def number_uniquely(photographs: Sequence[Photograph]) -> list[str]:
    """Returns an id for each photograph: its stem, or its path where that may be another's too.

    Raises:
        UserError: An archive has two of one path.
    """
    files = Counter(photograph.member.file for photograph in photographs)
    for file, count in files.items():
        if count > 1:
            raise UserError(
                f"{file}: {count} photographs without labels have this name, by which they are "
                "told apart: pack the archive anew, with a name of its own for each"
            )
    stems = Counter(photograph.stem for photograph in photographs)
    paths = Counter(photograph.member.path for photograph in photographs)
    ids = []
    for photograph in photographs:
        path = photograph.member.path
        whole = path if paths[path] == 1 else photograph.member.file
        alone = stems[photograph.stem] == 1 and photograph.stem not in paths
        ids.append(photograph.stem if alone else whole)
    return ids
