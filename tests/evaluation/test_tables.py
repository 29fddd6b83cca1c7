import json
import re

import numpy as np
import pytest

from kreid.evaluation import (
    bootstrap_interval,
    evaluate,
    evaluate_test,
    queries_dict,
    results_dict,
    results_from_dict,
    results_table,
    score_intervals,
)


def scored(seed=0, count=150):
    """Every protocol of random tracklets, with a query without a match, and the ids of the queries."""
    random = np.random.default_rng(seed)
    persons, cameras = random.integers(-1, 9, count), random.integers(0, 3, count)
    rows = np.flatnonzero(persons > 0)[::4]
    persons[rows[2]] = 99
    results = evaluate_test(random.normal(size=(count, 6)), persons, cameras, rows)
    return results, [f"query/{row}" for row in rows]


def test_the_table_shows_scores_and_intervals_in_per_cent():
    results, _ = scored()
    header, *lines = results_table(results).split("\n")
    columns = ["protocol", "rank-1", "rank-5", "rank-10", "rank-20", "mAP", "mINP", "queries"]
    assert re.split("  +", header) == [*columns, "rank-1 (95%)", "mAP (95%)"]
    for line, (name, result) in zip(lines, results.items(), strict=True):
        assert line.split()[:7] == [name, *(f"{100 * value:.1f}" for value in result.scores().values())]
        assert line.split()[7] == f"{result.num_valid}/{result.num_queries}"
        assert result.num_valid == result.num_queries - 1
    assert len({len(line) for line in (header, *lines)}) == 1
    result = results["standard"]
    hits = result.first_hit[result.first_hit > 0] == 1
    for name, scores in (("mAP", result.average_precision), ("rank-1", hits)):
        _, low, high = bootstrap_interval(scores, draws=2000)
        assert results_dict(results)["standard"]["intervals_95"][name] == [low, high]
        assert f"{100 * low:.1f} to {100 * high:.1f}" in lines[0]
    assert results_table({}) == ""


def test_results_and_queries_come_back_from_json():
    results, ids = scored()
    data, queries = json.loads(json.dumps([results_dict(results), queries_dict(results, ids)]))
    read = results_from_dict(data, queries)
    assert list(read) == list(results) == ["standard", "mars", "with_queries"]
    for name, result in results.items():
        assert queries[name]["queries"] == ids
        assert read[name].scores() == result.scores()
        np.testing.assert_array_equal(read[name].average_precision, result.average_precision)
        np.testing.assert_array_equal(read[name].first_hit, result.first_hit)
        assert score_intervals(read[name]) == score_intervals(result)
    without = results_from_dict(data)["mars"]
    assert without.scores() == results["mars"].scores()
    assert without.average_precision is None


def test_results_without_rank_1_have_the_interval_of_the_map():
    results = {"mars": evaluate([[0.1, 0.2]], [1], [1], [1, 2], [2, 2], ranks=(2,))}
    assert list(results_dict(results)["mars"]["intervals_95"]) == ["mAP"]
    assert "mAP (95%)" in results_table(results) and "rank-1" not in results_table(results)


def test_one_id_for_each_query():
    results, ids = scored()
    with pytest.raises(ValueError, match=f"each of the {len(ids)} queries. Received: {len(ids) - 1} query_ids"):
        queries_dict(results, ids[1:])


def test_intervals_of_chosen_scores():
    result = evaluate([[0.2, 0.1], [0.1, 0.2]], [7, 7], [0, 0], [7, 9], [1, 1])
    assert list(score_intervals(result)) == ["rank-1", "rank-5", "rank-10", "rank-20", "mAP", "mINP"]
    assert list(score_intervals(result, ["mAP"])) == ["mAP"]
    assert score_intervals(result, ["mAP"])["mAP"].mean == 0.75
