"""One run's folder: refused settings, kept files, and the reported checkpoint."""

import dataclasses
import functools
import json
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import yaml

import kreid
from kreid.training import Config, RunFolder
from kreid.training.callbacks import Checkpoint
from kreid.training.run_folder import versions

CONFIG = Config(system="sta", model={"num_stripes": 4})


def changed(**kwargs):
    return dataclasses.replace(CONFIG, **kwargs)


def checkpoints(run, scores, model=None):
    """Checkpoints as a training run leaves them, of a model whose classifier holds the epoch."""
    model = model or small_model()
    callback = Checkpoint(run.checkpoints, "1 steps")
    callback.set_model(model)
    callback.set_params({"steps": 10})
    for epoch, score in enumerate(scores):
        model.classifier.kernel.assign(keras.ops.full_like(model.classifier.kernel, epoch + 1))
        callback.on_epoch_end(epoch, {"holdout_map": score})
    return callback


@functools.cache
def small_model():
    model = kreid.models.Baseline(kreid.backbones.build("resnet_tiny", image_size=(32, 32), width=8), 2)
    model.compile("sgd", {"logits": "mse"})
    return model


def epoch_of(model):
    return float(model.classifier.kernel[0, 0])


def begun(path, config=CONFIG):
    run = RunFolder(path, config)
    run.begin()
    return run


def test_a_run_that_has_not_begun_leaves_no_trace(tmp_path):
    run = RunFolder(tmp_path / "run", CONFIG)
    assert run.epochs_done == 0
    assert not list(tmp_path.iterdir())


def test_versions_are_those_of_the_beginning(tmp_path):
    run = begun(tmp_path)
    (tmp_path / "versions.json").write_text("then")
    begun(tmp_path)
    assert (run.path / "versions.json").read_text() == "then"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"cannot be made.*--run.*Received: run="):
        begun(tmp_path / "file" / "run")


def test_a_new_run_keeps_settings_and_versions(tmp_path):
    run = begun(tmp_path / "runs" / "one")
    settings = yaml.safe_load(run.config_file.read_text())
    assert settings["num_stripes"] == 4
    assert settings["image_size"] == [256, 128]
    assert json.loads((run.path / "versions.json").read_text()) == versions()
    assert run.epochs_done == 0
    assert run.restored_model(10) is None
    assert run.seconds_per_epoch() is None


def test_versions_name_what_a_result_depends_on():
    recorded = versions()
    assert set(recorded) == {"python", "machine", "system", "kreid", "keras", "tensorflow", "numpy"}
    assert recorded["keras"] == keras.__version__
    assert recorded["numpy"] == np.__version__
    assert all(isinstance(value, str) and value for value in recorded.values())


def test_the_same_run_is_opened_again(tmp_path):
    begun(tmp_path)
    begun(tmp_path, changed())


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    begun(tmp_path)
    (tmp_path / ".writing-1.keras").touch()
    (tmp_path / ".writing-export" / "1").mkdir(parents=True)
    begun(tmp_path)
    assert not list(tmp_path.glob(".writing-*"))


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "empty").mkdir()
    assert begun(tmp_path / "empty").config_file.exists()


def test_another_run_is_refused_by_what_differs(tmp_path):
    begun(tmp_path)
    before = (tmp_path / "config.yaml").read_text()
    other = changed(seed=3, flip=0.25, model={"num_stripes": 8, "test_frames": 2})
    with pytest.raises(ValueError, match="another run") as caught:
        RunFolder(tmp_path, other)
    text = str(caught.value)
    for part in (
        "flip=0.5 there and 0.25 here",
        "num_stripes=4 there and 8 here",
        "seed=0 there and 3 here",
        "test_frames=None there and 2 here",
        f"Received: run={str(tmp_path)!r}",
    ):
        assert part in text
    assert "epochs" not in text
    assert (tmp_path / "config.yaml").read_text() == before


def test_a_run_from_before_a_setting_existed_is_continued_with_its_default(tmp_path):
    file = begun(tmp_path).config_file
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("sampler: persons")))
    assert len(file.read_text().splitlines()) == len(lines) - 1
    RunFolder(tmp_path, CONFIG)
    with pytest.raises(ValueError, match="sampler='persons' there and 'sequences' here"):
        RunFolder(tmp_path, changed(sampler="sequences"))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds no run.*--run"):
        RunFolder(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(ValueError, match="holds no run"):
        RunFolder(tmp_path / "notes.txt", CONFIG)


@pytest.mark.parametrize("text", ["", "- a list\n", "name: mine\n"])
def test_somebody_elses_config_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match="another run"):
        RunFolder(tmp_path, CONFIG)
    assert (tmp_path / "config.yaml").read_text() == text


def test_selected_checkpoints(tmp_path):
    run = begun(tmp_path)
    checkpoints(run, [0.3, 0.8, 0.5])
    assert run.epochs_done == 3
    for select, expected in (("last", 3), ("best", 2)):
        epoch, model = run.selected_model(select)
        assert epoch == expected
        assert epoch_of(model) == expected
    assert epoch_of(run.restored_model(10)) == 3


def test_best_without_any_evaluation_is_refused(tmp_path):
    run = begun(tmp_path)
    checkpoints(run, [float("nan")])
    with pytest.raises(ValueError, match=r"set holdout, or select=last. Received: select='best'"):
        run.selected_model("best")


def test_seconds_are_the_median_after_the_first_epoch(tmp_path):
    run = begun(tmp_path)
    run.log.write_text("epoch,seconds\n1,60\n")
    assert run.seconds_per_epoch() is None
    run.log.write_text("epoch,seconds\n1,60\n2,3\n3,9\n4,5\n")
    assert run.seconds_per_epoch() == 5.0


def test_results_carry_what_was_kept(tmp_path):
    run = begun(tmp_path)
    run.finish({"system": "sta", "epoch": 7})
    results = json.loads(run.results.read_text())
    assert results == {
        "system": "sta",
        "epoch": 7,
        "epochs": 100,
        "untrained": None,
        "seconds_per_epoch": None,
        "versions": versions(),
    }
    run.keep_untrained({"standard": {"map": 0.125}})
    run.finish({})
    assert json.loads(run.results.read_text())["untrained"] == {"standard": {"map": 0.125}}
    assert not list(tmp_path.glob("*writing-*"))


def test_callbacks_come_in_the_order_they_need(tmp_path):
    run = begun(tmp_path)
    callbacks = run.callbacks(None, changed(holdout_every=3, max_damaged=0.2))
    names = [type(callback).__name__ for callback in callbacks]
    # Scores and times are in the logs before they are written, and all is written before the epoch counts as done.
    assert names == ["FiniteLoss", "EpochLog", "HoldoutEvaluation", "CsvLog", "TensorBoard", "Checkpoint"]
    assert (callbacks[2].every, callbacks[2].max_damaged) == (3, 0.2)


HARMLESS = {
    "max_damaged": 0.5,
    "cache": "memory",
    "data_dir": "/moved/mars",
    "holdout_every": 3,
    "evaluate_untrained": True,
}


def test_the_epochs_that_are_evaluated_stay_where_the_best_is_chosen(tmp_path):
    begun(tmp_path, changed(select="best"))
    with pytest.raises(ValueError, match=r"holds another run .holdout_every="):
        RunFolder(tmp_path, changed(select="best", holdout_every=5))


@pytest.mark.parametrize("key", HARMLESS)
def test_settings_that_change_no_weight_may_change_and_are_recorded(tmp_path, key):
    begun(tmp_path)
    other = changed(**{key: HARMLESS[key]})
    RunFolder(tmp_path, other).begin()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())[key] == HARMLESS[key]


def test_the_start_is_free_after_an_epoch_and_the_evaluation_until_there_are_results(tmp_path):
    run = begun(tmp_path, changed(false_match_rate=0.001))
    with pytest.raises(ValueError, match="init=None there"):
        RunFolder(tmp_path, changed(init="moved/model.keras", false_match_rate=0.001))
    checkpoints(run, [0.3])
    later = changed(init="moved/model.keras", select="best", false_match_rate=0.01, epochs=200)
    continued = RunFolder(tmp_path, later)
    continued.restored_model(10)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["epochs"] == 200
    continued.finish({})
    for setting in ({"select": "last"}, {"false_match_rate": 0.02}):
        with pytest.raises(ValueError, match=f"another run .{next(iter(setting))}="):
            RunFolder(tmp_path, dataclasses.replace(later, **setting))
    RunFolder(tmp_path, dataclasses.replace(later, data_dir="elsewhere"))


@pytest.mark.parametrize("setting", [{"select": "best"}, {"false_match_rate": 0.01}, {"early_stopping": 3}])
def test_persons_are_not_held_out_in_the_middle_of_a_run(tmp_path, setting):
    checkpoints(begun(tmp_path), [0.3])
    with pytest.raises(ValueError, match=f"another run .{next(iter(setting))}="):
        RunFolder(tmp_path, changed(**setting))


def test_another_data_set_is_another_run(tmp_path):
    (tmp_path / "here").mkdir()
    begun(tmp_path / "run", changed(data_dir=str(tmp_path / "here")))
    with pytest.raises(ValueError, match=r"another run .data_dir="):
        RunFolder(tmp_path / "run", changed(data_dir=str(tmp_path / "there")))


def test_a_schedule_that_ends_with_the_epochs_fixes_them(tmp_path):
    begun(tmp_path, changed(schedule="cosine"))
    with pytest.raises(ValueError, match="epochs=100 there and 200 here"):
        RunFolder(tmp_path, changed(schedule="cosine", epochs=200))


@pytest.mark.parametrize("setting", [{"learning_rate": 1e-5}, {"seed": 1}, {"flip": 0.0}, {"holdout": 0.2}])
def test_settings_of_training_stay(tmp_path, setting):
    checkpoints(begun(tmp_path), [0.3])
    with pytest.raises(ValueError, match=f"another run .{next(iter(setting))}="):
        RunFolder(tmp_path, changed(**setting))


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(tmp_path, capsys):
    run = begun(tmp_path)
    checkpoints(run, [0.3, 0.8, 0.5])
    (tmp_path / "log.csv").write_text("epoch,holdout_map\n1,0.3\n2,0.8\n3,0.5\n")
    last = run.checkpoints / "epoch_3.keras"
    last.write_bytes(last.read_bytes()[:1000])
    again = RunFolder(tmp_path, CONFIG)
    assert epoch_of(again.restored_model(10)) == 2
    assert again.epochs_done == 2
    assert json.loads((run.checkpoints / "state.json").read_text()) == {
        "epoch": 2,
        "step": 0,
        "best_map": 0.8,
        "best_epoch": 2,
    }
    printed = capsys.readouterr().out
    assert "The checkpoint after epoch 3 is damaged.\nThe run continues after epoch 2." in printed
    second = run.checkpoints / "epoch_2.keras"
    # A byte in the middle: the file opens, and its checksum is wrong.
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 255
    second.write_bytes(content)
    with pytest.raises(ValueError, match=r"None of the run's checkpoints is intact.*Received: checkpoints="):
        again.restored_model(10)
    assert second.exists()


@pytest.mark.parametrize("content", [None, "", '{"epoch": 3', "[]"])
def test_a_lost_state_is_derived_from_the_checkpoints(content, tmp_path, capsys):
    run = begun(tmp_path)
    checkpoints(run, [0.3, 0.8, 0.5])
    (tmp_path / "log.csv").write_text("epoch,holdout_map\n1,0.3\n2,0.8\n3,0.5\n")
    state = run.checkpoints / "state.json"
    state.unlink()
    if content is not None:
        state.write_text(content)
    again = RunFolder(tmp_path, CONFIG)
    assert again.epochs_done == 3
    assert epoch_of(again.restored_model(10)) == 3
    assert again.selected_model("best")[0] == 2
    assert {file.name for file in run.checkpoints.glob("*.keras")} == {"epoch_2.keras", "epoch_3.keras"}


def test_a_checkpoint_inside_an_epoch(tmp_path, capsys):
    run = begun(tmp_path)
    callback = checkpoints(run, [])
    callback.on_epoch_begin(0)
    callback.on_train_batch_end(3)
    assert (run.epochs_done, run.steps_done) == (0, 4)
    # The start is behind it.
    RunFolder(tmp_path, changed(init="moved/model.keras"))
    callback = checkpoints(run, [0.3])
    callback.on_epoch_begin(1)
    callback.on_train_batch_end(6)
    assert (run.epochs_done, run.steps_done) == (1, 7)
    assert {file.stem for file in run.checkpoints.glob("*.keras")} == {"epoch_1", "epoch_1_step_7"}
    assert RunFolder(tmp_path, CONFIG).restored_model(10) is not None
    rest, *others = run.callbacks(None, CONFIG)
    assert (type(rest).__name__, rest.first_step, rest.metrics) == ("RestOfEpoch", 7, [0.0, 0.0])
    assert "RestOfEpoch" not in [type(other).__name__ for other in others]
    # The file but for the metrics, which are at its end.
    last = run.checkpoints / "epoch_1_step_7.keras"
    last.write_bytes(last.read_bytes()[:-5])
    again = RunFolder(tmp_path, CONFIG)
    again.restored_model(10)
    assert (
        "The checkpoint after step 7 of epoch 2 is damaged.\nThe run continues after epoch 1."
        in capsys.readouterr().out
    )
    assert (again.epochs_done, again.steps_done) == (1, 0)
    assert not last.exists()


def test_a_checkpoint_takes_the_room_that_is_said(tmp_path):
    from kreid.training.callbacks import checkpoint_size

    run = begun(tmp_path)
    checkpoints(run, [0.3])
    size = (run.checkpoints / "epoch_1.keras").stat().st_size
    assert size < checkpoint_size(small_model()) < 1.25 * size


def scheduled(config, epochs):
    """A model with a recipe's optimiser, after some epochs of ten steps."""
    model = kreid.models.Baseline(kreid.backbones.build("resnet_tiny", image_size=(32, 32), width=8), 2)
    model.compile(kreid.training.build_optimizer(config, 10, model.backbone), {"logits": "mse"})
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(10 * epochs)
    return model


@pytest.mark.parametrize(
    ("settings", "rate", "sentence"),
    [
        # Half of the cosine, which was at its end.
        (
            {"schedule": "cosine"},
            0.5,
            "cosine schedule is computed again for 4 epochs (a learning rate of 0.5 now, 0 before)",
        ),
        ({"schedule": "constant"}, 1.0, "constant schedule goes on at a learning rate of 1"),
        # After both steps, of which the shorter run had the first alone.
        ({"schedule": "step", "decay_every": 1}, 0.01, "step schedule goes on at a learning rate of 0.01"),
    ],
)
def test_a_complete_run_is_trained_further(settings, rate, sentence, tmp_path, capsys):
    config = changed(epochs=2, learning_rate=1.0, **settings)
    run = begun(tmp_path, config)
    checkpoints(run, [0.3, 0.2], scheduled(config, 2))
    run.finish({})
    assert run.is_complete
    assert not run.is_trained_further
    longer = RunFolder(tmp_path, dataclasses.replace(config, epochs=4))
    assert longer.is_trained_further
    assert not longer.is_complete
    model = longer.restored_model(10)
    assert int(model.optimizer.iterations) == 20
    assert float(model.optimizer.learning_rate) == pytest.approx(rate)
    printed = capsys.readouterr().out
    assert f"trained further, from 2 epochs to 4: the optimiser keeps its state, and its {sentence}.\n" in printed
    # Interrupted, it is not complete by the older results.
    assert json.loads(run.results.read_text())["epochs"] == 2
    assert not RunFolder(tmp_path, longer.config).is_complete
    longer.finish({})
    assert longer.is_complete
    with pytest.raises(ValueError, match=r"trained in 2 epochs, more than are asked for; .* Received: epochs=1"):
        RunFolder(tmp_path, dataclasses.replace(longer.config, epochs=1))


def test_results_of_an_earlier_version_can_be_trained_further(tmp_path):
    run = begun(tmp_path, changed(epochs=2))
    checkpoints(run, [0.3, 0.2])
    run.results.write_text('{"epoch": 1, "selected": "best"}')
    assert RunFolder(tmp_path, changed(epochs=2)).is_complete
    longer = RunFolder(tmp_path, changed(epochs=3))
    longer.restored_model(10)
    assert json.loads(run.results.read_text()) == {"epoch": 1, "selected": "best", "epochs": 2}
    assert not RunFolder(tmp_path, changed(epochs=3)).is_complete


def test_a_complete_run_without_checkpoints_is_not_trained_again(tmp_path):
    run = begun(tmp_path)
    run.finish({})
    with pytest.raises(ValueError, match=r"its checkpoints are gone; .*--set init=.*model.keras. Received: epochs=200"):
        RunFolder(tmp_path, changed(epochs=200))


def test_early_stopping_is_judged_after_whole_epochs(tmp_path):
    run = begun(tmp_path, changed(early_stopping=1, holdout_every=1))
    callback = checkpoints(run, [0.3, 0.2])
    assert run.epochs_to_train == 2
    callback.on_epoch_begin(2)
    callback.on_train_batch_end(0)
    assert run.epochs_to_train == 100


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path, capsys):
    code = (
        "import sys, time\nfrom kreid.training import Config, RunFolder\n"
        "RunFolder(sys.argv[1], Config(system='sta', model={'num_stripes': 4})).begin()\nprint('begun', flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            with pytest.raises(ValueError, match=rf"Process {process.pid} trains this run.*Received: run="):
                begun(tmp_path)
            waiting = threading.Thread(target=RunFolder(tmp_path, CONFIG).wait)
            waiting.start()
            waiting.join(0.5)
            assert waiting.is_alive()
        finally:
            process.kill()
    # The dead process holds it no longer.
    waiting.join(60)
    assert not waiting.is_alive()
    assert capsys.readouterr().out == f"Process {process.pid} trains {tmp_path}; waiting for it.\n"
    run = begun(tmp_path)
    begun(tmp_path)
    run.finish({})
    assert not run.lock.exists()


def test_who_waits_for_a_run_goes_on_when_it_is_finished_and_its_process_lives(tmp_path):
    code = (
        "import sys\nfrom kreid.training import Config, RunFolder\n"
        "run = RunFolder(sys.argv[1], Config(system='sta', model={'num_stripes': 4}))\nrun.begin()\nrun.begin()\n"
        "print('begun', flush=True)\nsys.stdin.readline()\nrun.finish({})\nprint('finished', flush=True)\n"
        "sys.stdin.readline()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            waiting = threading.Thread(target=RunFolder(tmp_path, CONFIG).wait, daemon=True)
            waiting.start()
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "finished\n"
            waiting.join(60)
            assert not waiting.is_alive()
            assert process.poll() is None
        finally:
            process.kill()
