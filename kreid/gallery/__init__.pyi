from .embed import embed_tracklets as embed_tracklets
from .embeddings import (
    TrackletEmbeddings as TrackletEmbeddings,
    embed_to_file as embed_to_file,
    model_digest as model_digest,
)
from .search import Ranked as Ranked, ranked_list as ranked_list
