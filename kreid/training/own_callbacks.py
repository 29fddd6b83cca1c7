"""Callbacks that a user names in the settings, such as those of Weights & Biases or MLflow."""

import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from kreid.training.config import Config


def own_callbacks(names: Sequence[str], config: "Config") -> list[keras.callbacks.Callback]:
    """Make the callbacks that settings name.

    The settings name code that is imported, from the path or the current folder, and called: use only settings that you
    trust. Models and checkpoints name none, so loading them runs no such code.

    Args:
        names: `"package.module:factory"` each; the factory returns a Keras callback, and is called with the run's
            `Config` if it takes an argument without a default.
        config: a `kreid.training.Config`.

    Returns:
        A list of Keras callbacks.

    Raises:
        ValueError: if a name has another form, there is no such module or factory, or it returns no callback.

    Example:

    >>> callbacks = kreid.training.own_callbacks(["keras.callbacks:TerminateOnNaN"], kreid.training.Config("sta"))
    >>> type(callbacks[0]).__name__
    'TerminateOnNaN'
    """
    made = []
    for name in names:
        factory = _factory(name)
        callback = factory(config) if _takes_config(factory) else factory()
        if not isinstance(callback, keras.callbacks.Callback):
            raise ValueError(
                f"The factory must return a keras.callbacks.Callback, and returned a {type(callback).__name__}. "
                f"Received: callbacks={name!r}"
            )
        made.append(callback)
    return made


def _factory(name):
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"The module of this callback cannot be imported ({error}); install its package, or put the file into this "
            f"folder. Received: callbacks={name!r}"
        ) from error
    if not hasattr(imported, attribute):
        raise ValueError(
            f"The module {module} has no {attribute}; name one of its classes or functions. "
            f"Received: callbacks={name!r}"
        )
    factory = getattr(imported, attribute)
    if not callable(factory):
        raise ValueError(f"A callback is named by a class or function. Received: callbacks={name!r}")
    return factory


def _takes_config(factory):
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # some built-in classes tell none
        return False
    required = (parameter for parameter in parameters if parameter.default is parameter.empty)
    return any(parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in required)
