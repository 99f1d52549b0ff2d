"""The formats of a dataset's files: what `datasets.D.prepare` of params.yaml may say of each."""

from typing import Annotated, Literal

from pydantic import Field, RootModel

from stages.lib.params import Section
from stages.sources.decoding import Interpolation


class Idx(Section):
    """MNIST's four files: a training part and a test part, images and labels each."""

    format: Literal["idx"]


class Photos(Section):
    """Zip archives of photographs, with the class of each in its name or that of its folder.

    Attributes:
        image_size: Height and width of the resized images in pixels.
        interpolation: OpenCV's name for the method of resizing.
        max_broken: The share of broken photographs that is left out; more fail the stage.
        duplicates: `drop` keeps one of photographs with the same pixels, `keep` all of them.
    """

    format: Literal["photos"]
    image_size: Annotated[int, Field(ge=1)] = 50
    interpolation: Interpolation = "area"
    max_broken: Annotated[float, Field(ge=0, le=1)] = 0.1
    duplicates: Literal["drop", "keep"] = "drop"


class Format(RootModel[Annotated[Idx | Photos, Field(discriminator="format")]]):
    """The options of one format; the key `format` tells which."""
