"""What every train_*.py runs: data, model, training, evaluation, export."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from kreid import training
from kreid.data.readers import read_images, read_mars

RECIPES = pathlib.Path(__file__).resolve().parent


class Benchmark(NamedTuple):
    """What is particular to a data set.

    Args:
        layout: as `kreid.data.readers.layout_of` names it; its settings are `recipes/data/LAYOUT.yaml`.
        folder: where it is looked for, as that file says.
        expected: what is expected there, for people.
        read: function from a `kreid.training.Config` to a `ReidDataset`.
        num_splits: where results are a mean over that many splits.
    """

    layout: str
    folder: str
    expected: str
    read: Callable
    num_splits: int = 0


def main(argv, description, benchmark):
    """Reads the command line and runs the experiment, or one for each split."""
    options = training.command_line(argv, description, "sta", benchmark.folder, benchmark.num_splits)
    with training.plain_errors():
        if benchmark.num_splits and not options.synthetic:
            run_splits(options, benchmark)
        else:
            run_experiment(options, benchmark)


def run_experiment(options, benchmark):
    """Runs the phases of a recipe, most of which have one."""
    phases = load_phases(options, benchmark)
    run_phases(phases, options.run or default_run(options, phases), benchmark, options.quiet)


def load_phases(options, benchmark):
    """The settings of a recipe's phases, and the data in its place."""
    phases = training.load_phases(options.system, RECIPES, benchmark.layout, options.overlay, options.set)
    phases = training.phases_to_run(phases, options)
    for config in phases.values():
        if config.data not in ("images", "synthetic"):
            training.require_data(config, benchmark.layout, benchmark.expected, RECIPES)
    return phases


def default_run(options, phases):
    """The run's folder where none is named."""
    return f"runs/{options.system}_{list(phases.values())[-1].data}"


def run_splits(options, benchmark):
    """Runs each split in a folder of its own, and averages those that are complete."""
    import keras

    phases = load_phases(options, benchmark)
    folder = options.run or default_run(options, phases)
    training.check_splits(folder, list(phases.values())[-1])
    for split in options.splits:
        print(f"\nSplit {split}", flush=True)
        keras.backend.clear_session()
        own = {name: dataclasses.replace(config, split=split) for name, config in phases.items()}
        run_phases(own, training.split_folder(folder, split), benchmark, options.quiet, around=folder)
    print(training.keep_splits(folder))


def run_phases(phases, path, benchmark, quiet=False, around=None):
    """Runs the phases in order; each starts from the one before."""
    for run in training.phase_folders(phases, path, around):
        run_phase(run, run.config, benchmark, quiet)


def run_phase(run, config, benchmark, quiet=False):
    """Data, model, training, evaluation, export: a phase in order."""
    if run.results.exists():
        print(f"{run.path} is complete; its results are in {run.results}. Choose another --run to train again.")
        return

    import keras

    from kreid.evaluation import evaluate_model, queries_dict, results_dict, results_table

    # Data
    if config.data == "images":
        dataset = read_images(config.image_dirs)
    elif config.data == "synthetic":
        dataset = read_mars(config.data_dir)
    else:
        dataset = benchmark.read(config)
    print(dataset.summary())
    train, holdout = training.train_and_holdout(dataset, config.holdout, config.seed)

    # Model
    keras.utils.set_random_seed(config.seed)
    xla = training.set_precision(config.precision)
    pipeline = training.build_pipeline(config, train)
    model = run.restored_model()
    if model is None:
        model = training.build_model(config, pipeline.num_identities)
        if config.init:
            fresh = training.start_from(model, config.init, config.init_layers)
            print(f"Starting from {config.init}; new are {', '.join(fresh) or 'none of the weights'}")
        optimizer = training.build_optimizer(config, pipeline.steps_per_epoch)
        model.compile(optimizer, loss=training.build_losses(config), jit_compile=xla)
        run.begin()
        if config.evaluate_untrained and dataset.test:
            untrained = evaluate_model(model, dataset, max_damaged=config.max_damaged)
            run.keep("untrained", results_dict(untrained.protocols))

    # Training
    with pipeline.damage.plainly():
        model.fit(
            pipeline.dataset(first_epoch=run.epochs_done),
            epochs=config.epochs,
            initial_epoch=run.epochs_done,
            steps_per_epoch=pipeline.steps_per_epoch,
            shuffle=False,  # the pipeline's order is the plan
            callbacks=run.callbacks(holdout, config),
            verbose=2 if quiet else "auto",
        )
    print(pipeline.damage.report())

    # Evaluation
    epoch, model = run.selected_model(config.select)
    verification, words = training.fit_on_holdout(model, holdout, config.false_match_rate, config.max_damaged)
    scores = {"verification": verification}
    if dataset.test:
        evaluated = evaluate_model(model, dataset, max_damaged=config.max_damaged)
        print(results_table(evaluated.protocols), evaluated.embeddings.damage_report(), sep="\n")
        run.keep("queries", queries_dict(evaluated.protocols, evaluated.embeddings.query_ids))
        scores |= {
            "protocols": results_dict(evaluated.protocols),
            "damaged_test_frames": evaluated.embeddings.damaged_frames.tolist(),
            "unreadable_test_tracklets": evaluated.embeddings.unreadable.tolist(),
        }
        for frames in config.also_test_frames:
            other = model.with_selection(model.test_selection, frames)
            other = evaluate_model(other, dataset, max_damaged=config.max_damaged)
            print(f"With {frames} test frames:\n{results_table(other.protocols)}")
            scores.setdefault("with_test_frames", {})[frames] = results_dict(other.protocols)

    # Export
    run.keep_model(model)
    exported = run.keep_export(model, verification)
    run.finish(
        {
            "system": config.system,
            "data": config.data,
            "split": dataset.split,
            "precision": model.policy_name,
            "selected": config.select,
            "epoch": epoch,
            "missing_frames": len(dataset.missing),
            "damaged_frames": pipeline.damage.counts,  # since training was last started
            **scores,
        }
    )
    print(f"{words}\nResults: {run.results}\nExported model: {exported}")
