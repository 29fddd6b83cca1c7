"""The command `kreid`: its commands, their help, exit statuses, and training from an empty folder."""

import subprocess
import sys

import pytest

from kreid import cli, training
from kreid.data.readers import LAYOUTS
from kreid.training import experiment

HEAVY = {"keras", "tensorflow", "jax", "torch"}


def run(*arguments, code="import kreid.cli\nstatus = kreid.cli.main()", cwd=None):
    code = f"import sys\n{code}\nprint('modules', *sys.modules)\nsys.exit(status)"
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("name", [None, *cli.COMMANDS])
def test_help_shows_an_example_and_imports_nothing_heavy(name):
    code = "import kreid.cli\ntry:\n    kreid.cli.main()\nexcept SystemExit as stopped:\n    status = stopped.code"
    ran = run(*filter(None, [name]), "--help", code=code)
    assert (ran.returncode, ran.stderr) == (0, "")
    text, modules = ran.stdout.rsplit("modules ", 1)
    assert not HEAVY & set(modules.split())
    description = text.split("\n\n", 1)[1].split("options:")[0]
    assert f"kreid {name or 'train'} " in description
    if name is None:
        assert all(f"\n    {command}" in text for command in cli.COMMANDS)


def test_wrong_usage(capsys):
    assert cli.main([]) == 2
    assert "kreid train" in capsys.readouterr().err
    for line, complaint in (
        (["trian"], "Did you mean 'train'? Received: command='trian'"),
        (["train", "--systems", "sta", "x"], "unrecognized arguments"),
        (["train", "--splits", "11"], "give numbers from 1 to 10"),
        (["train", "--system", "stta"], "Did you mean 'sta'? Received: system='stta'"),
        (["train", "--import", "no_such_module"], "no module of this name"),
        (["train", "--data", "/dev/null/none"], "Received: root="),
        (["evaluate", "no_such_run"], "no finished run"),
        (["export", "no_such_model.keras", "--out", "x"], "Received: model='no_such_model.keras'"),
        (["ablate", "smalls"], "Did you mean 'small'?"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(line)
        assert stopped.value.code == 2, line
        assert complaint in capsys.readouterr().err


def test_an_interruption_is_130(monkeypatch, capsys):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "train", interrupt)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train"])
    assert stopped.value.code == 130
    assert capsys.readouterr().err.startswith("interrupted")


@pytest.fixture
def options(monkeypatch):
    """Function: a command line -> the options with which `train` is called."""
    calls = []
    monkeypatch.setattr(experiment, "train", calls.append)

    def parse(*line):
        assert cli.main(["train", *line]) == 0
        return calls[-1]

    return parse


def test_the_benchmark_is_the_layout_of_the_data(options, tmp_path):
    assert options().benchmark == "mars"
    (tmp_path / "i-LIDS-VID/sequences/cam1/person001").mkdir(parents=True)
    (tmp_path / "i-LIDS-VID/sequences/cam2/person001").mkdir(parents=True)
    found = options("--data", str(tmp_path), "--splits", "2,1")
    assert (found.benchmark, found.splits) == ("ilids_vid", [1, 2])
    assert options("--benchmark", "duke_video", "--data", str(tmp_path)).splits == []


def test_every_benchmark_has_its_settings():
    assert {name for name in LAYOUTS if name != "images"} == {
        file.stem for file in (training.recipe_folder() / "data").glob("*.yaml")
    }
    for name in LAYOUTS:
        if name != "images":
            config = training.load_config("sta", data=name)
            assert (config.data, config.data_dir) == (name, f"data/{name}")
