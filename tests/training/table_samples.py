"""Files of a table's rows, as runs leave them."""

import json

import numpy as np

from kreid.evaluation import evaluate_test, queries_dict, results_dict
from kreid.training import row_folder

BAD_FRAMES_TEST = {"kinds": ["dark", "covered"], "share": 0.375}


def scores_of(seed, count=60):
    """The `mars` results of random tracklets, and the ids of the queries."""
    random = np.random.default_rng(seed)
    persons, cameras = np.arange(count) % 6 + 1, np.arange(count) // 6 % 3
    rows = np.arange(0, count, 5)
    results = {"mars": evaluate_test(random.normal(size=(count, 4)), persons, cameras, rows)["mars"]}
    return results, [f"query/{row}" for row in rows]


def keep_scores(folder, seed, row, order=1, bad_frames_test=BAD_FRAMES_TEST, **conditions):
    """Write the file of a row's scores; each condition is the seed of its scores. Returns its average precisions."""
    data, precisions = {}, {}
    for name, draw in conditions.items():
        results, ids = scores_of(draw)
        queries = queries_dict(results, ids)["mars"]
        precisions[name] = results["mars"].average_precision
        # The order in which the queries were evaluated.
        queries = {key: values[::order] for key, values in queries.items()}
        data[name] = {"scores": results_dict(results)["mars"], "queries": queries}
    path = row_folder(folder, seed, row)
    path.mkdir(parents=True, exist_ok=True)
    (path / "conditions.json").write_text(json.dumps({"bad_frames_test": bad_frames_test, "conditions": data}))
    return precisions
