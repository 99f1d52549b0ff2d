"""Trains on a share of the part `train` in a folder, for 200 steps, and predicts a few images.

Prints the most memory that the process had, in bytes.
"""

import sys
from pathlib import Path

import numpy as np

from stages.lib.splits import read_part
from stages.networks.checkpoint import Checkpoint
from stages.networks.entry import take_share
from stages.networks.network import Network, build_network
from stages.networks.recipe import Recipe
from stages.networks.runtime import set_up
from stages.networks.training import Training, train
from stages.networks.views import predict
from stages.train import peak_memory

folder = Path(sys.argv[1])
set_up("cpu", 2, "any")
layers = [{"Rescaling": {"scale": 0.004}}, "Flatten", {"Dense": {"units": 32}}]
parts = take_share(read_part(folder, "train"), 0.9, seed=0), read_part(folder, "valid")
model = build_network(Network(layers=layers), (50, 50, 3), 2, "network")
recipe = Recipe(optimizer="Adam", batch_size=200, steps=200, every=200)
checkpoint = Checkpoint(folder / "state", {})
with checkpoint.locked():
    train(model, Training(*parts, [recipe], 0, ["cat", "dog"], "training"), checkpoint)
last = parts[0].images.choose(np.arange(len(parts[0].labels))[-50_000:])
assert len(predict(model, last, 250)) == 50_000
print(peak_memory())
