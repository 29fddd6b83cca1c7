"""The folder of one run: settings, logs, checkpoints, results, the exported model."""

import csv
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil

import yaml

from kreid._files import write_atomically
from kreid.training.callbacks import (
    Checkpoint,
    CsvLog,
    EpochLog,
    HoldoutEvaluation,
    checkpoint_file,
    read_state,
)
from kreid.training.config import FREE_TO_CHANGE

PHASES = "phases"
PACKAGES = ("kreid", "keras", "tensorflow", "numpy")


class RunFolder:
    """A run's folder: a new one, or one that holds the same run and continues. `begin` makes it.

    | file | what |
    |---|---|
    | `config.yaml` | the resolved settings |
    | `versions.json` | of the packages and the machine's kind |
    | `log.csv`, `tensorboard/` | one row per epoch |
    | `checkpoints/` | the last and the best, and `state.json`, which names them |
    | `model.keras` | the model of the results |
    | `export/1/` | the same as a SavedModel |
    | `queries.json` | average precision and rank of the first match, by query and protocol |
    | `results.json` | written last: a run that has it is complete |
    | `phases/NAME/` | the folders of the phases before the last one |

    Args:
        path: of the folder.
        config: the run's `Config`.

    Raises:
        ValueError: if the folder holds another run, or something that is no run.
    """

    def __init__(self, path, config):
        self.config = config
        self.path = pathlib.Path(path)
        self.config_file = self.path / "config.yaml"
        self.log = self.path / "log.csv"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model.keras"
        self.export = self.path / "export"
        self.results = self.path / "results.json"
        self._text = config.to_yaml()
        if self.config_file.exists():
            self._check_same(yaml.safe_load(self._text), yaml.safe_load(self.config_file.read_text(encoding="utf-8")))
        elif self.path.exists() and not (
            self.path.is_dir() and {entry.name for entry in self.path.iterdir()} <= {PHASES}
        ):
            raise ValueError(
                f"This is there already and holds no run; choose another with --run. Received: run={str(path)!r}"
            )

    @staticmethod
    def phase_path(path, name):
        """Where the folder of an earlier phase lies in the run folder `path`."""
        return pathlib.Path(path) / PHASES / name

    def begin(self):
        """Makes the folder, if this run is not in it yet. Whatever refuses a run does so before.

        Raises:
            ValueError: if the folder cannot be made.
        """
        if self.config_file.exists():
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"The run's folder cannot be made ({error}); choose another with --run. "
                f"Received: run={str(self.path)!r}"
            ) from None
        # First, as it is what makes the folder a run.
        write_atomically(self.config_file, self._text)
        write_atomically(self.path / "versions.json", json.dumps(versions(), indent=2))

    def _check_same(self, wanted, found):
        # What an older run does not name was not a setting yet, and is what the default does.
        defaults = yaml.safe_load(type(self.config)(system=self.config.system).to_yaml())
        found = {**defaults, **found} if isinstance(found, dict) and found else {}
        keys = [key for key in {**found, **wanted} if wanted.get(key) != found.get(key) and not self._free(key)]
        if keys:
            changes = ", ".join(f"{key}={found.get(key)!r} there and {wanted.get(key)!r} here" for key in sorted(keys))
            raise ValueError(
                f"This folder holds another run ({changes}); choose another with --run, or give the same settings to "
                f"continue it. Received: run={str(self.path)!r}"
            )

    def _free(self, key):
        # The best checkpoint is one of the epochs that were evaluated.
        return key in FREE_TO_CHANGE and (key != "holdout_every" or self.config.select != "best")

    @property
    def epochs_done(self):
        """Epochs that the last checkpoint has behind it."""
        return read_state(self.checkpoints)["epoch"]

    def restored_model(self):
        """The last checkpoint's model, compiled; `None` for a new run."""
        if not self.epochs_done:
            return None
        # With the settings that were free to change.
        write_atomically(self.config_file, self._text)
        return self._load(self.epochs_done, compile=True)

    def seconds_per_epoch(self):
        """Median training seconds of the logged epochs after the first, or `None`."""
        if not self.log.exists():
            return None
        with self.log.open(newline="") as file:
            seconds = sorted(float(row["seconds"]) for row in list(csv.DictReader(file))[1:])
        return seconds[len(seconds) // 2] if seconds else None

    def callbacks(self, holdout, config):
        """The callbacks of a run, in the order in which they add to the logs.

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

    def selected_model(self, select):
        """The checkpoint that results are reported for.

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

    def _load(self, epoch, compile):
        import keras

        import kreid.models
        import kreid.training.optimizers  # noqa: F401  registers what the file names

        return keras.models.load_model(checkpoint_file(self.checkpoints, epoch), compile=compile)

    def keep(self, name, values):
        """Keeps a part of the results that a resumed run could not make again."""
        write_atomically(self.path / f"{name}.json", json.dumps(values, indent=2))

    def keep_model(self, model):
        """Saves the model that is reported, replacing what an interrupted run left."""
        temporary = self.model.with_name(f"writing-{self.model.name}")
        model.save(temporary)
        os.replace(temporary, self.model)

    def keep_export(self, model, verification=None):
        """Exports the model that is reported, replacing what an interrupted run left; returns the version's path.

        Args:
            model: to export.
            verification: see `kreid.serving.export_model`.
        """
        from kreid.serving.export import export_model

        shutil.rmtree(self.export, ignore_errors=True)
        return export_model(model, self.export, version=1, verification=verification)

    def finish(self, results):
        """Writes `results.json`, which makes the run complete.

        Args:
            results: what is reported, as plain data; untrained scores, time per epoch and versions are added.
        """
        untrained = self.path / "untrained.json"
        results = {
            **results,
            "untrained": json.loads(untrained.read_text()) if untrained.exists() else None,
            "seconds_per_epoch": self.seconds_per_epoch(),
            "versions": versions(),
        }
        write_atomically(self.results, json.dumps(results, indent=2) + "\n")


def versions():
    """Versions of what a result depends on, and the machine's kind."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            found[package] = "not installed"
    return found
