"""Count the multiplications of each variant of a system, to embed one tracklet at its paper's size.

    kreid cost
    kreid cost --system mg_rafa --frames 8

GMAC: convolutions and matrix products of the embedder, see `kreid.models.count_macs`. `added` is the cost beyond the
backbone on the same frames; `paper` is the paper's figure for `added`, if it has one. All frames are embedded, but
MG-RAFA always embeds 8. The figures of its paper agree with its equations in the ratio of MG-RAFA to SG-RAFA, not in
size.
"""

import argparse
import json
from collections.abc import Mapping
from typing import Any

from kreid import training

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "baseline": {"average pooling": {}},
    "gltr": {
        "average pooling": {"pyramid": "none", "self_attention": False},
        **{
            f"{name} (N={branches})": {"pyramid": pyramid, "num_branches": branches, "self_attention": False}
            for name, pyramid in (("DTP", "dilated"), ("without dilation", "undilated"), ("pooling", "pooling"))
            for branches in (1, 2, 3, 4)
        },
        "TSA": {"pyramid": "none"},
        "GLTR": {},
        "GLTR, Inception": {"backbone": "inception_v3"},
        "GLTR, AlexNet": {"backbone": "alexnet"},
    },
    "sta": {"STA without fusion": {"fusion": False}, "STA": {}},
    "rtf": {
        "feature average": {"fusion": "feature_average", "attention": "average"},
        "early fusion": {"fusion": "early", "attention": "average"},
        "late fusion = average pooling": {"fusion": "late", "attention": "average"},
        "MS fusion (average)": {"fusion": "multi_stage", "semantic": "average", "attention": "average"},
        "MS fusion (semantic attention)": {"fusion": "multi_stage", "semantic": "attention", "attention": "average"},
        "intra-frame": {"fusion": "late", "attention": "intra"},
        "inter-frame (Euclidean)": {"fusion": "late", "attention": "inter_euclidean"},
        "inter-frame (RN)": {"fusion": "late", "attention": "inter_relation"},
        "intra/inter-frame (Euclidean)": {"fusion": "late", "attention": "intra_inter_euclidean"},
        "intra/inter-frame (RN)": {"fusion": "late", "attention": "intra_inter_relation"},
        "intra/inter-frame (RN) + multi-stage": {"fusion": "multi_stage", "attention": "intra_inter_relation"},
    },
    "mg_rafa": {
        "Baseline": {"attention": "average", "num_granularities": 1},
        "MG-AFA (N=4)": {"references": "none"},
        "SG-RAFA (S=1) = Ours (16x8x1)": {"num_granularities": 1},
        "SG-RAFA (S=4)": {"num_granularities": 1, "num_splits": 4},
        "MG-RAFA (N=2)": {"num_granularities": 2},
        "MG-RAFA (N=4)": {},
        **{
            f"{strategy} ({'x'.join(map(str, grid))})": {
                "num_granularities": 1,
                "references": "grid",
                "reference_grid": grid,
            }
            for strategy, grid in (
                ("S-P", [8, 1, 8]),
                ("S-P", [8, 2, 8]),
                ("S-P", [4, 4, 8]),
                ("S-P", [8, 4, 8]),
                ("T-P", [16, 8, 2]),
                ("T-P", [16, 8, 4]),
                ("ST", [16, 8, 8]),
            )
        },
        "NL(S)": {"attention": "non_local_space", "num_granularities": 1},
        "NL(ST)": {"attention": "non_local_space_time", "num_granularities": 1},
        "RGA-SC": {"attention": "relation_aware", "num_granularities": 1},
        "RGA-SC (MG)": {"attention": "relation_aware"},
        "SE": {"attention": "squeeze_excitation", "num_granularities": 1},
        "SE (MG)": {"attention": "squeeze_excitation"},
        "CBAM": {"attention": "convolutional_block", "num_granularities": 1},
        "CBAM (MG)": {"attention": "convolutional_block"},
    },
    "tacan": {
        "ResNet50": {"frame_attention": "average", "clip_attention": "average", "embedding_dim": None},
        "ResNet50 + TA": {"clip_attention": "average", "embedding_dim": None},
        "ResNet50 + TA + CA": {},
        "SENet50 + TA + CA": {"backbone": "se_resnet50"},
    },
}
# The papers' figures, in GFLOPs that are multiplications: MG-RAFA's Tables 2 and 3.
PAPERS: dict[str, dict[str, float]] = {
    "mg_rafa": {
        "MG-AFA (N=4)": 0.095,
        "SG-RAFA (S=1) = Ours (16x8x1)": 2.301,
        "SG-RAFA (S=4)": 0.615,
        "MG-RAFA (N=2)": 0.742,
        "MG-RAFA (N=4)": 0.212,
        "S-P (8x1x8)": 2.034,
        "S-P (8x2x8)": 2.345,
        "S-P (4x4x8)": 2.345,
        "S-P (8x4x8)": 2.967,
        "T-P (16x8x2)": 2.916,
        "T-P (16x8x4)": 4.159,
        "ST (16x8x8)": 6.697,
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("--system", choices=VARIANTS, action="append", help="count this system only")
    parser.add_argument("--frames", type=int, default=8, help="frames of the tracklet (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Print the table; return the exit status."""
    with training.plain_errors():
        print(f"{'system':<10}{'variant':<40}{'input':>9}{'GMAC':>9}{'added':>9}{'added %':>9}{'paper':>9}")
        for system in options.system or VARIANTS:
            for variant, settings in VARIANTS[system].items():
                print(cost_line(system, variant, settings, options.frames), flush=True)
    return 0


def cost_line(system: str, variant: str, settings: Mapping[str, Any], frames: int) -> str:
    """Return one variant's line.

    Args:
        system: one of `VARIANTS`.
        variant: name of the variant.
        settings: settings that differ from the system's recipe.
        frames: frames of the tracklet.
    """
    import keras

    from kreid.models import Baseline, count_macs

    settings = {**settings, "weights": None}
    if system == "sta":
        settings["test_frames"] = frames
    config = training.load_config(system, settings=[f"{k}={json.dumps(v)}" for k, v in settings.items()])
    model = training.build_model(config, num_identities=2)
    total = count_macs(model, frames)
    # Average pooling on the same backbone adds no product.
    added = total - count_macs(Baseline(model.backbone, 2), model.test_frames or frames)
    printed = PAPERS.get(system, {}).get(variant, "")
    keras.backend.clear_session()
    size = "x".join(map(str, config.image_size))
    counted = f"{total / 1e9:>9.3f}{added / 1e9:>9.4f}{100 * added / total:>9.3f}"
    return f"{system:<10}{variant:<40}{size:>9}{counted}{printed:>9}"
