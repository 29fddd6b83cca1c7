"""`--dry-run` measures each phase of a recipe and keeps nothing."""

import math
import re

import pytest
from recipe_samples import load_recipe

from kreid import training

pytestmark = pytest.mark.usefixtures("eagerly")

main = load_recipe("train_mars").main


def files(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def figures(text):
    """The tables of a dry run: a list of dicts from the row's name to its text."""
    rows = re.findall(r"^  (\w[\w ]*?)  +(\S.*)$", text, re.MULTILINE)
    assert len(rows) % 8 == 0
    return [dict(rows[start : start + 8]) for start in range(0, len(rows), 8)]


@pytest.mark.slow
def test_figures_of_a_recipe_in_two_phases(arguments, tree, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The same pictures, by person, are the images of the first phase.
    settings = [f"image_dirs=[{tree / 'bbox_train'}]", "images.epochs=5", "cache=frames"]
    line = arguments("run", *settings, "video.freeze_batch_norm=true", system="gltr")
    before = files(tree)
    main([*line, "--dry-run"])
    text = capsys.readouterr().out
    assert (files(tree), files(tmp_path)) == (before, [])
    assert text.count("which is not trained yet") == 1
    images, video = figures(text)
    assert (images["steps per epoch"], images["epochs"], images["steps in all"]) == ("2", "5", "10")
    assert (video["steps per epoch"], video["epochs"], video["steps in all"]) == ("2", "2", "4")

    runs = training.plan_runs(training.command_line(line, None, "mars")).runs
    for run, rows in zip(runs, (images, video), strict=True):
        train, _, _ = training.hold_out(training.load_dataset(run.config), run.config)
        model = training.build_model(run.config, len({tracklet.person for tracklet in train}))
        norm = {w.path for w in model.backbone.weights if w.path.endswith(("/gamma", "/beta"))}
        frozen = norm if run.config.freeze_batch_norm else set()
        trained = sum(math.prod(w.shape) for w in model.trainable_weights if w.path not in frozen)
        assert rows["parameters"] == f"{trained:,} trainable of {model.count_params():,}"
        step, read = map(float, re.fullmatch(r"(\S+), and (\S+) to read a batch", rows["seconds per step"]).groups())
        hours = float(rows["estimated hours"].split()[0])
        steps = int(rows["steps in all"])
        assert hours == pytest.approx(steps * max(step, read) / 3600, rel=0.06)  # two digits
        assert float(rows["peak memory"].split()[0]) > 0.1


def test_a_missing_start_that_no_phase_trains_is_refused(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments(tmp_path / "run", f"init={tmp_path / 'none.keras'}"), "--dry-run"])
    assert stopped.value.code == 2
    assert "none.keras" in capsys.readouterr().err
