"""Recipes: what they compute depends on neither rows nor interruptions; each option does its work.

In one process, on 40 tiny images: what a stage adds to this is tested in test_train.py.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib import params
from stages.lib.command import UserError
from stages.lib.images import Images
from stages.lib.splits import Part
from stages.networks.checkpoint import Checkpoint, Progress
from stages.networks.network import Network, build_network
from stages.networks.objectives import build_metrics
from stages.networks.recipe import check_recipes
from stages.networks.runtime import keras
from stages.networks.training import Training, train

pytestmark = pytest.mark.usefixtures("tensorflow")

SHAPE, CLASSES = (4, 4, 1), ["dark", "grey", "bright"]
KEY = "models.m.training"
SGD = {"SGD": {"learning_rate": 0.001}}
PLAIN = [{"Rescaling": {"scale": 0.01}}, "Flatten", {"Dense": {"units": 4, "name": "hidden"}}]
RANDOM = [*PLAIN, {"Dropout": {"rate": 0.3}}]
EPOCHS = {"optimizer": SGD, "batch_size": 16, "epochs": 4}  # 3 steps each
STEPS = {"optimizer": SGD, "batch_size": 16, "steps": 12}


class Killed(Exception):  # noqa: N818
    """Stands for the end of the process."""


def part(seed: int, images: int) -> Part:
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 3
    pixels = rng.integers(0, 90, (images, *SHAPE)) + 80 * labels[:, None, None, None]
    return Part(Images(pixels.astype(np.uint8)), labels.astype(np.uint8))


PARTS = part(0, 40), part(1, 20)


def run(
    folder: Path, recipe: Any, layers: list[Any] | None = None, kill_after: int = 0
) -> tuple[keras.Model, Progress]:
    """Trains from the start or from where it was killed."""
    keras.utils.set_random_seed(0)
    keras.backend.clear_session()
    network = params.check("network", {"layers": layers or PLAIN}, Network)
    model = build_network(network, SHAPE, len(CLASSES), "models.m.network")
    phases = check_recipes(KEY, recipe)
    checkpoint = Checkpoint(folder, {})

    def report(_: list[dict[str, float]]) -> None:
        nonlocal kill_after
        kill_after -= 1
        if kill_after == 0:
            checkpoint.wait()
            raise Killed

    with checkpoint.locked():
        progress = train(model, Training(*PARTS, phases, 0, CLASSES, KEY), checkpoint, report)
    return model, progress


def outcome(result: tuple[keras.Model, Progress]) -> Any:
    """Returns all that becomes an output, so that two of them can be compared to the bit."""
    model, progress = result
    weights = [value.tobytes() for value in model.get_weights()]
    return weights, progress.history, [each.tobytes() for each in progress.snapshots]


def weights(result: tuple[keras.Model, Progress]) -> list[bytes]:
    return [value.tobytes() for value in result[0].get_weights()]


def resumed(folder: Path, recipe: Any, layers: list[Any] | None = None, after: int = 2) -> Any:
    with pytest.raises(Killed):
        run(folder, recipe, layers, after)
    assert (folder / "state.npz").exists()
    return run(folder, recipe, layers)


def refused(tmp_path: Path, recipe: Any, layers: list[Any] | None = None) -> str:
    with pytest.raises(UserError) as raised:
        run(tmp_path / "refused", recipe, layers)
    return str(raised.value).removeprefix("params.yaml: ")


def names_of_optimizers() -> Iterator[str]:
    for name, value in sorted(vars(keras.optimizers).items()):
        if isinstance(value, type) and issubclass(value, keras.optimizers.Optimizer):
            yield name


def with_rate(name: str) -> Any:
    if name == "LossScaleOptimizer":
        return {name: {"inner_optimizer": {"SGD": {"learning_rate": 0.001, "momentum": 0.9}}}}
    return {name: {"learning_rate": 0.001}}


OPTIMIZERS = [name for name in names_of_optimizers() if name not in ("Optimizer", "MultiOptimizer")]


@pytest.mark.long
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_depends_on_no_row_of_the_history_whatever_the_optimizer(
    tmp_path: Path, name: str
) -> None:
    optimizer = with_rate(name)
    by_epochs = weights(run(tmp_path / "a", EPOCHS | {"optimizer": optimizer}))
    often = STEPS | {"optimizer": optimizer, "every": 1}
    assert weights(run(tmp_path / "b", often)) == by_epochs


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"use_ema": True, "ema_momentum": 0.8}, marks=pytest.mark.long),
        pytest.param(
            {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 5},
            marks=pytest.mark.long,
        ),
        {"gradient_accumulation_steps": 5, "use_ema": True, "ema_momentum": 0.8},
        {"learning_rate": {"CosineDecay": {"initial_learning_rate": 0.01}}, "momentum": 0.9},
    ],
    ids=["averages", "averages that overwrite", "accumulated", "schedule"],
)
def test_training_depends_on_no_row_of_the_history_with_what_an_optimizer_remembers(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    optimizer = {"SGD": {"learning_rate": 0.001} | options}
    by_epochs = weights(run(tmp_path / "epochs", EPOCHS | {"optimizer": optimizer}, RANDOM))
    for every in (1, 7):
        recipe = STEPS | {"optimizer": optimizer, "every": every}
        assert weights(run(tmp_path / str(every), recipe, RANDOM)) == by_epochs
    recipe = STEPS | {"optimizer": optimizer, "every": 2}
    assert weights(resumed(tmp_path / "resumed", recipe, RANDOM, after=3)) == by_epochs


def test_averaged_weights_are_those_of_one_fit_of_keras_and_the_last_row_describes_them(
    tmp_path: Path,
) -> None:
    optimizer = {"SGD": {"learning_rate": 0.001, "use_ema": True, "ema_momentum": 0.9}}
    model, progress = run(tmp_path, EPOCHS | {"optimizer": optimizer})
    # What Keras does: train without averages, average aside, write the averages at the end.
    keras.utils.set_random_seed(0)
    network = params.check("network", {"layers": PLAIN}, Network)
    plain = build_network(network, SHAPE, len(CLASSES), "network")
    plain.compile(keras.optimizers.SGD(0.001), "sparse_categorical_crossentropy")
    from stages.networks.feed import batches, draw_batch

    average = [value.numpy() for value in plain.trainable_variables]
    for step in range(12):
        plain.fit(batches(PARTS[0], [draw_batch(step, 40, 16, 0)]), verbose=0)
        momentum = 0.9 if step else 0.0  # Keras starts from the weights after the first step
        for old, new in zip(average, plain.trainable_variables, strict=True):
            old[...] = momentum * old + (1 - momentum) * new.numpy()
    for ours, theirs in zip(model.trainable_variables, average, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-6)
    model.compile(metrics=["accuracy"], loss="sparse_categorical_crossentropy")
    measured = model.evaluate(PARTS[1].images[:], PARTS[1].labels, return_dict=True, verbose=0)
    assert measured["loss"] == pytest.approx(progress.history[-1]["val_loss"], rel=1e-5)


def test_loss_scaling_with_an_optimizer_inside_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    inner = {"SGD": {"learning_rate": {"CosineDecay": {"initial_learning_rate": 0.01}}}}
    scaled = {"LossScaleOptimizer": {"inner_optimizer": inner, "dynamic_growth_steps": 4}}
    recipe = EPOCHS | {"optimizer": scaled}
    whole = outcome(run(tmp_path / "whole", recipe))
    assert outcome(resumed(tmp_path / "killed", recipe)) == whole
    model, _ = run(
        tmp_path / "name",
        EPOCHS | {"optimizer": {"LossScaleOptimizer": {"inner_optimizer": "SGD"}}},
    )
    assert isinstance(model.optimizer.inner_optimizer, keras.optimizers.SGD)


def test_a_layers_own_seed_draws_other_numbers_and_goes_on_to_the_same_bytes(
    tmp_path: Path,
) -> None:
    seeded = [[*PLAIN, {"Dropout": {"rate": 0.5, "seed": seed}}] for seed in (0, 1)]
    first, other = (outcome(run(tmp_path / f"{i}", EPOCHS, s)) for i, s in enumerate(seeded))
    without = outcome(run(tmp_path / "without", EPOCHS, [*PLAIN, {"Dropout": {"rate": 0.5}}]))
    assert first[0] != other[0] != without[0] != first[0]
    assert outcome(resumed(tmp_path / "killed", EPOCHS, seeded[0])) == first


# Callbacks


RISING = {"SGD": {"learning_rate": 1.0}}  # too high: validation goes up and down


def best_row(progress: Progress, column: str, better: Any) -> int:
    values = [row[column] for row in progress.history]
    return values.index(better(values))  # the first of equal ones


def test_the_best_epoch_is_kept_and_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    recipe = EPOCHS | {"epochs": 6, "restore_best": "val_accuracy", "optimizer": RISING}
    whole = run(tmp_path / "whole", recipe, RANDOM)
    model, progress = whole
    best = best_row(progress, "val_accuracy", max)
    assert [row["kept"] for row in progress.history] == [int(i == best) for i in range(6)]
    assert best < 5, "the test needs a best epoch before the last"
    shorter, _ = run(tmp_path / "shorter", recipe | {"epochs": best + 1}, RANDOM)
    assert weights((model, progress)) == weights((shorter, progress))
    for after in (best + 1, 5, 6):
        assert outcome(resumed(tmp_path / f"{after}", recipe, RANDOM, after)) == outcome(whole)


def test_early_stopping_ends_the_training_and_can_keep_its_best_epoch(tmp_path: Path) -> None:
    stop = {"monitor": "val_loss", "patience": 1, "min_delta": 10.0, "restore_best_weights": True}
    decay = {"SGD": {"learning_rate": {"CosineDecay": {"initial_learning_rate": 0.01}}}}
    recipe = EPOCHS | {"epochs": 6, "optimizer": decay, "callbacks": [{"EarlyStopping": stop}]}
    whole = run(tmp_path / "whole", recipe, RANDOM)
    assert [(row["epoch"], row["kept"]) for row in whole[1].history] == [(1, 1), (2, 0)]
    # The schedule is the planned one: the first epoch of six, not of two.
    plain = run(tmp_path / "plain", EPOCHS | {"epochs": 6, "optimizer": decay}, RANDOM)
    assert whole[1].history[0].items() - {("kept", 1)} <= plain[1].history[0].items()
    for after in (1, 2):
        assert outcome(resumed(tmp_path / f"{after}", recipe, RANDOM, after)) == outcome(whole)
    kept_last = EPOCHS | {"callbacks": [{"EarlyStopping": stop | {"restore_best_weights": False}}]}
    assert [row["kept"] for row in run(tmp_path / "last", kept_last)[1].history] == [0, 1]


def test_the_learning_rate_falls_on_a_plateau_and_goes_on_to_the_same_bytes(
    tmp_path: Path,
) -> None:
    reduce = {"monitor": "loss", "factor": 0.1, "patience": 1, "min_delta": 10.0, "cooldown": 1}
    recipe = EPOCHS | {"callbacks": [{"ReduceLROnPlateau": reduce}]}
    whole = run(tmp_path / "whole", recipe)
    assert float(whole[0].optimizer.learning_rate) == pytest.approx(1e-6)
    for after in (2, 3):
        assert outcome(resumed(tmp_path / f"{after}", recipe, after=after)) == outcome(whole)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            {"callbacks": [{"EarlyStoping": {}}]},
            ".callbacks[0]: no callback 'EarlyStoping' here; did you mean 'EarlyStopping'?",
        ),
        (
            {"callbacks": ["CSVLogger"]},
            ".callbacks[0]: no callback 'CSVLogger' here; known: EarlyStopping, ReduceLROnPlateau",
        ),
        (
            {"callbacks": [{"EarlyStopping": {"patients": 3}}]},
            ".callbacks[0].EarlyStopping.patients: no such argument; did you mean 'patience'?",
        ),
        (
            {"callbacks": [{"EarlyStopping": {"monitor": "val_acuracy"}}]},
            ".callbacks[0].EarlyStopping.monitor: the history has no column 'val_acuracy'; did you "
            "mean 'val_accuracy'?",
        ),
        (
            {"callbacks": [{"EarlyStopping": {"mode": "maximum"}}]},
            ".callbacks[0].EarlyStopping.mode: expected auto, min or max, found 'maximum'",
        ),
        (
            {"callbacks": [{"ReduceLROnPlateau": {"factor": 2.0}}]},
            ".callbacks[0].ReduceLROnPlateau: Keras does not accept this",
        ),
        (
            {
                "optimizer": {
                    "SGD": {"learning_rate": {"CosineDecay": {"initial_learning_rate": 0.1}}}
                },
                "callbacks": ["ReduceLROnPlateau"],
            },
            ".callbacks[0].ReduceLROnPlateau: Keras does not accept this",
        ),
        (
            {"restore_best": "accurcy"},
            ".restore_best: the history has no column 'accurcy'; did you mean 'accuracy'?",
        ),
        (
            {
                "restore_best": "val_loss",
                "callbacks": [{"EarlyStopping": {"restore_best_weights": True}}],
            },
            ".callbacks[0].EarlyStopping.restore_best_weights: another line says which weights",
        ),
        ({"loss": "MeanSquareError"}, ".loss: keras.losses has no 'MeanSquareError'; did you mean"),
        (
            {"loss": {"CategoricalCrossentropy": {"label_smooting": 0.1}}},
            ".loss.CategoricalCrossentropy.label_smooting: no such argument; did you mean",
        ),
        (
            {"loss": {"CategoricalCrossentropy": {"from_logits": True}}},
            ".loss.CategoricalCrossentropy.from_logits: the network ends in a softmax",
        ),
        (
            {"loss": {"CategoricalCrossentropy": {"reduction": "none"}}},
            ".loss.CategoricalCrossentropy: gives 3 values, expected one finite number",
        ),
        (
            {"loss": "Dice", "class_weight": "balanced"},
            ".loss.Dice: gives one number for a whole batch, in which `class_weight` weighs no",
        ),
        (
            {"loss": "CategoricalGeneralizedCrossEntropy", "augment": ["RandomFlip"]},
            ".loss.CategoricalGeneralizedCrossEntropy: takes one class for each image, and `augme",
        ),
        ({"metrics": ["AUCC"]}, ".metrics[0]: keras.metrics has no 'AUCC'; did you mean 'AUC'?"),
        ({"metrics": ["Mean"]}, ".metrics[0].Mean: compares no predictions with labels"),
        ({"metrics": ["F1Score"]}, ".metrics[0].F1Score: gives 3 values, expected one finite"),
        ({"metrics": [{"MeanIoU": {"num_classes": 3}}]}, ".metrics[0].MeanIoU: "),
        (
            {"metrics": ["AUC", {"AUC": {"name": "auc"}}]},
            ".metrics[1].AUC: its column would be 'auc': give it another name",
        ),
        (
            {"metrics": [{"CategoricalAccuracy": {"name": "accuracy"}}]},
            ".metrics[0].CategoricalAccuracy: its column would be 'accuracy'",
        ),
        (
            {"metrics": [{"AUC": {"name": "val_loss"}}]},
            ".metrics[0].AUC: its column would be 'val_loss': give it another name",
        ),
        (
            {"class_weight": {"dark": 1.0, "grey": 1.0, "brigth": 1.0}},
            ".class_weight.brigth: the dataset has no such class; did you mean 'bright'?",
        ),
        (
            {"class_weight": {"dark": 1.0}},
            ".class_weight: has no weight for grey, bright: give each class one",
        ),
        ({"class_weight": "balance"}, ".class_weight: "),
        ({"class_weight": {"dark": -1.0, "grey": 1, "bright": 1}}, ".class_weight.dark: "),
        (
            {"augment": [{"RandomFlipp": {}}]},
            ".augment[0]: keras.layers has no 'RandomFlipp'; did you mean 'RandomFlip'?",
        ),
        (
            {"augment": [{"Rescaling": {"scale": 2.0}}]},
            ".augment[0].Rescaling: draws no random numbers: write it into the network's",
        ),
        (
            {"augment": [{"RandomCrop": {"height": 2, "width": 2}}]},
            ".augment[0].RandomCrop: gives images of (2, 2, 1), expected (4, 4, 1)",
        ),
        ({"augment": [{"MixUp": {"alfa": 1}}]}, ".augment[0].MixUp.alfa: no such argument"),
        (
            {"trainable_from": "hiden"},
            ".trainable_from: the network has no layer 'hiden'; did you mean 'hidden'?",
        ),
        (
            {
                "optimizer": {
                    "SGD": {
                        "learning_rate": {
                            "ExponentialDecay": {
                                "initial_learning_rate": 0.1,
                                "decay_rate": 0.5,
                                "staircase": True,
                            }
                        }
                    }
                }
            },
            ".optimizer.SGD.learning_rate.ExponentialDecay.staircase: needs decay_steps, the steps",
        ),
        (
            {"optimizer": {"LossScaleOptimizer": {"inner_optimizer": {"SDG": {}}}}},
            ".optimizer.LossScaleOptimizer.inner_optimizer: keras.optimizers has no 'SDG'; did",
        ),
        # Of a wrong type: what would end in a traceback, some of it after epochs.
        ({"optimizer": {"SGD": {"clipnorm": "1"}}}, ".optimizer.SGD: Keras does not accept this: "),
        ({"optimizer": {"Adam": {"weight_decay": "x"}}}, ".optimizer.Adam: Keras does not accept "),
        ({"optimizer": {"Adam": {"beta_1": "0.9"}}}, ".optimizer.Adam.beta_1: expected a number, "),
        ({"optimizer": {1: {}}}, ".optimizer: expected one name with its arguments, found {1: {}}"),
        ({"optimizer": {"SGD": {1: 2}}}, ".optimizer.SGD.1: no such argument; known: "),
        (
            {
                "optimizer": {
                    "SGD": {
                        "learning_rate": {
                            "CosineDecay": {"initial_learning_rate": 0.1, "warmup_steps": "3"}
                        }
                    }
                }
            },
            ".optimizer.SGD.learning_rate.CosineDecay.warmup_steps: expected a number, found '3'",
        ),
        (
            {"callbacks": [{"EarlyStopping": {"monitor": ["val_loss"]}}]},
            ".callbacks[0].EarlyStopping.monitor: the history has no column '['val_loss']'",
        ),
        (
            {"callbacks": [{"EarlyStopping": {"patience": "3"}}]},
            ".callbacks[0].EarlyStopping.patience: expected a number, found '3'",
        ),
        (
            {"callbacks": [{"EarlyStopping": {"baseline": "0.5"}}]},
            ".callbacks[0].EarlyStopping.baseline: expected a number, found '0.5'",
        ),
        (
            {"callbacks": [{"ReduceLROnPlateau": {"patience": None}}]},
            ".callbacks[0].ReduceLROnPlateau.patience: expected a number, found None",
        ),
        # To Keras, each text is true.
        (
            {"optimizer": {"SGD": {"momentum": 0.9, "nesterov": "no"}}},
            ".optimizer.SGD.nesterov: expected true or false, found 'no'",
        ),
        (
            {"callbacks": [{"EarlyStopping": {"restore_best_weights": "no"}}]},
            ".callbacks[0].EarlyStopping.restore_best_weights: expected true or false, found 'no'",
        ),
        # By an unknown mode, it flips nothing.
        (
            {"augment": [{"RandomFlip": {"mode": "horizontl"}}]},
            ".augment[0].RandomFlip.mode: Keras would flip nothing by 'horizontl'; did you mean "
            "'horizontal'?",
        ),
        (
            {"class_weight": {"dark": 0, "grey": 0, "bright": 0}},
            ".class_weight: is 0 for the class of each training image, so nothing would be learned",
        ),
        (
            {"class_weight": {"dark": float("inf"), "grey": 0, "bright": 0}},
            ".class_weight.dark: expected a number that is 0 or more, found inf",
        ),
    ],
)
def test_what_a_recipe_cannot_be_is_named_by_its_full_path(
    tmp_path: Path, more: dict[str, Any], expected: str
) -> None:
    assert refused(tmp_path, EPOCHS | more).startswith(KEY + expected)


# Losses, metrics, class weights, augmentation, phases


SMOOTH = {"CategoricalCrossentropy": {"label_smoothing": 0.1}}
MIXED = ["RandomFlip", {"MixUp": {"alpha": 0.4}}, "CutMix"]


@pytest.mark.parametrize(
    "more",
    [
        {"loss": SMOOTH, "metrics": ["AUC", {"SparseTopKCategoricalAccuracy": {"k": 2}}]},
        pytest.param(
            {"loss": "CategoricalFocalCrossentropy", "class_weight": "balanced"},
            marks=pytest.mark.long,
        ),
        pytest.param(
            {"class_weight": {"dark": 1.0, "grey": 2, "bright": 0.5}}, marks=pytest.mark.long
        ),
        {"augment": MIXED, "class_weight": "balanced"},
    ],
    ids=["smooth", "focal", "weights", "augment"],
)
def test_what_is_learned_from_goes_on_to_the_same_bytes(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    whole = run(tmp_path / "whole", EPOCHS | more)
    assert outcome(run(tmp_path / "again", EPOCHS | more)) == outcome(whole)
    assert outcome(resumed(tmp_path / "killed", EPOCHS | more)) == outcome(whole)
    by_steps = run(tmp_path / "steps", STEPS | {"every": 5} | more)
    assert weights(by_steps) == weights(whole) != weights(run(tmp_path / "plain", EPOCHS))


@pytest.mark.parametrize("more", [{"loss": SMOOTH}, {"augment": MIXED, "class_weight": "balanced"}])
def test_labels_of_many_classes_are_learned_from_as_those_of_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    few = outcome(run(tmp_path / "few", EPOCHS | more))
    # More than 256 classes are counted in uint16, which TensorFlow's `one_hot` does not take.
    wide = tuple(Part(each.images, each.labels.astype(np.uint16)) for each in PARTS)
    monkeypatch.setitem(globals(), "PARTS", wide)
    assert outcome(run(tmp_path / "many", EPOCHS | more)) == few


def test_a_loss_for_wrong_labels_is_what_keras_computes_of_the_classes(tmp_path: Path) -> None:
    loss = {"CategoricalGeneralizedCrossEntropy": {"q": 0.7}}
    model, progress = run(tmp_path, EPOCHS | {"loss": loss})
    said = model.predict(PARTS[1].images[:], verbose=0)
    expected = keras.losses.CategoricalGeneralizedCrossEntropy(0.7)(PARTS[1].labels, said)
    assert progress.history[-1]["val_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_loss_of_each_image_has_weights_of_classes(tmp_path: Path) -> None:
    by_image = EPOCHS | {"loss": {"Dice": {"axis": [1]}}}  # without it, it is one of the batch
    weighted = by_image | {"class_weight": {"dark": 1, "grey": 5, "bright": 1}}
    assert weights(run(tmp_path / "weighted", weighted)) != weights(run(tmp_path / "not", by_image))


def test_a_metric_has_one_column_however_many_of_its_kind_were_built_before() -> None:
    specs: list[Any] = ["AUC", {"AUC": {"curve": "PR"}}]
    for _ in range(2):
        names = [each.name for each in build_metrics(specs, 3, "metrics")]
        assert names == ["auc", "auc_1"]


def test_a_metric_may_have_a_name_in_any_letters() -> None:
    [measure] = build_metrics([{"AUC": {"name": "fläche"}}], 3, "metrics")
    assert measure.name == "fläche"


def test_a_mixed_image_counts_for_metrics_as_the_class_that_it_shows_most() -> None:
    mixed = np.array([[0.7, 0.3, 0], [0.2, 0.8, 0], [0, 0.4, 0.6]], np.float32)
    specs = ["Recall", "BinaryAccuracy", {"F1Score": {"average": "macro"}}, "FalseNegatives"]
    found = [float(each.once(mixed, mixed)) for each in build_metrics(specs, 3, "metrics")]
    assert found == pytest.approx([1, 1, 1, 0])


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"optimizer": "Adamm"}, "[1].optimizer: keras.optimizers has no 'Adamm'; did you mean"),
        ({"restore_best": "val_acuracy"}, "[1].restore_best: the history has no column"),
        ({"augment": ["MixUpp"]}, "[1].augment[0]: keras.layers has no 'MixUpp'; did you mean"),
    ],
)
def test_a_mistake_in_a_later_phase_is_said_before_the_first_one_trains(
    tmp_path: Path, more: dict[str, Any], expected: str
) -> None:
    assert refused(tmp_path, [EPOCHS, EPOCHS | more]).startswith(KEY + expected)
    assert not (tmp_path / "refused/state.npz").exists()


@pytest.mark.long
def test_phases_go_on_to_the_same_bytes_from_any_row(tmp_path: Path) -> None:
    first = EPOCHS | {"epochs": 2, "trainable_from": "head"}
    phases = [first, EPOCHS | {"epochs": 2, "batch_size": 8}]
    whole = run(tmp_path / "whole", phases, RANDOM)
    assert [row["epoch"] for row in whole[1].history] == [1, 2, 3, 4]
    for after in (1, 2, 3):
        assert outcome(resumed(tmp_path / f"{after}", phases, RANDOM, after)) == outcome(whole)


@pytest.mark.long
def test_a_phase_that_stops_early_gives_way_to_the_next_and_frozen_averages_stay(
    tmp_path: Path,
) -> None:
    layers = [*PLAIN[:2], "BatchNormalization", PLAIN[2]]
    stop = {"EarlyStopping": {"monitor": "val_loss", "patience": 1, "min_delta": 10.0}}
    first = EPOCHS | {"epochs": 3, "trainable_from": "hidden", "callbacks": [stop]}
    phases = [first, EPOCHS | {"epochs": 2, "trainable_from": "all"}]
    whole = run(tmp_path / "whole", phases, layers)
    assert [row["epoch"] for row in whole[1].history] == [1, 2, 3, 4]
    [normalization] = [layer for layer in whole[0].layers if layer.name.startswith("batch")]
    assert not normalization.moving_mean.numpy().any()
    for after in (1, 2, 3):
        assert outcome(resumed(tmp_path / f"{after}", phases, layers, after)) == outcome(whole)


def test_what_a_recipe_did_not_train_is_not_frozen_in_the_model_but_what_the_network_says_is(
    tmp_path: Path,
) -> None:
    own = {"Dense": {"units": 4, "name": "own", "trainable": False}}
    model, _ = run(tmp_path, EPOCHS | {"epochs": 1, "trainable_from": "head"}, [*PLAIN, own])
    assert [layer.name for layer in model.layers if not layer.trainable] == ["own"]


def test_a_schedule_decays_to_its_end_after_a_warm_up(tmp_path: Path) -> None:
    decay = {"initial_learning_rate": 0.0, "warmup_target": 0.01, "warmup_steps": 3}
    model, _ = run(
        tmp_path, EPOCHS | {"optimizer": {"SGD": {"learning_rate": {"CosineDecay": decay}}}}
    )
    rates = [float(model.optimizer._learning_rate(step)) for step in (3, 11, 12)]
    assert rates[0] == pytest.approx(0.01)
    assert 0 < rates[1] < 0.001
    assert rates[2] == 0
