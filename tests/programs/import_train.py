"""Imports `train` without Matplotlib and scikit-learn, which can be imported afterwards."""

import sys
from importlib import import_module

OTHERS = {"matplotlib", "sklearn"}

import_module("stages.train")
assert not OTHERS & sys.modules.keys()
for name in OTHERS:
    import_module(name)
