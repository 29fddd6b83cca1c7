"""Scores of a table's rows: as each row is tested, clean and with bad frames."""

import json
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kreid._files import file_digest, write_atomically
from kreid.evaluation.model import evaluate_model
from kreid.evaluation.retrieval_result import RetrievalResult
from kreid.evaluation.tables import queries_dict, results_dict
from kreid.loading import load_model
from kreid.runs import RunFiles
from kreid.training.dataset import load_dataset
from kreid.training.table import Row, Table, row_folder
from kreid.training.table_bad_frames import score_bad_frames

if TYPE_CHECKING:
    from kreid.models import TrackletModel
    from kreid.training.run_folder import RunFolder

PROTOCOL = "mars"  # The queries stay in the gallery, so every query has a match.
CLEAN = "clean"


class RowScores(NamedTuple):
    """Scores of the single queries of a row's runs under one condition, in the order of the query ids.

    Args:
        average_precision: float64 `(runs, queries)`.
        rank1: float64 `(runs, queries)`, 1 where the first entry of the ranked list is a match.
        seeds: of the runs.
    """

    average_precision: np.ndarray
    rank1: np.ndarray
    seeds: tuple[int, ...]


def score_row(table: Table, row: Row, seed: int, run: "RunFolder", folder: pathlib.Path) -> None:
    """Evaluate a row's model as the table tests it, unless that is done, and keep the scores in the row's folder.

    Args:
        table: a `Table`.
        row: one of its rows.
        seed: of the run.
        run: the row's complete run.
        folder: folder of the table's runs.
    """
    files = RunFiles(row_folder(folder, seed, row.name))
    wanted = {
        "model": file_digest(run.model),
        "test": dict(row.test),
        "bad_frames_test": dict(table.bad_frames_test),
    }
    done = files.read_conditions()
    if all(done.get(key) == value for key, value in wanted.items()):
        if done["file"] != str(run.model):  # The folder was moved, or is named from another working directory.
            write_atomically(files.conditions, json.dumps({**done, "file": str(run.model)}, indent=2) + "\n")
        return
    print(f"\n{row.name}, seed {seed}: scores", flush=True)
    dataset = load_dataset(run.config)
    model = tested_model(load_model(run.model, compile=False), row.test)
    if row.test:
        evaluated = evaluate_model(model, dataset, max_damaged=run.config.max_damaged)
        conditions = {CLEAN: _condition(evaluated.protocols, evaluated.embeddings.query_ids)}
    else:
        conditions = {CLEAN: _condition(run.read_protocols(), run.read_query_ids(PROTOCOL))}
    if table.bad_frames_test:
        ids, scores = score_bad_frames(model, dataset, **table.bad_frames_test, max_damaged=run.config.max_damaged)
        conditions |= {kind: _condition(protocols, ids) for kind, protocols in scores.items()}
    files.path.mkdir(parents=True, exist_ok=True)
    write_atomically(
        files.conditions, json.dumps({**wanted, "file": str(run.model), "conditions": conditions}, indent=2) + "\n"
    )


def row_scores(table: Table, folder: pathlib.Path, name: str) -> dict[str, RowScores]:
    """Read the scores of a row's runs.

    Args:
        table: a `Table`.
        folder: folder of the table's runs.
        name: of the row.

    Returns:
        A dict from the condition, `"clean"` or a kind of bad frames, to `RowScores`; empty without a run that was
        scored with the table's bad frames.
    """
    found: dict[str, list[tuple[np.ndarray, np.ndarray, int]]] = {}
    for seed in table.seeds:
        for condition, data in _kept(table, folder, seed, name).get("conditions", {}).items():
            # Sorted by id, so that queries pair up between runs that were evaluated in another order.
            order = np.argsort(data["queries"]["queries"])
            scores = RetrievalResult.from_dict(data["scores"], data["queries"]).by_query()
            found.setdefault(condition, []).append((scores["mAP"][order], scores["rank-1"][order], seed))
    return {
        condition: RowScores(
            np.array([run[0] for run in runs]), np.array([run[1] for run in runs]), tuple(run[2] for run in runs)
        )
        for condition, runs in found.items()
    }


def scored_models(table: Table, folder: pathlib.Path) -> "dict[str, TrackletModel]":
    """Load a model of each row with scores, of the first seed, as it is tested.

    Args:
        table: a `Table`.
        folder: folder of the table's runs.

    Returns:
        A dict from the row to the model.
    """
    models = {}
    for name, row in table.rows.items():
        for seed in table.seeds:
            file = _kept(table, folder, seed, name).get("file")
            if file is not None and name not in models:
                models[name] = tested_model(load_model(file, compile=False), row.test)
    return models


def tested_model(model: "TrackletModel", test: Mapping[str, Any]) -> "TrackletModel":
    """Return a model as a row is tested.

    Args:
        model: of the row's run.
        test: see `Row`; if it is empty, the model itself is returned.
    """
    if not test:
        return model
    selection = test.get("test_selection", model.test_selection)
    return model.with_selection(selection, test.get("test_frames", model.test_frames))


def _kept(table: Table, folder: pathlib.Path, seed: int, name: str) -> dict[str, Any]:
    """Return the data of a row's scores with the table's bad frames, empty if there are none."""
    kept = RunFiles(row_folder(folder, seed, name)).read_conditions()
    return kept if kept.get("bad_frames_test", {}) == dict(table.bad_frames_test) else {}


def _condition(protocols: Mapping[str, RetrievalResult], query_ids: Any) -> dict[str, Any]:
    results = {PROTOCOL: protocols[PROTOCOL]}
    return {
        "scores": results_dict(results)[PROTOCOL],
        "queries": queries_dict(results, list(query_ids))[PROTOCOL],
    }
