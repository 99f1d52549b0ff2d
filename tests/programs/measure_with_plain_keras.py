"""Prints the validation accuracy of the model `m`, which it opens with Keras alone."""

from pathlib import Path

import keras
import numpy as np

splits = Path("data/splits/tiny")
model = keras.models.load_model("data/models/m.keras")
assert getattr(model, "optimizer", None) is None
images, labels = (np.load(splits / f"valid_{name}.npy") for name in ("images", "labels"))
assert images.dtype == np.uint8
probabilities = model.predict(images, verbose=0)
assert probabilities.dtype == np.float32
assert np.allclose(probabilities.sum(1), 1, atol=1e-6)
print((probabilities.argmax(1) == labels).mean())
