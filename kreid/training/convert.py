"""Convert another project's checkpoint into starting weights, and say where every tensor went.

    kreid convert resnet50-11ad3fa6.pth --to resnet50
    kreid convert mobilenet_v2.safetensors --to mobilenet_v2 --out weights/mobilenet_v2.weights.h5
    kreid train --system baseline --set backbone=mobilenet_v2 --set weights=weights/mobilenet_v2.weights.h5

Reads torchvision's, timm's, torchreid's and fast-reid's checkpoints: .safetensors, or .pth with PyTorch installed
(pip install 'kreid[convert]'); and keras.applications' .keras and .h5 files. A recipe takes such a file by the setting
weights= too. Every tensor must have its place; tensors of classifiers are left out and named. Exit status: 0 written,
2 wrong usage or input.
"""

import argparse
import pathlib

from kreid.training.command import plain_errors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("file", metavar="FILE", type=pathlib.Path, help="the checkpoint")
    parser.add_argument("--to", required=True, metavar="BACKBONE", help="the backbone, such as resnet50")
    parser.add_argument(
        "--out", metavar="FILE", type=pathlib.Path, help="the file to write (default: BACKBONE.weights.h5)"
    )
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="NAME",
        help="leave out these tensors too; * and ? stand for other letters",
    )
    parser.add_argument(
        "--preprocessing",
        metavar="NAME",
        help="the pixels that the weights expect: torch, caffe, tf or none (default: as the published weights do)",
    )
    parser.add_argument(
        "--layout",
        metavar="NAME",
        help="the project whose names and stem the file has, such as fast-reid (default: found by the tensors' names)",
    )
    parser.add_argument("--licence", metavar="TEXT", help="licence of the weights, which saved models then name")
    parser.add_argument("--width", type=int, help="the backbone's width (default: as published)")


def run(options: argparse.Namespace) -> int:
    """Convert the checkpoint; return the exit status."""
    with plain_errors():
        from kreid import backbones

        out = options.out or pathlib.Path(f"{options.to}.weights.h5")
        if not out.name.endswith(".weights.h5"):
            raise ValueError(f"Weights of Keras are in files named *.weights.h5. Received: out={str(out)!r}")
        if not options.file.is_file():
            raise ValueError(f"There is no checkpoint at this path. Received: file={str(options.file)!r}")
        backbone = backbones.build(options.to, width=options.width, preprocessing=options.preprocessing)
        conversion = backbones.load_checkpoint(backbone, options.file, options.skip, options.licence, options.layout)
        out.parent.mkdir(parents=True, exist_ok=True)
        backbone.save_pretrained(out)
        print(f"{conversion.placed} tensors placed, by {conversion.layout}'s names")
        if conversion.layout == "fast-reid":
            print("The stem pools as fast-reid's since August 2020; for an older model give --layout torchvision")
        print(f"{len(conversion.left_out)} tensors left out: {', '.join(conversion.left_out) or 'none'}")
        print(f"Licence: {conversion.licence or 'unknown; name it with --licence'}")
        print(f"Pixels: {conversion.preprocessing} (see kreid.layers.FramePreprocessing); the models scale frames so")
        print(f"Weights: {out}")
    return 0
