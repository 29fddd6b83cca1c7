"""Runs that end before their last epoch, also when they continue."""

import json

import keras
import pytest

from kreid.training import Config, EarlyStopping, RunFolder


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path, Config("baseline", early_stopping=4, holdout_every=2, epochs=30))
    run.begin()
    run.checkpoints.mkdir()
    return run


def after(run, epoch, best, logs):
    """Whether training stops after an epoch."""
    run.checkpoints.joinpath("state.json").write_text(json.dumps({"epoch": epoch, "best_map": 0.5, "best_epoch": best}))
    for old in run.checkpoints.glob("*.keras"):
        old.unlink()
    run.checkpoints.joinpath(f"epoch_{epoch}.keras").touch()
    callback = EarlyStopping(run.checkpoints, run.config.early_stopping)
    model = keras.Sequential()
    model.stop_training = False
    callback.set_model(model)
    callback.on_epoch_end(epoch - 1, logs)
    return model.stop_training


@pytest.mark.parametrize(
    ("epoch", "best", "stops"), [(2, 2, False), (6, 4, False), (8, 4, True), (10, 2, True), (6, None, False)]
)
def test_the_best_is_so_many_epochs_old(run, epoch, best, stops, capsys):
    assert after(run, epoch, best, {"holdout_map": 0.1}) == stops
    assert ("Training stops after epoch 8: the best held-out mAP is that of epoch 4." in capsys.readouterr().out) == (
        (epoch, stops) == (8, True)
    )
    # A run that was interrupted before its results does not train further.
    again = RunFolder(run.path, run.config)
    assert again.epochs_to_train == (epoch if stops else 30)


def test_it_stops_only_where_it_was_evaluated(run):
    assert not after(run, 9, 4, {})
    assert RunFolder(run.path, run.config).epochs_to_train == 30


def test_without_the_setting_all_epochs_are_trained(tmp_path):
    assert RunFolder(tmp_path, Config("baseline", epochs=7)).epochs_to_train == 7


@pytest.mark.parametrize("settings", [{"early_stopping": 0}, {"early_stopping": 3, "holdout": 0.0}])
def test_settings_that_cannot_be(settings):
    with pytest.raises(ValueError, match=r"set holdout above 0, or early_stopping=null. Received: early_stopping="):
        Config("baseline", **settings)
