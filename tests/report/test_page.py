"""The page of a run on the rendered tree: its sections, its numbers and its names."""

import json
import re

import numpy as np
import pytest
from page_reader import Page

from kreid.data.readers import read_mars
from kreid.evaluation import evaluate_model
from kreid.gallery import TrackletEmbeddings, ranked_list
from kreid.report.page import report_page
from kreid.runs import FinishedRun

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def evaluated(runs, tree):
    """Scores of the first run by `evaluate_model`."""
    return evaluate_model(FinishedRun(runs[0]).model, read_mars(tree), progress=False)


def test_every_section_is_in_one_file(report):
    page = Page(report / "index.html")
    sections = ["numbers", "comparison", "cmc", "cameras", "verification", "best", "worst", "attention", "map"]
    assert [name for name in page.ids if not name.endswith("-heading")] == [*sections, "training"]
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    text = (report / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    assert page.bare == 0
    assert 'lang="en"' in text
    assert "width=device-width" in text
    assert not list(report.glob(".writing-*"))
    assert len(text) < 3_000_000


def test_the_title_names_system_and_data_and_the_lead_the_folder(report):
    texts = Page(report / "index.html").texts
    assert texts[texts.index("STA on mars")] == "STA on mars"
    assert any(text.startswith("STA, trained in the folder <i>&STA, on the test set of mars: ") for text in texts)
    assert "Comparison with baseline" in texts


def test_names_are_escaped(report):
    assert "<i>" not in (report / "index.html").read_text(encoding="utf-8")


def test_every_colour_is_defined(report):
    text = (report / "index.html").read_text(encoding="utf-8")
    used, defined = set(re.findall(r"var\((--[\w-]+)\)", text)), set(re.findall(r"(--[\w-]+):", text))
    assert used
    assert used <= defined


def test_both_runs_maps_are_side_by_side(report):
    assert "Embeddings of 3 persons by t-SNE, a map for each run" in (report / "index.html").read_text("utf-8")


def test_the_cluster_diameter_is_in_page_and_numbers(report):
    embedded = TrackletEmbeddings.load(report / "embeddings.npz")
    unit = embedded.embeddings / np.linalg.norm(embedded.embeddings, axis=1, keepdims=True)
    diameters = []
    for person in range(1, embedded.persons.max() + 1):
        own = unit[embedded.persons == person]
        if len(own) > 1:
            diameters.append(np.linalg.norm(own[:, None] - own[None], axis=-1).max())
    numbers = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert len(diameters) > 1
    assert numbers["cluster_diameter"] == pytest.approx(np.mean(diameters), rel=1e-4)
    text = f"Cluster diameter {np.mean(diameters):.3f}: "
    assert sum(text in one for one in Page(report / "index.html").texts) == 2, "in the scores and the comparison"


def test_lists_are_in_the_ranks_of_the_evaluation(report, evaluated):
    ids = evaluated.embeddings.query_ids
    standard = evaluated.protocols["standard"]
    page = Page(report / "index.html")
    # The comparison also lists the other run's.
    best_and_worst = [entry for entry in page.queries if entry[0] in ids][-2 * 3 :]
    assert best_and_worst
    for name, headings in best_and_worst:
        listed = [heading.split(". ") for heading in headings if re.match(r"\d+\. ", heading)]
        first = next(int(rank) for rank, words in listed if words == "✓ same person")
        assert first == standard.first_hit[ids.index(name)]
        assert all(words in ("✓ same person", "✗ other person") for _, words in listed)
    numbers = json.loads((report / "report.json").read_text(encoding="utf-8"))
    for name, result in evaluated.protocols.items():
        assert numbers["protocols"][name]["mAP"][0] == pytest.approx(result.map, abs=1e-6)
        assert numbers["protocols"][name]["mINP"][0] == pytest.approx(result.minp, abs=1e-6)


def test_every_match_of_every_query_has_the_rank_of_its_score(report, evaluated):
    embedded = TrackletEmbeddings.load(report / "embeddings.npz")
    result = evaluated.protocols["standard"]
    for number, row in enumerate(embedded.query_rows):
        ranks = [one.rank for one in ranked_list(embedded, row, len(embedded)) if one.rank and one.same_person]
        assert ranks[:1] == ([result.first_hit[number]] if result.first_hit[number] else [])
        if ranks:
            precision = np.mean(np.arange(1, len(ranks) + 1) / ranks)
            assert precision == pytest.approx(result.average_precision[number])


def test_the_run_alone_has_no_comparison(report, runs):
    from kreid.report.measure import measure

    run = FinishedRun(runs[0])
    measured = measure(run, run.dataset(), report / "embeddings.npz", progress=False)
    text = report_page(measured, data="mars")
    assert 'id="comparison"' not in text
    assert "Embeddings of 3 persons by t-SNE: persons spread" in text
