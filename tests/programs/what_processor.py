"""Prints, as JSON, what the libraries in this process take the processor for.

The argument is where a function of oneDNN stands, which TensorFlow exports to nobody: how far
behind TF_Version. As OpenBLAS is NumPy's, it is the one that NumPy has.
"""

import ctypes
import json
import sys
import sysconfig
from pathlib import Path

libraries = Path(sysconfig.get_path("purelib"))
framework = ctypes.CDLL(str(libraries / "tensorflow/libtensorflow_framework.so.2"))
ops = ctypes.CDLL(str(libraries / "tensorflow/libtensorflow_cc.so.2"))
openblas = ctypes.CDLL(str(next(libraries.glob("numpy.libs/libscipy_openblas64_*"))))

vendor = (ctypes.c_uint64 * 4)()  # a std::string: where its characters are, and how many
framework._ZN3tsl4port17CPUVendorIDStringB5cxx11Ev(vendor)
sizes = [ctypes.c_int() for _ in range(3)]
framework._ZN5Eigen8internal15queryCacheSizesERiS1_S1_(*map(ctypes.byref, sizes))
start = ctypes.cast(ops.TF_Version, ctypes.c_void_p).value or 0
cache_size_per_core = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int)(start + int(sys.argv[1]))
openblas.scipy_openblas_get_corename64_.restype = ctypes.c_char_p
facts = {
    "vendor": ctypes.string_at(vendor[0], vendor[1]).decode(),
    "family": framework._ZN3tsl4port9CPUFamilyEv(),
    "model": framework._ZN3tsl4port11CPUModelNumEv(),
    "caches of Eigen": [size.value for size in sizes],
    "caches of oneDNN, per core": [cache_size_per_core(level) for level in (1, 2, 3)],
    "kernels of OpenBLAS": openblas.scipy_openblas_get_corename64_().decode(),
}
print(json.dumps(facts))
