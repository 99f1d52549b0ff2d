"""Pictures of every kind: right or refused with a reason, in silence and in little memory."""

import io
import json
import os
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest

from stages.lib.command import UserError
from stages.sources import decoding
from stages.sources.decoding import Decoded, decode_ahead, decode_image
from stages.sources.kinds import READ, looks_like
from stages.sources.quiet import quiet_decoders
from stages.sources.resizing import resize

TOP = Path(__file__).parent.parent
KINDS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WebP": {"lossless": True, "exact": True},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "GIF": {},
    "AVIF": {"quality": 95},
    "JPEG 2000": {},
    "PNM": {},
}
FORMATS = {"JPEG 2000": "JPEG2000", "PNM": "PPM"}  # Pillow's names


def scene(height: int = 60, width: int = 80, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A smooth picture of many colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, channels), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


@cache
def large(kind: str) -> bytes:
    return saved(scene(300, 400), kind)


def saved(image: np.ndarray, kind: str, mode: str | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    picture = PIL.Image.fromarray(image) if mode is None else PIL.Image.fromarray(image, mode)
    picture.save(file, FORMATS.get(kind, kind), **(KINDS[kind] | options))
    return file.getvalue()


def opened(content: bytes) -> Decoded:
    found = decode_image(content)
    assert not isinstance(found, str), found
    return found


def on_white(image: np.ndarray, opacity: np.ndarray, opaque: int = 255) -> np.ndarray:
    share = opacity[..., np.newaxis].astype(np.float32) / opaque
    return np.rint(255 - share * (255 - image.astype(np.float32))).astype(np.uint8)


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image upright, by the definition of the EXIF tag."""
    flipped = image[:, ::-1] if orientation in (2, 4, 5, 7) else image
    return np.rot90(flipped, {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}.get(orientation, 0))


# Kinds


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_read_by_its_content(kind: str) -> None:
    image = scene()
    content = saved(image, kind)
    assert looks_like(content[:1000]) == kind
    found = opened(content)
    assert found.notes == ()
    assert found.image.dtype == np.uint8
    assert found.image.flags.c_contiguous
    tolerance = {"JPEG": 3, "AVIF": 3, "GIF": 15}.get(kind, 0)
    assert np.abs(found.image.astype(int) - image).mean() <= tolerance


@pytest.mark.parametrize("suffix", [".sr", ".jp2", ".pgm", ".pbm", ".tiff", ".webp", ".avif"])
def test_what_opencv_writes_is_read_as_opencv_reads_it(suffix: str) -> None:
    image = scene()[..., 0] if suffix in (".pgm", ".pbm") else scene()
    encoded = cv2.imencode(suffix, image)[1]
    expected = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(opened(encoded.tobytes()).image, expected)


def ftyp(*brands: bytes) -> bytes:
    return (
        struct.pack(">I", 16 + 4 * len(brands[1:]))
        + b"ftyp"
        + brands[0]
        + bytes(4)
        + b"".join(brands[1:])
    )


def tiff_tags(*tags: tuple[int, int]) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (ftyp(b"heic", b"mif1", b"heic"), "HEIC"),
        (ftyp(b"mif1", b"heic"), "HEIC"),
        (ftyp(b"crx ", b"crx ", b"isom"), "camera raw (CR3)"),
        (ftyp(b"isom", b"mp42"), "video"),
        (ftyp(b"qt  "), "video"),
        (b"RIFF\x10\0\0\0AVI LIST", "video"),
        (b"8BPS\0\1" + bytes(20), "PSD"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<?xml version='1.0'?>\n<svg xmlns=''/>", "SVG"),
        (b"\xef\xbb\xbf<svg/>", "SVG"),
        (b"\xff\x0a\x10", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"II*\0\x10\0\0\0CR\2\0", "camera raw (CR2)"),
        (tiff_tags((254, 1), (330, 200)), "camera raw (NEF, ARW)"),
        (tiff_tags((256, 9), (50706, 1)), "camera raw (DNG)"),
        (b"FUJIFILMCCD-RAW 0201", "camera raw (RAF)"),
        (b"#?RADIANCE\n", "HDR"),
        (bytes(128) + b"DICM", "DICOM"),
    ],
)
def test_a_picture_of_a_kind_that_is_not_read_is_named(content: bytes, kind: str) -> None:
    assert looks_like(content) == kind
    assert kind not in READ
    assert decode_image(content) == f"{kind}, which is not read here"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "damaged in its archive"),
        (b"", "empty"),
        (b"<html>404</html>", "not an image"),
        (b"BM is the start of a text", "not an image"),
        (b"P5: the fifth point", "not an image"),
        (bytes(5000), "not an image"),
        (b"\xff\xd8\xff", "damaged: its header makes no sense"),
    ],
)
def test_what_is_no_image_says_so(content: bytes | None, reason: str) -> None:
    assert decode_image(content) == reason


# Reduced while it is decoded


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_reduced_to_the_smallest_share_that_is_enough(orientation: int) -> None:
    image = scene(301, 403)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    content = saved(image, "JPEG", exif=exif)
    whole = opened(content)
    for enough, by in ((302, 1), (152, 1), (151, 2), (77, 2), (76, 4), (39, 4), (38, 8), (1, 8)):
        found = decode_image(content, enough=enough)
        assert isinstance(found, Decoded)
        height, width = whole.image.shape[:2]
        assert found.image.shape == (-(-height // by), -(-width // by), 3)
        assert (found.width, found.height) == (width, height)
        alike = cv2.resize(whole.image, found.image.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(found.image.astype(int) - alike).mean() < 5  # it rounds up


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "JPEG"])
def test_no_other_kind_is_reduced(kind: str) -> None:
    found = decode_image(large(kind), enough=10)
    assert isinstance(found, Decoded)
    assert found.image.shape == (300, 400, 3)
    assert (found.width, found.height) == (400, 300)


def test_a_damaged_jpeg_is_found_when_it_is_reduced_too() -> None:
    content = large("JPEG")
    assert decode_image(content[:-2], enough=10) == "cut off"
    end = 4 + int.from_bytes(content[4:6], "big")
    stray = content[:end] + b"stray" + content[end:]
    found = decode_image(stray, enough=100)
    assert isinstance(found, Decoded)
    assert found.notes == opened(stray).notes != ()
    assert found.image.shape == (150, 200, 3)


# Size, before the pixels


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colours: int, rows: bytes, *more: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        *more,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_an_image_with_too_many_pixels_is_not_decoded() -> None:
    content = png(30000, 30000, 8, 2, b"nothing that decodes")
    reason = "30000x30000 pixels, more than max_pixels (100,000,000) allows"
    assert decode_image(content, 100_000_000) == reason
    for kind in KINDS:
        content = saved(scene(20, 30), kind)
        assert decode_image(content, 599) == "30x20 pixels, more than max_pixels (599) allows", kind


def test_max_pixels_bounds_what_a_kind_needs_to_decode() -> None:
    content = bytearray(saved(scene(), "WebP"))
    # The 14 bits of width and height, less one: 10,000 x 9,000.
    content[21:25] = struct.pack("<I", 9999 | 8999 << 14)
    found = decode_image(bytes(content), 100_000_000)
    assert found == (
        "10000x9000 pixels take up to 1.6 GB to decode, more than max_pixels (100,000,000) allows "
        "(12 bytes for each)"
    )


# Turned and transparent


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF", "AVIF"])
def test_a_picture_is_put_on_white_and_then_turned(kind: str, orientation: int) -> None:
    image, opacity = scene(), scene(channels=1, seed=1)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"exif": exif}
    if kind == "TIFF":
        options = {"tiffinfo": {0x0112: orientation}}
    if kind in ("JPEG", "AVIF"):  # lossy: without transparency, and the same losses in each
        expected = opened(saved(image, kind)).image
    else:
        expected = on_white(image, opacity)
        image = np.dstack([image, opacity])
    found = opened(saved(image, kind, **options)).image
    np.testing.assert_array_equal(found, turned(expected, orientation))


def test_a_tag_behind_the_picture_turns_it_too() -> None:
    tags = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    image = scene()
    content = saved(image, "PNG")
    late = content[:-12] + chunk(b"eXIf", tags) + content[-12:]
    np.testing.assert_array_equal(opened(late).image, turned(image, 6))


def test_every_way_to_be_transparent_shows_white() -> None:
    grey = saved(np.dstack([scene(channels=1), scene(channels=1, seed=1)]), "PNG", "LA")
    expected = on_white(np.dstack([scene(channels=1)] * 3), scene(channels=1, seed=1))
    np.testing.assert_array_equal(opened(grey).image, expected)
    row = b"\0\0\1\2"
    colours = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60, 70, 80, 90]))
    palette = png(3, 1, 8, 3, row, colours, chunk(b"tRNS", bytes([255, 0, 51])))
    assert opened(palette).image[0].tolist() == [[10, 20, 30], [255] * 3, [218, 220, 222]]
    for depth, two, level in ((1, b"\x40", 255), (2, b"\x60", 170), (4, b"\x12", 34)):
        few = png(2, 1, depth, 0, b"\0" + two, chunk(b"tRNS", b"\0\1" if depth > 1 else b"\0\0"))
        assert opened(few).image[0].tolist() == [[255] * 3, [level] * 3]
    key = png(2, 1, 8, 2, b"\0" + bytes([1, 2, 3, 4, 5, 6]), chunk(b"tRNS", b"\0\1\0\2\0\3"))
    assert opened(key).image[0].tolist() == [[255] * 3, [4, 5, 6]]
    deep = png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 9, 51200), chunk(b"tRNS", b"\0\x09"))
    assert opened(deep).image[0].tolist() == [[255] * 3, [200] * 3]
    deep = png(
        2,
        1,
        16,
        2,
        b"\0" + struct.pack(">6H", 1, 2, 3, 0, 512, 51200),
        chunk(b"tRNS", b"\0\1\0\2\0\3"),
    )
    assert opened(deep).image[0].tolist() == [[255] * 3, [0, 2, 200]]
    deep = png(2, 1, 16, 4, b"\0" + struct.pack(">4H", 25600, 65535, 25600, 0))
    assert opened(deep).image[0].tolist() == [[100] * 3, [255] * 3]


def test_a_bmp_whose_fourth_bytes_are_all_empty_is_not_transparent() -> None:
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHII16x", 124, 2, 1, 1, 32, 3, 8) + masks + bytes(68)

    def bmp(*opacity: int) -> bytes:
        pixels = bytes([10, 20, 30, opacity[0], 40, 50, 60, opacity[1]])
        return struct.pack("<2sIII", b"BM", 146, 0, 138) + header + pixels

    assert opened(bmp(0, 0)).image[0].tolist() == [[30, 20, 10], [60, 50, 40]]
    assert opened(bmp(0, 255)).image[0].tolist() == [[255] * 3, [60, 50, 40]]


# Depth


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_values_of_sixteen_bits_are_scaled_by_the_bits_they_use(
    suffix: str, channels: int, bits: int
) -> None:
    values = scene().astype(np.uint16) << 8 | scene(seed=2)
    values[0, 0] = 65535
    colours = (values >> 8).astype(np.uint8)
    if channels == 1:
        values, colours = values[..., :1], np.dstack([colours[..., 0]] * 3)
    stored = values[..., ::-1]
    if channels == 4:
        opacity = scene(channels=1, seed=1).astype(np.uint16) * 257
        stored = np.dstack([stored, opacity])
        colours = on_white(colours, opacity >> (16 - bits), (1 << bits) - 1)
    content = cv2.imencode(suffix, stored >> (16 - bits))[1].tobytes()
    found = opened(content)
    np.testing.assert_array_equal(found.image, colours)
    most = {8: "255", 12: "4,095"}
    expected = (f"16-bit values up to {most[bits]}: read as {bits} bits",) if bits < 16 else ()
    assert found.notes == expected


def tiff(values: np.ndarray, meaning: int, *extra: int, planes: bool = False) -> bytes:
    """A TIFF: `meaning` is its PhotometricInterpretation, `extra` its ExtraSamples."""
    height, width, channels = values.shape
    parts = [values[..., at].tobytes() for at in range(channels)] if planes else [values.tobytes()]
    starts = [8 + at * len(parts[0]) for at in range(len(parts))]
    longs = {256: [width], 257: [height], 273: starts, 278: [height], 279: [*map(len, parts)]}
    bits = 8 * values.itemsize
    shorts = {258: [bits] * channels, 259: [1], 262: [meaning], 277: [channels], 284: [1 + planes]}
    tags = longs | shorts | ({338: [*extra]} if extra else {})
    place = 8 + values.nbytes
    entries, beyond = b"", b""
    for tag in sorted(tags):
        packed = struct.pack(f"<{len(tags[tag])}{'I' if tag in longs else 'H'}", *tags[tag])
        if len(packed) > 4:
            at = place + 6 + 12 * len(tags) + len(beyond)
            packed, beyond = struct.pack("<I", at), beyond + packed
        kind = 4 if tag in longs else 3
        entries += struct.pack("<HHI4s", tag, kind, len(tags[tag]), packed)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4) + beyond
    return b"II*\0" + struct.pack("<I", place) + b"".join(parts) + directory


@pytest.mark.parametrize("bits", [12, 16])
def test_white_is_zero_where_a_tiff_of_sixteen_bits_says_so(bits: int) -> None:
    values = scene(channels=1).astype(np.uint16)[..., np.newaxis] << 8
    values[0, 0] = 65535
    white_is_zero, black_is_zero = (opened(tiff(values >> (16 - bits), say)) for say in (0, 1))
    np.testing.assert_array_equal(black_is_zero.image, np.dstack([values >> 8] * 3))
    np.testing.assert_array_equal(white_is_zero.image, 255 - black_is_zero.image)


def test_a_fourth_channel_of_sixteen_bits_is_what_a_tiff_says_it_is() -> None:
    colours, fourth = scene().astype(np.uint16) << 8, scene(channels=1, seed=1).astype(np.uint16)
    fourth = fourth[..., np.newaxis] * 257
    seen = opened(tiff(np.dstack([colours, fourth]), 2, 0)).image  # infrared, for example
    np.testing.assert_array_equal(seen, colours >> 8)
    expected = on_white(colours >> 8, fourth[..., 0] >> 8)
    seen = opened(tiff(np.dstack([colours, fourth]), 2, 2)).image
    np.testing.assert_array_equal(seen, expected)
    multiplied = np.rint(colours * (fourth / 65535)).astype(np.uint16)
    seen = opened(tiff(np.dstack([multiplied, fourth]), 2, 1)).image
    assert np.abs(seen.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(("channels", "meaning"), [(3, 2), (4, 2), (4, 5)])
def test_channels_of_sixteen_bits_in_planes_of_their_own_are_refused(
    channels: int, meaning: int
) -> None:
    content = tiff(scene(channels=channels).astype(np.uint16) << 8, meaning, planes=True)
    reason = "16-bit channels in planes of their own, which are not read here"
    assert decode_image(content) == reason


@pytest.mark.parametrize(("height", "width"), [(30, 400), (400, 30), (100, 400)])
def test_area_takes_the_mean_of_what_shrinks_though_the_other_side_grows(
    height: int, width: int
) -> None:
    stripes = np.zeros((max(height, width), min(height, width), 3), np.uint8)
    stripes[::2] = 255
    stripes = stripes if height > width else stripes.swapaxes(0, 1)
    resized = resize(np.ascontiguousarray(stripes), 50, 50, "area")
    np.testing.assert_array_equal(resized, np.full((50, 50, 3), 128))


@pytest.mark.parametrize("meaning", [0, 1])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_tiff_may_say_that_its_one_channel_is_in_a_plane_of_its_own(
    dtype: type, meaning: int
) -> None:
    values: np.ndarray = scene(channels=1)[..., np.newaxis].astype(dtype)
    grey = 255 - values if meaning == 0 else values
    seen = opened(tiff(values, meaning, planes=True)).image
    np.testing.assert_array_equal(seen, np.dstack([grey] * 3).astype(np.uint8))


@pytest.mark.parametrize("value", [-1, 65536])
def test_values_that_sixteen_bits_do_not_hold_are_refused(value: int) -> None:
    image = scene(channels=1).astype(np.int32)
    image[-1, -1] = value
    assert decode_image(saved(image, "TIFF")) == "values below 0 or of more than 16 bits"


def test_values_that_are_no_whole_numbers_are_refused() -> None:
    content = cv2.imencode(".tiff", scene().astype(np.float32)[..., 0] / 255)[1].tobytes()
    assert decode_image(content) == "values that are no whole numbers"


# Damaged or only odd


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    return saved(scene(300, 400), "JPEG")


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"restart_marker_rows": 1}],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_sound_jpeg_is_what_opencv_makes_of_it(options: dict[str, Any], mode: str) -> None:
    image = scene(75, 101, {"RGB": 3, "L": 1, "CMYK": 4}[mode])
    content = saved(image, "JPEG", mode, **options)
    found = opened(content)
    if mode == "CMYK" and options.get("subsampling") == 1:
        assert found.notes == ("an unusual JPEG, of which damage is not noticed",)
    else:
        assert found.notes == ()
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(found.image, expected)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_off_is_refused(kind: str, share: float) -> None:
    content = large(kind)
    found = decode_image(content[: max(int(len(content) * share), 20)])
    assert found == "cut off" or (isinstance(found, str) and found.startswith("damaged: ")), found
    if kind not in ("GIF", "PNM") and share > 0.4:
        assert found == "cut off"


def test_a_jpeg_without_its_last_bytes_is_cut_off(jpeg: bytes) -> None:
    assert decode_image(jpeg[:-2]) == "cut off"


def test_a_jpeg_that_a_decoder_would_repair_is_damaged(jpeg: bytes) -> None:
    damaged = jpeg[:3000] + b"\xff\xd9" + jpeg[3000:]
    assert decode_image(damaged) == "damaged: premature end of data segment"
    repaired = cv2.imdecode(np.frombuffer(damaged, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert repaired is not None


@pytest.mark.parametrize(
    ("part", "note"),
    [
        ("behind the end", None),
        ("before the end", "stray bytes before its end"),
        ("in the header", "stray bytes between two segments"),
        ("revision", "unknown JFIF revision"),
        ("scan", "Invalid SOS parameters"),
    ],
)
def test_what_is_odd_but_harmless_condemns_no_photograph(
    jpeg: bytes, part: str, note: str | None
) -> None:
    scan = jpeg.index(b"\xff\xda")
    content = {
        "behind the end": jpeg + b"junk" * 99,
        "before the end": jpeg[:-2] + b"junk" * 99 + jpeg[-2:],
        "in the header": jpeg[:20] + b"junk" * 9 + jpeg[20:],
        "revision": jpeg.replace(b"JFIF\0\1", b"JFIF\0\7"),
        "scan": jpeg[: scan + 12] + b"\0" + jpeg[scan + 13 :],
    }[part]
    assert content != jpeg
    found = opened(content)
    np.testing.assert_array_equal(found.image, opened(jpeg).image)
    assert len(found.notes) == (note is not None)
    assert note is None or note in found.notes[0]


def test_damage_behind_a_harmless_oddity_is_found(jpeg: bytes) -> None:
    odd = jpeg[:20] + b"junk" * 9 + jpeg[20:]
    assert decode_image(odd[:-500]) == "cut off"


def test_a_jpeg_of_rare_sampling_is_read_with_a_note() -> None:
    content = bytearray(saved(scene(), "JPEG", subsampling=0))
    frame = content.index(b"\xff\xc0")
    content[frame + 11] = 0x31
    content[frame + 14] = content[frame + 17] = 0x11
    found = decode_image(bytes(content))
    assert found == "cut off" or (not isinstance(found, str) and "unusual" in found.notes[0])


def test_a_jpeg_of_countless_scans_is_refused(jpeg: bytes) -> None:
    scan = jpeg.index(b"\xff\xda")
    assert decode_image(jpeg[:-2] + jpeg[scan : scan + 14] * 600 + jpeg[-2:]) == (
        "damaged: more than 500 scans"
    )


def test_a_png_is_held_to_its_checksums() -> None:
    content = saved(scene(), "PNG")
    place = content.index(b"IDAT") + 40
    damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    assert decode_image(damaged) == "damaged: wrong checksum in its part 'IDAT'"
    beside = bytearray(chunk(b"tEXt", b"Comment\0a cat"))
    beside[-1] ^= 1
    found = opened(content[:33] + bytes(beside) + content[33:])
    np.testing.assert_array_equal(found.image, scene())
    assert found.notes == ("a damaged part beside the picture",)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A file with bits flipped, cut off, or with a part zeroed, inserted or exchanged."""
    changed, size = bytearray(content), len(content)
    way, at, length = rng.integers(5), int(rng.integers(size)), int(rng.integers(1, 2000))
    if way == 0:
        for place in rng.integers(0, size, rng.integers(1, 20)):
            changed[place] ^= 1 << int(rng.integers(8))
    elif way == 1:
        del changed[at:]
    elif way == 2:
        changed[at : at + length] = bytes(len(changed[at : at + length]))
    elif way == 3:
        changed[at:at] = rng.bytes(length)
    else:
        first, second = sorted((at, int(rng.integers(size))))
        length = min(length, second - first, size - second)
        for place, other in ((first, second), (second, first)):
            changed[place : place + length] = content[other : other + length]
    return bytes(changed)


def pillow_reads(content: bytes) -> bool:
    try:
        PIL.Image.open(io.BytesIO(content)).load()
    except Exception:
        return False
    return True


def check_mutated(kind: str, count: int, **options: Any) -> None:
    rng = np.random.default_rng(0)
    sources = [saved(scene(120, 160, seed=seed), kind, **options) for seed in range(5)]
    refused = 0
    with quiet_decoders():
        for number in range(count):
            content = mutated(sources[number % 5], rng)
            start = time.perf_counter()
            found = decode_image(content)
            assert time.perf_counter() - start < 1, number
            if isinstance(found, str):
                refused += 1
                assert len(found) < 120
                assert found.isprintable(), found
            elif not found.notes:
                assert pillow_reads(content), (kind, number)
    assert refused > count / 10


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 2}])
def test_no_mutated_jpeg_is_kept_in_silence_that_pillow_refuses(options: dict[str, Any]) -> None:
    check_mutated("JPEG", 150, **options)


@pytest.mark.long
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_none_of_2000_mutated_jpegs_is_kept_in_silence_that_pillow_refuses(
    options: dict[str, Any],
) -> None:
    check_mutated("JPEG", 2000, **options)


@pytest.mark.parametrize("kind", ["PNG", "WebP", "TIFF", "GIF", "AVIF", "JPEG 2000"])
def test_no_mutated_file_is_kept_in_silence_that_pillow_refuses(kind: str) -> None:
    check_mutated(kind, 60)


def run_python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=TOP,
        # Each large array is mapped by itself, so that a limit on memory shows.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


SILENT = """
import sys
from pathlib import Path
from stages.sources.decoding import decode_ahead, decode_image

files = sorted(Path(sys.argv[1]).iterdir())
contents = ((file.name, file.read_bytes()) for file in files)
found = [type(image).__name__ for _, image in decode_ahead(contents, decode_image, 2)]
print(len(found), found.count("str"))
"""


def test_no_decoder_writes_to_the_terminal(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sources = {kind: saved(scene(100, 100), kind) for kind in KINDS}
    sources["deflate"] = saved(scene(100, 100), "TIFF", compression="tiff_deflate")
    sources["in a TIFF"] = saved(scene(100, 100), "TIFF", compression="jpeg")
    sources["deep"] = cv2.imencode(".png", scene().astype(np.uint16) << 8)[1].tobytes()
    for name, content in sources.items():
        (tmp_path / name).write_bytes(content)
        for number in range(20):
            (tmp_path / f"{name}{number}").write_bytes(mutated(content, rng))
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(b"no profile"))
    png_files = {
        "profile": png(2, 1, 16, 2, b"\0" + bytes(12), profile),
        "short": png(2, 2, 8, 2, b"\0" + bytes(6)),
        "short16": png(2, 2, 16, 2, b"\0" + bytes(12)),
    }
    for name, content in png_files.items():
        (tmp_path / name).write_bytes(content)
    done = run_python(SILENT, str(tmp_path))
    count, refused = map(int, done.stdout.split())
    assert count == len(sources) * 21 + 3
    assert refused > len(sources) * 5
    assert done.stderr == ""


# Many at once, in little memory


def test_results_come_in_the_order_given_whatever_the_number_of_workers() -> None:
    contents = [(number, saved(scene(seed=number), "PNG")) for number in range(80)]

    def slowly(content: bytes) -> np.ndarray:
        image = opened(content).image
        time.sleep(int(image[0, 0, 0]) / 30_000)
        return image

    for workers in (1, 3, 8):
        found = list(decode_ahead(contents, slowly, workers))
        assert [name for name, _ in found] == list(range(80))
        for number, image in found:
            np.testing.assert_array_equal(image, scene(seed=number))


@pytest.mark.parametrize("bound", [0, 50_000, 150_000])
def test_what_is_decoded_at_once_is_bounded_by_bytes(
    bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "READ_AHEAD_BYTES", bound)
    monkeypatch.setattr(decoding, "ROOM", bound // 3)
    content = saved(scene(), "BMP")
    each = decoding.estimate_memory(content)
    assert 60 * 80 * 9 <= each < 60 * 80 * 13
    lock, at_once, most, read, given = threading.Lock(), 0, 0, 0, 0

    def contents() -> Iterator[tuple[str, bytes]]:
        nonlocal read
        for number in range(20):
            read += 1
            # What waits beside this one leaves room for it.
            assert (read - 1 - given) * each <= max(bound - bound // 3, 0)
            yield str(number), content

    def decode(content: bytes) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.003)
        with lock:
            at_once -= 1
        return len(content)

    for _ in decode_ahead(contents(), decode, 8):
        given += 1
    assert given == 20
    assert most <= max(bound // each, 1)


def test_what_is_left_of_a_reading_that_ends_early_is_not_decoded() -> None:
    done: list[int] = []

    def decode(content: bytes) -> None:
        time.sleep(0.02)
        done.append(len(content))

    images = decode_ahead(((number, b"x") for number in range(60)), decode, 1)
    next(images)
    images.close()  # type: ignore[attr-defined]
    assert len(done) < 10


SHORT = """
import json, resource, sys
from stages.sources.decoding import decode_image, quiet_decoders, to_square

content = open(sys.argv[1], "rb").read()
outcomes = []
with quiet_decoders():
    # In one thread: in others, glibc has 64 MB aside that no limit reaches.
    for room in map(int, sys.argv[2:]):
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
        try:
            found = decode_image(content)
            if not isinstance(found, str):
                found = to_square(found, 9, "area").image.tolist()
            outcomes.append(found)
        except Exception as error:
            outcomes.append({"error": f"{type(error).__name__} {getattr(error, 'code', '')}"})
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps(outcomes))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize(
    "kind",
    [
        *("JPEG", "PNG", "TIFF"),
        *(
            pytest.param(kind, marks=pytest.mark.long)
            for kind in ("progressive", "deep", "WebP", "BMP", "AVIF", "JPEG 2000")
        ),
    ],
)
def test_short_memory_is_never_a_reason_to_leave_an_image_out(kind: str, tmp_path: Path) -> None:
    image = scene(800, 1000)
    if kind == "deep":
        content = cv2.imencode(".png", image.astype(np.uint16) << 8)[1].tobytes()
    elif kind == "progressive":
        content = saved(image, "JPEG", progressive=True)
    else:
        content = saved(image, kind)
    (tmp_path / "file").write_bytes(content)
    rooms = [10**9, *(million * 1_000_000 for million in (25, 16, 12, 8, 6, 4, 3, 2, 1))]
    done = run_python(SHORT, str(tmp_path / "file"), *map(str, rooms))
    assert done.returncode == 0, done.stderr
    full, *outcomes = json.loads(done.stdout)
    assert isinstance(full, list)
    assert [outcome for outcome in outcomes if isinstance(outcome, str)] == []
    assert all(outcome == full for outcome in outcomes if isinstance(outcome, list))
    errors = [outcome["error"] for outcome in outcomes if isinstance(outcome, dict)]
    assert errors
    assert set(errors) <= {"MemoryError ", f"error {cv2.Error.StsNoMem}"}


def test_short_memory_ends_the_stage_with_the_name_of_the_image() -> None:
    def decode(_: bytes) -> np.ndarray:
        return np.empty(10**15, np.uint8)

    with pytest.raises(UserError, match=r"^cat\.jpg: too little memory to decode it"):
        list(decode_ahead([("cat.jpg", saved(scene(), "PNG"))], decode, 1))


PEAK = """
import sys
from pathlib import Path
from pydantic import TypeAdapter
from stages.prepare import FILES, prepare
from stages.sources.formats import Format

values = {"format": "photos", "max_broken": 0.5, "duplicates": "keep"}
options = TypeAdapter(Format).validate_python(values).root
raw = Path(sys.argv[1])
prepare(raw, options, {name: raw.parent / name for name in FILES})
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024)
"""


def check_peak(raw: Path, contents: dict[str, bytes], images: int) -> None:
    raw.mkdir()
    (raw / "origin.txt").write_text("sample\n")
    with zipfile.ZipFile(raw / "train.zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    done = run_python(PEAK, str(raw))
    assert done.returncode == 0, done.stderr
    assert len(np.load(raw.parent / "images.npy", mmap_mode="r")) == images
    assert int(done.stdout.split()[-1]) < 1_500_000_000


def black(width: int, height: int, depth: int = 8, colours: int = 2) -> bytes:
    """A black PNG, made without holding it in memory."""
    packer = zlib.compressobj(1)
    row = bytes(1 + width * depth // 8 * {0: 1, 2: 3, 6: 4}[colours])
    parts = [packer.compress(row) for _ in range(height)]
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    data = b"".join([*parts, packer.flush()])
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_peak_memory_of_the_stage_is_bounded(tmp_path: Path) -> None:
    large = black(8000, 6000)
    contents = {f"{'cat' if n % 2 else 'dog'}.{n}.png": large for n in range(12)}
    contents |= {"cat.90.png": black(30000, 30000), "dog.90.png": black(10000, 10000)}
    contents |= {"cat.91.png": black(7700, 7700, 16, 6), "dog.91.png": black(9000, 9000, 16, 6)}
    check_peak(tmp_path / "raw", contents, 14)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_picture_of_900_million_pixels_takes_no_memory(tmp_path: Path) -> None:
    contents = {f"{kind}.1.png": saved(scene(), "PNG") for kind in ("cat", "dog")}
    contents["cat.2.png"] = png(30000, 30000, 8, 2, b"never read")
    check_peak(tmp_path / "raw", contents, 2)
