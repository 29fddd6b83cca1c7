"""Logs, checkpoints and held-out evaluation, epoch by epoch."""

import csv
import functools
import signal

import keras
import numpy as np
import pytest
from PIL import Image

from kreid.data.tracklet import ReidDataset, Tracklet
from kreid.runs import checkpoint_file, read_state, read_unsaved
from kreid.training.callbacks import (
    Checkpoint,
    CsvLog,
    EpochLog,
    FiniteLoss,
    HoldoutEvaluation,
    RestOfEpoch,
    restore_seeds,
)
from kreid.training.stop_signals import Stopped, StopSignals
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
        assert read_state(tmp_path / "c") == {"epoch": 4, "step": 0, "best_map": 0.6, "best_epoch": 2}

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
        assert read_state(tmp_path) == {"epoch": 2, "step": 0, "best_map": -1.0, "best_epoch": None}
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
        assert read_state(tmp_path) == {"epoch": 1, "step": 0, "best_map": 0.1, "best_epoch": 1}
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

    def test_a_full_disk_names_the_room_that_is_needed(self, tmp_path, monkeypatch):
        checkpointed(tmp_path, [0.1])

        def full(model, path):
            path.symlink_to("/dev/full")
            path.write_bytes(b"new")

        monkeypatch.setattr(Weighing, "save", full)
        # Bytes of the weight, of SGD's step number and of its rate.
        needed = 4 + 8 + 4 + 3 * 4096
        with pytest.raises(OSError, match=rf"disk is full.*epoch_2\.keras', \d+ bytes free, {needed} bytes needed"):
            checkpointed(tmp_path, [0.9], first_epoch=1)
        assert checkpoints(tmp_path) == {"epoch_1.keras": 1}

    def test_room_for_two_or_for_three_if_the_best_is_not_the_last(self, tmp_path, monkeypatch):
        save, seen = Weighing.save, []

        def watched(model, path):
            seen.append(sorted(file.name for file in tmp_path.glob("*.keras")))
            save(model, path)

        monkeypatch.setattr(Weighing, "save", watched)
        checkpointed(tmp_path, [0.2, 0.6, 0.4])
        # What killed processes left.
        (tmp_path / ".writing-1.keras").touch()
        (tmp_path / "epoch_4.keras").touch()
        checkpointed(tmp_path, [0.5], first_epoch=3)
        one, two, three = (f"epoch_{epoch}.keras" for epoch in (1, 2, 3))
        assert seen == [[], [one], [two], [two, three]]

    def test_a_new_folder_has_no_epochs(self, tmp_path):
        assert read_state(tmp_path / "absent")["epoch"] == 0


def sums():
    """A model with all that a checkpoint must hold: moving statistics, dropout, Adam, a schedule, two losses."""
    inputs = keras.Input((3,))
    hidden = keras.layers.BatchNormalization(name="norm")(keras.layers.Dense(4, name="dense")(inputs))
    hidden = keras.layers.Dropout(0.5, name="dropout")(hidden)
    model = keras.Model(inputs, {"one": keras.layers.Dense(1, name="one")(hidden), "two": inputs})
    rate = keras.optimizers.schedules.CosineDecay(0.1, 15)
    model.compile(keras.optimizers.Adam(rate), {"one": "mse", "two": "mae"})
    return model


class At(keras.callbacks.Callback):
    """Calls a function at the end of a step, counted from 0 over the whole `fit`, or of its epoch."""

    def __init__(self, step, function, epoch_end=False):
        super().__init__()
        self.step, self.function, self.epoch_end, self.seen = step, function, epoch_end, -1

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.step and not self.epoch_end:
            self.function()

    def on_epoch_end(self, epoch, logs=None):
        if self.seen == self.step and self.epoch_end:
            self.function()


class TestInsideEpochs:
    STEPS, EPOCHS = 5, 3

    def fit(self, folder, *others, every="epoch", epochs=EPOCHS):
        """Trains `sums` from its last checkpoint, or from the start, as a run does; returns the model."""
        import tensorflow as tf

        rng = np.random.default_rng(0)
        rows = self.STEPS * self.EPOCHS
        inputs, targets = rng.normal(size=(rows, 2, 3)).astype("float32"), rng.normal(size=(rows, 2, 1))
        batches = tf.data.Dataset.from_tensor_slices((inputs, {"one": targets, "two": inputs}))
        state = read_state(folder / "c")
        unsaved, rest = {}, []
        if state["epoch"] or state["step"]:
            file = checkpoint_file(folder / "c", state["epoch"], state["step"])
            model, unsaved = keras.models.load_model(file), read_unsaved(file)
            restore_seeds(model, unsaved)
            rest = [RestOfEpoch(state["step"], unsaved["metrics"])] if state["step"] else []
        else:
            keras.utils.set_random_seed(3)
            model = sums()
        signals, epoch_log = StopSignals(), EpochLog(unsaved if rest else {})
        with signals:
            model.fit(
                batches.skip(state["epoch"] * self.STEPS + state["step"]).repeat(),
                initial_epoch=state["epoch"],
                epochs=epochs,
                steps_per_epoch=self.STEPS,
                shuffle=False,
                callbacks=[
                    *rest,
                    epoch_log,
                    CsvLog(folder / "log.csv"),
                    *others,
                    Checkpoint(folder / "c", every, epoch_log, signals=signals),
                ],
                verbose=0,
            )
        return model

    @pytest.fixture(scope="class")
    @classmethod
    def uninterrupted(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("uninterrupted")
        return folder, cls().fit(folder)

    def assert_same(self, uninterrupted, folder, model):
        expected_folder, expected = uninterrupted
        assert any("seed_generator" in one.path for one in model.variables)
        assert int(model.optimizer.iterations) == self.STEPS * self.EPOCHS
        for one, other in zip(
            [*model.variables, *model.optimizer.variables],
            [*expected.variables, *expected.optimizer.variables],
            strict=True,
        ):
            np.testing.assert_array_equal(one, other, err_msg=one.path)
        rows, expected_rows = read_csv(folder / "log.csv"), read_csv(expected_folder / "log.csv")
        assert len(expected_rows) == self.EPOCHS
        assert {"epoch", "loss", "one_loss", "two_loss", "learning_rate", "seconds"} == set(expected_rows[0])
        for row in rows + expected_rows:
            assert float(row.pop("seconds")) > 0
        assert rows == expected_rows

    def test_a_stopped_run_continues_on_the_next_batch_bit_for_bit(self, uninterrupted, tmp_path):
        # After the first step, before the last step of an epoch, in a last step, and while its epoch ends.
        for step, number, end, text in (
            (0, signal.SIGINT, False, "stopped by Ctrl-C; the same command continues after step 1 of epoch 1"),
            (7, signal.SIGTERM, False, "stopped by SIGTERM; the same command continues after step 4 of epoch 2"),
            (0, signal.SIGTERM, False, "stopped by SIGTERM; the same command continues after epoch 2"),
            (4, signal.SIGINT, True, "stopped by Ctrl-C; the same command continues after epoch 3"),
        ):
            before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
            with pytest.raises(Stopped) as stopped:
                self.fit(tmp_path, At(step, functools.partial(signal.raise_signal, number), end))
            assert str(stopped.value) == text
            assert stopped.value.status == 128 + number
            assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
        state = read_state(tmp_path / "c")
        assert (state["epoch"], state["step"]) == (self.EPOCHS, 0)
        # No epoch is left to train.
        self.assert_same(uninterrupted, tmp_path, self.fit(tmp_path))

    def test_a_kill_between_checkpoints_repeats_the_steps_after_the_last(self, uninterrupted, tmp_path):
        def kill():
            raise SystemExit

        with pytest.raises(SystemExit):
            self.fit(tmp_path, At(8, kill), every="3 steps")
        assert [path.name for path in sorted((tmp_path / "c").iterdir())] == ["epoch_1_step_3.keras", "state.json"]
        self.assert_same(uninterrupted, tmp_path, self.fit(tmp_path))

    @pytest.mark.parametrize(
        ("every", "expected"),
        [
            ("epoch", {"epoch_1"}),
            ("2 steps", {"epoch_0_step_2", "epoch_0_step_4", "epoch_1"}),
            ("5 steps", {"epoch_1"}),
            ("0.0000001 minutes", {*(f"epoch_0_step_{step}" for step in range(1, 5)), "epoch_1"}),
            ("1000 minutes", {"epoch_1"}),
        ],
    )
    def test_when_checkpoints_are_saved(self, tmp_path, every, expected):
        checkpoint = Checkpoint(tmp_path, every)
        checkpoint.set_model(Weighing())
        checkpoint.set_params({"steps": 5})
        checkpoint.on_epoch_begin(0)
        names = set()
        for step in range(5):
            checkpoint.on_train_batch_end(step)
            names |= {path.stem for path in tmp_path.glob("*.keras")}
        checkpoint.on_epoch_end(0)
        assert names | {path.stem for path in tmp_path.glob("*.keras")} == expected


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
