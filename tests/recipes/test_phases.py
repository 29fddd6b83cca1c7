"""Recipes in phases, and tables of rows from one image model."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from recipe_samples import load_recipe

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
