"""Locations: the paths and URLs that `source` and `unlabelled` name, and the files there."""

from collections.abc import Sequence
from pathlib import Path

from stages.lib.command import UserError
from stages.lib.params import nearest
from stages.sources.archives import check_zip
from stages.sources.array_files import array_kind, list_array_files
from stages.sources.idx import IDX_NAMES
from stages.sources.transfer import is_url

# What `source` may say instead of naming locations.
NAMED_SOURCES = ("sample", "web", "kaggle")


def list_files(locations: Sequence[str]) -> list[str]:
    """Returns the paths and URLs of the single files at `locations`.

    A folder stands for the files of arrays and zip archives in it, a URL that ends in / for the
    four IDX files below it, and any other location for itself.

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
    if not array_kind(path.name):
        check_zip(path, location)
    return [str(path)]


def _list_folder(folder: Path, location: str) -> list[str]:
    visible = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    archives = [file for file in visible if file.suffix.lower() == ".zip" and file.is_file()]
    files = [*list_array_files(folder), *map(str, archives)]
    if not files:
        raise UserError(
            f"the folder {location} holds neither zip archives nor files of arrays "
            f"({IDX_NAMES[0]} .., .npz, .csv), found {len(visible)} other entries"
        )
    return files
