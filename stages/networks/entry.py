"""A model of `params.yaml`, ready to train: read, checked, built, and known by its fingerprint."""

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib import params
from stages.lib.command import UserError
from stages.lib.splits import Part, read_part, read_summary
from stages.networks.network import Network, build_network
from stages.networks.recipe import TrainingDefaults, read_recipes
from stages.networks.runtime import Runtime, keras, set_up
from stages.networks.training import Training

OURS = Path(__file__).parent.parent  # stages/


@dataclass(frozen=True)
class Entry:
    """A model before its training.

    Attributes:
        model: Built, in the scope of the runtime's strategy.
        training: What it learns from, and how.
        runtime: What it computes with.
        fingerprint: What the bytes of its training depend on.
        own: Whether the seed and the images are those of `params.yaml`, not of a repeat.
    """

    model: keras.Model
    training: Training
    runtime: Runtime
    fingerprint: dict[str, Any]
    own: bool


def read_entry(name: str, seed: int | None = None, share: float = 1) -> Entry:
    """Reads a model of `params.yaml` and its data, sets TensorFlow up, and builds the network.

    Args:
        name: The model's name.
        seed: In place of the one in `params.yaml`.
        share: Of the training images, 0 to 1.

    Raises:
        UserError: A param is wrong, or Keras cannot build the network.
    """
    key = params.model_key(name)
    defaults = params.read("training", TrainingDefaults)
    network = params.read(f"{key}.network", Network)
    phases = read_recipes(f"{key}.training", network.trainable_from)
    splits = Path("data/splits") / params.read(f"{key}.dataset", str)
    own_seed = defaults.seed if phases[0].seed is None else phases[0].seed
    seed = own_seed if seed is None else seed
    precision = phases[0].precision or defaults.precision
    runtime = set_up(defaults.device, defaults.threads, defaults.processor, precision, seed)
    if runtime.portable and any(phase.batch_size == 1 for phase in phases):
        raise UserError(
            f"params.yaml: {key}.training.batch_size is 1, which each kind of processor computes "
            "in its own way: give it 2 or more, or set training.processor to this"
        )

    summary = read_summary(splits)
    shape, classes = tuple(summary["image_shape"]), list(summary["classes"])
    train_part = take_share(read_part(splits, "train"), share, seed)
    valid_part = read_part(splits, "valid")
    training = Training(train_part, valid_part, phases, seed, classes, f"{key}.training")
    with runtime.strategy.scope():
        model = build_network(network, shape, len(classes), f"{key}.network", train_part.images)

    settings = [section.model_dump() for section in (defaults, network, *phases)]
    known_by = fingerprint(
        splits, *settings, runtime.bytes_depend_on, seed, share, start=network.start_file
    )
    return Entry(model, training, runtime, known_by, own=seed == own_seed and share == 1)


def take_share(part: Part, share: float, seed: int) -> Part:
    """Returns a share of the images of each class, rounded, but at least one; 1 takes all.

    The images keep their order. A larger share under the same seed has all images of a smaller one.

    Args:
        part: The images to choose from.
        share: Over 0, up to 1.
        seed: Seeds the choice.
    """
    if share == 1:
        return part
    order = np.random.default_rng(seed).permutation(len(part.labels))
    by_class = [order[part.labels[order] == label] for label in np.unique(part.labels)]
    chosen = [own[: max(1, round(share * len(own)))] for own in by_class]
    rows = np.sort(np.concatenate(chosen))
    return Part(part.images.choose(rows), part.labels[rows])


def fingerprint(splits: Path, *settings: Any, start: Path | None = None) -> dict[str, Any]:
    """Returns what the bytes of a training depend on: settings, data and code.

    Args:
        splits: The folder of the dataset's splits.
        settings: Params and versions, as values that JSON can hold.
        start: The model that the training starts from, if it does.
    """
    data = [path for part in ("summary", "train_", "valid_") for path in splits.glob(f"{part}*")]
    data += [start] if start else []
    code = {
        file
        for name, module in sys.modules.items()
        if (file := getattr(module, "__file__", None))
        # A stage that runs as a command is `__main__`.
        and (name.startswith("stages.") or Path(file).is_relative_to(OURS))
    }
    digests = {}
    for path in [*data, *map(Path, sorted(code))]:
        with path.open("rb") as file:
            # A stage runs in the top folder of the repository, which itself may be moved.
            digests[os.path.relpath(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return {"settings": settings, "files": digests}
