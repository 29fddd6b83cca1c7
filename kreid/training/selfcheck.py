"""Check that this machine can train: backend, device, precision, reading, a training step, memory, disk.

Example: kreid selfcheck --folder runs

Every line is a measurement, of a tiny model on rendered frames; it takes a minute or so. The folder is where runs will
be written. `kreid train --dry-run` measures your own settings. Exit status: 0 all is well, 1 a line failed.
"""

import argparse
import contextlib
import importlib
import io
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING

from kreid.training.command import plain_errors

if TYPE_CHECKING:
    from kreid.data import ReidDataset
    from kreid.training.config import Config

# The largest relative error of half precision's embeddings, and the room that training a small model takes.
HALF_ERROR = 0.04
FREE_BYTES = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument(
        "--folder", type=pathlib.Path, default=pathlib.Path(), metavar="DIR", help="where runs will be (default: here)"
    )


def run(options: argparse.Namespace) -> int:
    """Run all checks, print a line for each; return the exit status."""
    with plain_errors(), tempfile.TemporaryDirectory() as data:
        checks: dict[str, Callable[[], str]] = {
            "backend": check_backend,
            "device": check_device,
            "precision": check_precision,
            "reading": lambda: check_reading(tiny_config(data)),
            "training": lambda: check_training(tiny_config(data)),
            "memory": check_memory,
            "disk": lambda: check_disk(options.folder),
        }
        return report(checks)


def report(checks: dict[str, Callable[[], str]]) -> int:
    """Print a line for each check.

    Args:
        checks: a dict from the name to a function that returns what it found, or raises.

    Returns:
        1 if a check failed, else 0.

    Example:

    >>> from kreid.training.selfcheck import report
    >>> report({"sum": lambda: f"{1 + 1}", "file": lambda: open("/none").read()})
    sum        ok: 2
    file       failed: [Errno 2] No such file or directory: '/none'
    1
    """
    status = 0
    for name, check in checks.items():
        try:
            line = f"ok: {check()}"
        except Exception as error:  # whatever goes wrong on this machine is what the check is for
            status = 1
            line = f"failed: {' '.join(str(error).split()) or type(error).__name__}"
        print(f"{name:<10} {line}", flush=True)
    return status


def check_backend() -> str:
    """Multiply two matrices of whole numbers; return the versions.

    Raises:
        ValueError: if models refuse the backend, or the product is wrong.
    """
    import keras
    import numpy as np

    from kreid.models import tracklet_model

    backend = keras.backend.backend()
    tracklet_model.check_backend(backend)
    left = np.arange(64, dtype="float32").reshape(8, 8)
    found = keras.ops.convert_to_numpy(keras.ops.matmul(left, left.T))
    if not np.array_equal(found, left @ left.T):
        raise ValueError(f"A product of two matrices is wrong; install {backend} again. Received: {found[0, 0]}")
    version = importlib.import_module(backend).__version__
    return f"{backend} {version}, Keras {keras.__version__}"


def check_device() -> str:
    """Return the devices that the backend computes on, and the precision that `precision: auto` chooses on them.

    Raises:
        ValueError: if there is an NVIDIA GPU, not hidden, that the backend does not use.
    """
    import keras

    from kreid.training.recipe import set_precision

    devices = keras.distribution.list_devices()
    accelerators = [name for name in devices if not name.startswith("cpu")]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if os.path.exists("/dev/nvidia0") and not hidden and not accelerators:
        backend = keras.backend.backend()
        extra = {"tensorflow": "tensorflow[and-cuda]", "jax": "jax[cuda12]"}[backend]
        raise ValueError(
            f"There is an NVIDIA GPU, and {backend} uses none; pip install '{extra}'. Received: devices={devices}"
        )
    policy = keras.config.dtype_policy()
    try:
        set_precision("auto")
        chosen = keras.config.dtype_policy().name
    finally:
        keras.config.set_dtype_policy(policy)
    cores = os.cpu_count()
    return f"{', '.join(accelerators) or f'no GPU, {cores} CPU cores'}; precision auto is {chosen}"


def check_precision() -> str:
    """Embed random frames in half and in single precision; return the largest relative errors.

    Raises:
        ValueError: if one is above 4%.
    """
    import keras
    import numpy as np

    from kreid.training.recipe import build_model

    config = tiny_config("")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, config.num_frames, *config.image_size, 3)).astype("uint8")
    default = keras.config.dtype_policy()
    keras.utils.set_random_seed(0)
    errors = {}
    try:
        keras.config.set_dtype_policy("float32")
        single = build_model(config, num_identities=4)
        expected = single.embed(frames)
        for policy in ("mixed_bfloat16", "mixed_float16"):
            keras.config.set_dtype_policy(policy)
            half = build_model(config, num_identities=4)
            half.set_weights(single.get_weights())
            difference = np.linalg.norm(half.embed(frames) - expected, axis=1)
            errors[policy] = float(np.max(difference / np.linalg.norm(expected, axis=1)))
    finally:
        keras.config.set_dtype_policy(default)
    text = ", ".join(f"{policy} within {error:.2%} of float32" for policy, error in errors.items())
    if not max(errors.values()) <= HALF_ERROR:  # nor NaN
        raise ValueError(f"Embeddings in half precision are wrong; set precision=float32. Received: {text}")
    return text


def check_reading(config: "Config") -> str:
    """Read batches of rendered JPEGs as training does; return the pace."""
    from kreid.training.dry_run import read_pace
    from kreid.training.recipe import build_pipeline

    pipeline = build_pipeline(config, _rendered(config).train)
    seconds = read_pace(pipeline)
    height, width = config.image_size
    frames = pipeline.batch_size * config.num_frames
    return f"{frames / seconds:,.0f} frames/s, JPEGs of {width}x{height}"


def check_training(config: "Config") -> str:
    """Train a tiny model for a few steps, as `kreid train` does; return the pace.

    Raises:
        ValueError: if a loss is not finite.
    """
    from kreid.training.dry_run import measure

    _rendered(config)
    with contextlib.redirect_stdout(io.StringIO()):
        seconds = measure(config).step_seconds
    frames = config.persons_per_batch * config.tracklets_per_person * config.num_frames
    return f"{seconds:.3g} s per step of {frames} frames ({config.system} on {config.backbone})"


def check_memory() -> str:
    """Return the free memory.

    Raises:
        ValueError: if it is below 1 GiB.
    """
    meminfo = pathlib.Path("/proc/meminfo")
    if not meminfo.exists():  # macOS
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return f"{total / 2**30:.1f} GiB in all; this system does not say how much is free"
    rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    free, total = (int(rows[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
    return _enough(free, total, "memory", "end other programs")


def check_disk(folder: pathlib.Path) -> str:
    """Write 16 MiB into a folder and read them again; return the free room.

    Args:
        folder: where runs will be; where it is missing, the nearest folder above it.

    Raises:
        OSError: if nothing can be written there.
        ValueError: if other bytes come back, or less than 1 GiB is free.
    """
    folder = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    content = os.urandom(2**24)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        if pathlib.Path(file.name).read_bytes() != content:
            raise ValueError(f"Other bytes were read than written; change the disk. Received: folder={str(folder)!r}")
    usage = shutil.disk_usage(folder)
    return f"{_enough(usage.free, usage.total, 'disk', 'remove files')}, {folder} can be written"


def _enough(free: int, total: int, name: str, fix: str) -> str:
    text = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    if free < FREE_BYTES:
        raise ValueError(
            f"Training takes at least {math.ceil(FREE_BYTES / 2**30)} GiB of {name}; {fix}. Received: {text}"
        )
    return text


def tiny_config(data: str) -> "Config":
    """Return the settings of a model that trains in seconds.

    Args:
        data: folder of the rendered set.
    """
    from kreid.training.config import Config

    return Config(
        "baseline",
        backbone="resnet_tiny",
        image_size=[128, 64],
        data="synthetic",
        data_dir=os.path.join(data, "mars"),
        persons_per_batch=4,
        tracklets_per_person=2,
        num_frames=4,
    )


def _rendered(config: "Config") -> "ReidDataset":
    """Render the small set of `config`, unless it is there, and return it."""
    from kreid.synthetic import render_mars
    from kreid.training.dataset import load_dataset

    height, width = config.image_size
    render_mars(
        config.data_dir,
        train_persons=6,
        test_persons=2,
        distractors=2,
        junk=1,
        tracklets_per_camera=(1, 2),
        frames_per_tracklet=(4, 6),
        image_size=(height, width),
        progress=False,
    )
    return load_dataset(config)
