"""Figures: alt text in the output, fixed windows, small files; widgets that draw in time and say what is impossible."""

import io
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from harmony_lite import show
from harmony_lite.show.widgets import (
    choice_slider,
    iteration_sliders,
    mixing_desk,
    scanner_sliders,
    swipe,
    swipe_picture,
)

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.random((20, 24))
VOLUME = RANDOM.random((20, 24, 18))

FIGURES = {
    "strip": lambda: show.strip({"a": IMAGE, "b": IMAGE, "c": IMAGE}, columns=2, title="t"),
    "orthogonal": lambda: show.orthogonal({"a": VOLUME, "b": VOLUME}),
    "difference": lambda: show.difference(IMAGE, IMAGE.T.T * 0.9),
    "histograms": lambda: show.histograms({"a": IMAGE, "b": VOLUME}),
    "curves": lambda: show.curves(np.arange(5), {"a": np.arange(5)}, xlabel="x", ylabel="y", mark=2),
    "dots": lambda: show.dots({"a": [1, 2], "b": [2, 3]}, marks={"b": [2.5]}, xlabel="dB"),
    "panels": lambda: show.panels(2, 2)[0],
    "diagram": lambda: show.diagram({"a": (1, 1, "one"), "b": (4, 1, "two")}, [("a", "b", "then")], "t"),
    "table": lambda: show.table(pd.DataFrame({"x": [0.123456]}, index=["row"]), digits=3),
}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("name", FIGURES)
def test_every_function_gives_a_figure_that_can_be_shown(name, monkeypatch):
    shown = {}
    monkeypatch.setattr(
        "IPython.display.display", lambda data, metadata, raw: shown.update(data=data, metadata=metadata)
    )
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    show.show(figure, alt="what it shows")
    assert shown["metadata"]["image/png"]["alt"] == "what it shows"
    picture = Image.open(io.BytesIO(shown["data"]["image/png"]))
    assert picture.width > 60 and len(shown["data"]["image/png"]) < 60_000
    assert not plt.fignum_exists(figure.number)


def test_an_empty_alt_text_is_refused():
    with pytest.raises(ValueError, match="found an empty text"):
        show.show(FIGURES["strip"](), alt="  ")


@pytest.mark.parametrize("draw", [FIGURES["strip"], FIGURES["orthogonal"]])
def test_windows_are_fixed_whatever_the_image_holds(draw):
    drawn = [image for axis in draw().axes for image in axis.get_images()]
    assert drawn and {image.get_clim() for image in drawn} == {(0.0, 1.0)}


def test_a_table_shows_its_digits():
    texts = [cell.get_text().get_text() for cell in FIGURES["table"]().axes[0].tables[0].get_celld().values()]
    assert "0.123" in texts


def size_of(figure):
    return Image.open(io.BytesIO(show.png(figure))).size


def test_panels_and_diagrams_are_sharp_and_older_figures_keep_their_size():
    figure, axes = show.panels(3, size=(6, 2))
    assert axes.shape == (3,) and show.panels(3, 2)[1].shape == (2, 3)
    axes[0].plot([0, 1], label="line")
    axes[0].set(xlabel="x", ylabel="y", title="t", xlim=(0, 1))
    assert not axes[0].legend().get_frame_on()
    axes[0].text(0.5, 0.5, "here")
    figure.canvas.draw()
    texts = [text for axis in axes for text in axis.findobj(plt.Text) if text.get_text()]
    assert min(text.get_fontsize() for text in texts) >= 9
    assert not any(axis.spines[side].get_visible() for axis in axes for side in ("top", "right"))
    assert size_of(figure)[0] == pytest.approx(660, abs=30)
    assert size_of(show.diagram({"a": (1, 1, "one"), "b": (5, 2, "two")}, size=(6, 3)))[0] == pytest.approx(660, abs=40)
    older, axis = plt.subplots(figsize=(6, 2), dpi=72)
    axis.plot([0, 1])
    assert size_of(older)[0] < 420
    assert size_of(FIGURES["dots"]())[0] < 460


def test_an_image_is_turned_upright_in_its_own_window():
    _, axis = show.panels()
    drawn = show.image(axis, IMAGE, (0.2, 0.7), "name")
    assert np.array_equal(drawn.get_array(), IMAGE.T) and drawn.origin == "lower"
    assert drawn.get_clim() == (0.2, 0.7) and axis.get_title() == "name" and len(axis.get_xticks()) == 0


def test_a_label_stands_beside_its_arrow():
    boxes = {"a": (1, 1.5, "a"), "b": show.Box(7, 1.5, "b", colour="red"), "c": (1, 0.3, "c")}
    arrows = [
        ("a", "b", "straight"),
        show.Arrow("a", "b", "left", bend=0.3),
        ("a", "b", "right", -0.3),
        ("c", "a", "up"),
    ]
    figure = show.diagram(boxes, arrows)
    places = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert places["straight"] == pytest.approx((4, 1.5), abs=0.15)
    bow = 0.3 * 6 / 2  # of the curve's middle above or below the straight line
    assert places["left"] == pytest.approx((4, 1.5 + bow), abs=0.2)
    assert places["right"] == pytest.approx((4, 1.5 - bow), abs=0.2)
    assert places["up"] == pytest.approx((1, 0.9), abs=0.15)


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: show.panels(0), "found 0 columns"),
        (lambda: show.panels(size=(0, 1)), "wanted two positive"),
        (lambda: show.image(show.panels()[1], VOLUME), r"wanted \(H, W\)"),
        (lambda: show.image(show.panels()[1], IMAGE, (1, 1)), "rising order"),
        (lambda: show.diagram({}), "found none"),
        (lambda: show.diagram({"a": (9, 1, "a")}), "within"),
        (lambda: show.diagram({"a": (1, 1, "a")}, [("a", "c")]), "found 'a' to 'c'"),
        (lambda: show.diagram({"a": (1, 1, "a")}, fontsize=7), "at least 9"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, said):
    with pytest.raises(ValueError, match=said):
        draw()


def test_swipe_joins_two_images_at_the_line():
    picture = swipe_picture(np.zeros((10, 6)), np.ones((10, 6)), 0.3)
    joined = picture.axes[0].get_images()[0].get_array()
    assert joined[:, :3].max() == 0 and joined[:, 3:].min() == 1


def controls_of(box):
    found = [box] if hasattr(box, "description") and hasattr(box, "value") else []
    return found + [control for child in getattr(box, "children", ()) for control in controls_of(child)]


def picture_of(box):
    return next(part for part in parts_of(box) if type(part).__name__ == "Image")


def parts_of(box):
    return [box] + [part for child in getattr(box, "children", ()) for part in parts_of(child)]


def test_sliders_redraw_and_say_what_is_impossible():
    def picture(tr, te, ti, flip, field):
        if ti > tr:
            raise ValueError("the readout does not fit")
        return np.full((4, 4), flip / 30)

    box = scanner_sliders(picture, {"tr": 1.5, "te": 0.003, "ti": 1.0, "flip": 8.0, "field": 3.0})
    before = picture_of(box).value
    flip = next(c for c in controls_of(box) if "flip" in c.description)
    flip.value = 25.0
    assert picture_of(box).value != before
    kept = picture_of(box).value
    next(c for c in controls_of(box) if c.description.startswith("TI")).value = 1.8
    assert picture_of(box).value == kept
    assert any(getattr(part, "value", None) == "the readout does not fit" for part in parts_of(box))


def test_swipe_moves():
    box = swipe(np.zeros((10, 6)), np.ones((10, 6)))
    before = picture_of(box).value
    began = time.process_time()
    controls_of(box)[0].value = 0.9
    assert picture_of(box).value != before
    assert time.process_time() - began < 2


def test_iterations_play_over_what_was_computed():
    ways = [[np.full((4, 4), level / 9) for level in range(first, first + 3)] for first in (0, 3, 6)]
    box = iteration_sliders({"alpha": {"0": ways[0], "0.1": ways[1]}, "beta1": {"1000": ways[2]}})
    setting, value, iteration = controls_of(box)
    seen = {picture_of(box).value}
    for control, moved in ((value, "0.1"), (iteration, 0), (setting, "beta1"), (iteration, 1)):
        control.value = moved
        seen.add(picture_of(box).value)
    assert len(seen) == 5
    assert (value.value, value.options) == ("1000", ("1000",))


@pytest.mark.parametrize("frames", [{}, {"alpha": {"0": [IMAGE], "1": [IMAGE, IMAGE]}}])
def test_ways_of_different_lengths_are_refused(frames):
    with pytest.raises(ValueError, match="wanted one number"):
        iteration_sliders(frames)


def test_a_slider_chooses_among_images_made_before():
    images = {name: np.full((4, 4), level) for name, level in (("none", 0.1), ("half", 0.5), ("whole", 0.9))}
    box = choice_slider(images, description="style")
    (slider,) = controls_of(box)
    assert slider.value == "none" and tuple(slider.options) == tuple(images)
    seen = {picture_of(box).value}
    for name in ("half", "whole"):
        slider.value = name
        seen.add(picture_of(box).value)
    assert len(seen) == 3
    with pytest.raises(ValueError, match="found none"):
        choice_slider({})


def test_the_mixing_desk_shows_the_sum_that_its_sliders_say():
    embeddings = np.zeros((3, 6, 8))
    embeddings[0, :3], embeddings[1, 3:], embeddings[2] = 1, 1, 0.5
    box = mixing_desk(embeddings, (0.6, 0.4, -0.2), title="sum")
    sliders = controls_of(box)
    assert [slider.value for slider in sliders] == pytest.approx([0.6, 0.4, -0.2], abs=0.006)
    assert {(slider.min, slider.max) for slider in sliders} == {(-1.2, 1.2)}
    began = time.process_time()
    seen = [picture_of(box).value]
    for slider, value in zip(sliders, (-0.6, 0.1, 0.9), strict=True):
        slider.value = value
        seen.append(picture_of(box).value)
    assert len(set(seen)) == 4
    sliders[0].value, sliders[1].value, sliders[2].value = 0.6, 0.4, -0.2
    assert picture_of(box).value == seen[0]  # the window has not moved
    assert time.process_time() - began < 4


@pytest.mark.parametrize(
    ("embeddings", "weights", "said"),
    [(IMAGE[None], (1.0, 2.0), "wanted \\(L, H, W\\)"), (IMAGE, (1.0,), "wanted"), (IMAGE[None], (-1.0,), "to see")],
)
def test_a_mixing_desk_that_cannot_be_is_refused(embeddings, weights, said):
    with pytest.raises(ValueError, match=said):
        mixing_desk(embeddings, weights)
