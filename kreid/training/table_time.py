"""How long the runs of a table will take, from a few steps."""

import contextlib
import io
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from kreid.data.tracklet import JUNK
from kreid.training.config import Config
from kreid.training.dataset import load_dataset
from kreid.training.dry_run import STEPS, measure
from kreid.training.table import Table
from kreid.training.table_runs import TableRun

# A forward pass is about a third of a training step on the same frames.
_FORWARD = 1 / 3


class RunTime(NamedTuple):
    """Expected seconds of a run.

    Args:
        start: to read the data and to build and compile the model.
        train: the training steps that are left.
        test: to embed the test set, clean and with each kind of bad frames.
    """

    start: float
    train: float
    test: float


def expected_time(table: Table, runs: Sequence[TableRun]) -> list[RunTime]:
    """Measure a run of each kind that is left to train, and print and return what every run is expected to take.

    Runs are of one kind if they train the same backbone on the same data, with batches drawn alike and the same number
    of frames in a step: the first of a kind stands for all.

    Args:
        table: a `Table`.
        runs: of `plan_table`.

    Returns:
        A list of `RunTime`, in the order of the runs; 0 for complete ones.
    """
    missing = {str(run.folder.model) for run in runs if not run.folder.model.exists()}
    measured: dict[tuple[Any, ...], tuple[float, float, int]] = {}
    times = []
    for run in runs:
        config = run.folder.config
        if run.folder.is_complete:
            times.append(RunTime(0.0, 0.0, 0.0))
            continue
        kind = (config.backbone, config.backbone_width, *config.image_size, config.last_stride, _frames(config))
        # These decide the number of steps in an epoch.
        kind += (config.data, config.sampler, config.persons_per_batch, config.batch_size)
        if kind not in measured:
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                found = measure(config, missing)
            start = time.perf_counter() - started - STEPS * found.step_seconds
            measured[kind] = start, max(found.step_seconds, found.read_seconds), found.steps_per_epoch
            print(f"{run.folder.path}: {measured[kind][1]:.2f} s per step of {_frames(config)} frames", flush=True)
        start, step, steps_per_epoch = measured[kind]
        left = (config.epochs - run.folder.epochs_done) * (config.steps_per_epoch or steps_per_epoch)
        tests = 1
        for name in run.rows:
            tests += bool(table.rows[name].test) + len(table.bad_frames_test.get("kinds", ()))
        times.append(RunTime(start, left * step, tests * _FORWARD * step * _test_frames(config) / _frames(config)))
    total = RunTime(*(sum(values) for values in zip(*times, strict=True)))
    print(
        f"\n{sum(any(one) for one in times)} of {len(runs)} runs are left. Expected on this machine as it is now: "
        f"{_duration(sum(total))}, of which {_duration(total.start)} to start, {_duration(total.train)} to train and "
        f"{_duration(total.test)} to test."
    )
    return times


def _frames(config: Config) -> int:
    """Return the frames of a training step."""
    tracklets = config.persons_per_batch * config.tracklets_per_person
    return config.num_frames * (tracklets if config.sampler == "persons" else config.batch_size or 1)


def _test_frames(config: Config) -> int:
    most = config.model.get("test_frames")
    lengths = (len(tracklet) for tracklet in load_dataset(config).test if tracklet.person != JUNK)
    return sum(length if most is None else min(length, most) for length in lengths)


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"
