"""Networks as graphs: layers that name their `inputs`, and `blocks` of layers for several uses.

A layer takes the output of the one before it, or of those that `inputs` names. `images` are the
pixels. A block is a list of layers with `$parameters`; in it, `input` is what its use takes.
"""

import inspect
import re
from collections import ChainMap, Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from stages.lib.command import UserError
from stages.lib.images import Images
from stages.lib.params import nearest, suggest
from stages.networks import normalization
from stages.networks.augmentation import refuse_label_layer
from stages.networks.placeholders import fill, placeholders
from stages.networks.runtime import keras
from stages.networks.vocabulary import Spec, blame, build, name_and_arguments

# What the use of a block says besides its parameters.
OF_A_USE = ("inputs", "name", "repeat")
LAYERS = [name for name, value in vars(keras.layers).items() if isinstance(value, type)]


@dataclass
class _Scope:
    """Where a list of layers stands: in the network, or in one use of a block.

    Attributes:
        key: Of the list in `params.yaml`.
        prefix: Of the names of its layers.
        names: What `inputs` may name; the first map has the names of this list.
        blocks: Those that are in use here, the outermost first.
        parameters: Of the innermost block.
        later: All names that the lists of the scope define, some of them later.
        counts: How often the list has a block or a layer without a name.
    """

    key: str
    prefix: str
    names: ChainMap[str, Any]
    blocks: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    later: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)


class Graph:
    """Builds and connects the layers of a network, in the order in which they are written.

    Args:
        inputs: The pixels.
        blocks: Lists of layers by the names of the blocks.
        key: Where the network stands in `params.yaml`, for error messages.
        images: The training images, for `Normalization`: see `build_network`.

    Attributes:
        layers: Those that are built.

    Raises:
        UserError: A block has a name that it cannot have.
    """

    def __init__(
        self,
        inputs: keras.KerasTensor,
        blocks: dict[str, list[Spec]],
        key: str,
        images: Images | None,
    ):
        self.layers: list[keras.layers.Layer] = []
        self._inputs, self._blocks, self._key, self._images = inputs, blocks, key, images
        self._taken: set[int] = set()  # ids of tensors
        self._used: set[str] = set()  # names of blocks
        for name, block in blocks.items():
            _check_block(name, block, f"{key}.blocks.{name}")

    def connect(
        self, part: str, specs: list[Spec], features: keras.KerasTensor, prefix: str = ""
    ) -> keras.KerasTensor:
        """Builds a list of layers, and returns what the last one gives.

        Args:
            part: The key of the list in the network.
            specs: The layers.
            features: What the first one takes.
            prefix: Of the names of the layers.

        Raises:
            UserError: Keras does not accept a layer, a name is unknown or taken, a block gets other
                parameters than it has, or the output of a layer or a block is used by nothing.
        """
        own = {} if features is self._inputs else {"input": features}
        names = ChainMap({"images": self._inputs} | own)
        return self._chain(specs, features, _Scope(f"{self._key}.{part}", prefix, names))

    def refuse_unused_blocks(self) -> None:
        """Raises a `UserError` for a block that no layers have used."""
        if unused := [name for name in self._blocks if name not in self._used]:
            raise UserError(
                f"params.yaml: {self._key}.blocks.{unused[0]}: no layer uses this block: "
                f"write `- {unused[0]}` into `layers`, or delete it"
            )

    def _chain(self, specs: list[Spec], features: Any, scope: _Scope) -> Any:
        filled = [
            fill(spec, scope.parameters, f"{scope.key}[{index}]")
            for index, spec in enumerate(specs)
        ]
        scope.later = scope.later | {name for spec in filled for name in _names(spec)}
        outputs = []
        for index, spec in enumerate(filled):
            path = f"{scope.key}[{index}]"
            kind, given = name_and_arguments(spec, path)
            arguments = dict(given)
            place = f"{path}.{kind}"
            sources = [features]
            if "inputs" in arguments:
                sources = _find(arguments.pop("inputs"), scope, f"{place}.inputs")
            name = arguments.get("name")
            own = scope.names.maps[0]
            if not isinstance(name, str | None):
                raise UserError(f"params.yaml: {place}.name: expected a name, found {name!r}")
            if name in own:
                raise UserError(
                    f"params.yaml: {place}.name: '{name}' is the name of something else: take "
                    "another"
                )
            self._check_kind(kind, path)
            if kind in self._blocks:
                features = self._use(kind, arguments, sources, scope, place)
            else:
                features = self._layer(kind, arguments, sources, scope, path)
            if name is not None:
                own[name] = features
            outputs.append((features, place))
        for output, place in outputs[:-1]:
            if id(output) not in self._taken:
                raise UserError(
                    f"params.yaml: {place}: no layer takes its output: name it in the `inputs` of "
                    "one, or delete it"
                )
        return features

    def _check_kind(self, kind: str, path: str) -> None:
        match = nearest(kind, [*LAYERS, *self._blocks])
        if kind not in self._blocks and kind not in LAYERS and match in self._blocks:
            raise UserError(
                f"params.yaml: {path}: there is no layer or block '{kind}'; did you mean '{match}'?"
            )

    def _use(
        self, block: str, arguments: dict[str, Any], sources: list[Any], scope: _Scope, place: str
    ) -> Any:
        """Builds the layers of a block, as often as its use says."""
        if block in scope.blocks:
            circle = " -> ".join([*scope.blocks[scope.blocks.index(block) :], block])
            raise UserError(f"params.yaml: {place}: the block would use itself: {circle}")
        if len(sources) > 1:
            raise UserError(f"params.yaml: {place}.inputs: a block takes one input: name one")
        self._used.add(block)
        specs = self._blocks[block]
        name, repeat = arguments.get("name"), arguments.get("repeat", 1)
        if isinstance(repeat, bool) or not isinstance(repeat, int) or repeat < 1:
            raise UserError(
                f"params.yaml: {place}.repeat: expected a whole number that is 1 or more, found "
                f"{repeat!r}"
            )
        parameters = {key: value for key, value in arguments.items() if key not in OF_A_USE}
        _check_parameters(parameters, placeholders(specs), place)
        [features] = sources
        for number in range(1, repeat + 1):
            scope.counts[block] += name is None
            label = f"{block}_{scope.counts[block]}" if name is None else name
            label += f"_{number}" if name is not None and repeat > 1 else ""
            inner = _Scope(
                f"{self._key}.blocks.{block}",
                f"{scope.prefix}{label}_",
                scope.names.new_child({"input": features}),
                (*scope.blocks, block),
                parameters,
                scope.later,
            )
            with _used_at(place):
                features = self._chain(specs, features, inner)
        return features

    def _layer(
        self, kind: str, arguments: dict[str, Any], sources: list[Any], scope: _Scope, path: str
    ) -> Any:
        refuse_label_layer({kind: arguments}, path)
        if scope.prefix:
            arguments["name"] = scope.prefix + (arguments.get("name") or _count(kind, scope))
        layer = build({kind: arguments}, keras.layers, keras.layers.Layer, path)
        if layer.name in {other.name for other in self.layers}:
            raise UserError(
                f"params.yaml: {path}.{kind}: the name of the layer would be '{layer.name}', which "
                "another has: give it a `name` of its own"
            )
        normalization.refuse_within(layer, f"{path}.{kind}")
        self.layers.append(layer)
        features = _call(layer, sources, path)
        self._taken.update(map(id, sources))
        if self._images is not None and normalization.is_unknown(layer):
            normalization.adapt(layer, keras.Model(self._inputs, sources[0]), self._images)
        return features


def _check_block(name: str, block: list[Spec], key: str) -> None:
    if name in LAYERS:
        raise UserError(f"params.yaml: {key}: Keras has a layer of this name: take another")
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise UserError(f"params.yaml: {key}: a name needs letters, digits and _ only")
    if reserved := sorted(placeholders(block) & {*OF_A_USE}):
        raise UserError(
            f"params.yaml: {key}: '${reserved[0]}' is no name for a parameter, since each use may "
            f"have `{reserved[0]}`: take another"
        )


def _check_parameters(given: dict[str, Any], known: set[str], place: str) -> None:
    for name in given:
        if name not in known:
            hint = suggest(name, sorted(known), f"known: {', '.join(sorted(known)) or 'none'}")
            raise UserError(f"params.yaml: {place}.{name}: the block has no such parameter; {hint}")
    if missing := sorted(known - given.keys()):
        raise UserError(
            f"params.yaml: {place}.{missing[0]} is missing: the block has '${missing[0]}' in it"
        )


def _find(inputs: Any, scope: _Scope, key: str) -> list[Any]:
    """Returns the tensors that `inputs`, at `key`, names."""
    names = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise UserError(f"params.yaml: {key}: expected a name or a list of names, found {inputs!r}")
    for name in names:
        if name in scope.names:
            continue
        if name in scope.later:
            raise UserError(
                f"params.yaml: {key}: '{name}' stands further down: a layer takes what stands "
                "before it"
            )
        hint = suggest(name, sorted(scope.names), f"known: {', '.join(sorted(scope.names))}")
        raise UserError(f"params.yaml: {key}: no layer has the name '{name}'; {hint}")
    return [scope.names[name] for name in names]


def _call(layer: keras.layers.Layer, sources: list[Any], path: str) -> keras.KerasTensor:
    """Calls `layer` on one tensor, on a list, or on several as its `build` takes their shapes."""
    shapes = inspect.signature(layer.build).parameters
    if len(shapes) == 1:
        tensors = sources if len(sources) == 1 else [sources]
    elif len(sources) > len(shapes):
        names = ", ".join(name.removesuffix("_shape") for name in shapes)
        raise UserError(
            f"params.yaml: {path}.{type(layer).__name__}.inputs: expected at most {len(shapes)} "
            f"({names}), found {len(sources)}"
        )
    else:
        # Attention to itself: one input is the query and the value.
        needed = sum(parameter.default is parameter.empty for parameter in shapes.values())
        tensors = sources * needed if len(sources) == 1 else sources
    with blame(path):
        features = layer(*tensors)
    if not isinstance(features, keras.KerasTensor):
        raise UserError(
            f"params.yaml: {path}: {type(layer).__name__} gives several outputs, expected one: "
            "leave out arguments such as return_state"
        )
    return features


def _names(spec: Spec) -> Iterator[str]:
    """Yields the name that a layer or the use of a block defines, if it does."""
    for arguments in spec.values() if isinstance(spec, dict) else ():
        if isinstance(arguments, dict) and isinstance(arguments.get("name"), str):
            yield arguments["name"]


def _count(kind: str, scope: _Scope) -> str:
    """Returns a name as Keras gives it: `conv2d`, `conv2d_1`; it counts in `scope` alone."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()
    scope.counts[kind] += 1
    return snake if scope.counts[kind] == 1 else f"{snake}_{scope.counts[kind] - 1}"


@contextmanager
def _used_at(place: str) -> Iterator[None]:
    """Adds to an error in a block where the block is used."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}; the block is used at {place}") from error
