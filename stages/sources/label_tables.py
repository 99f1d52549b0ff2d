"""Labels from a table, such as labels.csv: a row for each photograph."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from unicodedata import normalize

from stages.lib.command import UserError
from stages.lib.params import nearest

SUFFIXES = (".csv", ".tsv", ".txt")
DELIMITERS = (",", ";", "\t")


def read_table(
    name: str, content: bytes, encoding: str | None, file_column: str, label_column: str
) -> dict[str, str]:
    """Reads the class of each file from a table with a header, split by comma, semicolon or tab.

    Args:
        name: The table's name, for messages.
        content: Its bytes.
        encoding: Its encoding where it is not UTF-8.
        file_column: The column of the files' names.
        label_column: The column of the classes.

    Returns:
        Classes by file.

    Raises:
        UserError: The table lacks a column, a row is incomplete, or a file has two classes.
    """
    rows = _read_rows(name, content, encoding)
    header = rows[0] if rows else []
    for column in (file_column, label_column):
        if column not in header:
            match = nearest(column, header)
            hint = f"; did you mean '{match}'?" if match else ""
            raise UserError(
                f"{name}: no column '{column}', found {', '.join(header) or 'nothing'}{hint} "
                "(`prepare.labels: {csv: .., file: COLUMN, label: COLUMN}` names others)"
            )
        if header.count(column) > 1:
            raise UserError(f"{name}: the column '{column}' comes twice: take one out")
    at_file, at_label = header.index(file_column), header.index(label_column)
    labels: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(header):
            raise UserError(
                f"{name}: row {number} has {len(row)} fields, expected {len(header)} as the header"
            )
        file, label = row[at_file].strip(), row[at_label].strip()
        if "\n" in file + label:
            raise UserError(f"{name}: row {number} has a quote that is not closed")
        if not file or not label:
            missing = file_column if not file else label_column
            raise UserError(f"{name}: row {number} has no {missing}")
        if labels.setdefault(file, label) != label:
            raise UserError(f"{name}: {file} is both '{labels[file]}' and '{label}'")
    return labels


def has_columns(content: bytes, columns: Iterable[str]) -> bool:
    """Tells whether a table's header has all of `columns`."""
    try:
        header = _split(content.decode(_unicode(content), "replace").partition("\n")[0])
    except csv.Error:
        return False
    return bool(header) and set(columns) <= set(header[0])


def _unicode(content: bytes) -> str:
    return "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def _read_rows(name: str, content: bytes, encoding: str | None) -> list[list[str]]:
    try:
        return _split(content.decode(_unicode(content)))
    except csv.Error as error:
        raise UserError(f"{name}: no table: {error}") from None
    except UnicodeDecodeError:
        pass
    try:
        if encoding:
            return _split(content.decode(encoding))
    except UnicodeDecodeError:
        pass
    raise UserError(f"{name}: not in UTF-8: set `prepare.encoding` to its encoding")


def _split(text: str) -> list[list[str]]:
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    rows = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    return [[field.strip() for field in row] for row in rows]


def match_files(
    name: str, labels: Mapping[str, str], paths: Sequence[str]
) -> list[tuple[int, str]]:
    """Finds the photographs that a table names: by path, or its end, with the suffix or without.

    Args:
        name: The table's name, for messages.
        labels: Classes by file, from `read_table`.
        paths: The photographs' paths.

    Returns:
        For each photograph that is named, its index and class.

    Raises:
        UserError: A file is not there, or a name fits several photographs.
    """
    whole: dict[str, list[int]] = defaultdict(list)
    ends: dict[str, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        parts = PurePosixPath(normalize("NFC", path)).parts
        for at in range(len(parts)):
            end = PurePosixPath(*parts[at:])
            for name_in_table in {str(end), str(end.with_suffix(""))}:
                ends[name_in_table].append(index)
                if not at:
                    whole[name_in_table].append(index)
    found: dict[int, str] = {}
    missing = []
    for file, label in labels.items():
        indexes = _find(file, whole, ends)
        if not indexes:
            missing.append(file)
        elif len(indexes) > 1:
            raise UserError(
                f"{name}: {file} fits {paths[indexes[0]]} and {paths[indexes[1]]}: write more of "
                "the path, or name the folder without labels under `prepare.unlabelled`"
            )
        elif found.setdefault(indexes[0], label) != label:
            path = paths[indexes[0]]
            raise UserError(f"{name}: {path} is both '{found[indexes[0]]}' and '{label}'")
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"{name}: {', '.join(missing[:3])}{more} of {len(labels)} files not found among the "
            f"photographs (such as {paths[0] if paths else 'none'})"
        )
    return sorted(found.items())


def _find(file: str, whole: Mapping[str, list[int]], ends: Mapping[str, list[int]]) -> list[int]:
    parts = [p for p in normalize("NFC", file).replace("\\", "/").split("/") if p not in ("", ".")]
    indexes = ends.get("/".join(parts), [])
    # The table's paths may begin further out than the archive's; then these must match as a whole.
    for at in range(1, len(parts)):
        indexes = indexes or whole.get("/".join(parts[at:]), [])
    return indexes
