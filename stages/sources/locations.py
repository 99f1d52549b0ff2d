"""Locations: the paths and URLs that `source` and `unlabelled` name, and the files there."""

from collections.abc import Sequence
from pathlib import Path

from stages.lib.command import UserError
from stages.lib.params import nearest
from stages.sources.archives import check_archive, refuse_mixture
from stages.sources.array_files import array_kind, base_name, choose_array_files
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

    A folder of photographs stands for itself; another one for the files of arrays, or for the
    archives and the tables of labels in it. A URL that ends in / stands for the four IDX files
    below it, and any other location for itself.

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
        if resolve(file) in seen:
            raise UserError(f"{file} is named twice: name it once")
        seen.add(resolve(file))
    return files


def resolve(file: str) -> str:
    """Returns the one path of a file, however it is named; a URL as it is."""
    return file if is_url(file) else str(Path(file).resolve())


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
        # `..` and `.` have no name to store the photographs under.
        return _list_folder(path.resolve() if path.name in ("", "..") else path, location)
    if not array_kind(path.name) and not is_table(path.name):
        check_archive(path, location)
    return [str(path)]


def _list_folder(folder: Path, location: str) -> list[str]:
    visible = sorted(list_visible(folder))
    arrays = choose_array_files(folder, visible)
    if not arrays and _holds_photographs(folder, visible):
        refuse_mixture(f"the folder {location}", visible)
        return [str(folder)]
    archives = [name for name in visible if is_archive(name)]
    if not arrays and any("/" in name for name in archives):
        return [str(folder)]  # its folders may be the parts of a split
    tables = [name for name in visible if is_table(name)] if archives and not arrays else []
    files = [*arrays, *(str(folder / name) for name in (*archives, *tables))]
    if not files:
        raise UserError(
            f"the folder {location} holds neither photographs nor archives nor files of arrays "
            f"({IDX_NAMES[0]} .., .npz, .csv), found {len(visible)} other files"
        )
    return files


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
    return base_name(location).lower().endswith(TABLE_SUFFIXES)
