"""From a recipe's settings to a trained model in a run folder."""

from kreid._lazy import attach

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
    "fit_on_holdout": "verification",
    "learning_rate": "schedules",
    "load_config": "config",
    "load_phases": "config",
    "load_table": "table",
    "phase_folders": "phases",
    "phases_to_run": "phases",
    "row_folder": "table",
    "set_precision": "recipe",
    "check_splits": "splits",
    "keep_splits": "splits",
    "split_folder": "splits",
    "split_holdout": "holdout",
    "start_from": "start",
    "table_text": "table",
    "train_and_holdout": "holdout",
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
