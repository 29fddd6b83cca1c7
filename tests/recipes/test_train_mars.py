"""The recipe from its command line to its run folder, on a MARS tree of a few rendered people."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.io
import yaml
from recipe_samples import OWN, TINY, load_recipe

import kreid
from kreid.data.readers import read_mars
from kreid.models import SYSTEMS
from kreid.runs import position_text, read_unsaved
from kreid.serving import read_card
from kreid.training import callbacks, run_folder
from kreid.training.export_run import read_passport

pytestmark = pytest.mark.usefixtures("eagerly")

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "train_mars.py"


main = load_recipe("train_mars").main
# The phases of RTF are in test_phases; those of GLTR are here.
PHASE = {"rtf": ["--phase", "video"]}


@pytest.fixture
def own_tree(tree, tmp_path):
    """A copy of the tree, to be spoilt."""
    return Path(shutil.copytree(tree, tmp_path / "mars"))


@pytest.fixture(scope="module")
def complete(arguments, tmp_path_factory, eagerly):
    """Function: system -> the folder of its run, trained once; TACAN's in graphs, as users run it."""
    import tensorflow as tf

    folders = {}

    def folder(system):
        if system not in folders:
            run = tmp_path_factory.mktemp("runs") / system
            tf.config.run_functions_eagerly(system != "tacan")
            main(arguments(run, *OWN.get(system, []), system=system, export=True) + PHASE.get(system, []))
            tf.config.run_functions_eagerly(True)
            folders[system] = run
        return folders[system]

    return folder


def refused(arguments, capsys, status=2):
    """What the recipe writes to standard error when it refuses."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == status
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.count("error:") == (status == 2)
    return error


def results(run):
    return json.loads((run / "results.json").read_text())


def log(run):
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights(run, name="model.keras"):
    return keras.models.load_model(run / name, compile=False).get_weights()


def truncate(path):
    """Cuts an image in half."""
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)


# RTF's phases are in test_phases; every system's training, saving and export in tests/models and tests/serving.
WHOLE = [name if name == "sta" else pytest.param(name, marks=pytest.mark.slow) for name in sorted(SYSTEMS)]


@pytest.mark.parametrize("system", WHOLE)
class TestWholeRun:
    def test_the_folder_is_complete(self, system, complete, tree):
        run = complete(system)
        for name in ("config.yaml", "versions.json", "log.csv", "model.keras", "results.json", "tensorboard"):
            assert (run / name).exists(), name
        assert not list(run.rglob("*writing-*"))
        settings = yaml.safe_load((run / "config.yaml").read_text())
        assert {key: settings[key] for key in TINY} == TINY
        assert (settings["system"], settings["data_dir"]) == (system, str(tree))
        rows = log(run)
        assert [row["epoch"] for row in rows] == ["1", "2"]
        for row in rows:
            numbers = {key: float(value) for key, value in row.items()}
            assert np.isfinite(list(numbers.values())).all()
            assert {"loss", "learning_rate", "seconds", "holdout_rank1", "holdout_map"} <= set(numbers)
            assert 0 <= numbers["holdout_map"] <= 1

    def test_results_have_every_protocol_before_and_after(self, system, complete, tree):
        recorded = results(complete(system))
        queries = len(read_mars(tree).query_rows)
        assert (recorded["system"], recorded["data"], recorded["precision"]) == (system, "mars", "float32")
        assert (recorded["selected"], recorded["epoch"]) == ("last", 2)
        # Of the systems, STA's run has the setting to be evaluated before training too.
        assert (recorded["untrained"] is not None) == (system == "sta")
        for scores in filter(None, (recorded["protocols"], recorded["untrained"])):
            assert set(scores) == {"standard", "mars", "with_queries"}
            for protocol in scores.values():
                assert set(protocol["cmc"]) == {"1", "5", "10", "20"}
                assert 0 <= protocol["map"] <= 1
                assert protocol["num_queries"] == queries
        assert recorded["protocols"] != recorded["untrained"]
        assert recorded["damaged_frames"] == {}
        assert recorded["seconds_per_epoch"] > 0
        assert recorded["versions"]["keras"] == keras.__version__

    def test_the_threshold_of_the_held_out_persons_is_kept(self, system, complete):
        run = complete(system)
        fitted = results(run)["verification"]
        assert fitted == read_card(run / "export" / "1")["verification"]
        assert (fitted["false_match_rate"], fitted["fitted_on"]["persons"]) == (0.2, 2)
        assert fitted["threshold"] > 0

    def test_the_passport_tells_of_the_run(self, system, complete):
        run = complete(system)
        passport = read_passport(run)
        recorded = results(run)
        assert passport.trained_on["data"] == recorded["data"]
        assert passport.verification == recorded["verification"]
        assert passport.scores["mars"]["map"] == recorded["protocols"]["mars"]["map"]
        exported = read_passport(run / "export")
        assert exported == dataclasses.replace(passport, fingerprint=read_card(run / "export" / "1")["fingerprint"])

    def test_results_with_other_numbers_of_frames(self, system, complete):
        other = results(complete(system)).get("with_test_frames", {})
        # Of the systems, STA's run has the setting.
        assert list(other) == (["1", "4"] if system == "sta" else [])
        if system == "sta":
            assert other["1"] != other["4"] == results(complete(system))["protocols"]

    def test_model_and_export_agree(self, system, complete):
        import tensorflow as tf

        run = complete(system)
        model = keras.models.load_model(run / "model.keras")
        assert type(model) is SYSTEMS[system]
        last = f"checkpoints/epoch_{TINY['epochs']}.keras"
        for one, other in zip(model.get_weights(), weights(run, last), strict=True):
            np.testing.assert_array_equal(one, other)
        frames = np.random.default_rng(0).integers(0, 256, (3, 5, 64, 32, 3)).astype("uint8")
        lengths = np.array([5, 1, 3], "int32")
        signatures = tf.saved_model.load(str(run / "export" / "1")).signatures
        exported = signatures["embed_padded"](frames=tf.constant(frames), lengths=tf.constant(lengths))["embedding"]
        np.testing.assert_allclose(exported, model.embed(frames, lengths), rtol=1e-4, atol=1e-5)

    def test_a_complete_run_is_left_alone(self, system, complete, arguments, capsys):
        run = complete(system)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        capsys.readouterr()
        main(arguments(run, *OWN.get(system, []), system=system) + PHASE.get(system, []))
        assert "is complete; its results are in" in capsys.readouterr().out
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


class TestResuming:
    def interrupt(self, monkeypatch, where, after=0):
        """Presses Ctrl-C at the end of a method's call number `after`."""
        cls, name = where
        method = getattr(cls, name)
        calls = []

        def interrupted(self, *args, **kwargs):
            returned = method(self, *args, **kwargs)
            calls.append(1)
            if len(calls) > after:
                raise KeyboardInterrupt
            return returned

        monkeypatch.setattr(cls, name, interrupted)

    def test_an_interrupted_run_ends_as_the_uninterrupted(self, complete, arguments, tmp_path, capsys, monkeypatch):
        run = tmp_path / "run"

        def stop(*_, logs):
            signal.raise_signal(signal.SIGTERM)

        # In the first step.
        monkeypatch.setattr(callbacks.FiniteLoss, "on_train_batch_end", stop)
        message = refused(arguments(run, *OWN["sta"]), capsys, status=143)
        assert message.endswith("stopped by SIGTERM; the same command continues after step 1 of epoch 1\n")
        assert [path.stem for path in (run / "checkpoints").glob("*.keras")] == ["epoch_0_step_1"]
        assert not (run / "log.csv").exists()
        monkeypatch.undo()
        # Again, this time after training and before the results.
        self.interrupt(monkeypatch, (run_folder.RunFolder, "selected_model"))
        message = refused(arguments(run, *OWN["sta"]), capsys, status=130)
        assert "same command continues" in message
        assert callbacks.read_state(run / "checkpoints")["epoch"] == 2
        assert not (run / "results.json").exists()
        monkeypatch.undo()
        main(arguments(run, *OWN["sta"]))
        expected = complete("sta")
        for one, other in zip(weights(run), weights(expected), strict=True):
            np.testing.assert_array_equal(one, other)
        assert [row["epoch"] for row in log(run)] == ["1", "2"]
        for one, other in zip(log(run), log(expected), strict=True):
            assert float(one.pop("seconds")) > 0
            assert float(other.pop("seconds")) > 0
            assert one == other
        # What was measured before the interruption is still reported.
        same, expected_results = results(run), results(expected)
        for scores in (same, expected_results):
            del scores["seconds_per_epoch"]
        assert same == expected_results

    @pytest.mark.slow
    def test_a_complete_run_is_trained_further(self, complete, arguments, tmp_path, capsys):
        run = Path(shutil.copytree(complete("baseline"), tmp_path / "run"))
        before, rows = results(run), log(run)
        assert before["epochs"] == 2
        error = refused(arguments(run, "epochs=1", system="baseline"), capsys)
        assert "This run has trained in 2 epochs, more than are asked for" in error
        main(arguments(run, "epochs=3", system="baseline", export=True))
        printed = capsys.readouterr().out
        assert "The run was complete and is trained further, from 2 epochs to 3: the optimiser keeps" in printed
        after = results(run)
        assert (after["epochs"], after["epoch"]) == (3, 3)
        assert after["protocols"] != before["protocols"]
        assert log(run)[:2] == rows
        assert [row["epoch"] for row in log(run)] == ["1", "2", "3"]
        assert [path.name for path in (run / "export").iterdir()] == ["1"]
        for one, other in zip(weights(run), weights(run, "checkpoints/epoch_3.keras"), strict=True):
            np.testing.assert_array_equal(one, other)
        assert not list(run.rglob("*writing-*"))

    # STA's pairs of frames are drawn at random, stages of the backbone are frozen, and weights are averaged.
    SETTINGS = (
        *("num_frames=3", "steps_per_epoch=4", "holdout_every=2", "schedule=constant"),
        *("frozen_epochs=1", "unfreeze_every=1", "freeze_batch_norm=true", "ema_momentum=0.9", "accumulate=3"),
    )

    @pytest.fixture(scope="class")
    @classmethod
    def uninterrupted(cls, arguments, tmp_path_factory):
        """A run of six epochs, in a process: here functions run eagerly, and their sums differ in the last digits."""
        run = tmp_path_factory.mktemp("uninterrupted")
        command = [sys.executable, str(RECIPE), *arguments(run, *cls.SETTINGS, "epochs=6")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return run

    def position(self, run):
        state = callbacks.read_state(run / "checkpoints")
        return state["epoch"], state["step"]

    @pytest.mark.slow
    @pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
    def test_killed_processes_and_a_run_that_is_trained_further(self, kill, uninterrupted, arguments, tmp_path):
        run = tmp_path / "run"
        stopped = []
        for epochs, positions in ((4, [(0, 2), (1, 1), (3, 0)]), (6, [(4, 1)])):
            settings = (*self.SETTINGS, f"epochs={epochs}", "checkpoint_every=1 steps")
            command = [sys.executable, str(RECIPE), *arguments(run, *settings)]
            for position in positions:
                with subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                ) as process:
                    while process.poll() is None and self.position(run) < position:
                        time.sleep(0.02)
                    process.send_signal(kill)
                    output, error = process.communicate()
                assert process.returncode == (-9 if kill == signal.SIGKILL else 128 + kill), error
                assert "Traceback" not in error
                stopped.append(self.position(run))
                if kill != signal.SIGKILL:
                    last = f"the same command continues after {position_text(*stopped[-1])}"
                    assert error.splitlines()[-1].endswith(last)
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            assert ("The run was complete and is trained further, from 4 epochs to 6" in output) == (epochs == 6)
            assert results(run)["epochs"] == epochs
        assert any(step for _, step in stopped)
        assert "Traceback" not in done.stderr
        one, other = (kreid.load_model(folder / "checkpoints/epoch_6.keras") for folder in (run, uninterrupted))
        pairs = [(one.variables, other.variables), (one.optimizer.variables, other.optimizer.variables)]
        for first, second in pairs:
            for variable, expected in zip(first, second, strict=True):
                np.testing.assert_array_equal(variable, expected, err_msg=variable.path)
        unsaved = [read_unsaved(folder / "checkpoints/epoch_6.keras") for folder in (run, uninterrupted)]
        assert unsaved[0] == unsaved[1]
        assert unsaved[0]["seeds"]
        for weight, expected in zip(weights(run), weights(uninterrupted), strict=True):
            np.testing.assert_array_equal(weight, expected)
        rows, expected_rows = log(run), log(uninterrupted)
        for row in rows + expected_rows:
            del row["seconds"]
        assert rows == expected_rows
        assert [row["epoch"] for row in rows] == list("123456")
        assert results(run)["protocols"] == results(uninterrupted)["protocols"]

    def test_another_runs_folder(self, complete, arguments, capsys):
        run = complete("sta")
        before = (run / "results.json").read_text()
        error = refused(arguments(run, *OWN["sta"], "seed=5", "num_stripes=2"), capsys)
        assert "holds another run (num_stripes=4 there and 2 here, seed=0 there and 5 here)" in error
        assert len(error.splitlines()) == 1
        assert (run / "results.json").read_text() == before

    def test_a_folder_of_something_else(self, arguments, tmp_path, capsys):
        (tmp_path / "notes.txt").write_text("mine")
        error = refused(arguments(tmp_path), capsys)
        assert "holds no run" in error
        assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


def rewrite_tracks(root, split, keep):
    """Keeps the rows of a split's track table for which `keep(row)` holds, each as `keep` returns it."""
    path = root / "info" / f"tracks_{split}_info.mat"
    name = f"track_{split}_info"
    rows = [keep(tuple(row)) for row in scipy.io.loadmat(path)[name].tolist()]
    scipy.io.savemat(path, {name: np.array([row for row in rows if row is not None], "int32")})


class TestRoughData:
    @pytest.fixture(scope="class")
    @classmethod
    def rough(cls, tree, arguments, tmp_path_factory):
        """A run by the best checkpoint on a tree with one of each: see the tests.

        Its output, its folder, and what was spoilt.
        """
        root = Path(shutil.copytree(tree, tmp_path_factory.mktemp("rough") / "mars"))
        train = read_mars(root).train
        spoilt = {}

        def keep(row):
            start, _, person, camera = row
            if person == 1:  # one tracklet, of one frame, which is intact
                return (start, start, person, camera) if spoilt.setdefault(1, row) == row else None
            if person == 2:  # one tracklet of three frames, one of them cut off
                return (start, start + 2, person, camera) if spoilt.setdefault(2, row) == row else None
            return row

        rewrite_tracks(root, "train", keep)
        first = {person: next(t for t in train if t.person == person) for person in (2, 3)}
        truncate(first[2].frames[1])
        os.remove(first[3].frames[0])
        run = root.parent / "run"
        out = io.StringIO()
        settings = ("num_frames=3", "steps_per_epoch=4", "epochs=3", "select=best")
        with contextlib.redirect_stdout(out):
            main(arguments(run, *settings, system="baseline", data=root))
        return out.getvalue(), run, first[2].frames[1], first[3].frames[0]

    def test_a_damaged_frame_is_counted_and_the_run_goes_on(self, rough):
        out, run, damaged, _ = rough
        counts = results(run)["damaged_frames"]
        assert list(counts) == [damaged]
        assert counts[damaged] >= 2
        assert "1 damaged frames" in out
        assert damaged in out

    def test_a_missing_frame_is_in_the_summary(self, rough):
        out, _, _, missing = rough
        assert f"missing in bbox_train: 1 frames, such as bbox_train/0003/{Path(missing).name}" in out

    def test_a_single_frame_and_a_single_tracklet_train(self, rough):
        out, run, _, _ = rough
        # Two of eight are held out, never 1 and 2, whom only one camera saw.
        assert re.search("^train +8 ", out, re.MULTILINE)
        assert "To choose the checkpoint and fit the verification threshold, 2 of 8 train persons are held out: " in out
        model = keras.models.load_model(run / "model.keras", compile=False)
        assert model.num_identities == 6
        assert all(np.isfinite(float(row["loss"])) for row in log(run))

    def test_best_is_the_epoch_of_the_highest_held_out_map(self, rough):
        _, run, _, _ = rough
        scores = [float(row["holdout_map"]) for row in log(run)]
        best = int(np.argmax(scores)) + 1
        recorded = results(run)
        assert (recorded["selected"], recorded["epoch"]) == ("best", best)
        for one, other in zip(weights(run), weights(run, f"checkpoints/epoch_{best}.keras"), strict=True):
            np.testing.assert_array_equal(one, other)
        assert recorded["untrained"] is None

    def test_too_much_damage_stops_the_run(self, own_tree, arguments, tmp_path, capsys):
        damaged = [frame for tracklet in read_mars(own_tree).train[::3] for frame in tracklet.frames]
        for frame in damaged:
            truncate(frame)
        settings = ("holdout=0", "false_match_rate=null", "steps_per_epoch=4", "persons_per_batch=4")
        run = tmp_path / "run"
        error = refused(arguments(run, *settings, data=own_tree), capsys)
        assert "cannot be read, more than the 5.0% allowed" in error
        named = [line.split(" (")[0].strip() for line in error.splitlines() if "times)" in line]
        assert named
        assert set(named) <= set(damaged)
        assert not (run / "results.json").exists()

    def test_too_much_damage_among_the_queries(self, own_tree, arguments, tmp_path, capsys):
        for tracklet in read_mars(own_tree).test[::2]:
            for frame in tracklet.frames:
                truncate(frame)
        short = ("epochs=1", "steps_per_epoch=1", "holdout=0", "false_match_rate=null")
        error = refused(arguments(tmp_path / "run", *short, data=own_tree), capsys)
        assert "cannot be read, more than the 5.0% allowed" in error
        assert "bbox_test" in error

    def test_more_persons_than_there_are(self, arguments, tmp_path, capsys):
        error = refused(arguments(tmp_path / "run", "persons_per_batch=16"), capsys)
        assert "There are 6 persons: lower `persons_per_batch`" in error
        assert len(error.splitlines()) == 1
        assert not (tmp_path / "run").exists(), "a refused run leaves no folder that refuses the next"

    def test_no_person_left_to_hold_out(self, arguments, tmp_path, capsys):
        assert "lower holdout, or choose and fit nothing" in refused(arguments(tmp_path / "run", "holdout=0.9"), capsys)

    def test_frames_that_the_model_refuses_are_refused_before_training(self, arguments, tmp_path, capsys):
        grid = ("num_granularities=1", "references=grid", "reference_grid=[2,2,2]", "num_frames=4", "test_frames=4")
        line = arguments(tmp_path / "run", *grid, "also_test_frames=[16]", system="mg_rafa")
        assert "made for 4 frames" in refused(line, capsys)
        assert not (tmp_path / "run" / "log.csv").exists()

    def test_an_index_without_images(self, own_tree, arguments, tmp_path, capsys):
        shutil.rmtree(own_tree / "bbox_test")
        error = refused(arguments(tmp_path / "run", data=own_tree), capsys)
        assert "None of the images that test_name.txt names is on the disk" in error


class TestRefusals:
    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            (["--system", "star"], "Unknown system; .* Did you mean 'sta'"),
            (["--set", "epoch=3"], "Did you mean 'epochs'"),
            (["--set", "epochs"], "key=value"),
            (["--set", "epochs=many"], "epochs .* must be int"),
            (["--set", "seed=-1"], "at least 0. Received: seed=-1"),
            (["--set", "learning_rate=nan"], "positive number. Received: learning_rate=nan"),
            (["--set", "select=best", "--set", "holdout=0"], "held-out persons"),
            (["--overlay", "absent.yaml"], "no settings file at this path"),
            (["--data", "absent"], r"MARS \(bbox_train/, bbox_test/, info/\) is expected in absent"),
            (["--data", "12"], "is expected in 12 "),
            (["--data", "a: b"], "is expected in a: b "),
        ],
    )
    def test_one_sentence(self, line, complaint, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        error = refused(line, capsys)
        assert re.match(rf"error: .*{complaint}", error), error
        assert len(error.splitlines()) == 1
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("setting", ["num_stripes=3", "backbone=resnet_tinny", "embedding_dim=0"])
    def test_settings_that_the_model_judges(self, setting, arguments, tmp_path, capsys):
        error = refused(arguments(tmp_path / "run", setting), capsys)
        assert len(error.splitlines()) == 1
        assert f"={setting.split('=')[1]}" in error.replace("'", "")
        assert not (tmp_path / "run").exists()

    def test_choices_that_exclude_each_other(self, tmp_path, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(["--data", "here", "--synthetic"])
        assert stopped.value.code == 2
        assert "not allowed with" in capsys.readouterr().err

    def test_errors_from_elsewhere_keep_their_traceback(self):
        from kreid.training import plain_errors

        with pytest.raises(ValueError, match="elsewhere"), plain_errors():
            raise ValueError("elsewhere")

    def test_a_bare_run_without_data(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(RECIPE)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        sentence = printed.err.splitlines()[-1]
        assert sentence.startswith("error: MARS")
        assert "data/mars" in sentence
        assert f"{Path(sys.executable).name} {RECIPE} --system sta --synthetic " in sentence
        assert not list(tmp_path.iterdir())
