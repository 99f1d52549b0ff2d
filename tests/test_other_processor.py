"""A process that is shown another processor believes it: the tests that compare them rely on it."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from other_processor import AMD, PROCESSORS, Processor, environment, why_not

PROGRAMS = Path(__file__).with_name("programs")
pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"another processor {why_not()}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processors")


@pytest.fixture(scope="module")
def offset() -> int:
    """How far behind TF_Version oneDNN's function for cache sizes stands."""
    library = Path(sysconfig.get_path("purelib"), "tensorflow/libtensorflow_cc.so.2")
    listing = subprocess.run(["nm", library], check=True, capture_output=True, text=True).stdout
    lines = [line.split(" ") for line in listing.splitlines()]
    address = {line[2].split("@")[0]: int(line[0], 16) for line in lines if line[0]}
    function = "_ZN4dnnl4impl3cpu8platform23get_per_core_cache_sizeEi"
    return address[function] - address["TF_Version"]


def run(processor: Processor, folder: Path, program: str, *arguments: str) -> str:
    shown = os.environ | environment(processor, folder)
    shown |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "TF_ENABLE_ONEDNN_OPTS": "1"}
    command = [sys.executable, str(PROGRAMS / program), *arguments]
    return subprocess.run(command, env=shown, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_libraries_see_the_processor_that_they_are_shown(
    name: str, folder: Path, offset: int
) -> None:
    processor = PROCESSORS[name]
    l1, l2, l3 = (cache.kib * 1024 for cache in (processor.l1, processor.l2, processor.l3))
    # Of an AMD's L3, Eigen does not read the bits from 512 MiB on.
    believed_l3 = l3 % (512 << 20) if processor.vendor == AMD else l3
    assert json.loads(run(processor, folder, "what_processor.py", str(offset))) == {
        "vendor": processor.vendor,
        "family": processor.signature >> 8 & 15,  # TensorFlow reads four bits of each
        "model": processor.signature >> 4 & 15,
        "caches of Eigen": [l1, l2, believed_l3],
        "caches of oneDNN, per core": [l1, l2, l3 // processor.threads],
        "kernels of OpenBLAS": "Haswell",  # on a processor with AVX-512: SkylakeX
    }


@pytest.mark.long
def test_a_product_comes_out_as_on_a_processor_with_that_cache(folder: Path) -> None:
    # TensorFlow multiplies on one thread what fits into L2: 1040 KiB here.
    small, large = (
        run(PROCESSORS[name], folder, "multiply.py") for name in ("Zen 2", "4 MiB of L2")
    )
    assert small != large
