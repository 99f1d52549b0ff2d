"""Whatever hits a run, one documented command leads to the bytes of an undisturbed one.

`make test-faults` runs these tests and writes the table of docs/reliability.md. They take minutes,
and `make test` leaves them out. Moments are drawn from seeds, and counted in stages, so that a slow
machine is hit all over the pipeline too.
"""

import filecmp
import hashlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from conftest import TOP, Project
from ruamel.yaml import YAML
from servers import free_ports, nanio_command, running, s3_names

from stages.verify import hashes

pytestmark = pytest.mark.faults

STAGES = [
    *(
        f"{stage}@{name}"
        for stage in ("download", "prepare", "split")
        for name in ("digits", "pictures")
    ),
    *(f"{stage}@{name}" for stage in ("train", "evaluate", "plot") for name in ("dense", "cnn")),
    "report",
]
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
MOUNTS = pytest.mark.usefixtures("mounts")
Record = Callable[[str, object], None]


def note(record: Record, fault: str, tries: int, recovered_by: str) -> None:
    """Records a row of the table, or a part of one: conftest.py adds the tries up."""
    record("fault", (fault, tries, recovered_by))


@pytest.fixture(scope="session")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips what needs a small disk where none may be mounted: for others than root, in Docker."""
    try:
        with disk(tmp_path_factory.mktemp("mounts") / "disk", 1 << 20):
            pass
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs to mount a small disk, as root on Linux")


@pytest.fixture(scope="session")
def undisturbed(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project after a run that nothing disturbed, with what `make` needs."""
    project = reproduced.copy(tmp_path_factory.mktemp("undisturbed") / "project")
    shutil.copy(TOP / "Makefile", project.folder)
    return project


@pytest.fixture
def project(undisturbed: Project, tmp_path: Path) -> Project:
    """A copy of it, to be hit."""
    return undisturbed.copy(tmp_path / "project")


def empty(project: Project) -> None:
    """Takes away all that a run made, in the workspace and in the cache."""
    for name in ("data", "reports", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(project.folder / name, ignore_errors=True)
    (project.folder / "dvc.lock").unlink(missing_ok=True)


def forget(project: Project, *stages: str) -> None:
    """Takes away what these stages made, in the workspace and in the cache."""
    cache = project.folder / ".dvc/cache/files/md5"
    everything = outputs(project)
    theirs = outputs(project, *stages)
    others = objects(cache, *(everything[path] for path in everything.keys() - theirs.keys()))
    for found in set(objects(cache, *theirs.values())) - set(others):
        (cache / found).unlink()
    for output in theirs:
        path = project.folder / output
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def objects(cache: Path, *digests: str) -> list[Path]:
    """Returns where the cache has these outputs, and the files of those that are folders."""
    found = []
    for digest in digests:
        found.append(Path(digest[:2]) / digest[2:])
        if digest.endswith(".dir"):
            members = re.findall(r'"md5": "(\w+)"', (cache / found[-1]).read_text())
            found += [Path(member[:2]) / member[2:] for member in members]
    return found


def outputs(project: Project, *stages: str) -> dict[str, str]:
    lock = YAML(typ="safe").load(project.folder / "dvc.lock")
    return hashes(lock, list(stages or lock["stages"]))


def make_command(*targets: str) -> list[str]:
    # What `make` installs is there already: the interpreter of the tests has it.
    return ["make", "--old-file=.venv/installed", *targets]


def make(project: Project, *targets: str) -> str:
    return project.run(*make_command(*targets))


def start(project: Project, *command: str, limit: int | None = None) -> subprocess.Popen[bytes]:
    """Starts a command in a process group of its own; what it prints goes to `printed`."""

    def limited() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    with printed(project).open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=project.folder,
            env=project.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=limited,
        )


def printed(project: Project) -> Path:
    return project.folder.with_name("printed.txt")


def assert_nothing_is_lost(project: Project, undisturbed: Project) -> None:
    """Asserts that outputs, dvc.lock and the cache have the bytes of the undisturbed run."""
    assert_the_workspace_is_whole(project, undisturbed)
    cache = ".dvc/cache/files/md5"
    for path in objects(undisturbed.folder / cache, *outputs(undisturbed).values()):
        whole = undisturbed.folder / cache / path
        assert filecmp.cmp(project.folder / cache / path, whole, shallow=False), path


def assert_the_workspace_is_whole(project: Project, undisturbed: Project) -> None:
    """Asserts that outputs and dvc.lock have the bytes of the undisturbed run."""
    lock = "dvc.lock"
    assert (project.folder / lock).read_text() == (undisturbed.folder / lock).read_text()
    for output in outputs(undisturbed):
        assert files(project.folder / output) == files(undisturbed.folder / output), output


def files(path: Path) -> dict[str, str]:
    """Returns the hash of each file at or below `path`."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in found
        if not file.is_dir()
    }


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> bool:
    """Waits until the condition holds; returns False if the process ends before it does."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    return process.poll() is None


def processes(process: subprocess.Popen[bytes], word: str) -> list[psutil.Process]:
    """Returns those below `process` that have the argument `word`."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if word in child.cmdline():
                found.append(child)
        except psutil.Error:  # it has just ended
            continue
    return found


def wait_until_dead(process: psutil.Process) -> bool:
    """Waits five seconds at most until a process has ended; it may stay as a zombie."""
    for _ in range(500):
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def kill(project: Project, moments: random.Random, whole_group: bool) -> bool:
    """Runs `make reproduce` and kills it; returns False if it ended before."""
    process = start(project, *make_command("reproduce"))
    number = moments.choice((0, 1, 1, 2, 2, 3))  # of the stage to hit; 0: while dvc starts
    seconds = moments.uniform(0, 3)

    def is_reached() -> bool:
        started = printed(project).read_bytes().count(b"Running stage")
        return started >= number and bool(processes(process, "repro"))

    if not wait_until(is_reached, process):
        assert process.returncode == 0, printed(project).read_text()
        return False
    time.sleep(seconds)
    stages = processes(process, "-m")
    dvc = processes(process, "repro")
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        for found in dvc:
            found.kill()
    process.wait(60)
    for found in stages:
        assert wait_until_dead(found), "the stage outlived its dvc"
    for found in dvc:
        assert wait_until_dead(found)
    return process.returncode != 0


@pytest.mark.parametrize("chain", range(5))
def test_a_run_killed_ten_times_all_over_the_pipeline(
    project: Project, undisturbed: Project, chain: int, record_property: Record
) -> None:
    killed = "dvc alone" if chain < 3 else "the whole process group"
    if chain % 2:  # nothing of dvc.lock is in Git yet
        project.run("git", "reset", "--quiet", "--hard", "HEAD~1")
    moments = random.Random(f"{killed} {chain}")  # noqa: S311
    empty(project)
    kills = 0
    while kills < 10:
        if kill(project, moments, whole_group=killed != "dvc alone"):
            kills += 1
        else:
            assert_nothing_is_lost(project, undisturbed)
            empty(project)
    make(project, "reproduce")
    assert_nothing_is_lost(project, undisturbed)
    note(record_property, f"SIGKILL of {killed}, all over the pipeline", kills, "make reproduce")


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of its own of so many bytes, in memory."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@MOUNTS
@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk(
    undisturbed: Project, tmp_path: Path, stage: str, record_property: Record
) -> None:
    size = sum(
        file.stat().st_size
        for output in outputs(undisturbed, stage)
        for file in (undisturbed.folder / output, *(undisturbed.folder / output).rglob("*"))
        if file.is_file()
    )
    failed = 0
    with disk(tmp_path / "disk", 64 << 20) as small:
        # Room for a half of the outputs, for one and a half, and for two, which DVC just needs.
        for number, share in enumerate((0.5, 1.5, 2.0)):
            project = undisturbed.copy(small / f"{number}/project")
            forget(project, stage)
            filler = small / "filler"
            free = shutil.disk_usage(small).free - int(size * share) - (16 << 10)
            filler.write_bytes(bytes(free))
            process = start(project, *make_command("reproduce"))
            failed += process.wait(900) != 0
            filler.unlink()
            said = printed(project).read_text()
            make(project, "reproduce", "mend")
            assert_nothing_is_lost(project, undisturbed)
            assert "Traceback" not in said, said
            shutil.rmtree(project.folder.parent)
    assert failed
    fault = "A full disk, in every stage and while DVC saves"
    note(record_property, fault, 3, "make reproduce mend")


@pytest.mark.parametrize("seed", range(4))
def test_two_runs_at_once(
    project: Project, undisturbed: Project, seed: int, record_property: Record
) -> None:
    forget(project, "split@digits", "train@cnn", "report")
    moments = random.Random(seed)  # noqa: S311
    first = start(project, *make_command("reproduce"))
    time.sleep(moments.uniform(0, 4))
    second = start(project, *make_command("reproduce"))
    assert 0 in {first.wait(900), second.wait(900)}
    make(project, "reproduce")
    assert_nothing_is_lost(project, undisturbed)
    note(record_property, "Two `make reproduce` at once", 1, "make reproduce")


def test_limits_of_memory(project: Project, undisturbed: Project, record_property: Record) -> None:
    limits = (100, 200, 400, 700, 1200, 2000, 2800)
    empty(project)
    for limit in limits:
        process = start(project, *make_command("reproduce"), limit=limit << 20)
        process.wait(900)
        assert "Traceback" not in printed(project).read_text(), printed(project).read_text()
    make(project, "reproduce")
    assert_nothing_is_lost(project, undisturbed)
    fault = "Limits of memory from 100 MB to 2.8 GB (`ulimit -v`)"
    note(record_property, fault, len(limits), "make reproduce")


@MOUNTS
@pytest.mark.parametrize("place", [".", "data", ".dvc"])
def test_a_read_only_workspace(
    project: Project, undisturbed: Project, place: str, record_property: Record
) -> None:
    folder = project.folder / place
    forget(project, "split@digits")
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        said = project.run(*make_command("reproduce"), fails=True)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
    assert "read-only file system" in said.lower()
    assert "Traceback" not in said
    make(project, "reproduce")
    assert_nothing_is_lost(project, undisturbed)
    note(record_property, "A workspace, or a part of it, that is read-only", 1, "make reproduce")


@pytest.mark.skipif(FAKETIME is None, reason="needs Debian's package faketime")
def test_a_clock_set_back(project: Project, undisturbed: Project, record_property: Record) -> None:
    forget(project, "prepare@pictures", "split@digits", "train@cnn", "evaluate@cnn", "report")
    true_time = project.environment
    project.environment = true_time | {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": "1975-01-01 00:00:00",
    }
    said = project.run(*make_command("reproduce"), fails=True)
    assert "error: the clock says 1975" in said
    project.environment = project.environment | {"FAKETIME": "-400d"}
    make(project, "reproduce")
    assert_nothing_is_lost(project, undisturbed)
    project.environment = true_time
    make(project, "reproduce")
    assert_nothing_is_lost(project, undisturbed)
    note(record_property, "The clock set back, by a year and to 1975", 2, "make reproduce")


class Storage:
    """A remote: a folder, or an S3 server on it, which can be killed and started again."""

    def __init__(self, folder: Path, kind: str):
        self.folder, self.is_s3 = folder, kind == "S3"
        self.bucket = folder / "data/my-bucket"
        self.bucket.mkdir(parents=True)
        self._servers = ExitStack()
        [self._port] = free_ports(1)

    def start(self) -> None:
        if self.is_s3:
            server = running(*nanio_command(self.folder, self._port))
            self._process = self._servers.enter_context(server)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._servers.close()

    def configure(self, project: Project) -> None:
        remote = "remote", "modify", "--local", "storage"
        url = "s3://my-bucket" if self.is_s3 else str(self.bucket)
        project.run("dvc", "remote", "add", "--local", "--default", "storage", url)
        project.run("dvc", *remote, "verify", "true")
        if self.is_s3:
            names = s3_names(self._port)
            project.run("dvc", *remote, "endpointurl", names["https://s3.example.com"])
            project.run("dvc", *remote, "access_key_id", names["KEY"])
            project.run("dvc", *remote, "secret_access_key", names["SECRET"])
        # A server that is down is one at once, not after 40 seconds.
        project.environment["AWS_MAX_ATTEMPTS"] = "1"

    def count(self) -> int:
        return count_files(self.folder)


def count_files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


@pytest.fixture
def storage(kind: str, tmp_path: Path) -> Iterator[Storage]:
    if kind == "S3":
        pytest.importorskip("dvc_s3")
    storage = Storage(tmp_path / "remote", kind)
    storage.start()
    yield storage
    storage.close()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("killed", "kind"), [("client", "a folder"), ("client", "S3"), ("server", "S3")]
)
def test_a_push_and_a_pull_that_are_cut_off(
    project: Project,
    undisturbed: Project,
    tmp_path: Path,
    storage: Storage,
    killed: str,
    seed: int,
    record_property: Record,
) -> None:
    moments = random.Random(seed)  # noqa: S311
    total = len(objects(project.folder / ".dvc/cache/files/md5", *outputs(project).values()))

    def cut_off(project: Project, command: str, arrived: Callable[[], int]) -> None:
        number = moments.randint(1, total // 2) + arrived()  # time is left to hit it
        process = start(project, "dvc", command, "--run-cache")
        wait_until(lambda: arrived() >= number, process)
        if killed == "client":
            with suppress(ProcessLookupError):  # it has failed: what it said follows
                os.killpg(process.pid, signal.SIGKILL)
        else:
            storage.kill()
        process.wait(900)
        assert process.returncode, printed(project).read_text()
        if killed == "server":
            storage.start()

    storage.configure(project)
    cut_off(project, "push", storage.count)
    project.run("dvc", "push", "--run-cache")
    clone = Project(tmp_path / "clone/project")
    project.run("git", "clone", "--quiet", ".", str(clone.folder))
    storage.configure(clone)
    cut_off(clone, "pull", lambda: count_files(clone.folder / ".dvc/cache/files/md5"))
    clone.run("dvc", "pull", "--run-cache")
    assert_the_workspace_is_whole(clone, undisturbed)  # its cache lacks what Git keeps
    for command in ("push", "pull"):
        note(record_property, f"The {killed} killed in a {command}", 1, f"dvc {command}")


KINDS = {
    "an array": "data/splits/digits/train_images.npy",
    "a model": "data/models/cnn.keras",
    "a table": "data/history/cnn.csv",
    "a folder's list": "data/predictions/cnn",
    "a folder's file": "data/predictions/cnn/test_labels.npy",
}


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (kind, place)
        for kind in KINDS
        for place in ("the workspace", "the cache", "a remote")
        if (kind, place) != ("a folder's list", "the workspace")  # it is in cache and remote alone
    ],
)
def test_a_flipped_bit(
    project: Project,
    undisturbed: Project,
    tmp_path: Path,
    kind: str,
    place: str,
    record_property: Record,
) -> None:
    storage = Storage(tmp_path / "remote", "a folder")
    storage.configure(project)
    project.run("dvc", "push", "--run-cache")
    path = KINDS[kind]
    if place == "the workspace":
        hit = project.folder / path
    else:
        cache = project.folder / ".dvc/cache/files/md5"
        digest = outputs(project).get(path) or md5(project.folder / path)
        files_at = cache if place == "the cache" else storage.bucket / "files/md5"
        hit = files_at / digest[:2] / digest[2:]
    whole = hit.read_bytes()
    flip(hit)
    make(project, "mend")
    assert hit.read_bytes() == whole
    assert_nothing_is_lost(project, undisturbed)
    note(record_property, f"A bit flipped in a file of {place}", 1, "make mend")


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def flip(path: Path) -> None:
    """Flips a bit in the middle of a file, which keeps its size, its time and its mode."""
    content, status = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(status.st_mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
