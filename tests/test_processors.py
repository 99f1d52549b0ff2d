"""What is computed without a network has the same bytes on every processor with AVX2.

QEMU shows a program another processor, vendor and instructions, and computes as that one does; it
is skipped where it is not installed (`apt-get install qemu-user`). It has no AVX-512.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TOP, Project

from stages.lib.instructions import HELD, hold

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or " avx2 " not in Path("/proc/cpuinfo").read_text(),
    reason="needs an x86-64 processor with AVX2",
)
needs_qemu = pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64")

PROGRAM = TOP / "tests/programs/run_without_networks.py"
# What a user may have set; no output may depend on it.
USERS_OWN = {
    "NPY_ENABLE_CPU_FEATURES": "X86_V3",
    "OPENBLAS_CORETYPE": "Prescott",
    "OPENCV_IPP": "disabled",
}
# What is not held, with less than AVX2 wherever the library has a switch for that.
LESS = {
    "OPENCV_CPU_DISABLE": "AVX512-SKX",
    "JSIMD_FORCENONE": "1",  # libjpeg-turbo, in OpenCV, Pillow and simplejpeg
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-ERMS,-FSRM",
}
WRITTEN = (
    *("data/raw", "data/arrays", "data/splits"),
    *("reports/figures", "reports/models", "reports/overview"),
)


def run_again(
    reproduced: Project, folder: Path, environment: dict[str, str], *emulator: str
) -> dict[str, str]:
    """Runs what needs no network, in a copy, and returns the hashes of all its files."""
    project = reproduced.copy(folder)
    for name in WRITTEN:
        shutil.rmtree(folder / name)
    project.environment |= environment | {"PYTHONPATH": str(folder)}
    project.run(*emulator, sys.executable, str(PROGRAM))
    return hashes(folder)


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for top in ("data", "reports")
        for path in sorted((folder / top).rglob("*"))
        if path.is_file()
    }


def test_no_switch_of_a_library_changes_an_output(reproduced: Project, tmp_path: Path) -> None:
    found = run_again(reproduced, tmp_path / "project", USERS_OWN | LESS)
    recorded = hashes(reproduced.folder)
    assert {name: digest for name, digest in found.items() if name in recorded} == recorded


def test_no_switch_of_a_library_changes_the_drawn_photographs(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from stages.sources.sample import write_drawn_photographs\n"
        "write_drawn_photographs(pathlib.Path(sys.argv[1]), 0, labelled_per_kind=4, unlabelled=2)"
    )
    drawn = []
    for name, switches in (("none", {}), ("all", USERS_OWN | LESS)):
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, "-c", program, str(folder)]
        subprocess.run(command, cwd=TOP, env=os.environ | switches, check=True)
        drawn.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert drawn[0] == drawn[1]


@pytest.fixture(scope="module")
def here(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The hashes of what this processor gives."""
    return run_again(reproduced, tmp_path_factory.mktemp("here") / "project", {})


@needs_qemu
@pytest.mark.long
@pytest.mark.parametrize(
    "processor",
    ["Haswell", "Skylake-Client", "EPYC-Milan"],  # two of Intel and one of AMD
)
def test_another_processor_gives_the_same_bytes(
    reproduced: Project, here: dict[str, str], tmp_path: Path, processor: str
) -> None:
    emulator = ("qemu-x86_64", "-cpu", processor)
    assert run_again(reproduced, tmp_path / "project", {}, *emulator) == here


def test_numpy_its_blas_and_opencv_take_avx2_and_nothing_newer() -> None:
    program = (
        "import json, stages, cv2, scipy.linalg, threadpoolctl\n"
        "from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__\n"
        "print(json.dumps([[name for name in __cpu_dispatch__ if __cpu_features__[name]],\n"
        "    __cpu_dispatch__, cv2.ipp.getIppVersion(),\n"
        "    [each['architecture'] for each in threadpoolctl.threadpool_info()\n"
        "        if each['internal_api'] == 'openblas']]))"
    )
    printed = subprocess.check_output([sys.executable, "-c", program], cwd=TOP, text=True)
    taken, known, ipp, blas = json.loads(printed)
    assert taken == ["X86_V3"]
    # Another version of NumPy may know newer ones: add them.
    assert set(known) == {"X86_V3", *HELD["NPY_DISABLE_CPU_FEATURES"].split()}
    assert "AVX2" in ipp
    assert blas == ["Haswell"] * 3  # NumPy's, SciPy's and OpenCV's


def test_a_processor_without_avx2_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in HELD:
        monkeypatch.delenv(name, raising=False)
    old = tmp_path / "cpuinfo"
    old.write_text("flags\t\t: fpu sse4_2 avx f16c\n")
    hold(old)
    hold(tmp_path / "absent")  # as on a Mac
    assert not HELD.keys() & os.environ.keys()
