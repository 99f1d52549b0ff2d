"""Finding files of arrays, by their names and by what is beside them."""

import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from stages.sources.names import is_hidden, is_photograph
from stages.sources.pixel_csv import is_pixel_csv
from stages.sources.stored import reading
from stages.sources.transfer import is_url

# The names of MNIST's files and of those laid out like it: train-images-idx3-ubyte.gz,
# t10k-labels.idx1-ubyte, qmnist-test-labels-idx2-int.gz.
IDX = re.compile(r".*(images|imgs|labels)[-_.]idx\d-(ubyte|int)(\.gz)?", re.IGNORECASE)
# Best first: where a source has several kinds, they are copies of each other.
KINDS = {"idx": IDX, "npz": re.compile(r".*\.np[yz]"), "csv": re.compile(r".*\.csv(\.gz)?")}


def array_kind(name: str) -> str | None:
    """Returns the kind of a file by its name, one of `KINDS`; None if it has no arrays."""
    lower = name.lower()
    return next((kind for kind, pattern in KINDS.items() if pattern.fullmatch(lower)), None)


def is_array_file(location: str) -> bool:
    """Tells whether a file, or an archive that is here, holds arrays.

    A CSV file on the web may have labels of photographs: see `hold_arrays`.
    """
    name = base_name(location)
    kind = array_kind(name)
    if is_url(location) or kind in ("idx", "npz"):
        return kind in ("idx", "npz")
    if kind == "csv":
        with Path(location).open("rb") as file:
            return is_pixel_csv(file)
    return bool(array_entries(Path(location)))


def hold_arrays(files: Sequence[str]) -> bool:
    """Tells whether a dataset's files hold arrays, not photographs."""
    return any(map(is_array_file, files)) or all(
        array_kind(base_name(file)) == "csv" for file in files
    )


def choose_array_files(folder: Path, visible: Iterable[str]) -> list[str]:
    """Returns the paths of the array files among the visible files in a folder, sorted.

    Empty unless there are more arrays than photographs: CSV files beside these are their labels.
    """
    names = [name for name in visible if (folder / name).is_file()]

    def has_pixels(name: str) -> bool:
        with (folder / name).open("rb") as file:
            return is_pixel_csv(file)

    return [str(folder / name) for name in _choose_arrays(names, has_pixels)]


def array_entries(path: Path) -> list[str]:
    """Returns the names of the array files in a zip archive, sorted; none if it has photographs."""
    if not zipfile.is_zipfile(path):
        return []
    try:
        with zipfile.ZipFile(path) as archive:

            def has_pixels(name: str) -> bool:
                with reading(f"{path}/{name}"), archive.open(name) as file:
                    return is_pixel_csv(file)

            names = [name for name in archive.namelist() if not name.endswith("/")]
            return _choose_arrays(names, has_pixels)
    except (zipfile.BadZipFile, NotImplementedError):
        return []


def _choose_arrays(names: Iterable[str], has_pixels: Callable[[str], bool]) -> list[str]:
    visible = {name for name in names if not is_hidden(name)}
    found = {name: array_kind(PurePosixPath(name).name) for name in visible}
    photographs = sum(map(is_photograph, visible))
    candidates = [name for name in visible if found[name]]
    if photographs and photographs >= len(candidates):
        return []
    # Of a file that is there both compressed and plain, take the compressed one.
    return sorted(
        name
        for name in candidates
        if f"{name}.gz" not in visible and (found[name] != "csv" or has_pixels(name))
    )


def base_name(location: str) -> str:
    """Returns the name of the file at a path or URL, without a URL's query."""
    path = unquote(urlsplit(location).path) if is_url(location) else location
    return PurePosixPath(path).name
