"""Opens models with Keras alone; prints the shapes of an image and of five predictions for each."""

import json
import sys

import keras
import numpy as np

shapes = {}
for path in sys.argv[1:]:
    model = keras.models.load_model(path)
    shape = model.input_shape[1:]
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), np.uint8)
    probabilities = model.predict(images, verbose=0)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-6)
    assert (probabilities >= 0).all()
    assert np.ptp(probabilities, axis=0).max() > 0, "the same for every image"
    shapes[path] = [shape, probabilities.shape]
assert not any(name.split(".")[0] == "stages" for name in sys.modules)
print(json.dumps(shapes))
