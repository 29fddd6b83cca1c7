"""The report of a run, on the rendered tree: what is on the page, what it says, what is refused."""

import html.parser
import importlib.util
import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from kreid import training
from kreid.data.readers import read_mars
from kreid.evaluation import evaluate_model
from kreid.gallery import TrackletEmbeddings, ranked_list
from kreid.report import explain_tracklet, page as report_page
from kreid.report.measure import FinishedRun

pytestmark = pytest.mark.usefixtures("eagerly")

ROOT = Path(__file__).parents[2]
VOID = {"meta", "img", "br", "line", "polyline", "rect", "circle"}
LOG = "epoch,loss,logits_loss,holdout_map,learning_rate\n1,3.5,3.0,nan,0.1\n2,2.5,2.0,0.4,0.01\n"


def load_recipe():
    spec = importlib.util.spec_from_file_location("evaluate", ROOT / "recipes" / "evaluate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


main = load_recipe().main


class Page(html.parser.HTMLParser):
    """Reads a page, and complains where a tag is not closed in turn."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.queries, self.links, self.texts, self.bare = [], [], [], [], [], 0
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [value for name, value in attributes.items() if name in ("src", "href")]
        self.bare += tag == "img" and not attributes.get("alt")
        if "data-query" in attributes:
            self.queries.append((attributes["data-query"], []))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.queries and self.open[-1:] == ["b"]:
            self.queries[-1][1].append(data)


@pytest.fixture(scope="module")
def make_run(tree, overlay, tmp_path_factory):
    """Function: system, settings -> the folder of a run with an untrained model."""
    folder = tmp_path_factory.mktemp("runs")

    def make(system, *settings, name=None):
        run = folder / (name or system)
        run.mkdir()
        settings = [f"data_dir={tree}", "last_stride=1", *settings]
        config = training.load_config(system, ROOT / "recipes", "mars", [overlay], settings)
        keras.utils.set_random_seed(len(name or system))
        (run / "config.yaml").write_text(config.to_yaml())
        training.build_model(config, 8).save(run / "model.keras")
        (run / "log.csv").write_text(LOG)
        return run

    return make


@pytest.fixture(scope="module")
def runs(make_run):
    """Two runs on one set, the first with a name that HTML would read."""
    return make_run("sta", name="<i>&STA"), make_run("baseline")


@pytest.fixture(scope="module")
def report(runs):
    """The first run's report, with all that can be asked for."""
    fitted = {"metric": "euclidean", "threshold": 0.5, "false_match_rate": 0.1, "false_non_match_rate": 0.2}
    fitted |= {"fitted_on": {"who": "train persons held out", "persons": 2}}
    (runs[0] / "results.json").write_text(json.dumps({"verification": fitted}))
    main([str(runs[0]), "--rerank", "--compare", str(runs[1]), "--quiet"])
    return runs[0] / "report"


@pytest.fixture(scope="module")
def evaluated(runs, tree):
    """What `evaluate_model` says of the first run."""
    return evaluate_model(FinishedRun(runs[0]).model, read_mars(tree), progress=False)


class TestPage:
    def test_all_is_there_and_stands_alone(self, report):
        page = Page(report / "index.html")
        sections = ["numbers", "comparison", "cmc", "cameras", "verification", "best", "worst", "attention", "map"]
        assert [name for name in page.ids if not name.endswith("-heading")] == [*sections, "training"]
        assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
        text = (report / "index.html").read_text()
        assert not re.search(r"https?:|<script|<link|@import|url\(", text)
        assert page.bare == 0
        assert 'lang="en"' in text
        assert "width=device-width" in text
        assert not list(report.glob("*writing-*"))
        assert len(text) < 3_000_000

    def test_names_are_escaped(self, report):
        assert "<i>" not in (report / "index.html").read_text()
        assert any("<i>&STA" in text for text in Page(report / "index.html").texts)

    def test_lists_are_in_the_evaluations_ranks(self, report, evaluated):
        ids = [tracklet.id for tracklet in evaluated.queries]
        standard = evaluated.protocols["standard"]
        page = Page(report / "index.html")
        # Those of the comparison are the other run's too.
        best_and_worst = [entry for entry in page.queries if entry[0] in ids][-2 * 3 :]
        assert best_and_worst
        for name, headings in best_and_worst:
            listed = [heading.split(". ") for heading in headings if re.match(r"\d+\. ", heading)]
            first = next(int(rank) for rank, words in listed if words == "✓ same person")
            assert first == standard.first_hit[ids.index(name)]
            assert all(words in ("✓ same person", "✗ other person") for _, words in listed)
        numbers = json.loads((report / "report.json").read_text())
        for name, found in evaluated.protocols.items():
            assert numbers["protocols"][name]["mAP"][0] == pytest.approx(found.map, abs=1e-6)
            assert numbers["protocols"][name]["mINP"][0] == pytest.approx(found.minp, abs=1e-6)

    def test_every_match_of_every_query_is_where_it_was_scored(self, report, evaluated):
        found = TrackletEmbeddings.load(report / "embeddings.npz")
        result = evaluated.protocols["standard"]
        for number, row in enumerate(found.query_rows):
            ranks = [one.rank for one in ranked_list(found, row, len(found)) if one.rank and one.same_person]
            assert ranks[:1] == ([result.first_hit[number]] if result.first_hit[number] else [])
            if ranks:
                precision = np.mean(np.arange(1, len(ranks) + 1) / ranks)
                assert precision == pytest.approx(result.average_precision[number])

    def test_the_difference_is_that_of_the_means(self, report):
        numbers = json.loads((report / "report.json").read_text())
        for protocol, scores in numbers["compared"]["differences"].items():
            for name, (mean, low, high, p_value) in scores.items():
                one, other = (each["protocols"][protocol][name][0] for each in (numbers, numbers["compared"]))
                assert mean == pytest.approx(other - one, abs=1e-9)
                assert low <= mean <= high
                assert 0 < p_value <= 1

    def test_a_second_report_embeds_nothing_anew(self, report, runs, monkeypatch):
        import kreid.gallery.embed

        monkeypatch.setattr(kreid.gallery.embed, "embed_tracklets", None)  # Calling it fails.
        before = (report / "report.json").read_text()
        main([str(runs[0]), "--rerank", "--compare", str(runs[1]), "--quiet"])
        assert (report / "report.json").read_text() == before


def test_a_test_across_data_sets_is_said_and_none_on_the_own_folder(runs, tree, tmp_path):
    same, copy = tmp_path / "same", tmp_path / "copy"
    same.symlink_to(tree)
    shutil.copytree(tree, copy)
    for number, (data, said) in enumerate([(tree, False), (same, False), (copy, True)]):
        out = tmp_path / str(number)
        main([str(runs[1]), "--data", str(data), "--out", str(out), "--quiet"])
        assert (f"The run was trained on {tree}: unless" in "".join(Page(out / "index.html").texts)) == said


@pytest.mark.parametrize(
    ("system", "settings", "drawn"),
    [
        ("rtf", [], ["Weight by the frame itself (w)", "Share of each stage (u)"]),
        ("tacan", [], ["Weight of each clip"]),
        ("mg_rafa", ["num_granularities=2"], ["Attention of channel group 1", "Attention of channel group 2"]),
        ("gltr", [], ["Mask M of the self-attention"]),
    ],
)
def test_attention_of_every_system(make_run, system, settings, drawn, tree):
    run = make_run(system, *settings)
    explained = explain_tracklet(FinishedRun(run).model, read_mars(tree).test[0])
    text = report_page._explained(explained)
    assert "is not drawn" not in text
    for words in drawn:
        assert words in text


class TestRefusals:
    def refused(self, capsys, *arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, arguments), "--quiet"])
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert error.count("\n") == 1
        return error

    def test_no_run(self, capsys, tmp_path):
        assert "no finished run: it has no config.yaml" in self.refused(capsys, tmp_path)

    def test_no_data(self, capsys, runs, tmp_path):
        assert "The data set is not there" in self.refused(capsys, runs[1], "--data", tmp_path / "nowhere")
        assert "holds no data set in a layout that kreid reads" in self.refused(capsys, runs[1], "--data", tmp_path)

    def test_another_models_report(self, capsys, runs, report):
        before = (report / "index.html").stat().st_mtime_ns
        assert "another model's report" in self.refused(capsys, runs[1], "--out", report)
        assert (report / "index.html").stat().st_mtime_ns == before

    def test_a_folder_of_something_else(self, capsys, runs, tmp_path):
        (tmp_path / "index.html").write_text("mine")
        assert "something else than a report" in self.refused(capsys, runs[1], "--out", tmp_path)
        assert (tmp_path / "index.html").read_text() == "mine"

    def test_a_run_on_other_data(self, capsys, runs, tmp_path):
        other = Path(shutil.copytree(runs[1], tmp_path / "other"))
        config = (other / "config.yaml").read_text()
        (other / "config.yaml").write_text(re.sub("data_dir: .*", "data_dir: data/elsewhere", config))
        assert "runs are of other data" in self.refused(capsys, runs[1], "--compare", other)
        (other / "config.yaml").write_text(re.sub("\nsplit: .*", "\nsplit: 2", config))
        assert "different splits" in self.refused(capsys, runs[1], "--compare", other)

    def test_a_run_on_images(self, capsys, runs, tmp_path):
        other = Path(shutil.copytree(runs[1], tmp_path / "other"))
        (other / "config.yaml").write_text(re.sub("\ndata: .*", "\ndata: images", (other / "config.yaml").read_text()))
        assert "trained on single images" in self.refused(capsys, other)
