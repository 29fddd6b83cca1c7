"""The command that writes a report: its output and its refusals. The page itself: the files next to this one."""

import re

import pytest

from kreid.cli import main

pytestmark = pytest.mark.usefixtures("eagerly")


def test_scores_are_printed_and_the_page_is_written(runs, tmp_path, capsys):
    assert main(["evaluate", str(runs[1]), "--out", str(tmp_path), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"Cluster diameter \d\.\d{3}: ", printed)
    page = tmp_path / "index.html"
    assert printed.rstrip().endswith(f"Report: {page}")
    assert page.is_file()


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
