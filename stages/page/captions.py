"""What a model's page says of its figures."""

from typing import NamedTuple

NETWORK, RIGHT_AND_WRONG, INSIDE, MORE = (
    "The network and how it learned",
    "What it gets right and wrong",
    "What it looks at",
    "More",
)


class Figure(NamedTuple):
    """What a model's page says of a figure.

    Attributes:
        group: The heading that it stands under.
        caption: What it shows and how to read it.
        alt: Its description for those who do not see it; facts stand in braces.
    """

    group: str
    caption: str
    alt: str


# In the order of the page. A figure that is not listed comes last, captioned by its name.
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
        "Below the dotted line the network is surer than it is right. Grey: the probabilities as "
        "the network says them; blue: corrected by the temperature that the validation images ask "
        "for. The lower part says how many images each bar stands for.",
        "Reliability diagram of {model}: accuracy against confidence; the expected calibration "
        "error is {calibration_error}, after temperature scaling {scaled_error}.",
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
