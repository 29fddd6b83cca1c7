"""The section of the embedding map: tracklets of a few persons in the plane."""

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kreid.data.clips import evenly
from kreid.report.html import figure, paragraph, picture, scrolling
from kreid.report.measure import Measured, run_names

_MAPPED_PERSONS = 12


def map_section(runs: Sequence[Measured]) -> str:
    """Draw the embeddings of the same persons by t-SNE, a map for each run.

    Args:
        runs: the run, and the run that it is compared with if there is one.

    Returns:
        HTML.
    """
    if any(importlib.util.find_spec(name) is None for name in ("sklearn", "matplotlib")):
        return paragraph("The map needs two more packages: pip install kreid[plots]")
    from PIL import Image

    from kreid.plots.embedding_map import compare_embedding_maps, draw_embedding_map

    labels = runs[0].embeddings.persons
    persons, counts = np.unique(labels[labels > 0], return_counts=True)
    # Persons with enough tracklets to show a cluster, spread evenly over their numbers.
    enough = persons[counts >= min(4, counts.max())]
    chosen = enough[evenly(len(enough), _MAPPED_PERSONS)].tolist()
    if np.isin(labels, chosen).sum() < 4:
        return paragraph("There are too few tracklets for a map.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.png"
        if len(runs) == 1:
            draw_embedding_map(runs[0].embeddings.embeddings, labels, path, chosen=chosen)
        else:
            maps = {name: each.embeddings.embeddings for each, name in zip(runs, run_names(runs), strict=True)}
            compare_embedding_maps(maps, labels, path, chosen=chosen)
        with Image.open(path) as image:
            drawn = image.convert("RGB").resize((image.width * 2 // 3, image.height * 2 // 3))
    spread = "spread evenly over the persons with four tracklets or more"
    meaning = "Near neighbours stay near; distances between groups have no meaning."
    alt = f"Embeddings of {len(chosen)} persons by t-SNE"
    if len(runs) == 1:
        return figure(picture(drawn, alt, "whole paper"), f"{alt}: persons {spread}. {meaning}")
    alt += ", a map for each run"
    body = scrolling(picture(drawn, alt, "wide paper"), alt)
    return figure(body, f"{alt}: the same tracklets, of persons {spread}. {meaning}")
