"""Image files that a user names: single ones, and those in folders and zip archives."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from stages.lib.command import UserError
from stages.lib.files import natural_key
from stages.sources.archives import open_zip, read_entry
from stages.sources.photographs import is_photograph

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

# A file's bytes, or the reason why there are none; None if its archive does not give them.
Content = bytes | str | None


def read_contents(paths: Iterable[Path]) -> Iterator[tuple[str, Content]]:
    """Reads files, and the images in folders and zip archives.

    A folder's or an archive's images are the files with one of `IMAGE_SUFFIXES`, in the natural
    order of their paths. An image in an archive is called `the.zip/path/in/it.jpg`.

    Yields:
        Each file's path and content, or its path and the reason why there is no content.
    """
    for path in paths:
        try:
            if path.is_dir():
                contents = _read_folder(path)
            elif path.suffix.lower() == ".zip":
                contents = _read_zip(path)
            else:
                yield str(path), _read_file(path)
                continue
            empty = True
            for content in contents:
                empty = False
                yield content
            if empty:
                yield str(path), f"no image in it ({', '.join(IMAGE_SUFFIXES)})"
        except (OSError, ValueError) as error:
            yield str(path), getattr(error, "strerror", None) or str(error)
        except UserError:
            yield str(path), "no zip archive, or a damaged one"


def _read_folder(folder: Path) -> Iterator[tuple[str, Content]]:
    files = [
        file
        for file in folder.rglob("*")
        if is_photograph(file.relative_to(folder).as_posix(), IMAGE_SUFFIXES) and file.is_file()
    ]
    for file in sorted(files, key=lambda file: (natural_key(str(file)), file)):
        yield str(file), _read_file(file)


def _read_zip(path: Path) -> Iterator[tuple[str, Content]]:
    with open_zip(path) as archive:
        entries = archive.infolist()
        images = [entry for entry in entries if is_photograph(entry.filename, IMAGE_SUFFIXES)]
        for entry in sorted(images, key=lambda entry: natural_key(entry.filename)):
            yield f"{path}/{entry.filename}", read_entry(archive, entry)


def _read_file(path: Path) -> bytes | str:
    try:
        return path.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
