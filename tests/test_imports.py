"""What importing kreid imports."""

import subprocess
import sys


def test_import_is_light():
    parts = "kreid, kreid.data, kreid.distances, kreid.evaluation, kreid.serving, kreid.training"
    code = f"import {parts}, sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert not {"keras", "tensorflow", "jax"} & set(ran.stdout.split())
