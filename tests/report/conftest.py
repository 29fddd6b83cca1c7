"""A rendered tree, runs with untrained models on it, and the report of one."""

import json
import sys
from pathlib import Path

import keras
import pytest

from kreid import training
from kreid.report import write_report
from kreid.synthetic import render_mars

sys.path.insert(0, str(Path(__file__).parent))

LOG = "epoch,loss,logits_loss,holdout_map,learning_rate\n1,3.5,3.0,nan,0.1\n2,2.5,2.0,0.4,0.01\n"
SETTINGS = {"backbone": "resnet_tiny", "backbone_width": None, "last_stride": 1, "weights": None, "num_frames": 2}


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """Eight persons to train on and three to test on, in MARS's layout."""
    return render_mars(
        tmp_path_factory.mktemp("data") / "mars",
        train_persons=8,
        test_persons=3,
        distractors=2,
        junk=1,
        tracklets_per_camera=(1, 2),
        frames_per_tracklet=(3, 5),
        image_size=(64, 32),
        progress=False,
    )


@pytest.fixture(scope="session")
def make_run(tree, repository, tmp_path_factory):
    """Function: system, settings -> the folder of a run with an untrained model."""
    folder = tmp_path_factory.mktemp("runs")

    def make(system, *settings, name=None, data="mars", data_dir=tree):
        run = folder / (name or system)
        run.mkdir(parents=True)
        given = [f"{key}={'null' if value is None else value}" for key, value in SETTINGS.items()]
        given += ["image_size=[64, 32]", f"data_dir={data_dir}", *settings]
        config = training.load_config(system, repository / "recipes", data, [], given)
        keras.utils.set_random_seed(len(name or system))
        (run / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        training.build_model(config, 8).save(run / "model.keras")
        (run / "log.csv").write_text(LOG, encoding="utf-8")
        return run

    return make


@pytest.fixture(scope="session")
def runs(make_run):
    """Two runs on one set, the first with a name that HTML would interpret."""
    return make_run("sta", name="<i>&STA"), make_run("baseline")


@pytest.fixture(scope="session")
def report(runs):
    """The first run's report, with every option."""
    fitted = {"metric": "euclidean", "threshold": 0.5, "false_match_rate": 0.1, "false_non_match_rate": 0.2}
    fitted |= {"fitted_on": {"who": "train persons held out", "persons": 2}}
    (runs[0] / "results.json").write_text(json.dumps({"verification": fitted}), encoding="utf-8")
    write_report(runs[0], rerank=True, compare=runs[1], progress=False)
    return runs[0] / "report"
