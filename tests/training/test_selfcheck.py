"""`kreid selfcheck` on this machine, and with bounds that no machine meets."""

import re

import pytest

from kreid import cli
from kreid.training import selfcheck

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.mark.slow
def test_every_line_is_ok_here(tmp_path, capsys):
    assert cli.main(["selfcheck", "--folder", str(tmp_path)]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == ["backend", "device", "precision", "reading", "training", "memory", "disk"]
    assert all(line.startswith("ok: ") for line in lines.values())
    assert not list(tmp_path.iterdir())
    errors = [float(text) for text in re.findall(r"within ([\d.]+)%", lines["precision"])]
    # Half precision rounds, and by less than the bound; bfloat16 has 3 bits less.
    assert 0 < errors[1] < errors[0] < 4
    frames, step = (re.search(r"[\d.,]+", lines[name][4:])[0] for name in ("reading", "training"))
    assert float(frames.replace(",", "")) > 0
    assert float(step) > 0


def test_failures_are_sentences_and_the_exit_status(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(selfcheck, "FREE_BYTES", 2**60)
    monkeypatch.setattr(selfcheck, "HALF_ERROR", 0.0)
    checks = {
        "backend": selfcheck.check_backend,
        "precision": selfcheck.check_precision,
        "memory": selfcheck.check_memory,
        "disk": lambda: selfcheck.check_disk(tmp_path),
    }
    assert selfcheck.report(checks) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["ok:", "failed:", "failed:", "failed:"]
    assert "set precision=float32. Received: mixed_bfloat16 within 0." in lines[1]
    assert all(re.search(r"; (end|remove) .* Received: [\d.]+ of [\d.]+ GiB free$", line) for line in lines[2:])
