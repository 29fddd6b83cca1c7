"""The command that writes a report: its output and its refusals. The page itself: the files next to this one."""

import json
import re

import numpy as np
import pytest
from page_reader import Page

import kreid
from kreid.cli import main
from kreid.gallery import TrackletEmbeddings, mean_frame_vector
from kreid.models import fingerprint
from kreid.runs import FinishedRun
from kreid.serving.export import read_card

pytestmark = pytest.mark.usefixtures("eagerly")


def test_scores_are_printed_and_the_page_is_written(runs, tmp_path, capsys):
    assert main(["evaluate", str(runs[1]), "--out", str(tmp_path), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"Cluster diameter \d\.\d{3}: ", printed)
    page = tmp_path / "index.html"
    assert printed.rstrip().endswith(f"Report: {page}")
    assert page.is_file()


@pytest.mark.slow
def test_another_pooling_takes_a_mean_of_train_frames(make_run, tmp_path, capsys):
    run = make_run("baseline", "embedding_dim=16", name="baseline_16")
    assert main(["evaluate", str(run), "--pooling", "majority", "--quiet"]) == 0
    assert f"Report: {run / 'report_majority' / 'index.html'}" in capsys.readouterr().out
    finished = FinishedRun(run)
    finished.use_pooling("majority")
    expected = mean_frame_vector(FinishedRun(run).model, finished.dataset().train, progress=False)
    np.testing.assert_allclose(finished.model.frame_pooling.moving_mean, expected, rtol=1e-5)
    saved = TrackletEmbeddings.load(run / "report_majority" / "embeddings.npz")
    assert saved.model == fingerprint(finished.model)
    # The export keeps the pooling.
    assert main(["export", str(run), "--pooling", "majority", "--out", str(tmp_path)]) == 0
    kreid.testing.check_export(finished.model, tmp_path / "1")


def test_mirror_images(make_run, tmp_path, capsys):
    run = make_run("baseline", "embedding_dim=16", name="mirrored_16")
    fitted = {"metric": "cosine", "threshold": 0.5, "false_match_rate": 0.1, "false_non_match_rate": 0.2}
    fitted |= {"fitted_on": {"who": "train persons held out", "persons": 2}}
    (run / "results.json").write_text(json.dumps({"verification": fitted}))
    assert main(["evaluate", str(run), "--mirrored", "--quiet"]) == 0
    report = run / "report_mirrored"
    assert f"Report: {report / 'index.html'}" in capsys.readouterr().out
    mirrored = FinishedRun(run).model.with_mirrored()
    assert TrackletEmbeddings.load(report / "embeddings.npz").model == fingerprint(mirrored)
    changes = ["frames together with their mirror images"]
    assert json.loads((report / "report.json").read_text())["changes"] == changes
    text = (report / "index.html").read_text()
    assert f"Changed after training: {changes[0]}." in text and "At the run" not in text, "its threshold is another's"
    # The export keeps them, and has no threshold either.
    for more, threshold in (["--mirrored"], None), ([], 0.5):
        assert main(["export", str(run), *more, "--out", str(tmp_path / str(threshold))]) == 0
        verification = read_card(tmp_path / str(threshold) / "1")["verification"]
        assert (verification and verification["threshold"]) == threshold
    kreid.testing.check_export(mirrored, tmp_path / "None" / "1")


def test_another_pooling_of_another_system(runs, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", str(runs[0]), "--pooling", "majority", "--quiet"])
    assert "Received: pooling='majority' for a STA" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", str(runs[1]), "--pooling", "median", "--quiet"])
    assert "Choose one of average, agreement, majority. Received: pooling='median'" in capsys.readouterr().err


def test_variances_of_single_frames_on_request(runs, tmp_path, capsys):
    assert main(["evaluate", str(runs[1]), "--out", str(tmp_path), "--quiet", "--frame-variances"]) == 0
    numbers = re.search(
        r"Variance of (\d+) single frames' embeddings, scaled to length 1: (\S+) within tracklets, (\S+) between the "
        r"tracklets of a person, (\S+) between persons\.",
        capsys.readouterr().out,
    )
    count, *parts = map(float, numbers.groups())
    assert count > 0
    # Unit vectors are at most 1 from their mean.
    assert 0 < sum(parts) <= 1


def test_a_refusal_is_one_line(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(tmp_path), "--quiet"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "no finished run: it has no config.yaml" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_bad_frames_and_equal_weights_on_request(runs, tmp_path, capsys):
    command = ["evaluate", str(runs[0]), "--out", str(tmp_path), "--quiet", "--uniform-attention"]
    assert main([*command, "--bad-frames", "another_person,dark", "--bad-frames-seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\nanother_person +3( +\d+\.\d){6}( +-?\d+%)?\n", printed)
    assert re.search(
        r"\nMean mAP with 3 of 8 bad frames, protocol mars: model \d+\.\d, average \d+\.\d, oracle", printed
    )
    assert re.search(r"\nmAP \d+\.\d with attention, \d+\.\d with equal weights; difference", printed)
    numbers = json.loads((tmp_path / "bad_frames.json").read_text(encoding="utf-8"))
    assert numbers["seed"] == 3
    assert [(one["kind"], one["bad"]) for one in numbers["scores"]] == [
        ("none", 0),
        *((kind, count) for kind in ("another_person", "dark") for count in (1, 2, 3)),
    ]
    assert set(numbers["scores"][0]["model"]["mars"]) == {"rank-1", "mAP"}
    page = Page(tmp_path / "index.html")
    assert {"bad-frames", "uniform"} <= set(page.ids)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["uniform_attention"]["weights"]["stripes"]["tracklets"] > 0


def test_an_unknown_kind_of_bad_frames_is_refused_first(runs, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", str(runs[0]), "--quiet", "--bad-frames", "darc"])
    error = capsys.readouterr().err
    assert "some of another_person, other_persons, covered" in error and "kinds=['darc']" in error
