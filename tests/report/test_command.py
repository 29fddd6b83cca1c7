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


def test_a_refusal_is_one_line(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(tmp_path), "--quiet"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "no finished run: it has no config.yaml" in error
    assert error.count("\n") == 1
