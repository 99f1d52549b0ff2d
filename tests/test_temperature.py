"""Temperature scaling, on made-up logits: no network is needed."""

import json
from pathlib import Path

import numpy as np
import pytest

from stages.results import temperature


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    said: np.ndarray = raised / raised.sum(1, keepdims=True)
    return said


def draw(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits and labels that are drawn from their softmax: as right as they are sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, classes))
    labels = (softmax(logits).cumsum(1) < rng.random((count, 1))).sum(1)
    return logits, labels.astype(np.uint8)


def loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
def test_the_temperature_of_synthetic_logits_is_found(true: float) -> None:
    logits, labels = draw(20_000, 5, seed=0)
    probabilities = softmax(logits * true).astype(np.float32)
    found = temperature.fit(labels, probabilities)
    assert found == pytest.approx(true, rel=0.02)
    assert found == temperature.fit(labels, probabilities) == round(found, 4)
    np.testing.assert_allclose(
        temperature.scale(probabilities, found), softmax(logits * true / found), atol=1e-5
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_log_loss_of_the_validation_images_never_gets_worse(seed: int) -> None:
    logits, labels = draw(3 + seed, 2 + seed % 3, seed)
    probabilities = softmax(logits).astype(np.float32)
    scaled = temperature.scale(probabilities, temperature.fit(labels, probabilities))
    assert loss(labels, scaled) <= loss(labels, probabilities) + 1e-12
    np.testing.assert_array_equal(scaled.argmax(1), probabilities.argmax(1))


SURE = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("labels", "probabilities", "expected"),
    [
        ([], np.empty((0, 3), np.float32), 1),
        ([0, 1, 2], SURE, 1),  # right without a doubt
        ([0, 1, 2], SURE * 0.4 + 0.2, 1),  # right: the colder the better, without an end
        ([0, 0], np.ones((2, 1), np.float32), 1),  # one class
        ([1, 2], np.full((2, 3), 1 / 3, np.float32), 1),  # nothing to scale
        ([1, 2, 0], SURE, temperature.HIGHEST),  # wrong without a doubt: the hotter the better
        ([1, 0], np.array([[0.6, 0.4]] * 2, np.float32), temperature.HIGHEST),  # knows nothing
    ],
)
def test_what_asks_for_no_temperature_or_for_an_endless_one_gets_a_finite_one(
    labels: list[int], probabilities: np.ndarray, expected: float
) -> None:
    found = temperature.fit(np.array(labels, np.uint8), probabilities)
    assert found == pytest.approx(expected, rel=1e-3)
    scaled = temperature.scale(probabilities, found)
    assert np.isfinite(scaled).all()
    if expected == 1:
        assert scaled is probabilities


def test_a_model_that_was_not_evaluated_has_a_temperature_of_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert temperature.read("cnn") == 1
    Path("reports/metrics").mkdir(parents=True)
    for metrics, expected in (({"test_accuracy": 0.5}, 1), ({"temperature": 1.5}, 1.5)):
        Path("reports/metrics/cnn.json").write_text(json.dumps(metrics))
        assert temperature.read("cnn") == expected
