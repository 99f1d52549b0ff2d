"""Locations: the paths and URLs that `source` and `unlabelled` name, and the files there."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from stages.lib.command import UserError
from stages.lib.params import nearest
from stages.sources.archives import check_archive, refuse_mixture
from stages.sources.idx import IDX_NAMES
from stages.sources.kinds import START, is_picture
from stages.sources.label_tables import SUFFIXES as TABLE_SUFFIXES
from stages.sources.names import is_archive, is_photograph
from stages.sources.packing import list_visible
from stages.sources.transfer import is_url

# What `source` may say instead of naming locations.
NAMED_SOURCES = ("sample", "web", "kaggle")


def list_files(locations: Sequence[str]) -> list[str]:
    """Returns the paths and URLs of the single files at `locations`.

    A folder of photographs stands for itself; another one for the IDX files, or for the archives
    and the tables of labels in it. A URL that ends in / stands for the four IDX files below it,
    and any other location for itself.

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
    if not idx_name(str(path)) and not is_table(str(path)):
        check_archive(path, location)
    return [str(path)]


def _list_folder(folder: Path, location: str) -> list[str]:
    visible = sorted(list_visible(folder))
    plain = [name.removesuffix(".gz") for name in IDX_NAMES]
    files = [
        *(name for name in visible if name in IDX_NAMES),
        # Of a file that is there both compressed and plain, take the compressed one.
        *(name for name in visible if name in plain and f"{name}.gz" not in visible),
    ]
    if not files and _holds_photographs(folder, visible):
        refuse_mixture(f"the folder {location}", visible)
        return [str(folder)]
    archives = [name for name in visible if is_archive(name)]
    if not files and archives:
        files = archives + [name for name in visible if is_table(name)]
    if not files:
        raise UserError(
            f"the folder {location} holds neither photographs, archives nor IDX files "
            f"({IDX_NAMES[0]} ..), found {len(visible)} other files"
        )
    return [str(folder / name) for name in files]


def _holds_photographs(folder: Path, names: Sequence[str]) -> bool:
    """Tells whether there are photographs, by a name's end or else by a file's content."""
    return any(map(is_photograph, names)) or any(
        is_picture(_start(folder / name)) for name in names if not is_archive(name)
    )


def _start(path: Path) -> bytes:
    if path.is_symlink():  # it may lead anywhere
        return b""
    with path.open("rb") as file:
        return file.read(START)


def is_table(location: str) -> bool:
    """Tells whether a path or URL names a table of labels."""
    return file_name(location).lower().endswith(TABLE_SUFFIXES)


def file_name(location: str) -> str:
    """Returns the name of the file at a path or URL, without a URL's query."""
    if is_url(location):
        return PurePosixPath(unquote(urlsplit(location).path)).name
    return Path(location).name


def idx_name(location: str) -> str | None:
    """Returns the original name if `location` is one of the four IDX files, with .gz or without."""
    name = file_name(location).removesuffix(".gz") + ".gz"
    return name if name in IDX_NAMES else None
