"""A command ends with a line for people, and a stage with its `dvc`: also while it imports."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import TOP

from stages.lib import command
from stages.lib.command import UserError, run

PROGRAMS = TOP / "tests/programs"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc and prctl are Linux's")


def start(
    folder: Path, *command: str, limit: tuple[int, int] | None = None
) -> subprocess.Popen[str]:
    """Starts Python in `folder`, with the project's stages."""

    def limited() -> None:
        if limit:
            resource.setrlimit(limit[0], (limit[1], limit[1]))

    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(TOP), "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,
    )


def test_an_error_for_people_ends_the_process_with_its_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def main(name: str) -> None:
        raise UserError(f"no dataset '{name}'")

    monkeypatch.setattr("sys.argv", ["stage", "mnits"])
    with pytest.raises(SystemExit, match="error: no dataset 'mnits'"):
        run(main)


@pytest.mark.parametrize(("given", "found"), [([], "none"), (["mnist", "cats"], "mnist cats")])
def test_a_missing_or_needless_argument_is_named(
    monkeypatch: pytest.MonkeyPatch, given: list[str], found: str
) -> None:
    def main(dataset: str) -> None:
        raise AssertionError(dataset)

    monkeypatch.setattr("sys.argv", ["stage", *given])
    with pytest.raises(SystemExit, match=f"error: expected DATASET, found {found}"):
        run(main)


def test_a_fault_of_the_code_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise FileNotFoundError(2, "No such file", "x")

    monkeypatch.setattr("sys.argv", ["stage"])
    with pytest.raises(FileNotFoundError):
        run(main)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "", "x.npy"), "no space left on the disk while writing x.npy"),
        (OSError(errno.EDQUOT, ""), "no space left on the disk while writing an output"),
        (OSError(errno.EACCES, "", "data"), "no permission for data"),
        (OSError(errno.EPERM, "", "data"), "no permission for data"),
        (OSError(errno.EROFS, "", "data"), "data is on a read-only file system"),
        (OSError(errno.EFBIG, "", "x.npy"), "x.npy is larger than"),
        (OSError(errno.EMFILE, "", "x.npy"), "too many open files at x.npy"),
        (OSError(errno.ENFILE, "", "x.npy"), "too many open files at x.npy"),
        (OSError(errno.EIO, "I/O error", "x"), r"the disk failed at x \(I/O error\)"),
        (OSError(errno.ESTALE, "Stale", "x"), r"the disk failed at x \(Stale\)"),
        (OSError(errno.EPIPE, "Broken pipe"), "nobody reads the output any more"),
        (OSError(errno.ENOMEM, "", "x"), "too little memory"),
        (MemoryError(), "too little memory"),
        (ImportError("x.so: failed to map segment from shared object"), "too little memory"),
        (ImportError("x.so: cannot allocate memory in static TLS block"), "too little memory"),
        (RuntimeError("can't start new thread"), "no more threads may start here"),
    ],
    ids=repr,
)
def test_what_the_machine_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def main() -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["stage"])
    with pytest.raises(SystemExit, match=f"^error: {line}"):
        run(main)


@pytest.mark.usefixtures("tensorflow")
def test_short_memory_within_tensorflow_is_one_line() -> None:
    from stages.networks.runtime import tf

    error = command.to_user_error(tf.errors.ResourceExhaustedError(None, None, "OOM"))
    assert str(error).startswith("too little memory")


def test_an_import_without_memory_is_one_line(tmp_path: Path) -> None:
    stage = start(tmp_path, "-m", "stages.report", limit=(resource.RLIMIT_AS, 150 << 20))
    _, printed = stage.communicate(timeout=60)
    assert printed.startswith("error: too little memory; no output was changed")
    assert printed.count("\n") == 1
    assert stage.returncode == 1


def test_a_python_without_the_packages_is_one_line() -> None:
    # Without -S, it would find those of the virtual environment.
    command = [sys.executable, "-S", "-m", "stages.split", "mnist"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: .* has no package '\w+': run `source .*\n", done.stderr)


def test_letters_that_the_terminal_lacks_are_printed_as_codes() -> None:
    program = "import sys; sys.argv = ['-m']; import stages; print('Kätzchen')"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    printed = subprocess.check_output([sys.executable, "-c", program], cwd=TOP, env=environment)
    assert printed == b"K\\xe4tzchen\n"


def test_a_clock_before_1980_is_one_line_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise AssertionError

    monkeypatch.setattr("sys.argv", ["stage"])
    monkeypatch.setattr("time.localtime", lambda: time.gmtime(0))
    with pytest.raises(SystemExit, match="error: the clock says 1970"):
        run(main)


@LINUX
@pytest.mark.parametrize("stage", ["train", "plot"])
def test_ctrl_c_during_the_imports_is_one_line(tmp_path: Path, stage: str) -> None:
    process = start(tmp_path, "-m", f"stages.{stage}", "mnist_cnn")
    while not any("numpy" in entry.path for entry in psutil.Process(process.pid).memory_maps()):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert printed == f"{command.INTERRUPTED}\n"
    assert process.returncode == 1


@LINUX
@pytest.mark.parametrize("seconds", ["0", "0.3", "1.5"])
def test_a_stage_ends_with_its_dvc_while_it_imports_under_a_process_that_adopts_orphans(
    tmp_path: Path, seconds: str
) -> None:
    adopting = start(tmp_path, str(PROGRAMS / "adopt_orphan.py"), seconds)
    printed, errors = adopting.communicate(timeout=60)
    assert not adopting.returncode, errors
    assert float(printed) < 2


@pytest.mark.parametrize(
    ("group", "parent", "ends"),
    [
        (7, 4321, "waits"),  # dvc is there
        (7, 1, "exits"),  # dvc went later, and init has adopted the stage
        (1, 4321, "exits"),  # dvc was gone from the start
        (None, 4321, "exits"),  # and so is what had adopted the stage
    ],
)
def test_a_stage_waits_for_a_parent_of_its_process_group(
    monkeypatch: pytest.MonkeyPatch, group: int | None, parent: int, ends: str
) -> None:
    def end(how: str) -> None:
        raise InterruptedError(how)

    def group_of(_: int) -> int:
        if group is None:
            raise ProcessLookupError
        return group

    monkeypatch.setattr(command, "PARENT", 4321)
    monkeypatch.setattr("os.getppid", lambda: parent)
    monkeypatch.setattr("os.getpgid", group_of)
    monkeypatch.setattr("os.getpgrp", lambda: 7)
    monkeypatch.setattr("time.sleep", lambda _: end("waits"))
    monkeypatch.setattr("os._exit", lambda _: end("exits"))
    with pytest.raises(InterruptedError, match=ends):
        command.end_with_parent()
