from .tree import SyntheticConfig as SyntheticConfig, render_mars as render_mars, visible_shares as visible_shares
