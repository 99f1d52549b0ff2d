"""Trains a network on one device and on two; the argument is its rate of dropout.

Prints how far their weights are apart at most, and the largest weight.
"""

import sys
from pathlib import Path

import numpy as np

from stages.lib.splits import read_part
from stages.networks.checkpoint import Checkpoint
from stages.networks.network import Network, build_network
from stages.networks.recipe import Recipe
from stages.networks.runtime import keras, strategy_over, tf
from stages.networks.training import Training, train

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
network = Network(layers=["Flatten", {"Dropout": {"rate": float(sys.argv[1])}}])
recipe = Recipe(optimizer={"SGD": {"learning_rate": 1e-5}}, batch_size=16, epochs=2)
splits = Path("data/splits/tiny")
parts = read_part(splits, "train"), read_part(splits, "valid")
training = Training(*parts, [recipe], seed=0, classes=["dark", "bright"], key="training")
weights = []
for devices in (["CPU:0"], ["CPU:0", "CPU:1"]):
    keras.utils.set_random_seed(0)
    strategy = strategy_over(devices)
    assert strategy.num_replicas_in_sync == len(devices)
    with strategy.scope():
        model = build_network(network, (8, 8, 1), 2, "network")
    checkpoint = Checkpoint(Path("state"), {})
    with checkpoint.locked():
        progress = train(model, training, checkpoint)
    assert len(progress.history) == recipe.epochs
    weights.append(model.get_weights()[0])
print(np.abs(weights[0] - weights[1]).max(), np.abs(weights[0]).max())
