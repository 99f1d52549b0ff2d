"""What the history of a training says: how long it took, and which row's weights were kept."""

import pandas as pd


def trained_for(history: pd.DataFrame) -> str:
    """Writes how long a model was trained, and where the weights come from that were kept."""
    unit = history.columns[0]
    length = history[unit].iloc[-1] + (unit == "step")  # steps are counted from 0
    text = f"{length} {unit}{'' if length == 1 else 's'}"
    kept = kept_row(history)
    return text if kept is None else f"{text}, {unit} {kept} kept"


def kept_row(history: pd.DataFrame) -> int | None:
    """Returns the epoch or step whose weights the model has, where that was to be chosen."""
    if "kept" not in history:
        return None
    return int(history.loc[history["kept"] == 1, history.columns[0]].iloc[0])
