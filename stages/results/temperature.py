"""Temperature scaling: one number that makes probabilities as sure as they are right.

Guo et al., 2017, section 4.2: https://arxiv.org/abs/1706.04599. What goes into the softmax is
divided by the temperature: above 1, a network is less sure than before, below 1 surer. Its classes
stay what they are. Of probabilities, the logarithms go into the softmax: they differ from what the
network gave it by a constant for each image, which a softmax does not see.
"""

import math
from pathlib import Path

import numpy as np

from stages.lib.files import read_json

LOWEST, HIGHEST = 0.1, 100.0
# What float32 takes for 0 counts as the smallest number that it holds in full, as in `measures`.
TINY = np.finfo(np.float32).tiny


def fit(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the temperature with which the validation images have the lowest log loss.

    Args:
        labels: Indexes of classes, uint8 [n], of the validation images.
        probabilities: What the network says of them, float32 [n, classes].

    Returns:
        A number from `LOWEST` to `HIGHEST`, with four digits behind the point; 1, which changes
        nothing, if no other is better, or if no image is wrong: then the lower the better.
    """
    if (probabilities.argmax(1) == labels).all():
        return 1.0
    # Imported here: SciPy takes a second, and `classify` needs `scale` alone.
    from scipy.optimize import minimize_scalar

    def loss(temperature: float) -> float:
        logits = _logits(probabilities, temperature)
        said = logits[np.arange(len(labels)), labels]
        return float((np.log(np.exp(logits).sum(1)) - said).mean())

    # On this scale the loss has one minimum, since it is convex in 1 / temperature.
    bounds = (math.log(LOWEST), math.log(HIGHEST))
    found = minimize_scalar(
        lambda at: loss(math.exp(at)), bounds=bounds, method="bounded", options={"xatol": 1e-6}
    )
    temperature = round(math.exp(found.x), 4)
    return temperature if loss(temperature) < loss(1) else 1.0


def read(model: str) -> float:
    """Returns the temperature that `evaluate` found of `model`, or 1 if it was not evaluated."""
    path = Path("reports/metrics") / f"{model}.json"
    return float(read_json(path).get("temperature", 1)) if path.is_file() else 1.0


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the probabilities at `temperature`, float64 [n, classes]; at 1, as they are."""
    if temperature == 1:
        return probabilities
    raised = np.exp(_logits(probabilities, temperature))
    scaled: np.ndarray = raised / raised.sum(1, keepdims=True)
    return scaled


def _logits(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns what goes into the softmax, float64 [n, classes]; the largest of an image is 0."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), TINY)) / temperature
    logits: np.ndarray = logs - logs.max(1, keepdims=True)
    return logits
