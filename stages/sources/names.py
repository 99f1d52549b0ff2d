"""What the name of a file tells: its kind, who made it, and whether it is safe to follow."""

import re
from pathlib import PurePosixPath

# Photographs, also of kinds that OpenCV does not read: those count as broken, with the reason.
PHOTO_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".avif", ".jp2", ".ppm", ".pgm", ".pnm", ".heic", ".heif", ".jxl", ".psd"),
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"),
)
# Archives, also of kinds that are refused by name.
ARCHIVE_SUFFIXES = (
    *(".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"),
    *(".7z", ".rar", ".tar.zst"),
)
# The longest first, so that none hides another that ends alike.
ARCHIVE_ENDING = re.compile(
    f"({'|'.join(map(re.escape, sorted(ARCHIVE_SUFFIXES, key=len, reverse=True)))})$",
    re.IGNORECASE,
)
# Folders that systems and network drives make: macOS, Windows, Synology, QNAP, Linux.
SYSTEM_FOLDERS = (
    *("__macosx", "$recycle.bin", "recycler", "system volume information", "lost+found"),
    *("@eadir", "#recycle", "@recycle", "@recently-snapshot"),
)


def is_hidden(path: str) -> bool:
    """Tells whether a file or a folder above it is hidden, or made by the system."""
    return any(
        part.startswith((".", "~$")) or part.lower() in SYSTEM_FOLDERS
        for part in PurePosixPath(path).parts
    )


def is_photograph(path: str) -> bool:
    """Tells whether a name ends as a photograph's does."""
    return PurePosixPath(path).suffix.lower() in PHOTO_SUFFIXES


def is_archive(path: str) -> bool:
    """Tells whether a name ends as an archive's does."""
    return path.lower().endswith(ARCHIVE_SUFFIXES)


def without_archive_suffix(name: str) -> str:
    """Returns the name of an archive without its suffix: `train` for `train.tar.gz`."""
    return ARCHIVE_ENDING.sub("", name)


def tidy(name: str) -> tuple[str, str]:
    r"""Returns a path within an archive with `/` between its folders, and why to refuse it.

    Windows programs write `\`. The reason is empty for a path that stays within the archive.
    """
    path = name.replace("\\", "/")
    if path.startswith("/") or re.match("[A-Za-z]:/", path):
        return path, "its name is absolute"
    if ".." in path.split("/"):
        return path, "its name leads out of the archive"
    if "\0" in path:
        return path.replace("\0", "?"), "its name has a zero byte"
    return "/".join(part for part in path.split("/") if part not in ("", ".")), ""
