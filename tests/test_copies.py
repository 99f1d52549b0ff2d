"""The same picture twice is found, what only looks alike is not, and copies stay in one part."""

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import imagehash
import numpy as np
import pytest
from PIL import Image

from stages.lib.command import UserError
from stages.lib.params import check
from stages.prepare import FILES, prepare
from stages.sources.array_datasets import prepare_arrays
from stages.sources.arrays import Files
from stages.sources.checks import check_photographs
from stages.sources.copies import find_copies, write_copies
from stages.sources.fingerprints import Fingerprint, fingerprint, perceptual_hashes
from stages.sources.formats import Idx, Photos
from stages.split import FILES as SPLIT_FILES
from stages.split import Options, split

REAL = Path(__file__).parents[1] / "../shared/data/dogs-vs-cats-100px.zip"

Change = Callable[[np.ndarray], np.ndarray]


def draw(seed: int, height: int = 150, width: int = 200) -> np.ndarray:
    """Draws a photograph of blobs: with another seed, another picture."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(12):
        place = tuple(rng.integers(0, (width, height)).tolist())
        size = int(rng.integers(8, 50))
        cv2.circle(image, place, size, rng.integers(0, 256, 3).tolist(), -1)
    return cv2.GaussianBlur(image, (0, 0), 1.5)


def save_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def jpeg(quality: int) -> Change:
    return lambda image: np.asarray(
        cv2.imdecode(np.frombuffer(save_jpeg(image, quality), np.uint8), 1), np.uint8
    )


CHANGES: dict[str, Change] = {
    "saved at a low quality": jpeg(20),
    "halved": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "enlarged": lambda image: cv2.resize(image, None, fx=3, fy=3),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 2),
    "brighter": lambda image: cv2.convertScaleAbs(image, alpha=1.0, beta=20),
    "in grey": lambda image: cv2.cvtColor(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB
    ),
}


def whole(image: np.ndarray) -> Fingerprint:
    height, width = image.shape[:2]
    return fingerprint(image, width, height)


def find(
    images: list[np.ndarray],
    labels: list[str] | None = None,
    parts: list[str] | None = None,
    mode: Any = "drop",
) -> Any:
    count = len(images)
    return find_copies(
        [f"{at}.jpg" for at in range(count)],
        labels or ["cat"] * count,
        parts or ["train"] * count,
        [whole(image) for image in images],
        mode,
    )


@pytest.mark.parametrize("seed", range(50))
def test_the_perceptual_hash_is_that_of_imagehash(seed: int) -> None:
    small = cv2.resize(draw(seed)[..., 0], (32, 32), interpolation=cv2.INTER_AREA)
    image = np.asarray(small, np.uint8)
    found = whole(np.zeros((1, 1, 3), np.uint8))._replace(thumbnail=image)
    expected = int(str(imagehash.phash(Image.fromarray(image))), 16)
    assert perceptual_hashes([found]).tolist() == [expected]


@pytest.mark.parametrize("change", CHANGES)
def test_a_photograph_that_was_changed_a_little_is_a_near_copy(change: str) -> None:
    for seed in range(10):
        image = draw(seed)
        copies = find([draw(100 + seed), image, CHANGES[change](image)])
        assert [(near.first, near.second) for near in copies.near] == [(1, 2)]
        assert copies.groups.tolist() == [0, 1, 1]
        assert copies.kept.tolist() == [0, 1, 2]
        assert copies.duplicates == []


def test_different_pictures_are_no_copies() -> None:
    copies = find([draw(seed) for seed in range(60)])
    assert copies.near == []
    assert copies.groups.tolist() == list(range(60))


def test_pictures_of_one_colour_are_no_near_copies_but_equal_ones_are_exact_copies() -> None:
    rng = np.random.default_rng(0)
    grounds = [np.full((80, 80, 3), level, np.uint8) for level in (0, 60, 128, 250, 60)]
    noisy = [(ground + rng.integers(0, 4, ground.shape, np.uint8)) for ground in grounds[:4]]
    copies = find([*grounds, *noisy])
    assert copies.near == []
    assert [row[:2] for row in copies.duplicates] == [("4.jpg", "1.jpg")]


def test_one_of_each_set_of_exact_copies_is_kept() -> None:
    images = [draw(seed) for seed in (0, 1, 0, 2, 0, 1)]
    copies = find(images)
    assert copies.kept.tolist() == [0, 1, 3]
    assert copies.groups.tolist() == [0, 1, 2]
    reason = "the same pixels: left out"
    assert copies.duplicates == [
        ("2.jpg", "0.jpg", reason),
        ("4.jpg", "0.jpg", reason),
        ("5.jpg", "1.jpg", reason),
    ]


def test_the_same_bytes_in_another_shape_are_another_picture() -> None:
    image = draw(0)
    assert find([image, image.reshape(200, 150, 3)]).duplicates == []


def test_copies_with_different_labels_are_all_left_out_and_the_reason_names_them() -> None:
    images = [draw(seed) for seed in (0, 1, 0, 0, 2)]
    copies = find(images, ["dog", "dog", "cat", "dog", "cat"])
    assert copies.kept.tolist() == [1, 4]
    reason = "copies with different labels: cat, dog"
    assert copies.duplicates == [
        ("0.jpg", "2.jpg", reason),
        ("2.jpg", "0.jpg", reason),
        ("3.jpg", "0.jpg", reason),
    ]


def test_a_class_that_would_lose_all_its_photographs_is_an_error_that_names_two_files() -> None:
    images = [draw(seed) for seed in (0, 1, 0)]
    complaint = r"all 1 photographs of the class 'dog' are copies .* 2\.jpg and 0\.jpg"
    with pytest.raises(UserError, match=complaint):
        find(images, ["cat", "cat", "dog"])
    assert len(find(images, ["cat", "cat", "dog"], mode="keep").kept) == 3


def test_keep_keeps_all_copies_in_one_group() -> None:
    images = [draw(seed) for seed in (0, 1, 0, 2, 0)] + [jpeg(30)(draw(0))]
    copies = find(images, ["dog", "dog", "cat", "dog", "dog", "dog"], mode="keep")
    assert copies.kept.tolist() == list(range(6))
    assert copies.groups.tolist() == [0, 1, 0, 3, 0, 0]
    assert {row[2] for row in copies.duplicates} == {"kept: copies with different labels: cat, dog"}


def test_nothing_of_a_given_test_part_is_trained_on() -> None:
    images = [draw(seed) for seed in (0, 1, 0, 1, 0, 2)]
    parts = ["train", "train", "valid", "valid", "test", "train"]
    copies = find(images, parts=parts)
    assert copies.kept.tolist() == [3, 4, 5]
    assert [row[:2] for row in copies.duplicates] == [
        ("0.jpg", "4.jpg"),
        ("1.jpg", "3.jpg"),
        ("2.jpg", "4.jpg"),
    ]


def test_a_copy_of_a_copy_is_in_the_group() -> None:
    # Each is close enough to the next one, but the last is far from the first.
    images = [draw(0)]
    for _ in range(14):
        images.append(np.roll(images[-1], 1, axis=1))
    copies = find(images)
    assert set(copies.groups) == {0}
    assert (0, 14) not in [(near.first, near.second) for near in copies.near]


def test_rows_of_the_tables_are_rows_of_the_parts_images(tmp_path: Path) -> None:
    images = [draw(0), draw(1), draw(0), draw(2), jpeg(30)(draw(2)), np.zeros((9, 9, 3), np.uint8)]
    parts = ["train", "train", "train", "train", "test", "train"]
    labels = ["cat", "cat", "cat", "dog", "cat", "dog"]
    names = [f"{at}.jpg" for at in range(6)]
    prints = [whole(image) for image in images]
    files = {name: tmp_path / name for name in FILES}
    copies = find_copies(names, labels, parts, prints, "drop")
    write_copies(files, copies, names, labels, parts, prints)

    def rows(name: str) -> list[list[str]]:
        with files[name].open() as file:
            return list(csv.reader(file))[1:]

    assert np.load(files["groups.npy"]).tolist() == [0, 1, 2, 3]
    assert np.load(files["groups.npy"]).dtype == np.int32
    assert rows("duplicates.csv") == [["2.jpg", "0.jpg", "the same pixels: left out"]]
    [near] = rows("near_copies.csv")
    assert near[:4] == ["3.jpg", "4.jpg", "dog", "cat"]
    assert near[5:] == ["2", "0", "train", "test"]
    assert ["little content", "5.jpg", "3", "0.0", "train"] in rows("checks.csv")


def noise(height: int, width: int, low: int = 0, high: int = 256) -> np.ndarray:
    small = np.random.default_rng(0).integers(low, high, (height // 4, width // 4, 3), np.uint8)
    return small.repeat(4, axis=0).repeat(4, axis=1)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (noise(100, 100), None),
        (noise(100, 100, 0, 70), "dark"),
        (noise(100, 100, 244, 256), "bright"),
        (noise(40, 120), "odd shape"),
        (noise(1200, 1200), "odd size"),
        (noise(8, 8), "odd size"),
        (np.full((100, 100, 3), 120, np.uint8), "little content"),
        (cv2.GaussianBlur(noise(100, 100), (0, 0), 9), "blurred"),
    ],
)
def test_each_check_finds_its_kind_and_nothing_else(
    image: np.ndarray, expected: str | None
) -> None:
    others = [whole(noise(100, 100))] * 9
    found = check_photographs([*others, whole(image)])
    assert {check for check, _, _ in found} - {"little content"} == {expected} - {
        None,
        "little content",
    }
    assert {at for _, at, _ in found} <= {9}
    if expected:
        assert expected in {check for check, _, _ in found}


def test_many_photographs_of_one_scene_are_one_group() -> None:
    rng = np.random.default_rng(0)
    scene = draw(0).astype(int)
    frames = [
        np.clip(scene + rng.integers(-4, 5, scene.shape), 0, 255).astype(np.uint8)
        for _ in range(300)
    ]
    copies = find([draw(1), *frames, draw(2)])
    assert copies.groups.tolist() == [0, *[1] * 300, 301]
    assert len(copies.near) == 299, "each is listed once"


def test_no_photographs_have_no_copies() -> None:
    copies = find([])
    assert len(copies.kept) == len(copies.groups) == len(copies.near) == 0
    assert check_photographs([]) == []


def make_dataset(folder: Path, entries: dict[str, bytes], **options: Any) -> Path:
    """Runs `prepare` on a zip with these photographs; returns the folder of its arrays."""
    raw, arrays = folder / "raw", folder / "arrays"
    raw.mkdir(parents=True)
    arrays.mkdir()
    (raw / "origin.txt").write_text("real")
    with zipfile.ZipFile(raw / "train.zip", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    format_ = check("prepare", {"format": "photos", "image_size": 12, **options}, Photos)
    prepare(raw, format_, {name: arrays / name for name in FILES})
    return arrays


def run_split(arrays: Path, folder: Path, options: Any) -> dict[str, np.ndarray]:
    folder.mkdir()
    files: Files = {name: folder / name for name in SPLIT_FILES}
    split(arrays, check("split", options, Options), files, "split")
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}


def of_several(times: int) -> dict[str, bytes]:
    """Twenty cats and twenty dogs, each so many times under different names."""
    return {
        f"{kind}.{20 * time + at}.jpg": save_jpeg(draw(at + 100 * (kind == "dog"), 30, 40))
        for kind in ("cat", "dog")
        for time in range(times)
        for at in range(20)
    }


def test_each_photograph_three_times_is_learned_once(tmp_path: Path) -> None:
    once = make_dataset(tmp_path / "once", of_several(1))
    thrice = make_dataset(tmp_path / "thrice", of_several(3))
    for name in ("images.npy", "labels.npy", "groups.npy", "unlabelled_images.npy"):
        assert (once / name).read_bytes() == (thrice / name).read_bytes()
    assert len((thrice / "duplicates.csv").read_text().splitlines()) == 1 + 80


@pytest.mark.parametrize("seed", range(3))
def test_copies_that_are_kept_never_lie_in_two_parts(tmp_path: Path, seed: int) -> None:
    arrays = make_dataset(tmp_path, of_several(3), duplicates="keep")
    found = run_split(arrays, tmp_path / "splits", {"valid": 0.15, "test": 0.3, "seed": seed})
    parts = [
        {image.tobytes() for image in found[f"{part}_images"]}
        for part in ("train", "valid", "test")
    ]
    assert [len(found[f"{part}_images"]) for part in ("train", "valid", "test")] == [66, 18, 36]
    assert [len(part) for part in parts] == [22, 6, 12]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


def test_near_copies_never_lie_in_two_parts(tmp_path: Path) -> None:
    photographs = {
        f"{kind}.{at}.jpg": draw(at + 100 * (kind == "dog"))
        for kind in ("cat", "dog")
        for at in range(20)
    }
    entries = {name: save_jpeg(image) for name, image in photographs.items()}
    entries |= {
        f"more/{name}": save_jpeg(image[::2, ::2], 60) for name, image in photographs.items()
    }
    arrays = make_dataset(tmp_path, entries)
    with (arrays / "near_copies.csv").open() as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) == 40
    for pair in pairs:
        assert pair["second"].removeprefix("train.zip/more/") == pair["first"].removeprefix(
            "train.zip/"
        )
    images = np.load(arrays / "images.npy")
    where = {image.tobytes(): at for at, image in enumerate(images)}
    found = run_split(arrays, tmp_path / "splits", {"valid": 0.2, "test": 0.2, "seed": 0})
    part_of = {
        where[image.tobytes()]: part
        for part in ("train", "valid", "test")
        for image in found[f"{part}_images"]
    }
    assert len(part_of) == 80
    assert all(part_of[int(p["first_row"])] == part_of[int(p["second_row"])] for p in pairs)


def test_digits_that_are_equal_share_a_group(tmp_path: Path) -> None:
    from stages.sources.idx import write_idx

    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6), np.uint8)
    images[20:] = images[:10]
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(30, dtype=np.uint8) % 2)
    prepare_arrays(tmp_path, Idx(format="idx"), {name: tmp_path / name for name in FILES})
    assert np.load(tmp_path / "groups.npy").tolist() == [*range(20), *range(10)]


@pytest.mark.long
@pytest.mark.skipif(not REAL.exists(), reason="the real photographs are not on this machine")
def test_the_copies_among_real_photographs_are_those_that_people_see() -> None:
    names, prints = [], []
    with zipfile.ZipFile(REAL) as archive:
        for name in archive.namelist():
            if name.endswith(".jpg"):
                data = np.frombuffer(archive.read(name), np.uint8)
                image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
                prints.append(whole(np.asarray(image, np.uint8)))
                names.append(name)
    labels = [name[6:9] for name in names]
    copies = find_copies(names, labels, ["train"] * len(names), prints, "drop")
    assert len(copies.duplicates) == 6
    assert len(copies.near) == 21
    mixed = {
        (names[n.first], names[n.second])
        for n in copies.near
        if labels[n.first] != labels[n.second]
    }
    assert mixed == {
        ("train/cat.11565.jpg", "train/dog.10401.jpg"),
        ("train/cat.8456.jpg", "train/dog.8736.jpg"),
    }


def test_a_wide_photograph_of_few_rows_has_the_thumbnail_of_its_copy_of_more() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (30, 960, 3), np.uint8)
    taller = np.repeat(wide, 4, axis=0)
    low, high = (fingerprint(image, 960, len(image)).thumbnail for image in (wide, taller))
    assert np.abs(low.astype(int) - high).mean() < 10


def test_a_fingerprint_is_small() -> None:
    found = whole(draw(0, 700, 900))
    assert found.thumbnail.nbytes + found.levels.nbytes + len(found.digest) < 2000
