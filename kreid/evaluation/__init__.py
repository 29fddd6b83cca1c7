"""Evaluation of embeddings: distances in, CMC and mAP out.

The names below are read on first use, so that importing this package imports neither NumPy nor Keras.
"""

from kreid._lazy import attach

_HOMES = {
    "CameraMatrices": "cameras",
    "PROTOCOLS": "retrieval",
    "count_macs": "cost",
    "RetrievalResult": "retrieval",
    "bootstrap_interval": "bootstrap",
    "camera_matrices": "cameras",
    "cluster_diameters": "clusters",
    "evaluate": "retrieval",
    "evaluate_cameras": "cameras",
    "evaluate_embeddings": "retrieval",
    "TrackletEmbeddings": "embeddings",
    "embed_to_file": "embeddings",
    "embed_tracklets": "embed",
    "evaluate_model": "embed",
    "evaluate_test": "retrieval",
    "paired_bootstrap": "bootstrap",
    "queries_dict": "report",
    "RerankingGallery": "rerank",
    "evaluate_reranked": "rerank",
    "rerank_blocks": "rerank",
    "rerank_distances": "rerank",
    "rerank_embeddings": "rerank",
    "results_dict": "report",
    "results_table": "report",
    "sign_flip_test": "bootstrap",
    "spread_over_splits": "splits",
    "PairDistances": "verification",
    "Roc": "verification",
    "VerificationRates": "verification",
    "pair_distances": "verification",
    "roc": "verification",
    "equal_error_rate": "verification",
    "threshold_at": "verification",
    "rates_at": "verification",
    "fit_verification": "verification",
    "OpenSetResult": "identification",
    "identify": "identification",
    "best_and_worst": "rankings",
    "model_digest": "embeddings",
    "most_changed": "rankings",
    "ranked_list": "rankings",
    "explain_tracklet": "explain",
    "write_report": "run_report",
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
