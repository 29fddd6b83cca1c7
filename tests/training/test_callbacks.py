"""Logs, checkpoints and held-out evaluation, epoch by epoch."""

import csv

import keras
import numpy as np
import pytest
from PIL import Image

from kreid.data.tracklet import ReidDataset, Tracklet
from kreid.runs import read_state
from kreid.training.callbacks import Checkpoint, CsvLog, EpochLog, FiniteLoss, HoldoutEvaluation
from kreid.training.threshold import fit_on_holdout

NAN = float("nan")


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Weighing(keras.Sequential):
    """One weight, set by hand to tell checkpoints apart."""

    def __init__(self):
        super().__init__([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        self.compile("sgd", "mse")

    def set_weight(self, value):
        self.set_weights([np.full((1, 1), value, "float32")])


def checkpointed(folder, scores, first_epoch=0):
    """Runs a `Checkpoint` over epochs whose weight is their number from 1, and whose scores are given."""
    model = Weighing()
    callback = Checkpoint(folder)
    callback.set_model(model)
    for epoch, score in enumerate(scores, start=first_epoch):
        model.set_weight(epoch + 1)
        callback.on_epoch_end(epoch, {} if score is None else {"holdout_map": score})


def weight(path):
    with keras.saving.custom_object_scope({"Weighing": keras.Sequential}):
        return float(keras.models.load_model(path).get_weights()[0][0, 0])


def checkpoints(folder):
    """Name of every checkpoint file to its weight."""
    return {path.name: weight(path) for path in sorted(folder.glob("*.keras"))}


class TestCsvLog:
    def test_a_row_per_epoch(self, tmp_path):
        log = CsvLog(tmp_path / "log.csv")
        for epoch in range(3):
            log.on_epoch_end(epoch, {"loss": epoch / 2, "holdout_map": NAN})
        rows = read_csv(log.path)
        assert [row["epoch"] for row in rows] == ["1", "2", "3"]
        assert [float(row["loss"]) for row in rows] == [0.0, 0.5, 1.0]
        assert all(row["holdout_map"] == "nan" for row in rows)
        assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]

    def test_a_resumed_run_replaces_what_it_repeats(self, tmp_path):
        path = tmp_path / "log.csv"
        log = CsvLog(path)
        for epoch in range(4):
            log.on_epoch_end(epoch, {"loss": 1})
        resumed = CsvLog(path)
        resumed.on_epoch_end(2, {"loss": 2})
        assert [(row["epoch"], row["loss"]) for row in read_csv(path)] == [("1", "1"), ("2", "1"), ("3", "2")]
        resumed.on_epoch_end(3, {"loss": 2})
        assert [(row["epoch"], row["loss"]) for row in read_csv(path)][2:] == [("3", "2"), ("4", "2")]

    def test_columns_are_those_of_all_epochs(self, tmp_path):
        log = CsvLog(tmp_path / "log.csv")
        log.on_epoch_end(0, {"loss": 1, "old": 5})
        log.on_epoch_end(1, {"loss": 2, "new": 6})
        assert read_csv(log.path) == [
            {"epoch": "1", "loss": "1", "old": "5", "new": ""},
            {"epoch": "2", "loss": "2", "old": "", "new": "6"},
        ]


class TestCheckpoint:
    def test_best_and_last(self, tmp_path):
        checkpointed(tmp_path / "c", [0.2, 0.6, NAN, 0.4])
        assert checkpoints(tmp_path / "c") == {"epoch_2.keras": 2, "epoch_4.keras": 4}
        assert read_state(tmp_path / "c") == {"epoch": 4, "best_map": 0.6, "best_epoch": 2}

    def test_the_earlier_of_equals_is_best(self, tmp_path):
        checkpointed(tmp_path, [0.5, 0.5])
        assert read_state(tmp_path)["best_epoch"] == 1

    def test_a_score_of_zero_counts(self, tmp_path):
        checkpointed(tmp_path, [0.0])
        assert read_state(tmp_path)["best_epoch"] == 1

    def test_the_best_so_far_survives_a_resume(self, tmp_path):
        checkpointed(tmp_path, [0.2, 0.6])
        checkpointed(tmp_path, [0.5], first_epoch=2)
        assert checkpoints(tmp_path) == {"epoch_2.keras": 2, "epoch_3.keras": 3}
        checkpointed(tmp_path, [0.7], first_epoch=3)
        assert checkpoints(tmp_path) == {"epoch_4.keras": 4}

    def test_without_holdout_there_is_no_best(self, tmp_path):
        checkpointed(tmp_path, [None, None])
        assert read_state(tmp_path) == {"epoch": 2, "best_map": -1.0, "best_epoch": None}
        assert checkpoints(tmp_path) == {"epoch_2.keras": 2}

    def test_a_kill_while_writing_leaves_the_one_before(self, tmp_path, monkeypatch):
        checkpointed(tmp_path, [0.1])
        save = Weighing.save

        def cut_off(model, path):
            save(model, path)
            path.write_bytes(path.read_bytes()[:100])
            raise KeyboardInterrupt

        monkeypatch.setattr(Weighing, "save", cut_off)
        with pytest.raises(KeyboardInterrupt):
            checkpointed(tmp_path, [0.9], first_epoch=1)
        assert read_state(tmp_path) == {"epoch": 1, "best_map": 0.1, "best_epoch": 1}
        assert weight(tmp_path / "epoch_1.keras") == 1
        monkeypatch.undo()
        checkpointed(tmp_path, [0.9], first_epoch=1)
        assert checkpoints(tmp_path) == {"epoch_2.keras": 2}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch_2.keras", "state.json"]

    def test_a_kill_before_the_state_leaves_the_one_before(self, tmp_path, monkeypatch):
        checkpointed(tmp_path, [0.1])

        def cut_off(path, text):
            raise KeyboardInterrupt

        monkeypatch.setattr("kreid.training.callbacks.write_atomically", cut_off)
        with pytest.raises(KeyboardInterrupt):
            checkpointed(tmp_path, [0.9], first_epoch=1)
        assert read_state(tmp_path)["epoch"] == 1
        assert weight(tmp_path / "epoch_1.keras") == 1

    def test_a_new_folder_has_no_epochs(self, tmp_path):
        assert read_state(tmp_path / "absent")["epoch"] == 0


class TestFiniteLoss:
    class Batches:
        def batch_files(self, epoch, step):
            return [f"{epoch}_{step}_{number}.jpg" for number in range(5)]

    @pytest.mark.parametrize(("bad", "word"), [(NAN, "nan"), (float("inf"), "inf")])
    def test_training_stops_at_the_step_and_keeps_the_checkpoint_before(self, tmp_path, bad, word):
        model = Weighing()
        targets = np.ones((8, 1))
        callbacks = [FiniteLoss(self.Batches(), tmp_path), Checkpoint(tmp_path)]
        model.fit(np.ones((8, 1)), targets, batch_size=2, epochs=1, callbacks=callbacks, shuffle=False, verbose=0)
        before = weight(tmp_path / "epoch_1.keras")
        targets[5] = bad
        with pytest.raises(ValueError, match=f"The loss is {word} in epoch 2, step 3, a batch of 1_2_0.jpg") as caught:
            model.fit(
                np.ones((8, 1)),
                targets,
                batch_size=2,
                initial_epoch=1,
                epochs=3,
                callbacks=callbacks,
                shuffle=False,
                verbose=0,
            )
        assert "1_2_2.jpg and 2 more" in str(caught.value)
        assert f"--set init={tmp_path / 'epoch_1.keras'}" in str(caught.value)
        assert "smaller learning_rate (it is 0.01)" in str(caught.value)
        assert checkpoints(tmp_path) == {"epoch_1.keras": before}
        assert read_state(tmp_path)["epoch"] == 1

    def test_weights_that_are_not_finite_are_never_saved(self, tmp_path):
        checkpointed(tmp_path, [0.5])
        model = Weighing()
        model.set_weight(NAN)
        callback = Checkpoint(tmp_path)
        callback.set_model(model)
        with pytest.raises(ValueError, match=r"After epoch 2 weights are NaN or infinite.*Received: 1 weights"):
            callback.on_epoch_end(1, {})
        assert checkpoints(tmp_path) == {"epoch_1.keras": 1}


def test_epoch_log_reads_clock_and_schedule(tmp_path):
    model = Weighing()
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.5, 0.25])
    model.compile(keras.optimizers.SGD(schedule), "mse")
    ones = np.ones((4, 1))
    history = model.fit(ones, ones, batch_size=2, epochs=2, callbacks=[EpochLog(), CsvLog(tmp_path / "l")], verbose=0)
    # At the start, and after two steps.
    assert history.history["learning_rate"] == [0.5, 0.25]
    assert all(seconds > 0 for seconds in history.history["seconds"])
    assert [row["learning_rate"] for row in read_csv(tmp_path / "l")] == ["0.5", "0.25"]


class TestHoldout:
    @pytest.fixture
    def model(self):
        import kreid

        backbone = kreid.backbones.build("resnet_tiny", image_size=(32, 32), last_stride=1)
        return kreid.models.Baseline(backbone, 4)

    @pytest.fixture
    def dataset(self, tmp_path):
        rng = np.random.default_rng(0)
        tracklets = []
        for person in (1, 2, 3):
            for camera in (1, 2):
                path = tmp_path / f"{person}c{camera}.jpg"
                pixels = np.full((32, 32, 3), 60 * person) + rng.integers(0, 30, (32, 32, 3))
                Image.fromarray(pixels.astype("uint8")).save(path)
                tracklets.append(Tracklet(path.stem, person, camera, (str(path),)))
        return ReidDataset("holdout", (), tuple(tracklets), (0, 2, 4))

    def scores(self, callback, model, epochs):
        callback.set_model(model)
        callback.set_params({"epochs": epochs})
        holdout_scores = []
        for epoch in range(epochs):
            logs = {"loss": 1.0}
            callback.on_epoch_end(epoch, logs)
            holdout_scores.append((logs.get("holdout_rank1"), logs.get("holdout_map")))
        return holdout_scores

    def test_evaluated_when_due_and_at_the_end(self, model, dataset):
        from kreid.evaluation import evaluate_model

        expected = evaluate_model(model, dataset, progress=False).protocols["standard"]
        scores = self.scores(HoldoutEvaluation(dataset, every=2), model, epochs=5)
        due = [score != (None, None) for score in scores]
        assert due == [False, True, False, True, True]
        assert scores[1] == scores[4] == (expected.cmc[1], expected.map)

    def test_nobody_held_out(self, model):
        assert self.scores(HoldoutEvaluation(None), model, epochs=1) == [(None, None)]

    def test_damage_is_judged_by_the_runs_own_limit(self, model, dataset):
        path = dataset.test[-1].frames[0]
        with open(path, "r+b") as file:
            file.truncate(100)
        with pytest.raises(ValueError, match=r"1 of 6 frames.*\n.*3c2\.jpg"):
            self.scores(HoldoutEvaluation(dataset), model, epochs=1)
        assert self.scores(HoldoutEvaluation(dataset, max_damaged=0.5), model, epochs=1)[0][1] > 0
        _, words = fit_on_holdout(model, dataset, 0.1, max_damaged=0.5)
        assert f"\nOf the held-out persons: 1 damaged frames:\n  {path} (1 times)" in words

    @pytest.mark.parametrize("every", [0, -1])
    def test_epochs_between(self, every):
        with pytest.raises(ValueError, match=f"every={every}"):
            HoldoutEvaluation(None, every)
