"""Packages that import their names on first use."""

import importlib

import pytest

PACKAGES = ["data", "evaluation", "plots", "serving", "testing", "training"]


@pytest.mark.parametrize("part", PACKAGES)
def test_every_name_and_its_module_are_attributes(part):
    package = importlib.import_module(f"kreid.{part}")
    assert package.__all__ == sorted(package._HOMES)
    assert set(package.__all__) <= set(dir(package))
    for name, home in package._HOMES.items():
        module = importlib.import_module(f"kreid.{part}.{home}")
        assert getattr(package, name) is getattr(module, name)
        # Importing a module binds it to its package; a package that was only asked has to find it too.
        assert package.__getattr__(home) is module


@pytest.mark.parametrize("part", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(part):
    package = importlib.import_module(f"kreid.{part}")
    with pytest.raises(AttributeError, match=f"module 'kreid.{part}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018
