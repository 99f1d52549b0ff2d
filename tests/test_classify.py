"""Classifying images: every kind of file and list, broken ones among them, and digits on paper."""

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from photograph_files import CONTAINERS, write_tree, zip_of
from ruamel.yaml import YAML

from stages import classify as stage
from stages.lib.command import UserError
from stages.lib.files import write_json
from stages.networks.runtime import Runtime, strategy_over
from stages.sources.decoding import decode_image
from stages.sources.digits import to_digit

TOP = Path(__file__).parent.parent
PROGRAMS = TOP / "tests/programs"
SIDE = 12
RED, GREEN, BLUE = (220, 30, 30), (30, 220, 30), (30, 30, 220)  # RGB


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tensorflow: None) -> Path:  # noqa: ARG001
    """A folder with two networks: `colours` tells an image's channel, `sides` its bright half."""
    from stages.networks.keras_file import save_model
    from stages.networks.network import Network, build_network

    folder = tmp_path_factory.mktemp("classify")
    models = {
        "colours": ("photos", 3, ["red", "green", "blue"]),
        "sides": ("idx", 1, ["up", "down"]),
    }
    settings: dict[str, dict[str, object]] = {"datasets": {}, "models": {}}
    for name, (kind, channels, classes) in models.items():
        options: dict[str, object] = {}
        if kind == "photos":
            options = {"image_size": SIDE, "interpolation": "nearest", "encoding": "cp437"}
        settings["datasets"][name] = {"prepare": {"format": kind} | options}
        settings["models"][name] = {"dataset": name}
        splits = folder / "data/splits" / name
        splits.mkdir(parents=True)
        write_json(splits / "summary.json", {"classes": classes})
        network = Network(layers=["Flatten"])
        model = build_network(network, (SIDE, SIDE, channels), len(classes), "network")
        weights = np.zeros((SIDE, SIDE, channels, len(classes)), np.float32)
        if channels == 3:
            for channel in range(3):
                weights[..., channel, channel] = 1e-4
        else:
            weights[: SIDE // 2, :, :, 0] = weights[SIDE // 2 :, :, :, 1] = 1e-3
        model.set_weights([weights.reshape(-1, len(classes)), np.zeros(len(classes))])
        (folder / "data/models").mkdir(exist_ok=True)
        save_model(model, folder / f"data/models/{name}.keras")
    settings["models"]["untrained"] = {"dataset": "colours"}
    evaluation = YAML(typ="safe").load(TOP / "params.yaml")["evaluation"]
    YAML().dump(settings | {"evaluation": evaluation | {"device": "cpu"}}, folder / "params.yaml")
    return folder


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in the project; TensorFlow is set up already."""
    monkeypatch.chdir(project)
    runtime = Runtime(strategy_over([]), {}, portable=True)
    monkeypatch.setattr("stages.networks.runtime.set_up", lambda *_: runtime)


def even(colour: tuple[int, int, int], suffix: str = ".png") -> bytes:
    return encode(np.full((30, 20, 3), colour[::-1], np.uint8), suffix)


def encode(image: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def write(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def classified(
    capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0
) -> tuple[list[list[str]], list[str]]:
    """The fields of each line on standard output, and the lines on standard error."""
    found = 0
    try:
        stage.main(*arguments)
    except SystemExit as end:
        found = int(end.code or 0)
    captured = capsys.readouterr()
    assert found == status, captured.err
    errors = [line for line in captured.err.splitlines() if not line.startswith("device: ")]
    return [line.split("\t") for line in captured.out.splitlines()], errors


def opened(content: bytes) -> np.ndarray:
    decoded = decode_image(content)
    assert not isinstance(decoded, str)
    return decoded.image


# As a command


def run_python(
    project: Path, *arguments: str, standard_input: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(TOP)},
        input=standard_input,
        capture_output=True,
        check=False,
    )


@pytest.mark.slow
def test_the_command_reads_a_list_names_what_is_broken_and_goes_on(
    project: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("10.png", "2.png", "gone.png", "caf\udce9.png")]
    for path, colour in zip(paths, (RED, BLUE, None, GREEN), strict=True):
        if colour:
            write(path, even(colour))
    listed = b"\r\n\n".join(os.fsencode(path) for path in paths)
    done = run_python(project, "-m", "stages.classify", "colours", "-", standard_input=listed)
    assert done.returncode == 1
    rows = [line.split(b"\t") for line in done.stdout.splitlines()]
    assert [row[:2] for row in rows] == [
        [os.fsencode(paths[0]), b"red"],
        [os.fsencode(paths[1]), b"blue"],
        [os.fsencode(paths[3]), b"green"],
    ]
    assert f"{paths[2]}: No such file or directory" in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_what_can_be_wrong_is_said_before_tensorflow_is_imported(
    project: Path, tmp_path: Path
) -> None:
    broken = write(tmp_path / "broken.jpg", even(RED, ".jpg")[:-90])
    done = run_python(project, str(PROGRAMS / "classify_broken.py"), broken)
    assert done.stdout == b"[[2, 2, 2, 1], []]\n", done.stderr
    assert f"{broken}: cut off" in done.stderr.decode()


# Files, folders, archives


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_every_format_is_read_in_the_order_red_green_blue(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, suffix: str
) -> None:
    files = [
        write(tmp_path / f"{name}{suffix}", even(colour, suffix))
        for name, colour in (("b", BLUE), ("a", RED), ("c", GREEN))
    ]
    rows, errors = classified(capsys, "colours", *files)
    assert [row[:2] for row in rows] == [
        [files[0], "blue"],
        [files[1], "red"],
        [files[2], "green"],
    ]
    # The shares differ by what one channel has more: (220 - 30) * 144 pixels * 1e-4.
    expected = np.exp(190 * SIDE * SIDE * 1e-4)
    for row in rows:
        assert float(row[2]) == pytest.approx(expected / (expected + 2), abs=0.02)
    assert errors == []


def test_a_folder_is_searched_through_and_sorted_as_people_count(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, colour in (("10.png", RED), ("9.JPEG", GREEN), ("a/b/1.webp", BLUE)):
        write(tmp_path / "folder" / name, even(colour, Path(name).suffix.lower()))
    for name in (".hidden.png", "__MACOSX/1.png", "notes.txt"):
        write(tmp_path / "folder" / name, b"none")
    rows, errors = classified(capsys, "colours", str(tmp_path / "folder"))
    names = [Path(row[0]).relative_to(tmp_path / "folder").as_posix() for row in rows]
    assert names == ["9.JPEG", "10.png", "a/b/1.webp"]
    assert [row[1] for row in rows] == ["green", "red", "blue"]
    assert errors == []


def test_a_zip_is_read_without_unpacking_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, colour in (("d/10.png", RED), ("d/9.bmp", GREEN), ("__MACOSX/d/9.bmp", BLUE)):
            archive.writestr(name, even(colour, Path(name).suffix))
        archive.writestr("notes.txt", "none")
    rows, _ = classified(capsys, "colours", str(path))
    assert [row[:2] for row in rows] == [
        [f"{path}/d/9.bmp", "green"],
        [f"{path}/d/10.png", "red"],
    ]
    content = path.read_bytes()
    path.write_bytes(content.replace(even(RED), bytes(len(even(RED)))))
    rows, errors = classified(capsys, "colours", str(path), status=1)
    assert [row[1] for row in rows] == ["green"]
    assert errors == [f"{path}/d/10.png: damaged in its archive"]


def test_names_in_an_archive_are_read_by_the_encoding_of_the_dataset(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = write_tree(tmp_path / "all.zip", {"kat/1.png": even(RED)})
    path.write_bytes(path.read_bytes().replace(b"kat/", b"k\x84t/"))
    rows, errors = classified(capsys, "colours", str(path))
    assert [row[:2] for row in rows] == [[f"{path}/kät/1.png", "red"]]
    assert errors == []


@pytest.mark.parametrize("container", CONTAINERS)
def test_pictures_are_found_by_their_content_in_every_container(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, container: str
) -> None:
    tree = {"red": even(RED), "b/blue.dat": even(BLUE, ".jpg"), "@eaDir/1.png": even(GREEN)}
    path = write_tree(tmp_path / container, tree | {"notes.txt": b"none"})
    rows, errors = classified(capsys, "colours", str(path))
    assert [row[:2] for row in rows] == [[f"{path}/b/blue.dat", "blue"], [f"{path}/red", "red"]]
    assert errors == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_named_and_the_others_are_classified(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, method: int
) -> None:
    path = tmp_path / "all.zip"
    content = bytearray(zip_of({"1.png": even(RED), "2.png": even(BLUE)}, method))
    content[60:90] = bytes(30)
    path.write_bytes(content)
    rows, errors = classified(capsys, "colours", str(path), status=1)
    assert [row[1] for row in rows] == ["blue"]
    assert errors == [f"{path}/1.png: damaged in its archive"]


def test_broken_files_are_named_and_the_rest_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "no").mkdir()
    contents = {
        "1.png": even(RED),
        "2.png": even(RED)[:60],
        "3.jpg": b"",
        "4.webp": b"text",
        "5.zip": b"text",
        "6.png": even(BLUE),
    }
    files = [write(tmp_path / name, content) for name, content in contents.items()]
    rows, errors = classified(capsys, "colours", *files, str(tmp_path / "no"), status=1)
    assert [row[:2] for row in rows] == [[files[0], "red"], [files[5], "blue"]]
    assert errors == [
        f"{files[1]}: cut off",
        f"{files[2]}: empty",
        f"{files[3]}: not an image",
        f"{files[4]}: found a file that starts with the bytes 74 65 78 74, expected a zip or "
        "tar archive",
        f"{tmp_path / 'no'}: no image in it",
    ]


def test_a_photograph_is_resized_as_the_dataset_was(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # Every second pixel is red: `nearest` takes only those, `area` would mix in the blue ones.
    image = np.full((2 * SIDE, 2 * SIDE, 3), BLUE[::-1], np.uint8)
    image[::2, ::2] = RED[::-1]
    file = write(tmp_path / "1.png", encode(image))
    assert classified(capsys, "colours", file)[0][0][1] == "red"


# Ways to write them


def test_json_lines_and_csv_say_what_the_text_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names = ("plain.png", 'a "b", c.png', "d\te\nf.png")
    files = [write(tmp_path / name, even(RED)) for name in names]
    text = classified(capsys, "colours", files[0])[0]
    stage.main("colours", "--json", *files)
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert objects == [
        {"path": file, "class": "red", "probability": float(text[0][2])} for file in files
    ]
    stage.main("colours", *files, "--csv")
    table = list(csv.reader(capsys.readouterr().out.splitlines(keepends=True)))
    assert table[0] == ["path", "class", "probability"]
    assert table[1:] == [[file, *text[0][1:]] for file in files]


# Many of them


def test_few_images_are_read_ahead_and_their_order_stays() -> None:
    read = 0

    def images() -> Iterator[tuple[str, np.ndarray | str]]:
        nonlocal read
        for number in range(3 * stage.BATCH_SIZE):
            read = number + 1
            yield str(number), "broken" if number % 7 == 0 else np.full((1, 1, 1), number % 2)

    sizes = []

    def predict(pixels: np.ndarray) -> np.ndarray:
        sizes.append(len(pixels))
        return np.eye(2, dtype=np.float32).take(pixels.ravel(), axis=0)

    for number, (name, answer) in enumerate(stage.classify(images(), lambda: predict, ["a", "b"])):
        assert name == str(number)
        assert answer == ("broken" if number % 7 == 0 else ("ab"[number % 2], 1.0))
        assert read - number <= stage.BATCH_SIZE
    assert read == 3 * stage.BATCH_SIZE
    assert len(sizes) == 3


# Transparency and depth


def test_what_is_transparent_is_white() -> None:
    image = np.zeros((4, 4, 4), np.uint8)
    image[:2] = (30, 60, 90, 255)
    image[2] = (0, 0, 0, 128)
    for suffix in (".png", ".webp"):
        content = (
            encode(image, suffix)
            if suffix == ".png"
            else cv2.imencode(suffix, image, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
        )
        found = opened(content)
        assert found[:, 0].tolist() == [[90, 60, 30], [90, 60, 30], [127] * 3, [255] * 3]


def test_sixteen_bits_are_reduced_to_eight() -> None:
    deep = np.array([[0, 257 * 100, 65535]], np.uint16)
    assert opened(encode(deep))[0, :, 0].tolist() == [0, 100, 255]
    transparent = np.zeros((1, 2, 4), np.uint16)
    transparent[0, 0] = (257 * 30, 257 * 60, 257 * 90, 65535)
    assert opened(encode(transparent))[0].tolist() == [[90, 60, 30], [255, 255, 255]]


# Digits


def drawn(height: int = 200, width: int = 160, top: int = 100) -> np.ndarray:
    """An L on a large sheet, white on black, drawn off the centre, as grey [height, width]."""
    image = np.zeros((height, width), np.uint8)
    cv2.line(image, (30, top), (30, top + 60), 255, 9)
    cv2.line(image, (30, top + 60), (65, top + 60), 255, 9)
    return image


def digit(image: np.ndarray, side: int = 28) -> np.ndarray:
    found = to_digit(opened(encode(image)), side, side)
    assert found is not None
    return found


def test_a_digit_is_as_large_as_in_mnist_with_its_centre_of_mass_in_the_middle() -> None:
    for top in (20, 120):
        found = digit(drawn(top=top))
        assert found.shape == (28, 28, 1)
        assert found.dtype == np.uint8
        assert found.max() > 200
        rows, _ = np.nonzero(found[..., 0])
        assert np.ptp(rows) + 1 == 20
        mass = found[..., 0].astype(float)
        assert mass.sum(1) @ np.arange(28) / mass.sum() == pytest.approx(14, abs=0.51)
        assert mass.sum(0) @ np.arange(28) / mass.sum() == pytest.approx(14, abs=0.51)


def test_black_on_white_is_white_on_black() -> None:
    white_on_black = digit(drawn()).astype(int)
    np.testing.assert_allclose(digit(255 - drawn()).astype(int), white_on_black, atol=3)
    clear = np.zeros((200, 160, 4), np.uint8)
    clear[..., 3] = drawn()  # black ink on nothing
    np.testing.assert_allclose(digit(clear), white_on_black, atol=3)
    grey_paper = (170 - drawn() // 255 * 100).astype(np.uint8)
    np.testing.assert_allclose(digit(grey_paper), white_on_black, atol=30)


def test_an_image_of_the_networks_size_is_only_inverted_if_at_all() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 6:18] = np.random.default_rng(0).integers(0, 256, (20, 12), np.uint8)
    np.testing.assert_array_equal(digit(image)[..., 0], image)
    np.testing.assert_array_equal(digit(255 - image)[..., 0], image)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_sheet_is_no_digit(level: int) -> None:
    assert to_digit(opened(encode(np.full((40, 40), level, np.uint8))), 28, 28) is None


def test_a_one_channel_network_gets_a_digit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, up in (("up", True), ("down", False)):
        small = np.zeros((SIDE, SIDE), np.uint8)
        small[slice(1, 4) if up else slice(8, 11), 2:10] = 255
        for ink, image in (("white", small), ("black", 255 - small)):
            write(tmp_path / name / f"{ink}.png", encode(image))
    rows, _ = classified(capsys, "sides", str(tmp_path / "up"), str(tmp_path / "down"))
    assert [row[1] for row in rows] == ["up", "up", "down", "down"]
    assert rows[0][2] == rows[1][2]


def test_unsure_is_said_where_no_digit_is_seen_or_no_class_is_likely(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sure = np.zeros((SIDE, SIDE), np.uint8)
    sure[1:4, 2:10] = 255
    even_chances = np.zeros((SIDE, SIDE), np.uint8)
    even_chances[4:8, 2:10] = 200  # as much in the upper half as in the lower one
    pictures = {"empty": np.full((90, 60), 200, np.uint8), "even": even_chances, "sure": sure}
    files = [write(tmp_path / f"{name}.png", encode(image)) for name, image in pictures.items()]
    monkeypatch.setattr(stage, "SURE", 0.6)  # of two classes, one always has half or more
    rows, errors = classified(capsys, "sides", *files)
    assert rows[:2] == [[files[0], "unsure", "0.0000"], [files[1], "unsure", "0.5000"]]
    assert rows[2][1] == "up"
    assert errors == []
    stage.main("sides", "--json", *files)
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["class"] for one in objects] == [None, None, "up"]
    assert [one["probability"] for one in objects[:2]] == [0, 0.5]
    stage.main("sides", "--csv", *files)
    table = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert [row[1:] for row in table[1:3]] == [["unsure", "0.0000"], ["unsure", "0.5000"]]


def test_a_network_of_colours_answers_whatever_the_probability(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = write(tmp_path / "grey.png", even((100, 100, 101)))
    assert classified(capsys, "colours", file)[0][0][1] == "blue"


# What a user can mend


def test_probabilities_are_corrected_by_the_temperature_and_the_views_of_the_evaluation(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = np.full((SIDE, SIDE, 3), (30, 30, 30), np.uint8)
    left[:, : SIDE // 2] = RED[::-1]
    path = write(tmp_path / "left.png", encode(left))

    def classify() -> float:
        rows, _ = classified(capsys, "colours", str(path))
        assert rows[0][1] == "red"
        return float(rows[0][2])

    plain = classify()
    metrics = project / "reports/metrics/colours.json"
    metrics.parent.mkdir(parents=True)
    write_json(metrics, {"temperature": 0.5})
    params, text = project / "params.yaml", (project / "params.yaml").read_text()
    try:
        colder = classify()
        others = (1 - plain) / 2  # green and blue are as likely as each other
        assert colder == pytest.approx(plain**2 / (plain**2 + 2 * others**2), abs=2e-3)
        params.write_text(f"{text}  test_time: {{colours: {{shift: 16}}}}\n")
        # Shifted sideways, it is red all over, or dark all over.
        assert classify() != colder
    finally:
        shutil.rmtree(metrics.parent)
        params.write_text(text)


def test_an_unknown_model_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(
        UserError, match=r"params.yaml has no model 'colors'; did you mean 'colours'"
    ):
        stage.main("colors", "x.png")


def test_a_model_that_is_not_there_is_an_error_that_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match=r"`dvc repro train@untrained` .*`dvc pull`"):
        stage.main("untrained", "x.png")


def test_a_damaged_model_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "m.keras", b"PK")
    with pytest.raises(UserError, match=r"m\.keras is damaged.*`dvc repro --force train@m`"):
        stage.read_input_shape(tmp_path / "m.keras", "m")


def test_classes_that_are_not_there_or_are_others_are_errors() -> None:
    with pytest.raises(UserError, match="`dvc repro split@nothing` makes it"):
        stage.read_classes("nothing")
    with pytest.raises(UserError, match="knows 3 classes, its dataset has 2"):
        stage.load_model(Path("data/models/colours.keras"), ["a", "b"])
