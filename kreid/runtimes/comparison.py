"""An exported file beside the model that it was made of."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kreid.runtimes.exported_model import ExportedModel

# Tracklets and frames: single ones, fewer and more frames than a clip of 4, numbers that no clip divides, and many.
SIZES = ((1, 1), (1, 3), (1, 4), (1, 6), (1, 9), (1, 60), (3, 1), (3, 3), (3, 4), (3, 6), (3, 9))


def batches(image_size: tuple[int, int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield frames and lengths of each size, padded; frames of one tracklet differ as those of two persons do."""
    height, width = image_size
    generator = np.random.default_rng(0)
    for tracklets, total in SIZES:
        coarse = generator.uniform(0, 255, (tracklets, total, 8, 4, 3)) * generator.uniform(
            0.3, 1, (tracklets, total, 1, 1, 3)
        )
        rows, columns = np.arange(height) * 8 // height, np.arange(width) * 4 // width
        lengths = [total, *generator.integers(1, total + 1, tracklets - 1)]
        yield coarse[:, :, rows][:, :, :, columns].astype("uint8"), np.array(lengths, "int32")


def check_equal(exported: ExportedModel, model: Any, tolerance: float) -> float:
    """Compare an exported file with its model.

    Args:
        exported: the file, opened in its runtime.
        model: of `kreid.models`.
        tolerance: largest `|e - e'| / |e'|`, where e' is an embedding of the model.

    Returns:
        The largest difference.

    Raises:
        ValueError: if a difference is larger, with the size of the batch, or the runtime cannot embed it; or if the
            model's own embeddings are not finite or all zero, which any file would equal.
    """
    largest, some = 0.0, False
    for frames, lengths in batches(exported.image_size):
        received = f"{frames.shape[0]} tracklets of {frames.shape[1]} frames, lengths={lengths.tolist()}"
        expected = model.embed(frames, lengths)
        if not np.isfinite(expected).all():
            raise ValueError(
                f"The model's own embeddings are not finite, so that no file can be compared with it; train it first. "
                f"Received: {received}"
            )
        some = some or bool(expected.any())
        try:
            # One run: `embed` would split the batch.
            embeddings = exported.embed_batch(
                {"frames": frames, "lengths": lengths}, frames_at_once=frames[..., 0, 0, 0].size
            )
        except Exception as error:  # Of whatever kind the runtime's are.
            reason = str(error).strip().split("\n", 1)[0]
            raise ValueError(
                f"The {exported.format} file was not kept, because its runtime fails where the model does not "
                f"({reason}). Received: {received}"
            ) from error
        norms = np.maximum(np.linalg.norm(expected, axis=1), 1e-6)
        difference = float(np.max(np.linalg.norm(embeddings - expected, axis=1) / norms))
        if not difference <= tolerance:
            raise ValueError(
                f"The {exported.format} file was not kept, because its embeddings differ from the model's by "
                f"{difference:.1e} of their length, and {tolerance:.0e} is the most at {exported.precision}. "
                f"Received: {received}"
            )
        largest = max(largest, difference)
    if not some:
        raise ValueError(
            "The model's own embeddings are all zero, so that no file can be compared with it; train it first. "
            f"Received: model={type(model).__name__}"
        )
    return largest
