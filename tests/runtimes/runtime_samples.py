"""Small models of every system and kind of layer, with weights off their starts, and what opens their files."""

import importlib.util

import numpy as np
import pytest

import kreid
from kreid.models import SYSTEMS

IMAGE_SIZE = (64, 32)
# Packages that write and run a format.
PACKAGES = {
    "keras": (),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "litert": ("ai_edge_litert",),
    "openvino": ("openvino",),
}
CASES = {
    "baseline": ("baseline", {}),
    "baseline_agreement": ("baseline", {"pooling": "agreement"}),
    "baseline_majority": ("baseline", {"pooling": "majority", "embedding_from": "pooled"}),
    "baseline_stripes": ("baseline", {"num_stripes": 2, "normalize": True}),
    "baseline_adjacent": ("baseline", {"test_selection": "adjacent", "test_frames": 5}),
    "gltr": ("gltr", {"feature_dim": 16}),
    "gltr_pooling": ("gltr", {"feature_dim": 16, "pyramid": "pooling", "attention_normalization": "softmax"}),
    "gltr_undilated": ("gltr", {"feature_dim": 16, "pyramid": "undilated", "attention_normalization": "mean"}),
    "mg_rafa": ("mg_rafa", {"num_granularities": 2}),
    "mg_rafa_grid": ("mg_rafa", {"num_granularities": 2, "references": "grid", "reference_grid": [2, 1, 2]}),
    "mg_rafa_non_local": ("mg_rafa", {"num_granularities": 1, "attention": "non_local_space_time"}),
    "mg_rafa_relation_aware": ("mg_rafa", {"num_granularities": 1, "attention": "relation_aware"}),
    "mg_rafa_squeeze": ("mg_rafa", {"num_granularities": 1, "attention": "squeeze_excitation"}),
    "mg_rafa_block": ("mg_rafa", {"num_granularities": 1, "attention": "convolutional_block"}),
    "rtf": ("rtf", {"embedding_dim": 24, "relation_dim": 16}),
    "rtf_late": ("rtf", {"embedding_dim": 24, "fusion": "late", "attention": "intra_inter_euclidean"}),
    "sta": ("sta", {"embedding_dim": 24, "num_stripes": 2}),
    "sta_all": ("sta", {"embedding_dim": 24, "num_stripes": 2, "test_selection": "all", "test_frames": None}),
    "tacan": ("tacan", {"embedding_dim": 24, "hidden_dim": 8}),
    "tacan_softmax": ("tacan", {"embedding_dim": 24, "hidden_dim": 8, "clip_attention": "softmax", "clip_length": 5}),
}


def make(case, image_size=IMAGE_SIZE, backbone="resnet_tiny", **kwargs):
    """Return a model whose every weight is off its start: attentions that start equal would hide a wrong one."""
    system, arguments = CASES[case]
    network = kreid.backbones.build(backbone, image_size=image_size, last_stride=1)
    model = SYSTEMS[system](network, 6, **{**arguments, **kwargs})
    generator = np.random.default_rng(0)
    for weight in model.weights:
        values = np.asarray(weight)
        if "variance" in weight.path:
            weight.assign(generator.uniform(0.5, 1.5, values.shape))
        elif "float" in str(values.dtype):
            weight.assign(values + generator.normal(0, 0.05, values.shape))
    return model


def skip_without(form):
    """Skip the test where a package of the format is missing."""
    for package in PACKAGES[form]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'kreid[{form}]'")
