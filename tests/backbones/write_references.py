"""Write `references/`: names, shapes and outputs of the original networks with the weights of `reference_weights`.

    pip install torch torchvision timm torchreid
    python tests/backbones/write_references.py

The fast tests compare kreid's backbones with these files, and need no PyTorch.
"""

import json
import pathlib

import timm
import torch
import torchreid
import torchvision
from reference_weights import drawn, image

FOLDER = pathlib.Path(__file__).parent / "references"


def networks():
    """Return the original networks by architecture and project, and how each makes its last map."""
    yield "resnet18", "torchvision", torchvision.models.resnet18(), _resnet_map
    yield "resnet50", "torchvision", torchvision.models.resnet50(), _resnet_map
    yield (
        "resnet50_ibn_a",
        "torchreid",
        torchreid.models.build_model("resnet50_ibn_a", 10, pretrained=False),
        _featuremaps,
    )
    yield "se_resnet50", "timm", timm.create_model("seresnet50"), lambda net, x: net.forward_features(x)
    yield "mobilenet_v2", "torchvision", torchvision.models.mobilenet_v2(width_mult=0.5), lambda net, x: net.features(x)
    yield "osnet_x0_25", "torchreid", _of_torchreid("osnet_x0_25"), _featuremaps
    yield "mobilenet_v2", "timm", timm.create_model("mobilenetv2_050"), lambda net, x: net.forward_features(x)


def _resnet_map(net, x):
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


def _of_torchreid(name):
    return torchreid.models.build_model(name, 10, pretrained=False)


def _featuremaps(net, x):
    return net.featuremaps(x)


def main():
    """Write a file for each network."""
    FOLDER.mkdir(exist_ok=True)
    for architecture, project, network, last_map in networks():
        shapes = {
            name: list(tensor.shape)
            for name, tensor in network.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        tensors = {name: torch.from_numpy(values) for name, values in drawn(shapes).items()}
        network.load_state_dict(tensors, strict=False)
        with torch.no_grad():
            maps = last_map(network.eval(), torch.from_numpy(image()).permute(0, 3, 1, 2))
        # A digest of the whole map: its size, and the means and maxima of the first channels.
        record = {
            "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__},
            "map": list(maps.shape[2:]),
            "means": maps.mean(dim=(2, 3))[0, :16].tolist(),
            "mean": maps.mean().item(),
            "deviation": maps.std(correction=0).item(),
            "shapes": shapes,
        }
        text = json.dumps(record)
        (FOLDER / f"{architecture}_{project}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
