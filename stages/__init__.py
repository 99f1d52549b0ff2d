"""The pipeline's stages, one module each, run as `python -m stages.<stage> <dataset or model>`."""

import sys

from stages.lib import command
from stages.lib import instructions as instructions  # before NumPy and OpenCV

# `python -m stages.train` runs this file before the slow imports of that module.
if sys.argv[:1] == ["-m"]:
    command.begin()
