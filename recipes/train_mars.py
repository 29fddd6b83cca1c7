"""Trains a system on MARS, or on any set in MARS's layout, evaluates it and exports it.

    python recipes/train_mars.py --system sta --data DIR
    python recipes/train_mars.py --system sta --overlay recipes/overlays/small.yaml --synthetic
    python recipes/train_mars.py --system sta --set num_stripes=8 --set epochs=70 --run runs/sta_8_stripes

The same command continues an interrupted run.
"""

import pathlib

from kreid import training

RECIPES = pathlib.Path(__file__).resolve().parent


def main(argv=None):
    """Reads the command line and runs the experiment."""
    options = training.command_line(argv, __doc__, system="sta", data_dir="data/mars")
    with training.plain_errors():
        run_experiment(options)


def run_experiment(options):
    """Runs the phases of a recipe, most of which have one; each starts from the one before."""
    phases = training.load_phases(options.system, RECIPES, "mars", options.overlay, options.set)
    phases = training.phases_to_run(phases, options)
    for config in phases.values():
        if config.data != "images":
            training.require_data(config, "bbox_train", "MARS (bbox_train/, bbox_test/, info/)", RECIPES)
    data = list(phases.values())[-1].data
    for run in training.phase_folders(phases, options.run or f"runs/{options.system}_{data}"):
        run_phase(run, run.config, options.quiet)


def run_phase(run, config, quiet=False):
    """Data, model, training, evaluation, export: a phase in order."""
    if run.results.exists():
        print(f"{run.path} is complete; its results are in {run.results}. Choose another --run to train again.")
        return

    import keras

    from kreid.data.readers import read_images, read_mars
    from kreid.evaluation import evaluate_model, queries_dict, results_dict, results_table

    # Data
    dataset = read_images(config.image_dirs) if config.data == "images" else read_mars(config.data_dir)
    print(dataset.summary())
    train, holdout = training.split_holdout(dataset.train, config.holdout, config.seed)

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
        print(results_table(evaluated.protocols), evaluated.damage.report(), sep="\n")
        run.keep("queries", queries_dict(evaluated))
        scores |= {
            "protocols": results_dict(evaluated.protocols),
            "damaged_test_frames": evaluated.damage.counts,
            "unreadable_test_tracklets": evaluated.damage.tracklets,
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
            "precision": model.policy_name,
            "selected": config.select,
            "epoch": epoch,
            "missing_frames": len(dataset.missing),
            "damaged_frames": pipeline.damage.counts,  # since training was last started
            **scores,
        }
    )
    print(f"{words}\nResults: {run.results}\nExported model: {exported}")


if __name__ == "__main__":
    main()
