from .export import check_export as check_export
from .layers import check_layer as check_layer
from .losses import check_loss as check_loss
from .pipeline import check_pipeline as check_pipeline
