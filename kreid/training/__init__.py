"""From a recipe's settings to a trained model in a run folder."""

import importlib

_HOMES = {
    "Checkpoint": "callbacks",
    "Config": "config",
    "EpochLog": "callbacks",
    "HoldoutEvaluation": "callbacks",
    "L2Adam": "optimizers",
    "L2SGD": "optimizers",
    "RunFolder": "run_folder",
    "command_line": "command",
    "plain_errors": "command",
    "require_data": "command",
    "use_synthetic": "command",
    "build_losses": "recipe",
    "build_model": "recipe",
    "build_optimizer": "optimizers",
    "build_pipeline": "recipe",
    "learning_rate": "schedules",
    "load_config": "config",
    "set_precision": "recipe",
    "split_holdout": "holdout",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"kreid.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'kreid.training' has no attribute {name!r}")


def __dir__():
    return __all__
