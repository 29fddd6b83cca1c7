"""The formats: the file of each, the packages that it needs and the precisions that it has."""

import contextlib
import dataclasses
import sys
import warnings
from collections.abc import Iterator
from typing import Any

CARD_FILE = "kreid.json"
# Of the card, raised when an older kreid could not read a new one.
LAYOUT = 1
# Largest relative difference of an embedding to the model's, `|e - e'| / |e'|`. The last two are above differences that
# cost trained models little, see recipes/RESULTS.md, and below the 1.4 of embeddings that are nothing alike.
TOLERANCES = {"float32": 1e-4, "float16": 0.05, "int8": 0.5}


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of exported models.

    Args:
        name: such as `"onnx"`; kreid's extra of the packages has the same name.
        file: of the model in the folder of an export.
        precisions: that the format has, see `kreid.runtimes.export`.
    """

    name: str
    file: str
    precisions: tuple[str, ...]


FORMATS = {
    form.name: form
    for form in (
        Format("keras", "model.keras", ("float32", "int8")),
        Format("onnx", "model.onnx", ("float32", "float16", "int8")),
        Format("litert", "model.tflite", ("float32", "float16", "int8")),
        Format("openvino", "model.xml", ("float32", "float16")),
    )
}


def checked_format(name: str) -> Format:
    """Return the format of a name; raise `ValueError` for an unknown one."""
    if name not in FORMATS:
        raise ValueError(
            f"The formats are {', '.join(FORMATS)}; kreid.serving.export_model, or kreid export without --format, "
            f"writes a SavedModel. Received: format={name!r}"
        )
    return FORMATS[name]


def check_precision(form: Format, precision: str) -> None:
    """Raise `ValueError` for a precision that the format lacks."""
    if precision not in form.precisions:
        raise ValueError(
            f"The {form.name} format has the precisions {', '.join(form.precisions)}. Received: precision={precision!r}"
        )


@contextlib.contextmanager
def extra_of(form: Format) -> Iterator[None]:
    """Turn a missing package, imported in the block, into one sentence with the command that installs it."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"The {form.name} format needs more packages: pip install 'kreid[{form.name}]'. Received: {error}"
        ) from error


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which reports every import and conversion to its makers unless refused."""
    with extra_of(FORMATS["openvino"]):
        if "openvino" not in sys.modules:
            sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino
    return openvino


@contextlib.contextmanager
def quantization_warnings_dropped() -> Iterator[None]:
    """Drop Keras's warning of each layer that it leaves as it is, such as every convolution."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Layer .* does not have a `quantize` method", UserWarning)
        yield
