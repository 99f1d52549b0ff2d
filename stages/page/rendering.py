"""What all pages have in common: pictures and their places, params as text, templates."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import yaml
from matplotlib.ticker import EngFormatter
from PIL import Image

TEMPLATES = Path(__file__).with_name("templates")
# Two pictures stand side by side if the taller one is at most so many times as tall as the other.
SIMILAR = 1.25


class Picture(NamedTuple):
    """A picture on a page: its link from there, what it shows, and its size in pixels."""

    link: str
    alt: str
    caption: str
    width: int
    height: int


def picture(path: Path, link: str, alt: str, caption: str) -> Picture:
    """Returns the picture in the file `path`, which the page reaches as `link`."""
    with Image.open(path) as image:
        return Picture(link, alt, caption, *image.size)


def arrange(pictures: Iterable[Picture]) -> list[list[Picture]]:
    """Returns rows of one or two pictures, in which no short one leaves a hole beside a tall one.

    A picture shares its row with the next one of similar height, wherever that stands.
    """
    waiting = list(pictures)
    rows = []
    while waiting:
        first = waiting.pop(0)
        row = [first]
        for other in waiting:
            low, high = sorted((first.height / first.width, other.height / other.width))
            if high <= SIMILAR * low:
                waiting.remove(other)
                row.append(other)
                break
        rows.append(row)
    return rows


def to_yaml(section: Any) -> str:
    """Returns a section of `params.yaml` as text, the same whatever the order of its keys."""
    text: str = yaml.safe_dump(section, allow_unicode=True, width=76)
    return text.rstrip()


def render(template: str, **context: Any) -> str:
    """Returns the page that `template` makes of `context`, as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": "{:.2%}".format, "count": "{:,}".format, "short": _short}
    environment.filters |= {"arrange": arrange, "yaml": to_yaml}
    return environment.get_template(template).render(**context)


def _short(count: int) -> str:
    """Writes a count with three digits, such as 14.7 M."""
    return EngFormatter()(float(f"{count:.3g}"))
