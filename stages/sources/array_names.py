"""What the names of array files, and of the arrays in them, say: set, part, images or labels.

`emnist-letters-test-labels-idx1-ubyte.gz`, `X_kannada_MNIST_train.npz`, `val_images`, `y_test`.
"""

import re
from typing import Literal, NamedTuple

Part = Literal["train", "valid", "test"]
Content = Literal["images", "labels"]

PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation"), "valid"),
    **dict.fromkeys(("test", "testing", "t10k"), "test"),
}
CONTENTS: dict[str, Content] = {
    **dict.fromkeys(("images", "image", "imgs", "img", "x", "data", "pixels"), "images"),
    **dict.fromkeys(("labels", "label", "y", "target", "targets"), "labels"),
}
# Words that name the format alone. `arr_0` is NumPy's name for an array that got none.
FORMAT = re.compile(r"idx\d|ubyte|int|gz|npz|npy|csv|zip|arr|0")


class ArrayName(NamedTuple):
    """What a name says.

    Attributes:
        subset: The rest of the name, words joined by hyphens: `emnist-letters`.
        part: The part of the dataset; None if the name says none.
        content: What is in it; None if the name says neither.
    """

    subset: str
    part: Part | None
    content: Content | None


def parse_name(name: str) -> ArrayName:
    """Reads a name of words that are joined by anything but letters and digits.

    The first word for a part counts. A word for labels beside one for images does: `image_labels`.
    """
    part: Part | None = None
    content: Content | None = None
    rest = []
    for word in re.findall(r"[a-z0-9]+", name.lower()):
        if word in PARTS and part is None:
            part = PARTS[word]
        elif word in CONTENTS:
            content = "labels" if content == "labels" else CONTENTS[word]
        elif not FORMAT.fullmatch(word):
            rest.append(word)
    return ArrayName("-".join(rest), part, content)
