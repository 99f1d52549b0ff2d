"""Arithmetic that gives the same bits on every x86-64 processor with AVX2: `use`.

A processor shows in TensorFlow's results in three ways, which were found by comparing an Intel
Xeon, an AMD EPYC, QEMU's arithmetic and made-up caches:

1. oneDNN chooses its kernels by the instruction sets that there are. Hold it to AVX2.
2. Eigen begins some functions of float32 with the processor's approximations of 1/x and 1/sqrt(x)
   (RCPPS, RSQRTPS), whose tables differ between makes. Compute them by division and square root,
   which IEEE 754 defines to the last bit, or in float64, where Eigen does not approximate.
3. TensorFlow computes a product of matrices by one thread if it fits into the second-level cache
   and by all threads otherwise, and oneDNN then sums in another order. Cut each product into parts
   that one thread each computes. By the size of that cache, oneDNN also sums gradients of
   convolutions with strides or dilations. Compute them without, with zeros in between. A
   convolution of one image alone is a product of matrices again: `feed` gives none.
"""

import math
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import gen_linalg_ops, gen_math_ops, gen_nn_ops, math_ops

# Where TensorFlow and Keras look an operation up.
_PLACES = (gen_math_ops, math_ops, tf.math, tf)
# Those of Keras's functions whose float32 kernels begin with an approximation.
_IN_FLOAT64 = ("atan", "atan2", "erfc", "erfinv", "ndtri")

Tensor = Any
Operation = Callable[..., Any]


@cache
def use(threads: int) -> None:
    """Makes TensorFlow compute alike on every processor, for the rest of the process.

    Call it before the first operation.

    Args:
        threads: The number of threads within an operation.
    """
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    # Else 1 / sqrt(x) becomes rsqrt(x) again, and x / 3 becomes x times an approximated 1 / 3.
    tf.config.optimizer.set_experimental_options(
        {"arithmetic_optimization": False, "constant_folding": False}
    )
    _replace("rsqrt", lambda _: lambda x, name=None: _reciprocal(gen_math_ops.sqrt(x), name))
    for name in ("reciprocal", "inv"):
        _replace(name, lambda _: _reciprocal)
    for name in _IN_FLOAT64:
        _replace(name, _in_float64)
    for name in ("batch_mat_mul", "batch_mat_mul_v2"):
        _replace(name, lambda original: _in_parts(original, max(threads, 2)))
    _replace("mat_mul", _as_batch)
    gen_linalg_ops.einsum = _by_products(gen_linalg_ops.einsum)
    gen_nn_ops.conv2d = _without_dilations(gen_nn_ops.conv2d)
    gen_nn_ops.conv2d_backprop_input = _without_strides(gen_nn_ops.conv2d_backprop_input)


def _replace(name: str, replacement: Callable[[Operation], Operation]) -> None:
    """Replaces an operation by what `replacement` makes of it."""
    replaced = replacement(getattr(gen_math_ops, name))
    for place in _PLACES:
        if hasattr(place, name):
            setattr(place, name, replaced)


def _reciprocal(x: Tensor, name: str | None = None) -> Tensor:
    x = tf.convert_to_tensor(x)
    return gen_math_ops.real_div(tf.ones((), x.dtype), x, name)


def _in_float64(original: Operation) -> Operation:
    def compute(*arguments: Any, name: str | None = None) -> Tensor:
        tensors = [tf.convert_to_tensor(argument) for argument in arguments]
        if not tensors[0].dtype.is_floating:
            return original(*tensors, name=name)
        wide = original(*(tf.cast(tensor, tf.float64) for tensor in tensors), name=name)
        return tf.cast(wide, tensors[0].dtype)

    return compute


def _in_parts(original: Operation, parts: int) -> Operation:
    """Returns an operation that computes a product of matrices in at least as many `parts`.

    oneDNN gives each product of a batch to one thread, so the parts are a batch. They are cut from
    the second operand: of a batch that shares it, oneDNN makes one product again.
    """

    def multiply(
        x: Tensor, y: Tensor, adj_x: bool = False, adj_y: bool = False, **options: Any
    ) -> Tensor:
        x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
        are_parts = y.shape.rank is not None and math.prod(n or 1 for n in y.shape[:-2]) >= parts
        if are_parts or not x.dtype.is_floating:
            return original(x, y, adj_x, adj_y, **options)
        if adj_x and adj_y:
            x, adj_x = tf.linalg.matrix_transpose(x), False
        rows = tf.shape(y)[-2]
        y_parts = _cut(y, parts)
        if adj_y:  # x [..., m, k], y [..., n, k]: each part gives some of the n columns
            columns = original(x[..., tf.newaxis, :, :], y_parts, adj_x, True, **options)
            transposed = _join(tf.linalg.matrix_transpose(columns))  # [..., n, m]
            return tf.linalg.matrix_transpose(transposed[..., :rows, :])
        if not adj_x:
            x = tf.linalg.matrix_transpose(x)
        # x [..., k, m], y [..., k, n]: each part gives some of the k summands
        summands = original(_cut(x, parts), y_parts, True, False, **options)
        return tf.reduce_sum(summands, axis=-3)

    return multiply


def _cut(matrices: Tensor, parts: int) -> Tensor:
    """Cuts the rows of [..., rows, columns]: [..., parts, rows / parts, columns], zeros added."""
    shape, rows = tf.shape(matrices), matrices.shape[-2]
    if rows is None or rows % parts:
        missing = -shape[-2] % parts
        leading = matrices.shape.rank - 2
        matrices = tf.pad(matrices, [[0, 0]] * leading + [[0, missing], [0, 0]])
        rows = shape[-2] + missing
    return tf.reshape(matrices, tf.concat([shape[:-2], [parts, rows // parts], shape[-1:]], 0))


def _join(parts: Tensor) -> Tensor:
    """Puts [..., parts, rows, columns] together again: [..., parts * rows, columns]."""
    shape = tf.shape(parts)
    return tf.reshape(parts, tf.concat([shape[:-3], [shape[-3] * shape[-2]], shape[-1:]], 0))


def _as_batch(_: Operation) -> Operation:
    def multiply(
        a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False, **_: Any
    ) -> Tensor:
        return gen_math_ops.batch_mat_mul_v2(a, b, transpose_a, transpose_b)

    return multiply


def _by_products(original: Operation) -> Operation:
    """Returns an `einsum` whose products of two tensors are those of matrices."""

    def einsum(inputs: list[Tensor], equation: str, name: str | None = None) -> Tensor:
        if len(inputs) != 2:
            return original(inputs, equation, name=name)
        x, y = map(tf.convert_to_tensor, inputs)
        left, right, out = _labels(equation, x.shape.rank, y.shape.rank)
        if any(len({*labels}) < len(labels) for labels in (left, right, out)):  # a diagonal
            return original(inputs, equation, name=name)
        # What one operand alone has and the output lacks is summed first.
        x, left = _sum_away(x, left, right + out)
        y, right = _sum_away(y, right, left + out)
        batch = [label for label in left if label in right and label in out]
        summed = [label for label in left if label in right and label not in out]
        rows = [label for label in left if label not in right]
        columns = [label for label in right if label not in left]
        x = tf.transpose(x, [left.index(label) for label in batch + rows + summed])
        y = tf.transpose(y, [right.index(label) for label in batch + summed + columns])
        b, r, s = len(batch), len(rows), len(summed)
        x_sizes, y_sizes = tf.shape(x), tf.shape(y)
        row_sizes, column_sizes = x_sizes[b : b + r], y_sizes[b + s :]
        count = tf.math.reduce_prod(x_sizes[b + r :])[tf.newaxis]
        x = tf.reshape(x, tf.concat([x_sizes[:b], [tf.math.reduce_prod(row_sizes)], count], 0))
        y = tf.reshape(y, tf.concat([y_sizes[:b], count, [tf.math.reduce_prod(column_sizes)]], 0))
        product = gen_math_ops.batch_mat_mul_v2(x, y)
        sizes = tf.concat([tf.shape(product)[:b], row_sizes, column_sizes], 0)
        given = batch + rows + columns
        return tf.transpose(tf.reshape(product, sizes), [given.index(label) for label in out])

    return einsum


def _labels(equation: str, left_rank: int, right_rank: int) -> list[list[str]]:
    """Returns the labels of both operands and of the output, an ellipsis written out."""
    operands, out = equation.split("->")
    sides = operands.split(",")
    hidden = [
        rank - len(side.replace("...", "")) if "..." in side else 0
        for side, rank in zip(sides, (left_rank, right_rank), strict=True)
    ]
    # Digits are no labels of einsum's own. The last stand for the last dimensions.
    digits = [str(number) for number in range(max(hidden))]
    written = []
    for text, count in zip((*sides, out), (*hidden, max(hidden)), strict=True):
        before, ellipsis, after = text.partition("...")
        written.append([*before, *(digits[len(digits) - count :] if ellipsis else ()), *after])
    return written


def _sum_away(x: Tensor, labels: list[str], kept: list[str]) -> tuple[Tensor, list[str]]:
    axes = [axis for axis, label in enumerate(labels) if label not in kept]
    return tf.reduce_sum(x, axes), [label for label in labels if label in kept]


def _without_dilations(original: Operation) -> Operation:
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


def _without_strides(original: Operation) -> Operation:
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
