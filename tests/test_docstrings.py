"""Every example in a docstring runs, and every public name has a docstring."""

import doctest
import importlib
import inspect
import pkgutil

import keras
import numpy as np
import pytest

import kreid

# `kreid.files` only warns that it moved.
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(kreid.__path__, "kreid.")
    if not module.name.endswith("__main__") and module.name != "kreid.files"
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    # The names that examples take as given; a module's own come first.
    names = {"np": np, "keras": keras, "kreid": kreid, **vars(module)}
    assert doctest.testmod(module, globs=names, optionflags=options).failed == 0


@pytest.mark.parametrize(
    "part",
    [
        "addons",
        "backbones",
        "layers",
        "losses",
        "models",
        "data",
        "evaluation",
        "gallery",
        "identities",
        "runtimes",
        "serving",
        "testing",
    ],
)
def test_public_names_are_documented(part):
    package = importlib.import_module(f"kreid.{part}")
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"kreid.{part}.{name}"


@pytest.mark.parametrize("part", ["backbones", "layers", "losses", "models"])
def test_composable_parts_have_an_example(part):
    package = importlib.import_module(f"kreid.{part}")
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value) and not inspect.isabstract(value) and name not in ("TrackletModel", "IdentityLoss"):
            assert ">>> " in value.__doc__, f"kreid.{part}.{name}"
