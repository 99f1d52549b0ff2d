"""Networks from `params.yaml`, in Keras's own vocabulary.

A layer is any class of `keras.layers`, an application any function of `keras.applications`, each
with its own arguments.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from stages.lib.command import UserError
from stages.lib.images import Images
from stages.lib.params import Section
from stages.networks.applications import adjust, application_features
from stages.networks.freezing import HEAD_PREFIX, layers_before
from stages.networks.graph import Graph
from stages.networks.pretrained import IMAGENET, application_with_weights, learned_features
from stages.networks.runtime import keras, tf
from stages.networks.vocabulary import Spec, blame, build

# Arguments that the builder gives to the output layer.
RESERVED_BY_BUILDER = {"units", "activation", "dtype", "name"}
SCALING = (keras.layers.Rescaling, keras.layers.Normalization)
CANNOT_COMPUTE = (
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.UnimplementedError,
)
# Layers that leave an output layer before them what it is.
PASS_ON = (
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Reshape,
)


class Network(Section):
    """A network: its layers in order, then an application or another model if there is one.

    `blocks` are lists of layers that `layers` uses by their names: see `graph`.
    `output` holds further arguments of the output layer, which the builder adds. Two keys change
    the layers of the application, which takes no such arguments itself:

    `kernel_initializer` replaces GlorotUniform, which halves the signal's variance at each
    rectified layer (https://arxiv.org/abs/1502.01852).
    `batch_norm_momentum` replaces Keras's 0.99. With that, moving averages need hundreds of steps
    until they, and the validation metrics, can be relied on.

    The others are for a network that has learned something before: an application with `weights`,
    which are `imagenet` or a file with `weights_sha256`, or the model that `start_from` names.
    `head` holds the layers behind it, without which an application gets the mean of its feature
    maps. `trainable_from` names the first layer that trains, in each phase that names no other.
    """

    layers: list[Spec] = Field(default_factory=list)
    blocks: dict[str, Annotated[list[Spec], Field(min_length=1)]] = Field(default_factory=dict)
    application: Spec = None
    output: dict[str, Any] = Field(default_factory=dict)
    kernel_initializer: Spec = None
    batch_norm_momentum: float | None = Field(None, ge=0, lt=1)
    weights: str | None = None
    weights_sha256: str | None = None
    start_from: str | None = None
    head: list[Spec] = Field(default_factory=list)
    trainable_from: str | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> "Network":
        if not self.layers and self.application is None and self.start_from is None:
            raise ValueError("a network needs `layers`, an `application`, or both")
        if self.application is not None and self.start_from is not None:
            raise ValueError("`start_from` brings its own network: leave `application` out")
        if self.application is not None and self.weights is None and self.output:
            raise ValueError("`output` goes with `layers`; an application brings its own output")
        if reserved := sorted(RESERVED_BY_BUILDER & self.output.keys()):
            raise ValueError(f"`output.{reserved[0]}` is set by the builder: leave it out")
        for name in ("kernel_initializer", "batch_norm_momentum", "weights"):
            if self.application is None and getattr(self, name) is not None:
                raise ValueError(f"`{name}` goes with an `application`; layers take it themselves")
        if self.weights is not None and self.kernel_initializer is not None:
            raise ValueError("`kernel_initializer` would replace the `weights`: leave one out")
        if (self.weights in (None, IMAGENET)) != (self.weights_sha256 is None):
            raise ValueError(
                "`weights_sha256` goes with `weights` from a file, and only with them: DVC sees by "
                "it that the file changed; `sha256sum FILE` prints it"
            )
        if self.head and not self.has_learned:
            raise ValueError("`head` goes with `weights` or `start_from`; use `layers` here")
        return self

    @property
    def start_file(self) -> Path | None:
        """The model to start from, which another entry of `params.yaml` has trained."""
        if self.start_from is None:
            return None
        return Path("data/models") / f"{self.start_from}.keras"

    @property
    def has_learned(self) -> bool:
        """Whether the network starts from weights that were trained before."""
        return self.weights is not None or self.start_from is not None


def build_network(
    network: Network,
    image_shape: tuple[int, int, int],
    classes: int,
    key: str,
    images: Images | None = None,
) -> keras.Model:
    """Builds a model from raw pixels, 0 to 255, to one probability for each class.

    Args:
        network: What to build; an application gets random weights.
        image_shape: Height, width, channels.
        classes: The number of classes.
        key: Where `network` stands in `params.yaml`, for error messages.
        images: The training images, uint8 [n, height, width, channels]; without them,
            `Normalization` layers that bring no mean of their own change nothing.

    Raises:
        UserError: Keras does not have, or does not accept, a layer, application or argument.
    """
    inputs = keras.Input(image_shape, name="images")
    graph = Graph(inputs, network.blocks, key, images)
    stacked = graph.connect("layers", network.layers, inputs)
    if network.has_learned:
        _refuse_scaling(graph.layers, f"{key}.layers")
    taken = {layer.name for layer in graph.layers}
    body = _body(network, stacked, taken, classes, key)
    features, part = body, "layers"
    if network.has_learned:
        part = "head"
        pooling = ["GlobalAveragePooling2D"] if len(body.shape) == 4 else []
        features = graph.connect(part, network.head or pooling, body, HEAD_PREFIX)
    graph.refuse_unused_blocks()
    if len(features.shape) != 2:
        raise UserError(
            f"params.yaml: {key}.{part}: the last layer gives {features.shape[1:]} for each image, "
            "expected one dimension: end with Flatten or GlobalAveragePooling2D"
        )
    if network.application is None or features is not body:
        _refuse_output_layer(features, classes, f"{key}.{part}")
    output = _output_layer(network.output, classes, f"{key}.output")
    with blame(key):
        model = keras.Model(inputs, output(features))
    if network.application is not None:
        inner = [layer for layer in keras.Model(inputs, body).layers if layer not in graph.layers]
        path = f"{key}.kernel_initializer"
        adjust(inner, network.kernel_initializer, network.batch_norm_momentum, path)
    layers_before(model, network.trainable_from, f"{key}.trainable_from")  # checks it
    _try_out(model, key)
    return model


def _body(
    network: Network, pixels: keras.KerasTensor, taken: set[str], classes: int, key: str
) -> keras.KerasTensor:
    """Returns what the application, or the model to start from, gives of `pixels`.

    `taken` are the names of the layers before it.
    """
    if network.start_file is not None:
        return learned_features(network.start_file, pixels, taken, f"{key}.start_from")
    if network.weights is not None:
        return application_with_weights(
            network.application, network.weights, network.weights_sha256, pixels, key
        )
    if network.application is not None:
        return application_features(network.application, pixels, classes, f"{key}.application")
    return pixels


def _try_out(model: keras.Model, key: str) -> None:
    """Raises a `UserError` where a layer builds, but cannot compute or be trained."""
    pixels = np.zeros((2, *model.input_shape[1:]), np.uint8)
    variables = model.trainable_variables, model.non_trainable_variables
    with blame(key):
        try:
            model(pixels, training=False)
            # Without a change of any variable: what is random, or averages, starts as it is.
            model.stateless_call(*variables, pixels, training=True, return_losses=True)
            for variable in model.trainable_variables:
                if variable.constraint is not None:
                    variable.constraint(variable.value)
        except CANNOT_COMPUTE as error:
            raise ValueError(error.message) from error


def _refuse_scaling(layers: list[keras.layers.Layer], key: str) -> None:
    for layer in layers:
        if isinstance(layer, SCALING):
            raise UserError(
                f"params.yaml: {key}: {type(layer).__name__} changes the pixels, which a network "
                "that has learned something takes as they are, 0 to 255: leave it out"
            )


def _refuse_output_layer(features: keras.KerasTensor, classes: int, key: str) -> None:
    """Refuses an output layer of the user's own: before the builder's, it costs accuracy."""
    layer = features._keras_history.operation
    while isinstance(layer, PASS_ON) or _is_linear(layer):
        layer = layer.input._keras_history.operation
    if sum(side != 1 for side in layer.output.shape[1:]) > 1:
        return  # a softmax over each place of a map is no output
    activation = getattr(layer, "activation", None)
    softmax = isinstance(layer, keras.layers.Softmax) or activation is keras.activations.softmax
    sigmoid = activation is keras.activations.sigmoid and features.shape[-1] == classes
    if softmax or sigmoid or features.shape[-1] == 1:
        raise UserError(
            f"params.yaml: {key}: ends with {type(layer).__name__}, an output layer of its own; a "
            f"softmax over the {classes} classes is added: leave yours out"
        )


def _is_linear(layer: keras.layers.Layer) -> bool:
    linear = keras.activations.linear
    return isinstance(layer, keras.layers.Activation) and layer.activation is linear


def _output_layer(arguments: dict[str, Any], classes: int, key: str) -> keras.layers.Layer:
    # The softmax stays in float32 whatever the policy: half-precision probabilities near 0 and 1
    # are too coarse for the loss.
    reserved = {"units": classes, "activation": "softmax", "dtype": "float32", "name": "classes"}
    return build({"Dense": arguments | reserved}, keras.layers, keras.layers.Layer, key)
