# ---
# jupyter:
#   harmony_lite:
#     form: open and folded
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
# # 11 · BlindHarmony: the optimization
#
# **You will be able to**
#
# - write BlindHarmony's loop yourself, in twenty lines;
# - derive its gradient and choose its step size for any image;
# - predict where the loop ends before it runs;
# - say what the flow, the starting image and each hyper-parameter contribute.
#
# **From the paper:** BlindHarmony (Jeong and colleagues, ICCV 2023), sections 3.1, 3.3 and 5.1, Equations 1 to 4 and 9 to 13, Algorithm 1, Figures 1 and 2; its supplement, sections 3 and 4.
#
# **Before:** notebooks 02 and 03; notebook 10 for the flow.
# **Measured:** 55 seconds and 0.6 GB on one processor core.
#
# *Simulated people · expectations stated before results · five exercises, 38 minutes.*
#
# **Your functions run this notebook.**
# Once an exercise passes its check, the cells below use your function.
# Until then they use the package's, and say so.
#
# **Symbols in this notebook:**
#
# | symbol | meaning |
# | --- | --- |
# | $x_s$, $x_h$ | source slice, and its harmonized version |
# | $x$, $x_0$ | the image that the loop changes, and the image it starts from |
# | $f$, $z = f(x)$ | the flow of notebook 10, and the latent vector of $x$ |
# | $\rho$ | normalized cross-correlation (NCC) of $x$ and $x_s$ |
# | $\hat x$, $\hat s$ | $x$ and $x_s$ with their mean subtracted, then divided by their norm |
# | $G$, $M$ | gradient of an image; mask of the source's flat pixels |
# | $\alpha$, $\beta_1$, $\beta_2$ | size of the shrink, weight of NCC, weight of the edges |
# | $c$ | step size without units: $\beta_1 = c\,n_\text{pix}\,\mathrm{var}(x)$ |
# | $n_\text{pix}$ | number of pixels (the paper's $N$ is the number of iterations, 10) |

# %% tags=["colab", "folded"]
# @title Installation, on Colab only
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/harmony-lite/harmony-lite@main")  # noqa: F821

# %% tags=["setup", "folded"]
# @title Imports, and which function an exercise gives to the notebook
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import ListedColormap
from torch.nn import functional

import harmony_lite as hl
from harmony_lite.cohort import Needs
from harmony_lite.evaluate import metrics
from harmony_lite.exercises import check, hint  # noqa: F401
from harmony_lite.lesson import lesson
from harmony_lite.papers import published
from harmony_lite.papers.blindharmony.exercises_11 import ANSWERS
from harmony_lite.papers.blindharmony.optimization import (
    STARTS,
    VARIANTS,
    edge_descent,
    flat_regions,
    ncc_and_gradient,
    optimise,
)
from harmony_lite.papers.blindharmony.prior import Encoding
from harmony_lite.show import COLOURS, diagram, image, panels, show
from harmony_lite.show.widgets import iteration_sliders

BLUE, ORANGE, GREEN, PINK = COLOURS[:4]
GREY = "#777777"
answers = {}  # number of an exercise -> your function, once its check has passed


def mine(id):
    """Your function once its check has passed; until then the package's."""
    state = "passed, your function is used" if id in answers else "not passed yet, the package's function is used"
    print(f"exercise {id}: {state}")
    return answers.get(id, ANSWERS[id])


# %% [markdown]
# ## 1. What "blind" means
#
# **Question.** Can you harmonize scans of a scanner that nobody has seen before?
#
# **Idea.** Train on target scans only; then, given a scan from any other scanner, find the target-like image that correlates best with it.
#
# Figure 1 of the paper shows the training, Figure 2 the search.
# **Look at** the loop in the diagram: steps ① to ④ repeat ten times.

# %% tags=["folded"]
# @title Diagram: the four steps of BlindHarmony's loop
boxes = {
    "flow": (1.45, 2.75, "before, once: target scans\ntrain the flow  f", GREY),
    "start": (1.2, 0.9, "x₀: average of\ntarget slices", GREY),
    "source": (3.9, 2.75, "source slice  xₛ", ORANGE),
    "x": (3.9, 0.9, "image  x", BLUE),
    "z": (7.7, 1.75, "latent vector  z", BLUE),
    "shrink": (7.7, 0.35, "④ shrink to  (1 − α) z", BLUE),
}
arrows = [
    ("start", "x", "start", 0, GREY),
    ("source", "x", "② climb:\nfollow the\nsource", 0, ORANGE),
    ("x", "z", "③ encode with f", 0.15),
    ("z", "shrink", "", 0),
    ("shrink", "x", "① decode with f⁻¹", 0.15),
]
alt = "A loop: the image climbs towards the source, is encoded by the flow, its latent vector is shrunk, and decoded again. It starts at the average target slice. The source enters at the climb only."
show(diagram(boxes, arrows, size=(9.2, 3.2)), alt=alt)

# %% [markdown]
# The source enters at step ② only.
# The flow never sees it during training: that is what "blind" means.
#
# Our target is the Trio.
# Four sources are the Trio's own slices under an intensity map (Exp, Log, Gamma 0.7, Gamma 1.5; section 4.3 of the paper).
# Two are other scanners, the Vision and the Vida.

# %%
people = lesson(["oasis_trio", "oasis_vision", "oasis_vida", "t2_spin_echo"], people=3, slices=2, maps=True)
names = {"exp": "Exp", "log": "Log", "gamma0.7": "Gamma 0.7", "gamma1.5": "Gamma 1.5"}
names |= {"oasis_vision": "Vision", "oasis_vida": "Vida"}
sources = {shown: people.slices[name] for name, shown in names.items()}  # each (6, 1, D, H) in [0, 1]
target, brain = people.slices["oasis_trio"], people.brain

method = hl.load_method("blindharmony")  # its flow was trained on 24 other people
method = method.with_loop(start="at the same height")  # the start of the paper; section 10 says what ours is
assert method.needs is Needs.TARGET_ONLY


def score(images):
    """PSNR in dB of each slice (the one rule of this notebook)."""
    return metrics.psnr(images * brain, target, brain, data_range=1.0)


print(people.about)

# %% [markdown]
# > **One score.**
# > PSNR in decibels against the target slice of the same person, inside the brain, with data range 1.
# > Every source slice is scaled to $[0, 1]$ once, by its own maximum.
# > A result is scored *as it comes out of the loop*, without a second scaling.
# > The *gain* is the score of the result minus the score of the untouched source.
# > A person's value is the mean of that person's two slices.
# >
# > These two slice heights flatter the method.
# > Over 20 heights and 16 people, as in the ledger (the project's table of results), the gain from this start is 1.3 dB on Exp and 0.1 dB on the Vision; here the same loop gains 4.4 and 1.3 dB.
# > Trust the ledger's numbers, which notebook 12 shows, and read this notebook for how the method works.
#
# Gains differ by up to 3 dB between slices, so which slice should the figures show?
# Our rule: the slice whose gain, averaged over the six sources, is nearest to the average over all slices.

# %% tags=["folded"]
# @title The starting images, and the slice that the figures show
flow, encoding = method.flow, Encoding(method.prior.bits)
still = method.with_loop(step=0.0, beta2=0.0, iterations=1, use_flow=False)  # a loop that does nothing gives x0
rows = list(zip(people.scans["oasis_trio"], people.cohort.mask, people.heights, strict=True))
x0 = {way: torch.cat([still.with_loop(start=way).slices(v[0], m[0], h).images for v, m, h in rows]) for way in STARTS}
start = x0["at the same height"]


def run(name, begin=start, pick=slice(None), watch=None, **changes):
    """The package's loop on slices of a source: our settings with some changes."""
    settings, parts = replace(VARIANTS["ours"], **changes), (begin[pick], sources[name][pick], brain[pick])
    with torch.no_grad():
        return optimise(flow, *parts, settings, encoding=encoding, watch=watch).images


harmonized = {name: run(name) for name in sources}
gains = torch.stack([score(harmonized[name]) - score(images) for name, images in sources.items()])  # (6, 6)
typical = (gains.mean(0) - gains.mean()).abs().argmin().item()
occupied = brain[typical, 0].nonzero()
crop = [slice(int(low) - 4, int(high) + 5) for low, high in zip(occupied.amin(0), occupied.amax(0), strict=True)]


def view(images):
    """The shown slice without most of the black around it."""
    return images[typical, 0, *crop]


print("gain of each slice, mean over sources (dB):", gains.mean(0).numpy().round(1), f"| shown: slice {typical}")
figure, axes = panels(5, size=(8.4, 2.5))
looks = {"x₀": start, "Gamma 0.7": sources["Gamma 0.7"], "Vision": sources["Vision"], "Vida": sources["Vida"]}
for axis, (name, images) in zip(axes, looks.items(), strict=False):
    image(axis, view(images * brain), title=f"{name}\n{score(images)[typical]:.1f} dB")
image(axes[4], view(target), title="target (Trio)\n")
figure.suptitle("One simulated person", fontsize=10)
alt = "A blurred average slice; the same person's sharp slice under a map, on two other scanners, and on the target scanner. The Vision is flat and bright; the Vida is close to the target."
show(figure, alt=alt)

# %% [markdown]
# $x_0$ is the average slice of 24 training people at this height.
# It has everybody's outline and nobody's folds.
# The Vida is already close to the Trio: keep an eye on it.
#
# ## 2. What source and target have in common
#
# **Question.** You know nothing about the source scanner. What may you still assume?
#
# **Idea.** Bright stays bright, and edges stay where they are.
#
# $$\mathrm{NCC}(x_h, x_s) \approx 1 \tag{1}$$
#
# $$\lVert M G x_h \rVert_1 \approx 0 \tag{2}$$
#
# $M$ keeps the *flat* pixels: those where the source's gradient is among the smallest 30 %.
# The supplement names T1 against T2 as the case that fails.
#
# **Expected.** Trio against Vida: NCC above 0.9 and an overlap of flat pixels far above the 0.3 of chance.
# Trio against T2: NCC far below 0, and an overlap near chance.


# %%
def overlap(first, second):
    """Dice overlap of the flat pixels of two images; two random masks of 30 % have 0.3."""
    a, b = (flat_regions(images, brain, 0.3) for images in (first, second))
    return (2 * (a & b).sum() / (a.sum() + b.sum())).item()


pairs = {"Vida": sources["Vida"], "Vision": sources["Vision"], "T2 spin echo": people.slices["t2_spin_echo"]}
both = {
    name: [metrics.ncc(images, target, brain).mean().item(), overlap(images, target)] for name, images in pairs.items()
}
agreement = pd.DataFrame(both, index=["NCC with the Trio", "overlap of flat pixels"]).T
assert agreement.loc["Vida"].min() > 0.6 and agreement.loc["T2 spin echo", "NCC with the Trio"] < -0.5
agreement.round(2)

# %% [markdown]
# **Look at** the direction of each cloud: rising or falling?

# %% tags=["folded"]
# @title Pixels of the Trio against the same pixels of three other scanners
figure, axes = panels(3, size=(7.8, 2.9))
for axis, (name, images) in zip(axes, pairs.items(), strict=True):
    inside = brain[typical]
    axis.plot(target[typical][inside][::5], images[typical][inside][::5], ".", color=BLUE, markersize=3, alpha=0.3)
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="Trio", ylabel=name, aspect="equal")
    axis.set_title(f"NCC {agreement.loc[name, 'NCC with the Trio']:.2f}".replace("-", "−"))
figure.suptitle("Pixels of one simulated slice", fontsize=10)
alt = "Three scatter plots. Vida and Vision rise with the Trio, the Vision along a flatter curve. T2 falls."
show(figure, alt=alt)

# %% [markdown]
# The expectations about NCC hold.
# The one about T2's flat pixels fails: they overlap almost as well as those of the T1 scans.
# Edges belong to the anatomy, not to the contrast.
# So only Equation 1 can tell T1 from T2, and it would pull a result towards bright fluid: the wrong way.
#
# ## 3. The distance, and what it does not see
#
# **Question.** How do two assumptions become one problem to solve?
#
# **Idea.** Penalize violations of both assumptions, and let a prior on target images decide what they leave open.
#
# $$D(x_h, x_s) = \beta_1\{1 - \mathrm{NCC}(x_h, x_s)\} + \beta_2\lVert M G x_h\rVert_1 \tag{3}$$
#
# $$\hat x_h = \arg\min_x\; D(x, x_s) - \alpha \log p_X(x) \tag{4}$$
#
# The paper calls $x_h = x_s$ a trivial solution with $D = 0$.
#
# **Expected.** $D(x_s, x_s) = 0$, and every other image has a larger $D$.

# %%
printed = published.load("blindharmony").hyperparameters
alpha, beta1, beta2 = (float(printed[name].value) for name in ("alpha", "beta1", "beta2"))
sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
sobel = torch.stack([sobel, sobel.T])[:, None]  # G: (2, 1, 3, 3), both directions


def distance(images, source):
    edges = functional.conv2d(images, sobel, padding=1) * flat_regions(source, brain, 0.3)  # M G x
    ncc = ncc_and_gradient(images, source, brain)[0].flatten()
    return beta1 * (1 - ncc) + beta2 * edges.abs().sum((1, 2, 3))


vida = sources["Vida"]
candidates = {"source itself": vida, "half its contrast": 0.5 * vida + 0.25, "nearly grey": 0.01 * vida + 0.5}
candidates |= {"target": target, "x₀": start}
distances = {name: distance(images * brain, vida).mean().item() for name, images in candidates.items()}
assert distances["nearly grey"] < distances["source itself"] < distances["target"]

# %% [markdown]
# **Look at** the smallest number: is it under the image you would choose?

# %% tags=["folded"]
# @title Five candidates and their distance to the source
figure, axes = panels(5, size=(8.4, 2.5))
for axis, (name, images) in zip(axes, candidates.items(), strict=True):
    image(axis, view(images * brain), title=f"{name}\nD = {distances[name]:.3g}")
figure.suptitle("Simulated: distance to the Vida slice on the left", fontsize=10)
alt = "Five images with their distance D to the Vida slice: the nearly grey one has the smallest, the average slice by far the largest."
show(figure, alt=alt)

# %% [markdown]
# The expectation fails.
# $D(x_s, x_s)$ is not 0, because the source has some gradient even where it is flat.
# A nearly grey picture comes closest of all.
#
# NCC does not see a gain or an offset.
# But gain and offset are what two scanners differ in first.
# So $D$ leaves the contrast to the prior and to the starting image.
# Remember this for section 9.
#
# ## 4. The gradient of NCC
#
# **Question.** Which way is uphill?
#
# **Idea.** NCC is the cosine of the angle between two centred images; to raise it, turn towards the source.
#
# With $\rho = \hat x\cdot\hat s$ the quotient rule gives
#
# $$\nabla_x\rho = \frac{\hat s - \rho\,\hat x}{\lVert x - \bar x\rVert}.$$
#
# The gradient has mean 0, and it is orthogonal to $\hat x$.
# A small step therefore changes neither the mean of the image nor its contrast, only its pattern.
#
# ### Exercise 11.1 · The gradient, by hand (10 minutes, ★★)
#
# Write the gradient for one slice.
# Pixels outside the brain neither count nor move.


# %% tags=["exercise", "exercise-11.1"]
def ncc_gradient(image, source, inside):
    """Gradient of NCC inside the mask with respect to the image; all three (1, 1, D, H)."""
    raise NotImplementedError("your turn")


if check("11.1", ncc_gradient).passed:
    answers["11.1"] = ncc_gradient
# hint("11.1", 1)  # take the first # away for a hint; there are three


# %% tags=["solution", "exercise-11.1"]
def ncc_gradient(image, source, inside):
    """Gradient of NCC inside the mask with respect to the image; all three (1, 1, D, H)."""
    x, s = ((v - v[inside].mean()) * inside for v in (image, source))
    x_hat, s_hat = x / x.norm(), s / s.norm()
    return (s_hat - (x_hat * s_hat).sum() * x_hat) / x.norm()


assert check("11.1", ncc_gradient).passed
answers["11.1"] = ncc_gradient

# %% [markdown]
# Now compare the gradient with PyTorch's automatic differentiation, and test both properties.

# %% tags=["nbval-check-output"]
uphill = mine("11.1")
x, s, inside = start[:1].double(), vida[:1].double(), brain[:1]
gradient = uphill(x, s, inside)

leaf = x.clone().requires_grad_()
rho = torch.corrcoef(torch.stack([leaf[inside], s[inside]]))[0, 1]  # NCC, written another way
rho.backward()
error = (leaf.grad - gradient).abs().max() / gradient.abs().max()
cosine = (gradient * x)[inside].sum() / (gradient[inside].norm() * x[inside].norm())
print("agrees with autograd:", bool(error < 1e-9))
print("mean 0:", bool(gradient[inside].mean().abs() < 1e-12), "| orthogonal to the image:", bool(cosine.abs() < 1e-9))
assert error < 1e-9 and cosine.abs() < 1e-9

# %% [markdown]
# ## 5. From the prior to a shrink
#
# **Question.** How does replacing $z$ by $(1-\alpha)z$ change $\log p_X(x)$?
#
# **Idea.** The flow splits the log-density into two terms, and the paper keeps the first.
#
# $$\log p_X(x) = \log p_Z(z) + \log\left|\det\frac{\partial f(x)}{\partial x}\right| \tag{9}$$
#
# $$\hat z_h = \arg\min_z D(f^{-1}(z), x_s) - \alpha\log p_Z(z) \tag{10}$$
#
# $$\phantom{\hat z_h} = \arg\min_z D(f^{-1}(z), x_s) + \tfrac{\alpha}{2}\lVert z\rVert^2 \tag{11}$$
#
# One gradient step of length 1 on the last term is
#
# $$z \to (1 - \alpha)\,z. \tag{12}$$
#
# The determinant of Equation 9 is missing from Equation 10 on.
# Section 5.1 of the paper admits this and believes that it does no harm.
#
# **Expected.** If the paper is right, a shrink changes the determinant less than it changes $\log p_Z(z)$.


# %%
@torch.no_grad()
def terms_gained(images):
    """What one shrink adds to log p_Z(z) and to log |det|, in nats per slice."""
    z, log_det = flow.encode(encoding.encode(images.clamp(0, 1)))
    _, minus_log_det = flow.decode((1 - alpha) * z)
    kept = z.square().sum(1) / 2 * (1 - (1 - alpha) ** 2)
    return kept.mean().item(), (-minus_log_det - log_det).mean().item()


first = optimise(None, start, vida, brain, replace(VARIANTS["ours"], iterations=1)).images  # x after one climb
images_of = {"target slices": target, "the loop's first image": first, "the same, rim set to 0": first * brain}
nats = pd.DataFrame({name: terms_gained(v) for name, v in images_of.items()}, index=["kept", "dropped"]).T
seen = nats.loc["the loop's first image"]
assert seen["dropped"] > 100 * seen["kept"] and nats.drop(seen.name).to_numpy().max() < 5
nats.round(1)

# %% [markdown]
# **Look at** the numbers at the bars, in nats, the unit of a natural logarithm: blue is what the paper keeps, orange what it drops.
# The blue bars are almost too short to be seen.

# %% tags=["folded"]
# @title What one shrink adds to the two terms of log p(x)
figure, axis = panels(size=(7.6, 2.6))
for row, name in enumerate(nats.index):
    for shift, term, colour in ((-0.2, "kept", BLUE), (0.2, "dropped", ORANGE)):
        value = nats.loc[name, term]
        axis.barh(row + shift, value, 0.36, color=colour)
        label = {"kept": "log p(z), kept", "dropped": "log |det|, dropped"}[term] if row == 0 else ""
        axis.text(value + 15, row + shift, f"{value:,.1f}   {label}", color=colour, va="center")
axis.set(yticks=range(3), yticklabels=list(nats.index), xlabel="nats gained by one shrink, per slice", xlim=(0, 1700))
axis.invert_yaxis()
alt = "Bars. On the loop's first image the dropped term gains about 1,250 nats and the kept one 4. On target slices and without the rim both gain less than 5."
show(figure, alt=alt)

# %% [markdown]
# On target slices the two terms gain about the same.
# On the loop's first image the expectation fails: the dropped term gains three hundred times as much as the kept one.
# Both terms rise, so Equation 12 does make the image more probable, but not for the reason given.
#
# Why so large?
# $x_0$ has a blurred rim where other people's brains reach beyond this one, and the flow never saw such a rim.
# The last row tests this: with the rim set to 0, nearly all of the 1,250 nats are gone.
#
# > **Slips of print.**
# > Equation 11 lacks the factor $\tfrac12$, which we added.
# > Equation 13 differentiates $\lVert MGx_h\rVert_1$ where it means $x$.
# > Algorithm 1 never says what $z_0$ is; we read $z_0 = f(x_0)$.
# > Section 3.2 writes that a density stays within $[0, 1]$; it need not.
#
# ## 6. Algorithm 1
#
# **Question.** How do climb and shrink work together?
#
# **Idea.** Ten times: decode, climb in the image, encode, shrink.
#
# $$x \to x + \nabla_x\bigl[\beta_1\,\mathrm{NCC}(x, x_s) - \beta_2\lVert MGx\rVert_1\bigr] \tag{13}$$
#
# The algorithm's line 2 makes $x_n$ from $z_{n-1}$; line 3 makes $z_n$ from $x_n$.
# These two lines are yours.
#
# ### Exercise 11.2 · One iteration (8 minutes, ★★)
#
# Write lines 2 and 3 for any invertible `f`.
# `ascent(x)` gives what Equation 13 adds to $x$.
# Return the image and the next latent vector.


# %% tags=["exercise", "exercise-11.2"]
def iteration(z, f, f_inverse, ascent, alpha):
    """One iteration from the latent vector z: the image x and the next z."""
    raise NotImplementedError("your turn")


if check("11.2", iteration).passed:
    answers["11.2"] = iteration


# %% tags=["solution", "exercise-11.2"]
def iteration(z, f, f_inverse, ascent, alpha):
    """One iteration from the latent vector z: the image x and the next z."""
    x = f_inverse(z)
    x = x + ascent(x)
    return x, (1 - alpha) * f(x)


assert check("11.2", iteration).passed
answers["11.2"] = iteration

# %% [markdown]
# Here is the whole method.
# It calls your gradient (11.1) and your iteration (11.2).
# The flow works on grey levels between $-\tfrac12$ and $\tfrac12$; `encoding` goes there and back.

# %% tags=["algorithm"]
uphill, one_iteration = mine("11.1"), mine("11.2")


def f(images):
    """Images (B, 1, D, H) in [0, 1] to latent vectors (B, D x H)."""
    return flow.encode(encoding.encode(images.clamp(0, 1)))[0]


def f_inverse(z):
    """Latent vectors to images in [0, 1]."""
    return encoding.decode(flow.decode(z)[0]).clamp(0, 1)


@torch.no_grad()
def algorithm_1(x0, source, inside, *, alpha=0.001, c=1 / 3, beta2=0.001, iterations=10):
    """BlindHarmony on slices (B, 1, D, H) in [0, 1]: the image after each iteration; the last is the result."""
    flat = flat_regions(source, inside, 0.3)  # M of Equation 2

    def ascent(x):  # what Equation 13 adds to x
        slices = list(zip(x.split(1), source.split(1), inside.split(1), strict=True))
        gradient = torch.cat([uphill(image, s, mask) for image, s, mask in slices])
        variance = torch.stack([image[mask].var(correction=0) for image, _, mask in slices])
        n_pix = inside.sum((1, 2, 3))
        beta1 = c * n_pix * variance  # section 7 says why
        return beta1[:, None, None, None] * gradient + beta2 * edge_descent(x, flat)

    z, images = f(x0), []
    for _ in range(iterations):  # line 1
        x, z = one_iteration(z, f, f_inverse, ascent, alpha)  # lines 2 and 3
        images.append(x.clamp(0, 1))
    return images  # line 5 returns the last, before its shrink


# %% [markdown]
# `edge_descent` is minus the gradient of the edge term, $-G^\top(M\,\mathrm{sign}(Gx))$.
# **Check:** does your loop give what the package gives from a whole scan?

# %%
by_hand = algorithm_1(start[:2], vida[:2], brain[:2])[-1]
packaged = method.slices(people.scans["oasis_vida"][0, 0], people.cohort.mask[0, 0], people.heights[0]).images
difference = (by_hand - packaged).abs().mean().item()
print(f"mean difference between this loop and the package's, in grey levels: {255 * difference:.2f}")
assert 255 * difference < 0.1

# %% [markdown]
# **Expected** (by us): NCC goes to 1, and the result is better than the untouched source for Gamma 0.7 and for both scanners.
#
# **Your prediction.** Replace each `None` before you run on: `True` if you think that BlindHarmony brings this source closer to the target.

# %%
prediction = {"Gamma 0.7": None, "Vision": None, "Vida": None}

# %%
paths = {name: [start, *algorithm_1(start, sources[name], brain)] for name in prediction}
gain = {name: [(score(x) - score(sources[name])).mean().item() for x in path] for name, path in paths.items()}
correlation = {name: [metrics.ncc(x, sources[name], brain).mean().item() for x in path] for name, path in paths.items()}
verdicts = pd.DataFrame({"you expected": prediction, "we expected": True}).fillna("(no prediction)")
verdicts["better than the source"] = {name: values[-1] > 0 for name, values in gain.items()}
verdicts["gain (dB)"] = {name: round(values[-1], 1) for name, values in gain.items()}
assert min(values[-1] for values in correlation.values()) > 0.99
verdicts

# %% [markdown]
# **Look at** when the folds of the person appear.

# %% tags=["folded"]
# @title The image after some iterations
figure, axes = panels(6, size=(8.0, 2.2))
frames = {"x₀": start} | {f"after {n}": paths["Gamma 0.7"][n] for n in (1, 3, 10)}
frames |= {"source (Gamma 0.7)": sources["Gamma 0.7"], "target": target}
for axis, (name, images) in zip(axes, frames.items(), strict=True):
    quality = f"{score(images)[typical]:.1f} dB" if name != "target" else ""
    image(axis, view(images * brain), title=f"{name}\n{quality}")
figure.suptitle("One simulated person, Gamma 0.7", fontsize=10)
alt = "From a blurred average to a sharp slice: the person's folds come in during the first three iterations, at the contrast of the average."
show(figure, alt=alt)

# %% [markdown]
# **Look at** the right panel: where is each line against 0, which means "leave the source alone"?

# %% tags=["folded"]
# @title NCC with the source, and gain over the untouched source, iteration by iteration
figure, axes = panels(2, size=(8.6, 3.0))
for name, colour in zip(paths, (BLUE, GREEN, ORANGE), strict=True):
    axes[0].plot(correlation[name], "o-", color=colour, markersize=3)
    axes[1].plot(gain[name], "o-", color=colour, markersize=3)
    axes[1].text(10.2, gain[name][-1], f"{name}: {gain[name][-1]:+.1f}".replace("-", "−"), color=colour, va="center")
axes[1].axhline(0, color=GREY, linestyle=":")
axes[1].text(5.2, 0.25, "untouched source", color=GREY)
axes[0].text(4, 0.93, "all three sources", color=GREY)
axes[0].set(xlabel="iteration", ylabel="NCC with the source", ylim=(0.5, 1.02))
axes[1].set(xlabel="iteration", ylabel="gain (dB)", xlim=(-0.5, 14.5), xticks=(0, 5, 10))
alt = "NCC rises to 1 within five iterations for all three sources. The gain ends above 0 for Gamma 0.7 and the Vision, and below 0 for the Vida."
show(figure, alt=alt)

# %% [markdown]
# On these six slices the score passes the source for Gamma 0.7 and the Vision.
# For the Vida, which was already close to the Trio, the result is *worse than doing nothing*.
# Sections 7 to 10 find out why.
#
# ## 7. The step size
#
# **Question.** The paper sets $\beta_1 = 1000$. Why?
#
# **Idea.** Split $x$ into a part along the source and a rest $u$ that does not follow it; ask what one step does to $u$.
#
# Of the gradient, only $-\rho\,\hat x/\lVert x-\bar x\rVert$ has a part along $u$.
# So one step multiplies $u$:
#
# $$u \to \Bigl(1 - \frac{\beta_1\,\rho}{n_\text{pix}\,\mathrm{var}(x)}\Bigr)\,u .$$
#
# This factor is the share of $u$ that survives the step.
# Below 0 the step overshoots.
# Below $-1$ it leaves more of $u$ than there was.
# Since $n_\text{pix}$ is in the formula, a fixed $\beta_1$ suits one image size only.
# With $\beta_1 = c\,n_\text{pix}\,\mathrm{var}(x)$ the share becomes $1 - c\rho$ for every size.
#
# ### Exercise 11.3 · A β₁ for any image (8 minutes, ★)
#
# Which $\beta_1$ leaves the share `share` of $u$ after one step?


# %% tags=["exercise", "exercise-11.3"]
def beta1_for(image, source, inside, share):
    """The beta1 with which one step multiplies the part that does not follow the source by `share`."""
    raise NotImplementedError("your turn")


if check("11.3", beta1_for).passed:
    answers["11.3"] = beta1_for


# %% tags=["solution", "exercise-11.3"]
def beta1_for(image, source, inside, share):
    """The beta1 with which one step multiplies the part that does not follow the source by `share`."""
    x, s = (v[inside] - v[inside].mean() for v in (image, source))
    ncc = x @ s / (x.norm() * s.norm())
    return (1 - share) * x @ x / ncc


assert check("11.3", beta1_for).passed
answers["11.3"] = beta1_for

# %% [markdown]
# **Expected.** At the paper's 144 × 173 pixels, $\beta_1 = 1000$ leaves a share between 0 and 1; at a quarter of the side, less than $-1$.
# With a fixed $c$ the share is the same at every size.

# %%
suitable = mine("11.3")
table = {}
for width in (36, 80, 144):
    size = width, round(width * 96 / 80)
    small, source = (functional.interpolate(v, size, mode="bilinear", antialias=True) for v in (start, vida))
    whole = torch.ones_like(small, dtype=torch.bool)  # the whole slice, as the paper has it
    slices = zip(small.split(1), source.split(1), whole.split(1), strict=True)
    row = {"β₁ for 2/3": np.mean([float(suitable(*v, 2 / 3)) for v in slices])}
    for name, step in {"β₁ = 1000": {"beta1": beta1}, "c = 1/3": {"beta1": None, "step": 1 / 3}}.items():
        images, settings = [], replace(VARIANTS["ours"], inside=False, beta2=0.0, **step)
        done = optimise(None, small, source, whole, settings, watch=lambda _, x, images=images: images.append(x))
        row[f"share, {name}"] = done.step_factor[:, 0].mean().item()
        row[f"contrast, {name}"] = (images[-1].flatten(1).std(1) / small.flatten(1).std(1)).mean().item()
    table[f"{size[0]} × {size[1]}"] = row
by_size = pd.DataFrame(table).T
assert by_size["share, β₁ = 1000"].iloc[0] < -1 and 0 < by_size["share, β₁ = 1000"].iloc[-1] < 1
by_size.round(2)

# %% [markdown]
# **Look at** the orange line's way down as the image gets smaller.

# %% tags=["folded"]
# @title What one step leaves, and what ten steps do to the contrast
figure, axes = panels(2, size=(8.6, 3.0))
for name, colour in (("β₁ = 1000", ORANGE), ("c = 1/3", BLUE)):
    for axis, what in zip(axes, ("share", "contrast"), strict=True):
        axis.plot(by_size[f"{what}, {name}"].to_numpy(), "o-", color=colour)
        axis.set(xticks=range(3), xticklabels=list(by_size.index), xlim=(-0.3, 2.4), xlabel="pixels of the same slices")
axes[0].axhspan(-8, 0, color="#EEEEEE")
axes[0].text(1.1, -4, "the step overshoots", color=GREY)
axes[0].text(0.15, by_size["share, β₁ = 1000"].iloc[0], "β₁ = 1000", color=ORANGE, va="center")
axes[0].text(0.1, 1.1, "c = 1/3", color=BLUE)
axes[0].set(ylabel="share that survives one step", ylim=(-8, 2))
axes[1].set(ylabel="contrast, end / start", ylim=(0, None))
axes[1].text(0.15, by_size["contrast, β₁ = 1000"].iloc[0], "β₁ = 1000", color=ORANGE, va="center")
axes[1].text(0.1, 1.15, "c = 1/3", color=BLUE)
alt = "With beta1 = 1000 the share falls far below 0 on small slices and their contrast multiplies. With c = 1/3 both stay level at every size."
show(figure, alt=alt)

# %% [markdown]
# Both expectations hold.
# The $\beta_1$ of exercise 11.3 grows with the number of pixels, from 45 to 748.
# 1000 overshoots on our 80 × 96 slices already, so we use $c = 1/3$.
# At the paper's size, 1000 is about $c = 1/2$ on our slices; on the paper's own slices we cannot know.
#
# With a fixed $\beta_1$, an overshooting loop does not explode: a step that is too long also raises the contrast of $x$, which makes the next step relatively shorter.
# NCC cannot see this damage.
#
# ## 8. The edge term
#
# **Question.** What does $\beta_2$ do?
#
# **Idea.** Count the pixels of $M$ first.
#
# The released code takes the 30th percentile of the gradient over the *whole* slice, and keeps what lies strictly below it.
# But more than 30 % of a skull-stripped slice is background, where the gradient is exactly 0.
#
# ### Exercise 11.4 · Flat, inside the brain (6 minutes, ★)
#
# Mark the flat pixels of the brain: the threshold must not depend on the background.


# %% tags=["exercise", "exercise-11.4"]
def flat_inside(size, inside, quantile):
    """Pixels of the brain whose gradient lies strictly below the quantile of the brain's gradients; (D, H) bool.

    size: absolute gradient in one direction, (D, H); inside: the brain, (D, H) bool.
    """
    raise NotImplementedError("your turn")


if check("11.4", flat_inside).passed:
    answers["11.4"] = flat_inside


# %% tags=["solution", "exercise-11.4"]
def flat_inside(size, inside, quantile):
    """Pixels of the brain whose gradient lies strictly below the quantile of the brain's gradients; (D, H) bool."""
    return (size < torch.quantile(size[inside], quantile)) & inside


assert check("11.4", flat_inside).passed
answers["11.4"] = flat_inside

# %% [markdown]
# **Expected.** Over the whole slice $M$ is empty, so $\beta_2$ changes nothing: in the paper's supplement Table 3, $\beta_2 = 0$ equals the baseline in all six numbers.
# Inside the brain $M$ holds 30 % of the pixels, and $\beta_2 = 0.001$ changes the score by less than 0.1 dB.

# %%
flat = mine("11.4")
sizes = functional.conv2d(vida, sobel, padding=1).abs()  # (6, 2, D, H): both directions
inside_mask = torch.stack(
    [torch.stack([flat(g, m[0], 0.3) for g in both]) for both, m in zip(sizes, brain, strict=True)]
)
whole_mask = flat_regions(vida, None, 0.3)
share = inside_mask.sum() / (2 * brain.sum())
print(f"flat pixels: {int(whole_mask.sum())} over the whole slice; {share:.0%} of the brain inside the brain")
assert torch.equal(inside_mask, flat_regions(vida, brain, 0.3)) and not whole_mask.any()

without = {"use_flow": False, "beta2": 0.0}
effect = {name: (score(run(name, use_flow=False)) - score(run(name, **without))).mean().item() for name in sources}
print("gain from β₂ = 0.001 inside the brain (dB):", {name: round(value, 2) for name, value in effect.items()})
assert max(effect.values()) < 0

# %% [markdown]
# **Look at** the left panel: where does the dashed threshold fall?

# %% tags=["folded"]
# @title Gradients of one slice, and the flat pixels by both rules
figure, axes = panels(3, size=(9.2, 3.0), width_ratios=(1.3, 1, 1))
values = sizes[typical, 0]
bins = np.linspace(0, 2, 41)
axes[0].hist(values.flatten(), bins, color="#BBBBBB")
axes[0].hist(values[brain[typical, 0]], bins, color=BLUE)
limit = torch.quantile(values[brain[typical, 0]], 0.3).item()
background = int((values == 0).sum())
axes[0].axvline(0, color="black", linestyle="--")
axes[0].axvline(limit, color=BLUE, linestyle="--")
axes[0].text(
    0.3,
    420,
    f"grey: {background:,} background\npixels at 0 (bar cut off)\n→ 30th percentile is 0",
    color="black",
    va="center",
)
axes[0].text(limit + 0.05, 290, f"blue: brain\n→ 30th percentile is {limit:.2f}", color=BLUE, va="center")
axes[0].set(xlabel="size of the gradient", ylabel="pixels", ylim=(0, 500))
for axis, mask, title in zip(axes[1:], (whole_mask, inside_mask), ("whole slice", "inside the brain"), strict=True):
    marked = view(mask[:, :1])
    image(axis, view(vida), title=f"M, {title}:\n{int(marked.sum())} flat pixels")
    axis.imshow(np.ma.masked_where(~marked.numpy(), marked).T, origin="lower", cmap=ListedColormap([ORANGE]))
alt = "A histogram of gradients with a large peak at 0, the background: the whole slice's 30th percentile is 0. One brain slice without a marked pixel, one with scattered flat pixels marked in orange."
show(figure, alt=alt)

# %% [markdown]
# The first expectation holds.
# It also explains the paper's six equal numbers: the term was probably never at work.
# The second fails.
# Inside the brain the term *costs* 0.2 to 0.3 dB on the maps and about 0.1 dB on the scanners.
# The subgradient knows signs only: it can move a pixel by $8 \times 0.001$ per direction and iteration (8 is the sum of Sobel's absolute weights), however small the gradient is.
#
# ## 9. Where the ascent ends
#
# **Question.** Can you know the result without running the loop?
#
# **Idea.** Section 4 said that a small step keeps the mean and the contrast of $x$.
# So the ascent ends with the source's *pattern* at the mean and the contrast of the *start*:
#
# $$x_\infty = \bar x_0 + \lVert x_0 - \bar x_0\rVert\;\hat s .$$
#
# ### Exercise 11.5 · The end, without the walk (6 minutes, ★★★)
#
# Compute $x_\infty$ for infinitely small steps.


# %% tags=["exercise", "exercise-11.5"]
def end_of_the_ascent(start, source, inside):
    """The image that the ascent approaches, 0 outside the brain; all (1, 1, D, H)."""
    raise NotImplementedError("your turn")


if check("11.5", end_of_the_ascent).passed:
    answers["11.5"] = end_of_the_ascent


# %% tags=["solution", "exercise-11.5"]
def end_of_the_ascent(start, source, inside):
    """The image that the ascent approaches, 0 outside the brain; all (1, 1, D, H)."""
    x, s = start[inside], source[inside]
    return (x.mean() + x.std() * (source - s.mean()) / s.std()) * inside


assert check("11.5", end_of_the_ascent).passed
answers["11.5"] = end_of_the_ascent

# %% [markdown]
# **Expected.** The prediction is within 0.05 of the loop without flow at 99 % of the pixels.

# %%
the_end = mine("11.5")
predicted, found = {}, {}
for name in ("Gamma 0.7", "Vida"):
    slices = zip(start.split(1), sources[name].split(1), brain.split(1), strict=True)
    predicted[name] = torch.cat([the_end(*one) for one in slices]).clamp(0, 1)
    found[name] = run(name, use_flow=False, beta2=0.0) * brain
    off = (predicted[name] - found[name])[brain].abs().quantile(0.99).item()
    print(f"{name}: 99 % of pixels are within {off:.3f} of the prediction")
    assert off < 0.05
spread = {"target": target, "x₀": start, "x₀, sharp": x0["at full contrast"], "Vida": vida}
spread = {
    name: np.mean([v[m].std().item() for v, m in zip(images, brain, strict=True)]) for name, images in spread.items()
}
print("standard deviation inside the brain:", {name: round(float(value), 3) for name, value in spread.items()})

# %% [markdown]
# **Look at** the third panel: it is the difference of the first two.

# %% tags=["folded"]
# @title Predicted and found, without flow
figure, axes = panels(4, size=(9.2, 2.6))
image(axes[0], view(predicted["Vida"]), title="predicted\n")
image(axes[1], view(found["Vida"]), title="found by the loop\n")
off = view(predicted["Vida"] - found["Vida"])
image(axes[2], off, (-0.2, 0.2), title="predicted − found\n(white: 0)", colours="PuOr_r")
image(axes[3], view(target), title="target\n")
figure.suptitle("One simulated person, Vida", fontsize=10)
alt = "The predicted and the found slice look alike, and their difference is nearly white, which is 0, everywhere; full colour would be 0.2. The target next to them has more contrast."
show(figure, alt=alt)

# %% [markdown]
# The expectation holds.
# Without the flow, ten iterations amount to one gain and one offset of the source, and $x_0$ fixes both.
#
# This explains the Vida.
# $x_0$ is an average of people, and averaging blurs, so its contrast is *below* that of a target slice.
# Every result inherits this contrast.
# For the maps it is still an improvement; for the Vida it is a loss.
#
# The cure to test is a *sharp start*: the same $x_0$, stretched to the mean and the standard deviation of single training slices, averaged over people.
#
# ## 10. What each part buys
#
# **Question.** Flow, edges, step, start: which of them does the work?
#
# **Idea.** Change one part at a time, on the same slices; four rows start from *no flow* and change one thing more; the last one brings the flow back.
#
# | name of the row | what changes |
# | --- | --- |
# | BlindHarmony | nothing |
# | α = 0 | the flow is applied and undone, without a shrink |
# | no flow | neither flow nor shrink; edges as before |
# | no flow, no edges | as *no flow*, and $\beta_2 = 0$ |
# | no flow, long step | as *no flow*, and $c = 0.7$ instead of $1/3$ |
# | no flow, common start | as *no flow*, and $x_0$ averaged over all heights, the literal reading of "the averaged image" |
# | no flow, sharp start | as *no flow*, and the cure of section 9 |
# | sharp start | the cure of section 9, with the flow |
#
# **Expected.**
# (a) BlindHarmony is better than the source on all six sources.
# (b) Without the shrink it loses 0.1 to 0.3 dB, as in the paper's supplement Table 3.
# (c) α = 0 and no flow agree within 0.1 dB.
# (d) A sharp start helps more than any other single change, on every source.

# %%
free = {"use_flow": False}
variations = {
    "α = 0": {"alpha": 0.0},
    "no flow": free,
    "no flow, no edges": free | {"beta2": 0.0},
    "no flow, long step": free | {"step": 0.7},
    "no flow, common start": free | {"begin": x0["of all heights"]},
    "no flow, sharp start": free | {"begin": x0["at full contrast"]},
    "sharp start": {"begin": x0["at full contrast"]},
}
results = {"BlindHarmony": harmonized}
results |= {row: {name: run(name, **changes) for name in sources} for row, changes in variations.items()}


def gain_of(row, name):
    """One gain a person: two slices of a person are not two people."""
    return people.by_person(score(results[row][name]) - score(sources[name]))


table = pd.DataFrame({name: {row: gain_of(row, name).mean().item() for row in results} for name in sources})
table.loc[list(results)].round(2)

# %% [markdown]
# The numbers are gains over the untouched source, in dB.
# **Look at** the dots left of 0 in the figure, and then at the last panel.

# %% tags=["folded"]
# @title Gain over the untouched source, four variants
chosen = ("BlindHarmony", "no flow", "no flow, sharp start", "sharp start")
figure, axes = panels(4, size=(9.6, 3.0), sharex=True, sharey=True)
for axis, row in zip(axes, chosen, strict=True):
    for place, name in enumerate(sources):
        values, mean = gain_of(row, name), table.loc[row, name]
        colour = ORANGE if mean < 0 else BLUE
        axis.plot(values, [place] * len(values), "o", color=colour, alpha=0.4, markersize=5)
        axis.plot([mean, mean], [place - 0.3, place + 0.3], color=colour, linewidth=2.5)
    axis.axvline(0, color=GREY, linestyle=":")
    axis.set(title=row, xlabel="gain (dB)", xlim=(-3, 14))
axes[0].set(yticks=range(len(sources)), yticklabels=list(sources))
axes[0].invert_yaxis()
figure.suptitle("Dots: three simulated people. Bars: their mean. Orange: worse than doing nothing.", fontsize=10)
alt = "Four panels of gains. BlindHarmony and no flow look alike: above 0 on the four maps and the Vision, below 0 on the Vida. With a sharp start, without the flow and with it, the maps gain 10 dB or more and the Vida is above 0."
show(figure, alt=alt)

# %%
cells = {cell.name: cell.value for cell in published.load("blindharmony").table("supplement Table 3").cells}
maps = ("Exp", "Log", "Gamma 0.7")
paper = [
    cells[f"supplement Table 3 | psnr | Baseline | {m}"] - cells[f"supplement Table 3 | psnr | alpha = 0 | {m}"]
    for m in maps
]
here = table.loc["BlindHarmony"] - table.loc["α = 0"]
changes = table.drop(["BlindHarmony", "α = 0", "no flow", "sharp start"]) - table.loc["no flow"]
print("what the shrink gains: paper", np.round(paper, 1), "| here", here.round(2).to_dict())
print("α = 0 and no flow differ by at most", round((table.loc["α = 0"] - table.loc["no flow"]).abs().max(), 2), "dB")
print("largest gain over no flow:", changes.idxmax().to_dict())
assert (changes.idxmax() == "no flow, sharp start").all() and table.loc["BlindHarmony", "Vida"] < 0

# %% [markdown]
# Expectation (b) fails, so ask why: does more shrink help, or does it cost more? And does the start matter?

# %%
untouched, by_alpha = score(sources["Gamma 0.7"]), {}
for way, begin in {"average": start, "sharp start": x0["at full contrast"]}.items():
    runs = {"no flow": free} | {f"α = {a:g}": {"alpha": a} for a in (0, 0.001, 0.003, 0.01)}
    by_alpha[way] = {
        name: (score(run("Gamma 0.7", begin=begin, **change)) - untouched).mean().item()
        for name, change in runs.items()
    }
by_alpha = pd.DataFrame(by_alpha).T
from_average, from_sharp = (row.drop("no flow").tolist() for _, row in by_alpha.iterrows())
assert from_average == sorted(from_average, reverse=True) and from_sharp[1] > by_alpha.loc["sharp start", "no flow"]
by_alpha.round(2)

# %% [markdown]
# (a) fails on one source, the Vida.
#
# (b) fails from the average: in the paper the shrink adds 0.1 to 0.3 dB, here it costs 0.1 to 0.3 dB, and more shrink costs more.
# From the sharp start the sign turns: on every source the flow *adds* about 0.1 to 0.2 dB to the ascent.
# Much of that is there at $\alpha = 0$ already, because the flow's image stays within $[0, 1]$ and the ascent's does not.
# Over all heights of the brain it is another story again: in the ledger the flow costs some tenths from either start, and notebook 12 (section 5) finds the slices where.
# So a prior can only help a loop that begins within its reach, and a stronger shrink ($\alpha = 0.01$) costs from either start.
# Our flow is smaller than the paper's, was still improving when its training ended, and sees 8 bits and 2 mm voxels; a better flow may behave differently.
#
# (c) holds.
#
# (d) holds: mean and contrast of the start were the bottleneck, and on these six slices, with a sharp start, even the Vida gains.
# That is why the package's variant `ours` starts at full contrast; `paper` and `released` start as the paper and its code do.
# A long step adds contrast too: the gradient is orthogonal to $\hat x$, so each step multiplies the variance by $1 + c^2(1-\rho^2)$.
# The common start ends 5 to 10 dB below the untouched source: it has the edges of no slice.

# %% [markdown]
# ## What to take away
#
# - BlindHarmony climbs NCC from an averaged slice, with a flow in the loop. Without the flow you can write down where it ends: the source's pattern, the start's mean and contrast.
# - The step has a natural unit, $n_\text{pix}\,\mathrm{var}(x)$. Report $c$, not $\beta_1$.
# - In this experiment $x_0$ decides most of the quality. The paper gives it half a sentence.
# - The shrink changes the determinant more than the term that it was derived from.
#
# **Traps.**
#
# - A gain over a bad source says nothing about a good one. Compare with the untouched source for each scanner.
# - A hyper-parameter copied to another image size is another hyper-parameter.
# - An ablation row that equals the baseline in every digit may be a term that never ran.
#
# ---
#
# ## Appendix A. What the full prior prefers
#
# **Question.** The shrink raises $\log p_X$. Which images have the highest $\log p_X$?
#
# **Expected.** The target's own slices are likelier than those of other scanners, and an empty picture is unlikely.

# %%
pictures = {"black": torch.zeros_like(target), "x₀, inside the brain": start * brain, "target (Trio)": target}
pictures |= {name: sources[name] for name in ("Vision", "Vida", "Gamma 0.7")}
with torch.no_grad():
    encoded = {name: flow.encode(encoding.encode(images)) for name, images in pictures.items()}
n_pix = target[0].numel()
rows = {
    name: ((det - z.square().sum(1) / 2) / n_pix, -z.square().sum(1) / 2 / n_pix, det / n_pix)
    for name, (z, det) in encoded.items()
}
density = pd.DataFrame(
    {name: [v.mean().item() for v in row] for name, row in rows.items()}, index=["log p(x)", "-|z|²/2", "log |det|"]
).T
assert density["log p(x)"].idxmax() == "black"
density.sort_values("log p(x)", ascending=False).round(2)

# %% tags=["folded"]
# @title One target slice whose latent vector is shrunk further and further
z = encoded["target (Trio)"][0][typical : typical + 1]
with torch.no_grad():
    shrunk = {share: f_inverse((1 - share) * z)[0, 0, *crop] for share in (0.1, 0.3, 1.0)}
figure, axes = panels(3, size=(5.4, 2.3))
for axis, (share, picture) in zip(axes, shrunk.items(), strict=True):
    image(axis, picture, title=f"z shrunk by {share:.0%}")
figure.suptitle("One simulated target slice", fontsize=10)
alt = "A target slice whose latent vector is shrunk by 10, 30 and 100 per cent: its contrast fades, and at the end a small grey blob is left."
show(figure, alt=alt)

# %% [markdown]
# The numbers are nats per pixel, up to one constant.
# Neither expectation holds in full.
# Of these pictures the black one is the likeliest, then the blurred average.
# Among the scanned slices, the flat Vision and Gamma 0.7 beat the Trio on which the flow was trained.
# So the full prior rewards smoothness, and the shrink takes contrast away.
# The latent term alone does rank the target's slices before Gamma 0.7 and the Vida.
#
# ## Appendix B. Paper says, code does
#
# > *NCC*: the code computes the cosine without subtracting means, over the whole slice.
# > *Grey levels*: the paper is silent; the code adds noise before the flow and rounds *down* after it, at 12 bits.
# > *Returned image*: $x_N$ in Algorithm 1; after the last shrink in the code.
# > *$x_0$*: "the averaged image"; the average of slices of one index in the code.
# > *$M$*: "by thresholding"; the 30th percentile over the whole slice in the code (section 8).
#
# **Question.** Which of these matter? We change one at a time, on three slices of Gamma 0.7.
#
# **Expected.** Over the whole slice the black background fixes the offset, so the result is the source times a gain.
# Rounding down costs half a grey level per iteration: $10 \times 0.5/255 \approx 0.02$ off the mean at 8 bits, a sixteenth of that at 12.

# %%
departures = {"no flow": free, "NCC, whole slice": free | {"inside": False}}
departures |= {"cosine, whole slice": free | {"inside": False, "centred": False}, "BlindHarmony": {}}
departures |= {f"noise and floor, {bits} bits": {"dequantize": "noise"} for bits in (8, 12)}
departures |= {"returned after the shrink": {"after_shrink": True}}
some, source = slice(3), sources["Gamma 0.7"]
parts, inside = (start[some], source[some], brain[some]), brain[some]
audit = {"source untouched": [score(source)[some].mean().item(), source[some][inside].mean().item(), 1.0]}
for name, changes in departures.items():
    settings, draws = replace(VARIANTS["ours"], beta2=0.0, **changes), torch.Generator().manual_seed(0)
    with torch.no_grad():
        bits = Encoding(12) if "12" in name else encoding
        images = optimise(flow, *parts, settings, encoding=bits, generator=draws).images * inside
    quality = metrics.psnr(images, target[some], inside, data_range=1.0).mean().item()
    audit[name] = [quality, images[inside].mean().item(), metrics.cosine(images, source[some], inside).mean().item()]
audit = pd.DataFrame(audit, index=["PSNR (dB)", "mean in the brain", "cosine with the source"]).T
assert audit["cosine with the source"].filter(like="whole slice").min() > 0.999
audit.round(3)

# %% [markdown]
# All rows have $\beta_2 = 0$; the two whole-slice rows have no flow.
#
# Both expectations hold.
# Over the whole slice the cosine with the source is 1, so the result is the source times a gain.
# That gain brings the slice to the target's mean, which alone is worth 3 to 4 dB.
# Correlating inside the brain is worth about 2 dB more on these slices, because it changes the offset as well.
# Rounding down costs about 1.6 dB at 8 bits; NCC does not see an offset, so the loop never gives it back.
# At 12 bits the loss does not matter.
#
# ## Appendix C. Play with it
#
# **Question.** What does each hyper-parameter look like? One slice of Gamma 0.7, one setting at a time.

# %% tags=["folded"]
# @title Extreme settings of the three hyper-parameters
varied = {
    "α": {f"{a:g}": {"alpha": a} for a in (0.0, alpha, 0.01, 0.1)},
    "c": {f"{c:.2g}": {"step": c} for c in (0.05, 1 / 3, 1.0, 2.5)},
    "β₂": {f"{b:g}": {"beta2": b} for b in (0.0, beta2, 0.01, 0.05)},
}
movies, known, one = {}, {}, slice(typical, typical + 1)
for setting, values in varied.items():
    movies[setting] = {}
    for value, changes in values.items():
        key = replace(VARIANTS["ours"], **changes)
        if key not in known:  # the defaults stand in every row
            seen = [start[one]]
            run("Gamma 0.7", pick=one, watch=lambda _, x, seen=seen: seen.append(x.clamp(0, 1)), **changes)
            known[key] = [(x * brain[one])[0, 0, *crop].numpy() for x in seen]
        movies[setting][value] = known[key]
picked = (("α", "0.001"), ("α", "0.1"), ("c", "1"), ("c", "2.5"), ("β₂", "0.05"))
figure, axes = panels(5, size=(7.8, 2.2))
for axis, (setting, value) in zip(axes, picked, strict=True):
    image(axis, movies[setting][value][-1], title="defaults" if value == "0.001" else f"{setting} = {value}")
figure.suptitle("One simulated person, Gamma 0.7, after ten iterations", fontsize=10)
alt = "Five results. With the defaults a sharp slice; alpha 0.1 leaves a darker and flatter one; c 1 has more contrast; c 2.5 is burnt out to white; beta2 0.05 draws a chequered pattern."
show(figure, alt=alt)

# %% tags=["widget", "folded"]
# @title Sliders: setting, value and iteration
iteration_sliders(movies)

# %% [markdown]
# A large $\alpha$ takes contrast away, as Appendix A foretold.
# $c = 1$ adds the contrast that $x_0$ lacks; $c = 2.5$ overshoots.
# A large $\beta_2$ draws its own mask into the picture.
# So look at the image before you trust a decibel.

# %% [markdown] tags=["instructor"]
# ## For the instructor
#
# **A class of 75 minutes:** sections 1 to 3 in 15, section 4 with 11.1 in 15, section 6 with 11.2 in 15, section 9 with 11.5 in 15, section 10 in 10, the rest for questions.
# Section 5 can be told in two minutes. Skip section 7 or 8 if you are late, and leave the appendices to the readers.
#
# **Ask before the curves of section 6:** "The Vida is already at 23 dB. What can a method do to it that starts from a blurred average?" Let pairs write down their prediction.
# **Ask after section 9:** "Which single line of the method would you change?" (The start.)
#
# **Frequent slips.** 11.1: the part $-\rho\hat x$ is missing, or the means are. 11.2: the image after the shrink is returned. 11.3: the norm instead of its square, or no centring. 11.4: the quantile over the whole slice. 11.5: the source's standard deviation instead of the start's.
#
# **Expectations that fail and stay on the page:** T2's flat pixels (2), $D(x_s, x_s) = 0$ (3), a small determinant (5), better than the source everywhere (6, 10a), a harmless $\beta_2$ (8), a shrink that gains (10b), the target's slices as the likeliest (A).

# %% [markdown]
# ## References
#
# - Jeong, Byun, Kang and Lee, *BlindHarmony: "Blind" Harmonization for MR Images via Flow model*, ICCV 2023, and its supplement.
# - Durkan, Bekasov, Murray and Papamakarios, *Neural Spline Flows*, NeurIPS 2019.
# - Theis, van den Oord and Bethge, *A note on the evaluation of generative models*, ICLR 2016.
# - Kirichenko, Izmailov and Wilson, *Why normalizing flows fail to detect out-of-distribution data*, NeurIPS 2020.
