"""Runs a command that is shown another processor, so that one machine can stand for many.

    python tests/other_processor.py "Zen 2" -- python -m stages.train mnist_fc

The libraries under site-packages (TensorFlow with Eigen and oneDNN, NumPy and SciPy with OpenBLAS,
OpenCV) ask CPUID who the processor is, and see the vendor, the model, the sizes of the caches and
how many threads there are as given here, and no instruction set beyond AVX2 and FMA. Not shown:
the arithmetic stays the real processor's (RSQRTPS and RCPPS differ between makes), so do the number
of cores that the system gives, /proc and /sys, and what the C library itself knows.

How: each CPUID instruction is looked up beforehand, and a library that the dynamic linker loads
by LD_AUDIT replaces them all, see other_processor.c. Neither processor nor kernel need help.
"""

import hashlib
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock


class Cache(NamedTuple):
    kib: int
    ways: int


@dataclass(frozen=True)
class Processor:
    """What CPUID says: `signature` is family, model and stepping; all `threads` share one L3."""

    vendor: str
    signature: int
    l1: Cache
    l2: Cache
    l3: Cache
    threads: int


INTEL, AMD = "GenuineIntel", "AuthenticAMD"
L1 = {32: Cache(32, 8), 48: Cache(48, 12)}
# Sizes as real processors have them, but for the two that are named by theirs.
PROCESSORS = {
    "Haswell": Processor(INTEL, 0x306C3, L1[32], Cache(256, 8), Cache(8 << 10, 16), 8),
    "Skylake, small": Processor(INTEL, 0x506E3, L1[32], Cache(256, 4), Cache(4 << 10, 16), 4),
    "Skylake-SP": Processor(INTEL, 0x50654, L1[32], Cache(1 << 10, 16), Cache(22 << 10, 11), 32),
    "Ice Lake-SP": Processor(INTEL, 0x606A6, L1[48], Cache(1280, 20), Cache(48 << 10, 12), 64),
    "Sapphire Rapids": Processor(
        INTEL, 0x806F8, L1[48], Cache(2 << 10, 16), Cache(105 << 10, 15), 112
    ),
    "4 MiB of L2": Processor(INTEL, 0x906A3, L1[48], Cache(4 << 10, 16), Cache(4 << 10, 16), 8),
    "Zen 2": Processor(AMD, 0x870F10, L1[32], Cache(512, 8), Cache(16 << 10, 16), 8),
    "Zen 4": Processor(AMD, 0xA60F12, L1[32], Cache(1 << 10, 8), Cache(32 << 10, 16), 16),
    "Zen 5": Processor(AMD, 0xB40F40, L1[48], Cache(1 << 10, 16), Cache(32 << 10, 16), 16),
    "1 GiB of L3": Processor(AMD, 0xA00F12, L1[32], Cache(512, 8), Cache(1 << 20, 16), 128),
}


def why_not() -> str | None:
    """Says why this machine cannot show another processor; None if it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or not platform.libc_ver()[0]:
        return "needs Linux on x86-64, and glibc"
    if not {"avx2", "fma"} <= set(Path("/proc/cpuinfo").read_text().split()):
        return "needs a processor with AVX2 and FMA"
    missing = [tool for tool in ("cc", "objdump") if not shutil.which(tool)]
    return f"needs {' and '.join(missing)}" if missing else None


def environment(processor: Processor, folder: Path) -> dict[str, str]:
    """Returns the variables under which a process is shown `processor`.

    Args:
        processor: Which one.
        folder: For the library and the list of CPUID instructions, made once, in 3 seconds; and
            for the answers. It stays as long as the process runs.
    """
    library, places = folder / "other_processor.so", folder / "places"
    with FileLock(folder / "lock"):
        if not places.exists():
            source = Path(__file__).with_suffix(".c")
            command = ["cc", "-O1", "-Wall", "-shared", "-fPIC", "-o", str(library), str(source)]
            subprocess.run(command, check=True)
            part = folder / "places.part"
            part.write_text("".join(find_places(Path(sysconfig.get_path("purelib")), folder)))
            part.rename(places)
    rows = "".join(" ".join(f"{word:x}" for word in row) + "\n" for row in answers_of(processor))
    answers = folder / f"answers-{hashlib.sha256(rows.encode()).hexdigest()[:16]}"
    if not answers.exists():
        part = answers.with_suffix(f".{os.getpid()}")
        part.write_text(rows)
        part.rename(answers)
    return {
        "LD_AUDIT": str(library),
        "OTHER_PROCESSOR_PLACES": str(places),
        "OTHER_PROCESSOR_ANSWERS": str(answers),
    }


ANY = ALL = 0xFFFFFFFF


def answers_of(processor: Processor) -> Iterator[tuple[int, ...]]:
    """Yields leaf and subleaf, then for EAX, EBX, ECX and EDX which bits stay, then which are set.

    The real processor answers the leaves that are not here. The layouts are of Intel's Software
    Developer's Manual, volume 2, CPUID, and AMD's Architecture Programmer's Manual, volume 3,
    appendix E.
    """
    nothing, amd = (0, 0, 0, 0), processor.vendor == AMD
    threads = processor.threads
    name = struct.unpack("<3I", processor.vendor.encode())
    vendor = (name[0], name[2], name[1])
    # 13 is the last leaf that anyone needs; those beyond tell of AMX and AVX10.
    yield 0, ANY, *nothing, 13, *vendor
    yield 1, ANY, 0, 0xFF00FFFF, ALL, ALL, processor.signature, min(threads, 255) << 16, 0, 1 << 28
    # Intel: "see leaf 4"; AMD has none.
    yield 2, ANY, *nothing, *(nothing if amd else (0xFF01, 0, 0, 0))
    yield from ((leaf, *rest) for leaf, *rest in caches(processor, 0x8000001D if amd else 4))
    yield 4, ANY, *nothing, *nothing
    # Of the extended features: FSGSBASE, BMI1, AVX2, SMEP, BMI2, ERMS, INVPCID, RDSEED, ADX.
    features = sum(1 << bit for bit in (0, 3, 5, 7, 8, 9, 10, 18, 19))
    yield 7, ANY, 0, features, 0, 0, *nothing
    # Topology: one thread per core, and all in one processor.
    yield 11, 0, 0, 0, 0, ALL, 0, 1, 0x100, 0
    yield 11, 1, 0, 0, 0, ALL, (threads - 1).bit_length(), threads, 0x201, 0
    yield 11, ANY, 0, 0, 0xFF, ALL, *nothing
    yield (
        0x80000000,
        ANY,
        *nothing,
        0x8000001E if amd else 0x80000008,
        *(vendor if amd else (0,) * 3),
    )
    # LAHF, LZCNT, PREFETCHW; on AMD, TOPOEXT: there is a leaf 0x8000001D. No 3DNow!.
    topoext = amd << 22
    yield 0x80000001, ANY, ALL, ALL, 0x121, ~(7 << 30 | 1 << 22) & ALL, 0, 0, topoext, 0
    l1, l2, l3 = processor.l1, processor.l2, processor.l3
    data, instructions = ((kib << 24 | ways << 16 | 1 << 8 | 64) for kib, ways in (l1, L1[32]))
    yield 0x80000005, ANY, *nothing, *((0, 0, data, instructions) if amd else nothing)
    # In units of KiB, and of 512 KiB; 6 and 8 are codes for 8 and 16 ways.
    second, third = l2.kib << 16 | 6 << 12 | 64, l3.kib // 512 << 18 | 8 << 12 | 1 << 8 | 64
    yield 0x80000006, ANY, *nothing, 0, 0, second, third if amd else 0
    yield 0x80000008, ANY, ALL, 0, 0, 0, 0, 0, threads - 1 if amd else 0, 0
    for leaf in range(0x80000009, 0x8000001F):
        yield leaf, ANY, *nothing, *nothing


def caches(processor: Processor, leaf: int) -> Iterator[tuple[int, ...]]:
    """Yields the answers on each cache: data, instructions, L2, L3."""
    for subleaf, (kind, level, cache, share) in enumerate(
        (
            (1, 1, processor.l1, 1),
            (2, 1, L1[32], 1),
            (3, 2, processor.l2, 1),
            (3, 3, processor.l3, processor.threads),
        )
    ):
        # On Intel, EAX also says how many cores there are.
        cores = 0 if processor.vendor == AMD else min(processor.threads, 64) - 1
        sets = cache.kib * 1024 // (64 * cache.ways)
        eax = kind | level << 5 | 1 << 8 | (share - 1) << 14 | cores << 26
        yield leaf, subleaf, 0, 0, 0, 0, eax, 63 | (cache.ways - 1) << 22, sets - 1, 0


CPUID = b"\x0f\xa2"


class Candidate(NamedTuple):
    """Two bytes that may be a CPUID instruction, or the middle or end of another."""

    file: Path
    address: int
    code: bytes  # from the start of its function


def find_places(top: Path, folder: Path) -> Iterator[str]:
    """Yields device, inode and address of each CPUID instruction in the libraries under `top`."""
    libraries = (
        path for path in sorted(top.rglob("*.so*")) if path.is_file() and not path.is_symlink()
    )
    candidates = [candidate for path in libraries for candidate in find_candidates(path)]
    # objdump knows where one instruction ends and the next begins. Each candidate's code is
    # followed by as many NOPs as the longest instruction has bytes: none reaches the next code.
    joined, starts = bytearray(), []
    for candidate in candidates:
        joined += candidate.code
        starts.append(len(joined) - len(CPUID))
        joined += b"\x90" * 15
    code = folder / "code"
    code.write_bytes(joined)
    listing = subprocess.run(
        ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", code],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    code.unlink()
    found = {int(at, 16) for at in re.findall(r"^ *([0-9a-f]+):\t0f a2 +\tcpuid", listing, re.M)}
    for candidate, start in zip(candidates, starts, strict=True):
        if start in found:
            status = candidate.file.stat()
            yield f"{status.st_dev:x} {status.st_ino:x} {candidate.address:x}\n"


def find_candidates(path: Path) -> Iterator[Candidate]:
    """Yields where the code of an ELF library has the bytes of CPUID."""
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return
        with mmap(file.fileno(), 0, access=ACCESS_READ) as elf:
            (table,), (size, count) = (
                struct.unpack_from("<Q", elf, 32),
                struct.unpack_from("<HH", elf, 54),
            )
            segments = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
            functions = np.empty(0, np.int64)
            for kind, _, offset, address, _, _ in segments:
                if kind == PT_GNU_EH_FRAME:
                    functions = function_starts(elf, offset, address)
            for kind, flags, offset, address, _, length in segments:
                if kind != PT_LOAD or not flags & PF_X:
                    continue
                for match in re.compile(CPUID).finditer(elf, offset, offset + length):
                    at = match.start() - offset + address
                    before = functions[: np.searchsorted(functions, at, "right")]
                    # Hand-written code may not say where functions start. From anywhere, reading
                    # falls in step with the instructions after a few.
                    start = (
                        int(before[-1]) if len(before) and at - before[-1] < 1 << 16 else at - 4096
                    )
                    begin = offset + max(start - address, 0)
                    yield Candidate(path, at, elf[begin : match.end()])


PT_LOAD, PT_GNU_EH_FRAME, PF_X = 1, 0x6474E550, 1


def function_starts(elf: mmap, offset: int, address: int) -> np.ndarray:
    """Returns the sorted addresses at which functions start, from the section .eh_frame_hdr."""
    assert elf[offset : offset + 4] == b"\x01\x1b\x03\x3b", "an unknown format of .eh_frame_hdr"
    (count,) = struct.unpack_from("<I", elf, offset + 8)
    pairs = np.frombuffer(elf[offset + 12 : offset + 12 + 8 * count], "<i4")
    return address + pairs[::2].astype(np.int64)


def main() -> None:
    if len(sys.argv) < 4 or sys.argv[2] != "--" or sys.argv[1] not in PROCESSORS:
        sys.exit(
            f"usage: other_processor.py NAME -- COMMAND; NAME is one of {', '.join(PROCESSORS)}"
        )
    if reason := why_not():
        sys.exit(f"error: no other processor can be shown here: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        shown = os.environ | environment(PROCESSORS[sys.argv[1]], Path(folder))
        sys.exit(subprocess.run(sys.argv[3:], env=shown, check=False).returncode)


if __name__ == "__main__":
    main()
