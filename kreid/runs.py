"""The files of a run's folder. Only this module knows their names."""

import csv
import functools
import json
import os
import pathlib
import re
import typing
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from kreid.evaluation.retrieval_result import RetrievalResult
from kreid.evaluation.tables import results_from_dict
from kreid.loading import load_model

if typing.TYPE_CHECKING:
    from kreid.data import ReidDataset
    from kreid.models import Baseline, TrackletModel

_NO_EPOCH: dict[str, Any] = {"epoch": 0, "step": 0, "best_map": -1.0, "best_epoch": None}


class RunFiles:
    """Paths of the files in a run's folder, and their contents as plain data. No file needs to exist.

    | attribute | file |
    |---|---|
    | `config_file` | `config.yaml`, the resolved settings; a folder with this file is a run |
    | `versions_file` | `versions.json`, versions of the packages, and the kind of machine |
    | `lock` | `training.lock`, the number of the process that trains the run |
    | `log` | `log.csv`, one row per epoch |
    | `tensorboard` | `tensorboard/`, the same log for TensorBoard |
    | `checkpoints` | `checkpoints/`, the last and the best model, and `state.json`, which names them |
    | `model` | `model.keras`, the model of the results |
    | `export` | `export/`, the same model as a SavedModel, in `1/` |
    | `export_in(...)` | `export_onnx/` and so on, the same model in other formats |
    | `untrained` | `untrained.json`, scores before training |
    | `queries` | `queries.json`, scores of the single queries by protocol |
    | `conditions` | `conditions.json`, scores of a table's row as it is tested there, see `kreid ablate` |
    | `results` | `results.json`, written last: a run with this file is complete |
    | `report` | `report/`, see `ReportFiles` |
    | `phases` | `phases/`, the runs of earlier phases |
    | `splits_summary` | `splits.json`, the mean over splits, in the folder that holds their runs |

    Args:
        path: of the folder.

    Example:

    >>> files = RunFiles("runs/sta_mars")
    >>> files.results.as_posix(), files.phase("images").model.as_posix()
    ('runs/sta_mars/results.json', 'runs/sta_mars/phases/images/model.keras')
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)
        self.config_file = self.path / "config.yaml"
        self.versions_file = self.path / "versions.json"
        self.lock = self.path / "training.lock"
        self.log = self.path / "log.csv"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model.keras"
        self.export = self.path / "export"
        self.untrained = self.path / "untrained.json"
        self.queries = self.path / "queries.json"
        self.conditions = self.path / "conditions.json"
        self.results = self.path / "results.json"
        self.report = self.path / "report"
        self.phases = self.path / "phases"
        self.splits_summary = self.path / "splits.json"

    def export_in(self, format: str, precision: str = "float32") -> pathlib.Path:
        """Return the folder of exports in a format: `export`, `export_onnx`, `export_onnx_int8` and so on."""
        parts = [part for part in (format, precision) if part not in ("saved_model", "float32")]
        return self.path / "_".join(["export", *parts])

    def phase(self, name: str) -> "RunFiles":
        """Return the files of an earlier phase, `phases/NAME`."""
        return RunFiles(self.phases / name)

    def split(self, number: int) -> "RunFiles":
        """Return the files of a split, `split_NUMBER`."""
        return RunFiles(self.path / f"split_{number}")

    def splits(self) -> dict[int, "RunFiles"]:
        """Return the files of the splits that are runs, by number, in rising order."""
        numbers = (re.fullmatch(r"split_(\d+)", folder.name) for folder in self.path.glob("split_*"))
        runs = {int(number[1]): self.split(int(number[1])) for number in numbers if number}
        return {number: run for number, run in sorted(runs.items()) if run.is_run}

    @property
    def is_run(self) -> bool:
        """Whether the folder holds a run."""
        return self.config_file.is_file()

    @property
    def is_complete(self) -> bool:
        """Whether the run has results."""
        return self.results.is_file()

    def read_config(self) -> Any:
        """Return the data of `config.yaml`: a dict, unless another program wrote the file."""
        return yaml.safe_load(self.config_file.read_text(encoding="utf-8"))

    def read_results(self) -> dict[str, Any]:
        """Return the data of `results.json`, empty if there is no file."""
        return _read_json(self.results)

    def read_untrained(self) -> dict[str, Any]:
        """Return the data of `untrained.json`, empty if there is no file."""
        return _read_json(self.untrained)

    def read_protocols(self) -> dict[str, RetrievalResult]:
        """Return the scores of the test set by protocol, with the scores of single queries if `queries.json` exists.

        Empty for a run without a test set or without results.
        """
        queries = _read_json(self.queries)
        return results_from_dict(self.read_results().get("protocols", {}), queries or None)

    def read_query_ids(self, protocol: str) -> list[str]:
        """Return the ids of the queries in the order of a protocol's arrays, empty if there is no `queries.json`."""
        return _read_json(self.queries).get(protocol, {}).get("queries", [])

    def read_conditions(self) -> dict[str, Any]:
        """Return the data of `conditions.json`, empty if there is no file."""
        return _read_json(self.conditions)

    def read_log(self) -> dict[str, np.ndarray]:
        """Return the columns of `log.csv` by name, float64, NaN where an epoch has no value; empty without rows."""
        if not self.log.is_file():
            return {}
        with self.log.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
        return {key: np.array([float(row[key] or "nan") for row in rows]) for key in rows[0]} if rows else {}

    def read_phase_logs(self) -> dict[str, dict[str, np.ndarray]]:
        """Return the columns of every phase's log, in the order of training; the last phase is named `main`."""
        earlier = {folder.name: RunFiles(folder) for folder in self.phases.glob("*")}
        earlier = {name: run for name, run in earlier.items() if run.log.is_file()}
        # The dates of the files give the order of training.
        runs = dict(sorted(earlier.items(), key=lambda item: item[1].log.stat().st_mtime))
        logs = {name: run.read_log() for name, run in {**runs, "main": self}.items()}
        return {name: log for name, log in logs.items() if log}


class ReportFiles:
    """Paths of the files in a report's folder. No file needs to exist.

    | attribute | file |
    |---|---|
    | `page` | `index.html` |
    | `numbers` | `report.json`, the numbers of the page |
    | `bad_frames` | `bad_frames.json`, scores with bad frames |
    | `embeddings` | `embeddings.npz`, embeddings of the test set |
    | `compared` | `compared.npz`, embeddings of the run that is compared |

    Args:
        path: of the folder.

    Example:

    >>> ReportFiles("runs/sta_mars/report").page.as_posix()
    'runs/sta_mars/report/index.html'
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)
        self.page = self.path / "index.html"
        self.numbers = self.path / "report.json"
        self.bad_frames = self.path / "bad_frames.json"
        self.embeddings = self.path / "embeddings.npz"
        self.compared = self.path / "compared.npz"


def checkpoint_file(folder: str | os.PathLike[str], epoch: int, step: int = 0) -> pathlib.Path:
    """Return the path of a checkpoint in a folder of checkpoints.

    Args:
        folder: of the checkpoints.
        epoch: whole epochs that it has behind it.
        step: steps of the next epoch that it has behind it.

    Example:

    >>> checkpoint_file("checkpoints", 3).as_posix(), checkpoint_file("checkpoints", 3, 120).as_posix()
    ('checkpoints/epoch_3.keras', 'checkpoints/epoch_3_step_120.keras')
    """
    return pathlib.Path(folder) / (f"epoch_{epoch}_step_{step}.keras" if step else f"epoch_{epoch}.keras")


def position_text(epoch: int, step: int = 0) -> str:
    """Return a point of training in words, by its whole epochs and its steps of the next epoch.

    Example:

    >>> position_text(3), position_text(3, 120)
    ('epoch 3', 'step 120 of epoch 4')
    """
    return f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"


def state_file(folder: str | os.PathLike[str]) -> pathlib.Path:
    """Return the path of the file that names the last and the best checkpoint, in a folder of checkpoints."""
    return pathlib.Path(folder) / "state.json"


def checkpoint_positions(folder: str | os.PathLike[str]) -> list[tuple[int, int]]:
    """Return epoch and step of the checkpoints in a folder of checkpoints, see `checkpoint_file`, in order."""
    files = pathlib.Path(folder).glob("epoch_*.keras")
    numbers = (re.fullmatch(r"epoch_(\d+)(?:_step_(\d+))?", file.stem) for file in files)
    return sorted((int(number[1]), int(number[2] or 0)) for number in numbers if number)


def read_state(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the state of a folder of checkpoints: epoch and step of the last, and the best held-out mAP and its epoch.

    Without a readable state file it is derived from the checkpoints and the run's log.
    """
    try:
        state = _read_json(state_file(folder))
    except ValueError:
        state = {}
    # A run from before there were steps has none.
    if isinstance(state, dict) and state.keys() >= _NO_EPOCH.keys() - {"step"}:
        return {**_NO_EPOCH, **state}
    return derived_state(folder, checkpoint_positions(folder))


def derived_state(folder: str | os.PathLike[str], positions: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Return the state of a folder of checkpoints from some of them and the run's log.

    Args:
        folder: of the checkpoints, in the run's folder.
        positions: of the checkpoints that count, see `checkpoint_positions`.

    Returns:
        A dict like that of `read_state`. There is no best epoch if its checkpoint does not count.
    """
    state = dict(_NO_EPOCH)
    if positions:
        state["epoch"], state["step"] = positions[-1]
        log = RunFiles(pathlib.Path(folder).parent).read_log()
        rows = zip(log.get("epoch", ()), log.get("holdout_map", ()), strict=False)
        scores = {int(epoch): float(score) for epoch, score in rows if score >= 0 and epoch <= state["epoch"]}
        if scores:
            best = max(scores, key=lambda epoch: scores[epoch])
            if (best, 0) in positions:
                state.update(best_map=scores[best], best_epoch=best)
    return state


def write_unsaved(checkpoint: str | os.PathLike[str], unsaved: Mapping[str, Any]) -> None:
    """Write plain data that Keras does not save into a checkpoint, as the comment of the zip file that it is.

    Another file inside would make Keras unpack the whole checkpoint to a temporary folder when it loads it.

    Raises:
        ValueError: if the data is too large for a comment.
    """
    comment = json.dumps(unsaved).encode()
    if len(comment) > zipfile.ZIP_MAX_COMMENT:
        raise ValueError(
            f"The states of metrics and seed generators are too large for a checkpoint; compile the model with smaller "
            f"metrics. Received: {len(comment)} bytes, of {zipfile.ZIP_MAX_COMMENT} at most"
        )
    with zipfile.ZipFile(checkpoint, "a") as file:
        file.comment = comment


def read_unsaved(checkpoint: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `write_unsaved` wrote, empty for a checkpoint of an earlier version.

    Raises:
        OSError, zipfile.BadZipFile, ValueError: if the file is damaged.
    """
    with zipfile.ZipFile(checkpoint) as file:
        return json.loads(file.comment or b"{}")


class FinishedRun:
    """Read the folder of a run whose training has finished.

    Args:
        path: of the folder.

    Attributes:
        files: the `RunFiles` of the folder.
        path: of the folder.
        config: the run's settings.
        changes: in which ways `model` embeds other than the run's model does, in words; empty until a method
            `use_...` changes it.

    Raises:
        ValueError: if the folder holds no run with a model.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.files = RunFiles(path)
        self.path = self.files.path
        self.changes: list[str] = []
        for file in (self.files.config_file, self.files.model):
            if not file.is_file():
                raise ValueError(
                    f"This is no finished run: it has no {file.name}; name the folder of a finished run, or finish it "
                    f"with the same training command. Received: run={str(path)!r}"
                )
        self.config = self.files.read_config()
        if not isinstance(self.config, dict) or "system" not in self.config:
            raise ValueError(f"This run's config.yaml names no system. Received: run={str(path)!r}")

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @functools.cached_property
    def model(self) -> "TrackletModel":
        """The model of the results, not compiled."""
        return load_model(self.files.model, compile=False)

    def use_pooling(self, pooling: str) -> None:
        """Pool the frames of the model in another way from now on, see `kreid.models.Baseline.with_pooling`.

        Where the model has no mean of its frame vectors, it is computed on the train tracklets of the run's data.

        Raises:
            ValueError: for another system than the baseline, an unknown pooling, or if a mean is needed and the run was
                trained on single images.
            FileNotFoundError: if a mean is needed and the data set does not exist.
        """
        from kreid.gallery import mean_frame_vector

        model = checked_baseline(self.model, pooling)
        mean = None
        if pooling != "average" and model.mean_frame_vector is None:
            mean = mean_frame_vector(model, self.dataset().train)
        self.model = model.with_pooling(pooling, mean)
        self.changes.append(f"{pooling} pooling")

    def use_mirrored(self) -> None:
        """Embed frames together with their mirror images from now on, see `kreid.models.TrackletModel.with_mirrored`.

        Raises:
            ValueError: if the system cannot.
        """
        self.model = self.model.with_mirrored()
        self.changes.append("frames together with their mirror images")

    @property
    def verification(self) -> dict[str, Any] | None:
        """The fitted threshold; `None` if there is none, or the model embeds in another way than it was fitted for."""
        return None if self.changes else self.results.get("verification")

    @property
    def results(self) -> dict[str, Any]:
        """The data of `results.json`; empty if there is no file."""
        return self.files.read_results()

    def logs(self) -> dict[str, dict[str, np.ndarray]]:
        """Return the columns of each phase's log, see `RunFiles.read_phase_logs`."""
        return self.files.read_phase_logs()

    @property
    def train_folders(self) -> list[str]:
        """The folders of the data that the run was trained on."""
        if self.config.get("data") == "images":
            return list(self.config["image_dirs"])
        return [self.config["data_dir"]]

    def dataset(self, data: str | os.PathLike[str] | None = None) -> "ReidDataset":
        """Read the run's data set, or another one.

        Args:
            data: folder in a layout that `kreid.data.read_dataset` knows; `None` for the run's own. For a data set with
                splits, the run's split is read.

        Returns:
            A `ReidDataset` with queries.

        Raises:
            FileNotFoundError: if the data set does not exist.
            ValueError: if it has no queries, or the run was trained on images and `data` is `None`.
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
                f"The data set does not exist; name its folder with --data. Received: data={str(root)!r}"
            )
        dataset = read_dataset(root, self.config.get("split"), self.config.get("persons"))
        if not dataset.query_rows:
            raise ValueError(f"This data set has no queries to evaluate. Received: data={str(root)!r}")
        return dataset


def checked_baseline(model: "TrackletModel", pooling: str) -> "Baseline":
    """Return a model if its frames can be pooled so, see `kreid.models.Baseline.with_pooling`.

    Raises:
        ValueError: for another system than the baseline, or an unknown pooling.
    """
    from kreid.models.baseline import Baseline, check_pooling

    if not isinstance(model, Baseline):
        raise ValueError(
            "Only the baseline's frames can be pooled in another way; other systems have their own fusion. "
            f"Received: pooling={pooling!r} for a {type(model).__name__}"
        )
    check_pooling(pooling)
    return model


def load_run_or_model(path: str | os.PathLike[str]) -> "TrackletModel":
    """Load the model of a run's folder, or of a `.keras` file, not compiled.

    Raises:
        ValueError: if there is neither.
    """
    if pathlib.Path(path).is_dir():
        return FinishedRun(path).model
    return load_model(path, compile=False)


def _read_json(file: pathlib.Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
