"""What replaces TensorFlow's operations computes what they compute."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.lib.command import UserError
from stages.networks.runtime import Runtime, keras, strategy_over, tf

pytestmark = pytest.mark.usefixtures("tensorflow")
sizes = st.integers(1, 9)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def gradients(compute: Any, *arrays: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns what `compute` makes of `arrays` in a graph, and the gradients of its squared sum."""

    def step(*tensors: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            result = compute(*tensors)
            total = tf.reduce_sum(result**2)
        return result, tape.gradient(total, tensors)

    result, found = tf.function(step)(*map(tf.constant, arrays))
    return result.numpy(), [gradient.numpy() for gradient in found]


# Each example traces a graph of its own.
@settings(deadline=None, max_examples=20)
@given(m=sizes, k=sizes, n=sizes, left=st.booleans(), right=st.booleans())
def test_a_product_and_its_gradients_are_those_of_the_matrices(
    m: int, k: int, n: int, left: bool, right: bool
) -> None:
    a, b = random(m, k), random(k, n)
    product, (of_a, of_b) = gradients(
        lambda a, b: tf.matmul(a, b, transpose_a=left, transpose_b=right),
        a.T.copy() if left else a,
        b.T.copy() if right else b,
    )
    np.testing.assert_allclose(product, a @ b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_a.T if left else of_a, 2 * a @ b @ b.T, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(of_b.T if right else of_b, 2 * a.T @ a @ b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 5, 7), (7, 2)),
        ((3, 5, 7), (1, 7, 2)),
        ((5, 7), (1, 7, 2)),
        ((1, 5, 7), (3, 7, 2)),
        ((4, 3, 5, 7), (4, 1, 7, 2)),
    ],
)
def test_a_product_of_batches_is_broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = random(*left), random(*right)
    product, found = gradients(tf.matmul, a, b)
    np.testing.assert_allclose(product, a @ b, rtol=1e-4, atol=1e-5)
    assert [gradient.shape for gradient in found] == [left, right]


@pytest.mark.parametrize(
    ("equation", "left", "right"),
    [
        ("ij,jk->ki", (3, 4), (4, 5)),
        ("...x,xy->...y", (2, 3, 4), (4, 5)),
        ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)),
        ("bthe,bshe->bhts", (2, 3, 4, 5), (2, 6, 4, 5)),
        ("abc,cd->ad", (2, 3, 4), (4, 5)),  # b is summed away
        ("a,b->ab", (3,), (4,)),
        ("i,i->", (5,), (5,)),
        ("ii,ij->j", (3, 3), (3, 4)),  # a diagonal
    ],
)
def test_einsum_is_numpys(equation: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = random(*left), random(*right)
    product, found = gradients(lambda a, b: tf.einsum(equation, a, b), a, b)
    np.testing.assert_allclose(product, np.einsum(equation, a, b), rtol=1e-4, atol=1e-5)
    assert [gradient.shape for gradient in found] == [left, right]


@pytest.mark.parametrize("padding", ["SAME", "VALID", [[0, 0], [2, 1], [0, 3], [0, 0]]])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (1, 3), (3, 2), (2, 3), (5, 2), (3, 1)])
@pytest.mark.parametrize("side", [5, 6, 8])
def test_a_convolution_with_strides_has_its_gradients(
    padding: Any, kernel: int, stride: int, side: int
) -> None:
    images, weights = random(2, side, side + 1, 3), random(kernel, kernel, 3, 4)

    def taken(images: Any, weights: Any) -> Any:
        """The same without strides: every so many rows and columns of all."""
        shape = images.shape[1:3]
        if padding == "SAME":
            lack = [max(-(-n // stride) * stride - stride + kernel - n, 0) for n in shape]
            around = [[0, 0], *([each // 2, each - each // 2] for each in lack), [0, 0]]
        else:
            around = [[0, 0]] * 4 if padding == "VALID" else padding
        outputs = tf.nn.conv2d(tf.pad(images, around), weights, 1, "VALID")
        return outputs[:, ::stride, ::stride]

    found, given = gradients(lambda x, w: tf.nn.conv2d(x, w, stride, padding), images, weights)
    expected, wanted = gradients(taken, images, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    for gradient, other in zip(given, wanted, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_dilated_convolution_has_its_gradients(padding: str) -> None:
    images, weights = random(2, 9, 8, 3), random(3, 2, 3, 4)
    wide = np.zeros((5, 4, 3, 4), np.float32)
    wide[::2, ::3] = weights
    found, given = gradients(
        lambda x, w: tf.nn.conv2d(x, w, 1, padding, dilations=[2, 3]), images, weights
    )
    expected, (of_images, of_wide) = gradients(
        lambda x, w: tf.nn.conv2d(x, w, 1, padding), images, wide
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(given[0], of_images, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(given[1], of_wide[::2, ::3], rtol=1e-3, atol=1e-3)


def test_roots_and_reciprocals_are_the_nearest_floats_in_a_graph_too() -> None:
    x = np.linspace(1e-6, 1e4, 100_003, dtype=np.float32)
    root, _ = gradients(tf.math.rsqrt, x)
    assert (root == np.float32(1) / np.sqrt(x)).all()
    # Optimizers of graphs turn these into the approximated operations, unless told not to.
    root, _ = gradients(lambda x: 1 / tf.sqrt(x), x)
    assert (root == np.float32(1) / np.sqrt(x)).all()
    third, _ = gradients(lambda x: x / tf.fill([100_003], 3.0), x)
    assert (third == x / np.float32(3)).all()
    reciprocal, _ = gradients(tf.math.reciprocal, x)
    assert (reciprocal == np.float32(1) / x).all()


def test_functions_are_as_exact_as_float32() -> None:
    x = np.linspace(-3, 3, 1001, dtype=np.float32)
    for compute, exact in ((tf.math.erfc, math.erfc), (tf.math.atan, math.atan)):
        found, (gradient,) = gradients(compute, x)
        np.testing.assert_allclose(found, [exact(value) for value in x], rtol=2e-7)
        assert np.isfinite(gradient).all()
    back, _ = gradients(lambda x: tf.math.erfinv(tf.math.erf(x)), x / 3)
    np.testing.assert_allclose(back, x / 3, atol=1e-6)


def test_a_model_in_half_precision_is_evaluated_with_all_that_the_processor_has() -> None:
    layers = [keras.Input((4,)), keras.layers.Dense(2, dtype="mixed_bfloat16")]
    model = keras.Sequential(layers)
    with pytest.raises(UserError, match=r"set evaluation\.processor to this"):
        Runtime(strategy_over([]), {}, portable=True).check(model)
    Runtime(strategy_over([]), {}, portable=False).check(model)


CRASHES = """
from stages.networks.runtime import set_up, tf
set_up("cpu", threads=1, processor="any")
images, gradients = tf.zeros([10, 10, 10, 4]), tf.zeros([10, 5, 5, 8])
for _ in range(40):
    tf.raw_ops.Conv2DBackpropFilter(input=images, filter_sizes=[1, 1, 4, 8],
        out_backprop=gradients, strides=[1, 2, 2, 1], padding="SAME")
    others = [tf.zeros([37 * size]) for size in range(1, 20)]
"""


def test_with_one_thread_no_convolution_writes_past_the_end_of_its_memory() -> None:
    subprocess.run([sys.executable, "-c", CRASHES], check=True, capture_output=True)
