"""Histograms of oriented gradients: fixed features for a linear classifier.

Dalal and Triggs, 2005: https://doi.org/10.1109/CVPR.2005.177. As there: centred differences without
smoothing, in colour images those of the channel that changes most; nine directions without sign;
blocks of two by two cells that overlap, each normalised by its L2 norm. Simpler than there: a pixel
counts for its own cell only and as much at a block's edge as in its middle, and no value is cut off
after the normalisation.

Nothing here is trained. All is sums, products, divisions and square roots, which every processor
computes alike, and no angle is computed.
"""

import math
from typing import Any

import numpy as np

from stages.lib.command import UserError
from stages.networks.runtime import keras
from stages.networks.vocabulary import blame, check_arguments

NAME = "HOG"
DIRECTIONS = 9
# Pixels; the first unless a block of it is too large, or the second leaves fewer pixels over.
CELLS = (8, 7)
# Added to a block's norm, whose unit is grey levels a pixel: noise of flat places stays small.
FAINT = 1.0


def hog() -> None:
    """Takes no arguments: `{HOG: {}}` is what `HOG` is."""


def hog_features(pixels: Any, arguments: dict[str, Any], key: str) -> Any:
    """Returns the histograms of images, float32 [n, features].

    Args:
        pixels: float [n, height, width, channels].
        arguments: Those in `params.yaml`, of which there are none.
        key: Where the application stands in `params.yaml`, for error messages.

    Raises:
        UserError: There is an argument, or the images are too small for a block.
    """
    check_arguments(hog, arguments, key)
    if len(pixels.shape) != 4 or min(pixels.shape[1:3]) < 2 * CELLS[1]:
        shape = " x ".join(map(str, pixels.shape[1:]))
        raise UserError(
            f"params.yaml: {key}: takes images of {2 * CELLS[1]} x {2 * CELLS[1]} pixels at least, "
            f"found {shape}: end `layers` with Resizing, or leave the last of them out"
        )
    fitting = [side for side in CELLS if min(pixels.shape[1:3]) >= 2 * side]
    cell = min(fitting, key=lambda side: sum(length % side for length in pixels.shape[1:3]))
    with blame(key):
        across, down = _gradients(keras.ops.cast(pixels, "float32"))
        cells = keras.layers.AveragePooling2D(cell, name="hog_cells", dtype="float32")(
            _votes(across, down)
        )
        corners = [cells[:, :-1, :-1], cells[:, :-1, 1:], cells[:, 1:, :-1], cells[:, 1:, 1:]]
        blocks = keras.layers.Concatenate(name="hog_blocks", dtype="float32")(corners)
        energy = keras.ops.sum(blocks * blocks, axis=-1, keepdims=True)
        blocks = blocks / keras.ops.sqrt(energy + FAINT * FAINT)
        return keras.layers.Flatten(name="hog_features", dtype="float32")(blocks)


def _gradients(pixels: Any) -> tuple[Any, Any]:
    """Returns the differences across and down, [n, height, width, 1] each; edges are repeated."""
    join = keras.ops.concatenate
    wide = join([pixels[:, :, :1], pixels, pixels[:, :, -1:]], axis=2)
    high = join([pixels[:, :1], pixels, pixels[:, -1:]], axis=1)
    across, down = wide[:, :, 2:] - wide[:, :, :-2], high[:, 2:] - high[:, :-2]
    strongest = across[..., :1], down[..., :1]
    # Not by argmax: with that, the network could not be exported to ONNX and LiteRT.
    for at in range(1, pixels.shape[-1]):
        channel = across[..., at : at + 1], down[..., at : at + 1]
        stronger = _energy(*channel) > _energy(*strongest)
        strongest = (
            keras.ops.where(stronger, channel[0], strongest[0]),
            keras.ops.where(stronger, channel[1], strongest[1]),
        )
    return strongest


def _energy(across: Any, down: Any) -> Any:
    return across * across + down * down


def _votes(across: Any, down: Any) -> Any:
    """Returns the gradients' votes for each direction, [n, height, width, DIRECTIONS].

    A gradient is the sum of a part along each of the two directions that it lies between; these
    parts are its votes. Their sum is the gradient's length within 1.6%, and each is close to the
    share that the angle has. The part along a direction follows from the distances to the lines
    along the directions beside it: the smaller of both, where they have the same sign.
    """
    step = math.pi / DIRECTIONS
    angles = step * np.arange(-1, DIRECTIONS + 1)
    lines = np.stack([np.cos(angles), np.sin(angles)]) / math.sin(step)
    cosines, sines = lines.astype(np.float32)
    before = down * cosines[:-2] - across * sines[:-2]
    after = across * sines[2:] - down * cosines[2:]
    positive = keras.ops.relu(keras.ops.minimum(before, after))
    negative = keras.ops.relu(-keras.ops.maximum(before, after))
    return positive + negative
