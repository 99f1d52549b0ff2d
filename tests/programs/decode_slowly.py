"""Decodes on a worker, at the speed that its environment says: see tests/test_cluster.py."""

import os
import time

from distributed import get_worker


def decode_slowly(content: bytes) -> tuple[bytes, str]:
    """Returns the content, and the worker."""
    time.sleep(float(os.environ.get("SECONDS_PER_FILE", "0.001")))
    return content, str(get_worker().name)
