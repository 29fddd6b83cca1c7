"""What importing kreid imports."""

import importlib
import subprocess
import sys

import pytest


def test_import_is_light():
    parts = "kreid, kreid.data, kreid.distances, kreid.evaluation, kreid.runtimes, kreid.serving, kreid.training"
    code = f"import {parts}, sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert not {"keras", "tensorflow", "jax"} & set(ran.stdout.split())


PACKAGES = [
    "addons",
    "data",
    "distances",
    "evaluation",
    "gallery",
    "identities",
    "plots",
    "report",
    "runtimes",
    "serving",
    "testing",
    "training",
]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_of_a_stub_is_fetched(name):
    package = importlib.import_module(f"kreid.{name}")
    assert package.__all__
    for public in package.__all__:
        assert getattr(package, public) is not None
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018
