"""Storing files of arrays in data/raw/D/, under the names that `prepare` expects.

IDX files are stored under MNIST's own names, CSV files as `train.csv.gz` and so on, NumPy's files
as `arrays.npz`, or as `train-images.npz` and so on where each has one array.
"""

import shutil
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from stages.lib.command import UserError
from stages.sources.array_files import KINDS, array_entries, array_kind, base_name
from stages.sources.array_names import parse_name
from stages.sources.idx import GZIP_MAGIC, IDX_NAMES, compress, open_idx
from stages.sources.npz import open_npz
from stages.sources.pixel_csv import open_table
from stages.sources.stored import CHUNK_BYTES, MAX_BYTES, reading
from stages.sources.transfer import Fetch, is_url


@dataclass(frozen=True)
class Found:
    """A file of arrays.

    Attributes:
        location: Where it is: a path, a URL, or the.zip/name/in/it.
        kind: One of `KINDS`.
        subset: What its name, or else its folder, calls the dataset: `emnist-letters`.
        target: The name to store it under.
        digest: Returns what tells it from others.
        write: Writes its content to a path.
    """

    location: str
    kind: str
    subset: str
    target: str
    digest: Callable[[], object]
    write: Callable[[Path], None]


def store_array_files(
    files: Sequence[str], folder: Path, fetch: Fetch, subset: str | None = None
) -> None:
    """Stores a dataset's array files under fixed names, and compresses those that are plain.

    Args:
        files: Paths and URLs of the files, and of archives that hold them.
        folder: Where to store them.
        fetch: Fetches one file.
        subset: Which dataset to take where the files are those of several; None where of one.

    Raises:
        UserError: A file is missing, damaged or of another kind, or there are several datasets.
    """
    with TemporaryDirectory(dir=folder, prefix="arrays-") as temporary:
        found = [array for file in files for array in _find(file, Path(temporary), fetch)]
        kind = next(kind for kind in KINDS if any(array.kind == kind for array in found))
        others = [array.location for array in found if array.kind != kind]
        if others:
            print(f"takes the files of `format: {kind}`, passes over {', '.join(sorted(others))}")
        chosen = _choose_subset([array for array in found if array.kind == kind], subset)
        _check_complete(kind, chosen)
        for target, array in sorted(chosen.items()):
            content = Path(temporary, target)
            array.write(content)
            _store(content, folder / target, array)


def unpack_array_files(
    folder: Path, files: Sequence[str], fetch: Fetch, subset: str | None = None
) -> None:
    """Stores the array files of archives from the web, that show what they hold when they are here.

    Args:
        folder: Holds the zip archives; those of photographs stay as they are.
        files: The paths and URLs that they came from, for messages.
        fetch: Fetches one file.
        subset: See `store_array_files`.

    Raises:
        UserError: See `store_array_files`; or there are photographs as well.
    """
    archives = sorted(folder.glob("*.zip"))
    of_arrays = [path for path in archives if array_entries(path)]
    if of_arrays:
        if of_arrays != archives:
            raise UserError(
                f"{', '.join(files)}: some archives hold arrays and others photographs: name those "
                "of one kind"
            )
        store_array_files([str(path) for path in of_arrays], folder, fetch, subset)
        for path in of_arrays:
            path.unlink()
    elif subset is not None:
        raise UserError(
            f"`subset: {subset}` does not go with photographs, which are all read: take it out"
        )


def _find(location: str, temporary: Path, fetch: Fetch) -> list[Found]:
    """Returns the array files that a file is or holds."""
    name = base_name(location)
    kind = array_kind(name)
    if kind is not None:
        parent = PurePosixPath(urlsplit(location).path if is_url(location) else location).parent
        digest: Callable[[], object] = partial(_checksum, Path(location))
        if is_url(location):
            digest = partial(str, location)
        write = partial(_fetch_one, fetch, location)
        return [Found(location, kind, *_read_name(name, parent.name, kind), digest, write)]
    path = Path(location)
    if is_url(location):
        path = temporary / f"{len(list(temporary.iterdir()))}.zip"
        fetch([location], path)
    entries = array_entries(path)
    if not entries:
        raise UserError(
            f"{location} does not go with the other files, which hold arrays: expected IDX files "
            "(train-images-idx3-ubyte.gz ..), .npz, .npy or .csv files, or a zip of them"
        )
    found = []
    with zipfile.ZipFile(path) as archive:
        for entry in entries:
            info, kind = archive.getinfo(entry), array_kind(PurePosixPath(entry).name)
            assert kind is not None  # noqa: S101
            where = f"{location}/{entry}"
            inner = PurePosixPath(entry)
            read = _read_name(inner.name, inner.parent.name, kind)
            same = partial(tuple, (info.file_size, info.CRC))
            found.append(Found(where, kind, *read, same, partial(_unpack, path, entry, where)))
    return found


def _read_name(name: str, parent: str, kind: str) -> tuple[str, str]:
    """Returns what a file's name calls the dataset, and the name to store the file under."""
    found = parse_name(name)
    subset = found.subset or parse_name(parent).subset
    part = found.part or "train"
    if kind == "idx":
        prefix = "t10k" if part == "test" else part
        content = "images-idx3" if found.content == "images" else "labels-idx1"
        return subset, f"{prefix}-{content}-ubyte.gz"
    if kind == "csv":
        return subset, f"{part}.csv.gz"
    words = [word for word in (found.part, found.content) if word]
    if words == [found.content]:
        words = [part, *words]
    return subset, "-".join(words or ["arrays"]) + PurePosixPath(name.lower()).suffix


def _choose_subset(arrays: Sequence[Found], subset: str | None) -> dict[str, Found]:
    """Returns one file for each name to store under."""
    full = sorted({array.subset for array in arrays})
    words = zip(*(name.split("-") for name in full), strict=False)
    common = next((place for place, word in enumerate(words) if len(set(word)) > 1), 0)
    short = {name: "-".join(name.split("-")[common:]) or name for name in full}
    if subset is not None:
        arrays = [array for array in arrays if subset in (array.subset, short[array.subset])]
        if not arrays:
            raise UserError(
                f"subset: there is no set '{subset}' in the source, expected one of "
                f"{', '.join(filter(None, short.values()))}"
            )
    chosen: dict[str, Found] = {}
    for array in arrays:
        first = chosen.setdefault(array.target, array)
        if first is array or first.digest() == array.digest():
            continue  # archives of MNIST on Kaggle have each file twice
        if subset is None and first.subset != array.subset and "" not in full:
            raise UserError(
                f"the source holds {len(full)} sets ({', '.join(short.values())}): "
                f"choose one with `download.subset`, such as `subset: {short[array.subset]}`, or "
                "name its files"
            )
        raise UserError(
            f"{array.location} does not go with {first.location}: both are the dataset's "
            f"{array.target}, and they differ: name the files of one in `source`"
        )
    return chosen


def _check_complete(kind: str, chosen: dict[str, Found]) -> None:
    if kind == "idx":
        pairs = [IDX_NAMES[i : i + 2] for i in (0, 2)]
        wanted = [
            name for pair in pairs for name in pair if pair == pairs[0] or set(pair) & set(chosen)
        ]
    else:
        wanted = ["train.csv.gz"] if kind == "csv" else []
    missing = [name for name in wanted if name not in chosen]
    if missing:
        raise UserError(
            f"the source has no {', '.join(missing)} (with or without .gz), found "
            f"{', '.join(array.location for array in chosen.values())}"
        )


def _store(content: Path, target: Path, array: Found) -> None:
    """Moves a file to its place, compressed if it is to be, and checks what is in it."""
    with content.open("rb") as file:
        compressed = file.read(2) == GZIP_MAGIC
    if target.suffix == ".gz" and not compressed:
        with content.open("rb") as plain, compress(target) as packed:
            shutil.copyfileobj(plain, packed, CHUNK_BYTES)
    else:
        content.replace(target)
    if array.kind == "csv":
        open_table(target, array.location)
        return
    found = {array.target: open_idx(target, array.location)} if array.kind == "idx" else {}
    if array.kind == "npz":
        named = open_npz(target, array.location)
        found = {key: s for key, s in named.items() if parse_name(f"{target.stem} {key}").content}
    for stored in found.values():
        if stored.dtype.kind in "uif":  # `prepare` refuses the others
            for _ in stored.chunks():
                pass  # reads to the end, so that a fault is said with the user's name of the file


def _fetch_one(fetch: Fetch, location: str, path: Path) -> None:
    fetch([location], path)


def _unpack(archive_path: Path, entry: str, location: str, path: Path) -> None:
    size = 0
    with (
        reading(location),
        zipfile.ZipFile(archive_path) as archive,
        archive.open(entry) as source,
        path.open("wb") as file,
    ):
        while content := source.read(CHUNK_BYTES):
            size += len(content)
            if size > MAX_BYTES:
                raise UserError(
                    f"{location}: unpacks to more than {MAX_BYTES:,} bytes, expected fewer"
                )
            file.write(content)


def _checksum(path: Path) -> tuple[int, int]:
    checksum = 0
    with path.open("rb") as file:
        while content := file.read(CHUNK_BYTES):
            checksum = zlib.crc32(content, checksum)
    return path.stat().st_size, checksum
