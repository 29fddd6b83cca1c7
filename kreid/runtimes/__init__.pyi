from .exported_model import ExportedModel as ExportedModel, load_export as load_export
from .exporting import export as export
from .formats import FORMATS as FORMATS, Format as Format
