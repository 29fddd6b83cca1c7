"""Measure what a run will need, without keeping anything."""

import dataclasses
import math
import resource
import statistics
import sys
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from kreid.training.callbacks import checkpoint_size
from kreid.training.config import Config
from kreid.training.dataset import check_scorable, load_dataset
from kreid.training.freezing import Freezing
from kreid.training.holdout import hold_out
from kreid.training.optimization import build_optimizer
from kreid.training.recipe import build_losses, build_model, build_pipeline, set_precision
from kreid.training.run_folder import RunFolder
from kreid.training.start import start_from
from kreid.training.strategy import set_strategy

if TYPE_CHECKING:
    from kreid.data import TrainingPipeline

# Steps that are timed, after one that compiles; batches that are read, after the first.
STEPS = 3
BATCHES = 8


class DryRun(NamedTuple):
    """What a run needs, from a few of its steps.

    Args:
        steps_per_epoch: of the pipeline.
        epochs: of the settings.
        step_seconds: median seconds of a training step.
        read_seconds: seconds in which the pipeline reads a batch while nothing else runs.
        parameters: numbers of the model.
        trainable: those that the last epoch trains.
        memory: bytes of this process at its peak so far.
        device_memory: bytes of the GPU at its peak so far, or `None`.
        checkpoint: bytes of a checkpoint, with the optimiser.
    """

    steps_per_epoch: int
    epochs: int
    step_seconds: float
    read_seconds: float
    parameters: int
    trainable: int
    memory: int
    device_memory: int | None
    checkpoint: int

    @property
    def steps(self) -> int:
        """Training steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def hours(self) -> float:
        """Hours of all steps, at the pace of the slower of step and reading; no evaluation, checkpoint or export."""
        return self.steps * max(self.step_seconds, self.read_seconds) / 3600

    def text(self) -> str:
        """Return the figures as a table.

        Example:

        >>> DryRun = kreid.training.DryRun
        >>> print(DryRun(100, 60, 0.6, 0.2, 2_500_000, 2_400_000, 2**31, None, 3 * 2**20).text())
          steps per epoch    100
          epochs             60
          steps in all       6,000
          seconds per step   0.6, and 0.2 to read a batch
          estimated hours    1 (training only: no evaluation, no export)
          parameters         2,400,000 trainable of 2,500,000
          peak memory        2.00 GiB
          one checkpoint     3.0 MiB
        """
        memory = f"{self.memory / 2**30:.2f} GiB"
        if self.device_memory is not None:
            memory += f", {self.device_memory / 2**30:.2f} GiB on the GPU"
        rows = {
            "steps per epoch": f"{self.steps_per_epoch:,}",
            "epochs": f"{self.epochs:,}",
            "steps in all": f"{self.steps:,}",
            "seconds per step": f"{self.step_seconds:.3g}, and {self.read_seconds:.3g} to read a batch",
            "estimated hours": f"{self.hours:.2g} (training only: no evaluation, no export)",
            "parameters": f"{self.trainable:,} trainable of {self.parameters:,}",
            "peak memory": memory,
            "one checkpoint": f"{self.checkpoint / 2**20:.1f} MiB",
        }
        return "\n".join(f"  {name:<19}{value}" for name, value in rows.items())


def measure_runs(runs: Sequence[RunFolder]) -> list[DryRun]:
    """Train a few steps of each run, print what the run needs, and write nothing.

    Evaluations and callbacks of your own are left out. Of the splits of a data set, the first one stands for all. A run
    that starts from the model of an earlier one of `runs`, which is not trained yet, is measured without it.

    Args:
        runs: `runs` of a `Plan`.

    Returns:
        A `DryRun` for each run that was measured.

    Raises:
        ValueError: as training would raise it.
    """
    splits = [run.config.split for run in runs if run.config.split is not None]
    if len(set(splits)) > 1:
        print(f"Split {splits[0]} stands for the {len(set(splits))} splits to train.")
    measured = []
    missing: set[str] = set()
    for run in runs:
        if run.config.split in (None, *splits[:1]):
            print(f"\n{run.path}", flush=True)
            measured.append(measure(run.config, missing))
            print(measured[-1].text(), flush=True)
        if not run.model.exists():
            missing.add(str(run.model))
    return measured


def measure(config: Config, missing: Collection[str] = ()) -> DryRun:
    """Build what a run needs, train one step, and time the next ones, as the last epoch trains them.

    Args:
        config: of the run.
        missing: values of `init` to leave out, as they are not there yet.

    Returns:
        A `DryRun`.

    Raises:
        ValueError: as training would raise it.
    """
    dataset = load_dataset(config)
    print(dataset.summary())
    train, holdout, held_out = hold_out(dataset, config)
    print(held_out)
    for tested in (dataset, holdout):
        check_scorable(tested, config.max_damaged)

    keras.backend.clear_session()
    set_strategy(config)
    keras.utils.set_random_seed(config.seed)
    xla = set_precision(config.precision)
    pipeline = build_pipeline(config, train)
    if config.cache:
        print("The cache is not filled: each frame is decoded, as in the first epoch.")
        pipeline = build_pipeline(dataclasses.replace(config, cache=None), train)
    model = build_model(config, pipeline.num_identities)
    if config.init in missing:
        print(f"Measured without starting from {config.init}, which is not trained yet.")
    elif config.init:
        start_from(model, config.init, config.init_layers)
    optimizer = build_optimizer(config, pipeline.steps_per_epoch, model.backbone)
    model.compile(optimizer, loss=build_losses(config), jit_compile=xla)

    clock = _Clock()
    with pipeline.damage.plainly():
        model.fit(
            pipeline.dataset(),
            initial_epoch=config.epochs - 1,
            epochs=config.epochs,
            steps_per_epoch=1 + STEPS,
            shuffle=False,
            callbacks=[*([Freezing(config)] if config.freezes else []), clock],
            verbose=0,
        )
        read_seconds = read_pace(pipeline)
    return DryRun(
        steps_per_epoch=pipeline.steps_per_epoch,
        epochs=config.epochs,
        step_seconds=statistics.median(np.diff(clock.ends).tolist()),
        read_seconds=read_seconds,
        parameters=model.count_params(),
        trainable=clock.trainable,
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        device_memory=_device_memory(),
        checkpoint=checkpoint_size(model),
    )


def read_pace(pipeline: "TrainingPipeline") -> float:
    """Return the seconds in which a pipeline reads a batch while nothing else runs."""
    batches = iter(pipeline.dataset())
    next(batches)
    started = time.perf_counter()
    for _ in range(BATCHES):
        next(batches)
    return (time.perf_counter() - started) / BATCHES


class _Clock(keras.callbacks.Callback):
    """Note when each step ends, and how many numbers it trains. Reading the loss waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []
        self.trainable = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            raise ValueError(
                f"The loss is {loss} in step {batch + 1}; try a smaller learning_rate, warmup_epochs, clip_norm, or "
                f"precision=float32. Received: loss={loss}"
            )
        self.ends.append(time.perf_counter())
        self.trainable = sum(math.prod(weight.shape) for weight in self.model.trainable_weights)


def _device_memory() -> int | None:
    """Return the largest peak of the GPUs' memory, in bytes, or `None` where the backend names none."""
    if keras.backend.backend() == "jax":
        import jax

        found = [device.memory_stats() for device in jax.devices() if device.platform != "cpu"]
        peaks = [stats["peak_bytes_in_use"] for stats in found if stats and "peak_bytes_in_use" in stats]
    else:
        import tensorflow as tf

        count = len(tf.config.list_logical_devices("GPU"))
        peaks = [tf.config.experimental.get_memory_info(f"GPU:{number}")["peak"] for number in range(count)]
    return max(peaks, default=None)
