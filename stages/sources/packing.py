"""Packing a folder of photographs into one zip archive, with the same bytes for the same files."""

import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from stages.lib.command import UserError
from stages.sources.members import CHUNK
from stages.sources.names import is_hidden


def pack(folder: Path, target: Path) -> None:
    """Packs what is in `folder`, but for hidden files: stored, sorted, without dates.

    Links are packed as links: what they lead to may lie outside the folder.

    Raises:
        UserError: A file may not be read, or its name is not UTF-8.
    """
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(list_visible(folder)):
            path = folder / name
            try:
                entry = new_entry(name)
                if path.is_symlink() and path.is_dir():
                    raise UserError(
                        f"{path} is a link to a folder: name what it leads to in `source`, or put "
                        "the folder itself there"
                    )
                if path.is_symlink():
                    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
                    archive.writestr(entry, str(path.readlink()))
                    continue
                with path.open("rb") as file, archive.open(entry, "w", force_zip64=True) as member:
                    shutil.copyfileobj(file, member, CHUNK)
            except PermissionError:
                raise UserError(f"{path}: no permission to read it") from None
            except UnicodeEncodeError:
                raise UserError(
                    f"{folder}: the name {os.fsencode(name)!r} is not UTF-8: rename the file, or "
                    "pack the folder yourself and set `prepare.encoding`"
                ) from None


def list_visible(folder: Path) -> Iterator[str]:
    """Yields the paths of the files and links in `folder` that are not hidden, at any depth.

    Raises:
        UserError: A folder may not be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: {(error.strerror or str(error)).lower()}")

    for top, folders, files in os.walk(folder, onerror=refuse):
        above = Path(top).relative_to(folder)
        links = [name for name in folders if Path(top, name).is_symlink()]
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in (*files, *links):
            mode = Path(top, name).lstat().st_mode
            if not is_hidden(name) and (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                yield (above / name).as_posix()


def new_entry(name: str) -> zipfile.ZipInfo:
    """Returns an uncompressed entry that does not depend on the clock, the system or the umask."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3  # Unix
    entry.external_attr = (0o40755 << 16 | 0x10) if name.endswith("/") else 0o100644 << 16
    return entry
