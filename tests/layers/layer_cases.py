"""Arguments of `check_layer` for every public layer: constructor arguments off the defaults, inputs, options.

A key is the layer's name; a slash and a word name another form of the same layer.
"""

import numpy as np

RNG = np.random.default_rng(7)
MAPS = RNG.random((5, 4, 4, 2, 6), dtype="float32")
LENGTHS = np.array([4, 0, 1, 3, 2], "int32")
VECTORS = RNG.random((5, 4, 6), dtype="float32")
WEIGHTS = RNG.random((5, 4), dtype="float32")
PIXELS = RNG.integers(0, 256, (3, 4, 6, 4, 3)).astype("uint8")
SQUARE_MAPS = RNG.normal(size=(5, 3, 4, 4, 8)).astype("float32")

CASES = {
    "AgreementPooling": ({"t": 3.0}, VECTORS, {"attention": True}),
    "AgreementPooling/uncentred": ({"t": 3.0, "centre": False}, VECTORS, {"attention": True}),
    "ClipAttention": ({"embedding_dim": 3, "weighting": "linear"}, MAPS[:, :, 0, 0], {"attention": True}),
    "ConvolutionalBlockAttention": ({"reduction": 2, "kernel_size": 3}, MAPS, {"attention": True}),
    "DilatedTemporalPyramid": ({"num_branches": 2, "kernel_initializer": "glorot_uniform"}, VECTORS, {}),
    "FrameAverage": ({"balance": False}, MAPS, {"attention": True}),
    "FrameAverage/weighted": ({"axis": 1}, (MAPS, WEIGHTS), {"masked": False, "attention": True}),
    "FramePreprocessing": ({"mode": "caffe"}, PIXELS, {"masked": False}),
    "FrameSelection": ({"strategy": "evenly", "num_frames": 3}, (MAPS, LENGTHS), {"masked": False}),
    "FramesToClips": ({"clip_length": 3}, MAPS, {}),
    "GranularitySplit": ({"num_groups": 2, "pool": True}, MAPS, {"masked": False}),
    "InterFrameDistance": ({}, VECTORS, {}),
    "InterFrameRelation": ({"relation_dim": 5, "hidden_dims": (7, 3), "normalize": "none"}, VECTORS, {}),
    "IntraFrameAttention": ({}, VECTORS, {}),
    "LengthsToMask": ({}, (MAPS, LENGTHS), {"masked": False}),
    "MajorityPooling": ({"threshold": 0.01}, VECTORS, {"attention": True}),
    "MajorityPooling/equal": ({"threshold": 0.01, "weighting": "equal"}, VECTORS, {"attention": True}),
    "NodeEmbedding": ({"units": 3, "activation": "sigmoid", "scale_starts_at": 0.5}, MAPS, {}),
    "NonLocal": (
        {"across_frames": True, "reduction": 3, "starts_as_identity": False},
        MAPS,
        {"attention": True},
    ),
    "ReferenceAidedAggregation": (
        {"num_granularities": 2, "reduction": 1, "score_scale": 0.1},
        SQUARE_MAPS,
        {"attention": True},
    ),
    "RelationAwareAttention": ({"reduction": 1, "hidden_reduction": 2}, MAPS, {"attention": True}),
    "SemanticAttention": ({"as_printed": True}, VECTORS, {"masked": False, "attention": True, "any_length": False}),
    "SpatialAverage": ({}, MAPS, {"masked": False}),
    "SpatialTemporalAttention": (
        {"num_stripes": 2, "fusion": True, "regularization": 0.3, "seed": 5},
        MAPS,
        {"attention": True},
    ),
    "SqueezeExcitation": ({"reduction": 2}, MAPS, {"attention": True}),
    "StripeAverage": ({"num_stripes": 2}, MAPS, {"masked": False}),
    "TemporalAttention": ({"hidden_dim": 5, "score_initializer": "glorot_uniform"}, MAPS, {"attention": True}),
    "TemporalPyramidPooling": ({"num_branches": 4}, VECTORS, {}),
    "TemporalSelfAttention": (
        # With W at 0 nothing before it would get a gradient.
        {"reduction": 1, "normalize": "softmax", "output_initializer": "glorot_uniform"},
        VECTORS,
        {"attention": True},
    ),
    "UndilatedTemporalPyramid": ({"num_branches": 2}, VECTORS, {}),
}
