"""What an image file says of its picture before the picture is decoded."""

import io
import struct
from typing import NamedTuple

import PIL.Image
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    SunImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

# Pillow's reader of each kind: no other is ever tried.
READERS = {
    "JPEG": JpegImagePlugin.JpegImageFile.format,
    "PNG": PngImagePlugin.PngImageFile.format,
    "WebP": WebPImagePlugin.WebPImageFile.format,
    "BMP": BmpImagePlugin.BmpImageFile.format,
    "TIFF": TiffImagePlugin.TiffImageFile.format,
    "GIF": GifImagePlugin.GifImageFile.format,
    "AVIF": AvifImagePlugin.AvifImageFile.format,
    "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile.format,
    "PNM": PpmImagePlugin.PpmImageFile.format,
    "Sun raster": SunImagePlugin.SunImageFile.format,
}
# The most memory that decoding takes, in bytes per pixel, beside the file: the picture in Pillow
# or libjpeg, the result, and what the decoder itself needs. Measured on pictures of 24 million
# pixels (`VmHWM` in /proc/self/status), and rounded up.
BYTES_PER_PIXEL = {"JPEG": 4, "WebP": 18, "AVIF": 16, "JPEG 2000": 30}
TURNED_JPEG, CMYK_JPEG, PROGRESSIVE_JPEG, DEEP, OTHERS = 7, 8, 10, 20, 9
PNG_GREY, PNG_SEVERAL_CHANNELS = 0, (2, 4, 6)  # https://www.w3.org/TR/png-3/#3colourType
# https://www.loc.gov/preservation/digital/formats/content/tiff_tags.shtml
PHOTOMETRIC, WHITE_IS_ZERO = TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0
BITS, PLANAR, IN_PLANES = TiffImagePlugin.BITSPERSAMPLE, TiffImagePlugin.PLANAR_CONFIGURATION, 2
SAMPLES = TiffImagePlugin.SAMPLESPERPIXEL
# `max_pixels` bounds the memory too: a kind that needs more may have fewer pixels.
MOST_BYTES_PER_PIXEL = 12

# `max_pixels` takes the place of Pillow's own bound, which warns at 89 million pixels.
PIL.Image.MAX_IMAGE_PIXELS = None


class Header(NamedTuple):
    """What a file says of its picture.

    Attributes:
        width: In pixels, before the picture is turned.
        height: In pixels, before the picture is turned.
        memory: The most that decoding takes, in bytes, the file included.
        orientation: The EXIF tag of a JPEG: 1 is upright, 2 to 8 are turned or mirrored.
        deep: Whether it has several channels of 16 bits, of which Pillow keeps 8, and OpenCV all.
            OpenCV does not know colours that were multiplied by their opacity.
        cmyk: Whether a JPEG has inks instead of colours.
        white_is_zero: Whether a TIFF's values of 16 bits grow darker, which Pillow passes over.
        opaque: Whether the fourth channel of a deep TIFF, if it has one, is no opacity.
        in_planes: Whether a TIFF has each channel of 16 bits in a plane of its own, of which
            Pillow and OpenCV make another picture.
    """

    width: int
    height: int
    memory: int
    orientation: int = 1
    deep: bool = False
    cmyk: bool = False
    white_is_zero: bool = False
    opaque: bool = False
    in_planes: bool = False


def open_image(content: bytes, kind: str) -> PIL.Image.Image:
    """Opens a picture without decoding it; raises whatever Pillow raises."""
    image: PIL.Image.Image = PIL.Image.open(io.BytesIO(content), formats=[str(READERS[kind])])
    if kind == "PNG" and "transparency" in image.info:
        depth, colours = content[24:26]
        if colours == PNG_GREY and depth in (2, 4):  # Pillow scales the pixels, and not this one
            image.info["transparency"] *= 255 // ((1 << depth) - 1)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        if tags.get(PLANAR) == IN_PLANES and tags.get(SAMPLES, 1) == 1:
            # Pillow takes the one channel for one of several, and passes over which value is white
            # and how many bits one has. It is in one plane anyway.
            tags[PLANAR] = 1
            image._setup()
    return image


def read_header(content: bytes, kind: str) -> Header:
    """Reads the size of a picture of one of `READERS`; raises whatever Pillow raises."""
    if kind == "WebP":  # Pillow takes memory for the whole picture when it opens one
        width, height = _read_webp_size(content)
        memory = width * height * BYTES_PER_PIXEL[kind] + len(content)
        return Header(width, height, memory)
    if kind == "PNG":  # Pillow refuses one with a damaged comment
        width, height, depth, colours = struct.unpack_from(">IIBB", content, 16)
        deep = depth == 16 and colours in PNG_SEVERAL_CHANNELS
        memory = width * height * (DEEP if deep else OTHERS) + len(content)
        return Header(width, height, memory, deep=deep)
    with open_image(content, kind) as image:
        width, height = image.size
        tiles = getattr(image, "tile", [])
        several = kind == "TIFF" and image.mode in ("RGB", "RGBA")
        rawmodes = [str(tile[3]) for tile in tiles]
        deep = several and any(";16" in raw and "RGBa" not in raw for raw in rawmodes)
        orientation = read_orientation(image)
        cmyk = kind == "JPEG" and image.mode == "CMYK"
        tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
        white_is_zero = image.mode.startswith("I") and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
        bits = tags.get(BITS, ())
        in_planes = len(bits) > 1 and 16 in bits and tags.get(PLANAR) == IN_PLANES
        per_pixel = BYTES_PER_PIXEL.get(kind, OTHERS)
        if deep:
            per_pixel = DEEP
        elif kind == "JPEG" and image.info.get("progressive"):
            per_pixel = PROGRESSIVE_JPEG
        elif cmyk:
            per_pixel = CMYK_JPEG
        elif kind == "JPEG" and orientation > 1:
            per_pixel = TURNED_JPEG
        memory = width * height * per_pixel + len(content)
        return Header(
            *(width, height, memory, orientation, deep, cmyk, white_is_zero),
            opaque=several and image.mode == "RGB",
            in_planes=in_planes,
        )


def read_orientation(image: PIL.Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 where the tag is missing or makes no sense."""
    exif = PIL.Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ExifTags.Base.Orientation)
    except Exception:  # Pillow raises many kinds, and a camera's odd tags do not harm a picture
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _read_webp_size(content: bytes) -> tuple[int, int]:
    """Returns width and height: https://developers.google.com/speed/webp/docs/riff_container."""

    def number(at: int, length: int) -> int:
        return int.from_bytes(content[at : at + length], "little")

    if content[12:16] == b"VP8X":
        return number(24, 3) + 1, number(27, 3) + 1
    if content[12:16] == b"VP8L":
        bits = number(21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF
