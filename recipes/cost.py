"""Counts what each variant of a system multiplies to embed one tracklet, at its paper's size.

    python recipes/cost.py [--system NAME] [--frames N]

GMAC: convolutions and matrix products of the embedder, see `kreid.evaluation.count_macs`. `added` is what the variant
has beyond its backbone on the same frames; frames that a paper selects at test time are all there are.
"""

import argparse
import json
import pathlib

from kreid import training

RECIPES = pathlib.Path(__file__).resolve().parent
VARIANTS = {
    "baseline": {"average pooling": {}},
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
    "tacan": {
        "ResNet50": {"frame_attention": "average", "clip_attention": "average"},
        "ResNet50 + TA": {"clip_attention": "average"},
        "ResNet50 + TA + CA": {},
        "SENet50 + TA + CA": {"backbone": "se_resnet50"},
    },
}


def main(argv=None):
    """Reads the command line and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=VARIANTS, action="append", help="count this system only")
    parser.add_argument("--frames", type=int, default=8, help="of the tracklet (default: %(default)s)")
    options = parser.parse_args(argv)
    with training.plain_errors():
        print(f"{'system':<10}{'variant':<40}{'input':>9}{'GMAC':>9}{'added':>9}{'added %':>9}")
        for system in options.system or VARIANTS:
            for variant, settings in VARIANTS[system].items():
                print(row(system, variant, settings, options.frames), flush=True)


def row(system, variant, settings, frames):
    """One variant's line."""
    import keras

    from kreid.evaluation import count_macs
    from kreid.models import Baseline

    settings = {**settings, "weights": None}
    if system == "sta":
        settings["test_frames"] = frames
    config = training.load_config(system, RECIPES, settings=[f"{k}={json.dumps(v)}" for k, v in settings.items()])
    model = training.build_model(config, num_identities=2)
    total = count_macs(model, frames)
    # Average pooling on the same backbone adds no product.
    added = total - count_macs(Baseline(model.backbone, 2), frames)
    keras.backend.clear_session()
    size = "x".join(map(str, config.image_size))
    return f"{system:<10}{variant:<40}{size:>9}{total / 1e9:>9.3f}{added / 1e9:>9.4f}{100 * added / total:>9.3f}"


if __name__ == "__main__":
    main()
