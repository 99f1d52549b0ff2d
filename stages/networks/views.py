"""Several views of an image: what a network says of its mirror image, and of it a bit shifted."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from stages.lib import params
from stages.lib.images import Images
from stages.lib.params import Section
from stages.networks import feed
from stages.networks.runtime import keras


class Views(Section):
    """`evaluation.test_time.M`: the views whose mean counts, beside the image as it is.

    `flip` adds its mirror image, `shift` four that are moved by so many pixels: up, down, left and
    right.
    """

    flip: Literal["horizontal"] | None = None
    shift: int | None = Field(None, ge=1, le=16)

    @model_validator(mode="after")
    def _changes_something(self) -> "Views":
        if self.flip is None and self.shift is None:
            raise ValueError("expected `flip: horizontal`, `shift: 1`, or both")
        return self

    def of(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """Yields all views of images, uint8 [n, height, width, channels]; edges are repeated."""
        yield images
        if self.flip:
            yield images[:, :, ::-1]
        if self.shift:
            height, width = (np.arange(side) for side in images.shape[1:3])
            for step in (-self.shift, self.shift):
                yield images[:, np.clip(height + step, 0, height[-1])]
                yield images[:, :, np.clip(width + step, 0, width[-1])]


def read_views(model: str) -> Views | None:
    """Returns the views that `evaluation.test_time` names for `model`; it may be left out."""
    section = params.load()["evaluation"].get("test_time", {})
    return params.check("evaluation.test_time", section, dict[str, Views]).get(model)


def predict(
    model: keras.Model, images: Images | np.ndarray, batch_size: int, views: Views | None = None
) -> np.ndarray:
    """Returns probabilities of images, the mean over their `views` if there are any.

    Args:
        model: A network.
        images: uint8 [n, height, width, channels].
        batch_size: Images at a time.
        views: Which views count beside the images as they are.

    Returns:
        float32 [n, classes].
    """
    starts = range(0, len(images), batch_size)
    if not starts:
        return np.empty((0, model.output_shape[-1]), np.float32)
    return np.concatenate([_predict(model, images[s : s + batch_size], views) for s in starts])


def _predict(model: keras.Model, images: np.ndarray, views: Views | None) -> np.ndarray:
    if views is None:
        return feed.predict(model, images)
    said = [feed.predict(model, np.ascontiguousarray(view)) for view in views.of(images)]
    # One after the other: the order of the sum is the same on every processor.
    mean = sum(each.astype(np.float64) for each in said) / len(said)
    return np.asarray(mean, said[0].dtype)
