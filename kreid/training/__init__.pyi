from .attention_log import AttentionLog as AttentionLog, attention_spread as attention_spread
from .averaging import averaged_model as averaged_model, averaged_weights as averaged_weights
from .callbacks import (
    Checkpoint as Checkpoint,
    CsvLog as CsvLog,
    EpochLog as EpochLog,
    FiniteLoss as FiniteLoss,
    HoldoutEvaluation as HoldoutEvaluation,
    RestOfEpoch as RestOfEpoch,
)
from .command import (
    command_line as command_line,
    fit_verbosity as fit_verbosity,
    plain_errors as plain_errors,
)
from .config import Config as Config
from .dataset import check_scorable as check_scorable, load_dataset as load_dataset
from .describe import describe as describe
from .dry_run import DryRun as DryRun, measure_runs as measure_runs
from .early_stopping import EarlyStopping as EarlyStopping
from .experiment import run_experiment as run_experiment, train as train
from .folder import recipe_file as recipe_file, recipe_folder as recipe_folder
from .freezing import Freezing as Freezing, trained_stages as trained_stages
from .holdout import (
    hold_out as hold_out,
    split_holdout as split_holdout,
    train_and_holdout as train_and_holdout,
)
from .optimization import build_optimizer as build_optimizer, learning_rate as learning_rate
from .own_callbacks import own_callbacks as own_callbacks
from .phases import (
    Plan as Plan,
    phase_folders as phase_folders,
    phases_to_run as phases_to_run,
    plan_runs as plan_runs,
    require_data as require_data,
    use_synthetic as use_synthetic,
)
from .recipe import (
    build_losses as build_losses,
    build_model as build_model,
    build_pipeline as build_pipeline,
    set_precision as set_precision,
)
from .run_folder import RunBusyError as RunBusyError, RunFolder as RunFolder
from .settings import load_config as load_config, load_phases as load_phases
from .split_runs import check_splits as check_splits, keep_splits as keep_splits, split_folder as split_folder
from .start import start_from as start_from
from .stop_signals import Stopped as Stopped, StopSignals as StopSignals
from .strategy import set_strategy as set_strategy
from .table import Row as Row, Table as Table, load_table as load_table, row_folder as row_folder
from .table_runs import TableRun as TableRun, plan_table as plan_table
from .table_scores import (
    RowScores as RowScores,
    row_scores as row_scores,
    score_row as score_row,
    scored_models as scored_models,
    tested_model as tested_model,
)
from .table_speed import RowCost as RowCost, measure_costs as measure_costs
from .table_text import table_data as table_data, table_text as table_text
from .table_time import RunTime as RunTime, expected_time as expected_time
from .threshold import fit_on_holdout as fit_on_holdout
