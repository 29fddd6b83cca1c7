"""`python -m kreid.serving` as a process, for tests of signals, memory and load."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


class ServerProcess:
    """A server in a process of its own.

    The constructor returns when the server is ready or has ended, without `wait` when the log has its first line.
    """

    def __init__(self, base_path, *arguments, wait=True):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kreid.serving", str(base_path), "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        self.errors = ""
        self._reader = threading.Thread(target=self._read_errors)
        self._reader.start()
        self.line = self.process.stdout.readline() if wait else ""
        while not wait and not self.errors and self.process.poll() is None:
            time.sleep(0.01)

    @property
    def target(self):
        return self.line.rsplit(" ", 1)[1].strip()

    @property
    def http(self):
        return re.search(r"\(HTTP on (\S+)\)", self.line)[1]

    @property
    def log(self):
        return [json.loads(line) for line in self.errors.splitlines()]

    def resident_mib(self, peak=False):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+)", status)[1]) / 1024

    def stop(self, number=signal.SIGTERM):
        """Send a signal; return the exit status once the process and its log have ended."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        status = self.process.wait()
        self._reader.join()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors += line
