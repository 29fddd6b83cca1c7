from .answers import (
    Embeddings as Embeddings,
    ModelVersion as ModelVersion,
    Prediction as Prediction,
    SamePerson as SamePerson,
)
from .async_client import AsyncEmbeddingClient as AsyncEmbeddingClient
from .client import EmbeddingClient as EmbeddingClient
from .connection import Retry as Retry, Tls as Tls
from .errors import ServingError as ServingError
from .export import export_model as export_model, read_card as read_card
from .gallery_client import AsyncGalleryClient as AsyncGalleryClient, GalleryClient as GalleryClient
from .gallery_client_core import GalleryCheck as GalleryCheck, GalleryStats as GalleryStats
from .server import EmbeddingServer as EmbeddingServer
from .warmup import read_warmup as read_warmup, write_warmup as write_warmup
