"""Callbacks named in the settings: how they are found and made, and the errors."""

import keras
import pytest

from kreid.training import Config, RunFolder, own_callbacks

MODULE = """
import keras

class WithConfig(keras.callbacks.Callback):
    def __init__(self, config, every=1):
        super().__init__()
        self.config = config

def plain(name="x"):
    return keras.callbacks.Callback()

def keywords(*, run=None, **kwargs):
    return keras.callbacks.Callback()

def wrong():
    return 3

value = 4
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A user's module in the current folder, with a name of its own for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


def test_factories_take_the_config_or_nothing(module):
    config = Config("baseline", callbacks=[f"{module}:WithConfig", f"{module}:plain", f"{module}:keywords"])
    made = own_callbacks(config.callbacks, config)
    assert made[0].config is config
    assert [type(callback) for callback in made[1:]] == [keras.callbacks.Callback] * 2


def test_a_run_has_them_last(module, tmp_path):
    config = Config("baseline", callbacks=[f"{module}:WithConfig"])
    callbacks = RunFolder(tmp_path / "run", config).callbacks(None, config)
    assert [type(callback).__name__ for callback in callbacks[-2:]] == ["Checkpoint", "WithConfig"]


def test_they_may_change_when_a_run_continues(module, tmp_path):
    RunFolder(tmp_path / "run", Config("baseline")).begin()
    RunFolder(tmp_path / "run", Config("baseline", callbacks=[f"{module}:plain"]))


@pytest.mark.parametrize("name", ["wandb", "wandb:", ":make", "a b:make", "os:system('x')"])
def test_names_of_another_form(name):
    with pytest.raises(ValueError, match=r"named as package.module:factory. Received: callbacks="):
        Config("baseline", callbacks=[name])


def test_errors_name_the_callback(module):
    config = Config("baseline")
    with pytest.raises(ValueError, match=r"imported \(No module named 'absent_module'\).*Received: callbacks="):
        own_callbacks(["absent_module:make"], config)
    with pytest.raises(ValueError, match=rf"{module} has no absent; .*Received: callbacks='{module}:absent'"):
        own_callbacks([f"{module}:absent"], config)
    with pytest.raises(ValueError, match="named by a class or function"):
        own_callbacks([f"{module}:value"], config)
    with pytest.raises(ValueError, match="returned a int"):
        own_callbacks([f"{module}:wrong"], config)


def test_an_error_inside_the_module_is_shown_as_it_is(module, tmp_path):
    (tmp_path / f"{module}_broken.py").write_text("import math\nmath.absent\n")
    with pytest.raises(AttributeError, match="'math' has no attribute 'absent'"):
        own_callbacks([f"{module}_broken:make"], Config("baseline"))
