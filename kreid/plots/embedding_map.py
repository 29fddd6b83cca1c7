"""Draw the embeddings of a few persons in two dimensions."""

import io
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kreid._files import write_atomically
from kreid.plots.palette import PERSONS

# Colours and markers advance together; 7 and 8 have no common divisor, so the first 56 pairs differ.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_MOST_PERSONS = 24
_FORMATS = (".png", ".pdf", ".svg")


def draw_embedding_map(
    embeddings: ArrayLike,
    persons: ArrayLike,
    path: str | os.PathLike[str],
    *,
    chosen: Sequence[int] | None = None,
    title: str | None = None,
    perplexity: float = 30.0,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Draw embeddings by t-SNE, with a colour and marker per person, and write the picture.

    t-SNE preserves neighbourhoods. The distance between two groups in the picture
    has little meaning; `kreid.evaluation.cluster_diameters` measures groups.

    Args:
        embeddings: array `(tracklets, features)`.
        persons: integers `(tracklets,)`.
        path: of the picture, with the extension .png, .pdf or .svg.
        chosen: optional list of the persons to draw, in the legend's order. By
            default all.
        title: optional text above the picture.
        perplexity: approximate number of neighbours that t-SNE preserves, at most
            a third of the drawn embeddings.
        seed: int. The same seed gives the same picture.

    Returns:
        float32 array `(drawn, 2)`, the positions of the drawn embeddings, in their
        order.

    Raises:
        ImportError: without scikit-learn and Matplotlib.
        ValueError: if sizes differ, an embedding is NaN or infinite, a chosen
            person has no embedding, there are more than 24 persons or fewer than 4
            embeddings.

    Example:

    >>> import tempfile
    >>> embeddings, persons = np.random.default_rng(0).normal(size=(12, 8)), np.repeat([3, 8, 21], 4)
    >>> path = f"{tempfile.mkdtemp()}/map.png"
    >>> kreid.plots.draw_embedding_map(embeddings, persons, path, title="with min-max loss").shape
    (12, 2)

    Reference: van der Maaten and Hinton, Visualizing Data using t-SNE, 2008; Li
    et al., TACAN, 2020, figure 5.
    """
    [positions] = _draw({title: embeddings}, persons, path, chosen, perplexity, seed)
    return positions


def compare_embedding_maps(
    embeddings: Mapping[str, ArrayLike],
    persons: ArrayLike,
    path: str | os.PathLike[str],
    *,
    chosen: Sequence[int] | None = None,
    perplexity: float = 30.0,
    seed: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Draw several models' embeddings of the same tracklets side by side, with one legend.

    Every map has a separate t-SNE, so groups can be compared, but not positions.

    Args:
        embeddings: dict from a title, such as the model's name, to an array `(tracklets, features)`.
        persons: integers `(tracklets,)`, for the rows of all arrays.
        path: see `draw_embedding_map`.
        chosen: see `draw_embedding_map`.
        perplexity: see `draw_embedding_map`.
        seed: see `draw_embedding_map`.

    Returns:
        A dict from the title to the float32 positions `(drawn, 2)`.

    Raises:
        ImportError: without scikit-learn and Matplotlib.
        ValueError: see `draw_embedding_map`, and if `embeddings` is empty.

    Example:

    >>> import tempfile
    >>> rng, persons = np.random.default_rng(0), np.repeat([3, 8, 21], 4)
    >>> models = {"without": rng.normal(size=(12, 8)), "with": rng.normal(size=(12, 16))}
    >>> list(kreid.plots.compare_embedding_maps(models, persons, f"{tempfile.mkdtemp()}/maps.png"))
    ['without', 'with']

    Reference: Li et al., TACAN, 2020, figure 5.
    """
    if not embeddings:
        raise ValueError("Give the embeddings of at least one model. Received: embeddings={}")
    return dict(zip(embeddings, _draw(embeddings, persons, path, chosen, perplexity, seed), strict=True))


def _draw(
    maps: Mapping[str, ArrayLike] | Mapping[str | None, ArrayLike],
    persons: ArrayLike,
    path: str | os.PathLike[str],
    chosen: Sequence[int] | None,
    perplexity: float,
    seed: int,
) -> list[np.ndarray]:
    """Draw and write a map for each title; return the positions in each."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError(
            f"Embedding maps need scikit-learn and Matplotlib: pip install kreid[plots] ({error})"
        ) from error

    path = pathlib.Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"`path` must end in {', '.join(_FORMATS)}. Received: path={str(path)!r}")
    figure = Figure(figsize=(1.5 + 6 * len(maps), 6), layout="constrained")
    FigureCanvasAgg(figure)
    drawn = []
    for number, (title, embeddings) in enumerate(maps.items(), 1):
        rows, labels, persons_drawn = _drawn(embeddings, persons, chosen)
        # PCA, the usual start, needs two features and embeddings that differ.
        start = "pca" if rows.shape[1] > 1 and np.ptp(rows, axis=0).any() else "random"
        tsne = TSNE(perplexity=min(perplexity, (len(rows) - 1) / 3), init=start, random_state=seed)
        positions = tsne.fit_transform(rows)
        axes = figure.add_subplot(1, len(maps), number)
        for place, person in enumerate(persons_drawn):
            own = positions[labels == person]
            axes.scatter(
                own[:, 0],
                own[:, 1],
                s=42,
                color=PERSONS[place % len(PERSONS)],
                marker=_MARKERS[place % len(_MARKERS)],
                alpha=0.8,
                linewidths=0.5,
                edgecolors="white",
                label=f"{person} ({len(own)})",
            )
        # The axes of t-SNE have no meaning, but the same scale.
        axes.set(xticks=[], yticks=[])
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(0.06)
        axes.spines[:].set_color("0.7")
        if title is not None:
            axes.set_title(title, wrap=True)
        drawn.append(positions)
    entries = axes.get_legend_handles_labels()
    figure.legend(*entries, title="person (tracklets)", loc="outside right upper", frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower(), dpi=150)
    write_atomically(path, picture.getvalue())
    return drawn


def _drawn(
    embeddings: ArrayLike, persons: ArrayLike, chosen: Sequence[int] | None
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return the chosen persons' embeddings, the person of each, and the persons in the legend's order."""
    embeddings, persons = np.asarray(embeddings, np.float32), np.asarray(persons)
    if embeddings.ndim != 2 or persons.shape != embeddings.shape[:1] or persons.dtype.kind not in "iu":
        raise ValueError(
            "`embeddings` must have one row for each integer in `persons`. Received: "
            f"embeddings of shape {embeddings.shape}, persons {persons.dtype} of shape {persons.shape}"
        )
    chosen = np.unique(persons).tolist() if chosen is None else list(dict.fromkeys(chosen))
    missing = sorted(set(chosen) - set(persons.tolist()))
    if missing:
        raise ValueError(f"These persons have no embedding. Received: chosen={missing}")
    if len(chosen) > _MOST_PERSONS:
        raise ValueError(
            f"A map shows at most {_MOST_PERSONS} persons; choose some of them. Received: {len(chosen)} persons"
        )
    rows = np.isin(persons, chosen)
    embeddings, persons = embeddings[rows], persons[rows]
    if len(embeddings) < 4:
        raise ValueError(f"A map needs at least 4 embeddings. Received: {len(embeddings)} embeddings")
    if not np.isfinite(embeddings).all():
        row = int(np.argmin(np.isfinite(embeddings).all(axis=1)))
        raise ValueError(
            f"Embeddings must be finite; leave out the others. Received: NaN or infinity, person {persons[row]}"
        )
    return embeddings, persons, chosen
