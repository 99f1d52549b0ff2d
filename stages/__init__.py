"""The pipeline's stages, one module each, run as `python -m stages.<stage> <dataset or model>`."""

from stages.lib import instructions as instructions  # before NumPy and OpenCV
