"""Locations: the paths and URLs that `source` and `unlabelled` name, and the files there."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from stages.lib.command import UserError
from stages.lib.params import nearest
from stages.sources.archives import check_zip
from stages.sources.idx import IDX_NAMES
from stages.sources.transfer import is_url

# What `source` may say instead of naming locations.
NAMED_SOURCES = ("sample", "web", "kaggle")


def list_files(locations: Sequence[str]) -> list[str]:
    """Returns the paths and URLs of the single files at `locations`.

    A folder stands for the IDX files and zip archives in it, a URL that ends in / for the four
    IDX files below it, and any other location for itself.

    Raises:
        UserError: A path does not exist, holds no data or may not be read, or a file comes twice.
    """
    files: list[str] = []
    for location in locations:
        try:
            files += _list_url(location) if is_url(location) else _list_path(location)
        except PermissionError:
            raise UserError(f"{location}: no permission to read it") from None
    seen = set()
    for file in files:
        resolved = file if is_url(file) else str(Path(file).resolve())
        if resolved in seen:
            raise UserError(f"{file} is named twice: name it once")
        seen.add(resolved)
    return files


def _list_url(url: str) -> list[str]:
    return [url + name for name in IDX_NAMES] if url.endswith("/") else [url]


def _list_path(location: str) -> list[str]:
    try:
        path = Path(location).expanduser()
    except RuntimeError as error:
        raise UserError(f"{location}: {error}") from None
    if not path.exists():
        match = nearest(location, NAMED_SOURCES) if "/" not in location else ""
        hint = f"; did you mean `source: {match}`?" if match else ""
        raise UserError(
            f"there is no file or folder {location!r} (paths are relative to the project's top "
            f"folder){hint}"
        )
    if path.is_dir():
        return _list_folder(path, location)
    if not idx_name(str(path)):
        check_zip(path, location)
    return [str(path)]


def _list_folder(folder: Path, location: str) -> list[str]:
    visible = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    plain = [name.removesuffix(".gz") for name in IDX_NAMES]
    files = [
        *(file for file in visible if file.name in IDX_NAMES),
        # Of a file that is there both compressed and plain, take the compressed one.
        *(f for f in visible if f.name in plain and not f.with_name(f"{f.name}.gz").exists()),
        *(file for file in visible if file.suffix.lower() == ".zip" and file.is_file()),
    ]
    if not files:
        raise UserError(
            f"the folder {location} holds neither zip archives nor IDX files "
            f"({IDX_NAMES[0]} ..), found {len(visible)} other entries"
        )
    return [str(file) for file in files]


def file_name(location: str) -> str:
    """Returns the name of the file at a path or URL, without a URL's query."""
    if is_url(location):
        return PurePosixPath(unquote(urlsplit(location).path)).name
    return Path(location).name


def idx_name(location: str) -> str | None:
    """Returns the original name if `location` is one of the four IDX files, with .gz or without."""
    name = file_name(location).removesuffix(".gz") + ".gz"
    return name if name in IDX_NAMES else None
