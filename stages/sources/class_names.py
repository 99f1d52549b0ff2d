"""The names of classes: one spelling for each, as a dataset's `classes` say."""

from collections.abc import Mapping, Sequence
from unicodedata import normalize

from stages.lib.command import UserError
from stages.lib.params import nearest


def fold(label: str) -> str:
    """Returns a class name in small letters and in one Unicode form (NFC)."""
    return normalize("NFC", label).strip().lower()


def name_classes(
    where: str,
    labels: Sequence[str | None],
    archives: Sequence[str],
    classes: Mapping[str, Sequence[str]],
) -> list[str | None]:
    """Gives the classes their names: as `classes` says, else in small letters.

    Args:
        where: What holds the photographs, for messages.
        labels: What the photographs' folders, names or table say.
        archives: The archive of each photograph.
        classes: Names of classes, and what is to be called so.

    Raises:
        UserError: `classes` renames what is not there, or one archive has two classes that differ
            by upper and lower case or their Unicode form alone.
    """
    named = {normalize("NFC", old): new for new, olds in classes.items() for old in olds}
    known = {normalize("NFC", label) for label in labels if label}
    for old in named:
        if fold(old) not in map(fold, known):
            match = nearest(old, known)
            hint = f"; did you mean '{match}'?" if match else ""
            raise UserError(
                f"{where}: `prepare.classes` names '{old}', found "
                f"{', '.join(sorted(known)[:10])}{hint}"
            )
    by_fold = {fold(old): new for old, new in named.items()}
    spellings: dict[tuple[str, str], str] = {}
    for label, archive in zip(labels, archives, strict=True):
        if label:
            other = spellings.setdefault((archive, fold(label)), label)
            if other != label and not {normalize("NFC", name) for name in (label, other)} <= set(
                named
            ):
                raise UserError(
                    f"{where}: {archive} has the classes {other!r} and {label!r}, which differ by "
                    "case or Unicode form alone: say in `prepare.classes` which is which, such as "
                    f"{{{fold(label)}: [{other}, {label}]}} if they are one"
                )
    final = [
        label and (named.get(normalize("NFC", label)) or by_fold.get(fold(label)) or fold(label))
        for label in labels
    ]
    for name in classes:
        twin = next((n for n in final if n and n not in classes and fold(n) == fold(name)), None)
        if twin:
            raise UserError(
                f"{where}: `prepare.classes` has '{name}', and there is a class '{twin}': list "
                f"'{twin}' under '{name}' if they are one, or call one otherwise"
            )
    return final
