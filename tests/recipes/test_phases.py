"""Recipes in phases, and tables of rows from one image model."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from recipe_samples import load_recipe

from kreid import training
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


class TestStarting:
    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, tmp_path_factory):
        """A saved baseline whose weights are all drawn anew."""
        model = build("baseline")
        rng = np.random.default_rng(0)
        for weight in model.weights:
            weight.assign(rng.random(weight.shape))
        path = tmp_path_factory.mktemp("start") / "model.keras"
        model.save(path)
        return path

    @pytest.mark.parametrize("layers", ["backbone", "matching"])
    def test_what_is_copied(self, source, layers):
        model, theirs = build("sta", bnneck=True), variables(source)
        before = {weight.path: weight.numpy() for weight in model.weights}
        fresh = training.start_from(model, source, layers)
        shared = ["bnneck/gamma", "bnneck/moving_mean", "bnneck/moving_variance", "logits/kernel"]
        # STA's vector is twice as long, so that its Dense layer keeps its own values.
        own = ["dense/kernel", *([] if layers == "matching" else ["dense/bias", *shared])]
        assert set(own) <= set(fresh)
        for weight in model.weights:
            expected = before if weight.path in fresh else theirs
            np.testing.assert_array_equal(weight.numpy(), expected[weight.path], err_msg=weight.path)
        assert all(weight.path not in fresh for weight in model.backbone.weights)

    def test_every_branch_starts_from_the_frames_statistics(self, source):
        model = build("rtf")
        training.start_from(model, source)
        for layer in model.backbone.named_layers().values():
            for mean, variance in getattr(layer, "statistics", []):
                np.testing.assert_array_equal(mean, layer.moving_mean)
                np.testing.assert_array_equal(variance, layer.moving_variance)
        assert len(model.backbone.named_layers()["conv5_block1_1_bn"].statistics) == 4

    def test_branches_are_kept_between_models_that_have_them(self, tmp_path):
        first, second = build("rtf"), build("rtf")
        for weight in first.weights:
            weight.assign(np.random.default_rng(1).random(weight.shape))
        first.save(tmp_path / "model.keras")
        assert training.start_from(second, tmp_path / "model.keras") == []
        for mine, theirs in zip(second.weights, first.weights, strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=mine.path)

    def test_refusals(self, source, tmp_path):
        with pytest.raises(ValueError, match=r"There is no model file at this path.*gone"):
            training.start_from(build("sta"), tmp_path / "gone.keras")
        with pytest.raises(ValueError, match=r"backbone to start from is another one.*Received: init="):
            training.start_from(build("sta", width=24), source)
        inputs = keras.Input((2,))
        keras.Model(inputs, keras.layers.Dense(1)(inputs)).save(tmp_path / "other.keras")
        with pytest.raises(ValueError, match=r"holds a Functional, not a model of kreid"):
            training.start_from(build("sta"), tmp_path / "other.keras")


def build(system, width=None, **kwargs):
    import kreid
    from kreid.models import SYSTEMS

    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1, width=width)
    return SYSTEMS[system](backbone, 5, embedding_dim=128, **kwargs)


class TestTable:
    @pytest.fixture(scope="class")
    @classmethod
    def table(cls, overlay, tmp_path_factory):
        """A table of two rows, two seeds."""
        path = tmp_path_factory.mktemp("table") / "tiny.yaml"
        one_epoch = {"epochs": 1, "holdout": 0}
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
