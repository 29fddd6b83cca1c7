from .client import EmbeddingClient as EmbeddingClient, ServingError as ServingError
from .export import export_model as export_model, read_card as read_card
from .server import EmbeddingServer as EmbeddingServer
from .warmup import read_warmup as read_warmup, write_warmup as write_warmup
