"""Write the report of a run."""

import json
import os
import pathlib

import numpy as np

from kreid._files import write_atomically
from kreid.gallery.embeddings import TrackletEmbeddings, model_digest
from kreid.report.measure import differences, measure
from kreid.report.page import report_page
from kreid.runs import FinishedRun

PAGE, NUMBERS, EMBEDDINGS, COMPARED = "index.html", "report.json", "embeddings.npz", "compared.npz"


def write_report(run, data=None, rerank=False, compare=None, out=None, progress=True):
    """Evaluates a run's model and writes a page of what it finds, with nothing outside it.

    Beside the page lie its numbers, `report.json`, and the embeddings, `embeddings.npz`, which the next report of the
    same model on the same data reads instead of making them anew.

    Args:
        run: a run's folder.
        data: folder of the data set to test on, the run's own if `None`; see `FinishedRun.dataset`.
        rerank: also score by k-reciprocal re-ranking.
        compare: folder of another run, to be measured on the same data.
        out: the report's folder; by default `report` in the run's.
        progress: show progress bars.

    Returns:
        The path of the page, and the `Measured` of the run.

    Raises:
        ValueError: if a folder holds no run, the runs are of other data, or `out` holds something else.
        FileNotFoundError: if the data set is not there.
    """
    run = FinishedRun(run)
    other = None if compare is None else FinishedRun(compare)
    if other is not None and data is None:
        _check_same_data(run, other)
    dataset = run.dataset(data)
    folder = run.path / "report" if out is None else pathlib.Path(out)
    if out is not None:
        _check_free(folder, run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"The report's folder cannot be made ({error}); choose another --out. Received: out={str(folder)!r}"
        ) from None

    measured = measure(run, dataset, folder / EMBEDDINGS, rerank, progress)
    compared = other and measure(other, dataset, folder / COMPARED, rerank, progress)
    if compared and not np.array_equal(compared.embeddings.ids, measured.embeddings.ids):
        raise ValueError(
            "The two models could not read the same tracklets, so their queries cannot be paired; mend the damaged "
            f"frames. Received: {len(measured.embeddings)} and {len(compared.embeddings)} tracklets"
        )
    name = dataset.name if data is None else str(pathlib.Path(data).resolve().name)
    numbers = {"data": name, **measured.numbers()}
    if compared:
        numbers["compared"] = {
            "run": other.name,
            **compared.numbers(),
            "differences": {
                protocol: {score: list(found) for score, found in differences(measured, compared, protocol).items()}
                for protocol in measured.protocols
            },
        }
    own = data is None or [os.path.realpath(data)] == [os.path.realpath(one) for one in run.train_folders]
    text = report_page(measured, compared, name, trained_in=None if own else run.train_folders)
    write_atomically(folder / NUMBERS, json.dumps(numbers, indent=2) + "\n")
    write_atomically(folder / PAGE, text)
    return folder / PAGE, measured


def _check_same_data(run, other):
    one, two = (pathlib.Path(each.config.get("data_dir", "")).resolve() for each in (run, other))
    if one != two or run.config.get("data") != other.config.get("data"):
        raise ValueError(
            f"These runs are of other data, {str(one)!r} and {str(two)!r}; name the set to compare them on with "
            f"--data. Received: compare={str(other.path)!r}"
        )
    one, two = ([each.config.get(key) for key in ("split", "persons")] for each in (run, other))
    if one != two:
        raise ValueError(
            f"These runs are of different splits, and one was trained on persons whom the other is tested on; compare "
            f"runs of one split. Received: split={one[0]} and {two[0]}, persons={one[1]} and {two[1]}"
        )


def _check_free(folder, run):
    """Raises where a report of another model, or a page that is no report, would be overwritten."""
    file = folder / EMBEDDINGS
    if file.exists() and TrackletEmbeddings.load(file).model != model_digest(run.model):
        raise ValueError(
            f"This folder holds another model's report; choose another --out. Received: out={str(folder)!r}"
        )
    if not file.exists() and folder.exists() and any(folder.iterdir()):
        started = [entry.name for entry in folder.iterdir() if entry.name != f"{EMBEDDINGS}.partial"]
        if started:
            raise ValueError(
                f"This folder holds something else than a report; choose another --out. Received: out={str(folder)!r}"
            )
