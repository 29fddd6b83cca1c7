"""Train a system on MARS, or on any set in MARS's layout, evaluate it and export it.

    python recipes/train_mars.py --system sta --data DIR
    python recipes/train_mars.py --system sta --overlay small --synthetic
    python recipes/train_mars.py --system sta --set num_stripes=8 --set epochs=70 --run runs/sta_8_stripes

The same command continues an interrupted run. Copy this script and change it: `run_experiment` is the experiment, step
by step.
"""

from collections.abc import Sequence
from typing import Any

from kreid import evaluation, training


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and run each phase of the recipe."""
    options = training.command_line(argv, __doc__, "mars")
    with training.plain_errors():
        runs = training.plan_runs(options).runs
        if options.dry_run:
            training.measure_runs(runs)
            return
        for run in runs:
            run_experiment(run, options.quiet)


def run_experiment(run: "training.RunFolder", quiet: bool = False) -> None:
    """Train, evaluate and export one run: a phase of a recipe, with the settings `run.config`."""
    import keras  # here, so that --help does not wait for it

    config = run.config
    print(f"\n{run.path}", flush=True)

    # Data
    dataset = training.load_dataset(config)
    print(dataset.summary())
    train, holdout, held_out = training.hold_out(dataset, config)
    print(held_out)
    for tested in (dataset, holdout):
        training.check_scorable(tested, config.max_damaged)

    # Model
    keras.backend.clear_session()
    training.set_strategy(config)
    keras.utils.set_random_seed(config.seed)
    xla = training.set_precision(config.precision)
    pipeline = training.build_pipeline(config, train)
    model = run.restored_model(pipeline.steps_per_epoch)
    if model is None:
        model = training.build_model(config, pipeline.num_identities)
        if config.init:
            fresh = training.start_from(model, config.init, config.init_layers)
            print(f"Starting from {config.init}; new weights: {', '.join(fresh) or 'none'}")
        optimizer = training.build_optimizer(config, pipeline.steps_per_epoch, model.backbone)
        model.compile(optimizer, loss=training.build_losses(config), jit_compile=xla)
        run.begin()
        if config.evaluate_untrained and dataset.test:
            untrained = evaluation.evaluate_model(model, dataset, max_damaged=config.max_damaged)
            run.keep_untrained(evaluation.results_dict(untrained.protocols))

    for frames in config.also_test_frames:  # A number that the model refuses is refused before training.
        model.with_selection(model.test_selection, frames)

    # Fit
    with pipeline.damage.plainly(), run.stop_signals:
        model.fit(
            pipeline.dataset(first_epoch=run.epochs_done, first_step=run.steps_done),
            epochs=run.epochs_to_train,
            initial_epoch=run.epochs_done,
            steps_per_epoch=pipeline.steps_per_epoch,
            shuffle=False,  # the pipeline chooses the order
            callbacks=run.callbacks(holdout, config, pipeline),
            verbose=training.fit_verbosity(quiet),
        )
    print(pipeline.damage.report())
    epoch, model = run.selected_model(config.select)

    # Evaluate
    verification, threshold = training.fit_on_holdout(model, holdout, config.false_match_rate, config.max_damaged)
    scores: dict[str, Any] = {"verification": verification}
    queries = None
    if dataset.test:
        evaluated = evaluation.evaluate_model(model, dataset, max_damaged=config.max_damaged)
        print(evaluation.results_table(evaluated.protocols), evaluated.embeddings.damage_report(), sep="\n")
        queries = evaluation.queries_dict(evaluated.protocols, evaluated.embeddings.query_ids)
        scores |= {
            "protocols": evaluation.results_dict(evaluated.protocols),
            "damaged_test_frames": evaluated.embeddings.damaged_frames.tolist(),
            "unreadable_test_tracklets": evaluated.embeddings.unreadable.tolist(),
        }
        for frames in config.also_test_frames:
            fewer = model.with_selection(model.test_selection, frames)
            other = evaluation.evaluate_model(fewer, dataset, max_damaged=config.max_damaged)
            print(f"With {frames} test frames:\n{evaluation.results_table(other.protocols)}")
            scores.setdefault("with_test_frames", {})[frames] = evaluation.results_dict(other.protocols)

    # Export, and replace the model and results of a run that was trained further
    training.describe(model, dataset, train, scores)
    exported = run.keep_model(model, verification)
    run.finish(
        {
            "system": config.system,
            "data": config.data,
            "split": dataset.split,
            "precision": model.dtype_policy.name,
            "selected": config.select,
            "epoch": epoch,
            "missing_frames": len(dataset.missing),
            "damaged_frames": pipeline.damage.counts,  # of this process, not of an interrupted one
            **scores,
        },
        queries,
    )
    print(f"{threshold}\nResults: {run.results}\nExported model: {exported or 'no, as export=false'}")


if __name__ == "__main__":
    main()
