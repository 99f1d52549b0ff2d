"""The files in zip and tar archives, listed and read one by one without unpacking them."""

import errno
import io
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any, Self

from stages.lib.command import UserError
from stages.sources.names import is_archive, tidy

# Bytes of one file in an archive. No photograph of 100 million pixels is larger, but what is
# packed to do harm is: a zip of 47 MB can hold 10 GB of zeros.
MAX_FILE = 400 << 20
CHUNK = 1 << 20
# Stored, Deflate, bzip2 and LZMA: what zipfile reads in every version of Python.
COMPRESSIONS = (0, 8, 12, 14)
# What reading a damaged archive raises, besides an `OSError` that is not `is_of_disk`.
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, ValueError),
)


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        archive: The archive's name; `bundle.zip/train.zip` of one within another.
        path: The file's path in the archive, with `/` between its folders.
        size: Its bytes.
        refused: Why it is not read; empty if nothing speaks against it.
        open: Opens it for reading.
    """

    archive: str
    path: str
    size: int
    refused: str
    open: Callable[[], IO[bytes]] = field(repr=False)

    @property
    def file(self) -> str:
        """The name by which a person finds it: `train.zip/train/cat.0.jpg`."""
        return f"{self.archive}/{self.path}"

    def read(self, most: int | None = None) -> bytes | str:
        """Returns the content, or its first `most` bytes; or the reason why there is none."""
        if self.refused:
            return self.refused
        if most is None and self.size > MAX_FILE:
            return f"larger than {MAX_FILE >> 20} MiB"
        try:
            with self.open() as file:
                return file.read(MAX_FILE if most is None else most)
        except DAMAGED:
            return "damaged in its archive"
        except OSError as error:
            if is_of_disk(error):
                raise
            return "damaged in its archive"


def is_of_disk(error: OSError) -> bool:
    """Tells an error of the disk from one of an archive: a damaged bzip2, an impossible place."""
    return error.errno not in (None, errno.EINVAL)


class Region(io.RawIOBase):
    """A stretch of a file as a file of its own, for reading."""

    def __init__(self, file: IO[bytes], start: int, size: int):
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102
        self._at = offset + {io.SEEK_CUR: self._at, io.SEEK_END: self._size}.get(whence, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: D102
        self._file.seek(self._start + self._at)
        expected = max(min(len(buffer), self._size - self._at), 0)
        content = self._file.read(expected)
        if len(content) < expected:
            raise EOFError("the file ends early")
        buffer[:expected] = content
        self._at += expected
        return expected


def open_region(file: IO[bytes], start: int, size: int) -> IO[bytes]:
    """Opens `size` bytes of a file from `start` on."""
    return io.BufferedReader(Region(file, start, size))


def list_zip(file: IO[bytes], name: str, location: str, encoding: str | None) -> Iterator[Member]:
    """Yields the files in a zip archive.

    Args:
        file: The archive.
        name: Its name, for `Member.archive`.
        location: Its path or URL, for messages.
        encoding: The encoding of names that are not UTF-8.
    """
    archive = zipfile.ZipFile(file)
    if archive.infolist() and min(entry.header_offset for entry in archive.infolist()) > 0:
        raise zipfile.BadZipFile("other data stand before its first file")
    for entry in archive.infolist():
        # Without the flag for UTF-8, zipfile takes names for code page 437.
        stored = entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")
        stored = _read_unicode_name(entry.extra, stored) or stored
        decoded = _decode(stored, encoding, location)
        if decoded.endswith(("/", "\\")):
            continue
        path, refused = tidy(decoded)
        if stat.S_ISLNK(entry.external_attr >> 16):
            refused = "a link"
        elif not refused and entry.flag_bits & 1:
            refused = "encrypted: pack it without a password"
        elif not refused and entry.compress_type not in COMPRESSIONS:
            method = "Deflate64" if entry.compress_type == 9 else "a rare method"
            refused = f"compressed with {method}, which is not read: pack it anew"
        yield Member(name, path, entry.file_size, refused, partial(archive.open, entry))


def _read_unicode_name(extra: bytes, stored: bytes) -> bytes | None:
    """Returns the name in UTF-8 from the extra field of WinRAR and others (APPNOTE, 4.6.9)."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        version, checksum = extra[4:5], extra[5:9]
        if (
            kind == 0x7075
            and version == b"\1"
            and checksum == struct.pack("<I", zlib.crc32(stored))
        ):
            return extra[9 : 4 + size]
        extra = extra[4 + size :]
    return None


class _Header(tarfile.TarInfo):
    """A header of a tar. A damaged one is an error; tarfile takes it for the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        header: Self = _read_header(super().fromtarfile, tarfile)
        return header


def _read_header(read: Callable[[tarfile.TarFile], Any], archive: tarfile.TarFile) -> Any:
    try:
        return read(archive)
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the zeros at the end
        raise
    except tarfile.HeaderError as error:
        raise tarfile.ReadError(str(error)) from None


def list_tar(file: IO[bytes], name: str, location: str, encoding: str | None) -> list[Member]:
    """Returns the files in a tar that is not compressed; takes what `list_zip` takes.

    Of a file that was added again, the last is taken, as tar does.
    """
    members: dict[str, Member] = {}
    with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as archive:
        for entry in archive:
            if not entry.isdir():
                path, refused = _name(entry, encoding, location)
                content = partial(open_region, file, entry.offset_data, entry.size)
                members[path] = Member(name, path, entry.size, refused, content)
        file.seek(archive.offset)
        _check_end(file)
    return list(members.values())


def list_compressed_tar(
    file: IO[bytes], name: str, location: str, encoding: str | None, spool: IO[bytes]
) -> list[Member]:
    """Returns the files in a compressed tar, likewise.

    Such an archive is read from its beginning alone: its files are copied to the end of `spool`.

    Args:
        file: The archive, unpacked while it is read.
        name: See `list_zip`.
        location: See `list_zip`.
        encoding: See `list_zip`.
        spool: A temporary file.
    """
    members: dict[str, Member] = {}
    with tarfile.open(fileobj=file, mode="r|", tarinfo=_Header) as archive:
        for entry in archive:
            if entry.isdir():
                continue
            path, refused = _name(entry, encoding, location)
            start, source = spool.seek(0, io.SEEK_END), None
            if not refused and (entry.size <= MAX_FILE or is_archive(path)):
                source = archive.extractfile(entry)
            if source:
                shutil.copyfileobj(source, spool, CHUNK)
            content = partial(open_region, spool, start, entry.size)
            members[path] = Member(name, path, entry.size, refused, content)
        _check_end(file)
    return list(members.values())


def _check_end(file: IO[bytes]) -> None:
    """Raises a `ReadError` if there is anything but zeros: tarfile would not read it."""
    while block := file.read(CHUNK):
        if block.strip(b"\0"):
            raise tarfile.ReadError("other data stand behind its last file")


def _name(entry: tarfile.TarInfo, encoding: str | None, location: str) -> tuple[str, str]:
    path, refused = tidy(_decode(entry.name.encode(errors="surrogateescape"), encoding, location))
    if entry.issym() or entry.islnk():
        refused = "a link"
    elif not entry.isreg() or entry.issparse():
        refused = refused or "no regular file"
    return path, refused


def _decode(name: bytes, encoding: str | None, location: str) -> str:
    for candidate in ("utf-8", encoding):
        try:
            if candidate:
                return name.decode(candidate)
        except UnicodeDecodeError:
            continue
    found = f"not in {encoding} either" if encoding else "not UTF-8"
    raise UserError(
        f"{location}: the name {name!r} is {found}: set `prepare.encoding` to the encoding of its "
        "names, such as cp437, shift_jis, gbk or latin-1"
    )
