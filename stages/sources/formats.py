"""The formats of a dataset's files: what `datasets.D.prepare` of params.yaml may say of each."""

import codecs
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, RootModel, field_validator

from stages.lib.params import Section
from stages.sources.decoding import MAX_PIXELS, Interpolation


class Idx(Section):
    """MNIST's four files: a training part and a test part, images and labels each."""

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


class Photos(Section):
    """Archives of photographs.

    Attributes:
        image_size: Height and width of the resized images in pixels.
        interpolation: OpenCV's name for the method of resizing.
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
    labels: Annotated[str, BeforeValidator(_check_labels)] | Table | None = None
    classes: dict[str, list[str]] = Field(default_factory=dict)
    unlabelled: list[str] = Field(default_factory=list)
    encoding: Annotated[str, AfterValidator(_check_encoding)] | None = None
    max_pixels: Annotated[int, Field(ge=1)] = MAX_PIXELS
    max_broken: Annotated[float, Field(ge=0, le=1)] = 0.1
    duplicates: Literal["drop", "keep"] = "drop"

    @field_validator("classes")
    @classmethod
    def _rename_once(cls, classes: dict[str, list[str]]) -> dict[str, list[str]]:
        names = [name for names in classes.values() for name in names]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"expected each name once, '{twice[0]}' comes twice")
        return classes


class Format(RootModel[Annotated[Idx | Photos, Field(discriminator="format")]]):
    """The options of one format; the key `format` tells which."""
