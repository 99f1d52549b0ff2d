"""Prints a digest of the class images of a network with a large weight matrix."""

import hashlib

import numpy as np

from stages.networks.network import Network, build_network
from stages.networks.runtime import set_up
from stages.networks.weights import class_images

set_up("cpu", threads=1, processor="any")
network = Network(layers=["Flatten", {"Dense": {"units": 1024}}])
images = class_images(build_network(network, (28, 28, 1), 10, "network"))
assert images is not None
assert images.shape == (10, 28, 28, 1)
assert images.dtype == np.float32
print(hashlib.sha256(images.tobytes()).hexdigest())
