# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · BlindHarmony: the prior
#
# **You will be able to** compute the density of an image with a flow, write its coupling and its spline by hand, count its bits per pixel, and say what such a likelihood prefers, and why that is not what one hopes for.
#
# **From the paper:** BlindHarmony, sections 3.2 and 4.2 with Equations 5 to 8, Figures 1 and 2; supplement 2.1 with its Figure 1.
#
# **Before:** notebooks 00 to 02.
# **Measured:** 23 seconds and 0.9 GB on one processor core.
#
# All people and scans are **simulated**.
# Expectations are written down before the numbers; where the two disagree, the number stays.

# %% tags=["colab"]
# Only on Colab, where the package has to be fetched; anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/harmony-lite/harmony-lite@main")  # noqa: F821

# %% tags=["setup"]
import io
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from nflows.transforms import ActNorm, OneByOneConvolution, SqueezeTransform
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn import functional

import harmony_lite as hl
from harmony_lite import weights
from harmony_lite.evaluate.statistics import bootstrap_interval
from harmony_lite.exercises import check, hint  # noqa: F401
from harmony_lite.images import normalize
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.images.slices import axial_slices
from harmony_lite.nets.flows import SplineCoupling, spline_flow
from harmony_lite.nets.spline import rational_quadratic_spline
from harmony_lite.papers.blindharmony.prior import (
    SIZES,
    Encoding,
    FlowSettings,
    bits_per_dimension,
    new_flow,
    train_prior,
)
from harmony_lite.profiles import active, sized
from harmony_lite.show import COLOURS, curves, dots, show, strip
from harmony_lite.splits import people

profile = active()
print(f"profile {profile.name}: {profile.spacing} mm voxels; harmony_lite {hl.__version__}, torch {torch.__version__}")

# %% [markdown]
# ## 1. Why a density at all
#
# **Question.** Most learned methods are shown the source *and* the target. What can be learned from the target alone?
#
# **Idea.** Not a map, since a map needs two ends, but a *prior*: a density that says how plausible a slice is as a target slice.
# Any source slice, from a scanner nobody has seen, can then be moved towards plausible ones.
#
# The paper's Figure 1 is the first half of this sentence, its Figure 2 the second.
# Both are redrawn here with our own slices and, on the right, with the prior that comes with the package.

# %%
scanners = ["oasis_trio", "oasis_vision", "oasis_sonata"]
training, _, test = people(scanners)
test = test.subset(range(8))  # each is simulated four times over; eight people are enough here
mask = test.mask
PER_PERSON = 4  # axial slices of each held-out person
_, positions = axial_slices(mask.float(), PER_PERSON, mask=mask)
inside = axial_slices(mask, PER_PERSON, positions=positions)[0] > 0  # (people * 4, 1, H, W)


def slices_of(scans):
    """Slices of the held-out people, each scaled to [0, 1] by its own minimum and maximum (section 4.1)."""
    return normalize.slice_minmax(axial_slices(scans * mask, PER_PERSON, positions=positions)[0])


scanned = slices_of(test.scans("trio"))
others = {name: slices_of(test.scans(name)) for name in ("vision", "sonata")}
flow = hl.load_method("blindharmony").flow  # trained on Trio slices of the training people
with torch.no_grad():
    latent, _ = flow.encode(Encoding().encode(scanned[2:3]))

# %%
figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.5), layout="constrained", width_ratios=(1.15, 1))


def picture(axis, image, x, y, text, size=1.9, **limits):
    axis.imshow(image.T, origin="lower", cmap="gray", extent=(x, x + size, y, y + size), **limits)
    axis.text(x + size / 2, y - 0.12, text, ha="center", va="top", fontsize=7.5)


def arrow(axis, start, end, text="", at=None, **style):
    axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "linewidth": 1.6} | style)
    if text:
        axis.text(*at, text, ha="center", va="center", fontsize=7.5)


trio, vision, sonata = (v[2, 0].numpy() for v in (scanned, others["vision"], others["sonata"]))
for y, title in ((4.4, "conventional"), (0.6, "blind")):
    axes[0].text(0, y + 2.15, title, fontsize=9, weight="bold")
    axes[0].axvline(6.3, color="grey", linestyle=":")
    is_blind = title == "blind"
    if not is_blind:
        picture(axes[0], vision, 0, y, "source", vmax=1)
    picture(axes[0], trio, 2.2, y, "target", vmax=1)
    arrow(axes[0], (4.2, y + 0.9), (5.0, y + 0.9))
    axes[0].text(5.6, y + 0.9, "prior" if is_blind else "map", ha="center", va="center", fontsize=9,
                 bbox={"boxstyle": "round", "facecolor": "#DDEEFF" if is_blind else "#FFE8DD"})  # fmt: skip
    picture(axes[0], sonata, 6.6, y, "another scanner", vmax=1)
    answer = ("no training needed", COLOURS[2]) if is_blind else ("never seen: ?", COLOURS[1])
    axes[0].text(8.75, y + 0.9, answer[0], color=answer[1], va="center", fontsize=9)
axes[0].text(3.1, 7.15, "training", ha="center", fontsize=8, color="grey")
axes[0].text(8.4, 7.15, "use", ha="center", fontsize=8, color="grey")
axes[0].set(xlim=(-0.1, 11.2), ylim=(-0.2, 7.5), title="After Figure 1: who is shown what")
height, width = scanned.shape[2] // 2, scanned.shape[3] // 2
picture(axes[1], trio, 0.2, 2.2, "image x", size=3, vmax=1)
picture(
    axes[1], latent[0, : height * width].reshape(height, width), 6.4, 2.2, "latent z = f(x), a part", 3, vmin=-3, vmax=3
)
arrow(axes[1], (3.4, 4.3), (6.2, 4.3), "flow $f$", (4.8, 4.65))
arrow(axes[1], (6.2, 3.1), (3.4, 3.1), "exact inverse $f^{-1}$", (4.8, 2.75))
arrow(axes[1], (1.7, 1.0), (1.7, 1.7), "pulled towards\nthe source's pattern", (1.7, 0.45), color=COLOURS[1])
arrow(axes[1], (7.9, 1.0), (7.9, 1.7), "pulled towards the centre\nof a Gaussian", (7.9, 0.45), color=COLOURS[0])
axes[1].set(xlim=(-0.4, 10.0), ylim=(-0.2, 6.4), title="After Figure 2: image and latent")
for axis in axes:
    axis.set_aspect("equal")
    axis.axis("off")
alt = "Left: a conventional map learns from source and target slices, a blind prior from target slices alone. "
alt += "Right: a flow carries an image to noise and back; the image is pulled to the source, the noise to its centre."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** This notebook is about $f$; the two pulls are notebook 11's.
# The prior has three jobs: give a density, be exactly invertible, and be trained without a source.
#
# ## 2. Change of variables on a line
#
# **Question.** How can a function turn a Gaussian into any density we like?
#
# **Idea.** Where $f$ is steep, a small piece of $x$ takes up a large piece of $z$, and so a lot of probability.
#
# $$p_X(x) = p_Z\bigl(f(x)\bigr)\left|\det\frac{\partial f(x)}{\partial x}\right| \tag{5}$$
#
# On a line the determinant is the derivative.
# Our $f$ is steep at two places, as if for two tissues.


# %%
def f(x):
    return 0.5 * x + 0.8 * torch.tanh(4 * (x - 1)) + 0.8 * torch.tanh(4 * (x + 1))


x = torch.linspace(-15, 15, 7501, dtype=torch.float64, requires_grad=True)
z = f(x)
(slope,) = torch.autograd.grad(z.sum(), x)
x, z = x.detach(), z.detach()
by_formula = 4 * (1 / torch.cosh(4 * (x - 1)) ** 2 + 1 / torch.cosh(4 * (x + 1)) ** 2) * 0.8 + 0.5
assert torch.allclose(slope, by_formula)
gaussian = (-0.5 * z**2).exp() / math.sqrt(2 * math.pi)  # p_Z(f(x))
density = gaussian * slope  # Equation 5

noise = np.random.default_rng(0).normal(size=200_000)
drawn = np.interp(noise, z, x)  # the inverse of f, read off the table: samples of X
counts, edges = np.histogram(drawn, bins=80, range=(-2, 2))
counted = counts / len(drawn) / np.diff(edges)
area = torch.trapezoid(density, x).item(), torch.trapezoid(gaussian, x).item()
assert abs(area[0] - 1) < 1e-6 and np.abs(counted - np.interp((edges[1:] + edges[:-1]) / 2, x, density)).max() < 0.05

figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.9), layout="constrained")
axes[0].plot(x, z, color=COLOURS[0], linewidth=2)
for level in (-1.5, -0.8, 0.8, 1.5):
    place = np.interp(level, z, x)
    axes[0].plot([-2, place, place], [level, level, -2.5], color="grey", linewidth=0.8, linestyle=":")
axes[0].set(xlim=(-2, 2), ylim=(-2.5, 2.5), xlabel="x", ylabel="z = f(x)", title="f: steep twice")
axes[1].stairs(counted, edges, fill=True, color="#CCCCCC", label="drawn: Gaussian through the inverse")
axes[1].plot(x, density, color=COLOURS[0], linewidth=1.8, label="Equation 5")
axes[1].plot(x, gaussian, "--", color=COLOURS[1], linewidth=1.5, label="without the derivative")
axes[1].set(xlim=(-2, 2), ylim=(0, 1.25), xlabel="x", ylabel="density", title="two peaks from one Gaussian")
axes[1].legend(frameon=False, fontsize=7, loc="upper center")
for axis in axes:
    axis.spines[["top", "right"]].set_visible(False)
alt = "A rising curve with two steep places, and a density with two peaks there that follows the histogram of samples."
show(figure, alt=alt)
print(f"area under Equation 5: {area[0]:.3f}; without the derivative: {area[1]:.2f}")

# %% [markdown]
# **What to notice.** The peaks of $p_X$ are where $f$ is steep, not where $z$ is 0.
# Remember that for section 8: the centre of the Gaussian, $z=0$, is here a *valley* between two peaks.
#
# ### Exercise 10.1 · The log-density of a transformed Gaussian (8 minutes)
#
# Write the logarithm of Equation 5 on a line, for any differentiable $f$, with autograd.


# %% tags=["exercise", "exercise-10.1"]
def log_density(x, f):
    """Log of p_X at each of the places x (n,), where f(X) is a standard normal; f maps tensors (n,) to (n,)."""
    raise NotImplementedError("your turn")


check("10.1", log_density)
# hint("10.1", 1)  # take the first # away for a hint; there are three


# %% tags=["solution", "exercise-10.1"]
def log_density(x, f):
    """Log of p_X at each of the places x (n,), where f(X) is a standard normal; f maps tensors (n,) to (n,)."""
    x = x.clone().requires_grad_()
    z = f(x)
    (slope,) = torch.autograd.grad(z.sum(), x)
    return -0.5 * (z**2 + math.log(2 * math.pi)) + slope.abs().log()


assert check("10.1", log_density).passed

# %% [markdown]
# ## 3. Coupling: half of the values move
#
# **Question.** A slice has thousands of pixels. Who can invert a network of them, and who can pay for the determinant?
#
# **Idea.** Move one half of the values, and let a network that sees only the *other* half say how.
#
# $$z_a = x_a\, e^{s(x_b)} + t(x_b), \qquad z_b = x_b, \qquad \log\left|\det\frac{\partial z}{\partial x}\right| = \sum_i s_i(x_b)$$
#
# The network for $s$ and $t$ is never inverted; $x_b$ is still there to ask it again.
# The Jacobian is triangular, so its determinant is the product of the diagonal.

# %%
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 8)).double()


def couple(x):
    """The affine coupling above: (B, 8) to (B, 8) and the log-determinant (B,)."""
    changed, kept = x.chunk(2, -1)
    log_scale, shift = network(kept).chunk(2, -1)
    return torch.cat([changed * log_scale.exp() + shift, kept], -1), log_scale.sum(-1)


vector = torch.randn(1, 8, dtype=torch.float64)
affine = jacobian(lambda v: couple(v)[0][0], vector)[:, 0]  # (8, 8), by autograd
assert torch.allclose(torch.linalg.slogdet(affine).logabsdet, couple(vector)[1])

one_step = spline_flow((1, 12, 12), levels=1, steps=1, hidden=8, blocks=1).double().eval()
coupling = next(part for part in one_step.modules() if isinstance(part, SplineCoupling))
block = torch.randn(1, 4, 6, 6, dtype=torch.float64)  # four channels of 6 x 6 pixels
spline = jacobian(lambda v: coupling(v)[0].flatten(), block).reshape(144, 144)
assert torch.allclose(torch.linalg.slogdet(spline).logabsdet, coupling(block)[1])

figure, axes = plt.subplots(1, 2, figsize=(6.6, 3.2), layout="constrained")
for axis, matrix, title in zip(
    axes, (affine, spline), ("8 values, by hand", "4 x 6 x 6 values, the package's"), strict=True
):
    axis.imshow(matrix.detach() != 0, cmap="Blues", vmax=1.4)
    half = len(matrix) / 2 - 0.5
    axis.axhline(half, color="grey", linewidth=0.8)
    axis.axvline(half, color="grey", linewidth=0.8)
    ticks = [half / 2, 1.5 * half + 0.25]
    axis.set(xticks=ticks, yticks=ticks, xticklabels=["moved", "kept"], yticklabels=["moved", "kept"], title=title)
    axis.set(xlabel="input", ylabel="output")
alt = "Two matrices, blue where not zero: a diagonal above left, an identity below right, below left nothing, above right filled."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** Above the diagonal anything may stand, below it nothing: the determinant never sees the network's own derivative.
# On the right the network is a single block of two convolutions, so a moved pixel listens to pixels near it: hence the stripes.
# The kept half has not moved; the next step mixes the channels and moves others.
#
# ### Exercise 10.2 · An affine coupling backwards (8 minutes)


# %% tags=["exercise", "exercise-10.2"]
def uncouple(z, net):
    """x (B, D), and the log-determinant of the way back (B,); net(kept) gives log-scale and shift, (B, D / 2) each."""
    raise NotImplementedError("your turn")


check("10.2", uncouple)


# %% tags=["solution", "exercise-10.2"]
def uncouple(z, net):
    """x (B, D), and the log-determinant of the way back (B,); net(kept) gives log-scale and shift, (B, D / 2) each."""
    changed, kept = z.chunk(2, -1)
    log_scale, shift = net(kept)
    return torch.cat([(changed - shift) * (-log_scale).exp(), kept], -1), -log_scale.sum(-1)


assert check("10.2", uncouple).passed

# %% [markdown]
# ## 4. The rational-quadratic spline
#
# **Question.** Scale and shift draw straight lines only. What monotone curve can bend and is still inverted in closed form?
#
# **Idea.** Let the network place $K+1$ knots and their slopes; between two knots the curve is a fraction of two parabolas.
#
# $$y = y_0 + \frac{(y_1-y_0)\,\bigl[s\,t^2 + d_0\,t(1-t)\bigr]}{s + (d_0 + d_1 - 2s)\,t(1-t)}, \qquad t = \frac{x-x_0}{x_1-x_0},\quad s = \frac{y_1-y_0}{x_1-x_0}$$
#
# This is the neural spline flow that section 4.2 names.
# Outside $[-B, B]$ the curve is the identity; BlindHarmony takes $K=8$ and $B=3$.


# %%
def spline_by_hand(x, widths, heights, slopes, bound=3.0):
    """One curve through x (n,): widths and heights (K,), slopes (K - 1,), any values. Outputs, log-derivatives."""

    def knots(free):  # a softmax makes shares of the interval, none below a thousandth; their sums are the knots
        shares = 1e-3 + (1 - 1e-3 * len(free)) * free.softmax(0)
        return bound * (2 * functional.pad(shares.cumsum(0), (1, 0)) - 1)

    x_knots, y_knots = knots(widths), knots(heights)
    d = functional.pad(functional.softplus(slopes) + 1e-3, (1, 1), value=1.0)  # slope 1 at both ends
    k = (torch.searchsorted(x_knots, x, right=True) - 1).clamp(0, len(widths) - 1)  # which piece
    x0, width, y0, height = x_knots[k], x_knots.diff()[k], y_knots[k], y_knots.diff()[k]
    s, t = height / width, (x - x0) / width
    below = s + (d[k] + d[k + 1] - 2 * s) * t * (1 - t)
    y = y0 + height * (s * t**2 + d[k] * t * (1 - t)) / below
    slope = s**2 * (d[k + 1] * t**2 + 2 * s * t * (1 - t) + d[k] * (1 - t) ** 2) / below**2
    is_inside = x.abs() < bound
    return torch.where(is_inside, y, x), torch.where(is_inside, slope, torch.ones_like(x)).log()


K = 8
draw = torch.Generator().manual_seed(5)
widths, heights, slopes = (0.6 * torch.randn(n, generator=draw).double() for n in (K, K, K - 1))
x = torch.linspace(-4, 4, 801, dtype=torch.float64)
y, log_slope = spline_by_hand(x, widths, heights, slopes)


def for_all(values):
    """The numbers of one curve, as the package wants them for every pixel of an image of len(x) x 1."""
    return values.reshape(1, 1, -1, 1, 1).expand(1, 1, -1, len(x), 1)


shapes = [for_all(values) for values in (widths, heights, slopes)]
packaged, packaged_log = rational_quadratic_spline(x.reshape(1, 1, -1, 1), *shapes)
back, _ = rational_quadratic_spline(packaged, *shapes, inverse=True)
assert torch.allclose(packaged.flatten(), y) and torch.allclose(packaged_log.flatten(), log_slope)
assert torch.allclose(back.flatten(), x, atol=1e-6)

at = 6 * functional.pad((1e-3 + (1 - 1e-3 * K) * widths.softmax(0)).cumsum(0), (1, 0)) - 3  # the knots on the x axis
figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.2), layout="constrained")
axes[0].plot(x, y, color=COLOURS[0], linewidth=2, label="forwards")
axes[0].plot(y, x, "--", color=COLOURS[1], linewidth=1.5, label="backwards")
axes[0].plot(at, np.interp(at, x, y), "o", color="black", markersize=5, label="knots")
axes[0].plot(x, x, color="grey", linewidth=0.8, linestyle=":")
axes[0].set(xlabel="in", ylabel="out", title="the curve, K = 8 pieces", aspect="equal")
axes[0].legend(frameon=False, fontsize=8)
axes[1].plot(x, log_slope.exp(), color=COLOURS[0], linewidth=1.8)
axes[1].plot(at, np.interp(at, x, log_slope.exp()), "o", color="black", markersize=5)
axes[1].set(xlabel="in", ylabel="derivative", title="positive and continuous", ylim=(0, None))
for axis in axes:
    axis.spines[["top", "right"]].set_visible(False)
alt = "A rising curve through nine knots and its mirror image, the inverse; its derivative, positive, one at the ends."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** Every value that moves gets a curve of its own: $3K-1=23$ numbers from the network for each pixel.
# The derivative is continuous at the knots, its own derivative is not.
# Values beyond $B=3$ pass untouched, so a rare pixel does no harm.
#
# ### Exercise 10.3 · One piece of the spline backwards (12 minutes)
#
# Given $y$ on the piece between two knots, find $x$.
# Mind the straight piece: there the quadratic has no quadratic term.


# %% tags=["exercise", "exercise-10.3"]
def piece_backwards(y, x0, x1, y0, y1, d0, d1):
    """x (n,) for y (n,) on the piece from knot (x0, y0) with slope d0 to knot (x1, y1) with slope d1."""
    raise NotImplementedError("your turn")


check("10.3", piece_backwards)


# %% tags=["solution", "exercise-10.3"]
def piece_backwards(y, x0, x1, y0, y1, d0, d1):
    """x (n,) for y (n,) on the piece from knot (x0, y0) with slope d0 to knot (x1, y1) with slope d1."""
    s, rise, height = (y1 - y0) / (x1 - x0), y - y0, y1 - y0
    bent = rise * (d0 + d1 - 2 * s)
    a, b, c = height * (s - d0) + bent, height * d0 - bent, -s * rise
    t = 2 * c / (-b - (b**2 - 4 * a * c).clamp_min(0).sqrt())  # the root in [0, 1], without dividing by a
    return x0 + (x1 - x0) * t


assert check("10.3", piece_backwards).passed

# %% [markdown]
# ## 5. From pixels to levels
#
# **Question.** A coupling needs channels to split, and a slice has one. Where do they come from?
#
# **Idea.** Fold each 2 x 2 block of pixels into four channels (*squeeze*).
# After the steps of a level, half of the channels are done and go to the latent vector; the other half is folded again.
#
# A step is ActNorm, a 1x1 convolution and a spline coupling.
# The first two are linear maps of the channels, the same at all $H \times W$ places, so their log-determinants are one line each:
#
# $$\log|\det| = HW \sum_c \log|a_c| \;\text{ for } a_c x + b_c, \qquad \log|\det| = HW\,\log|\det W| \;\text{ for } Wx.$$

# %%
folded, _ = SqueezeTransform()(scanned[2:3])
h, w = folded.shape[2:]
norm, mix = ActNorm(4), OneByOneConvolution(4)
with torch.no_grad():
    scaled, log_det = norm.train()(folded)  # its first batch sets mean 0 and deviation 1
    assert torch.allclose(log_det, h * w * norm.scale.abs().log().sum())
    mixed, log_det = mix(scaled)
    impulses = torch.eye(4).reshape(4, 4, 1, 1)
    matrix = (mix(impulses)[0] - mix(torch.zeros(1, 4, 1, 1))[0])[:, :, 0, 0].T
    assert torch.allclose(log_det, h * w * torch.linalg.slogdet(matrix).logabsdet, atol=1e-3)

names = [f"channel {c + 1}" for c in range(4)]
quarters = dict(zip(names, folded[0].numpy(), strict=True))
alt = "Four copies of one brain slice, each of half the size and almost the same."
show(strip(quarters, size=1.5, title="One simulated slice, squeezed: every second pixel of every second row"), alt=alt)

# %% [markdown]
# **What to notice.** The four are nearly the same picture, so two of them predict the other two well: this is what a coupling lives on.
#
# ### Exercise 10.4 · Squeeze, and back (8 minutes)
#
# Channels are ordered by input channel, then the parity of the row (axis 2), then that of the column (axis 3).


# %% tags=["exercise", "exercise-10.4"]
def fold(values, back=False):
    """(B, C, H, W) to (B, 4C, H/2, W/2); with back, (B, 4C, H/2, W/2) to (B, C, H, W)."""
    raise NotImplementedError("your turn")


check("10.4", fold)


# %% tags=["solution", "exercise-10.4"]
def fold(values, back=False):
    """(B, C, H, W) to (B, 4C, H/2, W/2); with back, (B, 4C, H/2, W/2) to (B, C, H, W)."""
    B, C, H, W = values.shape
    if back:
        return values.reshape(B, C // 4, 2, 2, H, W).permute(0, 1, 4, 2, 5, 3).reshape(B, C // 4, 2 * H, 2 * W)
    return values.reshape(B, C, H // 2, 2, W // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(B, 4 * C, H // 2, W // 2)


assert check("10.4", fold).passed

# %% [markdown]
# ### The whole flow, checked
#
# All together: is the log-determinant that of the Jacobian, and does the way back lead back?
# On 8 x 8 pixels autograd can still write the Jacobian down.
# The package also takes three short cuts for speed, so we hold it against plain nflows, with the same parameters.

# %% tags=["nbval-check-output"]
options = {"levels": 2, "steps": 2, "hidden": 8}
tiny = spline_flow((1, 8, 8), **options).double()
tiny.train().log_prob(torch.rand(16, 1, 8, 8, dtype=torch.float64, generator=draw) - 0.5)  # sets ActNorm
with torch.no_grad():
    for parameter in tiny.parameters():  # away from the identity that it starts near
        parameter += 0.05 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
tiny.eval()
image = torch.rand(1, 1, 8, 8, dtype=torch.float64, generator=draw) - 0.5
by_autograd = torch.linalg.slogdet(jacobian(lambda v: tiny.encode(v)[0], image).reshape(64, 64)).logabsdet
there, log_det = tiny.encode(image)
assert abs(by_autograd - log_det).item() < 1e-9
assert (tiny.decode(there)[0] - image).abs().max() < 1e-9

plain = spline_flow((1, 8, 8), **options, plain=True).double().eval()
plain.load_state_dict(tiny.state_dict())
assert torch.allclose(plain.encode(image)[0], there) and torch.allclose(plain.log_prob(image), tiny.log_prob(image))
for mixing in ("released", "paper"):
    full = spline_flow((1, 144, 176), levels=4, steps=7, hidden=96, mixing=mixing)
    print(f"BlindHarmony's own size, {mixing}: {sum(p.numel() for p in full.parameters()):,} parameters")
del full

# %% [markdown]
# > **Paper says / code does.** Section 4.2 prints a 1x1 convolution on *both* sides of every coupling.
# > The public code has one before each, and one more at the end of a level; its printed parameter count is the first of the two numbers above.
# > The width of the networks, 96, is not printed; it is the one that gives that count.
# > *Effect:* 8,520 parameters, 0.06 %, and nothing else: between two couplings stand only affine maps of the channels, and several in a row are one affine map.
#
# ### Which latent holds what
#
# **Question.** What does the flow keep on which level?
#
# **Expected.** The first level leaves out the fine detail and the last one keeps the coarse: outline, tissues, ventricles.
#
# To see it, take the latent vector of a scanned slice and set parts of it to zero.

# %%
levels, shape, counts = sized(SIZES).levels, list(scanned.shape[1:]), []
for level in range(1, levels + 1):
    shape = [4 * shape[0], shape[1] // 2, shape[2] // 2]
    if level < levels:
        shape[0] //= 2  # the other half goes on
    counts.append(math.prod(shape))
assert sum(counts) == scanned[0].numel()
print("latents per level:", ", ".join(f"{n:,}" for n in counts))

encoding = Encoding()  # 256 grey levels from -1/2 to 1/2: section 6
generator = torch.Generator().manual_seed(0)
uniform = torch.rand(scanned.shape, generator=generator)


def decoded(latents):
    with torch.no_grad():
        return encoding.decode(flow.decode(latents)[0])[:, 0]


with torch.no_grad():
    latents, _ = flow.encode(encoding.encode(scanned[1:3], uniform[1:3]))
first, *middle, last = latents.split(counts, 1)
ways = {
    "all latents": latents,
    "first level 0": torch.cat([0 * first, *middle, last], 1),
    "all but last 0": torch.cat([0 * first, *(0 * part for part in middle), last], 1),
    "last level redrawn": torch.cat([first, *middle, torch.randn(last.shape, generator=generator)], 1),
    "last level 0": torch.cat([first, *middle, 0 * last], 1),
}
with_levels = {name: decoded(z) for name, z in ways.items()}
assert (with_levels["all latents"] - scanned[1:3, 0]).abs().max() < 0.01
pictures = {name if row == 0 else name + " ": v[row].numpy() for row in range(2) for name, v in with_levels.items()}
alt = "Two slices. Without the first level grey and white matter blur; with the last level alone a smooth blob in the "
alt += (
    "brain's outline is left; with another last level the same tissues stand in another outline; with the last level "
)
alt += "at zero the brain is smaller and darker."
show(
    strip(pictures, columns=len(ways), size=1.45, title="Simulated slices, decoded from a part of their latents"),
    alt=alt,
)

# %% [markdown]
# **What to notice.** The outline does sit in the last level: draw that level anew, and the same tissues stand in another outline.
# Grey and white matter do not sit there: without the *first* level most of their contrast is gone.
# To this prior the tissues are detail.
# And with the last level at zero the brain gets small and dark; section 8 comes back to that.
#
# ## 6. From Equation 5 to bits per pixel
#
# **Question.** What is trained, and what does a value such as "2 bits per pixel" mean?
#
# **Idea.** Raise the mean log-density of the training slices.
#
# $$\mathcal{L}(\theta; x) = E_{X\sim p_{data}}\bigl[\log p_X(X|\theta)\bigr] \tag{6}$$
# $$\approx \frac1N\sum_{i=1}^N \log p_X\bigl(x^{(i)}|\theta\bigr) \tag{7}$$
# $$= \frac1N\sum_{i=1}^N\left[\log p_Z\bigl(f_\theta(x^{(i)})\bigr) + \log\left|\det\frac{\partial f_\theta(x^{(i)})}{\partial x}\right|\right] \tag{8}$$
#
# There is a trap.
# Grey levels are discrete, and a density may grow without bound on single points.
# So each level is spread over its width with uniform noise, and density times width is the probability of a level (Theis and colleagues).
# With $2^b$ levels on an interval of length 1, and $D$ pixels,
#
# $$\text{bits per pixel} = -\frac{\log p_X(x)}{D\,\log 2} + b .$$
#
# **Expected.** For the same slices, 12 bits of depth cost 4 bits per pixel more than 8: each level is 16 times narrower, and the density hardly changes within one.


# %%
def terms(images):
    """Equation 8 term by term: log p_Z and log|det|, (N,) each, for slices (N, 1, H, W) in [0, 1]."""
    noise = uniform[: len(images)]  # the same noise for every kind of image, so that differences are fair
    parts = []
    for image, u in zip(images.split(32), noise.split(32), strict=True):
        with torch.no_grad():
            z, log_det = flow.encode(encoding.encode(image, u))
        parts.append(torch.stack([-0.5 * (z.square() + math.log(2 * math.pi)).sum(1), log_det]))
    return torch.cat(parts, 1)


def bits(images):
    """Bits per pixel by hand, (N,)."""
    return -terms(images).sum(0) / (math.log(2) * images[0].numel()) + encoding.bits


held_out = bits(scanned)
some = slice(0, 16)
with torch.no_grad():
    package = bits_per_dimension(flow, scanned[some], encoding, uniform[some])
    deep = Encoding(bits=12)
    deeper = bits_per_dimension(flow, scanned[some], deep, uniform[some])
    spread = torch.where(
        inside[some], deep.encode(scanned[some], uniform[some]), encoding.encode(scanned[some], uniform[some])
    )
    brain_only = -flow.log_prob(spread) / (math.log(2) * scanned[0].numel()) + deep.bits
assert torch.allclose(package, held_out[some], atol=1e-3)
print(f"held-out slices: {held_out.mean():.2f} bits per pixel; at 12 bits {(deeper - package).mean():+.2f}")
print(f"12 bits with the background spread as before: {(brain_only - package).mean():+.2f}")
share = inside.float().mean((1, 2, 3))
per_brain_pixel = (held_out.sum() / share.sum()).item()
print(f"all bits divided by the brain's pixels: {per_brain_pixel:.1f}")
agreement = np.corrcoef(share, held_out)[0, 1]

figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.8), layout="constrained")
coarse = (scanned[2, 0][inside[2, 0]] * 15).floor()
counted = torch.bincount(coarse.long(), minlength=16) / len(coarse)
axes[0].stem(np.arange(16) / 16 - 0.5, counted, markerfmt=" ", basefmt=" ", linefmt=COLOURS[1], label="grey levels")
axes[0].stairs(counted, np.arange(17) / 16 - 0.5, fill=True, color=COLOURS[5], alpha=0.5, label="with noise")
axes[0].set(xlabel="as the flow sees it", ylabel="share of brain pixels", title="spikes become steps (16 levels)")
axes[0].legend(frameon=False, fontsize=8)
axes[1].plot(100 * share, held_out, "o", color=COLOURS[0], markersize=4, alpha=0.6)
axes[1].set(xlabel="brain in the slice (% of pixels)", ylabel="bits per pixel", ylim=(0, None))
axes[1].set_title("held-out slices (simulated)")
for axis in axes:
    axis.spines[["top", "right"]].set_visible(False)
alt = "Left: thin spikes of grey levels inside wide steps. Right: bits per pixel on a straight line with the share of brain."
show(figure, alt=alt)
assert abs((brain_only - package).mean() - 4) < 0.1 and agreement > 0.95

# %% [markdown]
# **What to notice.** The difference is more than the expected 4 bits, and the second line says why.
# At 12 bits the black background sits on the lowest of 4,096 levels, at the very edge of what this prior was trained on, where its density falls off.
# Spread it over its old width, and 4.00 is left.
# So a printed number means nothing without its depth.
# And the mean is mostly a measure of *how much brain* a slice has: the black background is almost free.
# So never compare bits of two slices with different amounts of brain; compare a slice with an altered copy of itself, as section 9 does.
#
# > **Paper says / code does.** The paper prints no bit depth. The public code takes 12 bits and fills the levels 0 to 4080 from 255 grey values; ours are 8, as is common.
# > *Effect:* those 4.5 bits per pixel on one and the same prior. A flow *trained* at 12 bits may do better in the exactly black background, which needs no bits at any depth.
#
# ### Exercise 10.5 · Bits per pixel (6 minutes)


# %% tags=["exercise", "exercise-10.5"]
def bits_per_pixel(log_density, bits, pixels):
    """(B,) from natural log-densities (B,) of images of so many pixels and 2**bits grey levels on a length of 1."""
    raise NotImplementedError("your turn")


check("10.5", bits_per_pixel)


# %% tags=["solution", "exercise-10.5"]
def bits_per_pixel(log_density, bits, pixels):
    """(B,) from natural log-densities (B,) of images of so many pixels and 2**bits grey levels on a length of 1."""
    return -log_density / (math.log(2) * pixels) + bits


assert check("10.5", bits_per_pixel).passed

# %% [markdown]
# ## 7. Training
#
# **Question.** How fast does a flow learn?
#
# **Idea.** Maximize Equation 8 by gradient ascent: Adam, learning rate 0.0005, annealed to zero along a cosine, as printed.
#
# Live we train a *small* flow for seconds: four people, pixels twice as large.
#
# **Expected.** The loss starts near 8 bits, the cost of storing a pixel uncompressed, and has fallen by two or more at the end.

# %%
seen = training.subset(range(4))
small, _ = axial_slices(seen.scans("trio") * seen.mask, profile.slices, mask=seen.mask)
small, small_held_out = (
    normalize.slice_minmax(functional.avg_pool2d(v, 2)) for v in (small, scanned[: 4 * PER_PERSON])
)
settings = FlowSettings(levels=3, steps=2, hidden=16, batch=8, training_steps=80)
torch.manual_seed(0)
live = new_flow(settings, small.shape[2:])
history = train_prior(live, small, small_held_out, settings, torch.Generator().manual_seed(0), None, False)

smooth = np.convolve(history.losses, np.ones(8) / 8, "valid")
steps_seen, values = zip(*history.validations, strict=True)
figure = curves(np.arange(8, len(history.losses) + 1), {"training": smooth}, xlabel="step", ylabel="bits per pixel")
axis = figure.axes[0]
axis.plot(steps_seen, values, "o", color=COLOURS[1], markersize=4)
axis.annotate(
    "people held out", (steps_seen[3], values[3]), xytext=(6, 10), textcoords="offset points", color=COLOURS[1]
)
axis.axhline(8, color="grey", linestyle=":")
axis.text(2, 8.06, "uncompressed", color="grey", fontsize=8)
axis.set(title="A small flow, live (simulated slices)", xlim=(0, 1.12 * len(history.losses)))
show(figure, alt="Bits per pixel fall from eight within 80 steps, for training slices and for people held out alike.")
assert history.losses[0] > 7 and values[-1] < values[0] - 1

# %% [markdown]
# From here on we use the prior that comes with the package, trained in the same way for longer.
# Every shipped file has a card that says how it was made.

# %%
_, card = weights.load(weights.shipped("blindharmony", "ours", profile.name))
printed = FlowSettings()  # its defaults are the paper's; where the paper is silent, the released code's, or ours
rows = {
    name: {"paper": getattr(printed, name), "shipped": card.settings[name]}
    for name in ("levels", "steps", "hidden", "bits", "learning_rate", "training_steps", "batch", "mixing")
}
first_steps = card.fingerprint
print(f"{card.minutes:.0f} minutes; bits per pixel {first_steps:.2f} at the start, {held_out.mean():.2f} held out now")
print(
    f"had it converged? {card.converged}; the last points of its validation curve: {card.curves['prior']['points'][-4:]}"
)
assert held_out.mean() < first_steps - 4
pd.DataFrame(rows).T

# %% [markdown]
# **What to notice.** Six bits of eight are saved, most of them in the background.
# Ours has the paper's four levels, but fewer and narrower steps and a hundredth of its training, and it was still improving when its training ended.
# So what follows are facts about *this* prior.
#
# > **Paper says / code does.** 20,000 steps are printed; the public script and the later paper have 10,000.
# > The slice counts of supplement 2.1 are whole sessions of 50 slices, of which exactly 1 % are kept for validation: split slice by slice, by all appearances, so one person's neighbouring slices stand on both sides.
# > We keep whole people. *Effect:* the gap that such a split cannot see is the one between people trained on and people held out; here it is measured.

# %%
known = training.subset(range(min(len(training), len(test))))
slices, where = axial_slices(known.scans("trio") * known.mask, PER_PERSON, mask=known.mask)
brain = axial_slices(known.mask, PER_PERSON, positions=where)[0].float().mean((1, 2, 3))


def by_person(values):
    return values.reshape(-1, PER_PERSON).mean(1).numpy()


cost = {
    "trained on": by_person(bits(normalize.slice_minmax(slices))) / by_person(brain),
    "held out": by_person(held_out) / by_person(share),
}
gap = cost["held out"].mean() - cost["trained on"].mean()
spread = math.sqrt(sum(np.var(v, ddof=1) / len(v) for v in cost.values()))
print(f"bits per brain pixel, held out minus trained on: {gap:+.3f}, standard error {spread:.3f}")

# %% [markdown]
# **What to notice.** The gap is smaller than its error: this small flow has not learned its people by heart.
# With fourteen million parameters one would have to look again.
#
# ## 8. Samples
#
# **Question.** What does the prior think that a target slice looks like?
# (A *scanned* slice below comes from a simulated scanner, a *sample* from the prior.)
#
# **Idea.** Draw $z$ from a Gaussian with deviation $T$, the *temperature*, and decode it: supplement Figure 1.
#
# **Expected.** Tissue-like texture at $T=1$, without exact anatomy, as the prior is small; plainer and cleaner heads at 0.7 and 0.5; and for $z=0$, the centre, a blurred average brain.

# %%
z = torch.randn(4, scanned[0].numel(), generator=torch.Generator().manual_seed(1))
cool = {"z = 0": 0 * z[2:3], "T = 0.5": 0.5 * z[2:3], "T = 0.7": 0.7 * z[2:3], "T = 0.9": 0.9 * z[2:3]}
rows = {name: decoded(v)[0].numpy() for name, v in cool.items()}
rows |= {f"T = 1, draw {i + 1}": v.numpy() for i, v in enumerate(decoded(z))}
rows |= {f"scan {i + 1}": scanned[i + 4, 0].numpy() for i in range(4)}
alt = "Top: a small smooth grey blob at z = 0, then blobs that get larger and grainier with the temperature. "
alt += "Middle: grainy, bright blobs of a brain's size. Bottom: scanned slices."
show(strip(rows, columns=4, size=1.5, title="Samples of the prior above simulated scans"), alt=alt)


def grain(image):
    """Mean step between neighbouring pixels where the picture is not black."""
    bright = image > 0.1
    return float(np.abs(np.diff(image, axis=0))[bright[1:] & bright[:-1]].mean())


print("grain:", ", ".join(f"{name} {grain(rows[name]):.3f}" for name in (*cool, "T = 1, draw 3", "scan 3")))
grains = [grain(rows[name]) for name in (*cool, "T = 1, draw 3")]
assert grains == sorted(grains) and rows["z = 0"].max() < 0.7

# %% [markdown]
# **What to notice.** Nothing here is a brain, and the paper's supplement shows images that are.
# At $T=1$ we see bright, grainy blobs of a brain's size on black: the right grey levels, the right background, a left and a right half at most.
# Cooler pictures are plainer, as expected.
# But $z=0$ is no average brain: it is small, and it has one grey.
#
# **Why so small and so grey?** Ask the likelihood itself: how many bits does that picture cost, how many a black slice, and how far from the centre do scanned slices lie?
# Then shrink the latents of a *scanned* slice step by step.

# %%
with torch.no_grad():
    z_real, _ = flow.encode(encoding.encode(scanned[1:3], uniform[1:3]))
radius = (z_real.square().mean(1)).sqrt()
centre = torch.from_numpy(rows["z = 0"])[None, None]
black, around = bits(torch.zeros_like(scanned[:4])).mean(), bits(centre).item()
with torch.no_grad():
    log_density = flow.log_prob(encoding.encode(centre)).item()  # without noise: at these very values
exactly = encoding.bits - log_density / (math.log(2) * centre.numel())
print(f"bits per pixel: black slice {black:.2f}, scanned ones {held_out.mean():.2f}")
print(f"z = 0: {exactly:.2f} at its very values, {around:.2f} with noise, as for the others")
print(f"|z| / sqrt(D) of two scanned slices: {radius.numpy().round(2)}")
factors = (1, 0.95, 0.9, 0.8, 0.7)
shrunk = {t: decoded(t * z_real) for t in factors}
pictures = {f"{t} z" + " " * row: v[row].numpy() for row in range(2) for t, v in shrunk.items()}
alt = (
    "Two slices whose latents are shrunk: the rim of the brain frays a little, and grey and white matter become alike."
)
show(strip(pictures, columns=len(factors), size=1.5, title="A scanned slice's latents, shrunk (simulated)"), alt=alt)
left = {t: ((v > 0.1).sum() / (shrunk[1] > 0.1).sum()).item() for t, v in shrunk.items()}
contrast = {t: v[shrunk[0.7] > 0.1].std().item() for t, v in shrunk.items()}  # where something is left throughout
print("pixels above 0.1 that are left:", ", ".join(f"{t}: {v:.0%}" for t, v in left.items()))
print("standard deviation of what is left:", ", ".join(f"{t}: {v:.3f}" for t, v in contrast.items()))
assert black < held_out.min() and exactly < held_out.mean() - 1 < held_out.mean() + 1 < around
assert left[0.7] < left[0.9] < 1 and contrast[0.7] < 0.9 * contrast[1]

# %% [markdown]
# **What to notice.** A black slice is the most probable of all these, by far, though no training slice is black: background is the one thing that all slices share.
# The grey blob of $z=0$ is probable too, but only exactly where it is: half a grey level beside it the density has collapsed, so that as a picture of grey levels it costs more than a scan.
# Real slices are some in a vast number of others, each less probable, together certain.
# They lie on a shell, $|z| \approx \sqrt{D}$, and the centre of the shell is no typical slice, as in section 2.
# So "closer to the centre" does not mean "more like the target": shrinking takes contrast and some of the rim.
# BlindHarmony's loop shrinks $z$ at every iteration, by a tiny 0.001; notebook 11 asks what that does.
#
# ## 9. What the likelihood prefers
#
# **Question.** Does a prior of the target prefer the target?
#
# **Idea.** Alter held-out target slices and compare each copy with its original, bit for bit; people are the unit.
#
# **Expected.** (a) Flattened (contrast halved about the brain's mean) and blurred slices cost *fewer* bits than scanned ones, noisy ones more: what is predictable is cheap.
# (b) The target's own look is cheaper than the other scanners' and the four intensity maps', since it is all that the prior has ever seen.
# (c) A rescan on the same scanner costs the same.

# %%
mean = (scanned * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True)
noise = 0.02 * torch.randn(scanned.shape, generator=generator)
altered = {
    "rescan": slices_of(test.scans("trio", repeat=1)),
    "flattened": (mean + 0.5 * (scanned - mean)) * inside,
    "blurred": torch.from_numpy(gaussian_filter(scanned.numpy(), (0, 0, 0.7, 0.7))) * inside,
    "noisy": ((scanned + noise) * inside).clamp(0, 1),
    "Vision": others["vision"],
    "Sonata": others["sonata"],
} | {f"map {name}": normalize.slice_minmax(curve(scanned)) for name, curve in MAPS.items()}
both = {name: terms(images) for name, images in ({"scan": scanned} | altered).items()}  # Equation 8's two terms
unit = math.log(2) * scanned[0].numel()
extra = {name: by_person(-(both[name] - both["scan"]).sum(0) / unit) for name in altered}

pictures = {
    f"{name}\n{bits(v[2:3])[0]:.2f} bits": v[2, 0].numpy() for name, v in list(({"scan": scanned} | altered).items())
}
chosen = {k: v for k, v in pictures.items() if k.split("\n")[0] in ("scan", "flattened", "blurred", "noisy", "Vision")}
show(
    strip(chosen, size=1.6),
    alt="One slice as it is, flattened, blurred, noisy, and on the Vision, with their bits per pixel.",
)
figure = dots(
    extra, xlabel="bits per pixel more than the same person's scanned slices", title="Held-out simulated people"
)
figure.axes[0].axvline(0, color="grey", linestyle=":")
figure.axes[0].legend(frameon=False, fontsize=8, loc="upper right")
alt = (
    "Flattened, blurred, Vision, log and gamma 0.7 left of zero; noise, Sonata, exp and gamma 1.5 right; rescan on it."
)
show(figure, alt=alt)

# %%
table = {}
for name, values in extra.items():
    interval = bootstrap_interval(values.tolist(), generator=generator)
    log_pz, log_det = (by_person(-(a - b) / unit).mean() for a, b in zip(both[name], both["scan"], strict=True))
    table[name] = {
        "bits": f"{interval.mean:+.3f}", "95 % interval": f"{interval.low:+.3f} to {interval.high:+.3f}",
        "of it |z|²": f"{log_pz:+.3f}", "of it determinant": f"{log_det:+.3f}",
        "people": f"{int((values > 0).sum())} of {len(values)} cost more",
    }  # fmt: skip
assert extra["flattened"].max() < 0 and extra["blurred"].max() < 0 and extra["noisy"].min() > 0
assert abs(extra["rescan"].mean()) < 0.03
pd.DataFrame(table).T

# %% [markdown]
# **What to notice.** (a) and (c) hold.
# (b) fails: the Sonata, exp and gamma 1.5 cost more, as hoped, but the Vision, log and gamma 0.7 cost *less* than the target itself, the Vision for every person.
# To this prior, a washed-out foreign scan is a more plausible target slice than a target slice.
#
# **Why?** A density per pixel pays for what can be predicted from the neighbours.
# So it rewards two things at once: looking like the target, and being *simple*.
# Can they be parted? A file of the slice in a general format, PNG, costs bits too, and PNG has never seen an MRI.
# Take its bits as the price of being complicated and subtract them (Serrà and colleagues).
#
# **Expected.** What is left puts the target first: every other scanner and map costs more.


# %%
def png_bits(images):
    """Bits per pixel of each slice as a PNG file with 256 grey levels."""
    found = []
    for image in images:
        file = io.BytesIO()
        levels = (image[0].clamp(0, 1) * 255).floor().byte().numpy()
        Image.fromarray(levels).save(file, "png", optimize=True)
        found.append(8 * len(file.getvalue()) / image.numel())
    return torch.tensor(found)


complicated = {name: by_person(png_bits(v)) - by_person(png_bits(scanned)) for name, v in altered.items()}
beyond = {name: extra[name] - complicated[name] for name in altered}
figure = dots(beyond, xlabel="extra bits per pixel of the flow minus those of PNG", title="Held-out simulated people")
figure.axes[0].axvline(0, color="grey", linestyle=":")
figure.axes[0].set_xlim(right=0.32)
figure.axes[0].legend(frameon=False, fontsize=8, loc="upper right")
show(figure, alt="After subtracting PNG's bits, both scanners and all maps lie right of zero; only blurred lies left.")
for name, values in beyond.items():
    print(f"{name:12s} {values.mean():+.3f}, {int((values > 0).sum())} of {len(values)} people cost more")
domains = [name for name in altered if name.startswith("map") or name in ("Vision", "Sonata")]
assert all(bootstrap_interval(beyond[name].tolist(), generator=generator).low > 0 for name in domains)

# %% [markdown]
# **What to notice.** Now (b) holds, for both scanners and all four maps: the prior *does* know the target's contrast.
# That knowledge is worth a tenth of a bit per pixel or less, and simplicity hides it.
# Only the blurred slices stay cheaper: PNG does not pay enough for losing the scanner's noise, which the flow can never predict.
#
# **What it means for BlindHarmony.** Its Equation 4 adds $-\alpha\log p_X(x)$ to a distance from the source.
# By itself this term pulls towards flat and soft images; only the distance holds against it.
# The table parts it into its two terms: for flattened and blurred slices they pull the same way, half and half.
# For the maps they do not: $|z|^2$ alone, on average, ranks the target before all four, and the determinant is what makes log and gamma 0.7 cheap.
# So it matters that section 5.1 leaves the determinant out.
# What remains is $|z|^2$ alone, which still prefers the Vision, and whose smallest value is section 8's grey blob.
#
# ## What to take away
#
# - A flow gives an exact density: a Gaussian's, times the determinant (Equation 5).
# - Couplings make it cheap: the network inside is never inverted, and the Jacobian is triangular.
# - Bits per pixel need their bit depth, and the amount of brain, beside them.
# - The most probable image is not a typical one. Of ours it is the black one.
# - Likelihood prefers simple images to right ones; compare with a general compressor before you believe it.
#
# **Traps.**
# Batch normalization inside the networks makes training and evaluation two different densities: invert in `eval()` only.
# Dequantization noise belongs to the likelihood; the way back must not round down what the way there has not added.
# Uneven sizes: height and width have to divide by $2^{levels}$.
# A falling loss may be the background learned, and nothing else.

# %% [markdown] tags=["instructor"]
# ## For the instructor
#
# 75 minutes with exercises, 35 without; section 9 is worth a discussion of its own.
# Let people write down their guess for $z=0$ before section 8: almost everybody draws an average brain.
# Three expectations fail and were left standing: the tissues sit in the first level, not in the last (section 5); the centre of the latent space is no average brain (section 8); the target is not the likeliest domain (section 9).
# Sections 8 and 9 follow their failures with an ablation each.
# Frequent slips: 10.1 forgets the absolute value; 10.2 undoes scale before shift; 10.3 divides by $a$; 10.4 has the parities the wrong way round; 10.5 forgets that the logarithm is natural.
# Question for the end: with a prior trained for weeks, as in the paper, which of these findings would you expect to go away, and which not?

# %% [markdown]
# ## References
#
# - Jeong, Byun, Kang and Lee, *BlindHarmony: "Blind" harmonization for MR images via flow model*, ICCV 2023.
# - Durkan, Bekasov, Murray and Papamakarios, *Neural spline flows*, NeurIPS 2019.
# - Kingma and Dhariwal, *Glow: generative flow with invertible 1x1 convolutions*, NeurIPS 2018.
# - Dinh, Sohl-Dickstein and Bengio, *Density estimation using Real NVP*, ICLR 2017.
# - Theis, van den Oord and Bethge, *A note on the evaluation of generative models*, ICLR 2016.
# - Nalisnick and colleagues, *Do deep generative models know what they don't know?*, ICLR 2019.
# - Serrà and colleagues, *Input complexity and out-of-distribution detection with likelihood-based generative models*, ICLR 2020.
