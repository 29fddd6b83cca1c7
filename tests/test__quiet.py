"""Suppressed notices of native libraries, and progress."""

import io
import os
import subprocess
import sys

import pytest

from kreid import _quiet
from kreid._quiet import progress_bar


def errors_of(code):
    # As in a user's program, because the tests' log level would hide its output.
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


COMPLAINTS = (
    "Corrupt JPEG data: 12 extraneous bytes before marker 0xd9",
    "Premature end of JPEG file",
    "2026-01-01 00:00:00.1: E tensorflow/core/lib/png/png_io.cc:95] PNG error: crc",
)


class TestDecoderComplaints:
    def test_only_decoder_warnings_are_dropped(self):
        errors = errors_of(
            "import os, sys\n"
            "from kreid._quiet import decoder_complaints_dropped\n"
            f"complaints = {COMPLAINTS}\n"
            "with decoder_complaints_dropped(), decoder_complaints_dropped():\n"
            "    os.write(2, b'native\\n')\n"
            "    for line in complaints: os.write(2, line.encode() + b'\\n')\n"
            "    os.write(2, b'native again\\n')\n"
            "print('python after', file=sys.stderr)\n"
            "os.write(2, b'Premature end of JPEG file\\n')"
        )
        assert errors == "native\nnative again\npython after\nPremature end of JPEG file\n"

    def test_logs_set_up_meanwhile_are_heard_later(self):
        errors = errors_of(
            "import logging\n"
            "from kreid._quiet import decoder_complaints_dropped\n"
            "with decoder_complaints_dropped():\n"
            "    logging.basicConfig(format='%(message)s')\n"
            "    logging.warning('during')\n"
            "logging.warning('after')"
        )
        assert errors == "during\nafter\n"

    def test_the_last_words_of_a_crash_come_out(self):
        code = (
            "import os\n"
            "from kreid._quiet import decoder_complaints_dropped\n"
            "with decoder_complaints_dropped():\n"
            "    os.write(2, b'Check failed')\n"
            "    os.abort()"
        )
        # The filter ends after the program: its output is complete when the pipe is closed.
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert ran.returncode < 0
        assert ran.stderr == "Check failed"

    def test_many_uses_leave_no_files_open(self):
        errors = errors_of(
            "import os, sys\n"
            "from kreid._quiet import decoder_complaints_dropped\n"
            "counts = []\n"
            "for _ in range(4):\n"
            "    with decoder_complaints_dropped():\n"
            "        pass\n"
            "    counts.append(len(os.listdir('/proc/self/fd')))\n"
            "assert len(set(counts)) == 1, counts"
        )
        assert errors == ""

    def test_errors_pass(self):
        errors = errors_of(
            "from kreid._quiet import decoder_complaints_dropped\n"
            "try:\n"
            "    with decoder_complaints_dropped():\n"
            "        raise ValueError('stop')\n"
            "except ValueError as error:\n"
            "    assert str(error) == 'stop'"
        )
        assert errors == ""


@pytest.mark.slow
def test_tensorflow_searches_no_gpu_on_a_machine_without_one_and_logs_set_up_meanwhile_are_heard_later():
    code = (
        "import os, kreid._quiet as quiet\n"
        "os.environ.pop('CUDA_VISIBLE_DEVICES', None)\n"
        "quiet._GPU_DEVICES = {devices}\n"
        "quiet.import_tensorflow()\n"
        "assert os.environ.get('CUDA_VISIBLE_DEVICES') == {visible}\n"
    )
    errors_of(code.format(devices=("/dev/null",), visible=None))
    devices = ("/dev/no-such-gpu",)
    looks = "import tensorflow\ntensorflow.config.list_physical_devices()\ntensorflow.zeros(1)\n"
    warns = "tensorflow.get_logger().warning('heard')"
    assert errors_of(code.format(devices=devices, visible="'-1'") + looks + warns) == "WARNING:tensorflow:heard\n"


class TestProgress:
    def test_plain_lines_without_a_terminal(self, capsys, monkeypatch):
        times = iter(range(0, 100_000, 10))
        monkeypatch.setattr(_quiet.time, "monotonic", lambda: next(times))
        with progress_bar(total=3000, desc="embedding", unit=" tracklets") as bar:
            for _ in range(7):
                bar.update(2)
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "embedding: 6 of 3000 tracklets, 40 s"
        assert lines[-1].startswith("embedding: 14 of 3000 tracklets, ")
        assert len(lines) == 3

    def test_a_short_job_is_one_line(self, capsys):
        assert list(progress_bar(range(500), desc="cutting", unit=" frames")) == list(range(500))
        assert capsys.readouterr().err == "cutting: 500 of 500 frames, 0 s\n"

    def test_disabled(self, capsys):
        assert list(progress_bar(range(3), desc="cutting", disable=True)) == [0, 1, 2]
        assert capsys.readouterr().err == ""

    def test_a_bar_on_a_terminal(self, monkeypatch):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        monkeypatch.setattr(sys, "stderr", Terminal())
        assert list(progress_bar(range(3), desc="cutting")) == [0, 1, 2]
        assert "\r" in sys.stderr.getvalue()
        assert "3/3" in sys.stderr.getvalue()
