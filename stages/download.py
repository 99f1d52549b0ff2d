"""Downloads a dataset as it is: `python -m stages.download DATASET`.

Reads:  `datasets.DATASET.download` of params.yaml, and what its `source` names.
Writes: data/raw/DATASET/, a handful of files whose bytes depend on the data alone:
    - files of arrays: MNIST's four (train-images-idx3-ubyte.gz ..), .npz, or train.csv.gz .., or
    - archives of photographs, as they came (a folder becomes a zip), those of unlabelled ones
      named test1, and tables of labels;
    - origin.txt: `drawn`, `sample` or `real`.

Sources: `sample` needs no network (5,000 real digits; 340 drawn cats and dogs: 3 seconds each),
`web` loads the originals (11 MB; 800 MB), `kaggle` the competition Dogs vs. Cats (800 MB);
anything else is a path or URL, or a list of them.
"""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import write_atomically
from stages.sources import transfer
from stages.sources.array_files import hold_arrays
from stages.sources.array_storage import store_array_files, unpack_array_files
from stages.sources.idx import IDX_NAMES
from stages.sources.kaggle import download_competition
from stages.sources.locations import NAMED_SOURCES, list_files, resolve
from stages.sources.sample import write_drawn_photographs, write_sample_digits
from stages.sources.storage import store_labelled, store_unlabelled
from stages.sources.transfer import Fetch
from stages.sources.web import WEB_FILES, WebFile


class Options(params.Section):
    """Where a dataset comes from.

    Attributes:
        source: `sample`, `web`, `kaggle`; or a path (relative to the project's top folder) or
            URL (http, https, s3, gs, az) of photographs (a folder, zip or tar, and perhaps a
            table of labels) or of files of arrays; or a list.
        unlabelled: Path or URL of one archive or folder of photographs to predict.
        subset: Which dataset to take where files of arrays are those of several, as in EMNIST.
        seed: Seeds the sample: which digits are for testing, what the cats and dogs look like.
    """

    source: str | list[str]
    unlabelled: str | None = Field(None, min_length=1)
    subset: str | None = Field(None, min_length=1)
    seed: int = Field(0, ge=0)

    @field_validator("source", mode="before")
    @classmethod
    def _is_one_or_more_texts(cls, source: Any) -> Any:
        entries = source if isinstance(source, list) else [source]
        if not entries or not all(isinstance(entry, str) and entry for entry in entries):
            names = ", ".join(NAMED_SOURCES)
            raise ValueError(f"expected {names}, a path or URL, or a list of those two")
        return source


def download(
    dataset: str,
    folder: Path,
    source: str | list[str],
    unlabelled: str | None = None,
    seed: int = 0,
    *,
    subset: str | None = None,
    web: Mapping[str, Mapping[str, WebFile]] = WEB_FILES,
    fetch: Fetch = transfer.fetch,
) -> None:
    """Writes a dataset's files and `origin.txt` into the empty `folder`.

    Args:
        dataset: The named sources know `mnist` and `cats_dogs`; paths and URLs bring any.
        folder: Where to write.
        source: See `Options`.
        unlabelled: See `Options`.
        seed: See `Options`.
        subset: See `Options`.
        web: The files that the source `web` brings, by dataset and name.
        fetch: Fetches one file; tests give one that waits less.

    Raises:
        UserError: The source is unknown or not there, or holds something else.
    """
    origin = "real"
    if subset is not None and source in NAMED_SOURCES:
        raise UserError("`subset` does not go with this source, which has one dataset: take it out")
    if source == "sample":
        _refuse(unlabelled, "the sample brings its own, or has none")
        if dataset == "mnist":
            origin = "sample"
            write_sample_digits(folder, seed)
        elif dataset == "cats_dogs":
            origin = "drawn"
            write_drawn_photographs(folder, seed)
        else:
            raise _unknown_dataset(source, dataset, ["mnist", "cats_dogs"])
    elif source == "web":
        if dataset not in web:
            raise _unknown_dataset(source, dataset, web)
        if set(web[dataset]) <= set(IDX_NAMES):
            _refuse(unlabelled, "IDX datasets have none")
        store_unlabelled(unlabelled, folder, fetch)
        for name, file in web[dataset].items():
            fetch(file.mirrors, folder / name, sha256=file.sha256)
    elif source == "kaggle":
        if dataset != "cats_dogs":
            raise _unknown_dataset(source, dataset, ["cats_dogs"])
        _refuse(unlabelled, "the competition brings its own")
        download_competition(folder)
    else:
        files = list_files([source] if isinstance(source, str) else source)
        files = _without(unlabelled, files)
        if hold_arrays(files):
            _refuse(unlabelled, "files of arrays have none")
            store_array_files(files, folder, fetch, subset)
        else:
            store_unlabelled(unlabelled, folder, fetch)
            store_labelled(files, folder, fetch)
            unpack_array_files(folder, files, fetch, subset)
    (folder / "origin.txt").write_text(f"{origin}\n")


def _without(unlabelled: str | None, files: list[str]) -> list[str]:
    """Takes the photographs without labels out of the source: its folder may hold both."""
    same = set() if unlabelled is None else set(map(resolve, list_files([unlabelled])))
    rest = [file for file in files if resolve(file) not in same]
    if not rest:
        raise UserError("`unlabelled` and `source` name the same: name other photographs in one")
    for pair in itertools.product(map(resolve, rest), same):
        outer, inner = sorted(pair, key=len)
        if Path(outer).is_dir() and Path(inner).is_relative_to(outer):
            raise UserError(
                f"`unlabelled` and `source` have photographs in common, since {inner} lies in "
                f"{outer}: move it elsewhere, or name the folder under `prepare.unlabelled` alone"
            )
    return rest


def _refuse(unlabelled: str | None, reason: str) -> None:
    if unlabelled is not None:
        raise UserError(f"`unlabelled` does not go with this source ({reason}): take it out")


def _unknown_dataset(source: str, dataset: str, known: Iterable[str]) -> UserError:
    return UserError(
        f"`source: {source}` knows {' and '.join(known)}, not {dataset}: set `source` to a path "
        "or URL"
    )


def main(dataset: str) -> None:
    """Downloads one dataset of `params.yaml`."""
    options = params.read(f"datasets.{dataset}.download", Options)
    with write_atomically(Path("data/raw") / dataset) as [folder]:
        folder.mkdir()
        try:
            download(
                dataset,
                folder,
                options.source,
                options.unlabelled,
                options.seed,
                subset=options.subset,
            )
        except UserError as error:
            raise UserError(f"datasets.{dataset}.download: {error}") from None


if __name__ == "__main__":
    run(main)
