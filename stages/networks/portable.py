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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import gen_linalg_ops, gen_math_ops, gen_nn_ops, math_ops

from stages.networks.convolutions import without_dilations, without_strides

# Where TensorFlow and Keras look an operation up.
_PLACES = (gen_math_ops, math_ops, tf.math, tf)
# Those of Keras's functions whose float32 kernels begin with an approximation.
_IN_FLOAT64 = ("atan", "atan2", "erfc", "erfinv", "ndtri")
_DIVISIONS = ("rsqrt", "reciprocal", "inv")

Tensor = Any
Operation = Callable[..., Any]
_replaced: dict[tuple[Any, str], Operation] = {}  # TensorFlow's own, by module and name


@cache
def use(threads: int) -> None:
    """Makes TensorFlow compute alike on every processor, for the rest of the process.

    Call it before the first operation, each of which takes so many `threads`.
    """
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    # Else 1 / sqrt(x) becomes rsqrt(x) again, and x / 3 becomes x times an approximated 1 / 3.
    tf.config.optimizer.set_experimental_options(
        {"arithmetic_optimization": False, "constant_folding": False}
    )
    _replace("rsqrt", lambda _: lambda x, name=None: _reciprocal(gen_math_ops.sqrt(x), name))
    for name in _DIVISIONS[1:]:
        _replace(name, lambda _: _reciprocal)
    for name in _IN_FLOAT64:
        _replace(name, _in_float64)
    for name in ("batch_mat_mul", "batch_mat_mul_v2"):
        _replace(name, lambda original: _in_parts(original, max(threads, 2)))
    _replace("mat_mul", _as_batch)
    _set(gen_linalg_ops, "einsum", _by_products)
    _set(gen_nn_ops, "conv2d", without_dilations)
    _set(gen_nn_ops, "conv2d_backprop_input", without_strides)


@contextmanager
def whole_operations() -> Iterator[None]:
    """Takes TensorFlow's own operations in what is traced in the block, but for divisions.

    A file for other programs then has a product for a `Dense`, not its parts. Divisions stay exact:
    converters compute what depends on weights alone.
    """
    found = [(at, own, getattr(*at)) for at, own in _replaced.items() if at[1] not in _DIVISIONS]
    for at, own, _ in found:
        setattr(*at, own)
    try:
        yield
    finally:
        for at, _, ours in found:
            setattr(*at, ours)


def _replace(name: str, replacement: Callable[[Operation], Operation]) -> None:
    """Replaces an operation by what `replacement` makes of it."""
    replaced = replacement(getattr(gen_math_ops, name))
    for place in _PLACES:
        if hasattr(place, name):
            _set(place, name, lambda _: replaced)


def _set(place: Any, name: str, replacement: Callable[[Operation], Operation]) -> None:
    _replaced[place, name] = getattr(place, name)
    setattr(place, name, replacement(_replaced[place, name]))


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
