"""What the folders of photographs say: which part of a split, and which have no labels."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from unicodedata import normalize

from stages.lib.command import UserError
from stages.sources.names import without_archive_suffix

# The words with which people name the parts of a split, at either end of a name: `train`,
# `training_set`, `seg_train`, `asl_alphabet_test`.
PARTS = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "valid"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}
# .. and photographs without labels: Kaggle's cats and dogs, a course's, Intel's scenes.
UNLABELLED = ("test1", "single_prediction", "seg_pred", "unlabelled", "unlabeled")
# Words that say how files are stored, not what they show.
STRUCTURE = frozenset(
    [
        *("data", "dataset", "datasets", "images", "image", "imgs", "img", "jpg", "jpegs", "png"),
        *("photos", "photo", "photographs", "pictures", "pics", "raw", "files", "archive", "all"),
        *("original", "originals", "resized", "augmented", "cropped", "processed", "set"),
        *PARTS,
    ]
)
# Folders of masks: a picture in them belongs to the photograph of the same name.
MASKS = ("masks", "trimaps", "annotations", "segmentations", "ground_truth", "groundtruth")
MASK_SUFFIX = re.compile(r"(.+)[ _-](mask|seg|segmentation)(_\d+)?")


@dataclass(frozen=True)
class Place:
    """Where a photograph stands.

    Attributes:
        roots: The names of its archives without their suffixes, the outer one first.
        folders: Its folders in the archive, the outer one first.
        part: `train`, `valid` or `test` of a given split; None without one.
        labelled: Whether it is to have a class.
    """

    roots: tuple[str, ...]
    folders: tuple[str, ...]
    part: str | None = None
    labelled: bool = True


def place(archive: str, path: str) -> Place:
    """Returns where the photograph `path` of `archive` stands."""
    *outer, last = archive.split("/")
    roots = (*(without_archive_suffix(name) for name in outer), without_archive_suffix(last))
    return Place(roots, PurePosixPath(path).parent.parts)


def lay_out(where: str, places: Sequence[Place], unlabelled: Collection[str]) -> list[Place]:
    """Finds the photographs without labels and the parts of a given split.

    The folders that say so are taken out of `folders`.

    Args:
        where: What holds the photographs, for messages.
        places: The photographs' places.
        unlabelled: Further folders of photographs without labels, such as `holidays/raw`.

    Raises:
        UserError: A folder of `unlabelled` is not there, or only some photographs are in a part.
    """
    further = [tuple(PurePosixPath(_fold(folder)).parts) for folder in unlabelled]
    for folder, names in zip(unlabelled, further, strict=True):
        if not names or not any(_contains(_names(p), names) for p in places):
            raise UserError(f"{where}: no folder '{folder}', which `prepare.unlabelled` names")
    marked = [
        replace(p, labelled=not any(_contains(_names(p), names) for names in further))
        for p in places
    ]
    marked = _leave_out_unlabelled(where, marked)
    found = _find_parts(marked)
    parts = {p.part for p in found if p.labelled}
    if len(parts - {None}) < 2:  # all in train/: nothing is split
        return marked
    if None in parts:
        outside = next(p for p in found if p.labelled and p.part is None)
        inside = next(p for p, other in zip(marked, found, strict=True) if other.part)
        raise UserError(
            f"{where}: '{_path(inside)}' is in a part of a split, '{_path(outside)}' is in none: "
            "move it into one, or name it under `prepare.unlabelled`"
        )
    return found


def _leave_out_unlabelled(where: str, places: Sequence[Place]) -> list[Place]:
    """Marks the photographs in folders or archives that are called so."""
    found, above = [], defaultdict[str, set[tuple[str, ...]]](set)
    for place in places:
        at = next((at for at, name in enumerate(_names(place)) if name in UNLABELLED), None)
        if place.labelled and at is not None and at >= len(place.roots):
            above[_names(place)[at]].add((*place.roots, *place.folders)[:at])
        found.append(replace(place, labelled=place.labelled and at is None))
    for name, folders in above.items():
        first, *others = sorted(folders)
        second = next((names for names in others if names[0] == first[0]), None)
        if second:
            raise UserError(
                f"{where}: photographs in '{name}' have no labels, but it is in both "
                f"'{'/'.join(first)}' and '{'/'.join(second)}': name it under "
                "`prepare.unlabelled` if they have none, or call it otherwise"
            )
    return found


def _find_parts(places: Sequence[Place]) -> list[Place]:
    """Returns the places with their parts, where several names tell parts of the same thing."""
    labelled = [(*p.roots, *p.folders) for p in places if p.labelled]
    # What all share is called so by chance: test/train/cat, test/val/cat.
    shared = [len(set(names)) == 1 for names in zip(*labelled, strict=False)]
    top = [*shared, False].index(False)
    named = [_name_parts(p, top) if p.labelled else {} for p in places]
    kinds = Counter(what for names in named for _, what in names.values())
    parts_of = {
        what: {part for names in named for part, other in names.values() if other == what}
        for what in kinds
    }
    found = []
    for place, names in zip(places, named, strict=True):
        told = {at: part for at, (part, what) in names.items() if len(parts_of[what]) > 1}
        inside = [at for at in told if at >= len(place.roots)]
        at = min(inside or told, default=None)
        if at is None:
            found.append(place)
            continue
        first = len(place.roots)
        kept = [n for i, n in enumerate(place.folders, first) if i >= top and i != at]
        found.append(replace(place, folders=tuple(kept), part=told[at]))
    return _without_repeated(found)


def _name_parts(place: Place, top: int) -> dict[int, tuple[str, str]]:
    """Returns the part that a name tells and the rest of the name, by its position."""
    names: dict[int, tuple[str, str]] = {}
    for at, name in enumerate((*place.roots, *place.folders)):
        words = re.findall(r"[^\W\d_]+", name.lower())
        for own in (words[:1], words[-1:]) if at >= top else ():
            if own and own[0] in PARTS:
                rest = [word for word in words if word != own[0] and word not in STRUCTURE]
                names[at] = (PARTS[own[0]], " ".join(rest))
    return names


def _without_repeated(places: Sequence[Place]) -> list[Place]:
    """Takes out the second of two folders that name a part: seg_train/seg_train/forest."""
    repeated = {
        part
        for part in PARTS.values()
        if all(
            p.folders and _name_parts(replace(p, roots=()), 0).get(0, ("",))[0] == part
            for p in places
            if p.part == part
        )
    }
    return [replace(p, folders=p.folders[1:]) if p.part in repeated else p for p in places]


def refuse_masks(where: str, paths: Iterable[str]) -> None:
    """Raises a `UserError` if half of some pictures are masks of the others, by their names."""
    stems = defaultdict[str, set[str]](set)
    for path in map(PurePosixPath, paths):
        stems[str(path.parent)].add(path.stem)
    everywhere = Counter(stem for names in stems.values() for stem in names)
    for folder, names in sorted(stems.items()):
        beside = sum(1 for n in names if (m := MASK_SUFFIX.fullmatch(n)) and m[1] in names)
        if 4 * beside >= len(names) > 1:
            raise UserError(
                f"{where}: '{folder}' has masks beside photographs: name the photographs alone in "
                "a table, `prepare.labels: {csv: ..}`, or take the masks out"
            )
        if any(part.lower() in MASKS for part in PurePosixPath(folder).parts):
            twins = sum(
                everywhere[MASK_SUFFIX.sub(r"\1", n)] > (MASK_SUFFIX.sub(r"\1", n) == n)
                for n in names
            )
            if 2 * twins >= len(names):
                raise UserError(
                    f"{where}: '{folder}' has masks of the other photographs: set "
                    f"`prepare.unlabelled: [{folder}]`, or take them out"
                )


def _fold(name: str) -> str:
    return normalize("NFC", name).strip().lower()


def _names(place: Place) -> tuple[str, ...]:
    return tuple(_fold(name) for name in (*place.roots, *place.folders))


def _path(place: Place) -> str:
    return "/".join((*place.roots[-1:], *place.folders))


def _contains(names: tuple[str, ...], run: tuple[str, ...]) -> bool:
    return any(names[at : at + len(run)] == run for at in range(len(names) - len(run) + 1))


def below_top(folders: Sequence[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], str]:
    """Takes away the outer folders that all photographs share.

    Photographs that lie beside such a folder do not count.

    Returns:
        What is left of each photograph's folders, and the path of those taken away.
    """
    rest, top = list(folders), list[str]()
    while True:
        names = Counter(f[0] for f in rest if f)
        if len(names) != 1:
            return rest, "/".join(top)
        [name] = names
        top.append(name)
        rest = [f[1:] for f in rest]
