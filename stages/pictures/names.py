"""Names of classes as figures show them: in letters that a font has, as wide as there is room for.

A class is called what a folder or a table calls it, in any script and of any length. Matplotlib's
own font has Latin, Greek, Cyrillic, Hebrew and Arabic letters. The fonts of two packages have the
others; they are read only when a name needs them.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import files
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from stages.results.sentences import isolate

FONT = "DejaVu Sans"  # comes with Matplotlib, so it is on every machine
# Noto Sans in 20 scripts; then 16 MB for Chinese, Japanese and Korean.
FONT_PACKAGES = ("manimgx-fonts", "noto-cjk-sans-jp-regular")
BOX_OF_A_SPACE = "␣"
ELLIPSIS = "…"
# They shape or order the letters beside them, and need no picture of their own in a font.
JOINERS, ISOLATES = "\u200c\u200d", "\u2068\u2069"
UNSEEN = frozenset(map(ord, JOINERS + ISOLATES))


def _letters(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())


@cache
def _common_letters() -> frozenset[int]:
    return _letters(font_manager.findfont(FONT))


@cache
def _other_fonts() -> dict[str, frozenset[int]]:
    """Makes the packages' fonts known to Matplotlib; returns the letters of each by its family."""
    manager, found = font_manager.fontManager, {}
    for package in FONT_PACKAGES:
        for file in sorted(files(package) or (), key=str):
            path = Path(str(file.locate()))
            if path.suffix not in (".ttf", ".otf") or "Italic" in path.name:
                continue
            manager.addfont(path)
            # Of equal ones, Matplotlib takes the first: not the one that a machine happens to have.
            manager.ttflist.insert(0, manager.ttflist.pop())
            found[manager.ttflist[0].name] = _letters(str(path))
    return found


def families(text: str) -> list[str]:
    """Returns the families of the fonts that have the letters of `text`, `FONT` first."""
    chosen = [FONT]
    missing = {ord(letter) for letter in text if not letter.isascii()}
    missing -= _common_letters() | UNSEEN
    if missing:
        for family, letters in _other_fonts().items():
            if missing & letters:
                chosen.append(family)
                missing -= letters
    return chosen


def set_fonts(texts: Iterable[Text]) -> None:
    """Gives each text the fonts that have its letters; others keep the font that they have."""
    for text in texts:
        if len(chosen := families(text.get_text())) > 1:
            text.set_fontfamily(chosen)


def width_of(text: str) -> float:
    """Returns the width of a line of text in points, in the text size of `style.apply`.

    It is the sum of the letters' widths, which joined letters can be narrower than: laying out
    each piece of a thousand long names would take half a minute.
    """
    size, dpi = mpl.rcParams["font.size"], mpl.rcParams["figure.dpi"]
    return sum(_width_of_letter(letter, size, dpi) for letter in text)


@cache
def _width_of_letter(letter: str, size: float, dpi: float) -> float:
    if _continues(letter):  # without its letter, a font would draw it with a dotted circle
        return 0.6 * size if unicodedata.category(letter) == "Mc" else 0
    renderer: Any = RendererAgg
    font = font_manager.FontProperties(family=families(letter), size=size)
    # What one more takes: alone a letter would have no margins, and a space no width. Not between
    # two bars where the letter's font may have none.
    with_bars = letter.isspace() or ord(letter) in _common_letters()
    longer, shorter = (f"|{letter}|", "||") if with_bars else (letter * 2, letter)
    widths = (
        renderer(1, 1, dpi).get_text_width_height_descent(text, font, ismath=False)[0]
        for text in (longer, shorter)
    )
    return float(next(widths) - next(widths)) * 72 / dpi


def widest(names: Iterable[str]) -> float:
    """Returns the width of the widest of `names` in points."""
    return max(map(width_of, names))


def fit(names: list[str], room: float) -> list[str]:
    """Returns names as they are drawn, each at most `room` points wide.

    A long name is cut with an ellipsis: at its end or, where that would make it equal to another
    one, in its middle. Names that are equal even so get the number of the class, alone where there
    is no room for more. Names of different classes never look the same.

    Args:
        names: The names of all classes, in the order of the classes.
        room: Points.
    """
    shown = [_visible(name) for name in names]
    drawn = [_cut(name, room) for name in shown]
    for clash in _clashes(drawn):
        for index in clash:
            drawn[index] = _cut(shown[index], room, both_ends=True)
    numbered: set[int] = set()  # a name may look like another one's number
    while left := {index for clash in _clashes(drawn) for index in clash} - numbered:
        for index in left:
            number = f"#{index}"
            cut = _cut(shown[index], room - width_of(number), always=True) + number
            drawn[index] = cut if width_of(cut) <= room else number
        numbered |= left
    return [isolate(name) for name in drawn]


def _clashes(drawn: list[str]) -> Iterator[list[int]]:
    """Yields the indexes of those that are equal."""
    places: dict[str, list[int]] = {}
    for index, name in enumerate(drawn):
        places.setdefault(name, []).append(index)
    yield from [clash for clash in places.values() if len(clash) > 1]


def _visible(name: str) -> str:
    """Returns `name` with the codes of what no font can show, such as a line break."""
    letters = _common_letters()
    if len(families(name)) > 1:
        letters = letters.union(*_other_fonts().values())
    text = "".join(
        letter if _can_be_drawn(letter, letters) else letter.encode("unicode_escape").decode()
        for letter in unicodedata.normalize("NFC", name)
    )
    before, after = len(text) - len(text.lstrip()), len(text) - len(text.rstrip())
    middle = text.strip()
    return BOX_OF_A_SPACE * before + middle + BOX_OF_A_SPACE * (after if middle else 0)


def _can_be_drawn(letter: str, letters: frozenset[int]) -> bool:
    kind = unicodedata.category(letter)
    known = kind not in ("Cc", "Cf", "Cs", "Zl", "Zp") and ord(letter) in letters
    return known or letter in JOINERS


def _cut(text: str, room: float, *, both_ends: bool = False, always: bool = False) -> str:
    """Returns `text` or, if it is too wide (or `always`), as much as there is room for.

    Args:
        text: A line.
        room: Points.
        both_ends: Keep the end too.
        always: Add the ellipsis to a text that fits as well.
    """
    if width_of(text) <= room and not always:
        return text
    starts = [at for at, letter in enumerate(text) if not _continues(letter)]
    low, high = 1, len(starts)  # letters to keep: one at least, however little room there is
    while low < high:
        middle = (low + high + 1) // 2
        if width_of(_keep(text, starts, middle, both_ends)) <= room:
            low = middle
        else:
            high = middle - 1
    return _keep(text, starts, low, both_ends)


def _keep(text: str, starts: list[int], count: int, both_ends: bool) -> str:
    """Returns the first `count` letters of `text`, or the first and the last ones."""
    ends = [*starts, len(text)]
    last = count // 2 if both_ends else 0
    head = text[: ends[min(count - last, len(starts))]].rstrip()
    return head + ELLIPSIS + (text[starts[-last] :].lstrip() if last else "")


def _continues(letter: str) -> bool:
    """Tells whether a letter belongs to the one before it, as accents do."""
    return unicodedata.category(letter).startswith("M") or letter in JOINERS
