"""Callbacks of training: held-out evaluation, logs, the check of the loss, checkpoints."""

import csv
import io
import json
import math
import os
import pathlib
import time
import typing
from typing import Any

import keras
import numpy as np

from kreid._files import replacing, write_atomically
from kreid.runs import checkpoint_file, read_state, state_file
from kreid.training.averaging import averaged_weights

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
    """Add to the logs the epoch's `learning_rate` (at its start) and `seconds` (without the other callbacks)."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock, and read the rate before the schedule changes it."""
        self._rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Read the clock. This callback must come before callbacks that take time."""
        logs["seconds"] = round(time.perf_counter() - self._started, 3)
        logs["learning_rate"] = self._rate


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
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Check the loss.

        Raises:
            ValueError: if it is not finite.
        """
        loss = float((logs or {}).get("loss", 0.0))
        if math.isfinite(loss):
            return
        files = [] if self.pipeline is None else self.pipeline.batch_files(self._epoch, batch)
        rest = f" and {len(files) - 3} more" if len(files) > 3 else ""
        named = f", a batch of {', '.join(files[:3])}{rest}" if files else ""
        raise ValueError(
            f"The loss is {loss} in epoch {self._epoch + 1}, step {batch + 1}{named}. "
            f"{_advice(self.model, self.checkpoints)} Received: loss={loss}"
        )


class Checkpoint(keras.callbacks.Callback):
    """Save the whole model, with its optimiser, after each epoch; keep the last and the best by held-out mAP.

    A checkpoint is written under another name and renamed, and the state file, which names the last and the best, is
    written after it: if the process is killed at any moment, the previous checkpoint is intact.

    Args:
        folder: folder of the checkpoints and the state file, see `kreid.runs`.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.state = read_state(self.folder)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save the checkpoint, and remove those that are neither the last nor the best.

        Raises:
            ValueError: if a weight is NaN or infinite; the previous checkpoint is kept.
        """
        broken = [weight.path for weight in self.model.weights if not _is_finite(weight)]
        if broken:
            raise ValueError(
                f"After epoch {epoch + 1} weights are NaN or infinite. {_advice(self.model, self.folder)} "
                f"Received: {len(broken)} weights such as {broken[0]}"
            )
        score = (logs or {}).get("holdout_map", float("nan"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state["epoch"] = epoch + 1
        # False for NaN, the score of an epoch without an evaluation.
        if score > self.state["best_map"]:
            self.state.update(best_map=score, best_epoch=epoch + 1)
        with replacing(checkpoint_file(self.folder, epoch + 1)) as temporary:
            self.model.save(temporary)
        write_atomically(state_file(self.folder), json.dumps(self.state))
        kept = {checkpoint_file(self.folder, self.state[key]) for key in ("epoch", "best_epoch")}
        for old in set(self.folder.glob("*.keras")) - kept:
            old.unlink()


def _is_finite(weight: keras.Variable) -> bool:
    values = keras.ops.convert_to_numpy(weight)
    return not np.issubdtype(values.dtype, np.floating) or bool(np.isfinite(values).all())


def _advice(model: keras.Model, checkpoints: str | os.PathLike[str]) -> str:
    """Return advice for training that diverged."""
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    epoch = read_state(checkpoints)["epoch"]
    start = (
        f"the checkpoint after epoch {epoch} is kept; --set init={checkpoint_file(checkpoints, epoch)} starts from it"
        if epoch
        else "no epoch was complete"
    )
    return (
        f"Training stops here ({start}). Try a smaller learning_rate (it is {rate:.3g}), warmup_epochs, clip_norm, or "
        "precision=float32, in another --run."
    )
