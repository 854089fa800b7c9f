"""Widgets that play over results which take less than a tenth of a second; no lesson needs one.

A notebook puts the static figure beside it, so that the page without a kernel, the book and a printout say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from harmony_lite.show.figures import COLOURS, png

__all__ = ["choice_slider", "iteration_sliders", "mixing_desk", "scanner_sliders", "swipe", "swipe_picture"]

# name: text, lowest, highest, step; times in seconds, as the protocol has them
_SLIDERS = {
    "tr": ("TR (s)", 1.3, 4.0, 0.05),
    "te": ("TE (s)", 0.001, 0.020, 0.0005),
    "ti": ("TI (s)", 0.3, 2.0, 0.02),
    "flip": ("flip (°)", 2.0, 30.0, 1.0),
}


def scanner_sliders(
    picture: Callable[..., np.ndarray], start: Mapping[str, float], *, window: tuple[float, float] = (0, 1.2)
):
    """Sliders for TR, TE, TI, flip angle and field strength over one slice.

    Args:
        picture: called with `tr`, `te`, `ti` (seconds), `flip` (degrees) and `field` (1.5 or 3); gives an `(H, W)`
            array, or raises `ValueError` for a setting that the sequence cannot have; its message is then shown.
        start: where the five controls begin.
        window: the values that are black and white.

    Returns:
        An ipywidgets box.
    """
    import ipywidgets as widgets

    controls = {
        name: widgets.FloatSlider(
            value=start[name], min=low, max=high, step=step, description=text, readout_format=".4g"
        )
        for name, (text, low, high, step) in _SLIDERS.items()
    }
    controls["field"] = widgets.ToggleButtons(options=[1.5, 3.0], value=start["field"], description="field (T)")

    seen, said = widgets.Image(format="png"), widgets.Label()

    def draw(_change: object = None) -> None:
        try:
            image = picture(**{name: control.value for name, control in controls.items()})
        except ValueError as error:
            said.value = str(error)
            return
        said.value = ""
        seen.value = _picture(image, window)

    return widgets.HBox([widgets.VBox([*_watched(controls.values(), draw), said]), seen])


def iteration_sliders(
    frames: Mapping[str, Mapping[str, Sequence[np.ndarray]]], *, window: tuple[float, float] = (0, 1)
):
    """Buttons for what was varied, a slider over its values and one over the iterations; nothing is computed anew.

    Args:
        frames: name of a setting to its values in order, as texts, and these to the `(H, W)` images on the way, the
            start first; of one number everywhere.
        window: the values that are black and white.

    Returns:
        An ipywidgets box.

    Raises:
        ValueError: no setting, or ways of different lengths.
    """
    import ipywidgets as widgets

    lengths = {len(images) for values in frames.values() for images in values.values()}
    if len(lengths) != 1:
        raise ValueError(f"frames: found ways of {sorted(lengths)} images, wanted one number")
    setting = widgets.ToggleButtons(options=list(frames), description="vary")
    value = widgets.SelectionSlider(options=list(frames[setting.value]), description="value")
    iteration = widgets.IntSlider(value=max(lengths) - 1, min=0, max=max(lengths) - 1, description="iteration")
    seen = widgets.Image(format="png")

    def draw(_change: object = None) -> None:
        image = frames[setting.value][value.value][iteration.value]
        seen.value = _picture(image, window)

    def change_setting(_change: object) -> None:
        value.options = list(frames[setting.value])

    setting.observe(change_setting, names="value")
    return widgets.HBox([widgets.VBox([setting, *_watched([value, iteration], draw)]), seen])


def choice_slider(images: Mapping[str, np.ndarray], *, description: str = "", window: tuple[float, float] = (0, 1)):
    """A slider over images that were made before, each with a name.

    Args:
        images: name to `(H, W)` array, in the slider's order.
        description: what the names are of.
        window: the values that are black and white.

    Returns:
        An ipywidgets box.

    Raises:
        ValueError: no image.
    """
    import ipywidgets as widgets

    if not images:
        raise ValueError("images: found none, wanted at least one to choose")
    slider = widgets.SelectionSlider(options=list(images), description=description)
    seen = widgets.Image(format="png")

    def draw(_change: object = None) -> None:
        seen.value = _picture(images[slider.value], window)

    return widgets.HBox([*_watched([slider], draw), seen])


def mixing_desk(embeddings: np.ndarray, weights: Sequence[float], *, title: str = ""):
    """One slider per embedding for its weight, and the weighted sum; black is 0, white the largest sum at the start.

    Args:
        embeddings: `(L, H, W)`.
        weights: L of them, where the sliders begin; they reach twice the largest, to either side.
        title: above the picture.

    Returns:
        An ipywidgets box.

    Raises:
        ValueError: other numbers of weights than of embeddings, or a sum that is nowhere positive.
    """
    import ipywidgets as widgets

    embeddings, weights = np.asarray(embeddings, dtype=float), np.asarray(weights, dtype=float)
    if embeddings.ndim != 3 or weights.shape != embeddings.shape[:1]:
        found = f"found embeddings of shape {embeddings.shape} and weights of shape {weights.shape}"
        raise ValueError(f"mixing desk: {found}, wanted (L, H, W) and (L,)")
    white = float(np.tensordot(weights, embeddings, 1).max())
    if not white > 0:
        raise ValueError(f"mixing desk: found a sum of at most {white:g}, wanted one with something to see")
    reach = 2 * float(np.abs(weights).max())
    sliders = [
        widgets.FloatSlider(value=w, min=-reach, max=reach, step=reach / 200, description=f"γ{i}", readout_format=".3f")
        for i, w in enumerate(weights, 1)
    ]
    seen = widgets.Image(format="png")

    def draw(_change: object = None) -> None:
        mixed = np.tensordot([slider.value for slider in sliders], embeddings, 1)
        seen.value = _picture(mixed, (0, white), title)

    return widgets.HBox([widgets.VBox(_watched(sliders, draw)), seen])


def swipe_picture(
    before: np.ndarray, after: np.ndarray, position: float, *, window: tuple[float, float] = (0, 1)
) -> Figure:
    """`before` left of a line at `position` (0..1 of the width), `after` right of it."""
    cut = round(position * before.shape[0])
    figure, axis = plt.subplots(figsize=(3.4, 3.9))
    joined = np.concatenate([before[:cut], after[cut:]])
    axis.imshow(joined.T, origin="lower", cmap="gray", vmin=window[0], vmax=window[1])
    axis.axvline(cut - 0.5, color=COLOURS[4], linewidth=1.5)
    axis.axis("off")
    return figure


def swipe(before: np.ndarray, after: np.ndarray, *, window: tuple[float, float] = (0, 1)):
    """A slider that moves the line between two `(H, W)` images; returns an ipywidgets box."""
    import ipywidgets as widgets

    slider = widgets.FloatSlider(value=0.5, min=0, max=1, step=0.05, description="swipe")

    seen = widgets.Image(format="png")

    def draw(_change: object = None) -> None:
        seen.value = png(swipe_picture(before, after, slider.value, window=window))

    return widgets.VBox([*_watched([slider], draw), seen])


def _picture(image: np.ndarray, window: tuple[float, float], title: str = "") -> bytes:
    """One grey image `(H, W)` as PNG."""
    figure, axis = plt.subplots(figsize=(3.2, 3.6))
    axis.imshow(image.T, origin="lower", cmap="gray", vmin=window[0], vmax=window[1])
    axis.set_title(title, fontsize=9)
    axis.axis("off")
    return png(figure)


def _watched(controls: Iterable, draw: Callable[..., None]) -> list:
    """Draw now and whenever a control moves; returns the controls."""
    controls = list(controls)
    for control in controls:
        control.observe(draw, names="value")
    draw()
    return controls
