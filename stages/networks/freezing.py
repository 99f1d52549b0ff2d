"""Which layers of a network train: those from a given one on."""

from collections.abc import Sequence

from stages.lib.command import UserError
from stages.lib.params import suggest
from stages.networks.runtime import keras

HEAD_PREFIX = "head_"  # of the names of layers behind a network that has learned something
MOST_SHOWN = 20  # layers, in an error message


def layers_before(model: keras.Model, first: str | None, key: str) -> list[keras.layers.Layer]:
    """Returns the layers of `model` that do not train.

    Args:
        model: A network that is built.
        first: A layer's name: it and all that `model.layers` has after it train. `all` or `None`:
            every layer trains. `head`: those that have a name with `HEAD_PREFIX`, or the output
            layer where there are none.
        key: Where `first` stands in `params.yaml`, for error messages.

    Raises:
        UserError: `model` has no such layer, or nothing to train from there on.
    """
    names = [layer.name for layer in model.layers]
    if first in (None, "all"):
        return []
    if first == "head":
        heads = [index for index, name in enumerate(names) if name.startswith(HEAD_PREFIX)]
        start = min(heads, default=len(names) - 1)
    elif first in names:
        start = names.index(first)
    else:
        shown = names if len(names) <= MOST_SHOWN else [*names[:MOST_SHOWN], "…"]
        hint = suggest(str(first), ["all", "head", *names], f"layers: {', '.join(shown)}")
        raise UserError(f"params.yaml: {key}: the network has no layer '{first}'; {hint}")
    if not any(layer.trainable_variables for layer in model.layers[start:]):
        raise UserError(f"params.yaml: {key}: no layer from '{first}' on has weights to train")
    return list(model.layers[:start])


def set_trainable(model: keras.Model, values: Sequence[bool]) -> None:
    """Says of each layer of `model`, in order, whether it trains."""
    for layer, value in zip(model.layers, values, strict=True):
        layer.trainable = value


def freeze(phases: Sequence[list[keras.layers.Layer]]) -> None:
    """Freezes the layers of the last of `phases`, each given by what does not train in it.

    A frozen batch normalisation uses its moving averages and leaves them as they are; a frozen
    dropout still drops. A batch normalisation that an earlier phase froze stays frozen: its moving
    averages belong to the weights, and few images would spoil both
    (https://keras.io/guides/transfer_learning/). Compile the model afterwards: Keras looks at this
    only then.
    """
    normalises = keras.layers.BatchNormalization
    for layers in phases[:-1]:
        for layer in layers:
            if isinstance(layer, normalises):
                layer.trainable = False
    for layer in phases[-1]:
        layer.trainable = False
