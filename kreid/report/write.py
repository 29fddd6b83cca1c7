"""Write the report of a run."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from kreid._files import write_atomically
from kreid.data.bad_frames import check_kinds
from kreid.evaluation.bad_frames import evaluate_bad_frames
from kreid.evaluation.reranking import Reranking
from kreid.evaluation.uniform_attention import evaluate_uniform_attention
from kreid.fingerprint import fingerprint
from kreid.gallery import TrackletEmbeddings
from kreid.report.measure import Measured, differences, measure, run_names
from kreid.report.page import report_page
from kreid.runs import FinishedRun, ReportFiles


def write_report(
    run: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    rerank: bool | Reranking = False,
    compare: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    pooling: str | None = None,
    bad_frames: Sequence[str] | None = None,
    bad_frames_seed: int = 0,
    uniform_attention: bool = False,
    mirrored: bool = False,
) -> tuple[pathlib.Path, Measured]:
    """Evaluate a run's model and write a page of its scores, ranked lists and attention, in one file.

    Next to the page are its numbers, `report.json`, and the embeddings, `embeddings.npz`, which the next report of the
    same model on the same data reads instead of embedding again.

    Args:
        run: folder of the run.
        data: folder of the data set to test on, `None` for the run's own; see `FinishedRun.dataset`.
        rerank: also score by k-reciprocal re-ranking; a `Reranking` sets its options.
        compare: folder of another run, which is evaluated on the same data, or `None`.
        out: folder of the report, `None` for `report` in the run's folder.
        progress: show progress bars.
        pooling: pool the frames of a baseline in another way than it was trained with, see `FinishedRun.use_pooling`;
            the report's folder is then `report_POOLING` in the run's folder.
        bad_frames: also score tracklets with these kinds of bad frames, see `evaluate_bad_frames`; the numbers are in
            `bad_frames.json` next to the page. `None` for none.
        bad_frames_seed: of their draws.
        uniform_attention: also score the model with equal weights, see `evaluate_uniform_attention`.
        mirrored: embed each frame together with its mirror image, see `FinishedRun.use_mirrored`; the name of the
            report's folder then ends in `_mirrored`.

    Returns:
        The path of the page, and the run's scores.

    Raises:
        ValueError: if a folder holds no run, the runs were trained on different data or splits, `out` holds other
            files, a kind of bad frames is unknown, the attention cannot be replaced, or the system cannot embed mirror
            images.
        FileNotFoundError: if the data set does not exist.

    Example: `path, measured = write_report("runs/sta_mars", compare="runs/baseline_mars")`
    """
    if bad_frames is not None:
        check_kinds(bad_frames)
    finished = FinishedRun(run)
    other = None if compare is None else FinishedRun(compare)
    if other is not None and data is None:
        _check_same_data(finished, other)
    dataset = finished.dataset(data)
    own = finished.files.report
    if pooling is not None:
        finished.use_pooling(pooling)
        own = own.with_name(f"{own.name}_{pooling}")
    if mirrored:
        finished.use_mirrored()
        own = own.with_name(f"{own.name}_mirrored")
    files = ReportFiles(own if out is None else out)
    if out is not None:
        _check_free(files, finished)
    try:
        files.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"The report's folder cannot be created ({error}); choose another --out. Received: out={str(files.path)!r}"
        ) from None

    measured = measure(finished, dataset, files.embeddings, rerank, progress)
    damaged = finished.config.get("max_damaged", 0.05)
    if bad_frames is not None:
        scores = evaluate_bad_frames(
            finished.model, dataset, kinds=bad_frames, seed=bad_frames_seed, max_damaged=damaged, progress=progress
        )
        measured = dataclasses.replace(measured, bad_frames=scores)
        write_atomically(files.bad_frames, json.dumps(scores.numbers(), indent=2) + "\n")
    if uniform_attention:
        uniform = evaluate_uniform_attention(
            finished.model, dataset, own=measured.protocols, max_damaged=damaged, progress=progress
        )
        measured = dataclasses.replace(measured, uniform_attention=uniform)
    compared = None if other is None else measure(other, dataset, files.compared, rerank, progress)
    if compared and not np.array_equal(compared.embeddings.ids, measured.embeddings.ids):
        raise ValueError(
            "The two models could not read the same tracklets, so their queries cannot be paired; fix the damaged "
            f"frames. Received: {len(measured.embeddings)} and {len(compared.embeddings)} tracklets"
        )
    name = dataset.name if data is None else str(pathlib.Path(data).resolve().name)
    is_own = data is None or [os.path.realpath(data)] == [os.path.realpath(one) for one in finished.train_folders]
    text = report_page(measured, compared, name, trained_in=None if is_own else finished.train_folders)
    write_atomically(files.numbers, json.dumps(_numbers(measured, compared, name), indent=2) + "\n")
    write_atomically(files.page, text)
    return files.page, measured


def _numbers(measured: Measured, compared: Measured | None, data: str) -> dict[str, Any]:
    """Return the data of `report.json`."""
    numbers = {"data": data, **measured.numbers()}
    if compared:
        numbers["compared"] = {
            "run": run_names([measured, compared])[1],
            **compared.numbers(),
            "differences": {
                protocol: {score: list(one) for score, one in differences(measured, compared, protocol).items()}
                for protocol in measured.protocols
            },
        }
    return numbers


def _check_same_data(run: FinishedRun, other: FinishedRun) -> None:
    """Raise if the runs were trained on different data or splits."""
    folder, other_folder = (pathlib.Path(each.config.get("data_dir", "")).resolve() for each in (run, other))
    if folder != other_folder or run.config.get("data") != other.config.get("data"):
        raise ValueError(
            f"These runs were trained on different data, {str(folder)!r} and {str(other_folder)!r}; name a data set to "
            f"compare them on with --data. Received: compare={str(other.path)!r}"
        )
    one, two = ([each.config.get(key) for key in ("split", "persons")] for each in (run, other))
    if one != two:
        raise ValueError(
            f"These runs were trained on different splits: one saw test persons of the other; compare runs of one "
            f"split. Received: split={one[0]} and {two[0]}, persons={one[1]} and {two[1]}"
        )


def _check_free(files: ReportFiles, run: FinishedRun) -> None:
    """Raise if the report would overwrite another model's report, or files that are no report."""
    if files.embeddings.exists():
        if TrackletEmbeddings.load(files.embeddings).model != fingerprint(run.model):
            raise ValueError(
                f"This folder holds another model's report; choose another --out. Received: out={str(files.path)!r}"
            )
    # An interrupted report has embedded some parts.
    elif files.path.exists() and {entry.name for entry in files.path.iterdir()} - {f"{files.embeddings.name}.partial"}:
        raise ValueError(
            f"This folder holds other files and no report; choose another --out. Received: out={str(files.path)!r}"
        )
