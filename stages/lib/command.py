"""Running a stage as a command: arguments, exit status, and errors for people."""

import errno
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

# Read before the slow imports: `dvc` may be killed while a stage imports TensorFlow for seconds.
PARENT = os.getppid()
INTERRUPTED = "interrupted: no output was changed; `dvc repro` runs this stage again"


class UserError(Exception):
    """An error that a user can mend: it says what was found, what was expected and what to do."""


def run(main: Callable[..., None]) -> None:
    """Calls `main` with the command's arguments.

    A `UserError`, a full disk and Ctrl-C end the process with one line on standard error, without a
    traceback. A stage ends when its `dvc` is killed, so that the next `dvc` does not run beside it.
    """
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=end_with_parent, daemon=True).start()
    signature = inspect.signature(main)
    try:
        signature.bind(*sys.argv[1:])
    except TypeError:
        names = " ".join(name.upper() for name in signature.parameters) or "no arguments"
        sys.exit(f"error: expected {names}, found {' '.join(sys.argv[1:]) or 'none'}")
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        # On a full disk, NumPy raises an OSError without a number, "... requested and ... written".
        cut_off = error.errno is None and "requested and" in str(error)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) and not cut_off:
            raise
        sys.exit(
            f"error: no space left on the disk while writing {error.filename or 'an output'}; "
            "nothing was kept of it: free some space (`dvc gc --all-commits --all-experiments` "
            "drops results that no commit and no experiment has) and rerun"
        )
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

    signal.signal(signal.SIGINT, end)


def end_with_parent() -> None:
    """Waits until the parent process is gone, then ends this one."""
    # Process 1 is the parent in two cases. In a container, it can be `dvc` itself, in this session:
    # wait for it. Elsewhere it is init, in another session: it adopts a process whose parent was
    # gone before PARENT was read.
    orphaned = PARENT == 1 and os.getsid(1) != os.getsid(0)
    while not orphaned and os.getppid() == PARENT:
        time.sleep(0.2)
    with suppress(OSError):  # standard error may be closed as well
        os.write(2, b"error: dvc is gone, so this stage ends too; no output was changed\n")
    os._exit(1)
