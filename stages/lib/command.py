"""Running a stage as a command: arguments, exit status, and errors for people."""

import ctypes
import errno
import inspect
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

PARENT = os.getppid()
PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>
INTERRUPTED = "interrupted: no output was changed; `dvc repro` runs this stage again"


class UserError(Exception):
    """An error that a user can mend: it says what was found, what was expected and what to do."""


def _check_clock() -> None:
    year = time.localtime().tm_year
    if year < 1980:  # a training would fail at its end, when Keras writes the model
        raise UserError(
            f"the clock says {year}, and the zip in a model holds no year before 1980: set the "
            "clock and rerun"
        )


def to_user_error(error: BaseException) -> UserError | None:
    """Returns what to tell people of `error` if its cause is theirs to mend, else None."""
    if isinstance(error, UserError):
        return error
    if _is_short_memory(error):
        return UserError(
            "too little memory; no output was changed: end other programs, or take a smaller "
            "`batch_size` or `image_size`, and rerun"
        )
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return UserError("no more threads may start here: raise `ulimit -u` and rerun")
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("stages"):
        # Most often `.venv/bin/dvc` was called by its path: what it starts is then another Python.
        return UserError(
            f"{sys.executable} has no package '{error.name}': run `source .venv/bin/activate`, "
            "then the same again; `make reproduce` installs what is missing"
        )
    if isinstance(error, OSError):
        return _of_the_system(error)
    return None


def _is_short_memory(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # TensorFlow's own exception is known by its name: only `networks` loads TensorFlow.
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return True
    # A library that is too large for the memory left.
    library = isinstance(error, ImportError)
    return library and any(words in str(error) for words in ("failed to map", "annot allocate"))


def _of_the_system(error: OSError) -> UserError | None:
    file = error.filename or "an output"
    # On a full disk, NumPy raises an OSError without a number, "... requested and ... written".
    cut_off = error.errno is None and "requested and" in str(error)
    if cut_off or error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"no space left on the disk while writing {file}; nothing was kept of it: free some "
            "space (`dvc gc --all-commits --all-experiments` drops results that no commit and no "
            "experiment has) and rerun"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return UserError(
            f"no permission for {file}: `ls -ld` shows whose it is; let your user read and write "
            "the project's folder"
        )
    if error.errno == errno.EROFS:
        return UserError(
            f"{file} is on a read-only file system: make it writable, or copy the project elsewhere"
        )
    if error.errno == errno.EFBIG:
        return UserError(
            f"{file} is larger than `ulimit -f` or the file system allows: raise the limit, or "
            "move the project to another disk"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return UserError(f"too many open files at {file}: raise `ulimit -n` and rerun")
    if error.errno in (errno.EIO, errno.ESTALE):
        return UserError(
            f"the disk failed at {file} ({error.strerror}): check the disk or its network, and "
            "rerun"
        )
    if error.errno == errno.EPIPE:
        return UserError(
            "nobody reads the output any more; no file was changed: rerun without the pipe"
        )
    return None


def _print_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    mendable = to_user_error(error)
    if mendable:
        print(f"error: {mendable}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def begin() -> None:
    """Makes a command end well while it still imports: with its `dvc`, and with one line.

    `stages/__init__.py` calls it, before TensorFlow takes seconds to import.
    """
    if "DVC_STAGE" in os.environ:
        if sys.platform == "linux":
            # The kernel ends it even where no thread can run: while a library is loaded.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        threading.Thread(target=end_with_parent, daemon=True).start()
    end_on_interrupt()
    sys.excepthook = _print_exception
    # What the terminal's encoding lacks, such as a letter of a class, is no reason to fail.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def run(main: Callable[..., None]) -> None:
    """Calls `main` with the command's arguments.

    What people can mend (a `UserError`, a full disk, short memory, ...) and Ctrl-C end the process
    with one line on standard error, without a traceback.
    """
    signature = inspect.signature(main)
    try:
        signature.bind(*sys.argv[1:])
    except TypeError:
        names = " ".join(name.upper() for name in signature.parameters) or "no arguments"
        sys.exit(f"error: expected {names}, found {' '.join(sys.argv[1:]) or 'none'}")
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # so that `main` cleans up
    try:
        _check_clock()
        main(*sys.argv[1:])
    except Exception as error:
        mendable = to_user_error(error)
        if not mendable:
            raise
        sys.exit(f"error: {mendable}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def end_on_interrupt() -> None:
    """Makes Ctrl-C end this process at once, without a `KeyboardInterrupt`.

    Training needs this: an exception that is raised while TensorFlow calls back into Python crashes
    the process in one case of six (SIGSEGV). Nothing is lost, since outputs and checkpoints are
    whole or absent however a training ends.
    """

    def end(*_: object) -> None:
        with suppress(OSError):
            os.write(2, f"{INTERRUPTED}\n".encode())
        os._exit(1)

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as it is in the background
        signal.signal(signal.SIGINT, end)


def end_with_parent() -> None:
    """Waits until the parent process is gone, then ends this one."""
    # The parent may be gone before PARENT was read. Then that is init, or another process that
    # adopts orphans, such as systemd's for a user. `dvc` is in this process group; they are not,
    # unless one of them is `dvc` itself, as process 1 of a container.
    try:
        orphaned = os.getpgid(PARENT) != os.getpgrp()
    except OSError:  # gone, or of another user
        orphaned = True
    while not orphaned and os.getppid() == PARENT:
        time.sleep(0.2)
    with suppress(OSError):  # standard error may be closed as well
        os.write(2, b"error: dvc is gone, so this stage ends too; no output was changed\n")
    os._exit(1)
