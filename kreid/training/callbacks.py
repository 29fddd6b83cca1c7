"""Callbacks of training: held-out evaluation, logs, the check of the loss, checkpoints."""

import contextlib
import csv
import io
import json
import math
import os
import pathlib
import time
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kreid._files import replacing, write_atomically
from kreid.runs import checkpoint_file, position_text, read_state, state_file, write_unsaved
from kreid.training.averaging import averaged_weights
from kreid.training.config import checkpoint_interval
from kreid.training.freezing import Freezing
from kreid.training.stop_signals import StopSignals

if typing.TYPE_CHECKING:
    from kreid.data import ReidDataset, TrainingPipeline


class HoldoutEvaluation(keras.callbacks.Callback):
    """Add `holdout_rank1` and `holdout_map` (0 to 1) to the logs of the epochs that are evaluated.

    Where the optimiser averages the weights, the averaged ones are evaluated.

    Args:
        dataset: a `ReidDataset` whose test tracklets are scored, see `split_holdout`; `None` evaluates nothing.
        every: epochs between evaluations; the last epoch is always evaluated.
        max_damaged: share of unreadable frames above which the run stops.
    """

    def __init__(self, dataset: "ReidDataset | None", every: int = 1, max_damaged: float = 0.05):
        super().__init__()
        if every < 1:
            raise ValueError(f"Evaluations are at least one epoch apart. Received: every={every!r}")
        self.dataset = dataset
        self.every = every
        self.max_damaged = max_damaged

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Evaluate if this epoch is one to evaluate."""
        if self.dataset is None:
            return
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]:
            from kreid.evaluation import evaluate_model

            with averaged_weights(self.model):
                protocols, _ = evaluate_model(self.model, self.dataset, max_damaged=self.max_damaged, progress=False)
            scores = protocols["standard"].scores()
            logs["holdout_rank1"], logs["holdout_map"] = scores["rank-1"], scores["mAP"]


class EpochLog(keras.callbacks.Callback):
    """Add to the logs the epoch's `learning_rate` (at its start) and `seconds` (without the other callbacks).

    Args:
        so_far: both values of the steps before, for a run that continues inside an epoch; see `so_far`.
    """

    def __init__(self, so_far: Mapping[str, float] | None = None):
        super().__init__()
        self._earlier: Mapping[str, float] = so_far or {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock, and read the rate before the schedule changes it."""
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._rate = self._earlier.get("learning_rate", rate)
        self._started = time.perf_counter() - self._earlier.get("seconds", 0.0)
        self._earlier = {}

    def so_far(self) -> dict[str, float]:
        """Return the values of the epoch up to now."""
        return {"learning_rate": self._rate, "seconds": round(time.perf_counter() - self._started, 3)}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Read the clock. This callback must come before callbacks that take time."""
        logs.update(self.so_far())


class RestOfEpoch(keras.callbacks.Callback):
    """Let the first epoch of `fit` be the rest of an epoch, for a run that continues inside it.

    The epoch ends at its last step, with the metrics of all its steps, bit for bit: Keras's metrics are sums over the
    steps, so the earlier sums are added to those of the first step. This callback comes before others, which may stop
    training.

    Args:
        first_step: steps of the epoch that were done before.
        metrics: values of the model's `metrics_variables` after them, as a checkpoint inside an epoch keeps them.
    """

    def __init__(self, first_step: int, metrics: Sequence[Any]):
        super().__init__()
        self.first_step = first_step
        self.metrics = metrics
        self._inside, self._ended = True, False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Add the earlier metrics after the first step; end the epoch after the last."""
        if not self._inside:
            return
        # Here and not before: Keras makes the metrics of single losses in the first step.
        if batch == 0:
            for variable, earlier in zip(self.model.metrics_variables, self.metrics, strict=True):
                value = keras.ops.convert_to_numpy(variable)
                variable.assign(value + np.asarray(earlier, value.dtype))
        if batch + 1 == self.params["steps"] - self.first_step:
            self.model.stop_training = self._ended = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Go on with whole epochs."""
        if self._ended:
            self.model.stop_training = False
        self._inside = self._ended = False


class CsvLog(keras.callbacks.Callback):
    """Write the logs as CSV, one row per epoch, with an empty cell where an epoch has no value.

    A resumed run replaces the rows of the epochs that it repeats, which `keras.callbacks.CSVLogger` would keep.

    Args:
        path: of the file.
    """

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__()
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add a row."""
        rows = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["epoch"]) < epoch + 1]
        rows.append({"epoch": epoch + 1, **(logs or {})})
        text = io.StringIO(newline="")
        # Columns in the order in which they first appeared.
        writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue())


class FiniteLoss(keras.callbacks.Callback):
    """Stop training at the first step whose loss is NaN or infinite, before its epoch is saved.

    Args:
        pipeline: the `TrainingPipeline`, with which the error names the files of the batch, or `None`.
        checkpoints: folder of the checkpoints; the error names the last one.
    """

    def __init__(self, pipeline: "TrainingPipeline | None", checkpoints: str | os.PathLike[str]):
        super().__init__()
        self.pipeline = pipeline
        self.checkpoints = checkpoints

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch, and where in it the run continues."""
        self._epoch = epoch
        self._first_step = read_state(self.checkpoints)["step"]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Check the loss.

        Raises:
            ValueError: if it is not finite.
        """
        loss = float((logs or {}).get("loss", 0.0))
        if math.isfinite(loss):
            return
        step = self._first_step + batch
        files = [] if self.pipeline is None else self.pipeline.batch_files(self._epoch, step)
        rest = f" and {len(files) - 3} more" if len(files) > 3 else ""
        named = f", a batch of {', '.join(files[:3])}{rest}" if files else ""
        raise ValueError(
            f"The loss is {loss} in epoch {self._epoch + 1}, step {step + 1}{named}. "
            f"{_advice(self.model, self.checkpoints)} Received: loss={loss}"
        )


class Checkpoint(keras.callbacks.Callback):
    """Save the whole model, with its optimiser, after each epoch; keep the last and the best by held-out mAP.

    With `every`, checkpoints inside epochs are saved too. Besides what Keras saves, a checkpoint keeps the states of
    seed generators, see `restore_seeds`; and inside an epoch what its log needs of the steps before, see `RestOfEpoch`
    and `EpochLog`.

    A checkpoint is written under another name and renamed, and the state file, which names the last and the best, is
    written after it: if the process is killed at any moment, the previous checkpoint is intact. The disk needs room for
    two checkpoints, the last and the new one; and for a third while the best is another than the last, since a run
    continues from the last and its results may be of the best. All others are removed before.

    Args:
        folder: folder of the checkpoints and the state file, see `kreid.runs`.
        every: "epoch", or also inside epochs, as in "500 steps" (of an epoch) or "10 minutes" (after the last one).
        epoch_log: the run's `EpochLog`, whose values checkpoints inside epochs keep, or `None`.
        freezing: the run's `Freezing`, which is lifted for checkpoints inside epochs, or `None`.
        signals: `StopSignals` that stop training after a step, with a checkpoint, or `None`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: str = "epoch",
        epoch_log: EpochLog | None = None,
        freezing: Freezing | None = None,
        signals: StopSignals | None = None,
    ):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.state = read_state(self.folder)
        self.epoch_log = epoch_log
        self.freezing = freezing
        self.signals = signals
        self._amount, self._unit = checkpoint_interval(every)
        self._saved = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch, and where in it the run continues."""
        self._epoch = epoch
        self._first_step = self.state["step"]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save a checkpoint inside the epoch if it is time, or a signal came.

        Raises:
            ValueError: if a weight is NaN or infinite; the previous checkpoint is kept.
            Stopped: if a signal came.
        """
        step = self._first_step + batch + 1
        stops = self.signals is not None and self.signals.came
        # After the last step, the checkpoint of the whole epoch follows.
        if step == self.params["steps"] or not (stops or self._is_due(step)):
            return
        so_far: dict[str, Any] = {"metrics": _values(self.model.metrics_variables)}
        if self.epoch_log is not None:
            so_far |= self.epoch_log.so_far()
        with self.freezing.lifted() if self.freezing is not None else contextlib.nullcontext():
            self._save({**self.state, "epoch": self._epoch, "step": step}, so_far)

    def _is_due(self, step: int) -> bool:
        if self._unit == "steps":
            return step % self._amount == 0
        return self._unit == "minutes" and time.monotonic() - self._saved >= 60 * self._amount

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save the checkpoint of the epoch.

        Raises:
            ValueError: if a weight is NaN or infinite; the previous checkpoint is kept.
            Stopped: if a signal came.
        """
        state = {**self.state, "epoch": epoch + 1, "step": 0}
        score = (logs or {}).get("holdout_map", float("nan"))
        # False for NaN, the score of an epoch without an evaluation.
        if score > state["best_map"]:
            state.update(best_map=score, best_epoch=epoch + 1)
        self._save(state)

    def _save(self, state: dict[str, Any], so_far: Mapping[str, Any] = types.MappingProxyType({})) -> None:
        """Save a checkpoint, with the state that names it as the last; then stop if a signal came."""
        position = position_text(state["epoch"], state["step"])
        broken = [weight.path for weight in self.model.weights if not _is_finite(weight)]
        if broken:
            raise ValueError(
                f"After {position} weights are NaN or infinite. {_advice(self.model, self.folder)} "
                f"Received: {len(broken)} weights such as {broken[0]}"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_others()
        file = checkpoint_file(self.folder, state["epoch"], state["step"])
        with replacing(file, size=checkpoint_size(self.model)) as temporary:
            self.model.save(temporary)
            write_unsaved(temporary, {"seeds": _values(_seed_variables(self.model)), **so_far})
        write_atomically(state_file(self.folder), json.dumps(state))
        self.state = state
        self._remove_others()
        self._saved = time.monotonic()
        if self.signals is not None:
            self.signals.check(position)

    def _remove_others(self) -> None:
        """Remove all checkpoints but the last and the best: older ones, and those that a killed process left."""
        best = checkpoint_file(self.folder, self.state["best_epoch"])
        kept = {best, checkpoint_file(self.folder, self.state["epoch"], self.state["step"])}
        for other in set(self.folder.glob("*.keras")) - kept:
            other.unlink()


def restore_seeds(model: keras.Model, unsaved: Mapping[str, Any]) -> None:
    """Set the seed generators of a checkpoint's model, such as those of dropout, to go on as if never interrupted.

    Keras does not save their states: in a loaded model they start anew.

    Args:
        model: loaded from the checkpoint, changed in place.
        unsaved: of the checkpoint, see `kreid.runs.read_unsaved`; without `seeds` nothing is changed.
    """
    if "seeds" in unsaved:
        for variable, value in zip(_seed_variables(model), unsaved["seeds"], strict=True):
            variable.assign(np.asarray(value, variable.dtype))


def _seed_variables(model: keras.Model) -> list[keras.Variable]:
    """Return the variables that are no weights or metrics: the states of the seed generators."""
    others = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    return [variable for variable in model.variables if id(variable) not in others]


def _values(variables: Sequence[keras.Variable]) -> list[Any]:
    return [keras.ops.convert_to_numpy(variable).tolist() for variable in variables]


def checkpoint_size(model: keras.Model) -> int:
    """Return the bytes of a checkpoint, or a few more: those of its numbers, and 4 KiB for the entry of each array."""
    variables = (*model.variables, *model.optimizer.variables)
    return sum(keras.ops.convert_to_numpy(variable).nbytes + 4096 for variable in variables)


def _is_finite(weight: keras.Variable) -> bool:
    values = keras.ops.convert_to_numpy(weight)
    return not np.issubdtype(values.dtype, np.floating) or bool(np.isfinite(values).all())


def _advice(model: keras.Model, checkpoints: str | os.PathLike[str]) -> str:
    """Return advice for training that diverged."""
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    state = read_state(checkpoints)
    last = state["epoch"], state["step"]
    start = (
        f"the checkpoint after {position_text(*last)} is kept; --set init={checkpoint_file(checkpoints, *last)} starts "
        f"from it"
        if any(last)
        else "no epoch was complete"
    )
    return (
        f"Training stops here ({start}). Try a smaller learning_rate (it is {rate:.3g}), warmup_epochs, clip_norm, or "
        "precision=float32, in another --run."
    )
