"""How a stage runs as a command: arguments in, exit status out, errors for people."""

import errno
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

# Asked for at once: while a stage imports TensorFlow, for seconds, its `dvc` may be gone already.
PARENT = os.getppid()
INTERRUPTED = "interrupted: no output was changed; `dvc repro` runs this stage again"


class UserError(Exception):
    """What a user can cause and mend: the message says what was found, expected, and what to do."""


def run(main: Callable[..., None]) -> None:
    """Calls `main` with the command's arguments and ends the process.

    A `UserError`, a full disk and Ctrl-C become one line on standard error without a traceback.
    A stage whose `dvc` was killed ends too, so that the next one does not meet it at work.
    """
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    wanted = inspect.signature(main)
    try:
        wanted.bind(*sys.argv[1:])
    except TypeError:
        names = " ".join(name.upper() for name in wanted.parameters) or "no arguments"
        sys.exit(f"error: expected {names}, found {' '.join(sys.argv[1:]) or 'none'}")
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        # NumPy says of a full disk only how much of an array it could write.
        cut_off = error.errno is None and "requested and" in str(error)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) and not cut_off:
            raise
        sys.exit(
            f"error: no space left on the disk while writing {error.filename or 'an output'}; "
            "nothing was kept of it: free some space (`dvc gc -w` drops unused results) and rerun"
        )
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def end_on_interrupt() -> None:
    """Makes Ctrl-C end this process at once, without a `KeyboardInterrupt`.

    For training: raised while TensorFlow has called back into Python, that exception crashes the
    process now and then (SIGSEGV in one of six). Nothing is lost: outputs and state are whole or
    absent, however a training ends.
    """

    def end(*_: object) -> None:
        with suppress(OSError):
            os.write(2, f"{INTERRUPTED}\n".encode())
        os._exit(1)

    signal.signal(signal.SIGINT, end)


def _end_with_parent() -> None:
    # A parent that was already gone at the start has left this process to init, which is of another
    # session; in a container `dvc` itself may be process 1.
    orphaned = PARENT == 1 and os.getsid(1) != os.getsid(0)
    while not orphaned and os.getppid() == PARENT:
        time.sleep(0.2)
    with suppress(OSError):  # standard error may be gone with it
        os.write(2, b"error: dvc is gone, so this stage ends too; no output was changed\n")
    os._exit(1)
