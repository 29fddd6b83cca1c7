"""A system from outside kreid, trained, reported and exported by the command line."""

import json
import subprocess
import sys

import pytest
import yaml

SYSTEM = """
import keras
from kreid.models import SYSTEMS, Baseline

@keras.saving.register_keras_serializable(package="mine")
class Mine(Baseline):
    \"\"\"Average pooling under another name.\"\"\"

SYSTEMS["mine"] = Mine
"""


def kreid(*arguments, cwd):
    return subprocess.run([sys.executable, "-m", "kreid", *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.mark.slow
def test_a_system_of_your_own_from_an_empty_folder(tree, overlay, tmp_path):
    (tmp_path / "my_system.py").write_text(SYSTEM)
    (tmp_path / "mine.yaml").write_text("system: mine\nmetric: cosine\n")
    line = ["--import", "my_system", "--data", str(tree), "--overlay", str(overlay), "--run", "run"]
    ran = kreid("train", "--system", "mine.yaml", *line, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["system"] == "mine"
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["metric"] == "cosine"
    assert "\r" not in ran.stdout + ran.stderr
    for command in (["evaluate", "run"], ["export", "run", "--version", "7"]):
        ran = kreid(*command, "--import", "my_system", cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "run" / "export" / "7").is_dir()
