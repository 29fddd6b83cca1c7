import keras
import pytest
from runtime_samples import skip_without

import kreid
from kreid.runtimes import export

pytestmark = pytest.mark.usefixtures("eagerly")


class Singular(kreid.models.TrackletModel):
    """A system with an operation that no other runtime has."""

    def aggregate(self, maps, mask):
        vectors = keras.ops.where(keras.ops.expand_dims(mask, 2), keras.ops.mean(maps, axis=(2, 3)), 0.0)
        return keras.ops.svd(keras.ops.matmul(keras.ops.transpose(vectors, (0, 2, 1)), vectors), compute_uv=False)


@pytest.fixture(scope="module")
def model():
    kreid.models.register_system("singular_for_tests")(Singular)
    return Singular(kreid.backbones.build("resnet_tiny", image_size=(32, 32)), 2)


@pytest.mark.parametrize(
    "form", ["onnx", pytest.param("litert", marks=pytest.mark.slow), pytest.param("openvino", marks=pytest.mark.slow)]
)
def test_an_operation_that_the_format_lacks_is_named(model, form, tmp_path):
    skip_without(form)
    with pytest.raises(ValueError, match=rf"^Singular cannot be written as {form}, .*Svd.*Received: format='{form}'$"):
        export(model, tmp_path, form)
    assert list(tmp_path.iterdir()) == []
