"""Figures of a table: means and deviations over runs, differences by query, the paper's apart."""

import dataclasses
import re

import numpy as np
import pytest
from table_samples import BAD_FRAMES_TEST, keep_scores

from kreid.evaluation import paired_bootstrap
from kreid.training import RowCost, load_table, table_data, table_text


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "title: Mine\nsystem: sta\nseeds: [0, 1]\nprinted_on: full LS-VID\n"
        f"bad_frames_test: {BAD_FRAMES_TEST}\n"
        "rows: {A: {}, B: {printed: {rank1: 80.5, map: 70.25}}, C: {}, D: {}}\n"
    )
    return load_table(path)


@pytest.fixture
def data(table, tmp_path):
    found = [
        [keep_scores(tmp_path, seed, "A", clean=seed, dark=seed + 10, covered=seed + 20) for seed in (0, 1)],
        # Its queries were evaluated in another order.
        [keep_scores(tmp_path, seed, "B", -1, clean=seed + 2, dark=seed + 12, covered=seed + 22) for seed in (0, 1)],
        [keep_scores(tmp_path, 0, "C", clean=4)],
    ]
    return found, table_data(table, tmp_path, {"A": RowCost(1.5, 321.6)})


def by_kind(runs, *conditions):
    return np.mean([[run[condition] for run in runs] for condition in conditions], axis=0)


def test_means_and_differences(data):
    (first, second, _), figures = data
    assert list(figures) == ["A", "B", "C"]
    assert [row["runs"] for row in figures.values()] == [2, 2, 1]
    for name, runs in (("A", first), ("B", second)):
        means = 100 * by_kind(runs, "clean").mean(axis=1)
        assert figures[name]["map"] == pytest.approx((means.mean(), abs(means[0] - means[1]) / 2**0.5))
        bad = 100 * by_kind(runs, "dark", "covered").mean(axis=1)
        assert figures[name]["bad_frames_mean"] == pytest.approx((bad.mean(), abs(bad[0] - bad[1]) / 2**0.5))
    for conditions, key in ((["clean"], "against_first"), (["dark", "covered"], "bad_frames_against_first")):
        # Query by query: the order of the ids as texts is that of the rows' order here.
        ids = np.argsort([f"query/{row}" for row in range(0, 60, 5)])
        one, other = (by_kind(runs, *conditions)[:, ids] for runs in (second, first))
        assert figures["B"][key] == pytest.approx([100 * value for value in paired_bootstrap(one, other)])
        assert figures["A"][key] is None
    assert figures["C"]["against_first"] is None
    assert figures["C"]["map"][1] is None, "one run has no deviation"
    assert figures["B"]["printed"] == {"rank1": 80.5, "map": 70.25}


def test_runs_of_other_seeds_have_no_difference(table, tmp_path):
    for row, seeds in (("A", (0, 1)), ("B", (1, 2))):
        for seed in seeds:
            keep_scores(tmp_path, seed, row, clean=seed)
    figures = table_data(dataclasses.replace(table, seeds=(0, 1, 2)), tmp_path)
    assert [row["runs"] for row in figures.values()] == [2, 2]
    assert figures["B"]["against_first"] is None


def test_scores_with_other_bad_frames_are_left_out(table, tmp_path):
    keep_scores(tmp_path, 0, "A", clean=0)
    keep_scores(tmp_path, 0, "B", bad_frames_test={**BAD_FRAMES_TEST, "share": 0.25}, clean=1, dark=2)
    assert list(table_data(table, tmp_path)) == ["A"]


def test_the_text_keeps_the_papers_figures_apart(data, table):
    figures = data[1]
    title, _, header, _, *rows, _, notes = table_text(table, figures).splitlines()
    assert title == "Mine"
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    assert columns[-2:] == ["paper, full LS-VID: rank-1", "paper, full LS-VID: mAP"]
    cells = {}
    for row in rows:
        name, *values = (cell.strip() for cell in row.strip("|").split("|"))
        cells[name] = dict(zip(columns[1:], values, strict=True))
    assert list(cells) == ["A", "B", "C"]
    assert cells["A"]["mAP, dark"] == "{:.1f} (sd {:.1f})".format(*figures["A"]["bad_frames"]["dark"])
    assert cells["B"]["mAP against A (95%)"] == "{:+.1f} ({:+.1f} to {:+.1f})".format(*figures["B"]["against_first"])
    assert (cells["A"]["GMAC"], cells["A"]["frames/s"], cells["B"]["GMAC"]) == ("1.500", "322", "")
    assert (cells["B"][columns[-2]], cells["B"][columns[-1]], cells["A"][columns[-1]]) == ("80.5", "70.25", "")
    assert cells["C"]["mAP"] == f"{figures['C']['map'][0]:.1f}"
    assert "37.5% of each tracklet's frames" in notes
    assert re.search("its own, on full LS-VID, and not kreid's", notes)


def test_clean_rows_have_no_columns_of_bad_frames(table, tmp_path):
    keep_scores(tmp_path, 0, "A", clean=0)
    figures = table_data(table, tmp_path)
    assert (figures["A"]["bad_frames"], figures["A"]["bad_frames_mean"]) == (None, None)
    text = table_text(table, figures)
    assert "bad frames" not in text
    assert "paper" not in text, "row A has no printed figures"
