"""Embeddings of a few persons in the plane."""

import io
import pathlib

import numpy as np

from kreid._files import write_atomically

# Okabe and Ito's colours, which stay apart for colour-blind readers, without the yellow that white paper swallows.
# Colours and markers are walked through together; 7 and 8 have no common divisor, so no pair comes twice in 56.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_MOST_PERSONS = 24
_FORMATS = (".png", ".pdf", ".svg")


def draw_embedding_map(embeddings, persons, path, *, chosen=None, title=None, perplexity=30.0, seed=0):
    """Draws embeddings by t-SNE, a colour and marker for each person, and writes the picture.

    t-SNE keeps neighbours together. How far apart two groups lie in the picture
    says little; `kreid.evaluation.cluster_diameters` measures.

    Args:
        embeddings: array `(tracklets, features)`.
        persons: integers `(tracklets,)`.
        path: of the picture, ending in .png, .pdf or .svg.
        chosen: optional list of the persons to draw, in the legend's order. By
            default all.
        title: optional text above the picture.
        perplexity: about how many neighbours t-SNE keeps together; lowered to a
            third of the embeddings drawn where these are few.
        seed: int. The same seed gives the same picture.

    Returns:
        float32 array `(drawn, 2)`, the places of the embeddings drawn, in their
        order.

    Raises:
        ImportError: without scikit-learn and Matplotlib.
        ValueError: if sizes do not fit, an embedding is NaN or infinite, a
            chosen person has no embedding, there are too many persons to tell
            apart or fewer than 4 embeddings to draw.

    Usage: `draw_embedding_map(embeddings, persons, "map.png", chosen=[3, 8, 21], title="with min-max loss")`

    Reference: van der Maaten and Hinton, Visualizing Data using t-SNE, 2008; Li
    et al., TACAN, 2020, figure 5.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError(f"Embedding maps need two more packages: pip install kreid[plots] ({error})") from error

    path = pathlib.Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"The picture's name ends in {', '.join(_FORMATS)}. Received: path={str(path)!r}")
    embeddings, persons, chosen = _drawn(embeddings, persons, chosen)
    # PCA, the usual start, needs two features and something that differs.
    start = "pca" if embeddings.shape[1] > 1 and np.ptp(embeddings, axis=0).any() else "random"
    perplexity = min(perplexity, (len(embeddings) - 1) / 3)
    places = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(embeddings)

    figure = Figure(figsize=(7.5, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, person in enumerate(chosen):
        own = places[persons == person]
        axes.scatter(
            *own.T,
            s=42,
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            alpha=0.8,
            linewidths=0.5,
            edgecolors="white",
            label=f"{person} ({len(own)})",
        )
    # The axes of t-SNE have no meaning, but its picture one scale.
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.06)
    axes.spines[:].set_color("0.7")
    if title is not None:
        axes.set_title(title, wrap=True)
    entries = axes.get_legend_handles_labels()
    figure.legend(*entries, title="person (tracklets)", loc="outside right upper", frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower(), dpi=150)
    write_atomically(path, picture.getvalue())
    return places


def _drawn(embeddings, persons, chosen):
    """The chosen persons' embeddings, their labels, and the persons."""
    embeddings, persons = np.asarray(embeddings, np.float32), np.asarray(persons)
    if embeddings.ndim != 2 or persons.shape != embeddings.shape[:1] or persons.dtype.kind not in "iu":
        raise ValueError(
            "Give one row of `embeddings` for each of the integers in `persons`. Received: "
            f"embeddings of shape {embeddings.shape}, persons {persons.dtype} of shape {persons.shape}"
        )
    chosen = np.unique(persons).tolist() if chosen is None else list(dict.fromkeys(chosen))
    missing = sorted(set(chosen) - set(persons.tolist()))
    if missing:
        raise ValueError(f"These persons have no embedding. Received: chosen={missing}")
    if len(chosen) > _MOST_PERSONS:
        raise ValueError(
            f"A picture tells at most {_MOST_PERSONS} persons apart; choose some. Received: {len(chosen)} persons"
        )
    kept = np.isin(persons, chosen)
    embeddings, persons = embeddings[kept], persons[kept]
    if len(embeddings) < 4:
        raise ValueError(f"A map needs at least 4 embeddings. Received: {len(embeddings)} embeddings")
    if not np.isfinite(embeddings).all():
        row = int(np.argmin(np.isfinite(embeddings).all(axis=1)))
        raise ValueError(
            f"Embeddings must be finite; leave out those that are not. Received: NaN or infinity, person {persons[row]}"
        )
    return embeddings, persons, chosen
