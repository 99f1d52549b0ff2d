"""Looks into a network that branches and computes in half precision."""

import numpy as np

from stages.networks import inspection
from stages.networks.network import Network, build_network
from stages.networks.runtime import set_up

set_up("cpu", 1, "this", "mixed_bfloat16")
network = Network(application={"MobileNetV2": {"alpha": 0.35}})
model = build_network(network, (32, 32, 3), 2, "network")
images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
inside = inspection.inspect(model, images, seed=0)
assert inside["weights"] is None
assert inside["class_images"] is None
assert inside["filters"].shape[1:] == (3, 3, 3)
assert all(np.isfinite(maps).all() for maps in inside["feature_maps"].values())
assert inside["grad_cam"].dtype == np.float32
layers = inspection.layer_table(model)
assert max(len(inputs.split()) for inputs in layers["inputs"]) == 2
