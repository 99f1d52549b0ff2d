"""Finding what is damaged in a JPEG or a PNG, where a decoder would keep silent or repair it."""

import re
import zlib
from functools import partial
from typing import Literal, NamedTuple

import simplejpeg

from stages.sources.arrays import Image

# libjpeg's warnings of a header that is unusual, while the picture is whole.
HARMLESS = re.compile(r"unknown JFIF revision|Unknown Adobe color|Invalid SOS parameters")
STRAY = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x(\w\w)")
# libjpeg-turbo's own fuzzers stop here: a small file with more scans can take minutes.
MAX_SCANS = 500
STANDALONE = range(0xD0, 0xDA)  # markers without a length
SCAN, SCAN_MARKER = 0xDA, b"\xff\xda"
# What a PNG's picture needs; libpng prints warnings on the other chunks.
CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
PNG_START, PNG_HEADER_END = 8, 33
TOO_MUCH_MEMORY = "damaged: it asks for more memory than its pixels need"


class UncheckedError(Exception):
    """libjpeg-turbo's simple interface does not take this JPEG, though it may be whole."""


class Jpeg(NamedTuple):
    """A decoded JPEG: uint8 [height, width, 3 (RGB) or 4 (CMYK)], and what is odd in it."""

    image: Image
    notes: tuple[str, ...]


def decode_jpeg(content: bytes, colours: str, least: tuple[int, int] | None = None) -> Jpeg | str:
    """Decodes a JPEG, and takes libjpeg's warnings for what they are.

    libjpeg repairs what it can. Where it warns of lost data, the picture is damaged. Stray bytes
    between two segments, and those before the end that many cameras write, harm nothing. But stray
    bytes before the end may also be what a damaged picture left over, so there is a note.

    libjpeg-turbo is what OpenCV uses too, and gives the same bytes.

    Args:
        content: The file's bytes.
        colours: `RGB` or `CMYK`.
        least: The height and width to reduce the picture to: a half, a quarter or an eighth of
            its own, rounded up.

    Returns:
        The picture, or the reason why there is none.

    Raises:
        UncheckedError: The JPEG is of a kind that only libjpeg's full interface takes. The text is
            a note.
    """
    if content.count(SCAN_MARKER) > MAX_SCANS:
        return f"damaged: more than {MAX_SCANS} scans"
    height, width = least or (0, 0)
    decode = partial(simplejpeg.decode_jpeg, content, colours, min_height=height, min_width=width)
    try:
        return Jpeg(decode(strict=True), ())
    except ValueError as error:
        warning = str(error)
    stray = STRAY.match(warning)
    if stray and stray[2] != "d9":
        clean = remove_stray_bytes(content)
        found = decode_jpeg(clean, colours, least) if len(clean) < len(content) else None
        if not isinstance(found, Jpeg):
            return found or describe(warning)
        return found._replace(notes=("stray bytes between two segments", *found.notes))
    if not stray and not HARMLESS.search(warning):
        if "subsampling" in warning or "Unsupported color conversion" in warning:
            raise UncheckedError("an unusual JPEG, of which damage is not noticed")
        return describe(warning)
    note = f"{stray[1]} stray bytes before its end" if stray else warning.removeprefix("Warning: ")
    try:
        return Jpeg(decode(strict=False), (note,))
    except ValueError:
        raise UncheckedError(note) from None


def remove_stray_bytes(content: bytes) -> bytes:
    """Returns a JPEG without what stands between the segments before its picture data."""
    parts, at = [content[:2]], 2
    while (start := content.find(b"\xff", at)) >= 0:
        while content[start + 1 : start + 2] == b"\xff":  # any number may come before a marker
            start += 1
        marker = content[start + 1 : start + 2]
        if marker == bytes([SCAN]):
            return b"".join([*parts, content[start:]])
        length = int.from_bytes(content[start + 2 : start + 4], "big")
        if not marker or marker == b"\0" or marker[0] in STANDALONE or length < 2:
            at = start + 1
            continue
        at = start + 2 + length
        parts.append(content[start:at])
    return content


def check_png(content: bytes, only_needed: bool) -> tuple[bytes, tuple[str, ...]] | str:
    """Compares the checksums of a PNG's chunks: https://www.w3.org/TR/png-3/#5Chunk-layout.

    Args:
        content: The file's bytes.
        only_needed: Whether to leave out the chunks that the picture does not need. Damaged ones
            are left out always.

    Returns:
        The file, with a note if a chunk is damaged that the picture does not need; or the reason
        why it has no picture.
    """
    parts: list[bytes | memoryview] = [content[:PNG_START]]
    notes: tuple[str, ...] = ()
    at, kind = PNG_START, b""
    view = memoryview(content)
    while kind != b"IEND":
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        if end > len(content):
            return "cut off"
        kind = content[at + 4 : at + 8]
        sound = zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(content[end - 4 : end], "big")
        if not sound:
            # The first letter of a name is small where a reader may pass over the chunk.
            if kind in CHUNKS or not kind.isalpha() or kind[:1].isupper():
                return f"damaged: wrong checksum in its part {kind.decode(errors='replace')!r}"
            notes = ("a damaged part beside the picture",)
        elif kind in CHUNKS or kind == b"eXIf" or not only_needed:
            parts.append(view[at:end])
        at = end
    return b"".join(parts) if notes or only_needed else content, notes


def is_cut_off(content: bytes, kind: str) -> bool:
    """Tells whether a file ends before the end that its own lengths announce, where it has them."""
    if kind == "PNG":
        return len(content) < PNG_HEADER_END
    if kind == "WebP":
        return int.from_bytes(content[4:8], "little") > len(content) - 8
    if kind == "TIFF" and content[2:4] in (b"*\0", b"\0*"):
        order: Literal["little", "big"] = "little" if content[:1] == b"I" else "big"
        return int.from_bytes(content[4:8], order) >= len(content)
    if kind in ("AVIF", "JPEG 2000") and content[:2] == b"\0\0":
        at = 0
        while 0 <= at < len(content):  # boxes: ISO/IEC 14496-12
            length = int.from_bytes(content[at : at + 4], "big")
            if length == 1:
                length = int.from_bytes(content[at + 8 : at + 16], "big")
            if length < 8:  # 0: up to the end
                return False
            at += length
        return at > len(content)
    return False


def describe(message: str) -> str:
    """Turns a decoder's message into a reason for people."""
    text = " ".join(message.split())
    if re.search(r"memory|alloc", text, re.IGNORECASE):
        return TOO_MUCH_MEMORY
    if re.search(
        r"premature end of JPEG|truncated|unexpected end|end of file", text, re.IGNORECASE
    ):
        return "cut off"
    for words in ("Corrupt JPEG data: ", " when reading image file", "tjDecompressHeader3(): "):
        text = text.replace(words, "")
    if not text or "cannot identify" in text:
        text = "its header makes no sense"
    return f"damaged: {text}"
