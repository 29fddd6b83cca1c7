"""The error of a request that does not end in OK."""

from __future__ import annotations

MAX_ERROR_CHARACTERS = 1024


class RequestRefused(Exception):
    """The error of a request that ends in a status other than OK.

    Args:
        code: name of a gRPC status code.
        message: text for the client, truncated at 1024 characters as by TensorFlow Serving.
    """

    def __init__(self, code: str, message: str) -> None:
        if len(message) > MAX_ERROR_CHARACTERS:
            message = message[:MAX_ERROR_CHARACTERS] + "...TRUNCATED"
        super().__init__(message)
        self.code = code
        self.message = message
