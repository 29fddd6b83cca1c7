"""Recipes in phases, and tables of rows from one image model."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from recipe_samples import load_recipe

from kreid.cli import main

pytestmark = pytest.mark.usefixtures("eagerly")

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def recipe():
    """Function: name -> a recipe's module."""
    return load_recipe


@pytest.fixture(scope="module")
def image_dirs(tree, tmp_path_factory):
    """The setting: folders of eight persons, and two of them again as other people in a folder like Market's."""
    market = tmp_path_factory.mktemp("market")
    for person in ("0001", "0002"):
        for number, path in enumerate(sorted((tree / "bbox_train" / person).iterdir())):
            shutil.copy(path, market / f"{person}_c{1 + number % 3}s1_{number:06d}_01.jpg")
    for name in ("-1_c1s1_000001_00.jpg", "0000_c1s1_000001_00.jpg"):
        shutil.copy(path, market / name)
    return f"image_dirs=[{tree}/bbox_train, {market}]"


@pytest.fixture(scope="module")
def rtf(recipe, arguments, image_dirs, tmp_path_factory):
    """The folder of an RTF run in all of its phases."""
    run = tmp_path_factory.mktemp("runs") / "rtf"
    recipe("train_mars").main(arguments(run, image_dirs, *SHORT, system="rtf"))
    return run


SHORT = ("epochs=1",)


def results(run):
    return json.loads((run / "results.json").read_text())


def settings(run):
    return yaml.safe_load((run / "config.yaml").read_text())


def variables(path):
    model = keras.models.load_model(path, compile=False)
    return {weight.path: weight.numpy() for weight in model.weights}


class TestPhases:
    def test_each_starts_where_the_one_before_ended(self, rtf):
        images, target = rtf / "phases" / "images", rtf / "phases" / "target_images"
        assert settings(images)["init"] is None
        assert settings(target)["init"] == str(images / "model.keras")
        assert settings(rtf)["init"] == str(target / "model.keras")
        assert [settings(run)["num_frames"] for run in (images, target)] == [1, 1]
        assert "protocols" not in results(images), "image sets have no test set"
        model = keras.models.load_model(images / "model.keras", compile=False)
        assert model.num_identities == 8 + 2, "people of different folders are different"
        for run in (target, rtf):
            assert results(run)["protocols"]["standard"]["num_queries"] > 0
            assert len(json.loads((run / "queries.json").read_text())["mars"]["queries"]) > 0

    def test_a_complete_run_is_left_alone(self, rtf, recipe, arguments, image_dirs, capsys):
        before = {path: path.stat().st_mtime_ns for path in rtf.rglob("*") if path.is_file()}
        recipe("train_mars").main(arguments(rtf, image_dirs, *SHORT, system="rtf"))
        assert capsys.readouterr().out.count("is complete") == 3
        assert {path: path.stat().st_mtime_ns for path in rtf.rglob("*") if path.is_file()} == before

    def test_a_run_interrupted_between_phases_continues(self, rtf, recipe, arguments, image_dirs, tmp_path):
        run = tmp_path / "rtf"
        shutil.copytree(rtf / "phases", run / "phases")
        line = arguments(run, image_dirs, *SHORT, system="rtf")
        recipe("train_mars").main(line)
        weights, expected = variables(run / "model.keras"), variables(rtf / "model.keras")
        assert weights.keys() == expected.keys()
        for name in weights:
            np.testing.assert_allclose(weights[name], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)

    def test_one_phase_from_a_model(self, rtf, recipe, arguments, tmp_path, capsys):
        start = rtf / "phases" / "target_images" / "model.keras"
        line = arguments(tmp_path / "run", *SHORT, f"init={start}", "learning_rate=1e-12", system="rtf")
        recipe("train_mars").main([*line, "--phase", "video"])
        assert "inter" in capsys.readouterr().out.split("new weights:")[1].splitlines()[0]
        assert not (tmp_path / "run" / "phases").exists()
        before, after = variables(start), variables(tmp_path / "run" / "model.keras")
        trained = [name for name in before if name in after and "moving" not in name]
        assert {"dense/kernel", "bnneck/gamma", "logits/kernel"} <= set(trained)
        for name in trained:
            np.testing.assert_allclose(after[name], before[name], atol=1e-6, err_msg=name)

    def test_image_phases_need_folders(self, recipe, arguments, tmp_path, capsys):
        line = arguments(tmp_path / "run", *SHORT, system="rtf")
        with pytest.raises(SystemExit):
            recipe("train_mars").main([*line, "--phase", "images"])
        assert "image_dirs=[DIR]" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            recipe("train_mars").main([*line, "--phase", "film"])
        assert "phases are images, target_images, video. Received: phase='film'" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


class TestTable:
    @pytest.fixture(scope="class")
    @classmethod
    def table(cls, overlay, tmp_path_factory):
        """A table of two rows, two seeds."""
        path = tmp_path_factory.mktemp("table") / "tiny.yaml"
        one_epoch = {"epochs": 1, "holdout": 0, "false_match_rate": None}
        content = {
            "seeds": [0, 1],
            "overlays": [str(overlay)],
            "settings": one_epoch,
            "image_phase": {"system": "baseline", "settings": {"num_frames": 1}},
            "fine_tuning": {"init_layers": "backbone", "metric": "cosine"},
            "baseline": "mean",
            "rows": {
                "mean": {"system": "baseline", "settings": {"embedding_from": "pooled"}},
                "STA, 2 stripes": {"system": "sta", "settings": {"num_stripes": 2}},
            },
        }
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, table, tree, recipe, tmp_path_factory):
        folder = tmp_path_factory.mktemp("rows")
        main(["ablate", str(table), "--data", str(tree), "--run", str(folder)])
        return folder

    def test_rows_start_from_their_seeds_image_model(self, trained):
        for seed in (0, 1):
            start = trained / f"seed_{seed}" / "image_phase" / "model.keras"
            for row in ("mean", "STA__2_stripes"):
                resolved = settings(trained / f"seed_{seed}" / row)
                assert (resolved["init"], resolved["seed"], resolved["epochs"]) == (str(start), seed, 1)

    def test_the_table(self, trained, table, tree, capsys):
        before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
        main(["ablate", str(table), "--data", str(tree), "--run", str(trained)])
        lines = capsys.readouterr().out.splitlines()
        assert {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()} == before
        maps = {}
        for row, name in (("mean", "mean"), ("STA__2_stripes", "STA, 2 stripes")):
            runs = [results(trained / f"seed_{seed}" / row)["protocols"]["mars"]["map"] for seed in (0, 1)]
            maps[name] = 100 * np.mean(runs)
        assert [line.split("  ")[0] for line in lines] == ["row", "mean", "STA, 2 stripes"]
        for line in lines[1:]:
            name = line.split("  ")[0]
            assert f"{maps[name]:.1f} (sd" in line
        assert f"{maps['STA, 2 stripes'] - maps['mean']:+.1f} (" in lines[2]

    def test_refusals(self, table, tmp_path, capsys):
        for line, complaint in (
            ([str(tmp_path / "gone.yaml")], "no table of rows"),
            ([str(RECIPES / "overlays" / "small.yaml")], "A table holds seeds, overlays, "),
            ([str(table), "--row", "STA"], "rows are mean, STA, 2 stripes. Received: row='STA'"),
        ):
            with pytest.raises(SystemExit):
                main(["ablate", *line, "--run", str(tmp_path / "run")])
            assert complaint in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
