"""The script that writes a report: its output and its refusals. What is on the page: tests/report."""

import re

import pytest
from recipe_samples import load_recipe

from kreid import training

pytestmark = pytest.mark.usefixtures("eagerly")
main = load_recipe("evaluate").main


def test_scores_are_printed_and_the_page_is_written(tree, overlay, repository, tmp_path, capsys):
    settings = [f"data_dir={tree}", "last_stride=1"]
    config = training.load_config("baseline", repository / "recipes", "mars", [overlay], settings)
    (tmp_path / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    training.build_model(config, 8).save(tmp_path / "model.keras")
    main([str(tmp_path), "--quiet"])
    printed = capsys.readouterr().out
    assert re.search(r"Cluster diameter \d\.\d{3}: ", printed)
    page = tmp_path / "report" / "index.html"
    assert printed.rstrip().endswith(f"Report: {page}")
    assert page.is_file()


def test_a_refusal_is_one_line(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), "--quiet"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "no finished run: it has no config.yaml" in error
    assert error.count("\n") == 1
