"""The pipeline's stages, one module each, run as `python -m stages.<stage> <dataset or model>`."""
