from .compressed_index import IndexReport as IndexReport
from .embed import embed_to_file as embed_to_file, embed_tracklets as embed_tracklets, model_digest as model_digest
from .embeddings import TrackletEmbeddings as TrackletEmbeddings
from .frame_vectors import (
    FrameEmbeddings as FrameEmbeddings,
    embed_frames as embed_frames,
    mean_frame_vector as mean_frame_vector,
)
from .gallery import (
    Added as Added,
    Gallery as Gallery,
    GalleryBusyError as GalleryBusyError,
    GalleryDamagedError as GalleryDamagedError,
    Verification as Verification,
)
from .gallery_model import GalleryModel as GalleryModel
from .lance_gallery import LanceGallery as LanceGallery
from .memory import MemoryGallery as MemoryGallery
from .milvus_gallery import MilvusGallery as MilvusGallery
from .nearest import Match as Match
from .search import Ranked as Ranked, ranked_list as ranked_list
from .where import Where as Where
