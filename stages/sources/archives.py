"""Archives: opening zip and tar files, and those within them, without unpacking them."""

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from stages.lib.command import UserError
from stages.sources.members import (
    CHUNK,
    DAMAGED,
    Member,
    is_of_disk,
    list_compressed_tar,
    list_tar,
    list_zip,
    open_region,
)
from stages.sources.names import is_archive, is_hidden, is_photograph

# Holds the photographs without labels, under the name that it has in the Kaggle competition;
# the suffix may be another archive's.
UNLABELLED = "test1.zip"
# The first bytes of archives.
ZIPS = (b"PK\3\4", b"PK\5\6")
COMPRESSED_TARS = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
UNPACK: dict[str, Callable[[IO[bytes]], Any]] = {
    "gz": lambda file: gzip.GzipFile(fileobj=file),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}
NOT_READ = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "rar", b"\x28\xb5\x2f\xfd": "Zstandard"}


@contextmanager
def open_archives(paths: Iterable[Path], encoding: str | None = None) -> Iterator[list[Member]]:
    """Lists the files in archives; archives within them are opened too.

    What can be read from its beginning alone, such as a compressed tar, is copied to a temporary
    file without a name, which is gone when the process ends.

    Args:
        paths: The archives, zip or tar.
        encoding: The encoding of names that are not UTF-8.

    Yields:
        The files, in the order of the archives. They can be read until the block ends.

    Raises:
        UserError: A file is no archive, or is damaged; it holds photographs beside archives, or
            archives deeper within; or a name is not in the `encoding`.
    """
    with ExitStack() as stack:
        spool = stack.enter_context(TemporaryFile())
        members: list[Member] = []
        for path in paths:
            file = stack.enter_context(path.open("rb"))
            found = _list(file, path.name, str(path), encoding, spool)
            inner = [member for member in found if _holds_more(member)]
            if inner:
                refuse_mixture(str(path), [member.path for member in found])
            members += [member for member in found if member not in inner]
            for archive in inner:
                location = f"{path}/{archive.path}"
                inside = stack.enter_context(_open_inner(archive, location, spool))
                deeper = _list(inside, archive.file, location, encoding, spool)
                if any(map(_holds_more, deeper)):
                    raise UserError(
                        f"{location} is an archive within an archive, and holds archives too: "
                        "unpack the outer one, and set `source` to the folder"
                    )
                members += deeper
        yield members


def _holds_more(member: Member) -> bool:
    return is_archive(member.path) and not is_hidden(member.path)


def refuse_mixture(where: str, paths: Iterable[str]) -> None:
    """Raises a `UserError` if there are archives among photographs: it is unclear what to read."""
    visible = [path for path in paths if not is_hidden(path)]
    archive = next(filter(is_archive, visible), None)
    photograph = next(filter(is_photograph, visible), None)
    if archive and photograph:
        raise UserError(
            f"{where} holds photographs ({photograph}) and an archive ({archive}): name the "
            "archive alone in `source`, or move it elsewhere"
        )


def kind_of(start: bytes) -> str | None:
    """Tells an archive by its first 512 bytes: zip, tar, gz, bz2, xz, 7z, rar, .. or None."""
    if start.startswith(ZIPS):
        return "zip"
    for magic, kind in (COMPRESSED_TARS | NOT_READ).items():
        if start.startswith(magic):
            return kind
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    return "tar"


def check_archive(path: Path, location: str) -> str:
    """Checks that a file is an archive that can be read, as far as its beginning and list tell.

    Args:
        path: The file.
        location: The path or URL it came from, for messages.

    Returns:
        The suffix that tells its kind: `.zip`, `.tar`, `.tar.gz`, `.tar.bz2` or `.tar.xz`.

    Raises:
        UserError: It is another kind of archive, damaged, or none.
    """
    with path.open("rb") as file, TemporaryFile() as spool:
        kind = kind_of(file.read(512))
        if kind not in UNPACK:
            _list(file, path.name, location, "latin-1", spool)
            return f".{kind}"
        file.seek(0)
        with (
            _errors_named(location),
            tarfile.open(fileobj=UNPACK[kind](file), mode="r|") as archive,
        ):
            if archive.next() is None:
                raise EOFError("no file in it")
        return f".tar.{kind}"


@contextmanager
def _errors_named(location: str) -> Iterator[None]:
    try:
        yield
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and is_of_disk(error):
            raise
        raise UserError(
            f"{location}: found an archive that is cut off or damaged ({error}): fetch it again"
        ) from None


def _list(
    file: IO[bytes], name: str, location: str, encoding: str | None, spool: IO[bytes]
) -> list[Member]:
    file.seek(0)
    start = file.read(512)
    file.seek(0)
    kind = kind_of(start)
    if kind in NOT_READ.values():
        raise UserError(
            f"{location}: found a {kind} archive, which is not read: unpack it, and set `source` "
            "to the folder"
        )
    with _errors_named(location):
        if kind == "zip":
            return list(list_zip(file, name, location, encoding))
        if kind == "tar":
            return list_tar(file, name, location, encoding)
        if kind:
            unpacked = UNPACK[kind](file)
            return list_compressed_tar(unpacked, name, location, encoding, spool)
    raise UserError(f"{location}: found {_describe(start)}, expected a zip or tar archive")


def _describe(start: bytes) -> str:
    if not start:
        return "an empty file"
    # Many servers answer with an HTML page instead of an error, some with a byte-order mark first.
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return "a web page (does it ask to sign in, or say that the file has moved?)"
    return f"a file that starts with the bytes {start[:4].hex(' ')}"


def _open_inner(archive: Member, location: str, spool: IO[bytes]) -> IO[bytes]:
    """Opens an archive within another; one in a zip is copied to the end of `spool`."""
    if archive.refused:
        raise UserError(f"{location}: {archive.refused}")
    with _errors_named(location):
        file = archive.open()
        if isinstance(file, io.BufferedReader):  # a stretch of a tar
            return file
        with file:
            start = spool.seek(0, io.SEEK_END)
            beginning = file.read(512)
            spool.write(beginning)
            if kind_of(beginning):  # else there is nothing worth copying
                shutil.copyfileobj(file, spool, CHUNK)
    return open_region(spool, start, spool.tell() - start)
