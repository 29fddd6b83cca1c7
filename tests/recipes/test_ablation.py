"""`kreid ablate`: rows from their seeds' image models, further training, and the table that is printed."""

import json
import shutil
import subprocess
import sys
import threading

import pytest
import yaml
from recipe_samples import RECIPES

from kreid import training
from kreid.cli import main
from kreid.runs import RunFiles
from kreid.training.ablation import train_table

pytestmark = pytest.mark.usefixtures("eagerly")

STRIPES = "STA, 2 stripes"


@pytest.fixture(scope="module")
def table(overlay, tmp_path_factory):
    """Three rows, of which two share a run, clean and with bad frames; one seed."""
    path = tmp_path_factory.mktemp("table") / "tiny.yaml"
    content = {
        "title": "Tiny",
        "seeds": [3],
        "overlays": [str(overlay)],
        "shared": {"epochs": 1, "holdout": 0, "false_match_rate": None, "export": False},
        "image_phase": {"system": "baseline", "settings": {"num_frames": 1}},
        "settings": {"init_layers": "backbone", "metric": "cosine"},
        "bad_frames_test": {"kinds": ["another_person", "dark"], "share": 0.5},
        "rows": {
            "mean": {"system": "baseline", "settings": {"embedding_from": "pooled"}},
            STRIPES: {"system": "sta", "settings": {"num_stripes": 2}, "printed": {"rank1": 80.5, "map": 70.1}},
            "of 2 frames": {"system": "sta", "settings": {"num_stripes": 2}, "test": {"test_frames": 2}},
        },
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def trained(table, tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    main(["ablate", str(table), "--data", str(tree), "--run", str(folder)])
    return folder


def settings(run):
    return RunFiles(run).read_config()


def map_of(run):
    return RunFiles(run).read_results()["protocols"]["mars"]["map"]


def test_rows_start_from_their_seeds_image_model(trained):
    start = trained / "seed_3" / "image_phase" / "model.keras"
    for row in ("mean", "STA__2_stripes"):
        resolved = settings(trained / "seed_3" / row)
        assert (resolved["init"], resolved["seed"], resolved["epochs"]) == (str(start), 3, 1)
    # The same training with another test is no run of its own.
    assert not RunFiles(trained / "seed_3" / "of_2_frames").is_run
    assert not (trained / "seed_3" / "mean" / "export").exists()


def test_the_table(trained, table, tree, capsys):
    kept = {path: path.stat().st_mtime_ns for path in trained.glob("*/*/**/*") if path.is_file()}
    main(["ablate", str(table), "--data", str(tree), "--run", str(trained)])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    text = (trained / "table.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    data = json.loads((trained / "table.json").read_text())
    assert list(data) == ["mean", STRIPES, "of 2 frames"]
    for row, name in (("mean", "mean"), ("STA__2_stripes", STRIPES)):
        assert data[name]["map"] == [pytest.approx(100 * map_of(trained / "seed_3" / row)), None]
        assert list(data[name]["bad_frames"]) == ["another_person", "dark"]
    difference = data[STRIPES]["map"][0] - data["mean"]["map"][0]
    assert data[STRIPES]["against_first"][0] == pytest.approx(difference)
    assert data[STRIPES]["printed"] == {"rank1": 80.5, "map": 70.1}
    # STA embeds 4 of 8 frames, or 2.
    assert data["of 2 frames"]["gmac"] == pytest.approx(data[STRIPES]["gmac"] / 2, rel=0.05)
    assert all(row["frames_per_second"] > 0 for row in data.values())
    main(["ablate", str(table), "--run", str(trained), "--only-table"])
    assert json.loads((trained / "table.json").read_text()) == data


def test_another_test_has_scores_of_its_own(trained, tree):
    from kreid.data.readers import read_mars
    from kreid.evaluation import evaluate_model
    from kreid.loading import load_model

    model = load_model(trained / "seed_3" / "STA__2_stripes" / "model.keras", compile=False)
    expected = evaluate_model(model.with_selection("evenly", 2), read_mars(tree), progress=False).protocols["mars"]
    kept = RunFiles(trained / "seed_3" / "of_2_frames").read_conditions()["conditions"]["clean"]
    assert kept["scores"]["map"] == pytest.approx(expected.map, abs=1e-6)


def test_tables_share_image_models(table, tree, trained, tmp_path):
    options = {"data": tree, "image_models": trained}
    runs = training.plan_table(training.load_table(table), tmp_path, **options)
    (image,) = [run.folder for run in runs if not run.rows]
    assert image.path == trained / "seed_3" / "image_phase"
    assert image.is_complete


def test_shared_image_models_are_named_by_their_settings(table, tree, tmp_path):
    content = yaml.safe_load(table.read_text())
    content["shared"]["optimizer"] = "sgd"
    (tmp_path / "sgd.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    content["shared"]["epochs"] = 2
    (tmp_path / "grown.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    content["image_phase"]["settings"]["num_frames"] = 2
    (tmp_path / "longer.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    options = {"data": tree, "image_models": tmp_path / "shared"}
    images = []
    for path in (table, tmp_path / "sgd.yaml", table, tmp_path / "grown.yaml", tmp_path / "longer.yaml"):
        (image, *rows) = training.plan_table(training.load_table(path), tmp_path / "run", **options)
        assert {run.folder.config.init for run in rows} == {str(image.folder.model)}
        assert image.folder.path.parent == tmp_path / "shared" / "seed_3"
        assert image.folder.path.name.startswith("image_phase_")
        images.append(image.folder.path)
    assert images[0] == images[2] and images[1] == images[3]
    assert len(set(images)) == 3


def test_rows_of_another_backbone_have_another_image_model(table, tree, tmp_path):
    content = yaml.safe_load(table.read_text())
    content["rows"]["mean"]["settings"] |= {"backbone": "resnet18", "backbone_width": 8}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    runs = training.plan_table(training.load_table(tmp_path / "two.yaml").chosen(seeds=[0]), tmp_path, data=tree)
    assert [run.folder.path.name for run in runs] == ["image_phase_resnet18", "mean", "image_phase", "STA__2_stripes"]
    assert [run.folder.config.backbone for run in runs] == ["resnet18", "resnet18", "resnet_tiny", "resnet_tiny"]
    assert [run.rows for run in runs] == [(), ("mean",), (), (STRIPES, "of 2 frames")]


def test_a_row_with_an_image_phase_has_another_image_model(table, tree, tmp_path):
    content = yaml.safe_load(table.read_text())
    content["rows"][STRIPES]["image_phase"] = {"settings": {"num_frames": 2}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    runs = training.plan_table(training.load_table(tmp_path / "own.yaml").chosen(seeds=[0]), tmp_path, data=tree)
    assert [run.rows for run in runs] == [(), ("mean",), (), (STRIPES,), ("of 2 frames",)]
    shared, mean, own, stripes, other = (run.folder for run in runs)
    assert (shared.path.name, shared.config.num_frames, own.config.num_frames) == ("image_phase", 1, 2)
    assert own.path.name.startswith("image_phase_")
    starts = [run.config.init for run in (mean, stripes, other)]
    assert starts == [str(shared.model), str(own.model), str(shared.model)]


def test_the_papers_size_has_the_recipes_phases(tree, tmp_path):
    table = training.load_table(training.recipe_file("tables", "gltr2"))
    baseline, dtp, tsa, gltr, average = training.plan_table(table, tmp_path, data=tree)
    assert (baseline.rows, baseline.folder.config.epochs, baseline.folder.config.sampler) == (
        ("baseline",),
        20,
        "frames",
    )
    for run in (dtp, tsa, gltr, average):
        assert run.folder.config.init == str(baseline.folder.model)
        assert (run.folder.config.epochs, run.folder.config.sampler) == (400, "sequences")
    assert dtp.folder.config.model["self_attention"] is False


def test_settings_win_in_every_phase_of_a_recipe(tree, tmp_path):
    table = training.load_table(training.recipe_file("tables", "gltr2")).chosen(["baseline", "GLTR"])
    options = {"data": tree, "settings": ["epochs=3", "images.epochs=2"]}
    images, gltr = (run.folder.config for run in training.plan_table(table, tmp_path, **options))
    assert (images.epochs, gltr.epochs) == (2, 3)
    images, gltr = (run.folder.config for run in training.plan_table(table, tmp_path, data=tree, settings=["epochs=3"]))
    assert (images.epochs, gltr.epochs) == (3, 3)


def test_a_row_that_other_rows_start_from_has_no_settings_of_its_own(tree, tmp_path):
    content = {"title": "T", "system": "gltr", "rows": {"one": {"phase": "images", "settings": {"flip": 0.25}}}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"leave flip out, .* Received: flip=0\.25, where the phase has"):
        training.plan_table(training.load_table(tmp_path / "own.yaml"), tmp_path, data=tree)


def test_given_weights_are_not_those_of_another_backbone():
    table = training.load_table(training.recipe_file("tables", "gltr3"), weights="given.h5")
    weights = {name: row.settings["weights"] for name, row in table.rows.items()}
    assert weights == {
        "baseline, Alexnet": None,
        "baseline, Inception": "imagenet",
        "baseline, ResNet50": "given.h5",
        "GLTR, Alexnet": None,
        "GLTR, Inception": "imagenet",
        "GLTR, ResNet50": "given.h5",
    }


def test_a_dry_run_measures_each_kind_of_batch(table, tree, tmp_path, capsys):
    content = yaml.safe_load(table.read_text())
    # As many frames in a step, and other numbers of steps in an epoch.
    for name, persons in (("wide", 4), ("deep", 2), ("wide again", 4)):
        batch = {"persons_per_batch": persons, "tracklets_per_person": 8 // persons, "num_frames": 2}
        content["rows"][name] = {"system": "baseline", "settings": batch}
    content["rows"]["wide again"]["settings"]["flip"] = 0.25
    (tmp_path / "kinds.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    rows = [part for name in ("wide", "deep", "wide again") for part in ("--row", name)]
    main(
        [
            "ablate",
            str(tmp_path / "kinds.yaml"),
            "--data",
            str(tree),
            "--run",
            str(tmp_path / "run"),
            *rows,
            "--dry-run",
        ]
    )
    measured = [
        line.partition(":")[0].rpartition("/")[2]
        for line in capsys.readouterr().out.splitlines()
        if "s per step" in line
    ]
    assert measured == ["image_phase", "wide", "deep"]


def test_a_data_set_without_test_tracklets_is_refused_before_training(table, tree, tmp_path, capsys):
    image = next((tree / "bbox_train").glob("*/*.jpg"))
    for place in ("ann/hall", "ann/door", "bert/hall", "bert/door"):
        (tmp_path / "data" / "train" / place).mkdir(parents=True)
        shutil.copy(image, tmp_path / "data" / "train" / place / "1.jpg")
    with pytest.raises(SystemExit):
        main(["ablate", str(table), "--data", str(tmp_path / "data"), "--run", str(tmp_path / "run")])
    assert "no test tracklets to score" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_moved_folder_is_measured_where_it_is(trained, table, tree, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    main(["ablate", str(table), "--data", str(tree), "--run", str(moved)])
    for row, run in (("mean", "mean"), ("of_2_frames", "STA__2_stripes")):
        kept, old = (RunFiles(folder / "seed_3" / row).read_conditions() for folder in (moved, trained))
        assert kept == {**old, "file": str(moved / "seed_3" / run / "model.keras")}


@pytest.mark.slow
def test_an_image_model_that_another_process_begins_in_the_same_instant_is_waited_for(
    table, tree, tmp_path, monkeypatch, capsys
):
    code = (
        "import sys\nfrom kreid import training\n"
        "run, *_ = training.plan_table(training.load_table(sys.argv[1]), sys.argv[2], data=sys.argv[3])\n"
        "run.folder.begin()\nprint('begun', flush=True)\nsys.stdin.readline()\nrun.folder.finish({})"
    )
    folder = tmp_path / "rows"
    run, *_ = training.plan_table(training.load_table(table), folder, data=tree)
    command = [sys.executable, "-c", code, str(table), str(folder), str(tree)]
    waited, wait = [], training.RunFolder.wait
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def begun_after_the_look(self):
            if not waited:  # Nobody trains the run yet; then the other process begins, and this one wants to.
                wait(self)
                assert process.stdout.readline() == "begun\n"
            else:
                threading.Timer(0.2, print, kwargs={"file": process.stdin, "flush": True}).start()
                wait(self)
            waited.append(self)

        monkeypatch.setattr(training.RunFolder, "wait", begun_after_the_look)
        train_table(None, [run], folder)
    assert len(waited) == 2
    assert f"Process {process.pid} trains {run.folder.path}; waiting for it." in capsys.readouterr().out
    assert run.folder.is_complete and not run.folder.model.exists()


def test_refusals(table, tmp_path, capsys):
    prid = tmp_path / "prid"
    for camera in "ab":
        (prid / "multi_shot" / f"cam_{camera}" / "person_0001").mkdir(parents=True)
    for line, complaint in (
        ([str(tmp_path / "gone.yaml")], "no table of rows"),
        ([str(RECIPES / "overlays" / "small.yaml")], "A table holds a title and rows"),
        ([str(table), "--row", "STA"], "rows are mean, STA, 2 stripes, of 2 frames. Received: row='STA'"),
        ([str(table), "--data", str(prid)], "no mean over splits"),
        ([str(table), "--steps", "0"], "at least one step. Received: steps=0"),
        ([str(table), "--only-table"], "No row of this table is trained yet"),
    ):
        with pytest.raises(SystemExit):
            main(["ablate", *line, "--run", str(tmp_path / "run")])
        assert complaint in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_complete_rows_are_trained_further(trained, table, tree, tmp_path, capsys):
    content = yaml.safe_load(table.read_text())
    content["settings"]["epochs"] = 2
    longer = tmp_path / "longer.yaml"
    longer.write_text(yaml.safe_dump(content, sort_keys=False))
    line = ["ablate", str(longer), "--data", str(tree), "--run", str(trained)]
    main([*line, "--dry-run"])
    assert "2 of 3 runs are left." in capsys.readouterr().out
    folder, started = trained / "seed_3", (trained / "seed_3" / "image_phase" / "model.keras").read_bytes()
    before = {row: RunFiles(folder / row).read_conditions() for row in ("mean", "STA__2_stripes")}
    main([*line, "--row", "mean"])
    assert RunFiles(folder / "mean").read_results()["epochs"] == 2
    assert (folder / "image_phase" / "model.keras").read_bytes() == started
    after = {row: RunFiles(folder / row).read_conditions() for row in before}
    assert after["STA__2_stripes"] == before["STA__2_stripes"]
    # Its scores are those of the new model, under every condition.
    for condition, old in before["mean"]["conditions"].items():
        assert after["mean"]["conditions"][condition]["queries"] != old["queries"]
    assert after["mean"]["conditions"]["clean"]["scores"]["map"] == map_of(folder / "mean")
    # Rows have started from the image model.
    with pytest.raises(SystemExit):
        main([*line, "--set", "epochs=3"])
    assert "has started from it" in capsys.readouterr().err
