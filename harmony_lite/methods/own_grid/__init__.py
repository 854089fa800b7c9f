"""A scan of one's own onto the model's grid and back: alignment.py to the template, smooth_change.py back again."""

from harmony_lite.methods.own_grid.smooth_change import (
    Placed,
    change_brought_back,
    harmonize_on_own_grid,
    is_model_grid,
    likeness,
    local_line,
    model_grid,
    on_model_grid,
)

__all__ = [
    "Placed",
    "change_brought_back",
    "harmonize_on_own_grid",
    "is_model_grid",
    "likeness",
    "local_line",
    "model_grid",
    "on_model_grid",
]
