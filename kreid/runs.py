"""What a run's folder holds."""

import csv
import functools
import json
import pathlib

import numpy as np
import yaml


class FinishedRun:
    """A run's folder, as the recipes leave it, to be read.

    Args:
        path: of the folder.

    Raises:
        ValueError: if it holds no run with a model.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        for name in ("config.yaml", "model.keras"):
            if not (self.path / name).is_file():
                raise ValueError(
                    f"This is no finished run: it has no {name}; give the folder that training left, or let the same "
                    f"training command finish it. Received: run={str(path)!r}"
                )
        self.config = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        if not isinstance(self.config, dict) or "system" not in self.config:
            raise ValueError(f"This run's config.yaml names no system. Received: run={str(path)!r}")

    @property
    def name(self):
        """The folder's name."""
        return self.path.resolve().name

    @functools.cached_property
    def model(self):
        """The model of the results, not compiled."""
        import keras

        import kreid.models  # noqa: F401  registers what the file names

        return keras.models.load_model(self.path / "model.keras", compile=False)

    @property
    def results(self):
        """What `results.json` holds; empty without it."""
        file = self.path / "results.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def logs(self):
        """Columns of `log.csv`, floats by name, phase by phase; the last phase is called `main`."""
        files = {file.parent.name: file for file in sorted(self.path.glob("phases/*/log.csv"))}
        # In the order in which they were trained, which is that of their files.
        files = dict(sorted(files.items(), key=lambda item: item[1].stat().st_mtime))
        files["main"] = self.path / "log.csv"
        found = {}
        for name, file in files.items():
            if file.is_file():
                with file.open(newline="", encoding="utf-8") as opened:
                    rows = list(csv.DictReader(opened))
                if rows:
                    found[name] = {key: np.array([float(row[key] or "nan") for row in rows]) for key in rows[0]}
        return found

    @property
    def train_folders(self):
        """The folders of the data that the run was trained on."""
        if self.config.get("data") == "images":
            return list(self.config["image_dirs"])
        return [self.config["data_dir"]]

    def dataset(self, data=None):
        """Reads the run's data set, or another.

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
