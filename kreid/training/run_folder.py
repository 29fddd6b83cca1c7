"""Write the folder of a run: settings, logs, checkpoints, results, the exported model."""

import csv
import importlib.metadata
import json
import platform
import shutil
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kreid._files import replacing, write_atomically
from kreid.runs import RunFiles, checkpoint_file, read_state
from kreid.training.callbacks import Checkpoint, CsvLog, EpochLog, HoldoutEvaluation
from kreid.training.config import FREE_TO_CHANGE, Config

if TYPE_CHECKING:
    import keras

    from kreid.data.tracklet import ReidDataset
    from kreid.models.tracklet_model import TrackletModel

PACKAGES = ("kreid", "keras", "tensorflow", "numpy")


class RunFolder(RunFiles):
    """The folder of a new run, or of the same run to continue. `begin` makes it; `RunFiles` lists its files.

    Args:
        path: of the folder.
        config: the run's `Config`.

    Raises:
        ValueError: if the folder holds another run, or something that is no run.
    """

    def __init__(self, path: str | PathLike[str], config: Config) -> None:
        self.config = config
        super().__init__(path)
        self._text = config.to_yaml()
        if self.is_run:
            self._check_same(yaml.safe_load(self._text), self.read_config())
        elif self.path.exists() and not (self.path.is_dir() and set(self.path.iterdir()) <= {self.phases}):
            raise ValueError(
                f"This is there already and holds no run; choose another with --run. Received: run={str(path)!r}"
            )

    def begin(self) -> None:
        """Make the folder unless the run is in it already. Call it when nothing can refuse the run any more.

        Raises:
            ValueError: if the folder cannot be made.
        """
        if self.is_run:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"The run's folder cannot be made ({error}); choose another with --run. "
                f"Received: run={str(self.path)!r}"
            ) from None
        # First: it makes the folder a run.
        write_atomically(self.config_file, self._text)
        write_atomically(self.versions, json.dumps(versions(), indent=2))

    def _check_same(self, settings: dict[str, Any], there: Any) -> None:
        # A key that an older run does not name had the effect of today's default.
        defaults = yaml.safe_load(type(self.config)(system=self.config.system).to_yaml())
        there = {**defaults, **there} if isinstance(there, dict) and there else {}
        keys = [key for key in {**there, **settings} if settings.get(key) != there.get(key) and not self._free(key)]
        if keys:
            changes = ", ".join(
                f"{key}={there.get(key)!r} there and {settings.get(key)!r} here" for key in sorted(keys)
            )
            raise ValueError(
                f"This folder holds another run ({changes}); choose another with --run, or give the same settings to "
                f"continue it. Received: run={str(self.path)!r}"
            )

    def _free(self, key: str) -> bool:
        # The best checkpoint is one of the epochs that were evaluated.
        return key in FREE_TO_CHANGE and (key != "holdout_every" or self.config.select != "best")

    @property
    def epochs_done(self) -> int:
        """Epochs trained up to the last checkpoint."""
        return read_state(self.checkpoints)["epoch"]

    def restored_model(self) -> "TrackletModel | None":
        """Load the model of the last checkpoint, compiled; `None` for a new run."""
        if not self.epochs_done:
            return None
        # With the settings that were free to change.
        write_atomically(self.config_file, self._text)
        return self._load(self.epochs_done, compile=True)

    def seconds_per_epoch(self) -> float | None:
        """Return the median training seconds of the logged epochs after the first, or `None`."""
        if not self.log.exists():
            return None
        with self.log.open(newline="") as file:
            seconds = sorted(float(row["seconds"]) for row in list(csv.DictReader(file))[1:])
        return seconds[len(seconds) // 2] if seconds else None

    def callbacks(self, holdout: "ReidDataset | None", config: Config) -> "list[keras.callbacks.Callback]":
        """Make the callbacks of a run, in the order in which they add to the logs.

        Args:
            holdout: a `ReidDataset` of held-out persons, or `None`.
            config: the run's `Config`.

        Returns:
            A list of Keras callbacks.
        """
        from keras.callbacks import TensorBoard

        return [
            EpochLog(),
            HoldoutEvaluation(holdout, config.holdout_every, config.max_damaged),
            CsvLog(self.log),
            TensorBoard(str(self.tensorboard), write_graph=False),
            Checkpoint(self.checkpoints),
        ]

    def selected_model(self, select: str) -> "tuple[int, TrackletModel]":
        """Load the checkpoint that results are reported for.

        Args:
            select: "last" or "best".

        Returns:
            Its epoch, counted from 1, and the model.

        Raises:
            ValueError: for "best" where no held-out person was ever evaluated.
        """
        state = read_state(self.checkpoints)
        epoch = state["epoch"] if select == "last" else state["best_epoch"]
        if epoch is None:
            raise ValueError(
                f"There is no best checkpoint without held-out persons; set holdout, or select=last. "
                f"Received: select={select!r}"
            )
        return epoch, self._load(epoch, compile=False)

    def _load(self, epoch: int, compile: bool) -> "TrackletModel":
        import keras

        import kreid.models
        import kreid.training.optimizers  # noqa: F401  registers the classes that the file names

        return keras.models.load_model(checkpoint_file(self.checkpoints, epoch), compile=compile)

    def keep(self, name: str, values: Any) -> None:
        """Keep a part of the results that a resumed run could not make again."""
        write_atomically(self.path / f"{name}.json", json.dumps(values, indent=2))

    def keep_model(self, model: "TrackletModel") -> None:
        """Save the model that is reported, replacing what an interrupted run left."""
        with replacing(self.model_file) as temporary:
            model.save(temporary)

    def keep_export(self, model: "TrackletModel", verification: dict[str, Any] | None = None) -> Path:
        """Export the model that is reported, replacing what an interrupted run left; return the version's path.

        Args:
            model: to export.
            verification: see `kreid.serving.export_model`.
        """
        from kreid.serving.export import export_model

        shutil.rmtree(self.export, ignore_errors=True)
        return export_model(model, self.export, version=1, verification=verification)

    def finish(self, results: dict[str, Any]) -> None:
        """Write `results.json`, which makes the run complete.

        Args:
            results: the scores to report, as plain data; untrained scores, time per epoch and versions are added.
        """
        results = {
            **results,
            "untrained": json.loads(self.untrained.read_text()) if self.untrained.exists() else None,
            "seconds_per_epoch": self.seconds_per_epoch(),
            "versions": versions(),
        }
        write_atomically(self.results_file, json.dumps(results, indent=2) + "\n")


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, and the machine's kind."""
    result = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for package in PACKAGES:
        try:
            result[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            result[package] = "not installed"
    return result
