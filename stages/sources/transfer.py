"""Fetching one file from a path, or from the first of its mirrors that serves it."""

import errno
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import pooch
import requests
from fsspec.callbacks import TqdmCallback
from tqdm import tqdm

from stages.lib.command import UserError
from stages.lib.files import write_atomically

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# Seconds between two tries of one URL.
WAITS = (1.0, 4.0, 16.0)
# Seconds to wait for a connection, and for the next bytes.
TIMEOUT = (10.0, 60.0)
CHUNK = 1 << 18
# With these statuses, a server asks to try again later. Any other from 400 to 499 is final.
RETRY_LATER = (408, 425, 429)
# Trying again does not help against these errors.
FINAL_ERRORS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.SSLError,
    requests.exceptions.TooManyRedirects,
)

# The package that opens the URLs of each kind of storage, beside http and https.
STORES = {"s3": "dvc-s3", "gs": "dvc-gs", "az": "dvc-azure"}

# `fetch`, or the same with other waits and time-outs.
Fetch = Callable[..., None]


class _ProgressBar(tqdm):  # type: ignore[type-arg]
    def __bool__(self) -> bool:
        return True  # pooch asks before it knows the size, and tqdm would raise an exception

    def reset(self, total: float | None = None) -> None:
        # At the end, pooch resets the bar and counts anew; tqdm would also restart the clock.
        self.n = 0
        self.total = total or self.total


class _TransferError(Exception):
    """The reason why a path or URL does not give the file."""


def is_url(location: str) -> bool:
    """Tells whether `location` is a URL, not a path.

    Raises:
        UserError: It is a URL, but not of http, https or one of `STORES`, or not well formed.
    """
    scheme, separator, _ = location.partition("://")
    if not separator or not scheme.isalnum():
        return False
    known = ("http", "https", *STORES)
    if scheme.lower() not in known:
        raise UserError(f"{location}: expected a URL with {', '.join(known)}, or a path")
    try:
        urlsplit(location)
    except ValueError as error:
        raise UserError(f"{location}: no URL ({error}): correct it, or name a path") from None
    return True


def fetch(
    locations: Sequence[str],
    target: Path,
    *,
    sha256: str | None = None,
    waits: Sequence[float] = WAITS,
    timeout: tuple[float, float] = TIMEOUT,
) -> None:
    """Writes `target` from the first of `locations` that gives the file.

    Each URL of http or https is tried `len(waits) + 1` times, unless the error is final; the others
    by their packages, which have waits of their own. A wrong checksum is final: it most often means
    that the server has another file.

    Args:
        locations: Paths and URLs, best first.
        target: The file to write, whole or not at all.
        sha256: The checksum of the content; None checks the number of bytes alone.
        waits: Seconds between two tries of one URL.
        timeout: Seconds to wait for a connection, and for the next bytes.

    Raises:
        UserError: No location gives the file; the message has the reason for each.
    """
    reasons = []
    with write_atomically(target) as [part]:
        for location in locations:
            try:
                if location.partition("://")[0].lower() in STORES:
                    _download_from_store(location, part)
                elif is_url(location):
                    _download_with_retries(location, part, waits, timeout)
                else:
                    _copy(Path(location), part)
                _check(part, sha256)
            except _TransferError as error:
                reasons.append(f"{location} ({error})")
            else:
                return
        raise UserError(
            f"no {target.name} from {'; '.join(reasons)}: "
            "check the network (or the path), or set `source` to a path that holds the data"
        )


def _download_with_retries(
    url: str, part: Path, waits: Sequence[float], timeout: tuple[float, float]
) -> None:
    for wait in waits:
        try:
            return _download(url, part, timeout)
        except _TransferError as error:
            if _is_final(error.__cause__):
                raise
            print(f"{url}: {error}; next try in {wait:g} s", file=sys.stderr, flush=True)
            time.sleep(wait)
    return _download(url, part, timeout)


def _download(url: str, part: Path, timeout: tuple[float, float]) -> None:
    name = urlsplit(url).path.rpartition("/")[2]
    with _ProgressBar(desc=name, unit="B", unit_scale=True, mininterval=_interval()) as bar:
        get = pooch.HTTPDownloader(
            progressbar=bar,
            chunk_size=CHUNK,
            timeout=timeout,
            # Ask for the file as it is stored: some servers unpack a .gz on the way.
            headers={"Accept-Encoding": "identity"},
        )
        try:
            get(url, str(part), None)
        except requests.RequestException as error:
            bar.leave = False
            raise _TransferError(_reason(error, timeout)) from error
        except (ValueError, OSError) as error:
            # urllib3's of a host's name, and requests's of missing certificates.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            bar.leave = False
            raise _TransferError(str(error)) from error


def _download_from_store(url: str, part: Path) -> None:
    scheme, _, path = url.partition("://")
    bar = {"desc": path.rpartition("/")[2], "unit": "B", "unit_scale": True}
    bar["mininterval"] = _interval()
    try:
        # Keys and the server's address may have changed since this process last asked.
        store = fsspec.filesystem(scheme.lower(), skip_instance_cache=True)
        size = store.size(path)
        with TqdmCallback(tqdm_kwargs=bar) as callback:
            store.get_file(path, str(part), callback=callback)
    except ImportError:
        raise UserError(
            f"{url}: another package reads it: run `pip install --constraint "
            f"requirements-remotes.txt {STORES[scheme.lower()]}`"
        ) from None
    except FileNotFoundError as error:
        raise _TransferError("nothing of this name is there") from error
    except Exception as error:  # each package has kinds of its own
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        raise _TransferError(str(error).partition("\n")[0] or type(error).__name__) from error
    if part.stat().st_size != size:
        raise _TransferError("cut off before the end")


def _interval() -> float:
    """Returns the seconds between two states of a bar: in a log, each is a line of its own."""
    return 0.1 if sys.stderr.isatty() else 10


def _is_final(error: BaseException | None) -> bool:
    request = isinstance(error, requests.RequestException)
    return isinstance(error, FINAL_ERRORS) or _is_refusal(error) or not request


def _is_refusal(error: BaseException | None) -> bool:
    if not isinstance(error, requests.HTTPError) or error.response is None:
        return False
    status = error.response.status_code
    return 400 <= status < 500 and status not in RETRY_LATER


def _reason(error: requests.RequestException, timeout: tuple[float, float]) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {timeout[0]:g} s"
    if "timed out" in str(error):
        return f"nothing came for {timeout[1]:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "cut off before the end"
    # Give the innermost reason: the others of the chain repeat the names of hosts and objects.
    cause = getattr(error.args[0] if error.args else error, "reason", error)
    return str(cause).rpartition(": ")[2]


def _copy(path: Path, part: Path) -> None:
    try:
        # Copy, never link: DVC makes outputs read-only, and this file is the user's.
        with path.open("rb") as source, part.open("wb") as copy:
            shutil.copyfileobj(source, copy, CHUNK)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise _TransferError(error.strerror) from error


def _check(part: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    found = pooch.file_hash(str(part))
    if found != sha256:
        size = part.stat().st_size
        raise _TransferError(f"SHA-256 of its {size} bytes is {found}, expected {sha256}")
