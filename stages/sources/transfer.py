"""Fetching one file, whole and checked, from a path or from the first mirror that serves it."""

import errno
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
from tqdm import tqdm

from stages.lib.command import UserError
from stages.lib.files import write_atomically

# Seconds between the tries of one mirror.
WAITS = (1.0, 4.0, 16.0)
# Seconds to wait for a connection, and for the next bytes.
TIMEOUT = (10.0, 60.0)
CHUNK = 1 << 18
# A server that answers so means "later"; with any other status from 400 to 499, it means "never".
LATER = (408, 425, 429)
FOR_GOOD = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.SSLError,
    requests.exceptions.TooManyRedirects,
)


class _ProgressBar(tqdm):  # type: ignore[type-arg]
    def __bool__(self) -> bool:
        return True  # pooch asks before the size is known, when tqdm's own answer is an exception

    def reset(self, total: float | None = None) -> None:
        self.n = 0  # pooch counts anew at the end: the clock must go on
        self.total = total or self.total


class _TransferError(Exception):
    """Why a place does not give the file."""


def is_url(location: str) -> bool:
    """Returns whether `location` is a URL, not a path.

    Raises:
        UserError: It is a URL of another kind than http and https.
    """
    scheme, separator, _ = location.partition("://")
    if not separator or not scheme.isalnum():
        return False
    if scheme.lower() not in ("http", "https"):
        raise UserError(f"{location}: expected a URL with http or https, or a path")
    return True


def fetch(
    places: Sequence[str],
    target: Path,
    *,
    sha256: str | None = None,
    waits: Sequence[float] = WAITS,
    timeout: tuple[float, float] = TIMEOUT,
) -> None:
    """Writes `target` from the first of `places` that gives the file.

    Each URL is tried `len(waits) + 1` times, unless its server refuses for good. A wrong checksum
    counts as a refusal: it most often means another file, and some files are large.

    Args:
        places: Paths and http or https URLs, best first.
        target: The file to write. It is never there in part.
        sha256: What the file's bytes must hash to; without it, only their number is checked.
        waits: Seconds between two tries of one URL.
        timeout: Seconds to wait for a connection, and for the next bytes.

    Raises:
        UserError: No place gives the file; the message has a reason for each.
    """
    reasons = []
    with write_atomically(target) as [part]:
        for place in places:
            try:
                if is_url(place):
                    _download_patiently(place, part, waits, timeout)
                else:
                    _copy(Path(place), part)
                _check(part, sha256)
            except _TransferError as error:
                reasons.append(f"{place} ({error})")
            else:
                return
        raise UserError(
            f"no {target.name} from {'; '.join(reasons)}: "
            "check the network (or the path), or set `source` to a path that holds the data"
        )


def _download_patiently(
    url: str, part: Path, waits: Sequence[float], timeout: tuple[float, float]
) -> None:
    for wait in waits:
        try:
            return _download(url, part, timeout)
        except _TransferError as error:
            if isinstance(error.__cause__, FOR_GOOD) or _refused(error.__cause__):
                raise
            print(f"{url}: {error}; next try in {wait:g} s", file=sys.stderr, flush=True)
            time.sleep(wait)
    return _download(url, part, timeout)


def _download(url: str, part: Path, timeout: tuple[float, float]) -> None:
    name = urlsplit(url).path.rpartition("/")[2]
    # In a log, where each state of the bar is a line of its own, a few are enough.
    interval = 0.1 if sys.stderr.isatty() else 10
    with _ProgressBar(desc=name, unit="B", unit_scale=True, mininterval=interval) as bar:
        get = pooch.HTTPDownloader(
            progressbar=bar,
            chunk_size=CHUNK,
            timeout=timeout,
            # The file as it is stored: some servers would unpack a .gz on the way.
            headers={"Accept-Encoding": "identity"},
        )
        try:
            get(url, str(part), None)
        except requests.RequestException as error:
            bar.leave = False
            raise _TransferError(_reason(error, timeout)) from error


def _refused(error: BaseException | None) -> bool:
    if not isinstance(error, requests.HTTPError) or error.response is None:
        return False
    status = error.response.status_code
    return 400 <= status < 500 and status not in LATER


def _reason(error: requests.RequestException, timeout: tuple[float, float]) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {timeout[0]:g} s"
    if "timed out" in str(error):
        return f"nothing came for {timeout[1]:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "cut off before the end"
    # The innermost reason of a chain that names hosts and objects again and again.
    cause = getattr(error.args[0] if error.args else error, "reason", error)
    return str(cause).rpartition(": ")[2]


def _copy(path: Path, part: Path) -> None:
    try:
        # Never a link: DVC makes outputs read-only, and the file is the user's.
        with path.open("rb") as source, part.open("wb") as copy:
            shutil.copyfileobj(source, copy, CHUNK)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _TransferError(error.strerror) from error


def _check(part: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    found = pooch.file_hash(str(part))
    if found != sha256:
        size = part.stat().st_size
        raise _TransferError(f"SHA-256 of its {size} bytes is {found}, expected {sha256}")
