"""Image files that a user names: single ones, and those in folders and archives."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from stages.lib.command import UserError
from stages.lib.files import natural_key
from stages.sources.archives import open_archives
from stages.sources.kinds import START, is_picture
from stages.sources.members import MAX_FILE
from stages.sources.names import is_archive, is_hidden, is_photograph
from stages.sources.packing import list_visible

# A file's bytes, or the reason why there are none.
Content = bytes | str


def read_contents(
    paths: Iterable[Path], encoding: str | None = None
) -> Iterator[tuple[str, Content]]:
    """Reads files, and the images in folders and archives.

    A folder's or an archive's images are the files that are named as images or begin as such,
    in the natural order of their paths, but for hidden ones. An image in an archive is called
    `the.zip/path/in/it.jpg`.

    Args:
        paths: Files, folders and archives.
        encoding: The encoding of names in archives that are not UTF-8.

    Yields:
        Each file's path and content, or its path and the reason why there is no content.
    """
    for path in paths:
        try:
            if path.is_dir():
                contents = _read_folder(path)
            elif is_archive(path.name):
                contents = _read_archive(path, encoding)
            else:
                yield str(path), _read_file(path)
                continue
            empty = True
            for content in contents:
                empty = False
                yield content
            if empty:
                yield str(path), "no image in it"
        except (OSError, ValueError) as error:
            yield str(path), getattr(error, "strerror", None) or str(error)
        except UserError as error:
            yield str(path), str(error).removeprefix(f"{path}: ")


def _read_folder(folder: Path) -> Iterator[tuple[str, Content]]:
    for name in sorted(list_visible(folder), key=lambda name: (natural_key(name), name)):
        path = folder / name
        if is_photograph(name) or is_picture(_read_file(path, START)):
            yield str(path), _read_file(path)


def _read_archive(path: Path, encoding: str | None) -> Iterator[tuple[str, Content]]:
    with open_archives([path], encoding) as members:
        above = path.parent
        for member in sorted(members, key=lambda member: natural_key(member.file)):
            if is_hidden(member.path):
                continue
            if is_photograph(member.path) or is_picture(member.read(START)):
                yield str(above / member.archive / member.path), member.read()


def _read_file(path: Path, most: int = MAX_FILE + 1) -> bytes | str:
    try:
        with path.open("rb") as file:
            content = file.read(most)
    except OSError as error:
        return error.strerror or str(error)
    return content if len(content) <= MAX_FILE else f"larger than {MAX_FILE >> 20} MiB"
