"""The files of a run's folder: the only place that knows their names, for those who write them and those who read."""

import csv
import functools
import json
import os
import pathlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

if TYPE_CHECKING:
    from kreid.data.tracklet import ReidDataset
    from kreid.models.tracklet_model import TrackletModel


class RunFiles:
    """Where the files of a run are.

    | file | content |
    |---|---|
    | `config.yaml` | the resolved settings; it makes the folder a run |
    | `versions.json` | versions of the packages, and the machine's kind |
    | `log.csv`, `tensorboard/` | one row per epoch |
    | `checkpoints/` | the last and the best, and `state.json`, which names them |
    | `model.keras` | the model of the results |
    | `export/1/` | the same as a SavedModel |
    | `untrained.json` | scores before training, if the settings ask for them |
    | `queries.json` | average precision and rank of the first match, by query and protocol |
    | `results.json` | written last: a run that has it is complete |
    | `report/` | the page, see `kreid.report` |
    | `phases/NAME/` | the same files of each phase before the last |

    The runs of several splits are in `split_N/` of one folder, with their mean in its `splits.json`.

    Args:
        path: of the folder.

    Example:

    >>> RunFiles("runs/sta").results.as_posix()
    'runs/sta/results.json'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        self.config_file = self.path / "config.yaml"
        self.versions = self.path / "versions.json"
        self.log = self.path / "log.csv"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.model_file = self.path / "model.keras"
        self.export = self.path / "export"
        self.untrained = self.path / "untrained.json"
        self.queries = self.path / "queries.json"
        self.results_file = self.path / "results.json"
        self.report = self.path / "report"
        self.phases = self.path / "phases"
        self.splits_file = self.path / "splits.json"

    @property
    def is_run(self) -> bool:
        """Whether a run was begun here."""
        return self.config_file.exists()

    @property
    def is_complete(self) -> bool:
        """Whether the run has its results."""
        return self.results_file.exists()

    @property
    def results(self) -> dict[str, Any]:
        """The content of `results.json`; empty without it."""
        return _read_json(self.results_file) if self.is_complete else {}

    def read_queries(self) -> dict[str, Any]:
        """Read `queries.json`: by protocol, the scores of the single queries."""
        return _read_json(self.queries)

    def read_config(self) -> Any:
        """Read `config.yaml` as plain data, whatever it holds."""
        return yaml.safe_load(self.config_file.read_text(encoding="utf-8"))

    def phase(self, name: str) -> "RunFiles":
        """Return the files of an earlier phase."""
        return RunFiles(self.phases / name)

    def split(self, number: int) -> "RunFiles":
        """Return the files of a split's run."""
        return RunFiles(self.path / f"split_{number}")

    def splits(self) -> "dict[int, RunFiles]":
        """Return the splits' runs that were begun, by their number, in order."""
        numbers = (re.fullmatch(r"split_(\d+)", folder.name) for folder in self.path.glob("split_*"))
        runs = {int(number[1]): self.split(int(number[1])) for number in numbers if number}
        return {number: runs[number] for number in sorted(runs) if runs[number].is_run}


def checkpoint_file(folder: str | os.PathLike[str], epoch: int) -> pathlib.Path:
    """Return the path of the checkpoint after an epoch, counted from 1."""
    return pathlib.Path(folder) / f"epoch_{epoch}.keras"


def state_file(folder: str | os.PathLike[str]) -> pathlib.Path:
    """Return the path of the file that names the checkpoints of a folder."""
    return pathlib.Path(folder) / "state.json"


def read_state(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the state of a checkpoint folder: epochs trained, and the best held-out mAP and its epoch."""
    path = state_file(folder)
    return _read_json(path) if path.exists() else {"epoch": 0, "best_map": -1.0, "best_epoch": None}


class FinishedRun(RunFiles):
    """A run that training has finished, to read.

    Args:
        path: of the folder.

    Raises:
        ValueError: if it holds no run with a model.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        for file in (self.config_file, self.model_file):
            if not file.is_file():
                raise ValueError(
                    f"This is no finished run: it has no {file.name}; give the folder that training left, or let the "
                    f"same training command finish it. Received: run={str(path)!r}"
                )
        self.config = self.read_config()
        if not isinstance(self.config, dict) or "system" not in self.config:
            raise ValueError(f"This run's config.yaml names no system. Received: run={str(path)!r}")

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @functools.cached_property
    def model(self) -> "TrackletModel":
        """The model of the results, not compiled."""
        import keras

        import kreid.models  # noqa: F401  registers the classes that the file names

        return keras.models.load_model(self.model_file, compile=False)

    def logs(self) -> dict[str, dict[str, np.ndarray]]:
        """Read the columns of `log.csv`, floats by name, phase by phase; the last phase is called `main`."""
        names = [folder.name for folder in self.phases.iterdir()] if self.phases.is_dir() else []
        files = {name: self.phase(name).log for name in names if self.phase(name).log.is_file()}
        # The phases were trained in the order of their files' dates.
        files = dict(sorted(files.items(), key=lambda item: item[1].stat().st_mtime))
        files["main"] = self.log
        logs = {}
        for name, file in files.items():
            if file.is_file():
                with file.open(newline="", encoding="utf-8") as opened:
                    rows = list(csv.DictReader(opened))
                if rows:
                    logs[name] = {key: np.array([float(row[key] or "nan") for row in rows]) for key in rows[0]}
        return logs

    @property
    def train_folders(self) -> list[str]:
        """The folders of the data that the run was trained on."""
        if self.config.get("data") == "images":
            return list(self.config["image_dirs"])
        return [self.config["data_dir"]]

    def dataset(self, data: str | os.PathLike[str] | None = None) -> "ReidDataset":
        """Read the run's data set, or another.

        Args:
            data: a folder in a layout that `kreid.data.read_dataset` knows; `None` for the run's own. Of a data set
                with splits it is the run's.

        Returns:
            A `ReidDataset` with queries.

        Raises:
            FileNotFoundError: if it is not there.
            ValueError: if it has no queries, or the run was trained on images and no set is named.
        """
        from kreid.data.readers import read_dataset

        if data is None and self.config.get("data") == "images":
            raise ValueError(
                f"This run was trained on single images, which have no test set; name one with --data. "
                f"Received: run={str(self.path)!r}"
            )
        root = pathlib.Path(data or self.config["data_dir"])
        if not root.is_dir():
            raise FileNotFoundError(
                f"The data set is not there; name its folder with --data. Received: data={str(root)!r}"
            )
        dataset = read_dataset(root, self.config.get("split"), self.config.get("persons"))
        if not dataset.query_rows:
            raise ValueError(f"This data set has no queries to evaluate. Received: data={str(root)!r}")
        return dataset


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
