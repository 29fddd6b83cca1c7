"""Stop a run whose held-out persons are not found better any more."""

import os
from collections.abc import Mapping
from typing import Any

import keras

from kreid.runs import read_state


def is_stale(state: Mapping[str, Any], patience: int) -> bool:
    """Return whether the last checkpoint is so many epochs after the best one.

    Args:
        state: of the checkpoints, see `kreid.runs.read_state`.
        patience: epochs.

    Returns:
        False if no epoch was evaluated.
    """
    return state["best_epoch"] is not None and state["epoch"] - state["best_epoch"] >= patience


class EarlyStopping(keras.callbacks.Callback):
    """End training after an evaluated epoch if the best held-out mAP is so many epochs old.

    The state file of the checkpoints is all that it reads, so a run that continues stops where it would have stopped.
    Put it after `Checkpoint`, which writes the file.

    Args:
        checkpoints: folder of the checkpoints.
        patience: epochs.
    """

    def __init__(self, checkpoints: str | os.PathLike[str], patience: int) -> None:
        super().__init__()
        self.checkpoints = checkpoints
        self.patience = patience

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stop if no later epoch was better."""
        state = read_state(self.checkpoints)
        if "holdout_map" in (logs or {}) and is_stale(state, self.patience):
            best = state["best_epoch"]
            print(f"Training stops after epoch {epoch + 1}: the best held-out mAP is that of epoch {best}.")
            self.model.stop_training = True
