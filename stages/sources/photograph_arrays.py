"""Photographs in archives become arrays, without being unpacked."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from functools import partial
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from stages.lib import cluster
from stages.lib.command import UserError
from stages.sources.archives import open_archives
from stages.sources.arrays import (
    MAX_CLASSES,
    Files,
    Image,
    LeftOut,
    Prepared,
    Sizes,
    label_dtype,
    save,
    write_csv,
    write_rows,
    write_selection,
)
from stages.sources.batches import decode_in_batches
from stages.sources.copies import find_copies, write_copies
from stages.sources.decoding import Decoded, decode_ahead, decode_image, to_square
from stages.sources.fingerprints import BYTES as FINGERPRINT_BYTES
from stages.sources.fingerprints import Fingerprint, fingerprint
from stages.sources.formats import Photos
from stages.sources.label_tables import SUFFIXES as TABLE_SUFFIXES
from stages.sources.photographs import Found, Photograph, find_photographs, number_uniquely

PARTS = ("train", "valid", "test")


class Read(NamedTuple):
    """A photograph as it was read.

    Attributes:
        resized: Its image, and the size of the original.
        fingerprint: What it is compared by.
    """

    resized: Decoded
    fingerprint: Fingerprint


def prepare_photos(
    raw: Path, options: Photos, files: Files, workers: int | None = None
) -> Prepared:
    """Writes the arrays of the archives in the folder `raw`.

    Args:
        raw: Holds archives, and perhaps a table of labels.
        options: Where the classes come from, how to resize, what to leave out.
        files: Where to write each array.
        workers: The number of threads; it changes the speed and no byte. Where
            `DASK_SCHEDULER_ADDRESS` is set, the workers of its cluster decode instead.

    Raises:
        UserError: An archive is damaged, the classes are not clear, or there are too many broken
            photographs or classes.
    """
    present = sorted(path for path in raw.iterdir() if path.name != "origin.txt")
    tables = [path for path in present if path.suffix.lower() in TABLE_SUFFIXES]
    archives = [path for path in present if path not in tables]
    if not archives:
        raise UserError(f"{raw}: no archive of photographs in it, such as train.zip")
    with open_archives(archives, options.encoding) as members:
        found = find_photographs(
            str(raw), members, [(path.name, path.read_bytes) for path in tables], options
        )
        print(f"the class of a photograph is {found.words}")
        return _write(raw, found, options, files, workers)


def _write(raw: Path, found: Found, options: Photos, files: Files, workers: int | None) -> Prepared:
    shape = (options.image_size, options.image_size, 3)
    unlabelled = [p for p in found.photographs if p.part == "unlabelled"]
    ids = number_uniquely(unlabelled)
    broken, notes, sizes = list(found.broken), list[tuple[str, str]](), Sizes()
    kept: list[Photograph] = []
    lost: list[Photograph] = []
    prints: list[Fingerprint] = []

    def read_images(part: str, executor: Executor | None) -> Iterator[Image]:
        photographs = [p for p in found.photographs if p.part == part]
        kind = "labelled" if part == "train" else part
        with tqdm(photographs, kind, unit=" photographs", mininterval=1) as progress:
            for photograph, read in read_photographs(progress, options, workers, executor):
                if isinstance(read, str):
                    broken.append((str(photograph), read))
                    lost.append(photograph)
                    continue
                kept.append(photograph)
                prints.append(read.fingerprint)
                notes.extend((str(photograph), note) for note in read.resized.notes)
                sizes[read.resized.width, read.resized.height] += 1
                yield read.resized.image

    with cluster.workers() if cluster.address() else nullcontext() as executor:
        for part in (*PARTS, "unlabelled"):
            write_rows(files[array_name(part)], read_images(part, executor), shape)
    total = len(found.photographs) + len(found.broken)
    check_broken(raw, sorted(broken), total, options.max_broken)
    check_classes(raw, found.photographs, lost, options.max_broken)

    labelled = [p for p in kept if p.label]
    names, parts = [str(p) for p in labelled], [p.part for p in labelled]
    labels = [str(p.label) for p in labelled]
    copies = find_copies(names, labels, parts, prints[: len(labelled)], options.duplicates)
    write_copies(files, copies, names, labels, parts, prints)
    if copies.duplicates or copies.near:
        print(
            f"{len(copies.duplicates)} exact copies ({len(labelled) - len(copies.kept)} left out), "
            f"{len(copies.near)} near copies, which stay in one part"
        )
    stays = np.isin(np.arange(len(labelled)), copies.kept)
    classes = sorted(set(compress(labels, stays)))
    if len(classes) > MAX_CLASSES:
        raise UserError(
            f"{raw}: {len(classes)} classes ({', '.join(classes[:3])}, ...), "
            f"expected {MAX_CLASSES} at most"
        )
    index = {name: number for number, name in enumerate(classes)}
    for part in PARTS:
        own = np.array([p.part == part for p in labelled], bool)
        select_rows(files[array_name(part)], np.flatnonzero(stays[own]))
        indexes = [index[label] for label in compress(labels, own & stays)]
        name = array_name(part).replace("images", "labels")
        save(files[name], np.array(indexes, label_dtype(len(classes))))
    is_lost = {id(p) for p in lost}
    for name, chosen in (("unlabelled_names.npy", False), ("unlabelled_left_out.npy", True)):
        some = [i for i, p in zip(ids, unlabelled, strict=True) if (id(p) in is_lost) == chosen]
        save(files[name], np.array(some, np.str_))
    write_csv(files["notes.csv"], ("file", "note"), sorted(notes))
    return Prepared(classes, sizes, broken + found.left_out)


def array_name(part: str) -> str:
    """Returns the name of the file of a part's images."""
    return "images.npy" if part == "train" else f"{part}_images.npy"


def select_rows(path: Path, rows: np.ndarray) -> None:
    """Keeps some rows of an `.npy` file."""
    images = np.load(path, mmap_mode="r")
    if len(rows) < len(images):
        shorter = path.with_name(f"{path.stem}.shorter{path.suffix}")
        write_selection(shorter, images, rows)
        shorter.replace(path)


def check_broken(raw: Path, broken: list[LeftOut], photographs: int, max_broken: float) -> None:
    """Raises a `UserError` if more than the share `max_broken` of the photographs is broken."""
    share = len(broken) / max(photographs, 1)
    if share > max_broken:
        examples = ", ".join(f"{file} ({reason})" for file, reason in broken[:3])
        raise UserError(
            f"{raw}: {len(broken)} of {photographs} photographs are broken "
            f"({share:.1%}, max_broken allows {max_broken:.1%}): {examples}"
        )


def check_classes(
    raw: Path, photographs: Sequence[Photograph], lost: Sequence[Photograph], max_broken: float
) -> None:
    """Raises a `UserError` if a class loses more than the share `max_broken`."""
    of_class, broken = (Counter(p.label for p in some if p.label) for some in (photographs, lost))
    for name, count in sorted(broken.items()):
        if count / of_class[name] > max_broken:
            example = next(str(p) for p in lost if p.label == name)
            raise UserError(
                f"{raw}: {count} of {of_class[name]} photographs of the class '{name}' are broken "
                f"(max_broken allows {max_broken:.1%}), such as {example}: raise max_broken if "
                "that is no loss"
            )


def read_photographs(
    photographs: Iterable[Photograph],
    options: Photos,
    workers: int | None = None,
    executor: Executor | None = None,
) -> Iterator[tuple[Photograph, Read | str]]:
    """Reads photographs in the order given, many at a time but with few in memory.

    Args:
        photographs: The photographs to read.
        options: How to resize, and the largest image.
        workers: The number of threads; None is one for each core.
        executor: A cluster's, which then decodes them instead of threads.

    Yields:
        Each photograph as it was read, or with the reason why it was not.
    """
    decode = partial(read_photograph, options=options)
    contents = ((photograph, photograph.member.read()) for photograph in photographs)
    if executor:
        result_bytes = 3 * options.image_size**2 + FINGERPRINT_BYTES
        yield from decode_in_batches(contents, decode, executor, result_bytes)
    else:
        yield from decode_ahead(contents, decode, workers)


def read_photograph(content: bytes | str, options: Photos) -> Read | str:
    """Reads a photograph from the content of its file; a reason why there is none stays it."""
    if isinstance(content, str):
        return content
    decoded = decode_image(content, options.max_pixels, options.enough)
    if isinstance(decoded, str):
        return decoded
    resized = to_square(decoded, options.image_size, options.interpolation)
    return Read(resized, fingerprint(decoded.image, decoded.width, decoded.height))
