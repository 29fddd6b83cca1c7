"""AlexNet in one column."""

from typing import Any

from kreid.backbones.parts import ConvolutionUnit, Pool


class AlexNet:
    """The convolutions of Krizhevsky (2014), one column without response normalisation; a stage ends at each pooling.

    The third stage, of two convolutions, has no pooling: the published network has three poolings of 3x3 with stride 2.
    """

    width = 64
    preprocessing = "torch"
    smallest = 63
    stem_strides = (4,)
    stage_names = ("conv1", "conv2", "conv3_4", "conv5")

    def published(self, width: int) -> None:
        """Return nothing: Keras has no weights."""

    def stage(self, index: int, width: int, last_stride: int, stem_stride: int, branches: int, policy: Any) -> tuple:
        """Return the blocks of a stage; it has no stem and no pooling before them, and no statistics of branches."""

        def unit(number, filters, *arguments):
            return ConvolutionUnit(filters, *arguments, number=number, dtype=policy)

        blocks = (
            lambda: [unit(1, width, 11, 4, 2), Pool(dtype=policy, name="pool1")],
            lambda: [unit(2, 3 * width, 5), Pool(dtype=policy, name="pool2")],
            lambda: [unit(3, 6 * width, 3), unit(4, 4 * width, 3)],
            lambda: [
                unit(5, 4 * width, 3),
                Pool(stride=last_stride, padding="valid" if last_stride == 2 else "same", dtype=policy, name="pool5"),
            ],
        )
        return blocks[index](), None, False
