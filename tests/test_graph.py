"""Graphs and blocks in `params.yaml` are the networks that one would write in Keras."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TOP
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages.lib import params
from stages.lib.command import UserError
from stages.lib.images import Images
from stages.lib.splits import Part
from stages.networks import inspection
from stages.networks.checkpoint import Checkpoint
from stages.networks.freezing import freeze, layers_before
from stages.networks.keras_file import load_model, save_model
from stages.networks.network import Network, build_network
from stages.networks.recipe import check_recipes
from stages.networks.runtime import keras
from stages.networks.training import Training, train
from stages.pictures.inside import draw_layers
from stages.results.reading import Results

pytestmark = pytest.mark.usefixtures("tensorflow")

KEY = "models.m.network"
SHAPE = (8, 8, 3)
# The shortcut has filters of 2x2: in the gradient of 1x1 filters with strides and few channels,
# TensorFlow 2.21 with one thread, as tests have, writes past its memory (oneDNN on AVX2).
RESNET = """
blocks:
  convolution:
    - Conv2D: {filters: $filters, kernel_size: $size, strides: $strides, padding: same, name: conv}
    - BatchNormalization
  residual:
    - convolution: {filters: $filters, size: 3, strides: 1}
    - ReLU
    - convolution: {filters: $filters, size: 3, strides: 1, name: change}
    - Add: {inputs: [input, change]}
  downsample:
    - convolution: {filters: 2 * $filters, size: 3, strides: 2, name: change}
    - convolution: {filters: 2 * $filters, size: 2, strides: 2, inputs: input, name: shortcut}
    - Add: {inputs: [shortcut, change]}
layers:
  - Rescaling: {scale: 0.01}
  - RandomFlip
  - residual: {filters: 3, repeat: 2}
  - downsample: {filters: 3}
  - residual: {filters: 6}
  - GlobalAveragePooling2D
"""
DENSENET = """
blocks:
  dense_layer:
    - BatchNormalization
    - ReLU
    - Conv2D: {filters: 4 * $growth, kernel_size: 1, use_bias: false}
    - Conv2D: {filters: $growth, kernel_size: 3, padding: same, use_bias: false, name: new}
    - Concatenate: {inputs: [input, new]}
layers:
  - Normalization
  - Conv2D: {filters: 4, kernel_size: 3, padding: same, use_bias: false}
  - dense_layer: {growth: 2, repeat: 3}
  - AveragePooling2D: {pool_size: 2}
  - dense_layer: {growth: 2, repeat: 3, name: late}
  - GlobalAveragePooling2D
"""
VIT = """
blocks:
  encoder:
    - LayerNormalization
    - MultiHeadAttention: {num_heads: 2, key_dim: $width / 2, dropout: 0.1, name: attention}
    - Add: {inputs: [input, attention], name: attended}
    - LayerNormalization
    - Dense: {units: 2 * $width, activation: gelu}
    - Dense: {units: $width, name: change}
    - Add: {inputs: [attended, change]}
layers:
  - Rescaling: {scale: 0.01}
  - Conv2D: {filters: 6, kernel_size: 4, strides: 4}
  - Reshape: {target_shape: [4, 6]}
  - EinsumDense: {equation: "bpc,cd->bpd", output_shape: [4, 6], bias_axes: pd}
  - encoder: {width: 6, repeat: 2}
  - GlobalAveragePooling1D
"""
NETWORKS = {"resnet": RESNET, "densenet": DENSENET, "vit": VIT}
rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (20, *SHAPE), np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 2


def read(text: str) -> Network:
    return params.check(KEY, YAML(typ="safe").load(text), Network)


def build(
    network: str | dict[str, Any], shape: tuple[int, int, int] = SHAPE, classes: int = 2
) -> Any:
    """Builds a network as a stage does, in a process of its own."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    checked = read(network) if isinstance(network, str) else params.check(KEY, network, Network)
    images = Images(IMAGES) if shape == SHAPE else None
    return build_network(checked, shape, classes, KEY, images)


def message(network: str | dict[str, Any]) -> str:
    with pytest.raises(UserError) as raised:
        build(network)
    [line] = str(raised.value).splitlines()
    return line.removeprefix(f"params.yaml: {KEY}")


def count(variables: list[Any]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)


def weights(model: Any) -> list[bytes]:
    return [value.tobytes() for value in model.get_weights()]


def example(name: str) -> Any:
    [model] = YAML(typ="safe").load(TOP / f"examples/{name}.yaml")["models"].values()
    return model["network"]


def test_a_residual_network_is_the_one_that_is_written_in_keras() -> None:
    model = build(RESNET)
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    layers = keras.layers

    def convolution(x: Any, filters: int, size: int, strides: int) -> Any:
        convolved = layers.Conv2D(filters, size, strides=strides, padding="same")(x)
        return layers.BatchNormalization()(convolved)

    def residual(x: Any, filters: int) -> Any:
        change = layers.ReLU()(convolution(x, filters, 3, 1))
        return layers.Add()([x, convolution(change, filters, 3, 1)])

    inputs = keras.Input(SHAPE)
    x = layers.RandomFlip()(layers.Rescaling(0.01)(inputs))
    x = residual(residual(x, 3), 3)
    change = convolution(x, 6, 3, 2)
    x = residual(layers.Add()([convolution(x, 6, 2, 2), change]), 6)
    outputs = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(x))
    expected = keras.Model(inputs, outputs)
    assert weights(model) == weights(expected)
    assert (model.predict_on_batch(IMAGES) == expected.predict_on_batch(IMAGES)).all()


def test_resnet18_has_the_published_parameters() -> None:
    # https://github.com/kuangliu/pytorch-cifar, of ten classes.
    model = build(example("resnet"), (32, 32, 3), 10)
    assert count(model.trainable_variables) == 11_173_962


@pytest.mark.slow
def test_densenet_bc_of_100_layers_has_the_published_parameters() -> None:
    network = example("densenet")
    # https://github.com/andreasveit/densenet-pytorch
    for layer in network["layers"]:
        if "dense_layer" in layer:
            layer["dense_layer"]["repeat"] = 16
    first, second = (layer["transition"] for layer in network["layers"] if "transition" in layer)
    first["channels"], second["channels"] = 216, 300
    assert count(build(network, (32, 32, 3), 10).trainable_variables) == 769_162


def test_a_vision_transformer_has_the_published_parameters() -> None:
    network = example("vit")
    sides = {"target_shape": [14, 16, 14, 16, 3]}, {"dims": [1, 3, 2, 4, 5]}
    rows = {"equation": "bpc,cd->bpd", "output_shape": [197, 192], "bias_axes": "pd"}
    network["layers"] = [
        *({kind: each} for kind, each in zip(("Reshape", "Permute"), sides, strict=True)),
        {"Reshape": {"target_shape": [196, 768]}},
        {"ZeroPadding1D": {"padding": [1, 0]}},
        {"EinsumDense": rows},
        {"encoder": {"heads": 3, "width": 192, "repeat": 12}},
        {"LayerNormalization": {"epsilon": 1e-6}},
        {"Cropping1D": {"cropping": [0, 196]}},
        "Flatten",
    ]
    # timm's vit_tiny_patch16_224. The rows of positions hold its class token, and the bias of its
    # patches, which are vectors of their own there.
    assert build(network, (224, 224, 3), 1000).count_params() == 5_717_416 - 2 * 192


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_trains_and_is_the_same_after_saving(name: str, tmp_path: Path) -> None:
    recipe = {"optimizer": {"SGD": {"learning_rate": 0.01}}, "batch_size": 10, "epochs": 1}

    def trained(folder: Path) -> Any:
        model = build(NETWORKS[name])
        part = Part(Images(IMAGES), LABELS)
        training = Training(part, part, check_recipes("t", recipe), 0, ["a", "b"], "t")
        checkpoint = Checkpoint(folder, {})
        with checkpoint.locked():
            train(model, training, checkpoint)
        return model

    before = weights(build(NETWORKS[name]))
    model, again = trained(tmp_path / "first"), trained(tmp_path / "second")
    assert before != weights(model) == weights(again)
    for number, each in enumerate((model, again)):
        save_model(each, tmp_path / f"{number}.keras")
    assert (tmp_path / "0.keras").read_bytes() == (tmp_path / "1.keras").read_bytes()
    loaded = load_model(tmp_path / "0.keras")
    assert (loaded.predict_on_batch(IMAGES) == model.predict_on_batch(IMAGES)).all()
    kept = [layer.name for layer in model.layers if type(layer).__name__ != "RandomFlip"]
    assert [layer.name for layer in loaded.layers] == kept
    assert inspection.count_multiply_adds(loaded) == inspection.count_multiply_adds(model)
    assert inspection.inspect(loaded, IMAGES[:2], 0)["examples_probabilities"].shape == (2, 2)
    files = {"layers": inspection.layer_table(loaded)}
    assert draw_layers(Results("m", {}, pd.DataFrame(), {}, files)) is not None


def test_layers_of_blocks_have_names_that_say_where_they_are() -> None:
    names = [layer.name for layer in build(RESNET).layers]
    for name in (
        "residual_1_convolution_1_conv",
        "residual_1_convolution_1_batch_normalization",
        "residual_2_re_lu",
        "residual_2_change_conv",
        "downsample_1_shortcut_conv",
        "residual_3_add",
    ):
        assert name in names
    names = [layer.name for layer in build(DENSENET).layers]
    assert {"dense_layer_3_conv2d", "late_1_conv2d", "late_3_new"} <= {*names}
    assert len(names) == len(set(names))


def test_layers_up_to_one_in_a_block_can_be_frozen() -> None:
    model = build(RESNET)
    freeze([layers_before(model, "residual_3_convolution_1_conv", "t")])
    frozen = {layer.name for layer in model.layers if not layer.trainable}
    assert {"residual_1_change_conv", "downsample_1_shortcut_conv"} <= frozen
    assert model.get_layer("residual_3_change_conv").trainable


def test_normalization_in_a_block_sees_what_comes_before_it() -> None:
    model = build(
        """
        blocks:
          half: [{Rescaling: {scale: $scale}}, {Normalization: {axis: null}}]
        layers:
          - half: {scale: 0.5, name: a}
          - half: {scale: 3, inputs: images, name: b}
          - Add: {inputs: [a, b]}
          - Flatten
        """
    )
    for name, scale in (("a", 0.5), ("b", 3)):
        mean = model.get_layer(f"{name}_normalization").mean.numpy().item()
        assert mean == pytest.approx(scale * IMAGES.mean(), rel=1e-5)


def test_the_layers_of_a_graph_before_an_application_keep_their_own() -> None:
    network = """
    blocks: {norm: [BatchNormalization]}
    layers:
      - Conv2D: {filters: 3, kernel_size: 1, kernel_initializer: ones, name: first}
      - norm: {repeat: 2, name: norm}
      - Average: {inputs: [first, norm, images]}
    application: ResNet50
    batch_norm_momentum: 0.5
    kernel_initializer: zeros
    """
    model = build(network, (32, 32, 3))
    momenta = {
        layer.name: layer.momentum
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    own = {momenta.pop(f"norm_{number}_batch_normalization") for number in (1, 2)}
    assert (own, set(momenta.values())) == ({0.99}, {0.5})
    assert (model.get_layer("first").kernel.numpy() == 1).all()
    assert model.get_layer("classes").kernel.numpy().any()


SEQUENCE = "- Reshape: {target_shape: [64, 3]}\n- Dense: {units: 4, name: q}"


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        ("MultiHeadAttention: {num_heads: 2, key_dim: 3}", ["q", "q"]),
        ("MultiHeadAttention: {num_heads: 2, key_dim: 3, inputs: q}", ["q", "q"]),
        ("MultiHeadAttention: {num_heads: 2, key_dim: 3, inputs: [q, v]}", ["q", "v"]),
        ("MultiHeadAttention: {num_heads: 2, key_dim: 3, inputs: [q, v, k]}", ["q", "v", "k"]),
        (
            "GroupQueryAttention: {head_dim: 3, num_query_heads: 2, num_key_value_heads: 1}",
            ["q", "q"],
        ),
        ("Attention: {inputs: [q, v]}", ["q", "v"]),
        ("AdditiveAttention: {inputs: [q, v, k]}", ["q", "v", "k"]),
    ],
)
def test_attention_gets_query_value_and_key(layer: str, inputs: list[str]) -> None:
    more = "".join(
        f"- Dense: {{units: 4, inputs: q, name: {name}}}\n" for name in inputs if name != "q"
    )
    model = build(f"layers:\n{SEQUENCE}\n{more}- {layer}\n- Flatten\n")
    attention = model.layers[-3]
    assert [each._keras_history.operation.name for each in attention.input] == inputs


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        # 4 queries of 5 features, 7 values of 6: projections, then pairs in two heads of 3.
        (
            keras.layers.MultiHeadAttention(2, 3),
            4 * 5 * 6 + 2 * 7 * 6 * 6 + 4 * 6 * 5 + 2 * 4 * 7 * 6,
        ),
        (
            keras.layers.MultiHeadAttention(2, 3, value_dim=1),
            4 * 5 * 6 + 7 * 6 * 6 + 7 * 6 * 2 + 4 * 2 * 5 + 4 * 7 * (6 + 2),
        ),
    ],
)
def test_multiply_adds_of_attention_are_those_of_its_projections_and_its_pairs(
    layer: Any, expected: int
) -> None:
    query, value = keras.Input((4, 5)), keras.Input((7, 6))
    model = keras.Model([query, value], layer(query, value))
    assert inspection.count_multiply_adds(model) == expected


def test_multiply_adds_of_grouped_attention_count_each_key_for_all_its_queries() -> None:
    query, value = keras.Input((4, 5)), keras.Input((7, 5))
    layer = keras.layers.GroupQueryAttention(3, 2, 1)  # two heads of queries, one of keys
    model = keras.Model([query, value], layer(query, value))
    expected = 4 * 5 * 6 + 2 * 7 * 5 * 3 + 4 * 6 * 5 + 2 * 4 * 7 * 6
    assert inspection.count_multiply_adds(model) == expected


def test_multiply_adds_of_attention_without_weights_are_those_of_its_pairs() -> None:
    query, value = keras.Input((4, 5)), keras.Input((7, 5))
    model = keras.Model([query, value], keras.layers.Attention()([query, value]))
    assert inspection.count_multiply_adds(model) == 2 * 4 * 7 * 5


def test_multiply_adds_of_attention_along_one_axis_are_those_of_its_pairs_there() -> None:
    query = keras.Input((4, 8, 5))
    layer = keras.layers.MultiHeadAttention(1, 5, attention_axes=[2], use_bias=False)
    model = keras.Model(query, layer(query, query))
    assert inspection.count_multiply_adds(model) == 4 * 32 * 25 + 2 * 4 * 8 * 8 * 5


def test_the_layers_table_names_all_inputs() -> None:
    table = inspection.layer_table(build(RESNET)).set_index("name")
    assert table.loc["residual_1_add", "inputs"] == (
        "random_flip residual_1_change_batch_normalization"
    )


LAYERS = st.sampled_from(
    [
        {"Dense": {"units": 3}},
        {"Dense": {"units": 2, "activation": "relu", "use_bias": False}},
        {"BatchNormalization": {}},
        {"Dropout": {"rate": 0.5}},
        {"PReLU": {}},
    ]
)


@pytest.mark.long
@settings(max_examples=5, deadline=None)
@given(st.lists(st.tuples(LAYERS, st.booleans()), min_size=1, max_size=4))
def test_a_chain_by_names_and_a_chain_in_a_block_are_the_chain_in_order(
    chain: list[tuple[dict[str, Any], bool]],
) -> None:
    plain, named, before = [], [], "images"
    for number, (layer, says) in enumerate(chain):
        [(kind, arguments)] = layer.items()
        name = f"layer_{number}"
        plain.append({kind: arguments | {"name": name}})
        named.append({kind: arguments | {"name": name} | ({"inputs": before} if says else {})})
        before = name
    in_block = [
        {kind: given | ({"inputs": "input"} if given.get("inputs") == "images" else {})}
        for layer in named
        for kind, given in layer.items()
    ]
    models = [
        build({"layers": [*plain, "Flatten"]}),
        build({"layers": [*named, "Flatten"]}),
        build({"blocks": {"chain": in_block}, "layers": ["chain", "Flatten"]}),
    ]
    answers = [model(IMAGES, training=False).numpy() for model in models]
    for model, answer in zip(models, answers, strict=True):
        assert weights(model) == weights(models[0])
        assert (answer == answers[0]).all()


def test_parameters_have_the_types_that_are_given() -> None:
    text = """
    blocks:
      all:
        - Conv2D:
            filters: $filters / 2 + 1
            kernel_size: $size
            activation: $activation
            use_bias: $bias
        - Dropout: {rate: $rate / 2}
        - Dense: {units: "($filters - 1) * 2"}
    layers: [{all: {filters: 4, size: [3, 1], activation: relu, bias: false, rate: 1}}, Flatten]
    """
    _, convolution, dropout, dense, *_ = build(text).layers
    assert (convolution.filters, convolution.kernel_size) == (3, (3, 1))
    assert (convolution.activation, convolution.use_bias) == (keras.activations.relu, False)
    assert (dropout.rate, dense.units) == (0.5, 6)


def test_a_block_may_name_layers_that_stand_before_its_use() -> None:
    text = """
    blocks: {join: [{UpSampling2D: {name: up}}, {Concatenate: {inputs: [$skip, up]}}]}
    layers:
      - Conv2D: {filters: 2, kernel_size: 1, name: fine}
      - MaxPooling2D
      - join: {skip: fine}
      - Flatten
    """
    assert build(text).get_layer("join_1_concatenate").output.shape == (None, 8, 8, 4)


R = {"r": [{"Dense": {"units": "$units"}}]}


@pytest.mark.parametrize(
    ("blocks", "layers", "expected"),
    [
        (
            {},
            [{"Dense": {"units": 2, "name": "short"}}, {"Add": {"inputs": ["shrt", "images"]}}],
            ".layers[1].Add.inputs: no layer has the name 'shrt'; did you mean 'short'?",
        ),
        (
            {},
            [{"Add": {"inputs": ["q"]}}],
            ".layers[0].Add.inputs: no layer has the name 'q'; known: images",
        ),
        (
            {},
            [{"Add": {"inputs": ["b", "images"]}}, {"Dense": {"units": 2, "name": "b"}}],
            ".layers[0].Add.inputs: 'b' stands further down: a layer takes what stands before it",
        ),
        (
            {},
            [{"ReLU": {"name": "a"}}, {"ReLU": {"name": "a"}}],
            ".layers[1].ReLU.name: 'a' is the name of something else: take another",
        ),
        (
            {},
            [{"ReLU": {"name": "images"}}],
            ".layers[0].ReLU.name: 'images' is the name of something else: take another",
        ),
        ({}, [{"ReLU": {"name": 3}}], ".layers[0].ReLU.name: expected a name, found 3"),
        (
            {},
            [{"ReLU": {"name": "größe 1"}}],
            ".layers[0].ReLU.name: expected letters, digits, _, . and - only, found 'größe 1'",
        ),
        (
            {},
            ["ReLU", {"ReLU": {"name": "re_lu"}}],
            ".layers[1].ReLU: the name of the layer would be 're_lu', which another has: give it a "
            "`name` of its own",
        ),
        (
            {},
            [{"Dense": {"units": 2, "name": "a"}}, {"Flatten": {"inputs": "images"}}],
            ".layers[0].Dense: no layer takes its output: name it in the `inputs` of one, or "
            "delete it",
        ),
        (
            {},
            [{"Add": {"inputs": 3}}],
            ".layers[0].Add.inputs: expected a name or a list of names, found 3",
        ),
        (
            {},
            [{"Add": {"inputs": []}}],
            ".layers[0].Add.inputs: expected a name or a list of names, found []",
        ),
        (
            {},
            [{"Dense": {"units": 2, "name": "a"}}, {"Add": {"inputs": ["images", "a"]}}],
            ".layers[1]: Keras does not accept this: Inputs have incompatible shapes.",
        ),
        (
            {},
            [{"MultiHeadAttention": {"num_heads": 1, "key_dim": 1, "inputs": ["images"] * 4}}],
            ".layers[0].MultiHeadAttention.inputs: expected at most 3 (query, value, key), found 4",
        ),
        (
            {},
            [{"Dense": {"units": "$units"}}],
            ".layers[0].Dense.units: '$units' stands for a parameter of a block, and these layers "
            "are in none: write the value itself",
        ),
        (
            R,
            [{"r": {}}],
            ".layers[0].r.units is missing: the block has '$units' in it",
        ),
        (
            R,
            [{"r": {"unit": 3}}],
            ".layers[0].r.unit: the block has no such parameter; did you mean 'units'?",
        ),
        (
            {"r": ["ReLU"]},
            [{"r": {"units": 3}}],
            ".layers[0].r.units: the block has no such parameter; known: none",
        ),
        (
            R,
            [{"r": {"units": 3, "repeat": 0}}],
            ".layers[0].r.repeat: expected a whole number that is 1 or more, found 0",
        ),
        (
            R,
            [{"r": {"units": 3, "inputs": ["images", "images"]}}],
            ".layers[0].r.inputs: a block takes one input: name one",
        ),
        (
            R,
            [{"Dense": {"units": 2}}],
            ".blocks.r: no layer uses this block: write `- r` into `layers`, or delete it",
        ),
        (
            {"residual": ["ReLU"]},
            ["residul"],
            ".layers[0]: there is no layer or block 'residul'; did you mean 'residual'?",
        ),
        (
            {"Dense": ["ReLU"]},
            ["Dense"],
            ".blocks.Dense: Keras has a layer of this name: take another",
        ),
        ({"a-b": ["ReLU"]}, ["a-b"], ".blocks.a-b: a name needs letters, digits and _ only"),
        (
            {"r": [{"Dense": {"units": "$repeat"}}]},
            [{"r": {"repeat": 3}}],
            ".blocks.r: '$repeat' is no name for a parameter, since each use may have `repeat`: "
            "take another",
        ),
        (
            {"a": ["b"], "b": ["a"]},
            ["a"],
            ".blocks.b[0].a: the block would use itself: a -> b -> a; the block is used at "
            f"{KEY}.blocks.a[0].b; the block is used at {KEY}.layers[0].a",
        ),
        (
            {"r": [{"Dense": {"units": 2, "name": "new"}}, {"Add": {"inputs": ["inptu", "new"]}}]},
            ["r"],
            ".blocks.r[1].Add.inputs: no layer has the name 'inptu'; did you mean 'input'?; the "
            f"block is used at {KEY}.layers[0].r",
        ),
        (
            {"r": ["ReLU", {"Dense": {"units": 2, "inputs": "input"}}]},
            ["r"],
            ".blocks.r[0].ReLU: no layer takes its output: name it in the `inputs` of one, or "
            f"delete it; the block is used at {KEY}.layers[0].r",
        ),
        (
            R,
            [{"r": {"units": "many"}}],
            ".blocks.r[0].Dense: Keras does not accept this: ",
        ),
        ({"r": []}, ["r"], ".blocks.r: List should have at least 1 item after validation, not 0"),
        ({"r": "ReLU"}, ["r"], ".blocks.r: expected a valid list, found 'ReLU'"),
        ({"r": [3]}, ["r"], ".blocks.r[0]: expected one name with its arguments, found 3"),
    ],
)
def test_what_is_no_graph_is_named_by_its_full_path(
    blocks: dict[str, Any], layers: list[Any], expected: str
) -> None:
    assert message({"blocks": blocks, "layers": [*layers, "Flatten"]}).startswith(expected)


@pytest.mark.parametrize(
    "formula",
    [
        "$units x 2",
        "2 ** $units",
        "$units + units",
        "f($units)",
        "${units}",
        "$units + $word",
        "-$",
    ],
)
def test_a_formula_has_numbers_only(formula: str) -> None:
    block = [{"Dense": {"units": "$units", "activation": "$word"}}, {"Dense": {"units": formula}}]
    use = {"r": {"units": 3, "word": "relu"}}
    assert message({"blocks": {"r": block}, "layers": [use, "Flatten"]}) == (
        ".blocks.r[1].Dense.units: expected $names and numbers with + - * / and brackets, found "
        f"'{formula}'; the block is used at {KEY}.layers[0].r"
    )


def test_a_division_by_zero_is_named() -> None:
    block = [{"Dense": {"units": "3 / $units"}}]
    said = message({"blocks": {"r": block}, "layers": [{"r": {"units": 0}}, "Flatten"]})
    assert said.startswith(".blocks.r[0].Dense.units: '3 / $units' divides by zero")


@pytest.mark.parametrize(
    "behind",
    [
        ["Flatten"],
        [{"Dropout": {"rate": 0.5}}],
        [{"Reshape": {"target_shape": [2, 1]}}, "Flatten"],
        [{"Activation": {"activation": "linear"}}, "Identity"],
    ],
)
def test_an_output_layer_of_the_users_own_is_refused_behind_layers_that_change_nothing(
    behind: list[Any],
) -> None:
    softmax = {"Dense": {"units": 2, "activation": "softmax"}}
    said = message({"layers": ["Flatten", softmax, *behind]})
    assert said.startswith(".layers: ends with Dense, an output layer of its own")


def test_a_softmax_over_the_places_of_a_map_is_no_output_layer() -> None:
    build({"layers": [{"Conv2D": {"filters": 2, "kernel_size": 3}}, "Softmax", "Flatten"]})
