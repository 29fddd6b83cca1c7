"""MG-RAFA's aggregation: every node weighted by its relations to a few reference nodes."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.granularity_split import GranularitySplit, pooled
from kreid.layers.masking import mask_of, masked_softmax, spread
from kreid.layers.node_embedding import NodeEmbedding

REFERENCES = ("temporal_mean", "none", "grid")


@keras.saving.register_keras_serializable(package="kreid")
class ReferenceAidedAggregation(KreidLayer):
    """Aggregate the frame maps of a tracklet into one vector, by attention over all their positions (MG-RAFA).

    A node is one position of one frame. Its relations are its products with all reference nodes, both embedded
    (equation 1), stacked in raster order (equation 2). The embedded node and its embedded relations give one
    score per channel (equation 3). Softmax over all nodes of the tracklet turns scores into weights, and the weighted
    sum is the output (equation 4). Reference nodes are few: those of the mean over the frames.

    With N granularities the channels are cut into N groups, group m is average-pooled by 2^(m-1), and each group is
    aggregated separately (equations 5 and 6); the groups' vectors are concatenated.

    Masking: masked frames have weight 0, whatever they hold, and enter neither the references nor the batch-norm
    statistics. A tracklet without a real frame gives zeros. Any number of frames, except for `"grid"`.

    Args:
        num_granularities: N; the map must be divisible by 2^(N-1).
        num_splits: S, the channel groups, with one granularity (row "SG-RAFA (S=4)"); `None` for N.
        references: the reference nodes: `"temporal_mean"` (one map per tracklet), `"grid"` (Table 3's other strategies)
            or `"none"`, attention by the node alone (row "MG-AFA").
        reference_grid: `[height, width, frames]` for `"grid"`: the frame maps are average-pooled to this many
            nodes, such as `[8, 4, 8]` of row "S-P (8x4x8)". They must divide every granularity's map and
            `num_frames`.
        num_frames: T for `"grid"`, whose relations count its references. A tracklet may have fewer frames: relations to
            references without a frame are 0.
        reduction: s, the factor by which embeddings are narrower than their inputs.
        score_scale: start of the scores' batch-norm scale, above 0. At 1 the weights differ from node to node from the
            start; at 0.1 they start within a factor of about 1.3, near the mean of all nodes, and hundreds of steps
            change little of that.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame maps after a ReLU.
        mask: optional bool, True on real frames.
        training: batch normalisation by the batch's statistics.
        return_attention: also return the weights, averaged over the channels of each group.

    Input shape: `(batch, frames, h, w, C)`; mask `(batch, frames)`.
    Output shape: `(batch, C)`; attention: a dict of `maps_1` to `maps_N` (or S), `(batch, frames, h_m, w_m)`, float32,
        each summing to 1 over a tracklet.

    Raises:
        ValueError: for arguments that contradict each other or do not fit the map, more frames than `num_frames`, or a
            mask of another shape.

    Example:

    >>> maps = np.random.default_rng(0).random((2, 6, 8, 4, 32), "float32")
    >>> layer = kreid.layers.ReferenceAidedAggregation(num_granularities=2)
    >>> vector, attention = layer(maps, return_attention=True)
    >>> tuple(vector.shape), {name: tuple(value.shape) for name, value in attention.items()}
    ((2, 32), {'maps_1': (2, 6, 8, 4), 'maps_2': (2, 6, 4, 2)})

    Reference: Zhang et al., Multi-Granularity Reference-Aided Attentive Feature Aggregation for Video-based Person Re-
    identification, 2020, equations 1 to 6, Tables 2 and 3. The paper does not give s; kreid takes 8, and at least one
    feature. It does not say where the scale of theta's batch normalisation starts; kreid takes 1, as frameworks do. "A
    ratio factor m" of the pooling is read as 2^(m-1), as the sizes next to it say. The ratios of Table 2's
    multiplications follow from equations 1 to 6, their sizes do not.
    """

    def __init__(
        self,
        num_granularities: int = 4,
        num_splits: int | None = None,
        references: str = "temporal_mean",
        reference_grid: Sequence[int] | None = None,
        num_frames: int = 8,
        reduction: int = 8,
        score_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(score_scale, bool) or not isinstance(score_scale, (int, float)) or not 0 < score_scale < math.inf:
            raise ValueError(f"The scores' scale starts at a number above 0. Received: score_scale={score_scale!r}")
        for name, value in (
            ("num_granularities", num_granularities),
            ("num_splits", 1 if num_splits is None else num_splits),
            ("num_frames", num_frames),
            ("reduction", reduction),
        ):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is a positive integer. Received: {name}={value!r}")
        if num_granularities > 1 and num_splits not in (None, num_granularities):
            raise ValueError(
                "With several granularities the splits are the granularities; leave out num_splits. "
                f"Received: num_splits={num_splits!r}, num_granularities={num_granularities!r}"
            )
        if references not in REFERENCES:
            raise ValueError(f"Choose one of {', '.join(REFERENCES)}. Received: references={references!r}")
        if (references == "grid") != (reference_grid is not None):
            raise ValueError(
                "references='grid' needs a reference_grid, and other references take none. "
                f"Received: references={references!r}, reference_grid={reference_grid!r}"
            )
        if reference_grid is not None:
            reference_grid = _checked_grid(reference_grid, num_frames)
        self.num_granularities = num_granularities
        self.num_splits = num_splits
        self.references = references
        self.reference_grid = reference_grid
        self.num_frames = num_frames
        self.reduction = reduction
        self.score_scale = score_scale
        self.num_groups = num_splits or num_granularities
        self.split = GranularitySplit(self.num_groups, num_granularities > 1, dtype=self.dtype_policy, name="split")
        self.groups = [
            _Aggregation(
                references,
                reference_grid,
                num_frames,
                reduction,
                score_scale,
                dtype=self.dtype_policy,
                name=f"group_{m}",
            )
            for m in range(1, self.num_groups + 1)
        ]
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        self.split.build(input_shape)
        for group, shape in zip(self.groups, self.split.compute_output_shape(input_shape), strict=True):
            group.build(shape)

    def call(
        self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        if self.references == "grid" and inputs.shape[1] is not None and inputs.shape[1] > self.num_frames:
            raise ValueError(
                f"This layer's references are made for {self.num_frames} frames; select that many, or build it with "
                f"another num_frames. Received: inputs of shape {tuple(inputs.shape)!r}"
            )
        mask = mask_of(inputs, mask)
        x = ops.where(spread(mask, inputs), inputs, 0)
        parts = zip(self.groups, self.split(x), strict=True)
        vectors, weights = zip(*(group(part, mask=mask, training=training) for group, part in parts), strict=True)
        output = ops.cast(ops.concatenate(vectors, axis=-1), self.compute_dtype)
        if not return_attention:
            return output
        return output, {f"maps_{m}": ops.mean(weight, axis=-1) for m, weight in enumerate(weights, 1)}

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[-1])

    def attention_shape(self, input_shape: Shape) -> dict[str, Shape]:
        return {f"maps_{m}": shape[:-1] for m, shape in enumerate(self.split.compute_output_shape(input_shape), 1)}

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        return None


class _Aggregation(keras.layers.Layer):
    """Equations 1 to 4 for one group of channels."""

    uniform_attention = False

    def __init__(
        self,
        references: str,
        reference_grid: Sequence[int] | None,
        num_frames: int,
        reduction: int,
        score_scale: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.score_scale = score_scale
        self.supports_masking = True
        self.references = references
        self.grid = reference_grid
        self.num_frames = num_frames
        self.reduction = reduction

    def build(self, input_shape: Shape) -> None:
        batch, frames, height, width, channels = input_shape
        narrow = max(1, channels // self.reduction)
        # Correlations are long sums, not normalised before psi: they may overflow float16.
        policies = {"mu": None, "nu": None, "phi": None, "psi": "float32", "theta": None}
        grid = (height, width, 1) if self.grid is None else self.grid
        if height % grid[0] or width % grid[1]:
            raise ValueError(
                f"The reference grid must divide the map, {height}x{width} at this granularity. "
                f"Received: reference_grid={self.grid!r}"
            )
        self.pool_size = (height // grid[0], width // grid[1])
        self.cells = grid[2]
        num_references = grid[0] * grid[1] * grid[2]
        relations = max(1, num_references // self.reduction)
        shapes = {"phi": (channels, narrow), "theta": (narrow, channels)}
        if self.references != "none":
            shapes.update(mu=(channels, narrow), nu=(channels, narrow), psi=(num_references, relations))
            shapes["theta"] = (narrow + relations, channels)
        for name, (given, units) in shapes.items():
            embedding = NodeEmbedding(
                units,
                scale_starts_at=self.score_scale if name == "theta" else 1.0,
                dtype=policies[name] or self.dtype_policy,
                name=name,
            )
            embedding.build((batch, frames, height, width, given))
            setattr(self, name, embedding)

    def call(self, x: Tensor, mask: Tensor | None = None, training: bool | None = None) -> tuple[Tensor, Tensor]:
        embedded = [self.phi(x, mask=mask, training=training)]
        if self.references != "none":
            relations = self.psi(self._relations(x, mask, training), mask=mask, training=training)
            embedded.append(ops.cast(relations, self.compute_dtype))
        scores = self.theta(ops.concatenate(embedded, axis=-1), mask=mask, training=training)
        scores = ops.cast(scores, "float32")
        scores = ops.zeros_like(scores) if self.uniform_attention else scores
        weights = masked_softmax(scores, spread(mask, x), axis=(1, 2, 3))
        return ops.sum(weights * ops.cast(x, "float32"), axis=(1, 2, 3)), weights

    def _relations(self, x, mask, training):
        """Return the relation vectors (equation 2) of every node, `(batch, frames, h, w, D)`, float32."""
        references, present = self._reference_nodes(x, mask)
        nu = ops.cast(self.nu(references, mask=present, training=training), "float32")
        nu = ops.where(spread(present, nu), nu, 0.0)
        nu = ops.reshape(nu, (ops.shape(nu)[0], -1, nu.shape[-1]))
        mu = ops.cast(self.mu(x, mask=mask, training=training), "float32")
        flat = ops.reshape(mu, (ops.shape(mu)[0], -1, mu.shape[-1]))
        relations = ops.matmul(flat, ops.transpose(nu, (0, 2, 1)))
        return ops.reshape(relations, (*ops.shape(x)[:4], self.psi.dense.kernel.shape[0]))

    def _reference_nodes(self, x, mask):
        """Return the reference nodes, `cells` maps per tracklet, and which maps have real frames, `(batch, cells)`."""
        frames = ops.shape(x)[1]
        cell_of_frame = ops.arange(frames, dtype="int32") * self.cells // self.num_frames
        means, present = [], []
        for cell in range(self.cells):
            of_cell = mask if self.cells == 1 else ops.logical_and(mask, ops.expand_dims(cell_of_frame, 0) == cell)
            of_cell = ops.cast(of_cell, "float32")
            count = ops.sum(of_cell, axis=1)
            weights = of_cell / ops.expand_dims(ops.maximum(count, 1.0), 1)
            means.append(ops.sum(spread(weights, x) * ops.cast(x, "float32"), axis=1))
            present.append(count > 0)
        references = pooled(ops.stack(means, axis=1), self.pool_size)
        return ops.cast(references, self.compute_dtype), ops.stack(present, axis=1)


def _checked_grid(grid, num_frames):
    listed = list(grid) if isinstance(grid, (list, tuple)) else []
    if len(listed) != 3 or not all(isinstance(size, int) and size > 0 for size in listed) or num_frames % listed[2]:
        raise ValueError(
            "A reference grid is [height, width, frames], positive integers of which the last divides num_frames. "
            f"Received: reference_grid={grid!r}, num_frames={num_frames!r}"
        )
    return listed
