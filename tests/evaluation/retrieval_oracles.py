"""Distances with labels, and their scores by sorting lists of tuples."""

import numpy as np


def ranking(distances, persons, person, camera, cameras, ties):
    """Returns True where there is a match, along the ranking of one query, by sorting a list of tuples."""
    entries = []
    for column in range(len(distances)):
        if persons[column] == -1 or (persons[column] == person and cameras[column] == camera):
            continue
        match = bool(persons[column] == person)
        order = {"stable": column, "best": not match, "worst": match}[ties]
        entries.append((float(distances[column]), order, match))
    return [match for _, _, match in sorted(entries)]


def scores(matches, form):
    """Returns average precision, inverse negative penalty and position of the first match, item by item."""
    total, seen, first, last, before = 0.0, 0, 0, 0, 1.0
    for position, match in enumerate(matches, start=1):
        seen += match
        precision = seen / position
        if match:
            total += precision if form == "standard" else (precision + before) / 2
            first, last = first or position, position
        before = precision
    return (total / seen, seen / last, first) if seen else (np.nan, np.nan, 0)


def oracle(distances, query_persons, query_cameras, gallery_persons, gallery_cameras, form, ties):
    return np.array(
        [
            scores(ranking(row, gallery_persons, person, camera, gallery_cameras, ties), form)
            for row, person, camera in zip(distances, query_persons, query_cameras, strict=True)
        ]
    )


def problem(seed=0, queries=30, gallery=120, persons=9, levels=None, dtype="float32"):
    """Returns distances and labels; with `levels` most distances are tied. Person -1 is junk, 0 a distractor."""
    random = np.random.default_rng(seed)
    distances = random.random((queries, gallery))
    if levels:
        distances = np.floor(distances * levels) / levels
    return (
        distances.astype(dtype),
        random.integers(1, persons + 3, queries),  # Two of the persons are not in the gallery.
        random.integers(0, 3, queries),
        random.integers(-1, persons + 1, gallery),
        random.integers(0, 3, gallery),
    )
