"""The folder of one run, for the code that trains it."""

import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import typing
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from kreid._files import replacing, write_atomically
from kreid.loading import load_model
from kreid.runs import RunFiles, checkpoint_epochs, checkpoint_file, derived_state, read_state, state_file
from kreid.training.attention_log import AttentionLog
from kreid.training.averaging import averaged_model
from kreid.training.callbacks import Checkpoint, CsvLog, EpochLog, FiniteLoss, HoldoutEvaluation
from kreid.training.config import Config, changed_settings
from kreid.training.early_stopping import EarlyStopping, is_stale
from kreid.training.freezing import Freezing
from kreid.training.own_callbacks import own_callbacks

if typing.TYPE_CHECKING:
    import keras

    from kreid.data import ReidDataset, TrainingPipeline
    from kreid.models import TrackletModel

PACKAGES = ("kreid", "keras", "tensorflow", "numpy")

# Settings of the evaluation at the end: free until there are results.
_OF_RESULTS = frozenset({"select", "also_test_frames", "false_match_rate", "early_stopping"})
# Settings of the first step: free once an epoch is done, as the checkpoint holds what they led to.
_OF_START = frozenset({"init", "init_layers", "weights"})


class RunFolder(RunFiles):
    """A run's folder: a new one, or one that holds the same run and continues. `begin` makes it.

    A run that continues has the settings of its folder. Free are the settings that change no batch and no weight (see
    `changed_settings`); the settings of the evaluation (`select`, `also_test_frames`, `false_match_rate`) and
    `early_stopping` until there are results; the settings of the start (`init`, `init_layers`, `weights`) after the
    first epoch; and `epochs`, if the schedule does not depend on it, until there are results. `config.yaml` gets the
    new values. One process at a time trains a run.

    Args:
        path: of the folder.
        config: the run's `Config`.

    Raises:
        ValueError: if the folder holds another run, or something that is no run.
    """

    def __init__(self, path: str | os.PathLike[str], config: Config):
        super().__init__(path)
        self.config = config
        self._text = config.to_yaml()
        if self.config_file.exists():
            self._check_same()
        elif self.path.exists() and not (
            self.path.is_dir() and {entry.name for entry in self.path.iterdir()} <= {self.phases.name, self.lock.name}
        ):
            raise ValueError(
                f"This is there already and holds no run; choose another with --run. Received: run={str(path)!r}"
            )

    @staticmethod
    def phase_path(path: str | os.PathLike[str], name: str) -> pathlib.Path:
        """Return the folder of an earlier phase in the run folder `path`."""
        return RunFiles(path).phase(name).path

    def begin(self) -> None:
        """Make the folder, if this run is not in it yet. Checks that refuse a run come before.

        Raises:
            ValueError: if the folder cannot be made.
        """
        if self.config_file.exists():
            self._claim()
            self._write_config()
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"The run's folder cannot be made ({error}); choose another with --run. "
                f"Received: run={str(self.path)!r}"
            ) from None
        self._claim()
        # Before the others, as it is the file that makes the folder a run.
        self._write_config()
        write_atomically(self.versions_file, json.dumps(versions(), indent=2))

    def _write_config(self):
        write_atomically(self.config_file, self._text)

    def _check_same(self) -> None:
        changes = changed_settings(self.read_config(), self.config, self._free_settings())
        if changes:
            raise ValueError(
                f"This folder holds another run ({changes}); choose another with --run, or give the same settings to "
                f"continue it. Received: run={str(self.path)!r}"
            )

    def _free_settings(self) -> set[str]:
        """Return the settings that may differ at this point of the run."""
        free: set[str] = set()
        if self.epochs_done:
            free |= _OF_START
        if not self.is_complete:
            free |= _OF_RESULTS
            if self.config.schedule in ("constant", "step") and self.config.epochs >= self.epochs_done:
                free.add("epochs")
        return free

    @property
    def epochs_done(self) -> int:
        """Epochs that the last checkpoint has behind it."""
        return read_state(self.checkpoints)["epoch"]

    def restored_model(self) -> "TrackletModel | None":
        """Return the last checkpoint's model, compiled, to continue the run; `None` for a new run.

        A damaged checkpoint is skipped for the one before it, with a line on the terminal.

        Raises:
            ValueError: if another process trains the run, or no checkpoint is intact.
        """
        if not self.epochs_done:
            return None
        self._claim()
        self._write_config()
        self._recover()
        return self._load(self.epochs_done, compile=True)

    def _claim(self) -> None:
        """Make this process the only one that trains the run, until it ends."""
        file = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            owner = os.read(file, 20).decode(errors="replace").strip()
            os.close(file)
            raise ValueError(
                f"Process {owner} trains this run; wait for it, or choose another folder with --run. "
                f"Received: run={str(self.path)!r}"
            ) from None
        # The file stays open: closing it would end the lock.
        os.truncate(file, 0)
        os.write(file, str(os.getpid()).encode())

    def _recover(self) -> None:
        """Point the state to the last intact checkpoint, if it is missing or points to a damaged one."""
        epochs = checkpoint_epochs(self.checkpoints)
        intact = [epoch for epoch in epochs if _is_intact(checkpoint_file(self.checkpoints, epoch))]
        if not intact:
            raise ValueError(
                f"None of the run's checkpoints is intact; delete the folder to train from the start. "
                f"Received: checkpoints={str(self.checkpoints)!r}"
            )
        state = read_state(self.checkpoints)
        if state["epoch"] in intact and state["best_epoch"] in (None, *intact):
            write_atomically(state_file(self.checkpoints), json.dumps(state))
            return
        for epoch in epochs:
            if epoch not in intact:
                print(f"The checkpoint after epoch {epoch} is damaged.")
                checkpoint_file(self.checkpoints, epoch).unlink()
        print(f"The run continues after epoch {intact[-1]}.")
        write_atomically(state_file(self.checkpoints), json.dumps(derived_state(self.checkpoints, intact)))

    @property
    def epochs_to_train(self) -> int:
        """The `epochs` of the settings, or those that are done if `early_stopping` ended them."""
        patience, done = self.config.early_stopping, self.epochs_done
        if patience is None or done % self.config.holdout_every or not is_stale(read_state(self.checkpoints), patience):
            return self.config.epochs
        return done

    def seconds_per_epoch(self) -> float | None:
        """Return the median training seconds of the logged epochs after the first, or `None`."""
        seconds = np.sort(self.read_log().get("seconds", np.empty(0))[1:])
        return float(seconds[len(seconds) // 2]) if len(seconds) else None

    def callbacks(
        self, holdout: "ReidDataset | None", config: Config, pipeline: "TrainingPipeline | None" = None
    ) -> "list[keras.callbacks.Callback]":
        """Return the callbacks of a run, in the order in which they add to the logs.

        Args:
            holdout: a `ReidDataset` of held-out persons, or `None`.
            config: the run's `Config`.
            pipeline: the run's pipeline, to name the files of a batch whose loss is not finite, and for the batch of at
                most 16 tracklets that `AttentionLog` measures; `None` for neither.

        Returns:
            A list of Keras callbacks.
        """
        from keras.callbacks import TensorBoard

        return [
            *([Freezing(config)] if config.freezes else []),
            FiniteLoss(pipeline, self.checkpoints),
            EpochLog(),
            HoldoutEvaluation(holdout, config.holdout_every, config.max_damaged),
            *([] if pipeline is None or config.num_frames == 1 else [AttentionLog(_few_tracklets(pipeline))]),
            CsvLog(self.log),
            TensorBoard(str(self.tensorboard), write_graph=False),
            Checkpoint(self.checkpoints),
            *([EarlyStopping(self.checkpoints, config.early_stopping)] if config.early_stopping else []),
            *own_callbacks(config.callbacks, config),
        ]

    def selected_model(self, select: str) -> "tuple[int, TrackletModel]":
        """Return the checkpoint that results are reported for.

        Args:
            select: "last" or "best".

        Returns:
            Its epoch, counted from 1, and the model, with the averaged weights if there are any.

        Raises:
            ValueError: for "best" if no held-out person was ever evaluated.
        """
        state = read_state(self.checkpoints)
        epoch = state["epoch"] if select == "last" else state["best_epoch"]
        if epoch is None:
            raise ValueError(
                f"There is no best checkpoint without held-out persons; set holdout, or select=last. "
                f"Received: select={select!r}"
            )
        if self.config.ema_momentum is not None:
            # The averages are in the optimiser.
            return epoch, averaged_model(self._load(epoch, compile=True))
        return epoch, self._load(epoch, compile=False)

    def _load(self, epoch: int, compile: bool) -> "TrackletModel":
        return load_model(checkpoint_file(self.checkpoints, epoch), compile=compile)

    def keep(self, name: str, values: Any) -> None:
        """Write a part of the results that a resumed run could not make again.

        Args:
            name: "untrained" or "queries".
            values: plain data, see `results_dict` and `queries_dict`.
        """
        write_atomically({"untrained": self.untrained, "queries": self.queries}[name], json.dumps(values, indent=2))

    def keep_model(self, model: "TrackletModel") -> None:
        """Save the model that is reported, replacing one that an interrupted run left."""
        with replacing(self.model) as temporary:
            model.save(temporary)

    def keep_export(self, model: "TrackletModel", verification: Mapping[str, Any] | None = None) -> pathlib.Path:
        """Export the model that is reported, replacing an export that an interrupted run left.

        Args:
            model: to export, which `keep_model` has saved.
            verification: see `kreid.serving.export_model`.

        Returns:
            The path of the exported version.
        """
        from kreid.training.export_run import export_on_any_backend

        shutil.rmtree(self.export, ignore_errors=True)
        return export_on_any_backend(model, self.model, self.export, verification)

    def finish(self, results: Mapping[str, Any]) -> None:
        """Write `results.json`, which makes the run complete.

        Args:
            results: plain data to report; untrained scores, time per epoch and versions are added.
        """
        results = {
            **results,
            "untrained": self.read_untrained() or None,
            "seconds_per_epoch": self.seconds_per_epoch(),
            "versions": versions(),
        }
        write_atomically(self.results, json.dumps(results, indent=2) + "\n")
        self.lock.unlink(missing_ok=True)


def _is_intact(checkpoint: pathlib.Path) -> bool:
    """Whether a checkpoint, a zip file, has all its content with the right checksums."""
    try:
        with zipfile.ZipFile(checkpoint) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _few_tracklets(pipeline: "TrainingPipeline") -> dict[str, Any]:
    """Return the inputs of the first 16 tracklets of a run's first batch."""
    inputs, _ = next(iter(pipeline.dataset().take(1)))
    return {name: values[:16].numpy() for name, values in inputs.items()}


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on, and the machine's kind."""
    names = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for package in PACKAGES:
        try:
            names[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            names[package] = "not installed"
    return names
