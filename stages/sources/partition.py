"""Choosing which images of a dataset become its parts: stratified, and copies together."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from stages.lib.command import UserError

ATTEMPTS = 20  # at meeting a size exactly with whole groups; some sizes cannot be met

Labels = NDArray[Any]  # uint8 or uint16 [n]
Indices = NDArray[np.int64]


def choose(
    labels: Labels,
    groups: NDArray[np.int32],
    classes: list[str],
    sizes: dict[str, int | float],
    seed: int,
    key: str,
) -> dict[str, Indices]:
    """Chooses the images of each part at random, each class in proportion.

    Shares are of all labelled images, rounded to whole images: 0.1666667 of 60,000 is 10,000. The
    images of a group land in one part. Where groups have several images, a part has the size that
    was asked for where whole groups allow it, else a size near to it; its classes are in
    proportion to within the largest group.

    Args:
        labels: Indexes into `classes`.
        groups: The group of each image.
        classes: The names of the classes.
        sizes: The number or the share of images of `test` and of `valid`, or of one of them.
        seed: Seeds the choice and the order.
        key: The key of the sizes in `params.yaml`, for messages.

    Returns:
        The indexes of the images of `train` and of each part that was asked for, in random order.

    Raises:
        UserError: A part would be empty or would miss a class.
    """
    counts = {
        part: size if isinstance(size, int) else round(size * len(labels))
        for part, size in sizes.items()
    }
    check_sizes(counts, labels, classes, key)
    rng = np.random.default_rng(seed)
    single = len(np.unique(groups)) == len(groups)
    chosen = {}
    rest = np.arange(len(labels))
    if not counts:
        return {"train": rng.permutation(rest)}
    for part, count in counts.items():
        if single:
            rest, chosen[part] = train_test_split(
                rest, test_size=count, random_state=seed, stratify=labels[rest]
            )
        else:
            rest, chosen[part] = cut_groups(rest, labels, groups, count, rng)
        parts_to_come = len(counts) + 1 - len(chosen)
        for indices, least in ((chosen[part], 1), (rest, parts_to_come)):
            members = np.bincount(labels[indices], minlength=len(classes))
            if members.min() < least:
                rare = members.argmin()
                own = labels == rare
                copies = f", {len(np.unique(groups[own]))} without copies" if not single else ""
                raise UserError(
                    f"params.yaml: {key}.{part}: with {count} of {len(labels)} images, the class "
                    f"'{classes[rare]}' ({own.sum()} images{copies}) is missing from a part: "
                    "change the size or get more images of the class"
                )
    return {"train": rest, **chosen}


def check_sizes(counts: dict[str, int], labels: Labels, classes: list[str], key: str) -> None:
    """Raises a `UserError` unless every part can have an image of every class."""
    for part, count in counts.items():
        if count < len(classes):
            raise UserError(
                f"params.yaml: {key}.{part}: {count} of {len(labels)} images, "
                f"expected one at least for each of the {len(classes)} classes"
            )
    if sum(counts.values()) + len(classes) > len(labels):
        asked = " and ".join(f"{count} {part}" for part, count in counts.items()) or "no other"
        raise UserError(
            f"params.yaml: {key}: {asked} images of {len(labels)} leave too few to train on, "
            f"expected one at least for each of the {len(classes)} classes"
        )
    members = np.bincount(labels, minlength=len(classes))
    if members.min() <= len(counts):
        parts = ", ".join(("train", *counts))
        raise UserError(
            f"params.yaml: {key}: the class '{classes[members.argmin()]}' has {members.min()} "
            f"images, expected one at least for each part ({parts})"
        )


def cut_groups(
    rest: Indices, labels: Labels, groups: NDArray[np.int32], count: int, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """Takes about `count` images from `rest`, in whole groups; returns what is left and these."""
    names, group_of = np.unique(groups[rest], return_inverse=True)
    pairs, numbers = np.unique(np.stack([group_of, labels[rest]]), axis=1, return_counts=True)
    contents: list[list[tuple[int, int]]] = [[] for _ in names]
    for group, label, number in zip(*pairs.tolist(), numbers.tolist(), strict=True):
        contents[group].append((label, number))
    wanted = apportion(count, np.bincount(labels[rest]))
    taken, missed = _take(contents, wanted, rng)
    for _ in range(ATTEMPTS):
        if not missed:
            break
        other, other_missed = _take(contents, wanted, rng)
        if other_missed < missed:
            taken, missed = other, other_missed
    chosen = taken[group_of]
    return rng.permutation(rest[~chosen]), rng.permutation(rest[chosen])


def apportion(count: int, members: NDArray[np.int64]) -> list[int]:
    """Returns how many of `count` images each class gets, by the largest remainders."""
    shares = count * members / members.sum()
    whole = np.floor(shares).astype(int)
    order = np.argsort(whole - shares, kind="stable")
    whole[order[: count - whole.sum()]] += 1
    numbers: list[int] = whole.tolist()
    return numbers


def _take(
    contents: list[list[tuple[int, int]]], wanted: list[int], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], int]:
    """Takes groups in random order, each if there is room for its images of every class.

    Args:
        contents: The classes of each group, with the numbers of its images.
        wanted: The images of each class to take.
        rng: Gives the order.

    Returns:
        Which groups are taken, and by how many images that misses what is wanted.
    """
    room, total = list(wanted), sum(wanted)
    taken = np.zeros(len(contents), bool)
    order = rng.permutation(len(contents)).tolist()
    for group in order:
        if all(room[label] >= number for label, number in contents[group]):
            taken[group] = True
            for label, number in contents[group]:
                room[label] -= number
                total -= number
            if not total:
                return taken, 0
    # No group fits any more: take one that is too large if that comes nearer.
    sizes = np.array([sum(number for _, number in content) for content in contents])
    over = np.array(
        [max(number - room[label] for label, number in content) for content in contents]
    )
    left = [group for group in order if not taken[group] and sizes[group] < 2 * total]
    if left:
        best = min(left, key=lambda group: (abs(total - sizes[group]), over[group]))
        taken[best] = True
        total -= int(sizes[best])
    return taken, abs(total)
