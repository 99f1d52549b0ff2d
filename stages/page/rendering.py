"""The page of the report: its pictures with captions and texts for those who don't see them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from matplotlib.ticker import EngFormatter
from PIL import Image

from stages.sources.photographs import natural

NETWORK, RIGHT_AND_WRONG, INSIDE, MORE = (
    "The network and how it learned",
    "What it gets right and wrong",
    "What it looks at",
    "More",
)


class Figure(NamedTuple):
    """What the page says of the figures of one name.

    Attributes:
        group: Under which heading it stands.
        caption: What it shows and how to read it.
        alt: What is on it, for those who don't see it; facts stand in braces.
    """

    group: str
    caption: str
    alt: str


# In the order of the page. A figure that is not listed comes last, with its name as its caption.
FIGURES = {
    "curves": Figure(
        NETWORK,
        "Accuracy and loss while learning; the loss has the penalties on weights in it, where the "
        "recipe has such. Where training goes on rising and validation doesn't, the network learns "
        "its images by heart. Thin lines are published curves, of training on all real images.",
        "Learning curves of {model} over {trained_for}: accuracy on the validation images goes "
        "from {valid_first} to {valid_last}, on the training images it ends at {train_last}.",
    ),
    "layers": Figure(
        NETWORK,
        "The network, layer by layer; of a deep one, parts with several branches are a row each.",
        "The layers of {model} as a chain, with the shape of their outputs and bars for their "
        "{parameters} parameters; the table of layers has the same in text.",
    ),
    "confusion_matrix": Figure(
        RIGHT_AND_WRONG,
        "The test images by what they are (rows) and what they were taken for (columns).",
        "Confusion matrix of {model}: {accuracy} of the test images are on its diagonal, that is "
        "right; {confused}.",
    ),
    "per_class": Figure(
        RIGHT_AND_WRONG,
        "Precision: how much of what was taken for a class is one. Recall: how much of a class was "
        "found.",
        "Precision, recall and F1 of each class by {model}; the lowest F1 is {weakest}.",
    ),
    "roc_and_precision_recall": Figure(
        RIGHT_AND_WRONG,
        "How well the probability of a class tells it from the rest, for every threshold. "
        "The larger the area under a curve, the better.",
        "ROC and precision-recall curves of {model}; the mean area under the ROC curves is "
        "{roc_auc}.",
    ),
    "reliability": Figure(
        RIGHT_AND_WRONG,
        "Below the dotted line the network is surer than it is right. "
        "The lower part says how many images each bar stands for.",
        "Reliability diagram of {model}: accuracy against confidence; the expected calibration "
        "error is {calibration_error}.",
    ),
    "predictions": Figure(
        RIGHT_AND_WRONG,
        "What it says of {shown} images, and how surely.",
        "A grid of {shown} images, each with the class that {model} gives it and its probability.",
    ),
    "mistakes": Figure(
        RIGHT_AND_WRONG,
        "The test images that were most surely taken for what they are not.",
        "Test images that {model} gets wrong, the surest first, each with its true class, the "
        "class that was said, and its probability; {confused}.",
    ),
    "weights": Figure(
        INSIDE,
        "What units of the first layer look for: red is negative, blue is positive; of images in "
        "colour, each channel has its own and grey is zero.",
        "The weights of units of the first layer of {model}, each as an image.",
    ),
    "weights_over_training": Figure(
        INSIDE,
        "How the weights of the first layer change while learning.",
        "The weights of some units of the first layer of {model}, each as a row of images from the "
        "start to the end of its training.",
    ),
    "class_images": Figure(
        INSIDE,
        "What speaks for each class (blue) and what against it (red), all layers taken together; "
        "of images in colour, each channel has its own and grey is zero.",
        "The product of all weight matrices of {model}: one image for each class.",
    ),
    "filters": Figure(
        INSIDE,
        "What the first convolution looks for.",
        "The filters of the first convolution of {model}, each as a small image.",
    ),
    "feature_maps": Figure(
        INSIDE,
        "What the layer {layer} makes of the images above: the brighter, the stronger, each map on "
        "a scale of its own.",
        "Feature maps of the layer {layer} of {model} for an example image of each of two classes.",
    ),
    "grad_cam": Figure(
        INSIDE,
        "Grad-CAM: the bright places speak for the class above the picture, each picture on a "
        "scale of its own.",
        "Example images and, laid over them, the places that speak for the two classes which "
        "{model} finds likeliest.",
    ),
}


class Picture(NamedTuple):
    """A picture on the page: its link, what it shows, and its size in pixels."""

    link: str
    alt: str
    caption: str
    width: int
    height: int


def picture(path: Path, link: str, alt: str, caption: str) -> Picture:
    """Returns the picture in the file `path`, which the page reaches as `link`."""
    with Image.open(path) as image:
        return Picture(link, alt, caption, *image.size)


def model_pictures(folder: Path, facts: Mapping[str, Any]) -> dict[str, list[Picture]]:
    """Returns the pictures of one model by the heading that they stand under.

    Args:
        folder: Its pictures; the page is two folders above.
        facts: What the captions and texts name; `model` is the name of the model.
    """
    order = list(FIGURES)
    found = []
    for path in sorted(folder.glob("*.png"), key=lambda path: natural(path.stem)):
        name, layer = path.stem, ""
        if name.startswith("feature_maps_"):
            name, layer = "feature_maps", name.removeprefix("feature_maps_")
        words = path.stem.replace("_", " ").capitalize()
        figure = FIGURES.get(name, Figure(MORE, f"{words}.", f"{words} of {facts['model']}."))
        known = {**facts, "layer": layer}
        shown = picture(
            path,
            f"{folder.parent.name}/{folder.name}/{path.name}",
            figure.alt.format_map(known),
            figure.caption.format_map(known),
        )
        found.append((order.index(name) if name in order else len(order), figure.group, shown))
    groups: dict[str, list[Picture]] = {}
    for _, group, shown in sorted(found, key=lambda entry: entry[0]):
        groups.setdefault(group, []).append(shown)
    return groups


def short(count: int) -> str:
    """Returns a count with three digits, such as 14.7 M."""
    return EngFormatter()(float(f"{count:.3g}"))


def render(folder: Path, **context: Any) -> str:
    """Returns the page as HTML.

    Args:
        folder: The templates; the page is `index.html.jinja`.
        context: What they name.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": "{:.2%}".format, "count": "{:,}".format, "short": short}
    return environment.get_template("index.html.jinja").render(**context)
