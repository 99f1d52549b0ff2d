"""The formats of a dataset's files: what `datasets.D.prepare` of params.yaml may say of each."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel, field_validator

from stages.lib.command import UserError
from stages.lib.params import Section
from stages.sources.decoding import Interpolation

Positive = Annotated[int, Field(ge=1)]
# The files in `data/raw/D` by which `prepare` knows what `download` brought.
RAW = {
    "idx": r".*-ubyte(\.gz)?",
    "npz": r".*\.np[yz]",
    "csv": r"(train|valid|test)\.csv\.gz",
    "photos": r".*\.zip",
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
    """Zip archives of photographs, with the class of each in its name or that of its folder.

    Attributes:
        image_size: Height and width of the resized images in pixels.
        interpolation: OpenCV's name for the method of resizing.
        max_broken: The share of broken photographs that is left out; more fail the stage.
    """

    format: Literal["photos"]
    image_size: Annotated[int, Field(ge=1)] = 50
    interpolation: Interpolation = "area"
    max_broken: Annotated[float, Field(ge=0, le=1)] = 0.1


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
