"""Figures of photographs that are worth a look: near copies, and what the checks found."""

import numpy as np
from matplotlib.figure import Figure

from stages.pictures import style
from stages.pictures.style import GREY, ORANGE, new_figure
from stages.results.reading import PAIR, SHOWN_CHECKED, Dataset


def draw_near_copies(name: str, dataset: Dataset) -> Figure:
    """Draws pairs of near copies, two pairs in a row."""
    titles, colours = [], []
    for at, row in enumerate(dataset.near_copies[: len(dataset.shown.near_copies) // 2]):
        same = row["first_class"] == row["second_class"]
        for side in PAIR:
            label = style.cut(row[f"{side}_class"], 12)
            titles.append(f"{at + 1}: {label}\n{_short_name(row[side], 18)}")
            colours.append(GREY if same else ORANGE)
    height = style.height_of(-(-len(titles) // 4), 4, 2)
    figure = new_figure(f"{name}: the same picture twice", height + 0.3)
    style.draw_titled(figure.subplots(), dataset.shown.near_copies, titles, 4, colours)
    return figure


def draw_checks(name: str, dataset: Dataset) -> Figure:
    """Draws the photographs that the checks found, a row for each check."""
    shown, rows = dataset.shown.checked, dataset.shown.checked_rows
    checks = list(rows["check"].unique())
    images = np.full((len(checks) * SHOWN_CHECKED, *shown.shape[1:]), 255, np.uint8)
    titles = [""] * len(images)
    numbers = rows.groupby("check", sort=False).cumcount()
    for image, check, number, file in zip(shown, rows["check"], numbers, rows["file"], strict=True):
        place = checks.index(check) * SHOWN_CHECKED + number
        images[place] = image
        titles[place] = f"{check}\n{_short_name(file, 14)}"
    figure = new_figure(
        f"{name}: photographs worth a look",
        style.height_of(len(checks), SHOWN_CHECKED, 2) + 0.3,
    )
    style.draw_titled(figure.subplots(), images, titles, SHOWN_CHECKED, [GREY] * len(titles))
    return figure


def _short_name(file: str, most: int) -> str:
    """Returns the end of a file's name, `dog.2877.jpg` for `train.zip/train/dog.2877.jpg`."""
    name = file.rpartition("/")[2]
    return name if len(name) <= most else f"…{name[1 - most :]}"
