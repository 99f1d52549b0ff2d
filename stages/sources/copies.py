"""Finding photographs that are there more than once: exact copies and near copies.

Exact copies have the same pixels after decoding. Near copies show the same picture: one was saved
anew, made smaller, brighter or blurred. Two photographs are near copies if their perceptual hashes
differ in `MAX_DISTANCE` of 64 bits at most, and their thumbnails correlate by `MIN_CORRELATION` at
least. The second rule weeds out what only has a similar outline.

In 22,500 photographs of cats and dogs, the pairs that both rules find are the same picture: their
hashes differ in 4 bits at most, and they correlate by 0.998 and more. Of 300 photographs, the rules
find all that were saved at quality 20, halved, blurred or made noisy, 89% of those made brighter by
a fifth, and 23% of those cut by 2%. They do not find mirrored ones. A lower correlation finds more
of these, but chains of MNIST's ones as well, which are all alike.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.lib.command import UserError
from stages.sources.arrays import Files, Image, save, write_csv
from stages.sources.checks import check_photographs
from stages.sources.fingerprints import SIDE, Fingerprint, perceptual_hashes

Mode = Literal["drop", "keep"]

MAX_DISTANCE = 8  # bits of 64
MIN_CORRELATION = 0.99
# Standard deviation of a thumbnail, in grey levels: below it, a hash is made of noise.
MIN_CONTRAST = 5
# A part that is worth more keeps its copy: nothing of the test part is trained on.
PARTS = ("test", "valid", "train")
PAIRS_AT_ONCE = 2_000_000  # 100 bytes of memory each where all are alike


class NearCopies(NamedTuple):
    """Two photographs that show the same picture: their places in the lists, and the bits apart."""

    first: int
    second: int
    distance: int


class Copies(NamedTuple):
    """What `find_copies` finds.

    Attributes:
        kept: The places of the photographs to keep, in their order, int64 [k].
        groups: For each kept one, the number of its group, int32 [k]: photographs of one group are
            copies of each other. It is the place in `kept` of the group's first one.
        duplicates: Exact copies: file, the file that it is a copy of, and what became of it.
        near: Each photograph that is a near copy of an earlier one, with the first of these.
    """

    kept: NDArray[np.int64]
    groups: NDArray[np.int32]
    duplicates: list[tuple[str, str, str]]
    near: list[NearCopies]


def find_copies(
    files: Sequence[str],
    labels: Sequence[str],
    parts: Sequence[str],
    fingerprints: Sequence[Fingerprint],
    mode: Mode,
) -> Copies:
    """Finds the copies among the labelled photographs of a dataset.

    25,000 photographs take about 2 seconds; twice as many take four times as long.

    Args:
        files: Their names, as people find them.
        labels: The names of their classes.
        parts: `train`, `valid` or `test` for each, as the dataset brings them.
        fingerprints: What `fingerprint` returns for each.
        mode: `drop` keeps one of each set of exact copies: the first of the test part, else of the
            validation part, else of the others. It keeps none of a set with different labels.
            `keep` keeps all.

    Raises:
        UserError: No photograph of a class would be kept.
    """
    sets = defaultdict(list)
    for place in sorted(range(len(files)), key=lambda at: (PARTS.index(parts[at]), at)):
        sets[fingerprints[place].digest].append(place)
    first_of = np.arange(len(files))
    dropped, duplicates = set(), []
    for places in sets.values():
        if len(places) == 1:
            continue
        classes = sorted({labels[at] for at in places})
        reason = f"the same pixels: {'left out' if mode == 'drop' else 'kept'}"
        if len(classes) > 1:
            reason = f"copies with different labels: {', '.join(classes)}"
            reason = reason if mode == "drop" else f"kept: {reason}"
            # The first one goes as well.
            duplicates.append((places[0], places[1], reason))
        duplicates += [(at, places[0], reason) for at in places[1:]]
        first_of[places] = places[0]
        dropped.update(places if len(classes) > 1 else places[1:])
    kept = [at for at in range(len(files)) if mode == "keep" or at not in dropped]
    for name in sorted(set(labels) - {labels[at] for at in kept}):
        own = [row for row in duplicates if labels[row[0]] == name]
        raise UserError(
            f"all {len(own)} photographs of the class '{name}' are copies of photographs of other "
            f"classes, such as {files[own[0][0]]} and {files[own[0][1]]}: correct the labels, or "
            "set `duplicates: keep` in `prepare`"
        )
    firsts = [at for at in kept if first_of[at] == at]
    roots, near = find_near_copies([fingerprints[at] for at in firsts])
    root_of = dict(zip(firsts, roots.tolist(), strict=True))
    return Copies(
        np.array(kept, np.int64),
        _number([root_of[int(first_of[at])] for at in kept]),
        [(files[at], files[first], reason) for at, first, reason in sorted(duplicates)],
        [NearCopies(firsts[a], firsts[b], distance) for a, b, distance in near],
    )


def find_near_copies(
    fingerprints: Sequence[Fingerprint],
) -> tuple[NDArray[np.int64], list[tuple[int, int, int]]]:
    """Finds near copies by comparing all pairs, some rows of pairs in memory at a time.

    Returns:
        For each photograph, the first one of its group, int64 [n]: a copy of a copy is in the
        group. And each photograph that is a near copy of an earlier one: the first of these, its
        own place, and the bits between their hashes.
    """
    count = len(fingerprints)
    roots = np.arange(count)
    pairs: list[tuple[int, int, int]] = []
    hashes = perceptual_hashes(fingerprints)
    thumbnails = np.array([found.thumbnail for found in fingerprints], np.uint8)
    quarters = thumbnails.reshape(count, SIDE // 2, 2, SIDE // 2, 2)
    pixels = (quarters.sum((2, 4), dtype=np.uint16) // 4).reshape(count, 256).astype(np.float32)
    # Sums of 256 products of bytes stay below 2^24: float32 is exact, in whatever order they are.
    sums = pixels.sum(1).astype(float)
    spreads = np.sqrt(256 * np.einsum("ij,ij->i", pixels, pixels).astype(float) - sums**2)
    clear = spreads >= 256 * MIN_CONTRAST
    rows = max(1, PAIRS_AT_ONCE // max(count, 1))
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        distances = np.bitwise_count(hashes[start:stop, np.newaxis] ^ hashes[:stop])
        row, first = np.nonzero(distances <= MAX_DISTANCE)
        wanted = (first < row + start) & clear[first] & clear[row + start]
        row, first = row[wanted], first[wanted]
        if len(row) > distances.size // 50:  # then a product of matrices is quicker
            products = (pixels[start:stop] @ pixels[:stop].T)[row, first]
        else:
            products = np.einsum("ij,ij->i", pixels[row + start], pixels[first])
        second = row + start
        covariances = 256 * products.astype(float) - sums[first] * sums[second]
        similar = covariances >= MIN_CORRELATION * spreads[first] * spreads[second]
        first, second, found = first[similar], second[similar], distances[row, first][similar]
        own, where = np.unique(second, return_index=True)
        pairs += zip(first[where].tolist(), own.tolist(), found[where].tolist(), strict=True)
        # Once for each group that a photograph joins, not for each pair.
        for joined in np.unique(roots[first] * count + second).tolist():
            low, high = sorted(int(roots[place]) for place in divmod(joined, count))
            if low != high:
                roots[roots == high] = low
    return roots, pairs


def write_copies(
    files: Files,
    copies: Copies,
    names: Sequence[str],
    labels: Sequence[str],
    parts: Sequence[str],
    fingerprints: Sequence[Fingerprint],
) -> None:
    """Writes `groups.npy`, `duplicates.csv`, `near_copies.csv` and `checks.csv` of a dataset.

    A row in the tables is the photograph's place among the kept ones of its part: its row in
    `images.npy`, `valid_images.npy` or `test_images.npy`.

    Args:
        files: Where to write each.
        copies: What `find_copies` found.
        names: The files of all photographs, as `find_copies` got them.
        labels: The names of their classes.
        parts: The part of each.
        fingerprints: The fingerprint of each.
    """
    kept = copies.kept.tolist()
    rows = {
        place: row
        for part in PARTS
        for row, place in enumerate(at for at in kept if parts[at] == part)
    }
    own = [at for at, place in enumerate(kept) if parts[place] == "train"]
    save(files["groups.npy"], _number(copies.groups[own]))
    near = [
        (
            *(names[a], names[b], labels[a], labels[b], distance),
            *(rows[a], rows[b], parts[a], parts[b]),
        )
        for a, b, distance in copies.near
    ]

    found = [
        (check, names[kept[at]], rows[kept[at]], value, parts[kept[at]])
        for check, at, value in check_photographs([fingerprints[place] for place in kept])
    ]
    _write_tables(files, copies.duplicates, near, found)


def write_no_tables(files: Files) -> None:
    """Writes the tables of a dataset whose images have no files of their own: headers only."""
    _write_tables(files, [], [], [])


def _write_tables(
    files: Files,
    duplicates: list[tuple[str, str, str]],
    near: list[tuple[Any, ...]],
    checks: list[tuple[Any, ...]],
) -> None:
    write_csv(files["duplicates.csv"], ("file", "copy_of", "reason"), duplicates)
    columns = ("first", "second", "first_class", "second_class", "distance")
    more = ("first_row", "second_row", "first_part", "second_part")
    write_csv(files["near_copies.csv"], columns + more, near)
    write_csv(files["checks.csv"], ("check", "file", "row", "value", "part"), checks)


def _number(groups: Sequence[int] | NDArray[Any]) -> NDArray[np.int32]:
    """Returns for each entry the place of the first one of its group."""
    _, index, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return index[inverse].astype(np.int32)


def group_equal_rows(images: Image) -> NDArray[np.int32]:
    """Returns the groups of equal images, uint8 [n, ...]: for each, the first one equal to it."""
    first: dict[bytes, int] = {}
    found = [
        first.setdefault(hashlib.sha256(image.tobytes()).digest(), at)
        for at, image in enumerate(images)
    ]
    return np.array(found, np.int32)
