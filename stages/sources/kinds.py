"""What kind of picture a file holds, told by its first bytes: a suffix is often wrong."""

import struct

# The kinds that are decoded: cv2.imread's, but for those of floating-point values.
READ = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF", "AVIF", "JPEG 2000", "PNM", "Sun raster")

# Kinds that lie beside photographs without being meant as such.
DOCUMENTS = ("PDF", "PostScript")
START = 1000  # bytes that tell the kind

# How a file starts, from https://www.garykessler.net/library/file_sigs.html and the formats' own
# descriptions. The longer of two beginnings stands first.
STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "PSD"),
    (b"gimp xcf", "XCF"),
    (b"%PDF-", "PDF"),
    (b"%!PS", "PostScript"),
    (b"#?RADIANCE", "HDR"),
    (b"#?RGBE", "HDR"),
    (b"PF\n", "PFM"),
    (b"Pf\n", "PFM"),
    (b"P7\n", "PAM"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"qoif", "QOI"),
    (b"BPG\xfb", "BPG"),
    (b"AT&TFORM", "DjVu"),
    (b"\0\0\1\0", "ICO"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (b"IIRO", "camera raw (ORF)"),
    (b"IIRS", "camera raw (ORF)"),
    (b"MMOR", "camera raw (ORF)"),
    (b"IIU\0", "camera raw (RW2)"),
    (b"FOVb", "camera raw (X3F)"),
    (b"\x1a\x45\xdf\xa3", "video"),
    (b"\0\0\1\xba", "video"),
    (b"FLV\1", "video"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video"),
)
# The four letters after RIFF and its length.
RIFF = {b"WEBP": "WebP", b"AVI ": "video"}
# The brand of an ISO media file, ISO/IEC 14496-12: https://mp4ra.org/registered-types/brands
HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
VIDEO = (
    *(b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"qt  "),
    *(b"MSNV", b"dash", b"3gp4", b"3gp5", b"3gp6"),
)
# The sizes of a BMP's second header: "BM" alone begins many a text.
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
TIFF = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "", b"MM\0+": ""}  # the last two are BigTIFF
NEW_SUBFILE_TYPE, SUB_IFDS, DNG_VERSION = 254, 330, 50706


def looks_like(start: bytes) -> str | None:
    """Names the kind of picture (or of video) that a file's first bytes announce.

    Args:
        start: The file's first bytes; 1,000 are enough, fewer make a camera's raw file a TIFF.

    Returns:
        One of `READ`, the name of a kind that is not decoded, or None if it is no picture.
    """
    if start[4:8] == b"ftyp":
        return _media_kind(start)
    if start[:4] == b"RIFF":
        return RIFF.get(start[8:12])
    if start[:4] in TIFF:
        return _tiff_kind(start, TIFF[start[:4]])
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in BMP_HEADERS:
        return "BMP"
    if start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace():
        return "PNM"
    if start[128:132] == b"DICM":
        return "DICOM"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!")) and b"<svg" in text):
        return "SVG"
    return next((kind for magic, kind in STARTS if start.startswith(magic)), None)


def is_picture(start: bytes | str) -> bool:
    """Tells whether a file begins as a photograph does, if also of a kind that is not decoded.

    Args:
        start: Its first `START` bytes; a text stands for a file that could not be read.
    """
    kind = looks_like(start) if isinstance(start, bytes) else None
    return kind is not None and kind not in DOCUMENTS


def _media_kind(start: bytes) -> str | None:
    length = min(int.from_bytes(start[:4], "big"), 256)
    brands = [start[8:12], *(start[at : at + 4] for at in range(16, length, 4))]
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    if brands[0] == b"crx ":
        return "camera raw (CR3)"
    if any(brand in HEIC for brand in brands):
        return "HEIC"
    return "video" if any(brand in VIDEO for brand in brands) else None


def _tiff_kind(start: bytes, order: str) -> str:
    """Tells a camera's raw file from a picture: most of these are TIFF files too."""
    if start[8:10] == b"CR":
        return "camera raw (CR2)"
    tags = {}
    try:
        (place,) = struct.unpack_from(f"{order}I", start, 4)
        (count,) = struct.unpack_from(f"{order}H", start, place)
        for at in range(place + 2, place + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHII", start, at)
            tags[tag] = value
    except struct.error:
        pass  # the directory stands at the end, as in most pictures
    if DNG_VERSION in tags:
        return "camera raw (DNG)"
    # Nikon's NEF and Sony's ARW start with a small preview, and have the picture elsewhere.
    if SUB_IFDS in tags and tags.get(NEW_SUBFILE_TYPE) in (1, 1 << 16):
        return "camera raw (NEF, ARW)"
    return "TIFF"
