"""The common look of all figures, what several of them draw, and saving them as stable bytes.

Figures are `Figure` objects, never made by pyplot, which needs a window system and keeps state.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from matplotlib.ticker import Formatter
from PIL import Image

from stages.pictures import names

mpl.use("Agg")

WIDTH = 6.4  # inches; common to all figures, so that text has one size on a page
LINE_HEIGHT = 1.3  # times the text size
LARGEST = 400_000  # bytes of a figure's file
MOST_TICKS = 40  # of a logarithmic axis
MOST_DIGITS = 4  # behind the point of a percentage
LARGEST_IMAGE = 64  # pixels; wider images in a grid are reduced to it

# The palette of Okabe and Ito, safe for the colour-blind: https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
INK, GREY, FAINT = "#222222", "#767676", "#D9D9D9"
# Colours text on white by confidence, so it is dark all the way.
CONFIDENCE = LinearSegmentedColormap.from_list("confidence", ["#B84A00", "#6E6E6E", "#00589C"])


@contextmanager
def apply(text_size: float, dpi: int) -> Iterator[None]:
    """Applies the common look to figures that are made and saved in this context.

    Args:
        text_size: Points; 9 points are 12 pixels in a figure shown 600 pixels wide.
        dpi: Pixels an inch.
    """
    sizes = ("axes.labelsize", "axes.titlesize", "figure.titlesize", "legend.fontsize")
    settings: Any = dict.fromkeys(
        (*sizes, "xtick.labelsize", "ytick.labelsize", "font.size"), text_size
    ) | {
        "axes.axisbelow": True,
        "axes.edgecolor": GREY,
        "axes.grid": True,
        "axes.labelcolor": INK,
        "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PURPLE, SKY]),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "figure.constrained_layout.h_pad": 0.06,
        "figure.constrained_layout.use": True,
        "figure.dpi": dpi,
        "figure.facecolor": "white",
        "figure.titleweight": "bold",
        "font.family": names.FONT,
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "image.cmap": "cividis",
        "image.interpolation": "nearest",
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "savefig.dpi": dpi,
        "text.color": INK,
        "text.parse_math": False,  # a class may be called $x$
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with mpl.rc_context():
        mpl.rcdefaults()  # ignores the user's matplotlibrc
        mpl.rcParams.update(settings)
        yield


def new_figure(title: str, height: float) -> Figure:
    """Returns an empty figure, `height` inches high."""
    figure = Figure(figsize=(WIDTH, height))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes `figure` as PNG, with a palette of fewer colours where it exceeds `LARGEST`."""
    names.set_fonts(figure.findobj(Text))
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    image.save(path)
    for colours in (256, 64, 16):
        if path.stat().st_size <= LARGEST:
            break
        # MAXCOVERAGE keeps colours of few pixels too: those of text and scales.
        image.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path)


def cut(text: str, most: int) -> str:
    """Returns `text`, cut with an ellipsis to `most` letters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def scale_by_logarithm(axes: Axes) -> None:
    """Makes the vertical axis logarithmic.

    Matplotlib writes powers of ten as markup, which is off elsewhere (see `apply`). A tick has that
    setting from when it is made: more than an axis needs are made here.
    """
    axes.set_yscale("log")
    for get_ticks in (axes.yaxis.get_major_ticks, axes.yaxis.get_minor_ticks):
        for tick in get_ticks(MOST_TICKS):
            tick.label1.set_parse_math(True)


def looks(count: int) -> list[dict[str, Any]]:
    """Returns so many looks of lines, which differ in colour and marker."""
    colours, markers = (BLUE, ORANGE, GREEN, PURPLE, INK, SKY), "osD^vP"
    turns = [divmod(index, len(colours)) for index in range(count)]
    return [
        {"color": colours[at], "marker": markers[(at + turn) % len(markers)]} for turn, at in turns
    ]


class Percent(Formatter):
    """Writes the shares at an axis's ticks in percent, with the digits that the ticks need."""

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Writes all ticks of an axis."""
        axis: Any = self.axis
        low, high = axis.get_view_interval()
        digits, ticks = int(high - low < 0.04), 100 * np.asarray(values)
        while digits < MOST_DIGITS and not np.allclose(ticks, ticks.round(digits), 0, 1e-6):
            digits += 1
        return [f"{value:.{digits}%}" for value in values]


def no_frame(axes: Axes) -> None:
    """Removes grid, ticks and spines."""
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def room_of(columns: int) -> float:
    """Returns the width of one of `columns` in a figure, in points."""
    return WIDTH * 72 / columns


def height_of(rows: int, columns: int, lines: int) -> float:
    """Returns the height, in inches, of `rows` of square images below `lines` of text each."""
    line: float = LINE_HEIGHT * mpl.rcParams["font.size"] / 72
    return rows * (WIDTH / columns + lines * line)


def add_scale(figure: Figure, cells: list[Axes], drawn: ScalarMappable, label: str) -> None:
    """Adds the colour bar of `drawn` below `cells`."""
    share = 0.1 / figure.get_figheight()
    look: dict[str, Any] = {
        "location": "bottom",
        "aspect": 50,
        "shrink": 0.6,
        "fraction": share,
    }
    figure.colorbar(drawn, ax=cells, label=label, pad=share, **look)


def montage(images: np.ndarray, columns: int, gap: int = 1, room: int = 0) -> np.ndarray:
    """Lays images out in rows.

    Args:
        images: Colours, [n, height, width, 3], or values, float [n, height, width].
        columns: Images a row.
        gap: Pixels between two images.
        room: Pixels above each image.

    Returns:
        One image. What lies between is white, or NaN where images are values.
    """
    count, height, width, *channels = images.shape
    rows = -(-count // columns)
    shape = (
        rows * (height + room + gap) - gap,
        columns * (width + gap) - gap,
        *channels,
    )
    white = 255 if images.dtype == np.uint8 else 1
    sheet = np.full(shape, white if channels else np.nan, images.dtype)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        bottom, left = (row + 1) * (height + room + gap) - gap, column * (width + gap)
        sheet[bottom - height : bottom, left : left + width] = image
    return sheet


def in_colour(images: np.ndarray) -> np.ndarray:
    """Returns images of 1 or 3 channels, [n, height, width, channels], with 3 channels."""
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def draw_titled(
    axes: Axes, images: np.ndarray, titles: list[str], columns: int, colours: list[Any]
) -> None:
    """Draws images in rows, with a title above each.

    Args:
        axes: As wide as the figure.
        images: uint8 [n, height, width, 1 or 3].
        titles: One for each image; the longest sets the lines of all.
        columns: Images a row.
        colours: One for each title.
    """
    images = in_colour(images)
    _, height, width, _ = images.shape
    if height > width:  # a title is as wide as a square: those of tall images would overlap
        beside = ((height - width) // 2, (height - width + 1) // 2)
        images = np.pad(images, ((0, 0), (0, 0), beside, (0, 0)), constant_values=255)
        width = height
    if width > LARGEST_IMAGE:
        height, width = max(round(height * LARGEST_IMAGE / width), 1), LARGEST_IMAGE
        size = (width, height)
        images = np.stack([cv2.resize(i, size, interpolation=cv2.INTER_AREA) for i in images])
    pixel = WIDTH * 72 / columns / width  # in points
    gap = max(1, round(width * 0.1))
    lines = max(title.count("\n") + 1 for title in titles)
    room = round(lines * LINE_HEIGHT * mpl.rcParams["font.size"] / pixel)
    axes.imshow(montage(images, columns, gap, room))
    no_frame(axes)
    for index, (title, colour) in enumerate(zip(titles, colours, strict=True)):
        row, column = divmod(index, columns)
        place = (
            column * (width + gap) + width / 2,
            row * (height + room + gap) + room - 1,
        )
        axes.text(*place, title, ha="center", va="bottom", color=colour, linespacing=1.1)


def draw_as_images(axes: Axes, weights: np.ndarray, columns: int) -> AxesImage | None:
    """Draws weights as images in rows.

    Args:
        axes: Where to draw.
        weights: float32 [n, height, width, channels]. Three channels are drawn in colour, with
            zero as grey; otherwise their mean from red to blue, with zero as white.
        columns: Images a row.

    Returns:
        What `add_scale` takes, or `None` for weights in colour.
    """
    no_frame(axes)
    enlarged = max(1, 24 // weights.shape[1])  # pixels a weight, so that the gaps are thin
    gap = 1 if enlarged == 1 else 3
    weights = weights.repeat(enlarged, axis=1).repeat(enlarged, axis=2)
    largest = float(np.quantile(np.abs(weights), 0.995)) or 1
    if weights.shape[-1] == 3:
        axes.imshow(montage(np.clip(weights / (2 * largest) + 0.5, 0, 1), columns, gap))
        return None
    sheet = montage(weights.mean(-1), columns, gap)
    return axes.imshow(sheet, cmap="RdBu", vmin=-largest, vmax=largest)
