from .arrays import distance_matrix as distance_matrix
from .tensors import (
    at_least_float32 as at_least_float32,
    pairwise_cosine as pairwise_cosine,
    pairwise_dot as pairwise_dot,
    pairwise_euclidean as pairwise_euclidean,
    pairwise_squared_euclidean as pairwise_squared_euclidean,
    safe_sqrt as safe_sqrt,
)
