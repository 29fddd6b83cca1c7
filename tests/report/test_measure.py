"""Scores of runs, their differences, and their names."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from kreid.evaluation import pair_distances, roc
from kreid.report.measure import error_curve, percent, run_names

pytestmark = pytest.mark.usefixtures("eagerly")


def test_the_difference_is_that_of_the_means(report):
    numbers = json.loads((report / "report.json").read_text(encoding="utf-8"))
    for protocol, scores in numbers["compared"]["differences"].items():
        for name, (mean, low, high, p_value) in scores.items():
            one, other = (each["protocols"][protocol][name][0] for each in (numbers, numbers["compared"]))
            assert mean == pytest.approx(other - one, abs=1e-9)
            assert low <= mean <= high
            assert 0 < p_value <= 1


def test_names_have_as_many_folders_as_tell_runs_apart(tmp_path):
    def names(*paths):
        return run_names([SimpleNamespace(run=SimpleNamespace(path=tmp_path / path)) for path in paths])

    assert names("a/run") == ["run"]
    assert names("a/run", "a/other") == ["run", "other"]
    assert names("a/run", "b/run") == ["a/run", "b/run"]
    assert len(names("a/run", "a/run")) == 2


def test_a_thinned_curve_keeps_its_points():
    rng = np.random.default_rng(0)
    persons = np.repeat(np.arange(1, 41), 10)
    pairs = pair_distances(rng.normal(size=(400, 4)) + rng.normal(size=(41, 4))[persons], persons, np.arange(400) % 5)
    whole = np.stack(roc(pairs))[:, :-1].T
    thinned = np.stack(error_curve(pairs, points=50)).T
    assert 50 <= len(thinned) <= 150 < len(whole)
    assert {*map(tuple, thinned)} <= {*map(tuple, whole)}
    # Linear between points: nowhere far from the whole curve.
    between = np.interp(whole[:, 0], thinned[:, 0], thinned[:, 1])
    assert np.abs(between - whole[:, 1]).max() < 0.05


def test_percent_has_one_digit():
    assert [percent(share) for share in (0.12345, 1.0, 0.0)] == ["12.3", "100.0", "0.0"]
