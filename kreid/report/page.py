"""The page of a report, with all its sections in one HTML file."""

from collections.abc import Sequence

import numpy as np

from kreid.report.attention_strips import attention_section
from kreid.report.camera_tables import camera_section
from kreid.report.choice import best_and_worst
from kreid.report.comparison import comparison_section
from kreid.report.error_rates import verification_section
from kreid.report.html import page, paragraph
from kreid.report.measure import Measured, run_names
from kreid.report.person_maps import map_section
from kreid.report.ranked_lists import list_section
from kreid.report.robustness import bad_frames_section, uniform_attention_section
from kreid.report.score_tables import cmc_section, score_section
from kreid.report.training_curves import training_section


def report_page(
    measured: Measured,
    compared: Measured | None = None,
    data: str = "",
    trained_in: Sequence[str] | None = None,
) -> str:
    """Make the page.

    Args:
        measured: the run's scores.
        compared: another run's scores on the same tracklets, or `None`.
        data: name of the data set.
        trained_in: folders of the data that the run was trained on, if the report is about another data set.

    Returns:
        HTML as text.
    """
    runs = [measured] if compared is None else [measured, compared]
    embeddings = measured.embeddings
    best, worst = best_and_worst(measured.protocols["standard"], embeddings.persons[embeddings.query_rows])
    sections = {"numbers": ("Scores", score_section(measured, own_data=not trained_in))}
    if compared is not None:
        heading = f"Comparison with {run_names(runs)[1]}"
        sections["comparison"] = (heading, comparison_section(measured, compared))
    if measured.bad_frames is not None:
        sections["bad-frames"] = ("Bad frames", bad_frames_section(measured.bad_frames))
    if measured.uniform_attention is not None:
        sections["uniform"] = ("Attention and equal weights", uniform_attention_section(measured.uniform_attention))
    highest = "The highest average precision, each of another person."
    lowest = "The lowest average precision, each of another person. A first match below the list ends it."
    sections |= {
        "cmc": ("Cumulative matching", cmc_section(runs)),
        "cameras": ("Pairs of cameras", camera_section(measured)),
        "verification": ("Same person or not", verification_section(measured)),
        "best": ("Best queries", list_section(measured, best, highest)),
        "worst": ("Worst queries", list_section(measured, worst, lowest)),
        "attention": ("Attention", attention_section(measured, best, worst)),
        "map": ("Embedding map", map_section(runs)),
        "training": ("Training", training_section(measured.run)),
    }
    title = f"{measured.system} on {data}" if data else measured.system
    return page(title, _lead(runs, data, trained_in), sections)


def _lead(runs: list[Measured], data: str, trained_in: Sequence[str] | None) -> str:
    """Describe the model, the tracklets, and the frames that could not be read."""
    measured, embeddings = runs[0], runs[0].embeddings
    persons = len(np.unique(embeddings.persons[embeddings.persons > 0]))
    cameras = len(np.unique(embeddings.cameras))
    metric = embeddings.metric.replace("euclidean", "Euclidean")
    lead = paragraph(
        f"{measured.system}, trained in the folder {run_names(runs)[0]}, on the test set of {data}: "
        f"{len(embeddings.query_rows)} queries among {len(embeddings):,} tracklets of {persons} persons in "
        f"{cameras} cameras. Embeddings of {embeddings.embeddings.shape[1]:,} numbers are compared by "
        f"{metric} distance."
    )
    if measured.run.changes:
        lead += paragraph(f"Changed after training: {', '.join(measured.run.changes)}.")
    if trained_in:
        lead += paragraph(
            f"The run was trained on {', '.join(trained_in)}: unless this is the same data, the test is across data "
            "sets."
        )
    damaged, unreadable = len(embeddings.damaged_frames), embeddings.unreadable.tolist()
    if damaged or unreadable:
        names = f": {', '.join(unreadable[:3])}{' and others' if len(unreadable) > 3 else ''}" if unreadable else ""
        lead += paragraph(
            f"{damaged} frames could not be read; {len(unreadable)} tracklets were skipped because none of their "
            f"frames could be read{names}."
        )
    return lead + paragraph(
        "This page shows people. Keep it, and delete it, as you would their photographs.", quiet=True
    )
