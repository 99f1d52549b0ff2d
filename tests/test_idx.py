"""IDX files are read exactly, and a damaged one is never taken for another picture."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stages.lib.command import UserError
from stages.sources.idx import read_idx, write_idx

MNIST = Path(__file__).parents[2] / "shared/data/mnist"
# Numbers of the digits 0 to 9 in MNIST's two parts, as its makers gave them out.
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]

any_array = arrays(np.uint8, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx") / "images-idx3-ubyte.gz"


def refused(path: Path, content: bytes, *words: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_idx(path)
    for word in (path.name, *words):
        assert word in str(error.value)


@given(array=any_array)
def test_what_is_written_is_read(path: Path, array: np.ndarray) -> None:
    write_idx(path, array)
    found = read_idx(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array, strict=True)


@given(array=any_array)
def test_a_plain_file_is_read_whatever_its_name(path: Path, array: np.ndarray) -> None:
    write_idx(path, array)
    path.write_bytes(gzip.decompress(path.read_bytes()))
    np.testing.assert_array_equal(read_idx(path), array, strict=True)


@given(array=any_array, data=st.data())
def test_any_truncation_is_refused(path: Path, array: np.ndarray, data: st.DataObject) -> None:
    write_idx(path, array)
    compressed = path.read_bytes()
    plain = gzip.decompress(compressed)
    for content in (compressed, plain, gzip.compress(plain[:-1])):
        refused(path, content[: data.draw(st.integers(0, len(content) - 1))])
    refused(path, gzip.compress(plain[:-1]))


@given(array=any_array, data=st.data())
def test_a_wrong_byte_never_gives_other_values(
    path: Path, array: np.ndarray, data: st.DataObject
) -> None:
    write_idx(path, array)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = read_idx(path)
    except UserError:
        return
    np.testing.assert_array_equal(found, array, strict=True)


def test_data_behind_the_values_is_refused(path: Path) -> None:
    write_idx(path, np.zeros((2, 3), np.uint8))
    compressed = path.read_bytes()
    refused(path, gzip.decompress(compressed) + b"\0", "goes on after 6 bytes", "[2, 3]")
    refused(path, gzip.compress(gzip.decompress(compressed) + b"\0"), "goes on after 6 bytes")
    refused(path, compressed + b"junk", "gzip")


def test_a_file_that_is_no_idx_is_refused_with_its_first_bytes(path: Path) -> None:
    refused(path, b"<html>not found</html>", "3c 68 74 6d", "expected 00 00 08")


@pytest.mark.parametrize(
    ("number", "kind"), [(9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_values_of_every_type_are_read(path: Path, number: int, kind: str) -> None:
    array = np.array([[1, 2, -3], [4, 5, 6]], kind)
    path.write_bytes(bytes([0, 0, number, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + array.tobytes())
    np.testing.assert_array_equal(read_idx(path), array, strict=True)


def test_an_impossible_number_of_dimensions_is_refused(path: Path) -> None:
    refused(path, b"\0\0\x08\xff" + bytes([0, 0, 0, 1]) * 255 + b"\0", "255 dimensions")


def test_big_endian_sizes_are_read_as_such(path: Path) -> None:
    path.write_bytes(b"\0\0\x08\x02" + bytes([0, 0, 1, 0, 0, 0, 0, 1]) + bytes(256))
    assert read_idx(path).shape == (256, 1)


def test_the_same_array_gives_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "one.gz", array)
    write_idx(tmp_path / "other.gz", np.asfortranarray(array))
    content = (tmp_path / "one.gz").read_bytes()
    assert content == (tmp_path / "other.gz").read_bytes()
    # No flags, so no file name, and no time.
    assert content[3:8] == bytes(5)


def test_only_uint8_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="int64"):
        write_idx(tmp_path / "x.gz", np.arange(3))  # type: ignore[arg-type]


@pytest.mark.skipif(
    not MNIST.is_dir(), reason="the original MNIST files are not beside the project"
)
@pytest.mark.parametrize(("part", "counts"), [("train", TRAIN_COUNTS), ("t10k", TEST_COUNTS)])
def test_all_of_mnist_is_read(part: str, counts: list[int]) -> None:
    images = read_idx(MNIST / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(MNIST / f"{part}-labels-idx1-ubyte.gz")
    assert images.shape == (sum(counts), 28, 28)
    assert np.bincount(labels).tolist() == counts
    # Strokes are white on black and stay off the border.
    assert images[:, 10:18, 10:18].mean() > 10 * images[:, 0].mean()
