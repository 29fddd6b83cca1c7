"""Curves of the training."""

import re

import pytest

from kreid.report.training_curves import training_section
from kreid.runs import FinishedRun


@pytest.fixture
def run(tmp_path):
    """Function: logs by phase, as texts of log.csv -> a run."""

    def make(**logs):
        (tmp_path / "config.yaml").write_text("system: sta", encoding="utf-8")
        (tmp_path / "model.keras").touch()
        for name, text in logs.items():
            folder = tmp_path if name == "main" else tmp_path / "phases" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "log.csv").write_text(text, encoding="utf-8")
        return FinishedRun(tmp_path)

    return make


def test_a_score_of_100_has_no_axis_beyond_it(run):
    text = training_section(run(main="epoch,loss,holdout_map\n1,3,\n2,2,1.0\n3,1,1.0\n"))
    assert "held-out score, % by epoch; at the end map 100" in text
    numbers = [float(number) for number in re.findall(r">(\d+)</text>", text)]
    assert max(numbers) == 100


def test_a_constant_score_has_an_axis(run):
    text = training_section(run(main="epoch,holdout_map\n1,0.4\n2,0.4\n"))
    assert {"40", "50"} <= set(re.findall(r">(\d+)</text>", text))


def test_a_chart_without_a_value_is_skipped(run):
    assert training_section(run(main="epoch,loss,holdout_map\n1,3,\n2,2,\n")).count("<svg") == 1


def test_phases_have_headings(run):
    log = "epoch,loss\n1,3\n2,2\n"
    text = training_section(run(images=log, main=log))
    assert "<h3>Phase images</h3>" in text
    assert "<h3>Last phase</h3>" in text


def test_a_run_without_a_log_says_so(run):
    assert training_section(run()) == "<p>The run has no log.csv.</p>"
