"""One short run of each recipe but MARS's, on trees of a few frames in the published layouts."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from PIL import Image
from recipe_samples import load_recipe

from kreid import training
from kreid.report.measure import FinishedRun

pytestmark = pytest.mark.usefixtures("eagerly")

ROOT = Path(__file__).parents[2]
RECIPES = ["train_prid2011", "train_ilids_vid", "train_ls_vid", "train_duke_video", "train_folder"]


def write(root, *names):
    """Writes frames of noise."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (64, 32, 3), np.uint8)
        Image.fromarray(pixels).save(path)


@pytest.fixture
def run_recipe(arguments, tmp_path):
    """Function: recipe, data, settings -> runs it for a step, in `tmp_path/run` by default."""
    short = ("epochs=1", "steps_per_epoch=1")

    def run(recipe, data, *settings, more=(), system="baseline"):
        line = arguments(tmp_path / "run", *short, *settings, system=system, data=data)
        load_recipe(recipe).main([*line, *more])
        return tmp_path / "run"

    return run


def results(run):
    return json.loads((run / "results.json").read_text())


def settings(run):
    return yaml.safe_load((run / "config.yaml").read_text())


@pytest.fixture
def prid(tmp_path):
    names = [
        f"multi_shot/{camera}/person_{person:04d}/{frame:04d}.png"
        for camera in ("cam_a", "cam_b")
        for person in range(1, 9)
        for frame in (1, 2)
    ]
    write(tmp_path / "prid", *names)
    return tmp_path / "prid"


@pytest.mark.slow
def test_prid2011_split_by_split(run_recipe, prid, capsys):
    chosen = ("persons=200", "holdout=0", "false_match_rate=null")
    run = run_recipe("train_prid2011", prid, *chosen, more=["--splits", "2"])
    assert "Complete: 1 split. A mean over splits needs two." in capsys.readouterr().out
    assert not (run / "splits.json").exists()
    run_recipe("train_prid2011", prid, *chosen, more=["--splits", "1,2"])
    printed = capsys.readouterr().out
    assert f"{run}/split_2 is complete" in printed
    assert "drawn by kreid" in printed
    summary = json.loads((run / "splits.json").read_text())
    assert summary["splits"] == [1, 2]
    for split in (1, 2):
        own = run / f"split_{split}"
        assert (settings(own)["split"], settings(own)["data"]) == (split, "prid2011")
        assert results(own)["split"] == summary["origins"][str(split)]
        assert FinishedRun(own).dataset().split.startswith(f"{split} of")
    for protocol, scores in summary["protocols"].items():
        each = [results(run / f"split_{split}")["protocols"][protocol] for split in (1, 2)]
        maps = [split["map"] for split in each]
        assert scores["mAP"] == pytest.approx({"mean": np.mean(maps), "deviation": np.std(maps, ddof=1)})
        assert scores["rank-1"]["mean"] == pytest.approx(np.mean([split["cmc"]["1"] for split in each]))
    assert f"{100 * scores['mAP']['mean']:.1f} (sd {100 * scores['mAP']['deviation']:.1f})" in printed
    with pytest.raises(SystemExit):
        run_recipe("train_prid2011", prid, *chosen, "seed=3", more=["--splits", "3"])
    assert "Split 1 in this folder has other settings (seed=0 there and 3 here)" in capsys.readouterr().err
    assert not (run / "split_3").exists()


def test_ilids_vid(run_recipe, tmp_path):
    names = [
        f"i-LIDS-VID/sequences/cam{c}/person{p:03d}/cam{c}_{f}.png" for c in (1, 2) for p in range(1, 9) for f in (1, 2)
    ]
    write(tmp_path / "ilids", *names)
    run = run_recipe(
        "train_ilids_vid", tmp_path / "ilids", "holdout=0", "false_match_rate=null", more=["--splits", "3"]
    )
    assert [path.name for path in run.iterdir()] == ["split_3"]
    assert results(run / "split_3")["protocols"]["standard"]["num_valid"] == 4


def test_ls_vid_chooses_on_its_validation_set(run_recipe, tmp_path):
    import scipy.io

    root = tmp_path / "ls_vid"
    lists = {"train": range(1, 5), "val": range(5, 9), "test": range(9, 12)}
    for part, persons in lists.items():
        lines, table = [], []
        for person in persons:
            for camera in (1, 2):
                prefix = f"tracklet_{part}/{person:04d}/{person:04d}_{camera:04d}"
                write(root, *(f"{prefix}_{camera:02d}_{frame:04d}.jpg" for frame in (1, 2)))
                lines.append(f"{prefix} {person}\n")
                table.append((2 * len(table) + 1, 2 * len(table) + 2, person, camera))
        (root / "list_sequence").mkdir(exist_ok=True)
        (root / f"list_sequence/list_seq_{part}.txt").write_text("".join(lines))
        if part != "train":
            (root / "test/data").mkdir(parents=True, exist_ok=True)
            queries = np.arange(1, len(table), 2)[:, None]
            scipy.io.savemat(root / f"test/data/info_{part}.mat", {f"info_{part}": table, "query": queries})
    run = run_recipe("train_ls_vid", root)
    model = keras.models.load_model(run / "model.keras", compile=False)
    assert model.num_identities == 4, "no person is held out"
    assert results(run)["verification"]["fitted_on"]["who"] == "LS-VID's validation set"
    assert "holdout_map" in (run / "log.csv").read_text().splitlines()[0]
    assert results(run)["protocols"]["standard"]["num_valid"] == 3


def test_duke_video_with_a_metric_loss_by_name(run_recipe, tmp_path):
    root = tmp_path / "duke"
    for part, persons in (("train", range(1, 5)), ("query", range(5, 8)), ("gallery", range(5, 8))):
        for person in persons:
            for camera in (1,) if part == "query" else (1, 2):
                folder = f"{part}/{person:04d}/{camera:04d}"
                write(root, *(f"{folder}/{person:04d}_C{camera}_F{frame:04d}_X1.jpg" for frame in (3, 9)))
    loss = ("metric_loss=multi_similarity", "metric_settings={miner: all}")
    run = run_recipe("train_duke_video", root, "holdout=0", "false_match_rate=null", *loss)
    assert settings(run)["data"] == "duke_video"
    assert (settings(run)["metric_loss"], settings(run)["metric_settings"]) == ("multi_similarity", {"miner": "all"})
    (epoch,) = csv.DictReader((run / "log.csv").read_text().splitlines())
    assert float(epoch["features_loss"]) > 0
    assert results(run)["protocols"]["mars"]["num_valid"] == 3


def test_own_folder_with_frames_kept_decoded(run_recipe, tmp_path):
    parts = {"train": range(1, 5), "query": range(5, 8), "gallery": range(5, 8)}
    names = [
        f"{part}/{person}/{camera}/{frame}.png"
        for part, persons in parts.items()
        for person in persons
        for camera in ("door", "yard")
        for frame in (1, 2)
        if part == "train" or (part == "query") == (camera == "door")
    ]
    write(tmp_path / "own", *names)
    run = run_recipe("train_folder", tmp_path / "own", "holdout=0", "false_match_rate=null", f"cache={tmp_path}/cache")
    assert (settings(run)["data"], settings(run)["cache"]) == ("folder", f"{tmp_path}/cache")
    assert [path.stat().st_size for path in (tmp_path / "cache").iterdir()] == [16 * (64 * 32 * 3 + 1)]
    assert results(run)["protocols"]["standard"]["num_valid"] == 3


@pytest.mark.parametrize("recipe", RECIPES)
def test_without_data_one_sentence_names_a_command_that_works(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        load_recipe(recipe).main([])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"is expected in data/{recipe.removeprefix('train_')} (or in --data DIR) and is not there" in error
    assert "--system sta --synthetic Received:" in error
    assert not list(tmp_path.iterdir())


def test_a_rendered_set_has_no_splits(tree, overlay, tmp_path, monkeypatch, capsys):
    """What the sentence above names is one run; here it is complete already, on the session's tree."""
    import kreid.synthetic

    monkeypatch.setattr(kreid.synthetic, "render_mars", lambda root, **_: tree)
    line = ["--system", "baseline", "--overlay", str(overlay), "--synthetic", "--run", str(tmp_path / "run")]
    config = training.load_config("baseline", ROOT / "recipes", "prid2011", [overlay])
    run = training.RunFolder(tmp_path / "run", training.use_synthetic(config))
    run.begin()
    run.results.write_text("{}")
    load_recipe("train_prid2011").main(line)
    assert f"{run.path} is complete" in capsys.readouterr().out
    assert (settings(run.path)["data"], settings(run.path)["split"]) == ("synthetic", None)


def test_numbers_of_splits(capsys):
    for wrong in ("0", "1,11", "all", ""):
        with pytest.raises(SystemExit) as stopped:
            load_recipe("train_prid2011").main(["--splits", wrong])
        assert stopped.value.code == 2
        assert f"give numbers from 1 to 10, as in 1,2,3; received {wrong!r}" in capsys.readouterr().err


def test_help_is_a_script_s(tmp_path):
    """Run as people run it, a recipe finds what it shares with the others."""
    script = ROOT / "recipes" / "train_ilids_vid.py"
    done = subprocess.run([sys.executable, str(script), "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--splits 1,2,..." in done.stdout
