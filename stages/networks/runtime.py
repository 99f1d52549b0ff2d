"""Keras and TensorFlow, set up so that the same params give the same bytes.

Import both from here: this module sets what TensorFlow reads from the environment on import.

The number of threads changes the bytes, so `threads` is a param and not whatever the machine has.
Measured on a CPU with TensorFlow 2.21: convolutions and batch normalisation sum their gradients in
as many parts as TensorFlow has threads, so weights trained with 2, 4 and 8 threads differ. With the
same `threads`, one core and two give the same bytes.
"""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from stages.lib.command import UserError


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Hides the page of notices that TensorFlow's C++ code prints whatever its settings say."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


# What the user has set for these libraries could change the bytes (`TF_XLA_FLAGS` does): it counts
# for nothing but where weights are kept, and how the memory of a GPU is shared.
_LIBRARIES = ("TF_", "KERAS_", "ONEDNN_", "DNNL_", "NVIDIA_TF32_")
_KEPT = {"KERAS_HOME", "TF_GPU_ALLOCATOR", "TF_FORCE_GPU_ALLOW_GROWTH"}
for _name in {name for name in os.environ if name.startswith(_LIBRARIES)} - _KEPT:
    del os.environ[_name]
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # the default depends on the processor
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # errors come as exceptions

# Hide two libraries from Keras, which imports them for parts that nothing here uses. That would be
# a third of the time that a stage takes to start.
_modules: dict[str, Any] = sys.modules
_hidden = {"matplotlib", "sklearn"} - _modules.keys()
_modules |= dict.fromkeys(_hidden)
with silent_stderr():
    import keras
    import tensorflow as tf

    from stages.networks import portable
for _name in _hidden:
    del _modules[_name]


__all__ = [
    "Device",
    "Precision",
    "Processor",
    "Runtime",
    "keras",
    "set_up",
    "silent_stderr",
    "strategy_over",
    "tf",
]

Device = Literal["auto", "gpu", "cpu"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Processor = Literal["any", "this"]
# What /proc/cpuinfo calls the instruction sets beyond AVX2 that oneDNN knows, the newest first.
_BEYOND_AVX2 = {
    "amx_tile": "AMX",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX2 with VNNI",
}


@dataclass(frozen=True)
class Runtime:
    """What a process computes with.

    Attributes:
        strategy: Models are built in its scope; it mirrors them over several GPUs.
        environment: Versions and devices, which the bytes depend on besides params, data and code.
        portable: Whether it computes what every processor computes.
    """

    strategy: tf.distribute.Strategy
    environment: dict[str, str]
    portable: bool

    @property
    def bytes_depend_on(self) -> dict[str, str]:
        """The environment, without the processor where each one computes the same."""
        return {k: v for k, v in self.environment.items() if k != "device" or not self.portable}

    def check(self, model: keras.Model) -> None:
        """Raises a `UserError` if `model` computes what each processor computes in its own way."""
        precisions = {layer.dtype_policy.name for layer in model.layers} - {"float32"}
        if self.portable and precisions:
            raise UserError(
                f"the model is in {min(precisions)}, which each kind of processor computes in its "
                "own way: set evaluation.processor to this, or train it with precision float32"
            )


def set_up(
    device: Device,
    threads: int,
    processor: Processor,
    precision: Precision | None = None,
    seed: int = 0,
) -> Runtime:
    """Seeds every random generator, makes all operations deterministic, and picks the devices.

    Call it once in a process, before anything else uses TensorFlow. It prints a line with the
    device, what it computes with, and the precision, if one is given.

    Args:
        device: `gpu` takes all GPUs of the machine, `cpu` none, `auto` all GPUs if there are any.
        threads: The number of threads within an operation, two at least, and of operations at a
            time.
        processor: `any` computes what every x86-64 processor with AVX2 computes, to the same bits;
            `this` with all that this one has. It means nothing on a GPU.
        precision: Keras's dtype policy for layers that are built later; a saved model has its own.
        seed: Seeds the generators of Python, NumPy and TensorFlow.

    Raises:
        UserError: `device` is `gpu`, but TensorFlow sees none; or each kind of processor computes
            `precision` in its own way, but `processor` is `any`.
    """
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    with silent_stderr():
        gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise UserError(
            "device is 'gpu', but TensorFlow sees no GPU on this machine: install "
            "requirements-gpu.txt and NVIDIA's driver, or set device to auto or cpu in params.yaml"
        )
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    alike = not gpus and processor == "any"
    if alike and precision not in (None, "float32"):
        raise UserError(
            f"precision is '{precision}', which each kind of processor computes in its own way: "
            "set training.processor to this, or precision to float32, in params.yaml"
        )
    if alike:
        portable.use(threads)
    # With one thread and AVX2, TensorFlow 2.21 writes past the end of memory in the gradient of a
    # convolution of one pixel with a stride of two.
    tf.config.threading.set_intra_op_parallelism_threads(max(threads, 2))
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.config.set_floatx("float32")  # the user's keras.json may differ
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    policy = precision or "float32"
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    names = [str(detail.get("device_name", "GPU")) for detail in details]
    name = " + ".join(names) or f"{_processor_name()}, {threads} threads"
    said = [f"device: {name}"]
    if not gpus:
        said.append(f"processor: {processor} ({explain(processor, _features())})")
    if precision:
        said.append(f"precision: {precision}")
    print("; ".join(said), flush=True)
    devices = [f"GPU:{index}" for index in range(len(gpus))]
    environment = _environment(name, policy)
    if not gpus:
        environment["processor"] = processor
    return Runtime(strategy_over(devices), environment, alike)


def explain(processor: Processor, features: set[str]) -> str:
    """Says what `processor` computes with on one with `features`, and what is faster there."""
    beyond = next((name for flag, name in _BEYOND_AVX2.items() if flag in features), None)
    half = ", most in mixed_bfloat16" if features & {"amx_tile", "avx512_bf16"} else ""
    if "avx2" not in features:
        return "it lacks AVX2, so its bytes may be its own"
    if processor == "any":
        others = f"; this one also has {beyond}, which `this` uses{half}" if beyond else ""
        return f"AVX2, the same bytes on every x86-64 processor{others}"
    return f"{beyond or 'AVX2'}{half}, bytes that another processor may not give"


def strategy_over(devices: list[str]) -> tf.distribute.Strategy:
    """Returns a strategy for training on `devices`, which mirrors the model if there are several.

    The devices share each batch, so a recipe holds for any number of them.
    """
    if len(devices) > 1:
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.get_strategy()


def _processor_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _features() -> set[str]:
    return set(_cpuinfo("flags").split())


def _cpuinfo(key: str) -> str:
    """Returns what Linux says of the first core, nothing elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _environment(device: str, precision: str) -> dict[str, str]:
    libraries = ("tensorflow", "keras", "numpy", "opencv-python-headless", "h5py")
    versions = {name: metadata.version(name) for name in libraries}
    python = platform.python_version()
    return {"python": python, **versions, "device": device, "precision": precision}
