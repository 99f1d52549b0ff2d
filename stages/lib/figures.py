"""How every figure looks, and saving it: the same figure gives the same bytes.

Figures are made as `Figure` objects, never through pyplot: no window, no state between two of them.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

mpl.use("Agg")

WIDTH = 6.4  # inches; every figure has it, so that the text is as large in each
LARGEST = 400_000  # bytes of a file

# Okabe and Ito's colours, which the colour-blind tell apart: https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
INK, GREY, FAINT = "#222222", "#767676", "#D9D9D9"
# Of text on white: dark all the way, from unsure to sure.
CONFIDENCE = LinearSegmentedColormap.from_list("confidence", ["#B84A00", "#6E6E6E", "#00589C"])


@contextmanager
def style(text_size: float, dpi: int) -> Iterator[None]:
    """Sets how figures look that are made and saved in this context.

    Args:
        text_size: Of all text, in points; 9 points are 12 pixels in a figure shown 600 wide.
        dpi: Pixels an inch.
    """
    sizes = ("axes.labelsize", "axes.titlesize", "figure.titlesize", "legend.fontsize")
    settings = dict.fromkeys(
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
        "figure.constrained_layout.use": True,
        "figure.dpi": dpi,
        "figure.facecolor": "white",
        "figure.titleweight": "bold",
        "font.family": "DejaVu Sans",  # comes with Matplotlib: the same on every machine
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "image.cmap": "cividis",
        "image.interpolation": "nearest",
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "savefig.dpi": dpi,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(settings)
        yield


def new_figure(title: str, height: float) -> Figure:
    """Returns an empty figure, `height` inches high."""
    figure = Figure(figsize=(WIDTH, height))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes `figure` as PNG, with no more than 256 colours if it would be too large with all."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    image = Image.open(drawn).convert("RGB")
    dpi = (figure.dpi, figure.dpi)
    image.save(path, optimize=True, dpi=dpi)
    if path.stat().st_size > LARGEST:
        few = image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(path, optimize=True, dpi=dpi)


def no_frame(axes: Axes) -> None:
    """Leaves of `axes` what is drawn in it."""
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def montage(images: np.ndarray, columns: int, gap: int = 1, room: int = 0) -> np.ndarray:
    """Lays `images` out in rows.

    Args:
        images: Colours, uint8 [n, height, width, 3], or values, float [n, height, width].
        columns: Images a row.
        gap: Pixels between two images.
        room: Pixels above each image.

    Returns:
        One image; between and around them white, or not a number where there are values.
    """
    count, height, width, *channels = images.shape
    rows = -(-count // columns)
    shape = (rows * (height + room + gap) - gap, columns * (width + gap) - gap, *channels)
    sheet = np.full(shape, 255 if channels else np.nan, images.dtype)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        bottom, left = (row + 1) * (height + room + gap) - gap, column * (width + gap)
        sheet[bottom - height : bottom, left : left + width] = image
    return sheet


def in_colour(images: np.ndarray) -> np.ndarray:
    """Returns `images`, uint8 [n, height, width, 1 or 3], with three channels."""
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def draw_titled(
    axes: Axes,
    images: np.ndarray,
    titles: list[str],
    columns: int,
    colours: list[Any] | None = None,
) -> None:
    """Draws `images`, uint8 [n, height, width, 1 or 3], in rows with a title above each.

    Args:
        axes: To draw in; its height should fit, with lines of text above each row.
        images: What to draw.
        titles: A line or several for each image.
        columns: Images a row.
        colours: Of the titles.
    """
    _, height, width, _ = images.shape
    line = mpl.rcParams["font.size"] * 1.25 / 72 * columns / WIDTH  # in widths of an image
    lines = max(title.count("\n") + 1 for title in titles)
    gap, room = round(width * 0.12), round(width * (line * lines + 0.02))
    axes.imshow(montage(in_colour(images), columns, gap, room))
    no_frame(axes)
    for index, title in enumerate(titles):
        row, column = divmod(index, columns)
        place = (column * (width + gap) + width / 2, row * (height + room + gap) + room - 1)
        colour = colours[index] if colours else INK
        axes.text(*place, title, ha="center", va="bottom", color=colour, linespacing=1.1)
