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
# # 20 · Harmonizing Flows: the guided flow
#
# **You will be able to**
#
# - say why whole grey levels need noise before a flow can learn them;
# - write a coupling with a mask, and the whole likelihood of a slice, in twenty lines;
# - show that likelihood alone prefers washed-out slices to the target's own;
# - teach a flow the look of a scanner with the paper's guiding term, and find its traps.
#
# **From the paper:** Harmonizing Flows (Beizaee and colleagues, 2023), sections 3.1 and 4.1, Equations 1 to 4.
#
# **Before:** notebooks 02 and 10.
# **Measured:** 39 seconds and 1.0 GB on one processor core.
#
# *Simulated people · expectations stated before results · three exercises, 26 minutes.*
#
# **Your functions run this notebook.**
# Once an exercise passes its check, the cells below use your function.
# Until then they use the package's, and say so.
#
# > **Two words the other way round.**
# > The paper trains on a "source" and brings "target" scans to it.
# > This course calls the look that scans are brought to the *target* and the scanner they come from the *source*.
# > Our words hold from here on.
#
# **Symbols in this notebook:**
#
# | symbol | meaning |
# | --- | --- |
# | $x$, $u$ | a slice of whole grey levels from 0 to 255; noise in $[0, 1)$ |
# | $z$ | what the flow makes of a slice: as many numbers, normally distributed |
# | $s$, $t$ | log-scale and shift of a coupling |
# | $c$ | margin of the guiding term, in bits per dimension |

# %% tags=["colab", "folded"]
# @title Installation, on Colab only
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/harmony-lite/harmony-lite@main")  # noqa: F821

# %% tags=["setup", "folded"]
# @title Imports, and which function an exercise gives to the notebook
import math

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from torch.autograd.functional import jacobian
from torch.nn import functional

import harmony_lite as hl
from harmony_lite.exercises import check, hint  # noqa: F401
from harmony_lite.images.intensity_maps import random_tables
from harmony_lite.nets.draws import evenly_spread
from harmony_lite.papers import published
from harmony_lite.papers.harmonizing_flows.augmentation import GUIDING, augmented, dissimilarity
from harmony_lite.papers.harmonizing_flows.exercises_20 import ANSWERS
from harmony_lite.papers.harmonizing_flows.flow import FlowSizes, GuidedFlow, bits_per_dimension
from harmony_lite.papers.harmonizing_flows.guiding import guided_loss
from harmony_lite.papers.harmonizing_flows.settings import SITES, FlowSettings, settings_of
from harmony_lite.papers.harmonizing_flows.sites import shaded
from harmony_lite.papers.harmonizing_flows.training import other_looks, train_flow
from harmony_lite.show import COLOURS, image, panels, show
from harmony_lite.splits import people

BLUE, ORANGE, GREEN, PINK = COLOURS[:4]
GREY = "#777777"
answers = {}  # number of an exercise -> your function, once its check has passed


def mine(id):
    """Your function once its check has passed; until then the package's."""
    state = "passed, your function is used" if id in answers else "not passed yet, the package's function is used"
    print(f"exercise {id}: {state}")
    return answers.get(id, ANSWERS[id])


# %% [markdown]
# ## 1. Learn one scanner, and nothing else
#
# **Question.** What can you learn if the only scans you may keep are those of your target scanner?
#
# **Idea.** Learn how likely a slice is *on this scanner*: later, push scans from anywhere towards likely ones.
#
# BlindHarmony's flow (notebook 10) does this with splines, axial slices and an optimization for each slice.
# Harmonizing Flows takes simpler couplings, coronal slices, and a second network that is pushed once for a whole site.
# This notebook is about its flow; notebook 21 about the second network.
#
# The paper's data are four sites of ABIDE: Caltech, KKI, Pittsburgh and NYU.
# Our target is the Caltech preset of the simulator; the other three are the sources.
# Every scan has 256 grey levels: 255 is the 99.9th percentile of the brain.

# %%
PEOPLE, PER_PERSON = 4, 6
target, *sources = SITES
cohort = people(SITES)[2].subset(range(PEOPLE))  # test people: no flow has seen them
guided = hl.load_method("harmonizing-flows")  # its flow has learned the Caltech scanner
unguided = hl.load_method("harmonizing-flows", "unguided")  # the same without this notebook's second half


def slices_of(scans, mask):
    """Coronal slices (B, 1, H, W) of whole grey levels, the same number of each person."""
    volumes = zip(scans.split(1), mask.split(1), strict=True)
    return torch.cat([evenly_spread(guided.slices_of(*one), PER_PERSON + 2)[1:-1] for one in volumes]).round()


levels = {site: slices_of(cohort.scans(site), cohort.masks(site)) for site in SITES}
x = levels[target]
print("slices:", tuple(x.shape), "| grey levels from", int(x.min()), "to", int(x.max()))

# %% tags=["folded"]
# @title One person on the four sites
short = {site: site.removeprefix("abide_").upper() for site in SITES}
shown = 2  # the slice that figures show
figure, axes = panels(4, size=(8.4, 2.5))
for axis, site in zip(axes, SITES, strict=True):
    image(axis, levels[site][shown, 0], (0, 255), title=f"{short[site]} ({'target' if site == target else 'source'})")
figure.suptitle("Simulated: one person, one coronal slice", fontsize=10)
show(figure, alt="One coronal slice on four sites: the same folds, with different contrast of grey and white matter.")

# %% [markdown]
# ## 2. Whole numbers need noise
#
# **Question.** A flow gives a *density*. What goes wrong when values can only be 0, 1, 2, ..., 255?
#
# **Idea.** A density may put a needle on every whole number. The needles can be as thin as you like, and the likelihood grows without end.
#
# Try it with the simplest model of one pixel: a narrow bump on each grey level, as high as that level is frequent.
#
# **Expected.** On whole levels, thinner bumps are always "better".
# With noise between 0 and 1 added, thin bumps pay for the gaps, and the cost never falls below the entropy of the levels.

# %%
pixels = x[x > 0]
share = torch.bincount(pixels.long(), minlength=256) / len(pixels)
entropy = -(share[share > 0] * share[share > 0].log2()).sum().item()  # bits per pixel: the best that is possible
u = torch.rand(len(pixels), generator=torch.Generator().manual_seed(0))


def cost(values, width):
    """Bits per pixel under bumps of a width in the middle of each level."""
    to_middle = (values[:, None] - torch.arange(256) - 0.5) / width
    bumps = (-0.5 * to_middle**2).exp() / (width * math.sqrt(2 * math.pi))
    return -((bumps * share).sum(1) + 1e-12).log2().mean().item()


some = slice(0, None, 40)
widths = np.logspace(-2, 0.5, 16)
whole = [cost(pixels[some] + 0.5, width) for width in widths]
noisy = [cost((pixels + u)[some], width) for width in widths]
assert whole[0] < 0.5 * entropy and min(noisy) > entropy - 0.1
print(f"entropy {entropy:.2f} bits per pixel; thinnest bumps: whole levels {whole[0]:.2f}, with noise {noisy[0]:.2f}")

# %% tags=["folded"]
# @title What thin bumps cost on whole levels and on levels with noise
figure, axis = panels(size=(6.4, 2.9))
axis.plot(widths, whole, "o-", color=ORANGE, markersize=3)
axis.text(0.035, 2.4, "on whole levels", color=ORANGE)
axis.plot(widths, noisy, "o-", color=BLUE, markersize=3)
axis.text(0.14, 11.5, "with noise", color=BLUE)
axis.axhline(entropy, color=GREY, linestyle=":")
axis.text(3.2, entropy + 0.2, "entropy", color=GREY, ha="right")
axis.set(xscale="log", xlabel="width of a bump, grey levels", ylabel="bits per pixel", ylim=(0, 14))
alt = "Cost against the width of the bumps. On whole levels the cost falls without end as bumps get thin; with noise it rises steeply, and its smallest value is at the entropy."
show(figure, alt=alt)

# %% [markdown]
# Both expectations hold.
# So every flow on images first adds noise; this is called *dequantization*:
#
# $$\log P(x) \;\ge\; \mathbb E_{u\sim q(u\mid x)}\bigl[\log p(x + u) - \log q(u\mid x)\bigr].$$
#
# With uniform noise $\log q = 0$, as above.
# The paper's noise is *variational*: a small flow of four couplings looks at the slice and shapes $q$, so that the noise suits the density.
# What shaping costs is the second term, a log-determinant like all others.
#
# **Check.** Does the package's log-determinant agree with autograd, for the noise and for the whole flow?

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
tiny = GuidedFlow((8, 8), FlowSizes(widths=(4, 6), couplings=2)).double()  # small enough for a Jacobian
level = torch.randint(0, 256, (1, 1, 8, 8)).double()
uniform = torch.rand(1, 1, 8, 8, dtype=torch.float64)


def log_det_of(function, at):
    """log |det J| of a function of 64 values, by autograd."""
    return torch.linalg.slogdet(jacobian(lambda v: function(v.view(1, 1, 8, 8)).flatten(), at.flatten())).logabsdet


noise, change = tiny.dequantized(level, uniform)
of_noise = log_det_of(lambda u: tiny.dequantized(level, u)[0], uniform)
of_flow = log_det_of(lambda v: tiny.encode(v)[0], noise.detach())
back = tiny.decode(tiny.encode(noise)[0])[0]
print("variational noise:", bool(abs(of_noise - change) < 1e-6))
print("flow:", bool(abs(of_flow - tiny.encode(noise)[1]) < 1e-6))
print("inverse:", bool((back - noise).abs().max() < 1e-8))
assert abs(of_noise - change) < 1e-6 and abs(of_flow - tiny.encode(noise)[1]) < 1e-6

# %% [markdown]
# ## 3. Couplings: who stays, who moves
#
# **Question.** How does a slice become noise, one invertible step at a time?
#
# **Idea.** Half of the values stay and say, through a network, how the other half is scaled and shifted.
#
# $$y^A = z^A, \qquad y^B = z^B \odot \exp\bigl(s(z^A)\bigr) + t(z^A) \tag{3}$$
#
# The paper has three stages of four couplings: on a checkerboard of pixels; after *squeezing* each $2 \times 2$ block into four channels, on half of the channels; after a second squeeze, on half of sixteen.
# Both $s$ and $t$ come from one U-shaped network of four levels.
# Large scales are dangerous, so $s$ is bounded: $s = b\tanh(s'/b)$, with a bound $b$ for each channel that is learned too.

# %% tags=["folded"]
# @title Three masks: orange stays, white moves
figure, axes = panels(3, size=(7.8, 2.5))
titles = ("checkerboard\n1 channel", "after one squeeze\n4 channels", "after two\n16 channels")
for axis, stage, title in zip(axes, guided.guide.stages, titles, strict=True):
    mask = stage[0].kept.expand(-1, 8, 8) if stage[0].kept.shape[1] == 1 else stage[0].kept[:, :8, :8]
    side = round(len(mask) ** 0.5)
    picture = functional.pixel_shuffle(mask[None], side)[0, 0, :8, :8]
    axis.imshow(picture.T, cmap="Oranges", vmin=0, vmax=1.6)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title)
figure.suptitle("Which of 8 x 8 pixels stay in the first coupling of each stage", fontsize=10)
alt = "Three masks on 8 by 8 pixels: a checkerboard, stripes of every other row, and stripes of two rows out of four."
show(figure, alt=alt)

# %% [markdown]
# ### Exercise 20.1 · A coupling with a mask (10 minutes, ★★)
#
# Write Equation 3 for images.
# `kept` is 1 where a value stays; `network(seen)` gives $s$ and $t$ for *every* value.


# %% tags=["exercise", "exercise-20.1"]
def coupling(z, kept, network):
    """Values z (B, C, H, W), kept 0 or 1; the moved values, and the log-determinant (B,)."""
    raise NotImplementedError("your turn")


if check("20.1", coupling).passed:
    answers["20.1"] = coupling
# hint("20.1", 1)  # take the first # away for a hint; there are three


# %% tags=["solution", "exercise-20.1"]
def coupling(z, kept, network):
    """Values z (B, C, H, W), kept 0 or 1; the moved values, and the log-determinant (B,)."""
    log_scale, shift = network(z * kept)
    log_scale, shift = log_scale * (1 - kept), shift * (1 - kept)
    return z * log_scale.exp() + shift, log_scale.flatten(1).sum(1)


assert check("20.1", coupling).passed
answers["20.1"] = coupling

# %% [markdown]
# With this, the likelihood of a slice is one page.
#
# $$\log p_x(x) = \log p_z(z) + \sum_t \log\bigl|\det J_t\bigr| \tag{1}$$
#
# $$\mathcal L_{NF} = -\log p_x(x) \tag{2}$$
#
# The cell below is the whole flow: noise, a logit from $(0, 1)$ to the line, three stages, a normal density.
# It uses your coupling.

# %% tags=["algorithm"]
couple = mine("20.1")


def scale_and_shift(step, seen):
    """What a coupling's U-shaped network says of the values that it sees: bounded log-scale, and shift."""
    features, _ = step.network(seen)
    log_scale, shift = step.last(features).chunk(2, 1)
    bound = step.log_bound.exp()
    return bound * torch.tanh(log_scale / bound), shift


@torch.no_grad()
def bits_by_hand(flow, levels, uniform):
    """Bits per dimension of slices (B, 1, H, W) of grey levels, with uniform noise of the same shape."""
    v = (levels + uniform) / 256  # dequantized, in (0, 1)
    v = v * (1 - 1e-5) + 0.5e-5  # so that the logit stays finite
    z = torch.logit(v)
    log_det = (math.log(1 - 1e-5) - v.log() - (1 - v).log()).flatten(1).sum(1)
    for number, stage in enumerate(flow.stages):
        z = functional.pixel_unshuffle(z, 2) if number else z  # squeeze: (B, C, H, W) to (B, 4C, H/2, W/2)
        for step in stage:
            z, change = couple(z, step.kept, lambda seen, step=step: scale_and_shift(step, seen))
            log_det = log_det + change
    log_normal = -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)
    nats = log_normal + log_det - levels[0].numel() * math.log(256)  # Equation 1; a level is 1/256 wide
    return -nats / (math.log(2) * levels[0].numel())


# %%
chance = torch.Generator().manual_seed(0)
uniform = torch.rand(x.shape, generator=chance)  # the same noise for every look of a slice
with torch.no_grad():
    packaged = bits_per_dimension(guided.guide, x[:3], uniform[:3])
assert torch.allclose(bits_by_hand(guided.guide, x[:3], uniform[:3]), packaged, rtol=1e-4)
printed_size = GuidedFlow((224, 224), FlowSizes())
count, ours = (sum(p.numel() for p in flow.parameters()) for flow in (printed_size, guided.guide))
print(f"by hand and in the package: {packaged.numpy().round(3)} bits per dimension")
print(f"parameters at the paper's size: {count:,}; of the small flow here: {ours:,}")
assert count == 4_023_176

# %% [markdown]
# The two agree.
# The paper's own flow has four million parameters; ours has narrower networks of three levels and uniform noise, for two processor cores.
#
# > **Paper says / code does.**
# > The public code computes $(z + t)\exp(s)$ where Equation 3 prints $z\exp(s) + t$.
# > Both are invertible with the same determinant, and a network can learn either.
# > The variant `released` has the code's order.
#
# Does the flow learn? Twenty steps on training people, from new weights.

# %%
settings = settings_of("unguided").flow
training = people([target])[0].subset(range(3))
lesson = slices_of(training.scans(target), training.masks(target))
torch.manual_seed(0)
new = GuidedFlow(lesson.shape[2:], settings.sizes)
history = train_flow(new, lesson, lesson[:4], settings, chance, progress=False, steps=20)
first, last = np.mean(history.losses[:3]), np.mean(history.losses[-3:])
print(f"bits per dimension: {first:.2f} in the first three steps, {last:.2f} in the last three")
assert last < first - 0.5

# %% [markdown]
# ## 4. What likelihood prefers
#
# **Question.** A flow has learned the target for 700 steps. Does it find the target's slices likelier than others?
#
# **Idea.** Give test people's target slices another look, and compare bits, person by person.
#
# Some looks are tone curves.
# Some change the physics: noise, blur, the shading of a strong field, and the other three sites.
#
# **Expected.** From notebook 10: what is simple is cheap.
# So blurred slices, curves that flatten (log, gamma 0.7), and whichever site is flatter than the target should cost *less* than the target itself.


# %%
def by_person(flow, slices):
    """Bits per dimension, one mean for each person."""
    with torch.no_grad():
        return bits_per_dimension(flow, slices, uniform).reshape(PEOPLE, PER_PERSON).mean(1)


scans, mask = cohort.scans(target), cohort.mask
looks = other_looks(x) | {"blurred": torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, 0.7, 0.7))) * (x > 0)}
looks |= {"shaded": slices_of(shaded(scans, mask), mask)}
looks |= {short[site]: levels[site] for site in sources}
looks = {name: slices.round().clamp(0, 255) for name, slices in looks.items()}
flows = {"unguided": unguided.guide, "guided": guided.guide}
target_bits = {name: by_person(flow, x) for name, flow in flows.items()}
extra = {
    name: {look: by_person(flow, slices) - target_bits[name] for look, slices in looks.items()}
    for name, flow in flows.items()
}
before = pd.DataFrame({look: [v.mean().item(), int((v > 0).sum())] for look, v in extra["unguided"].items()}).T
before.columns = ["bits more than the target", f"people of {PEOPLE} for whom the target is likelier"]
cheaper = [look for look, value in before.iloc[:, 0].items() if value < 0]
assert {"blurred", "log", "gamma0.7"} <= set(cheaper)
before.round(3)

# %% [markdown]
# **Look at** the signs: everything below zero is likelier than the target to a flow that was trained on the target alone.


# %% tags=["folded"]
# @title Bits of other looks against the target's, without guidance
def draw_extra(axis, values, title, furthest=2.3):
    for row, one in enumerate(values.values()):
        colour = ORANGE if one.mean() < 0 else BLUE
        axis.plot(one, [row] * PEOPLE, "o", color=colour, markersize=4, alpha=0.6)
        axis.plot([one.mean()] * 2, [row - 0.35, row + 0.35], color=colour, linewidth=2)
        if one.mean() > furthest:
            axis.text(furthest, row, f"{one.mean():.1f} →", color=BLUE, ha="right", va="center")
    axis.axvline(0, color=GREY, linestyle=":")
    axis.set(yticks=range(len(values)), yticklabels=list(values), title=title, xlabel="bits per dimension more")
    axis.set_xlim(-0.8, furthest)
    axis.invert_yaxis()


figure, axis = panels(size=(6.4, 3.6))
draw_extra(axis, extra["unguided"], "Trained on likelihood alone (simulated, four test people)", 0.7)
alt = "A row of dots for each look. Blur, log, gamma 0.7 and shading lie left of zero, cheaper than the target itself; the sites lie on it or just right of it, noise far right."
show(figure, alt=alt)

# %% [markdown]
# The expectation holds for blur and for both flattening curves, and it fails for the sites: two cost a little more than the target, and KKI costs the same.
# One more look is cheaper, and nobody would have guessed it: a head under a strong field, twice as bright in the middle as at the rim.
#
# So a flow that has seen nothing but the target takes some foreign looks for *more* typical of the target than the target.
# All differences are small, about a tenth of a bit at most, but for blur and noise.
# If we now moved scans towards likely slices, we would wash them out.
#
# The paper says it in other words: likelihood looks at the person, at smoothness, at size; the look of a scanner is a small part of it.
# The remedy is the paper's first idea of its own.
#
# ## 5. Slices with another look
#
# **Question.** What should the flow learn to find unlikely?
#
# **Idea.** The target's own slices, with brightness, contrast or tone changed at random, if they end up far enough from the original.
#
# Four kinds of change: add up to 30 levels; multiply by 0.5 to 1.5; take a power from 0.5 to 1.5; or draw a whole curve at random.
# The paper prints no numbers; these are the public code's.
# A random curve starts with 0 at 0 and 256 at 256 and fills in middles: each lies somewhere in the central 60 % between its neighbours, so the curve always rises.
#
# **Expected.** Over many curves, level 128 becomes 129 on average, give or take 44, and never falls below 51 or above 204.

# %%
curves = random_tables(2000, chance)  # (2000, 256)
at_middle = curves[:, 128].float()
from_identity = (curves.float() - torch.arange(256)).abs().mean().item()
print(
    f"level 128 becomes {at_middle.mean():.0f}, deviation {at_middle.std():.0f}, from {at_middle.min():.0f} to {at_middle.max():.0f}"
)
print(
    f"mean distance from the identity: {from_identity:.0f} levels; every curve rises: {bool((curves.diff() >= 0).all())}"
)
assert (curves.diff() >= 0).all() and abs(at_middle.mean() - 129) < 4 and abs(at_middle.std() - 44) < 4

changed = augmented(x[shown].expand(24, -1, -1, -1), GUIDING, torch.Generator().manual_seed(5))
distances = dissimilarity(changed, x[shown].expand_as(changed), "mean and two deviations")

# %% tags=["folded"]
# @title Random curves, and one slice under five changes
figure, axes = panels(6, size=(9.4, 2.3), width_ratios=(1.25, 1, 1, 1, 1, 1))
axes[0].plot(curves[:12].T, color=BLUE, linewidth=0.8, alpha=0.7)
axes[0].set(xlabel="level before", ylabel="level after", xticks=(0, 128, 255), yticks=(0, 128, 255))
order = distances.argsort()[torch.linspace(0, len(distances) - 1, 5).long()]
for axis, number in zip(axes[1:], order.tolist(), strict=True):
    image(axis, changed[number, 0], (0, 255), title=f"distance {distances[number]:.0f}")
figure.suptitle("Simulated: twelve random curves, and changes of one slice from near to far", fontsize=10)
alt = "Left, rising curves that spread widely in the middle. Right, one slice under five changes, from nearly the same to much brighter or darker."
show(figure, alt=alt)

# %% [markdown]
# The expectation holds.
#
# > **Paper says / code does.**
# > A change counts if its "mean squared distance" passes a threshold that is not printed.
# > The public code takes the mean plus twice the standard deviation of the absolute difference, and 20 levels.
# > And it subtracts *bytes*: a slice that is three levels brighter differs by $-3$, which a byte holds as 253.
# > So near copies pass as far away, and the flow is told that they are unlikely.
#
# ### Exercise 20.2 · How far a changed slice is (6 minutes, ★)
#
# Write the code's distance, inside the foreground, for slices that come as bytes. Do not fall into its trap.


# %% tags=["exercise", "exercise-20.2"]
def distance(changed, levels):
    """Mean plus twice the standard deviation of the absolute difference where levels > 0; both uint8 (H, W)."""
    raise NotImplementedError("your turn")


if check("20.2", distance).passed:
    answers["20.2"] = distance


# %% tags=["solution", "exercise-20.2"]
def distance(changed, levels):
    """Mean plus twice the standard deviation of the absolute difference where levels > 0; both uint8 (H, W)."""
    apart = (changed.float() - levels.float()).abs()[levels > 0]
    return float(apart.mean() + 2 * apart.std(correction=0))


assert check("20.2", distance).passed
answers["20.2"] = distance

# %%
apart = mine("20.2")
original = x[shown, 0].byte()
brighter = torch.where(original > 0, original.clamp_max(252) + 3, original)
wrapped = (original - brighter)[original > 0].float()  # bytes: -3 is held as 253
print(
    f"three levels brighter: distance {apart(brighter, original):.1f}, with bytes {wrapped.mean() + 2 * wrapped.std():.0f}"
)
assert apart(brighter, original) < 20 < wrapped.mean()

# %% [markdown]
# ## 6. The guiding term
#
# **Question.** How do you teach a flow what is *not* likely, when pushing a likelihood down never ends?
#
# **Idea.** Push down only to a margin.
#
# $$\mathcal L = -\sum_{n} \log p_x(x_n) \;-\; \sum_{n'} \min\bigl(c,\, -\log p_x(f_{aug}(x_{n'}))\bigr) \tag{4}$$
#
# The first sum makes the target's slices cheap, the second makes changed slices expensive, and beyond $c$ the second has no gradient.
# Without the margin the loss could fall for ever: a slice can be made as unlikely as one likes.
#
# The paper prints $c = 1.2$; Equation 4 reads as if in nats for a whole slice, but the code counts bits per dimension, and takes 1.0.
#
# **Expected.** Our small flow needs more than 2 bits for the target itself.
# So $\min(1.2, \text{bits})$ is always 1.2, and the printed margin never pushes at all.

# %%
bits = torch.tensor([2.0, 2.7, 2.6, 5.5], requires_grad=True)  # two target slices and two changed ones, of a small flow
is_changed = torch.tensor([False, False, True, True])
margins = {"c = 1.2, as printed": FlowSettings(), "c = target's bits + 1": FlowSettings(above_target=1.0)}
pushes = {}
for name, margin in margins.items():
    (gradient,) = torch.autograd.grad(guided_loss(bits, is_changed, margin), bits)
    pushes[name] = [round(value, 3) for value in gradient.tolist()]
printed = published.load("harmonizing_flows").hyperparameters["margin"].value
assert pushes["c = 1.2, as printed"][2:] == [0, 0] and printed == 1.2
columns = ["target, 2.0 bits", "target, 2.7 bits", "changed, 2.6 bits", "changed, 5.5 bits"]
pd.DataFrame(pushes, index=columns).T

# %% [markdown]
# The table holds gradients: positive makes a slice cheaper, negative makes it more expensive.
# With the printed margin the changed slices get none.
# It may bite at the paper's size, where a flow comes below 1.2 bits; for small flows it is dead.
# Our variant `ours` sets the margin one bit above what the target's slices of the batch cost, and changes half of the batch, where the public code changes a fifth.
#
# ### Exercise 20.3 · The guided loss (10 minutes, ★★)
#
# Write Equation 4 in bits, with the margin that follows the target: the mean bits of the unchanged slices, plus `above`.
# The margin is a yardstick, so it must not be trained itself.


# %% tags=["exercise", "exercise-20.3"]
def guided(bits, is_changed, above):
    """Mean over the batch of bits (B,); changed slices count as minus their bits, up to the margin."""
    raise NotImplementedError("your turn")


if check("20.3", guided).passed:
    answers["20.3"] = guided


# %% tags=["solution", "exercise-20.3"]
def guided(bits, is_changed, above):
    """Mean over the batch of bits (B,); changed slices count as minus their bits, up to the margin."""
    margin = bits[~is_changed].mean().detach() + above
    return torch.where(is_changed, -torch.minimum(bits, margin), bits).mean()


assert check("20.3", guided).passed
answers["20.3"] = guided

# %% [markdown]
# Now go on with your loss from the flow that was trained without guidance, for thirty steps.
# Does the gap between changed slices and the target's grow?

# %%
loss_of, guiding = mine("20.3"), settings_of("ours").flow
flow = GuidedFlow(lesson.shape[2:], guiding.sizes)
flow.load_state_dict(unguided.guide.state_dict())
optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
gap = []  # bits of changed slices minus bits of the target's, in each batch
for _ in range(30):
    batch = lesson[torch.randint(len(lesson), (6,), generator=chance)]
    other = augmented(batch, GUIDING, chance)
    is_changed = torch.arange(6) >= 3
    is_changed &= dissimilarity(other, batch, "mean and two deviations") > guiding.threshold
    seen = torch.where(is_changed[:, None, None, None], other, batch)
    cost_of = bits_per_dimension(flow, seen, torch.rand(seen.shape, generator=chance))
    optimizer.zero_grad()
    loss_of(cost_of, is_changed, 1.0).backward()
    torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
    optimizer.step()
    gap.append((cost_of[is_changed].mean() - cost_of[~is_changed].mean()).item())
print(
    f"gap in bits: {np.nanmean(gap[:8]):+.2f} in the first eight steps, {np.nanmean(gap[-8:]):+.2f} in the last eight"
)

# %% [markdown]
# The gap grows, batch by batch and with much noise: which changes are drawn decides more than one step does.
# The flow that comes with the package had 700 such steps from the beginning.
#
# ## 7. After guidance
#
# **Question.** Does guidance hold for test people, and for looks that it never drew?
#
# **Idea.** The same table for the guided flow that comes with the package: 700 steps, and of its checkpoints the one that passes most looks of validation people.
#
# Guidance drew curves, brightness and contrast.
# It never drew noise, blur, shading or another site.
#
# **Expected.** The target is now cheapest among the tone curves, the noise and the sites.
# Blur is listed apart: no tone curve resembles it, and in trials blurred slices stayed cheaper.

# %%
both = {look: [extra[name][look].mean().item() for name in flows] for look in looks}
both = pd.DataFrame(both, index=["without guidance", "guided"]).T
both["drawn by guidance"] = ["tone" if look in other_looks(x) and look != "noise" else "never" for look in looks]
worst = {look: extra["guided"][look].min().item() for look in looks}
assert all(least > 0 for look, least in worst.items() if look != "blurred") and worst["blurred"] < 0
print(
    f"bits of the target: without guidance {target_bits['unguided'].mean():.2f}, guided {target_bits['guided'].mean():.2f}"
)
both.round(3)

# %% tags=["folded"]
# @title Bits of other looks against the target's, without and with guidance
figure, axes = panels(2, size=(9.2, 3.6), sharey=True)
draw_extra(axes[0], extra["unguided"], "likelihood alone")
draw_extra(axes[1], extra["guided"], "with the guiding term")
axes[1].invert_yaxis()
figure.suptitle("Simulated, four test people; left of the dotted line: likelier than the target", fontsize=10)
alt = "Two panels of dots. Without guidance most looks crowd around zero and several lie left of it; with guidance all but blur lie right of it, NYU and shading far right."
show(figure, alt=alt)

# %% [markdown]
# The expectation holds, for every person and every look but blur.
# The sites, which guidance never drew, are told apart as well: NYU by more than a bit and a half.
# So is shading, by more than three bits, though no curve resembles it: once a flow has learned which grey levels belong where, a bright middle is odd.
#
# The price is a quarter of a bit: the guided flow needs that much more for the target itself.
# And blur is still cheaper than the target, by half as much as before.
# Nothing in the guidance is smoother than the original, so nothing taught the flow that smoothness is foreign.
# In trials with blur among the changes the target became half a bit more expensive, and the order still did not turn.
#
# ## 8. The smallest harmonizer: one number
#
# **Question.** Is the guided flow good enough to *correct* a scan?
#
# **Idea.** Take the smallest harmonizer there is, a power $x \mapsto 255\,(x/255)^\gamma$, and let the flow choose $\gamma$.
#
# The best $\gamma$ is known here, since the same person has a target scan: it is the one with the smallest error.
# Four sources: the target under the power 0.7, where 1/0.7 is right; under an S-curve; two other sites.
#
# **Expected.** The guided flow finds the power of the first source, since powers are what guidance drew.
# That alone would prove little: it is the same family.
# The other three no guidance ever drew, so they tell more.
# The unguided flow chooses what is simplest.

# %%
gammas = np.linspace(0.5, 2.0, 11)
few = slice(0, None, 4)  # six of the slices


def powered(slices, gamma):
    return (255 * (slices / 255) ** gamma).clamp(0, 255)


shifted = {"power 0.7": looks["gamma0.7"], "S-curve": looks["S-curve"]}
shifted |= {short[site]: levels[site] for site in (sources[0], sources[2])}
searches = {}
for name, slices in shifted.items():
    # sites' slices lie where the target's do; the brain of the target counts
    error = [(powered(slices[few], g) - x[few])[x[few] > 0].square().mean().sqrt().item() for g in gammas]
    with torch.no_grad():
        found = {
            one: [bits_per_dimension(flow, powered(slices[few], g), uniform[few]).mean().item() for g in gammas]
            for one, flow in flows.items()
        }
    searches[name] = {"smallest error": error} | found
chosen = pd.DataFrame(
    {name: {k: gammas[int(np.argmin(v))] for k, v in rows.items()} for name, rows in searches.items()}
).T
chosen.round(2)

# %% tags=["folded"]
# @title Bits against the power, for both flows and four sources
figure, axes = panels(4, size=(9.4, 2.7), sharey=False)
for axis, (name, rows) in zip(axes, searches.items(), strict=True):
    for one, colour in (("unguided", ORANGE), ("guided", BLUE)):
        curve = np.array(rows[one]) - min(rows[one])
        axis.plot(gammas, curve, color=colour, label=one)
        axis.plot(gammas[curve.argmin()], curve.min(), "o", color=colour)
    axis.axvline(chosen.loc[name, "smallest error"], color=GREY, linestyle=":")
    axis.set(title=name, xlabel="power", ylim=(-0.05, 1.0))
axes[0].set_ylabel("bits above the smallest")
axes[0].legend(loc="upper left")
figure.suptitle("Simulated test people; dotted: the power with the smallest error against the target scan", fontsize=10)
alt = "Four panels of bits against the power. The guided flow's smallest values lie at or near the dotted lines; the unguided flow's curve falls to the left end in every panel."
show(figure, alt=alt)

# %% [markdown]
# The unguided flow takes the end of the range, whatever comes in: the brightest and flattest picture is the likeliest.
# The guided flow comes within one step of the best power for all four sources, and for both sites it takes the very step.
# That is no matched-family optimism: a site is no power of another, and guidance drew neither.
#
# So likelihood, once it is guided, can be trusted with one number.
# In notebook 21 it is trusted with 816,594, and there it needs to be watched.
#
# ## What to take away
#
# - A density on whole numbers needs noise first; variational noise is shaped by a small flow and pays for its shape.
# - Couplings on checkerboards and on channels make a flow whose likelihood fits on one page.
# - Likelihood alone prefers what is simple. It knows the look of a scanner, but other things weigh more.
# - The guiding term tells the flow what to find unlikely, up to a margin; without the margin it would never end.
# - A fixed margin does nothing for a flow that is not yet as good as the margin.
#
# **Traps.**
# Bytes wrap around: subtract in floating point.
# A flow that passes the changes it was trained on may fail others; test with families that it never saw.
# Guidance is noisy: a look may fall back from one check to the next, so keep the checkpoint that passes on *validation* people.
# Bits per dimension depend on how much black background a slice has; compare slices of one kind.

# %% [markdown] tags=["instructor"]
# ## For the instructor
#
# **A class of 75 minutes:** sections 1 and 2 in 15, section 3 with 20.1 in 20, section 4 in 10, section 5 with 20.2 in 10, section 6 with 20.3 in 15, the rest for sections 7 and 8.
#
# **Ask before section 4:** "The flow has seen Caltech only. Which of these slices will it like best?" Nearly everybody says the target.
# **Ask after section 6:** "Why not push the changed slices down for ever?"
#
# **Frequent slips.** 20.1: the network sees the values that move. 20.2: the subtraction is of bytes. 20.3: the margin is trained, which pushes the target's slices the wrong way.

# %% [markdown]
# ## References
#
# - Beizaee, Desrosiers, Lodygensky and Dolz, *Harmonizing Flows: Unsupervised MR harmonization based on normalizing flows*, 2023.
# - Dinh, Sohl-Dickstein and Bengio, *Density estimation using Real NVP*, ICLR 2017.
# - Ho, Chen, Srinivas, Duan and Abbeel, *Flow++: improving flow-based generative models with variational dequantization and architecture design*, ICML 2019.
# - Theis, van den Oord and Bethge, *A note on the evaluation of generative models*, ICLR 2016.
# - Nalisnick and colleagues, *Do deep generative models know what they don't know?*, ICLR 2019.
