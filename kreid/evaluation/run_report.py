"""A finished run evaluated again, on its own data or on other, with a report to look at."""

import csv
import dataclasses
import functools
import json
import os
import pathlib

import numpy as np
import yaml

from kreid.data.tracklet import Tracklet
from kreid.evaluation.bootstrap import bootstrap_interval, paired_bootstrap, sign_flip_test
from kreid.evaluation.cameras import CameraMatrices, evaluate_cameras
from kreid.evaluation.embeddings import TrackletEmbeddings, embed_to_file, model_digest
from kreid.evaluation.rerank import evaluate_reranked
from kreid.evaluation.retrieval import RetrievalResult, evaluate_test
from kreid.evaluation.verification import equal_error_rate, pair_distances, rates_at, roc
from kreid.files import write_atomically

# Enough for the digits that are shown.
_DRAWS = 2000

PAGE, NUMBERS, EMBEDDINGS, COMPARED = "index.html", "report.json", "embeddings.npz", "compared.npz"


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


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """A run's scores on a test set.

    Args:
        run: the `FinishedRun`.
        embeddings: `TrackletEmbeddings` of the test set.
        tracklets: those of the embeddings, row by row.
        protocols: see `evaluate_test`.
        reranked: see `evaluate_reranked`; empty where nobody asked.
    """

    run: FinishedRun
    embeddings: TrackletEmbeddings
    tracklets: tuple[Tracklet, ...]
    protocols: dict[str, RetrievalResult]
    reranked: dict[str, RetrievalResult]

    @functools.cached_property
    def cameras(self) -> CameraMatrices:
        """Scores by pair of cameras."""
        return evaluate_cameras(*self.embeddings.test)

    @functools.cached_property
    def pairs(self):
        """Distances of the genuine and impostor pairs, or `None` where there are none of either."""
        try:
            return pair_distances(*self._labelled)
        except ValueError:
            return None

    @functools.cached_property
    def at_threshold(self):
        """The error rates of this test set at the threshold that the run fitted, or `None`."""
        fitted = self.run.results.get("verification")
        if not fitted or self.pairs is None or fitted["metric"] != self.embeddings.metric:
            return None
        embeddings, persons, cameras, metric = self._labelled
        return rates_at(embeddings, persons, cameras, fitted["threshold"], metric)

    @property
    def _labelled(self):
        found = self.embeddings
        return found.embeddings, found.persons, found.cameras, found.metric

    @property
    def all_scores(self):
        """Results by the name of their column: each protocol, plain and, where asked for, re-ranked."""
        columns = {}
        for name, result in self.protocols.items():
            columns[name] = result
            if name in self.reranked:
                columns[f"{name}, re-ranked"] = self.reranked[name]
        return columns

    def numbers(self):
        """Plain data for `report.json`."""
        found = {
            "system": self.run.config["system"],
            "model": self.embeddings.model,
            "metric": self.embeddings.metric,
            "tracklets": len(self.embeddings),
            "queries": len(self.embeddings.query_rows),
            "unreadable": self.embeddings.unreadable.tolist(),
            "damaged_frames": len(self.embeddings.damaged_frames),
        }
        for kind, results in (("protocols", self.protocols), ("reranked", self.reranked)):
            found[kind] = {
                name: {score: list(interval) for score, interval in intervals(result).items()}
                for name, result in results.items()
            }
        if self.pairs is not None:
            found["equal_error_rate"] = equal_error_rate(self.pairs)
        return found


def write_report(run, data=None, rerank=False, compare=None, out=None, progress=True):
    """Evaluates a run's model and writes a page of what it finds, with nothing outside it.

    Beside the page lie its numbers, `report.json`, and the embeddings, `embeddings.npz`, which the next report of the
    same model on the same data reads instead of making them anew.

    Args:
        run: a run's folder.
        data: folder of the data set to test on, the run's own if `None`; see `FinishedRun.dataset`.
        rerank: also score by k-reciprocal re-ranking.
        compare: folder of another run, to be measured on the same data.
        out: the report's folder; by default `report` in the run's.
        progress: show progress bars.

    Returns:
        The path of the page, and the `Measured` of the run.

    Raises:
        ValueError: if a folder holds no run, the runs are of other data, or `out` holds something else.
        FileNotFoundError: if the data set is not there.
    """
    from kreid.evaluation.report_page import report_page

    run = FinishedRun(run)
    other = None if compare is None else FinishedRun(compare)
    if other is not None and data is None:
        _check_same_data(run, other)
    dataset = run.dataset(data)
    folder = run.path / "report" if out is None else pathlib.Path(out)
    if out is not None:
        _check_free(folder, run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"The report's folder cannot be made ({error}); choose another --out. Received: out={str(folder)!r}"
        ) from None

    measured = measure(run, dataset, folder / EMBEDDINGS, rerank, progress)
    compared = other and measure(other, dataset, folder / COMPARED, rerank, progress)
    if compared and not np.array_equal(compared.embeddings.ids, measured.embeddings.ids):
        raise ValueError(
            "The two models could not read the same tracklets, so their queries cannot be paired; mend the damaged "
            f"frames. Received: {len(measured.embeddings)} and {len(compared.embeddings)} tracklets"
        )
    name = dataset.name if data is None else str(pathlib.Path(data).resolve().name)
    numbers = {"data": name, **measured.numbers()}
    if compared:
        numbers["compared"] = {
            "run": other.name,
            **compared.numbers(),
            "differences": {
                protocol: {score: list(found) for score, found in differences(measured, compared, protocol).items()}
                for protocol in measured.protocols
            },
        }
    own = data is None or [os.path.realpath(data)] == [os.path.realpath(one) for one in run.train_folders]
    text = report_page(measured, compared, name, trained_in=None if own else run.train_folders)
    write_atomically(folder / NUMBERS, json.dumps(numbers, indent=2) + "\n")
    write_atomically(folder / PAGE, text)
    return folder / PAGE, measured


def measure(run, dataset, path, rerank=False, progress=True):
    """Embeds a data set's test tracklets into a file and scores them.

    Args:
        run: a `FinishedRun`.
        dataset: a `ReidDataset`.
        path: of the file of embeddings, see `embed_to_file`.
        rerank: also score by re-ranking.
        progress: show progress bars.

    Returns:
        A `Measured`.
    """
    embeddings = embed_to_file(
        run.model,
        dataset.test,
        path,
        query_rows=dataset.query_rows,
        max_damaged=run.config.get("max_damaged", 0.05),
        progress=progress,
    )
    by_id = {tracklet.id: tracklet for tracklet in dataset.test}
    return Measured(
        run,
        embeddings,
        tuple(by_id[name] for name in embeddings.ids.tolist()),
        evaluate_test(*embeddings.test),
        evaluate_reranked(*embeddings.test, progress=progress) if rerank else {},
    )


def by_query(result):
    """Scores of the single queries by name, NaN for a query without a match; their means are the scores."""
    valid = result.first_hit > 0
    found = {f"rank-{rank}": np.where(valid, result.first_hit <= rank, np.nan) for rank in result.cmc}
    return {**found, "mAP": result.average_precision, "mINP": result.inverse_negative_penalty}


def intervals(result):
    """`Interval` of every score of a `RetrievalResult`, by name."""
    return {name: bootstrap_interval(scores, draws=_DRAWS) for name, scores in by_query(result).items()}


def differences(measured, compared, protocol):
    """Score of `compared` less that of `measured`, its interval's ends and the p-value of no difference, by name."""
    one, other = by_query(measured.protocols[protocol]), by_query(compared.protocols[protocol])
    return {
        name: (
            *paired_bootstrap(other[name], one[name], draws=_DRAWS),
            sign_flip_test(other[name], one[name], draws=_DRAWS),
        )
        for name in one
    }


def error_curve(pairs, points=200):
    """The curve of `roc` without its infinite end, thinned for drawing over the threshold or over either rate."""
    thresholds, false_match, false_non_match = curve = [values[:-1] for values in roc(pairs)]
    wanted = [
        (thresholds, np.linspace(0, thresholds[-1], points)),
        (false_match, np.geomspace(1 / pairs.num_impostors, 1, points)),
        (-false_non_match, np.linspace(-1, 0, points)),
    ]
    kept = [np.searchsorted(values, places).clip(0, len(thresholds) - 1) for values, places in wanted]
    return [values[np.unique(np.concatenate(kept))] for values in curve]


def _check_same_data(run, other):
    one, two = (pathlib.Path(each.config.get("data_dir", "")).resolve() for each in (run, other))
    if one != two or run.config.get("data") != other.config.get("data"):
        raise ValueError(
            f"These runs are of other data, {str(one)!r} and {str(two)!r}; name the set to compare them on with "
            f"--data. Received: compare={str(other.path)!r}"
        )
    one, two = ([each.config.get(key) for key in ("split", "persons")] for each in (run, other))
    if one != two:
        raise ValueError(
            f"These runs are of different splits, and one was trained on persons whom the other is tested on; compare "
            f"runs of one split. Received: split={one[0]} and {two[0]}, persons={one[1]} and {two[1]}"
        )


def _check_free(folder, run):
    """Raises where a report of another model, or a page that is no report, would be overwritten."""
    file = folder / EMBEDDINGS
    if file.exists() and TrackletEmbeddings.load(file).model != model_digest(run.model):
        raise ValueError(
            f"This folder holds another model's report; choose another --out. Received: out={str(folder)!r}"
        )
    if not file.exists() and folder.exists() and any(folder.iterdir()):
        started = [entry.name for entry in folder.iterdir() if entry.name != f"{EMBEDDINGS}.partial"]
        if started:
            raise ValueError(
                f"This folder holds something else than a report; choose another --out. Received: out={str(folder)!r}"
            )
