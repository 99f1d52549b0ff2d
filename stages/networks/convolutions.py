"""Convolutions without dilations and gradients without strides, which `portable` needs.

oneDNN sums those with either by the size of the second-level cache.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Tensor = Any
Operation = Callable[..., Any]


def without_dilations(original: Operation) -> Operation:
    """Returns a convolution that has zeros between the rows and columns of a dilated filter."""

    def convolve(
        input: Tensor,  # noqa: A002 (TensorFlow's name)
        filter: Tensor,  # noqa: A002
        strides: Sequence[int],
        padding: str,
        dilations: Sequence[int] = (1, 1, 1, 1),
        data_format: str = "NHWC",
        **options: Any,
    ) -> Tensor:
        options["data_format"] = data_format
        if max(dilations) == 1 or data_format != "NHWC":
            return original(input, filter, strides, padding, dilations=dilations, **options)
        _, down, right, _ = dilations
        height, width, *channels = filter.shape
        shape = [(height - 1) * down + 1, (width - 1) * right + 1, *channels]
        return original(
            input, _spread(filter, shape, [down, right, 1, 1]), strides, padding, **options
        )

    return convolve


def _spread(tensor: Tensor, shape: Any, strides: Sequence[int]) -> Tensor:
    """Puts `tensor` where a slice of `shape` with `strides` takes it from, zeros elsewhere."""
    return tf.raw_ops.StridedSliceGrad(
        shape=shape, begin=[0] * 4, end=shape, strides=strides, dy=tensor
    )


def without_strides(original: Operation) -> Operation:
    """Returns the gradient of a convolution for its input, computed by one without strides.

    A convolution with strides is one without, of whose output some rows and columns are taken.
    """

    def gradient(
        input_sizes: Tensor,
        filter: Tensor,  # noqa: A002 (TensorFlow's name)
        out_backprop: Tensor,
        strides: list[int],
        padding: str | bytes,
        explicit_paddings: Sequence[int] = (),
        dilations: Sequence[int] = (1, 1, 1, 1),
        data_format: str | bytes = "NHWC",
        **options: Any,
    ) -> Tensor:
        options |= {"dilations": dilations, "data_format": data_format}
        if max(strides) == 1 or data_format not in ("NHWC", b"NHWC"):
            options["explicit_paddings"] = explicit_paddings
            return original(input_sizes, filter, out_backprop, strides, padding, **options)
        sizes, outputs = tf.convert_to_tensor(input_sizes), tf.shape(out_backprop)
        skipped, padded, unstrided = [], [], []  # of rows, of columns
        for axis in (1, 2):
            reach = (filter.shape[axis - 1] - 1) * dilations[axis] + 1
            if explicit_paddings:
                skipped.append(explicit_paddings[2 * axis])
                padded.append(sizes[axis] + sum(explicit_paddings[2 * axis : 2 * axis + 2]))
            else:  # what SAME adds; VALID never needs more than there is
                missing = (outputs[axis] - 1) * strides[axis] + reach - sizes[axis]
                missing = tf.maximum(missing, 0)
                skipped.append(missing // 2)
                padded.append(sizes[axis] + missing)
            unstrided.append(padded[-1] - reach + 1)

        def spread(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
            shape = tf.stack([outputs[0], rows, columns, tf.shape(images)[3]])
            return _spread(images, shape, strides)

        def unstrided_gradient(rows: Tensor, columns: Tensor, images: Tensor) -> Tensor:
            shape = tf.stack([outputs[0], rows, columns, sizes[3]])
            return original(shape, filter, images, [1, 1, 1, 1], "VALID", **options)

        if filter.shape[:2] == (1, 1):  # one pixel gives one: add the zeros at the end
            gradient = spread(unstrided_gradient(outputs[1], outputs[2], out_backprop), *padded)
        else:
            rows, columns = padded
            gradient = unstrided_gradient(rows, columns, spread(out_backprop, *unstrided))
        return tf.slice(gradient, [0, *skipped, 0], sizes)

    return gradient
