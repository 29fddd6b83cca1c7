"""Export a model to a file of another runtime, and compare both."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kreid._quiet import stderr_discarded
from kreid.runtimes.comparison import check_equal
from kreid.runtimes.exported_model import load_export
from kreid.runtimes.formats import CARD_FILE, LAYOUT, TOLERANCES, Format, check_precision, checked_format
from kreid.runtimes.graph import in_float32
from kreid.runtimes.writers import WRITERS
from kreid.serving.card import card_of_model, checked_verification
from kreid.serving.publish import check_keep, check_version, publishing, remove_old_versions

if TYPE_CHECKING:
    from kreid.models import TrackletModel


def export(
    model: "TrackletModel",
    directory: str | os.PathLike[str],
    format: str,
    *,
    precision: str = "float32",
    version: int | None = None,
    verification: Mapping[str, Any] | None = None,
    keep: int | None = None,
) -> Path:
    """Write `directory/<version>/` with the model's file and `kreid.json`, its card.

    | format | file | runtime |
    |---|---|---|
    | `onnx` | `model.onnx` | ONNX Runtime |
    | `litert` | `model.tflite` | LiteRT, for phones and small computers |
    | `openvino` | `model.xml`, `model.bin` | OpenVINO, for Intel's processors |
    | `keras` | `model.keras` | Keras on any backend, with `kreid.load_model` |

    The file takes `frames`, uint8 `[B, T, H, W, 3]`, and `lengths`, int32 `[B]`, and gives `embedding`, float32
    `[B, D]`. Any B and T. Preprocessing and the choice of test frames are inside; frames at or after a tracklet's
    length do not change its embedding. Unlike a SavedModel's signatures it has no limits: lengths beyond `0..T` are
    clipped, and the network runs on all chosen frames at once.

    Before the folder gets its name, the file is run in its runtime on 1 and 3 tracklets of 1 to 60 frames beside the
    model. If an embedding differs by more than 1e-4 of its length, nothing is left. A file of another precision is
    preceded by one in float32, which must be as near, so that a fault of the conversion is not taken for rounding; it
    may then differ by 0.05 at float16 and 0.5 at int8. What such files cost is in recipes/RESULTS.md.

    A model that was trained in half precision is exported in float32. The converter to ONNX was seen to take 10 GB of
    memory for a ResNet-50 of 100 MB.

    Args:
        model: a `kreid.models` model.
        directory: base path, the folder of all versions of one format.
        format: a name in `kreid.runtimes.FORMATS`.
        precision: of the weights: `"float32"`; `"float16"`, half the size, float32 again where the runtime has loaded
            them; or `"int8"`, a quarter of the size, with a scale for each channel. ONNX turns int8 weights into
            float32 when it is loaded, LiteRT multiplies with them, and `"keras"` is `model.quantize("int8")`, which
            leaves convolutions as they are.
        version: positive int, or `None` for the one after the highest.
        verification: the threshold for the card, see `kreid.serving.export_model`.
        keep: how many versions stay: the oldest ones above it are removed.

    Returns:
        Path of the version's folder; `kreid.load_export` opens it.

    Raises:
        ValueError: for an unknown format or precision, a version that exists, operations that the format lacks, or
            embeddings that differ.
        ImportError: if packages are missing, with the command that installs them.
        RuntimeError: under a Keras backend other than TensorFlow, except for `"keras"`.

    Example:

    >>> import tempfile
    >>> model = kreid.models.Baseline(kreid.backbones.build("resnet_tiny", image_size=(32, 32)), num_identities=2)
    >>> opened = kreid.load_export(kreid.runtimes.export(model, tempfile.mkdtemp(), "keras"))
    >>> opened.metric, opened.embed(np.zeros((2, 3, 32, 32, 3), "uint8")).shape
    ('cosine', (2, 128))
    """
    import keras

    form, directory = checked_format(format), Path(directory)
    check_precision(form, precision)
    if format != "keras" and keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "The converters read TensorFlow's graph; load the model in a process with KERAS_BACKEND=tensorflow. "
            f"Received: format={format!r}, backend={keras.backend.backend()}"
        )
    check_version(directory, version)
    if keep is not None:
        check_keep(keep)
    verification = checked_verification(model, verification)
    directory.mkdir(parents=True, exist_ok=True)
    if format != "keras":
        model = in_float32(model)
    with publishing(directory, version) as (temporary, published):
        if precision != "float32":
            exact = temporary.with_name(f"{temporary.name}-float32")
            try:
                _write(model, exact, form, "float32", verification)
            finally:
                shutil.rmtree(exact, ignore_errors=True)
        _write(model, temporary, form, precision, verification)
    (path,) = published
    if keep is not None:
        remove_old_versions(directory, keep, int(path.name), form.file)
    return path


def _write(model: Any, folder: Path, form: Format, precision: str, verification: Mapping[str, Any] | None) -> None:
    """Write a folder with the file and its card, and compare it with the model."""
    folder.mkdir()
    WRITERS[form.name](model, folder / form.file, precision)
    card, card_file = _card(model, form.name, precision, verification), folder / CARD_FILE
    card_file.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    # Runtimes say on standard error what they found; their errors are exceptions.
    with stderr_discarded():
        card["largest_difference"] = check_equal(load_export(folder), model, TOLERANCES[precision])
    card_file.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _card(model: Any, format: str, precision: str, verification: Mapping[str, Any] | None) -> dict[str, Any]:
    card = card_of_model(model, verification)
    if precision != "float32":
        # Its embeddings differ too much to be compared with the model's: galleries refuse others than their own.
        own = f"{card['fingerprint']} {format} {precision}"
        card["fingerprint"] = hashlib.sha256(own.encode()).hexdigest()
        if card["passport"] is not None:
            card["passport"]["fingerprint"] = card["fingerprint"]
    height, width = card["image_size"]
    return {
        "layout": LAYOUT,
        "format": format,
        "precision": precision,
        **card,
        "inputs": {"frames": f"uint8 [B, T, {height}, {width}, 3]", "lengths": "int32 [B]"},
        "outputs": {"embedding": f"float32 [B, {card['embedding_dim']}]"},
    }
