"""Zip archives: opening them, checking them and reading them without unpacking."""

import zipfile
import zlib
from pathlib import Path

from stages.lib.command import UserError

# Holds the photographs without labels, under the name that it has in the Kaggle competition.
# Every other zip in data/raw/D/ holds labelled ones.
UNLABELLED = "test1.zip"


def open_zip(path: Path) -> zipfile.ZipFile:
    """Opens an archive for reading.

    Raises:
        UserError: The file is no zip archive; the message names it.
    """
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(
            f"{path}: no zip archive, or a damaged one ({error}): fetch it again"
        ) from None


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | None:
    """Returns an entry's content; None if it is damaged, encrypted or compressed in a rare way."""
    try:
        return archive.read(entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):
        return None


def check_zip(path: Path, location: str) -> list[str]:
    """Checks that a file is a zip archive of photographs.

    Args:
        path: The file.
        location: The path or URL it came from, for messages.

    Returns:
        The names of its entries.

    Raises:
        UserError: The file is no zip archive, or holds other zip archives.
    """
    names = None
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, NotImplementedError):
            pass
    if names is None:
        with path.open("rb") as file:
            start = file.read(256)
        raise UserError(f"{location}: found {_describe(start)}, expected a zip archive")
    inner = [name for name in names if name.lower().endswith(".zip")]
    if inner:
        raise UserError(
            f"{location} holds zip archives ({', '.join(inner)}), expected photographs: "
            "unpack it, and set `source` to the folder or to one of them"
        )
    return names


def _describe(start: bytes) -> str:
    if not start:
        return "an empty file"
    if start.startswith(b"PK"):
        return "a zip archive that is cut off or damaged (fetch it again)"
    # Many servers answer with an HTML page instead of an error, some with a byte-order mark first.
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return "a web page (does it ask to sign in, or say that the file has moved?)"
    return f"a file that starts with the bytes {start[:4].hex(' ')}"
