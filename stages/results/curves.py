"""Published learning curves, `published.csv`."""

from pathlib import Path

import pandas as pd


def read_published_curves(model: str) -> pd.DataFrame:
    """Reads the published curves of a model: `unit` (epoch or step), `at`, `metric`, `value`."""
    curves = pd.read_csv(Path(__file__).with_name("published.csv"))
    return curves[curves["model"] == model]
