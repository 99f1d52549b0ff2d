"""Evaluates one model: `python -m stages.evaluate MODEL`.

Reads `data/models/M.keras` and its dataset's `data/splits/D/`. Writes `reports/metrics/M.json`
(accuracy and cross-entropy on the validation and the test images, number of parameters) and
`data/predictions/M/`, everything that the pictures need, so that drawing them needs no TensorFlow.
"""

from pathlib import Path

import numpy as np
from pydantic import Field, PositiveInt
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from stages.lib import params
from stages.lib.command import run
from stages.lib.files import whole, write_json
from stages.lib.params import Section
from stages.lib.runtime import Device, keras, set_up
from stages.lib.splits import Part, read_part, read_summary


class Options(Section):
    """`evaluation`: how all models are evaluated."""

    device: Device
    threads: PositiveInt
    batch_size: PositiveInt
    seed: int = Field(ge=0)


def measure(part: Part, probabilities: np.ndarray) -> dict[str, float]:
    """Returns the accuracy and the cross-entropy (in nats, an image) of predictions for `part`.

    Args:
        part: The images and their true labels.
        probabilities: float32 [n, classes].
    """
    classes = range(probabilities.shape[1])
    return {
        "accuracy": round(float(accuracy_score(part.labels, probabilities.argmax(1))), 4),
        "loss": round(float(log_loss(part.labels, probabilities, labels=classes)), 4),
    }


def choose(images: np.ndarray, seed: int) -> np.ndarray:
    """Returns a hundred of `images`, or all if there are fewer, in their order."""
    chosen = np.random.default_rng(seed).permutation(len(images))[:100]
    return images[np.sort(chosen)]


def main(model: str) -> None:
    """Evaluates the model named `model` in `params.yaml`."""
    options = params.read("evaluation", Options)
    folder = Path("data/splits") / params.read(f"models.{model}.dataset", str)
    set_up(options.device, options.threads)
    trained = keras.models.load_model(Path("data/models") / f"{model}.keras", compile=False)
    summary = read_summary(folder)
    metrics: dict[str, float] = {}
    probabilities = {}
    for name in ("valid", "test"):
        part = read_part(folder, name)
        probabilities[name] = trained.predict(part.images, batch_size=options.batch_size, verbose=0)
        for metric, value in measure(part, probabilities[name]).items():
            metrics[f"{name}_{metric}"] = value
    metrics["parameters"] = trained.count_params()
    test = read_part(folder, "test")
    unlabelled = np.load(folder / "unlabelled_images.npy", mmap_mode="r")
    shown = choose(unlabelled if len(unlabelled) else test.images, options.seed)
    arrays = {
        "confusion_matrix": confusion_matrix(test.labels, probabilities["test"].argmax(1)),
        "shown_images": shown,
        "shown_probabilities": trained.predict(shown, batch_size=options.batch_size, verbose=0),
    }
    outputs = (Path("data/predictions") / model, Path("reports/metrics") / f"{model}.json")
    with whole(*outputs) as (predictions, metrics_file):
        predictions.mkdir()
        write_json(predictions / "summary.json", {"classes": summary["classes"]})
        np.save(predictions / "test_images.npy", test.images)
        np.save(predictions / "test_labels.npy", test.labels)
        np.save(predictions / "test_probabilities.npy", probabilities["test"])
        for name, array in arrays.items():
            np.save(predictions / f"{name}.npy", array)
        write_json(metrics_file, metrics)


if __name__ == "__main__":
    run(main)
