"""Holds NumPy, its BLAS and OpenCV to what every x86-64 processor with AVX2 can do.

Left alone, each takes the newest instructions of the machine: then `np.exp`, products of matrices
and OpenCV's `resize` of floats differ in their last bits, and equal keys come out of an unstable
sort in another order. These libraries read the environment on import, so `stages/__init__.py`
imports this module, before any stage imports them. `prepare` and `plot` take as long as before.
"""

import os
from pathlib import Path

HELD = {
    # All that NumPy knows beyond AVX2.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    # OpenBLAS's kernels for AVX2, in NumPy's copy, SciPy's and OpenCV's.
    "OPENBLAS_CORETYPE": "Haswell",
    # Intel's IPP, within OpenCV.
    "OPENCV_IPP": "avx2",
}


def hold(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Sets the environment of this process, whatever the user has set there.

    Without AVX2 it does nothing: OpenBLAS would end in an illegal instruction.
    """
    if cpuinfo.exists() and " avx2 " in cpuinfo.read_text(encoding="utf-8"):
        # NumPy refuses to be told both what to take and what to leave.
        os.environ.pop("NPY_ENABLE_CPU_FEATURES", None)
        os.environ |= HELD


hold()
