"""The formats of a dataset's files: what `datasets.D.prepare` of params.yaml may say of each."""

import codecs
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, RootModel, field_validator

from stages.lib.command import UserError
from stages.lib.params import Section
from stages.sources.decoding import MAX_PIXELS
from stages.sources.resizing import Interpolation

Positive = Annotated[int, Field(ge=1)]
# The files in `data/raw/D` by which `prepare` knows what `download` brought.
RAW = {
    "idx": r".*-ubyte(\.gz)?",
    "npz": r".*\.np[yz]",
    "csv": r"(train|valid|test)\.csv\.gz",
    "photos": r".*\.(zip|tar(\.(gz|bz2|xz))?)",
}


class ArrayFormat(Section):
    """Images that come as arrays, all of one size.

    Attributes:
        classes: The names of the labels that occur, in the order of their numbers; the numbers
            themselves if left out.
        transpose: Whether rows and columns are swapped, as EMNIST has them.
        shape: Height and width, and the channels if not one, of images that come as one row each;
            a square if left out.
    """

    classes: list[Annotated[str, Field(min_length=1)]] | None = None
    transpose: bool = False
    shape: Annotated[list[Positive], Field(min_length=2, max_length=3)] | None = None

    @field_validator("classes")
    @classmethod
    def _are_different(cls, classes: list[str] | None) -> list[str] | None:
        if classes is not None and len(set(classes)) < len(classes):
            raise ValueError("expected names that are different")
        return classes


class Idx(ArrayFormat):
    """MNIST's files: images and labels for training, and often for testing."""

    format: Literal["idx"]


class Table(Section):
    """A table of labels.

    Attributes:
        csv: Its name, in an archive or beside it.
        file: The column of the photographs' names.
        label: The column of the classes.
    """

    csv: str
    file: str = "file"
    label: str = "label"


def _check_labels(value: Any) -> Any:
    if isinstance(value, str) and value not in ("folder", "name"):
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"expected a pattern ({error})") from None
        if groups != 1:
            raise ValueError(
                "expected folder, name, a pattern with one group such as '(.+)_\\d+', "
                "or {csv: labels.csv}"
            )
    return value


def _check_encoding(value: str) -> str:
    try:
        codecs.lookup(value)
    except LookupError:
        raise ValueError("expected an encoding, such as cp437, shift_jis, gbk or latin-1") from None
    return value


class Npz(ArrayFormat):
    """NumPy's arrays: one `.npz` file with all parts, or a file for each array."""

    format: Literal["npz"]


class Csv(ArrayFormat):
    """A line for each image: its label and its pixels.

    Attributes:
        label_column: The column of the labels, by its name or by its number from 0 on; the one that
            is called `label` or the like, or else the first, if left out.
    """

    format: Literal["csv"]
    label_column: str | Annotated[int, Field(ge=0)] | None = None


class Photos(Section):
    """Archives of photographs.

    Attributes:
        image_size: Height and width of the resized images in pixels.
        interpolation: OpenCV's name for the method of resizing.
        decoding: `scaled` decodes a JPEG at a half, a quarter or an eighth, where that leaves
            twice `image_size`; `full` at its own size. `scaled` for the interpolation `area`,
            which hardly sees a difference, if left out; else `full`.
        labels: Where a photograph's class comes from: `folder`, `name` (as in cat.0.jpg), a
            pattern with one group that fits whole names without their suffix, or a table. It can
            be left out where one reading is possible.
        classes: Names for classes: {dog: [dog, dogs]}.
        unlabelled: Folders of photographs that have no labels.
        encoding: The encoding of file names and tables that are not in UTF-8.
        max_pixels: An image of more pixels counts as broken.
        max_broken: The share of broken photographs that is left out; more fail the stage.
        duplicates: Whether to drop exact copies, or to keep them.
    """

    format: Literal["photos"]
    image_size: Annotated[int, Field(ge=1)] = 50
    interpolation: Interpolation = "area"
    decoding: Literal["scaled", "full"] | None = None
    labels: Annotated[str, BeforeValidator(_check_labels)] | Table | None = None
    classes: dict[str, list[str]] = Field(default_factory=dict)
    unlabelled: list[str] = Field(default_factory=list)
    encoding: Annotated[str, AfterValidator(_check_encoding)] | None = None
    max_pixels: Annotated[int, Field(ge=1)] = MAX_PIXELS
    max_broken: Annotated[float, Field(ge=0, le=1)] = 0.1
    duplicates: Literal["drop", "keep"] = "drop"

    @property
    def enough(self) -> int | None:
        """How many pixels a JPEG that is decoded at less than its size keeps; None: at its size."""
        chosen = self.decoding or ("scaled" if self.interpolation == "area" else "full")
        return 2 * self.image_size if chosen == "scaled" else None

    @field_validator("classes")
    @classmethod
    def _rename_once(cls, classes: dict[str, list[str]]) -> dict[str, list[str]]:
        names = [name for names in classes.values() for name in names]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"expected each name once, '{twice[0]}' comes twice")
        return classes


class Format(RootModel[Annotated[Idx | Npz | Csv | Photos, Field(discriminator="format")]]):
    """The options of one format; the key `format` tells which."""


def check_format(raw: Path, wanted: str) -> None:
    """Raises a `UserError` if the files in the folder `raw` are all of another format."""
    names = sorted(path.name for path in raw.iterdir())
    found = {
        name: kind for name in names for kind, pattern in RAW.items() if re.fullmatch(pattern, name)
    }
    if found and wanted not in found.values():
        name, kind = next(iter(found.items()))
        raise UserError(
            f"{raw}: holds {name}, and `format: {wanted}` does not read it: set `format: {kind}`"
        )
