"""A scan of one's own onto the model's grid and back: alignment.py to the template, smooth_change.py back again."""

from harmony_lite.methods.own_grid.smooth_change import (
    harmonize_on_own_grid,
    is_model_grid,
    local_line,
    model_grid,
    on_model_grid,
)

__all__ = ["harmonize_on_own_grid", "is_model_grid", "local_line", "model_grid", "on_model_grid"]
