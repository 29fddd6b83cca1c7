"""The files of a run's folder, read as they are written."""

import json
import os
import zipfile

import numpy as np
import pytest

import kreid
from kreid.evaluation import evaluate, queries_dict, results_dict
from kreid.runs import (
    FinishedRun,
    ReportFiles,
    RunFiles,
    checkpoint_file,
    checkpoint_positions,
    position_text,
    read_state,
    read_unsaved,
    state_file,
    write_unsaved,
)

RESULTS = {"standard": evaluate([[0.2, 0.1], [0.1, 0.2]], [7, 5], [0, 0], [7, 9], [1, 1])}


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def finished(folder, config="system: baseline\n"):
    files = RunFiles(folder)
    write(files.config_file, config)
    kreid.models.Baseline(kreid.backbones.build("resnet_tiny", image_size=(32, 32), width=8), 2).save(files.model)
    return folder


class TestRunFiles:
    def test_an_absent_folder_is_empty(self, tmp_path):
        files = RunFiles(tmp_path / "gone")
        assert not files.is_run
        assert not files.is_complete
        assert files.read_results() == files.read_untrained() == files.read_protocols() == files.read_log() == {}
        assert files.read_query_ids("standard") == []
        assert files.read_phase_logs() == files.splits() == {}
        assert not files.path.exists()

    def test_settings_make_a_run_and_results_complete_it(self, tmp_path):
        files = RunFiles(tmp_path)
        write(files.config_file, "system: sta\nimage_size: [256, 128]\n")
        assert (files.is_run, files.is_complete) == (True, False)
        assert files.read_config() == {"system": "sta", "image_size": [256, 128]}
        write(files.results, "{}")
        assert files.is_complete

    def test_protocols_with_and_without_their_queries(self, tmp_path):
        files = RunFiles(tmp_path)
        write(files.results, json.dumps({"epoch": 3, "protocols": results_dict(RESULTS)}))
        expected = RESULTS["standard"]
        assert files.read_results()["epoch"] == 3
        assert files.read_protocols()["standard"].average_precision is None
        write(files.queries, json.dumps(queries_dict(RESULTS, ["a", "b"])))
        found = files.read_protocols()["standard"]
        assert found.to_dict() == expected.to_dict()
        np.testing.assert_array_equal(found.average_precision, expected.average_precision)
        assert files.read_query_ids("standard") == ["a", "b"]
        assert files.read_query_ids("mars") == []

    def test_a_log_has_nan_where_an_epoch_has_no_value(self, tmp_path):
        files = RunFiles(tmp_path)
        write(files.log, "epoch,loss,holdout_map\n1,2.5,\n2,1.25,0.5\n")
        log = files.read_log()
        assert list(log) == ["epoch", "loss", "holdout_map"]
        np.testing.assert_array_equal(log["loss"], [2.5, 1.25])
        np.testing.assert_array_equal(log["holdout_map"], [np.nan, 0.5])
        write(files.log, "epoch,loss\n")
        assert files.read_log() == {}

    def test_phases_come_in_the_order_of_training(self, tmp_path):
        files = RunFiles(tmp_path)
        for date, name in enumerate(("images", "after"), start=1):
            write(files.phase(name).log, f"epoch\n{date}\n")
            os.utime(files.phase(name).log, (date, date))
        (tmp_path / "phases" / "begun").mkdir()
        write(files.log, "epoch\n3\n")
        logs = files.read_phase_logs()
        assert list(logs) == ["images", "after", "main"]
        assert [log["epoch"].tolist() for log in logs.values()] == [[1.0], [2.0], [3.0]]

    def test_splits_are_the_runs_among_the_folders(self, tmp_path):
        files = RunFiles(tmp_path)
        for number in (10, 2):
            write(files.split(number).config_file, "system: sta\n")
        (tmp_path / "split_3").mkdir()
        write(tmp_path / "split_mine" / "config.yaml", "system: sta\n")
        assert {number: run.path.name for number, run in files.splits().items()} == {2: "split_2", 10: "split_10"}
        assert list(files.splits()) == [2, 10]


def test_files_of_a_report(tmp_path):
    files = ReportFiles(tmp_path)
    names = [path.name for path in (files.page, files.numbers, files.embeddings, files.compared)]
    assert names == ["index.html", "report.json", "embeddings.npz", "compared.npz"]


def test_the_state_of_checkpoints(tmp_path):
    assert checkpoint_file(tmp_path, 7) == tmp_path / "epoch_7.keras"
    assert checkpoint_file(tmp_path, 7, 12) == tmp_path / "epoch_7_step_12.keras"
    assert (position_text(7), position_text(7, 12)) == ("epoch 7", "step 12 of epoch 8")
    state = read_state(tmp_path)
    assert (state["epoch"], state["best_epoch"]) == (0, None)
    state["epoch"] = 4
    assert read_state(tmp_path)["epoch"] == 0, "a caller changes its own copy"
    state_file(tmp_path).write_text(json.dumps({"epoch": 4, "best_map": 0.5, "best_epoch": 2}))
    # Written before there were checkpoints inside epochs.
    assert read_state(tmp_path) == {"epoch": 4, "step": 0, "best_map": 0.5, "best_epoch": 2}


def test_a_state_is_derived_from_checkpoints_and_log(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("epoch_2", "epoch_10_step_3", "epoch_10", "epoch_10_step_12", "epoch_9_step_40", "epoch_x"):
        (folder / f"{name}.keras").touch()
    assert checkpoint_positions(folder) == [(2, 0), (9, 40), (10, 0), (10, 3), (10, 12)]
    (tmp_path / "log.csv").write_text("epoch,holdout_map\n2,0.5\n10,0.25\n11,0.75\n")
    assert read_state(folder) == {"epoch": 10, "step": 12, "best_map": 0.5, "best_epoch": 2}
    (folder / "epoch_2.keras").unlink()
    assert read_state(folder) == {"epoch": 10, "step": 12, "best_map": -1.0, "best_epoch": None}


def test_what_keras_does_not_save_is_kept_in_the_checkpoint(tmp_path):
    path = tmp_path / "epoch_1.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "{}")
    assert read_unsaved(path) == {}
    # Numbers of float32 come back to the last bit.
    unsaved = {"metrics": np.float32([0.1, 1 / 3, 3e38]).tolist(), "seeds": [[2**60 + 1, 3]]}
    write_unsaved(path, {"metrics": []})
    write_unsaved(path, unsaved)
    assert read_unsaved(path) == unsaved
    np.testing.assert_array_equal(np.float32(read_unsaved(path)["metrics"]), np.float32([0.1, 1 / 3, 3e38]))
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
    with pytest.raises(ValueError, match="Received: 70015 bytes, of 65535 at most"):
        write_unsaved(path, {"metrics": 70_000 * "x"})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        read_unsaved(path)


class TestFinishedRun:
    def test_its_name_settings_and_model(self, tmp_path):
        run = FinishedRun(finished(tmp_path / "one", "system: baseline\ndata: mars\ndata_dir: here\n"))
        assert (run.name, run.config["data"], run.train_folders) == ("one", "mars", ["here"])
        assert type(run.model) is kreid.models.Baseline
        assert run.model is run.model
        assert run.results == run.logs() == {}

    def test_a_run_on_images_has_no_test_set(self, tmp_path):
        run = FinishedRun(finished(tmp_path, "system: baseline\ndata: images\nimage_dirs: [a, b]\n"))
        assert run.train_folders == ["a", "b"]
        with pytest.raises(ValueError, match=r"name one with --data\. Received: run="):
            run.dataset()

    def test_a_data_set_that_has_moved(self, tmp_path):
        run = FinishedRun(finished(tmp_path, "system: baseline\ndata: mars\ndata_dir: /gone/mars\n"))
        with pytest.raises(FileNotFoundError, match=r"name its folder with --data\. Received: data='/gone/mars'"):
            run.dataset()

    @pytest.mark.parametrize("missing", ["config.yaml", "model.keras"])
    def test_an_unfinished_run_is_refused(self, missing, tmp_path):
        (finished(tmp_path) / missing).unlink()
        with pytest.raises(ValueError, match=rf"it has no {missing}; .*Received: run="):
            FinishedRun(tmp_path)

    @pytest.mark.parametrize("config", ["", "- a list\n", "name: mine\n"])
    def test_settings_of_something_else_are_refused(self, config, tmp_path):
        with pytest.raises(ValueError, match=r"config\.yaml names no system\. Received: run="):
            FinishedRun(finished(tmp_path, config))
