"""The folder of one run, for the code that trains it."""

import contextlib
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
from kreid.runs import (
    RunFiles,
    checkpoint_file,
    checkpoint_positions,
    derived_state,
    position_text,
    read_state,
    read_unsaved,
    state_file,
)
from kreid.training.attention_log import AttentionLog
from kreid.training.averaging import averaged_model
from kreid.training.callbacks import (
    Checkpoint,
    CsvLog,
    EpochLog,
    FiniteLoss,
    HoldoutEvaluation,
    RestOfEpoch,
    restore_seeds,
)
from kreid.training.config import Config, changed_settings, holdout_purposes
from kreid.training.early_stopping import EarlyStopping, is_stale
from kreid.training.freezing import Freezing
from kreid.training.optimization import learning_rate
from kreid.training.own_callbacks import own_callbacks
from kreid.training.stop_signals import StopSignals
from kreid.training.strategy import apply_to_step

if typing.TYPE_CHECKING:
    import keras

    from kreid.data import ReidDataset, TrainingPipeline
    from kreid.models import TrackletModel

PACKAGES = ("kreid", "keras", "tensorflow", "numpy")

# Settings of the evaluation at the end: free until there are results.
_OF_RESULTS = frozenset({"select", "also_test_frames", "false_match_rate", "early_stopping"})
# Settings of the first step: free once there is a checkpoint, as it holds what they led to.
_OF_START = frozenset({"init", "init_layers", "weights", "weights_preprocessing", "weights_licence"})


class RunBusyError(ValueError):
    """Another process trains the run."""


class RunFolder(RunFiles):
    """A run's folder: a new one, or one that holds the same run and continues. `begin` makes it.

    A run that continues has the settings of its folder. Free are the settings that change no batch and no weight (see
    `changed_settings`); the settings of the evaluation (`select`, `also_test_frames`, `false_match_rate`) and
    `early_stopping` until there are results, if persons are held out with both values or with neither; the settings of
    the start (`init`, `init_layers`, `weights`) after the first checkpoint; and `epochs`, if the schedule does not
    depend on it. `config.yaml` gets the new values. One process at a time trains a run.

    A complete run is trained further if `epochs` has grown, under any schedule: from its last checkpoint, with the
    optimiser's state. Its model, export and results stay until the new ones replace them.

    Args:
        path: of the folder.
        config: the run's `Config`.

    Attributes:
        stop_signals: `StopSignals`, to be entered around `fit`.

    Raises:
        ValueError: if the folder holds another run, or something that is no run, or has more epochs behind it, or
            results without the checkpoint to train further from.
    """

    def __init__(self, path: str | os.PathLike[str], config: Config):
        super().__init__(path)
        self.config = config
        self.stop_signals = StopSignals()
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
            RunBusyError: if another process trains the run.
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
        free, old = self._free_settings(), self.read_config()
        begun = self.epochs_done + (self.steps_done > 0)
        if self.config.epochs < begun and not changed_settings(old, self.config, free | {"epochs"}):
            raise ValueError(
                f"This run has trained in {begun} epochs, more than are asked for; set epochs to {begun} or more, or "
                f"choose another with --run. Received: epochs={self.config.epochs!r}"
            )
        changes = changed_settings(old, self.config, free)
        if changes:
            raise ValueError(
                f"This folder holds another run ({changes}); choose another with --run, or give the same settings to "
                f"continue it. Received: run={str(self.path)!r}"
            )
        if self.is_trained_further and not begun:
            raise ValueError(
                f"This run is complete and cannot be trained further, as its checkpoints are gone; choose another with "
                f"--run, and start it with --set init={self.model}. Received: epochs={self.config.epochs!r}"
            )

    def _free_settings(self) -> set[str]:
        """Return the settings that may differ at this point of the run."""
        free: set[str] = set()
        if self.epochs_done or self.steps_done:
            free |= _OF_START
        if not self.is_complete:
            # Whether persons are held out is a setting of the batches.
            old = self.read_config()
            if bool(holdout_purposes(old if isinstance(old, dict) else {})) == bool(self.config.holdout_purposes):
                free |= _OF_RESULTS
            if self.is_trained_further or self.config.schedule in ("constant", "step"):
                free.add("epochs")
        return free

    @property
    def is_complete(self) -> bool:
        """Whether the run has results after `config.epochs`, or more."""
        return super().is_complete and self._epochs_of_results >= self.config.epochs

    @property
    def is_trained_further(self) -> bool:
        """Whether the run has results after fewer epochs than `config.epochs`."""
        return super().is_complete and not self.is_complete

    @property
    def _epochs_of_results(self) -> int:
        # Results of earlier versions do not say it; the settings are those of the results until training goes on.
        return self.read_results().get("epochs") or self.read_config()["epochs"]

    @property
    def epochs_done(self) -> int:
        """Whole epochs that the last checkpoint has behind it."""
        return read_state(self.checkpoints)["epoch"]

    @property
    def steps_done(self) -> int:
        """Steps of the next epoch that the last checkpoint has behind it."""
        return read_state(self.checkpoints)["step"]

    @property
    def _last_checkpoint(self) -> pathlib.Path:
        return checkpoint_file(self.checkpoints, self.epochs_done, self.steps_done)

    def restored_model(self, steps_per_epoch: int) -> "TrackletModel | None":
        """Return the last checkpoint's model, compiled, to continue the run; `None` for a new run.

        A damaged checkpoint is skipped for the one before it, with a line on the terminal. The learning rate is that of
        `config`, whose `epochs` may have grown; if the run was complete, a line says what happens to it.

        Args:
            steps_per_epoch: of the pipeline.

        Raises:
            RunBusyError: if another process trains the run.
            ValueError: if no checkpoint is intact.
        """
        if not (self.epochs_done or self.steps_done):
            return None
        self._claim()
        if self.is_trained_further:
            results = {**self.read_results(), "epochs": self._epochs_of_results}
            write_atomically(self.results, json.dumps(results, indent=2) + "\n")
        self._write_config()
        self._recover()
        model = load_model(self._last_checkpoint)
        apply_to_step(model, self.config)
        restore_seeds(model, read_unsaved(self._last_checkpoint))
        rate = float(model.optimizer.learning_rate)
        schedule = learning_rate(self.config, steps_per_epoch)
        if callable(schedule):
            model.optimizer.learning_rate = schedule
        if self.is_trained_further and self.epochs_to_train > self.epochs_done:
            print(self._further_text(rate, float(model.optimizer.learning_rate)))
        return model

    def _further_text(self, earlier_rate: float, rate: float) -> str:
        total, name = self.config.epochs, self.config.schedule
        schedule = f"its {name} schedule goes on at a learning rate of {rate:.3g}"
        if name == "cosine":
            schedule = (
                f"its cosine schedule is computed again for {total} epochs (a learning rate of {rate:.3g} now, "
                f"{earlier_rate:.3g} before)"
            )
        return (
            f"The run was complete and is trained further, from {self.epochs_done} epochs to {total}: the optimiser "
            f"keeps its state, and {schedule}."
        )

    def wait(self) -> None:
        """Wait until no other process trains the run; print a line if one does."""
        with (
            contextlib.suppress(FileNotFoundError),  # Nobody trains it, or it was finished just now.
            open(self.lock, "r+", encoding="utf-8", errors="replace") as file,
        ):
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                print(f"Process {file.read(20).strip()} trains {self.path}; waiting for it.", flush=True)
                fcntl.lockf(file, fcntl.LOCK_EX)

    def _claim(self) -> None:
        """Make this process the only one that trains the run, until the run is finished or the process ends."""
        file = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            owner = os.read(file, 20).decode(errors="replace").strip()
            os.close(file)
            raise RunBusyError(
                f"Process {owner} trains this run; wait for it, or choose another folder with --run. "
                f"Received: run={str(self.path)!r}"
            ) from None
        # The file stays open: closing it would end the lock.
        os.truncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        # Files that a killed process was writing.
        for left in self.path.glob(".writing-*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    def _recover(self) -> None:
        """Point the state to the last intact checkpoint, if it is missing or points to a damaged one."""
        positions = checkpoint_positions(self.checkpoints)
        intact = [position for position in positions if _is_intact(checkpoint_file(self.checkpoints, *position))]
        if not intact:
            raise ValueError(
                f"None of the run's checkpoints is intact; delete the folder to train from the start. "
                f"Received: checkpoints={str(self.checkpoints)!r}"
            )
        state = read_state(self.checkpoints)
        best = state["best_epoch"]
        if (state["epoch"], state["step"]) in intact and (best is None or (best, 0) in intact):
            write_atomically(state_file(self.checkpoints), json.dumps(state))
            return
        for position in positions:
            if position not in intact:
                print(f"The checkpoint after {position_text(*position)} is damaged.")
                checkpoint_file(self.checkpoints, *position).unlink()
        print(f"The run continues after {position_text(*intact[-1])}.")
        write_atomically(state_file(self.checkpoints), json.dumps(derived_state(self.checkpoints, intact)))

    @property
    def epochs_to_train(self) -> int:
        """The `epochs` of the settings, or those that are done if `early_stopping` ended them."""
        state, patience = read_state(self.checkpoints), self.config.early_stopping
        evaluated = not state["step"] and state["epoch"] % self.config.holdout_every == 0
        if patience is not None and evaluated and is_stale(state, patience):
            return state["epoch"]
        return self.config.epochs

    def seconds_per_epoch(self) -> float | None:
        """Return the median training seconds of the logged epochs after the first, or `None`."""
        seconds = np.sort(self.read_log().get("seconds", np.empty(0))[1:])
        return float(seconds[len(seconds) // 2]) if len(seconds) else None

    def callbacks(
        self, holdout: "ReidDataset | None", config: Config, pipeline: "TrainingPipeline | None" = None
    ) -> "list[keras.callbacks.Callback]":
        """Return the callbacks of a run, in the order in which they add to the logs.

        A run that continues inside an epoch has `RestOfEpoch` first.

        Args:
            holdout: a `ReidDataset` of held-out persons, or `None`.
            config: the run's `Config`.
            pipeline: the run's pipeline, to name the files of a batch whose loss is not finite, and for the batch of at
                most 16 tracklets that `AttentionLog` measures; `None` for neither.

        Returns:
            A list of Keras callbacks.
        """
        from keras.callbacks import TensorBoard

        unsaved = read_unsaved(self._last_checkpoint) if self.steps_done else {}
        rest = [RestOfEpoch(self.steps_done, unsaved["metrics"])] if self.steps_done else []
        epoch_log = EpochLog(unsaved)
        freezing = Freezing(config) if config.freezes else None
        return [
            *rest,
            *([freezing] if freezing else []),
            FiniteLoss(pipeline, self.checkpoints),
            epoch_log,
            HoldoutEvaluation(holdout, config.holdout_every, config.max_damaged),
            *([] if pipeline is None or config.num_frames == 1 else [AttentionLog(pipeline.first_clips(16))]),
            CsvLog(self.log),
            TensorBoard(str(self.tensorboard), write_graph=False),
            Checkpoint(self.checkpoints, config.checkpoint_every, epoch_log, freezing, self.stop_signals),
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
        averages = self.config.ema_momentum is not None
        # The averages are in the optimiser.
        model = load_model(checkpoint_file(self.checkpoints, epoch), compile=averages)
        return epoch, averaged_model(model) if averages else model

    def keep_untrained(self, scores: Mapping[str, Any]) -> None:
        """Write the scores before training, which a resumed run could not make again; see `results_dict`."""
        write_atomically(self.untrained, json.dumps(scores, indent=2))

    def keep_model(self, model: "TrackletModel", verification: Mapping[str, Any] | None = None) -> pathlib.Path | None:
        """Save and export the model that is reported; both replace earlier ones when they are whole.

        Without the setting `export` the model is saved alone.

        Args:
            model: to save and export.
            verification: see `kreid.serving.export_model`.

        Returns:
            The path of the exported version, `None` without one.
        """
        from kreid.training.export_run import export_on_any_backend

        new = self.path / ".writing-export"
        shutil.rmtree(new, ignore_errors=True)
        try:
            with replacing(self.model) as temporary:
                model.save(temporary)
                if not self.config.export:
                    shutil.rmtree(self.export, ignore_errors=True)
                    return None
                exported = export_on_any_backend(model, temporary, new, verification)
                shutil.rmtree(self.export, ignore_errors=True)
                new.rename(self.export)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return self.export / exported.name

    def finish(self, results: Mapping[str, Any], queries: Mapping[str, Any] | None = None) -> None:
        """Write `queries.json`, then `results.json`, which makes the run complete.

        Args:
            results: plain data to report; epochs, untrained scores, time per epoch and versions are added.
            queries: scores of single queries, see `queries_dict`; `None` without a test set.
        """
        if queries is not None:
            write_atomically(self.queries, json.dumps(queries, indent=2))
        results = {
            **results,
            "epochs": self.config.epochs,
            "untrained": self.read_untrained() or None,
            "seconds_per_epoch": self.seconds_per_epoch(),
            "versions": versions(),
        }
        write_atomically(self.results, json.dumps(results, indent=2) + "\n")
        with contextlib.suppress(FileNotFoundError), open(self.lock, "r+b") as file:
            self.lock.unlink()
            # This process may live on, and others wait for the run.
            fcntl.lockf(file, fcntl.LOCK_UN)


def _is_intact(checkpoint: pathlib.Path) -> bool:
    """Whether a checkpoint, a zip file, has all its content with the right checksums, and its comment."""
    try:
        read_unsaved(checkpoint)
        with zipfile.ZipFile(checkpoint) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on, and the machine's kind."""
    names = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for package in PACKAGES:
        try:
            names[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            names[package] = "not installed"
    return names
