"""Runs of several splits: their folders, their mean, refused settings. Complete runs are in tests/recipes."""

import json

import pytest

from kreid.training import Config, check_splits, keep_splits, split_folder


def finish(folder, split, rank1, mean_precision, protocols=("standard",), **settings):
    run = split_folder(folder, split)
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(Config("sta", split=split, **settings).to_yaml())
    cmc = {"1": rank1, "5": 1.0}
    scores = {"cmc": cmc, "map": mean_precision, "minp": 0.5, "num_queries": 4, "num_valid": 4}
    results = {"split": f"{split} of ten", "protocols": dict.fromkeys(protocols, scores)}
    (run / "results.json").write_text(json.dumps(results))


def test_mean_and_deviation_of_those_that_are_complete(tmp_path):
    finish(tmp_path, 10, 0.5, 0.2)
    finish(tmp_path, 2, 0.7, 0.4)
    finish(tmp_path, 3, 0.9, 0.4)
    (split_folder(tmp_path, 3) / "results.json").unlink()
    text = keep_splits(tmp_path)
    summary = json.loads((tmp_path / "splits.json").read_text())
    assert summary["splits"] == [2, 10]
    assert summary["origins"] == {"2": "2 of ten", "10": "10 of ten"}
    spread = summary["protocols"]["standard"]
    assert spread["rank-1"] == pytest.approx({"mean": 0.6, "deviation": 0.02**0.5})
    assert spread["mAP"] == pytest.approx({"mean": 0.3, "deviation": 0.02**0.5})
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["standard", "rank-1", "rank-5", "mAP"]
    assert lines[1] == ["split", "2", "70.0", "100.0", "40.0"]
    assert lines[3][:4] == ["mean", "60.0", "(sd", "14.1)"]


@pytest.mark.parametrize("older", [1, 2])
def test_splits_of_an_earlier_version_leave_out_protocols_that_they_lack(tmp_path, older):
    protocols = ("standard", "mars", "with_queries")
    for split in (1, 2):
        finish(tmp_path, split, 0.5, 0.2, protocols[:2] if split == older else protocols)
    keep_splits(tmp_path)
    assert list(json.loads((tmp_path / "splits.json").read_text())["protocols"]) == ["standard", "mars"]


def test_a_single_split_has_no_mean(tmp_path):
    finish(tmp_path, 1, 0.5, 0.2)
    assert keep_splits(tmp_path) == "Complete: 1 split. A mean over splits needs two."
    assert not (tmp_path / "splits.json").exists()


def test_splits_of_other_settings_do_not_join(tmp_path):
    finish(tmp_path, 1, 0.5, 0.2, init="a.keras")
    check_splits(tmp_path, Config("sta", init="b.keras"))
    # The data was moved, and more damaged frames are accepted: the same batches.
    check_splits(tmp_path, Config("sta", data_dir=str(tmp_path), max_damaged=0.1))
    with pytest.raises(ValueError, match=r"Split 1 .* \(epochs=100 there and 5 here, seed=0 there and 1 here\)"):
        check_splits(tmp_path, Config("sta", epochs=5, seed=1))
    with pytest.raises(ValueError, match=r"holds a single run.*Received: run="):
        check_splits(split_folder(tmp_path, 1), Config("sta"))
    check_splits(tmp_path / "nowhere", Config("sta"))


def test_splits_that_are_trained_may_have_fewer_epochs(tmp_path):
    for split in (1, 2):
        finish(tmp_path, split, 0.5, 0.2)
    check_splits(tmp_path, Config("sta", epochs=200), [1, 2])
    with pytest.raises(ValueError, match=r"Split 2 .* \(epochs=100 there and 200 here\)"):
        check_splits(tmp_path, Config("sta", epochs=200), [1])
