"""What the folders of photographs say: which part of a split, and which have no labels."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from stages.lib.command import UserError
from stages.sources.names import without_archive_suffix

# The names of folders that people give to the parts of a split.
PARTS = {
    **dict.fromkeys(("train", "training", "trainset", "train_set", "training_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "valid"),
    **dict.fromkeys(("val_set", "valid_set", "validation_set"), "valid"),
    **dict.fromkeys(("test", "testing", "testset", "test_set", "testing_set"), "test"),
    **dict.fromkeys(("seg_train", "train_images"), "train"),  # Intel's scenes, and others
    **dict.fromkeys(("seg_test", "test_images"), "test"),
    **dict.fromkeys(("seg_val", "val_images", "valid_images"), "valid"),
}
# .. and to photographs without labels: Kaggle's cats and dogs, a course's, Intel's scenes.
UNLABELLED = ("test1", "single_prediction", "seg_pred", "unlabelled", "unlabeled")
# Words that say how files are stored, not what they show.
STRUCTURE = (
    *("data", "dataset", "datasets", "images", "image", "imgs", "img", "jpg", "jpegs", "png"),
    *("photos", "photo", "photographs", "pictures", "pics", "raw", "files", "archive", "all"),
    *PARTS,
)


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
    further = [tuple(PurePosixPath(folder.lower()).parts) for folder in unlabelled]
    for folder, names in zip(unlabelled, further, strict=True):
        if not any(_contains(_names(p), names) for p in places):
            raise UserError(f"{where}: no folder '{folder}', which `prepare.unlabelled` names")
    marked = [
        Place(p.roots, p.folders, labelled=not _is_unlabelled(_names(p), further)) for p in places
    ]
    found = [_part(p) if p.labelled else p for p in marked]
    parts = {p.part for p in found if p.labelled}
    if len(parts - {None}) < 2:  # all in train/: nothing is split
        return [p if p.labelled else f for p, f in zip(marked, found, strict=True)]
    if None in parts:
        outside = next(p for p in found if p.labelled and p.part is None)
        raise UserError(
            f"{where}: the folders {', '.join(sorted(_part_names(marked)))} are the parts of a "
            f"split, but '{'/'.join((*outside.roots[-1:], *outside.folders))}' is in none of them: "
            "move it into one, or name it under `prepare.unlabelled`"
        )
    return found


def _names(place: Place) -> tuple[str, ...]:
    return tuple(name.lower() for name in (*place.roots, *place.folders))


def _contains(names: tuple[str, ...], run: tuple[str, ...]) -> bool:
    return any(names[at : at + len(run)] == run for at in range(len(names) - len(run) + 1))


def _is_unlabelled(names: tuple[str, ...], further: list[tuple[str, ...]]) -> bool:
    return any(name in UNLABELLED for name in names) or any(
        _contains(names, run) for run in further
    )


def _word(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


def _part(place: Place) -> Place:
    """Returns the place with the part that the first such folder or archive names."""
    for names in (place.roots, place.folders):
        for name in names:
            part = PARTS.get(_word(name))
            if part:
                # Intel's scenes have seg_train/seg_train/forest/1.jpg.
                rest = tuple(f for f in place.folders if PARTS.get(_word(f)) != part)
                return Place(place.roots, rest, part)
    return place


def _part_names(places: Sequence[Place]) -> set[str]:
    return {
        name
        for place in places
        if place.labelled
        for name in (*place.roots, *place.folders)
        if _word(name) in PARTS
    }


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
