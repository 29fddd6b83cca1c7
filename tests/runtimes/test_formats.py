import pytest

from kreid.runtimes.formats import FORMATS, TOLERANCES, check_precision, checked_format, extra_of


def test_every_format_has_float32_and_known_precisions():
    assert set(FORMATS) == {"keras", "onnx", "litert", "openvino"}
    for name, form in FORMATS.items():
        assert form.name == name and form.precisions[0] == "float32" and set(form.precisions) <= set(TOLERANCES)
        for precision in form.precisions:
            check_precision(checked_format(name), precision)


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match=r"The formats are keras, .*SavedModel. Received: format='onx'"):
        checked_format("onx")
    with pytest.raises(ValueError, match=r"keras format has the precisions float32, int8. Received: precision='int4'"):
        check_precision(FORMATS["keras"], "int4")


def test_a_missing_package_is_one_sentence():
    with (
        pytest.raises(
            ImportError, match=r"onnx format .*: pip install 'kreid\[onnx\]'. Received: No module named 'no_"
        ),
        extra_of(FORMATS["onnx"]),
    ):
        import no_such_package  # noqa: F401
