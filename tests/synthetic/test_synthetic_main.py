import json
import signal
import subprocess
import sys
import time
from pathlib import Path


def test_the_command_line(tmp_path):
    options = "--train-persons 1 --test-persons 2 --distractors 1 --junk 1 --frames-per-tracklet 1 2 --image-size 32 16"
    command = [sys.executable, "-m", "kreid.synthetic", str(tmp_path / "mars"), *options.split(), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and not done.stderr
    assert json.loads((tmp_path / "mars" / "info" / "synthetic.json").read_text())["image_size"] == [32, 16]
    refused = subprocess.run([*command, "--seed", "9"], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert refused.returncode == 2 and "Received: root=" in refused.stderr


def test_an_interruption_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "kreid.synthetic", str(tmp_path / "mars"), "--quiet"]
    # tests/conftest.py sees to it that the process heeds SIGINT.
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL) as rendering:
        while not list(tmp_path.glob(".writing-*/bbox_train/*/*.jpg")):
            assert rendering.poll() is None
            time.sleep(0.02)
        rendering.send_signal(signal.SIGINT)
        assert rendering.wait() != 0
    assert list(tmp_path.iterdir()) == []


def test_neither_keras_nor_tensorflow_is_imported():
    code = "import sys, kreid.synthetic; print([m for m in ('keras', 'tensorflow', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]", done.stderr
