"""The names that other projects' checkpoints give to the layers of kreid's backbones.

A *layout* is a function from a layer's name here to the module's name there.
"""

import re
from collections.abc import Callable, Iterable

Layout = Callable[[str], str]


def _resnet_layout(name: str) -> str:
    """Return torchvision's name, which timm, torchreid and fast-reid share; gates have timm's, IBN torchreid's."""
    match = re.fullmatch(r"conv(\d)_block(\d+)_(\d|se)_(\w+)", name)
    if match is None:
        return {"conv1_conv": "conv1", "conv1_bn": "bn1"}[name]
    stage, block, number, kind = match.groups()
    block_name = f"layer{int(stage) - 1}.{int(block) - 1}"
    if number == "se":
        return f"{block_name}.se.{ {'squeeze': 'fc1', 'excite': 'fc2'}[kind] }"
    if number == "0":
        return f"{block_name}.downsample.{ {'conv': 0, 'bn': 1}[kind] }"
    if kind.startswith("bn_"):
        return f"{block_name}.bn{number}.{ {'bn_instance': 'IN', 'bn_batch': 'BN'}[kind] }"
    return f"{block_name}.{kind}{number}"


def _mobilenet_layout(nested: bool) -> Layout:
    """Return torchvision's layout of MobileNetV2, whose units are nested modules, or a form of it without nesting."""

    def layout(name: str) -> str:
        number, part, kind = re.fullmatch(r"features_(\d+)_?(\w*)_(conv|bn)", name).groups()  # type: ignore[union-attr]
        place = {"conv": 0, "bn": 1}[kind]
        if not part:
            return f"features.{number}.{place}"
        # The first block expands nothing, so its depthwise convolution comes first.
        position = {"expand": 0, "depthwise": 1, "project": 2}[part] - (number == "1")
        if part == "project":
            return f"features.{number}.conv.{position + place if nested else 3 * position + place}"
        return f"features.{number}.conv.{f'{position}.{place}' if nested else 3 * position + place}"

    return layout


def _timm_mobilenet_layout(name: str) -> str:
    number, part, kind = re.fullmatch(r"features_(\d+)_?(\w*)_(conv|bn)", name).groups()  # type: ignore[union-attr]
    if number == "0":
        return {"conv": "conv_stem", "bn": "bn1"}[kind]
    if not part:
        return {"conv": "conv_head", "bn": "bn2"}[kind]
    group, block = _GROUP_OF_BLOCK[int(number)]
    parts = ("depthwise", "project") if number == "1" else ("expand", "depthwise", "project")
    convolutions = ("conv_dw", "conv_pw") if number == "1" else ("conv_pw", "conv_dw", "conv_pwl")
    position = parts.index(part)
    return f"blocks.{group}.{block}.{convolutions[position] if kind == 'conv' else f'bn{position + 1}'}"


def _osnet_layout(name: str) -> str:
    """Return torchreid's name."""
    match = re.fullmatch(r"conv(\d)_(?:block(\d)_)?(\w+)", name)
    stage, block, part = match.groups()  # type: ignore[union-attr]
    if part.startswith("transition"):
        # There the pooling between two stages stands at the end of the earlier one.
        return f"conv{int(stage) - 1}.2.0.{part.removeprefix('transition_')}"
    if block is None:
        return f"conv{stage}.{part}"
    module = f"conv{stage}.{int(block) - 1}"
    light = re.fullmatch(r"(\d)_(\d)_(pointwise|depthwise)_(conv|bn)", part)
    if light is None:
        part, kind = part.rsplit("_", 1)
        if part == "se":
            return f"{module}.gate.{ {'squeeze': 'fc1', 'excite': 'fc2'}[kind] }"
        return f"{module}.{ {'reduce': 'conv1', 'expand': 'conv3', 'shortcut': 'downsample'}[part] }.{kind}"
    length, depth, place, kind = light.groups()
    stream = f"conv2{'abcd'[int(length) - 1]}" + ("" if length == "1" else f".{int(depth) - 1}")
    return f"{module}.{stream}.{kind if kind == 'bn' else {'pointwise': 'conv1', 'depthwise': 'conv2'}[place]}"


def _same_names(name: str) -> str:
    return name


def _keras_mobilenet_layout(name: str) -> str:
    """Return the name of keras.applications."""
    number, part, kind = re.fullmatch(r"features_(\d+)_?(\w*)_(conv|bn)", name).groups()  # type: ignore[union-attr]
    if not part:
        first = number == "0"
        return {"conv": "Conv1" if first else "Conv_1", "bn": "bn_Conv1" if first else "Conv_1_bn"}[kind]
    block = "expanded_conv" if number == "1" else f"block_{int(number) - 1}"
    return f"{block}_{part}" + ("_BN" if kind == "bn" else "")


_GROUP_OF_BLOCK = dict(
    enumerate(((group, block) for group, count in enumerate((1, 2, 3, 4, 3, 3, 1)) for block in range(count)), 1)
)

# The layout of keras.applications, whose files name weights otherwise.
KERAS = "keras.applications"

# The layout of fast-reid's residual networks: torchvision's names, but since August 2020 the pooling of the stem has no
# padding before the first pixel (`MaxPool2d(3, stride=2, ceil_mode=True)`). Published weights are later.
FAST_REID = "fast-reid"

_RESNET: dict[str, Layout] = {"torchvision": _resnet_layout, FAST_REID: _resnet_layout}

# By architecture, and by the project that has the names.
LAYOUTS: dict[str, dict[str, Layout]] = {
    "resnet18": _RESNET,
    "resnet34": _RESNET,
    "resnet50": _RESNET,
    "resnet50_ibn_a": {"torchreid": _resnet_layout, FAST_REID: _resnet_layout},
    "se_resnet50": {"timm": _resnet_layout},
    "resnet50_v1": {KERAS: _same_names},
    "inception_v3": {KERAS: _same_names},
    "mobilenet_v2_keras": {KERAS: _keras_mobilenet_layout},
    "osnet_x1_0": {"torchreid": _osnet_layout},
    "osnet_x0_25": {"torchreid": _osnet_layout},
    "mobilenet_v2": {
        "torchvision": _mobilenet_layout(nested=True),
        "torchvision, not nested": _mobilenet_layout(nested=False),
        "timm": _timm_mobilenet_layout,
    },
}


def is_of_fast_reid(names: Iterable[str]) -> bool:
    """Whether tensors have the names of a whole model of fast-reid: its backbone and its head, or its input's mean."""
    parts = {part for name in names for part in name.split(".")[:-1]} | set(names)
    return "backbone" in parts and not parts.isdisjoint({"heads", "pixel_mean"})
