"""What happens between epochs: held-out evaluation, numbers for the logs, checkpoints."""

import csv
import io
import json
import os
import pathlib
import time

import keras

from kreid._files import write_atomically


class HoldoutEvaluation(keras.callbacks.Callback):
    """Adds `holdout_rank1` and `holdout_map` (0 to 1) to the logs, NaN in epochs without an evaluation.

    Args:
        dataset: a `ReidDataset` whose test tracklets are searched, see `split_holdout`; `None` evaluates nothing.
        every: epochs between evaluations; the last epoch is always evaluated.
        max_damaged: share of unreadable frames above which the run stops.
    """

    def __init__(self, dataset, every=1, max_damaged=0.05):
        super().__init__()
        if every < 1:
            raise ValueError(f"Evaluations are at least one epoch apart. Received: every={every!r}")
        self.dataset = dataset
        self.every = every
        self.max_damaged = max_damaged

    def on_epoch_end(self, epoch, logs=None):
        """Evaluates when it is time."""
        if self.dataset is None:
            return
        logs["holdout_rank1"] = logs["holdout_map"] = float("nan")
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]:
            from kreid.evaluation import evaluate_model

            protocols, _ = evaluate_model(self.model, self.dataset, max_damaged=self.max_damaged, progress=False)
            scores = protocols["standard"].scores()
            logs["holdout_rank1"], logs["holdout_map"] = scores["rank-1"], scores["mAP"]


class EpochLog(keras.callbacks.Callback):
    """Adds to the logs the epoch's `learning_rate` (at its start) and `seconds` (without what other callbacks do)."""

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock; a schedule's rate is read before the epoch moves it."""
        self._rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Reads the clock; comes first among the callbacks."""
        logs["seconds"] = round(time.perf_counter() - self._started, 3)
        logs["learning_rate"] = self._rate


class CsvLog(keras.callbacks.Callback):
    """Writes the logs as CSV, one row per epoch.

    A resumed run replaces the rows of epochs that it repeats. (Keras's own logger keeps them, and adds a column
    `val_...` for each of the others.)

    Args:
        path: of the file.
    """

    def __init__(self, path):
        super().__init__()
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch, logs=None):
        """Adds a row."""
        rows = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["epoch"]) < epoch + 1]
        rows.append({"epoch": epoch + 1, **logs})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[-1]), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue())


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole model, optimiser included, after each epoch; keeps the last and the best by held-out mAP.

    `state.json` names the epochs that count and is written after their files, which are written under another name and
    renamed: a kill at any moment leaves the checkpoint before.

    Args:
        folder: gets `epoch_N.keras` and `state.json`.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.state = read_state(self.folder)

    def on_epoch_end(self, epoch, logs=None):
        """Saves, and removes what no longer counts."""
        score = (logs or {}).get("holdout_map", float("nan"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state["epoch"] = epoch + 1
        # A NaN score compares false.
        if score > self.state["best_map"]:
            self.state.update(best_map=score, best_epoch=epoch + 1)
        path = checkpoint_file(self.folder, epoch + 1)
        temporary = path.with_name(f"writing-{path.name}")
        self.model.save(temporary)
        os.replace(temporary, path)
        write_atomically(self.folder / "state.json", json.dumps(self.state))
        kept = {checkpoint_file(self.folder, self.state[key]) for key in ("epoch", "best_epoch")}
        for old in set(self.folder.glob("*.keras")) - kept:
            old.unlink()


def checkpoint_file(folder, epoch):
    """Path of the checkpoint after an epoch, counted from 1."""
    return pathlib.Path(folder) / f"epoch_{epoch}.keras"


def read_state(folder):
    """The `state.json` of a checkpoint folder: epochs done, and the best held-out mAP and its epoch."""
    path = pathlib.Path(folder) / "state.json"
    return json.loads(path.read_text()) if path.exists() else {"epoch": 0, "best_map": -1.0, "best_epoch": None}
