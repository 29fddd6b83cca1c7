import numpy as np
import pytest

from kreid.evaluation import Reranking


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"k1": 0}, "`k1` is an integer from 1. Received: k1=0"),
        ({"k1": 2.5}, "Received: k1=2.5"),
        ({"k2": 0}, "Received: k2=0"),
        ({"lambda_": 1.1}, "between 0 and 1. Received: lambda_=1.1"),
        ({"lambda_": np.nan}, "Received: lambda_=nan"),
        ({"power": 0}, "Received: power=0"),
        ({"block": 0}, "Received: block=0"),
    ],
)
def test_options_out_of_range_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        Reranking(**option)
