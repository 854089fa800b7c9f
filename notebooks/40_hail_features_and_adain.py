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
# # 40 · HAIL: features and AdaIN
#
# **You will be able to**
#
# - say what an encoder's features keep of a scan, and what a pooling throws away;
# - move a style from one scan to another by two numbers for each channel;
# - explain why many channels do more than one straight line, and why the air must not count;
# - compute a style loss and a content loss, and say which of them sees the person and which the scanner.
#
# **From the paper:** Parida and colleagues, 2023, sections 1 and 2.1, Figures 1, 3 and 4.
#
# **Before:** notebooks 02 and 03.
# **Measured:** 16 seconds and 1.0 GB on one processor core.
#
# *Simulated people · expectations stated before results · three exercises, 22 minutes.*
#
# **Your functions run this notebook.**
# Once an exercise passes its check, the cells below use your function.
# Until then they use the package's, and say so.
#
# **Symbols in this notebook:**
#
# | symbol | meaning |
# | --- | --- |
# | $i, t, p$ | input, target and prediction: the scan as it came, the one reference, the harmonized scan |
# | $f(x)$ | the features of a scan $x$: what the encoder makes of it, one volume for each channel |
# | $\mu, \sigma$ | mean and standard deviation of each channel over the voxels: its *style*; $\sigma$ divides by the number of voxels |
# | $\text{nWD}(i,p), \text{nWD}(t,p)$ | distance of histograms moved and left, in per cent of the whole way (notebook 02) |

# %% tags=["colab", "folded"]
# @title Installation, on Colab only
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/harmony-lite/harmony-lite@main")  # noqa: F821

# %% tags=["setup", "folded"]
# @title Imports, and which function an exercise gives to the notebook
import numpy as np
import pandas as pd
import torch
from torch import nn

import harmony_lite as hl
from harmony_lite.evaluate import metrics
from harmony_lite.exercises import Mine, hint  # noqa: F401
from harmony_lite.images.normalize import subject_percentile
from harmony_lite.papers.hail.adain import adain, style_of
from harmony_lite.papers.hail.exercises_40 import ANSWERS
from harmony_lite.papers.hail.experiment import PEOPLE_ON
from harmony_lite.papers.hail.losses import likeness_loss, style_loss
from harmony_lite.papers.hail.networks import AutoEncoder, Decoder, Encoder
from harmony_lite.papers.hail.phases import crops, drawn_corners
from harmony_lite.papers.hail.settings import NetworkSizes
from harmony_lite.show import COLOURS, diagram, image, panels, show
from harmony_lite.splits import people

BLUE, ORANGE, GREEN, PINK = COLOURS[:4]
GREY = "#777777"
mine = Mine(ANSWERS)  # your functions, once they have passed

# %% [markdown]
# ## 1. One scan says where to go
#
# **Question.** A new hospital sends one scan. Can you bring your scans to its look, with nothing else?
#
# **Idea.** Learn once, on sites that you have, what a look *is*. Then read the look off the one scan.
#
# HAIL learns in two phases.
# In phase 1 an encoder and a decoder learn to give back what they are given.
# In phase 2 the encoder is frozen, and the decoder learns to draw the anatomy of one scan in the look of another.
# Nothing in it names a site. A site that comes later needs no training: its one scan is read, as the others were.
# That is what the paper calls one-shot learning, and it has rare diseases in mind, where a hospital may have no more to give.
# Between the two stands AdaIN, *adaptive instance normalization*: it swaps the look of the features.
#
# **Look at** the two blue boxes in the middle. They are one network, which both scans pass through: the paper calls that a Siamese network.
# A third loss, consistency, is left to notebook 41.

# %% tags=["folded"]
# @title Diagram: one encoder, AdaIN, one decoder, two of the three losses, after Figure 1
boxes = {
    "input": (1.2, 2.6, "input $i$", ORANGE),
    "target": (1.2, 1.1, "target $t$:\nthe one reference", GREEN),
    "one": (4.3, 2.6, "encoder (frozen)", BLUE),
    "two": (4.3, 1.1, "the same encoder", BLUE),
    "adain": (7.4, 1.85, "AdaIN", BLUE),
    "decoder": (9.8, 1.85, "decoder\n(learns)", BLUE),
    "out": (12.3, 1.85, "prediction $p$", PINK),
    "content": (12.3, 3.0, "content loss: features of $i$", GREY),
    "style": (12.3, 0.7, "style loss: $\\mu$, $\\sigma$ of $t$", GREY),
}
arrows = [
    ("input", "one", "", 0, ORANGE),
    ("target", "two", "", 0, GREEN),
    ("one", "adain", "$f(i)$", 0, ORANGE),
    ("two", "adain", "$\\mu, \\sigma$ of $f(t)$", 0, GREEN),
    ("adain", "decoder", "", 0, BLUE),
    ("decoder", "out", "", 0, BLUE),
    ("out", "content", "", 0, GREY),
    ("out", "style", "", 0, GREY),
]
alt = "Input and target pass through one frozen encoder. AdaIN gives the input's features the means and deviations of the target's. A decoder draws the prediction, which a content loss and a style loss judge."
show(diagram(boxes, arrows, size=(14.6, 3.6)), alt=alt)

# %% [markdown]
# Phase 2 and its results are the subject of notebook 41.
# Here are the paper's three sites, simulated from its Table 1: A is a spin echo, B and C are gradient echoes.
# Every scan is scaled by the 1st and 99th percentiles of its own brain.

# %%
A, B, C = PEOPLE_ON
short = {A: "site A", B: "site B", C: "site C"}
cohort = people(PEOPLE_ON)[1]  # validation people
brain = cohort.mask
scans = {site: subject_percentile(cohort.scans(site), brain) * brain for site in PEOPLE_ON}
scan, mask = scans[A][:1], brain[:1]
z = scan.shape[-1] // 2 + 4  # the axial slice that figures show
print("people:", len(cohort), "| one scan:", tuple(scan.shape[2:]), "voxels of 2 mm")

# %% tags=["folded"]
# @title Two people on three sites
figure, axes = panels(6, size=(9.6, 2.3))
pairs = [(person, site) for person in (0, 1) for site in PEOPLE_ON]
for axis, (person, site) in zip(axes, pairs, strict=True):
    image(axis, scans[site][person, 0, ..., z], title=f"person {person + 1}, {short[site][-1]}")
figure.suptitle("Simulated: two people on HAIL's three sites, one window", fontsize=10)
alt = "Six axial slices: two people on the sites A, B and C. Between grey and white matter there is less contrast on A than on B. C is dark, with a bright patch at the back."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** Compare the grey rim with the white core: there is less contrast on A than on B.
# C looks dark because its coil makes one place bright, and that raises the 99th percentile by which the scan is scaled.
# A style will be able to move the first difference. Keep the second in mind.
#
# ## 2. What an encoder keeps
#
# **Question.** The paper's encoder halves the volume three times. How much anatomy is left after that?
#
# **Idea.** Encode, decode, and look.
#
# The encoder is plain: in each level a convolution with 3 x 3 x 3 voxels and a ReLU, between the levels a pooling that keeps the largest of eight voxels.
# From level to level there are more channels and fewer voxels, 64 at the top and 512 at the bottom.
# There is no normalization, and for a reason: means and deviations are the style, and a normalization would throw them away.
#
# ### Exercise 40.1 · How far a feature looks (6 minutes, ★)
#
# A feature of the deepest level depends on a cube of the scan. How many voxels does it reach to each side, beyond the voxels that it stands for?


# %% tags=["exercise", "exercise-40.1"]
def reach(levels, pools):
    """Voxels of the scan to each side, for so many levels, the first of which are each followed by a pooling."""
    raise NotImplementedError("your turn")


mine.check("40.1", reach)
# hint("40.1", 1)  # take the first # away for a hint; there are three


# %% tags=["solution", "exercise-40.1"]
def reach(levels, pools):
    """Voxels of the scan to each side, for so many levels, the first of which are each followed by a pooling."""
    return sum(2 ** min(level, pools) for level in range(levels))


assert mine.check("40.1", reach).passed

# %%
reaches = mine("40.1")
sizes = NetworkSizes()  # as printed: 64, 128, 256, 512 channels, three poolings
counts = [sum(weight.numel() for weight in part(sizes).parameters()) for part in (Encoder, Decoder)]
print(f"parameters of encoder and decoder: {counts[0]:,} and {counts[1]:,}")
assert counts[0] == 4_647_552

# %%
print(f"a feature looks {reaches(4, 3)} voxels to each side, beyond the {2**3} voxels that it stands for")

# %% [markdown]
# Now the shipped networks.
# `paper` has the printed form with an eighth of the channels: four levels, three poolings. At the bottom it keeps 64 numbers for 512 voxels.
# `ours` has no pooling. It moves blocks of 2 x 2 x 2 voxels into the channels (a pixel-unshuffle in three dimensions), which loses nothing, and at the bottom it has 64 numbers for 8 voxels.
#
# **Expected.** With poolings, folds are lost: where in its eight voxels the largest one was, a pooling does not keep.

# %%
networks = {variant: hl.load_method("hail", variant).network for variant in ("paper", "ours")}
seen, correlations = {}, {}
with torch.no_grad():
    for variant, network in networks.items():
        seen[variant] = network.decoder(network.encoder(scan)[-1]) * mask
        correlations[variant] = float(metrics.ncc(seen[variant], scan, mask))
print("correlation with the scan:", {name: round(value, 3) for name, value in correlations.items()})
assert correlations["ours"] > correlations["paper"]

# %% tags=["folded"]
# @title A scan, and what comes back from its features
figure, axes = panels(3, size=(7.2, 2.9))
image(axes[0], scan[0, 0, ..., z], title="scan")
for axis, variant in zip(axes[1:], networks, strict=True):
    image(axis, seen[variant][0, 0, ..., z], title=f"{variant}: correlation {correlations[variant]:.3f}")
figure.suptitle("Simulated: encoded and decoded, with no change of style", fontsize=10)
alt = "Three slices: the scan; a blurred one, from features after three poolings; a sharp one, from features without pooling."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** The printed form loses the folds, as expected, before any harmonization has begun.
# Two things differ between the two networks: the poolings, and how many numbers are kept for a voxel. This comparison does not tell them apart.
# Keep it in mind when a table says that a method moved far from its input: blur moves a histogram too.
#
# ## 3. A style is two numbers
#
# **Question.** How do you give one scan the look of another, of another person?
#
# **Idea.** Match mean and deviation. Begin with the simplest features, the intensities themselves.
#
# For a channel $x$ of the input and the same channel $y$ of the target (Huang and Belongie, 2017):
#
# $$\text{AdaIN}(x, y) = \sigma(y)\,\frac{x - \mu(x)}{\sigma(x)} + \mu(y)$$
#
# ### Exercise 40.2 · AdaIN by hand (8 minutes, ★★)
#
# Write it for several channels at once. The target may have another number of voxels.
# The deviation $\sigma$ is the one that divides by the number of voxels: `std(..., correction=0)`.
# A channel may be *silent*, the same everywhere: keep its deviation from being 0 where you divide by it.


# %% tags=["exercise", "exercise-40.2"]
def moved(x, y):
    """Features x (C, N) with mean and deviation of y (C, M), channel by channel."""
    raise NotImplementedError("your turn")


mine.check("40.2", moved)


# %% tags=["solution", "exercise-40.2"]
def moved(x, y):
    """Features x (C, N) with mean and deviation of y (C, M), channel by channel."""

    def parts(z):
        return z.mean(1, keepdim=True), z.std(1, keepdim=True, correction=0)

    (own, spread), (wanted, width) = parts(x), parts(y)
    return (x - own) / spread.clamp_min(1e-6) * width + wanted


assert mine.check("40.2", moved).passed

# %%
to_style = mine("40.2")
other, other_mask = scans[B][1:2], brain[1:2]  # another person on site B: the one reference
x, y = scan[mask][None], other[other_mask][None]  # one channel: the intensities
line = to_style(x, y)[0]
packaged = adain(scan, style_of(scan, mask.float()), style_of(other, other_mask.float()))[mask]
assert torch.allclose(line, packaged, atol=1e-4)


def distances(found):
    """nWD(i,p) and nWD(t,p) of brain voxels, in per cent."""
    before, after, target = (values.flatten()[None, None, None] for values in (x, found, y))
    return [round(float(value), 1) for value in metrics.nwd(before, after, target)]


print("one channel: moved and left, %:", distances(line))

# %% tags=["folded"]
# @title Histograms before and after: one straight line
figure, axes = panels(2, size=(8.4, 2.8))
bins = np.linspace(-0.3, 1.3, 90)
for axis, values, title in ((axes[0], x[0], "before"), (axes[1], line, "after AdaIN of the intensities")):
    axis.hist(values.numpy(), bins, color=ORANGE, alpha=0.6, density=True)
    axis.hist(y[0].numpy(), bins, color=GREEN, histtype="step", linewidth=1.8, density=True)
    axis.set(title=title, xlabel="intensity", yticks=[])
axes[0].text(0.03, 0.9, "input, site A", color=ORANGE, transform=axes[0].transAxes)
axes[0].text(0.03, 0.8, "target, site B", color=GREEN, transform=axes[0].transAxes)
alt = "Two pairs of histograms. Before, the input's peaks lie closer together than the target's. After AdaIN they have moved, and still do not lie on the target's."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** AdaIN of the intensities is a straight line, and nothing more.
# The histograms have the same mean and the same width now, and still another shape.
# The two percentages need not add up to 100: a histogram can move far and end beside the target.
#
# ## 4. Many channels bend the line
#
# **Question.** Two numbers for one channel are a straight line. What do two numbers for each of many channels do?
#
# **Idea.** Take channels that each see a part of the range, as a ReLU does: $f_k(x) = \max(0, x - \tau_k)$.
# Then ask for a scan whose channels *all* have the target's means and deviations.
#
# This is phase 2 in miniature: the decoder is a curve of the intensities, and it learns from the style loss alone.
#
# ### Exercise 40.3 · A style loss (8 minutes, ★★)
#
# The paper takes the style loss at "the layers" of the encoder and prints no formula.
# Take the one of AdaIN's own paper: at each level the mean square between the channels' means, plus that between their deviations ($\sigma$ as above), summed over the levels.


# %% tags=["exercise", "exercise-40.3"]
def style_between(levels, others):
    """Style loss of two lists of features, (C, N) at each level; C and N may differ from level to level."""
    raise NotImplementedError("your turn")


mine.check("40.3", style_between)


# %% tags=["solution", "exercise-40.3"]
def style_between(levels, others):
    """Style loss of two lists of features, (C, N) at each level; C and N may differ from level to level."""
    total = 0.0
    for one, other in zip(levels, others, strict=True):
        total = total + (one.mean(1) - other.mean(1)).square().mean()
        total = total + (one.std(1, correction=0) - other.std(1, correction=0)).square().mean()
    return total


assert mine.check("40.3", style_between).passed

# %% tags=["algorithm"]
between = mine("40.3")
KNOTS = torch.linspace(-0.3, 1.3, 33)


def features(values, count):
    """An encoder of ReLUs: the part of the intensities (N,) above each of so many thresholds, (C, N)."""
    at = torch.linspace(-0.1, 0.9, count) if count > 1 else torch.tensor([-10.0])  # one that cuts nothing off
    return (values - at[:, None]).clamp_min(0)


def on_knots(values):
    """The share of each knot in each intensity, (N, 33): a curve through the knots is this times their heights."""
    step = KNOTS[1] - KNOTS[0]
    return (1 - ((values.clamp(-0.3, 1.3)[:, None] - KNOTS) / step).abs()).clamp_min(0)


def learned_curve(values, target, count, steps=600):
    """A rising curve of the intensities whose features have the target's style."""
    shares, wanted = on_knots(values), features(target, count)
    rises = torch.full((32,), -2.97, requires_grad=True)  # softplus of it is 0.05, a knot's distance: no change
    start = torch.tensor(-0.3, requires_grad=True)
    optimizer = torch.optim.Adam([rises, start], lr=0.03)
    for _ in range(steps):
        heights = torch.cat([start[None], start + nn.functional.softplus(rises).cumsum(0)])
        loss = between([features(shares @ heights, count)], [wanted])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (shares @ heights).detach(), heights.detach()


# %% [markdown]
# **Expected.** The more channels, the smaller the distance that is left. With one channel the curve is nearly a straight line, and leaves as much.

# %%
chosen = torch.Generator().manual_seed(0)
few, goal = (v[0, torch.randperm(v.shape[1], generator=chosen)[:4000]] for v in (x, y))
curves = {count: learned_curve(few, goal, count) for count in (1, 2, 4, 16)}


def left_over(found):
    """nWD(t,p) in per cent, of 4,000 voxels."""
    before, after, target = (values[None, None, None, None] for values in (few, found, goal))
    return float(metrics.nwd(before, after, target)[1])


left = {count: left_over(found) for count, (found, _) in curves.items()}
straight = (few - few.mean()) / few.std() * goal.std() + goal.mean()
print(f"a straight line leaves {left_over(straight):.0f} %")
print({f"{count} channels": f"{value:.0f} %" for count, value in left.items()})
assert left[16] < left[2] < left_over(straight)

# %% tags=["folded"]
# @title Curves that were learned from a style, by the number of channels
figure, axes = panels(2, size=(8.6, 3.2))
line_there = (KNOTS - few.mean()) / few.std() * goal.std() + goal.mean()  # AdaIN of the intensities
axes[0].axhline(0, color=GREY, linestyle=":")
axes[0].text(0.52, 0.02, "AdaIN's line", color=GREY)
dashes = {1: (GREY, "-"), 2: (ORANGE, "--"), 4: (PINK, "-"), 16: (BLUE, "--")}
for count, (_, heights) in curves.items():
    colour, dash = dashes[count]
    label = f"{count} channel{'s' * (count > 1)}"
    axes[0].plot(KNOTS, heights - line_there, color=colour, linestyle=dash, linewidth=2, label=label)
axes[0].legend(frameon=False, fontsize=8)
axes[0].set(xlabel="intensity on site A", ylabel="above AdaIN's line", xlim=(0, 1.1), ylim=(-0.15, 0.15))
axes[0].set_title("how the learned curve bends")
axes[1].plot(list(left), list(left.values()), "o-", color=BLUE)
axes[1].axhline(left_over(straight), color=GREY, linestyle=":")
axes[1].text(6, left_over(straight) - 4, "AdaIN's line", color=GREY)
axes[1].set(xlabel="channels", ylabel="nWD(t,p), %", xticks=list(left), ylim=(0, None))
axes[1].set_title("what is left to the target")
figure.suptitle("Simulated: site A to one scan of site B", fontsize=10)
alt = "Left, how four learned curves lie above and below the straight line: with one and two channels they bend a little and lie on each other, with 4 and 16 they bend a lot, alike. Right, the distance left to the target falls with the number of channels and stays level from four on."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** A straight line leaves 55 % of the way, four channels leave 11, sixteen 10.
# With one channel the expectation fails: 42 % are left. Many curves have the right mean and deviation, and the style does not say which; the curve that was learned bends a little, and by chance the right way.
# One scan of another person was enough, and two numbers for each channel.
# That is the strength of AdaIN, and its limit: a style has no places.
# What differs from place to place, such as the shading of a coil, no style can move.
#
# ## 5. Features of a real encoder
#
# **Question.** What does AdaIN do to the 64 channels of the shipped encoder?
#
# **Idea.** The same as to one: two numbers for each. Apply your function to all of them, and hold it against the package's.
#
# Features are a volume for each channel. Only those inside the brain are moved here.
# The *gain* of a channel is $\sigma(t) / \sigma(i)$, by which AdaIN stretches it.

# %%
network = networks["ours"]
with torch.no_grad():
    deep, deep_other = (network.encoder(volume)[-1] for volume in (scan, other))  # (1, 64, 40, 48, 40) each
within, within_other = (nn.functional.avg_pool3d(m.float(), 2)[0, 0] == 1 for m in (mask, other_mask))  # whole blocks
own, wanted = deep[0][:, within], deep_other[0][:, within_other]  # (64, voxels)
sent = to_style(own, wanted)
print("channels:", len(own), "| of them silent in the brain:", int((own.amax(1) == 0).sum()))

# %%
spread = torch.stack([own.std(1), wanted.std(1)])
gains = (spread[1] / spread[0].clamp_min(1e-6))[own.amax(1) > 0.01]
print(f"gains of the channels from {gains.min():.2f} to {gains.max():.2f}, middle {gains.median():.2f}")
packaged_style = [style_of(d, w[None, None].float()) for d, w in ((deep, within), (deep_other, within_other))]
packaged = adain(deep, *packaged_style)[0][:, within]
assert torch.allclose(sent, packaged, atol=1e-3)

# %% [markdown]
# **What to notice.** The channels do not ask for one and the same gain, and that is what bends the line.
# The decoder has to make one scan of 64 channels that were each moved by themselves.
# Nothing says that they still fit together: there may be no scan at all that has these features.
# So the decoder has to be trained for it, and that is what phase 2 is for.
#
# ## 6. The air must not count
#
# **Question.** The paper takes whole heads, scaled from 0 to 1 by minimum and maximum. Over which voxels does it take mean and deviation?
#
# **Idea.** It does not say. Try both: all voxels, or the brain alone.
#
# **Expected.** Over all voxels the size of the head decides: most voxels are air, and two people do not have equally much of it.

# %%
both = {"all voxels": (None, None), "brain": (mask.float(), other_mask.float())}
styles = {name: [style_of(v, m) for v, m in zip((scan, other), masks, strict=True)] for name, masks in both.items()}
sent = {name: adain(scan, *pair)[mask] for name, pair in styles.items()}
same_site = scans[A][1:2]  # the second person, on the input's own site
means = {
    name: [float(style_of(v, m).means) for v, m in zip((scan, same_site), masks, strict=True)]
    for name, masks in both.items()
}
apart = {name: 100 * abs(one - two) / one for name, (one, two) in means.items()}
table = {name: [*distances(values), apart[name]] for name, values in sent.items()}
pd.DataFrame(table, index=["nWD(i,p), %", "nWD(t,p), %", "two people, one site: means differ by, %"]).T.round(1)

# %% [markdown]
# **What to notice.** Over all voxels three quarters of the way are left, over the brain a little more than half.
# And two people on *one* site differ in their means by 10.5 % over all voxels, by 7.1 % over the brain: part of the difference is how large the brain is.
#
# > **Paper says / code does.**
# > There is no public code of HAIL; a repository of that name holds another method.
# > So whatever the paper leaves open is a setting here. Where the style is taken is one of them: `ours` takes the brain, `paper` takes everything.
#
# ## 7. Who is in the style, who in the content?
#
# **Question.** The style loss should see the scanner, and the content loss the person. Do they?
#
# **Idea.** Take the shipped encoder and three pairs of scans: one person on two sites, two people on one site, two people on two sites.
#
# The content loss is the mean square between the deepest features, voxel by voxel.
#
# **Expected.** Style is large between sites and small between people; content the other way round.

# %%
encoder = networks["ours"].encoder
with torch.no_grad():
    levels = {(p, s): encoder(scans[s][p : p + 1]) for p in (0, 1, 2) for s in (A, B)}
inside = {p: brain[p : p + 1].float() for p in (0, 1, 2)}


def losses(one, other):
    """Content, and style of each level, of two scans (person, site)."""
    content = (levels[one][-1] - levels[other][-1]).square().mean()
    masks = inside[one[0]], inside[other[0]]
    by_level = [style_loss([a], [b], masks) for a, b in zip(levels[one], levels[other], strict=True)]
    return [1e4 * float(value) for value in (content, *by_level)]


kinds = {
    "one person, two sites": [((p, A), (p, B)) for p in (0, 1, 2)],
    "two people, one site": [((p, s), (q, s)) for p, q in ((0, 1), (1, 2), (0, 2)) for s in (A, B)],
    "two people, two sites": [((p, A), (q, B)) for p in (0, 1, 2) for q in (0, 1, 2) if p != q],
}
means = {kind: np.mean([losses(*pair) for pair in found], 0) for kind, found in kinds.items()}
pd.DataFrame(means, index=["content", "style, level 1", "style, level 2"]).T.round(2)

# %% tags=["folded"]
# @title Content and style of three kinds of pairs
figure, axes = panels(2, size=(8.6, 2.8))
for axis, rows, title in ((axes[0], [0], "content loss"), (axes[1], [1, 2], "style loss, both levels")):
    values = [means[kind][rows].sum() for kind in means]
    axis.barh(list(means), values, color=[ORANGE, BLUE, GREY])
    axis.invert_yaxis()
    axis.set_title(title)
    axis.set_xlabel("times 10,000")
axes[1].set_yticks([])
figure.suptitle("Simulated: three people, two sites", fontsize=10)
alt = "Two bar charts for three kinds of pairs of scans: the content loss, and the style loss."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** Both expectations hold.
# The style loss between sites is three to four times that between people; the content loss between people is seven times that between sites.
# But content is not blind to the site. A loss that holds the prediction's content against the *input's* features therefore pulls it back a little towards the input's look.
# That is how the paper's text has it. AdaIN's own paper takes the features after AdaIN; both are settings here.
#
# ## 8. Phase 1, live
#
# **Question.** How does an encoder learn features without any labels?
#
# **Idea.** It gives back what it is given. The loss is
#
# $$\mathcal L = \lVert x - \hat x \rVert_1 + 1 - \text{SSIM}(x, \hat x),$$
#
# "with equal weights", on random crops from all three sites.

# %%
torch.manual_seed(0)
beginner = AutoEncoder(networks["ours"].encoder.sizes)
optimizer = torch.optim.AdamW(beginner.parameters(), lr=1e-3)
volumes, masks = (
    torch.cat([part[site][:, 0] for site in PEOPLE_ON]) for part in (scans, dict.fromkeys(PEOPLE_ON, brain))
)
chance, live = torch.Generator().manual_seed(1), []
for _ in range(40):
    who = torch.randint(len(volumes), (4,), generator=chance)
    corners = drawn_corners(volumes.shape[1:], 32, 4, chance)
    crop, _ = crops((volumes, masks), who, corners, 32)
    loss = likeness_loss(beginner(crop), crop)  # L1 + 1 - SSIM
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    live.append(loss.item())
shipped = likeness_loss(networks["ours"](crop), crop).item()
print(f"loss: {live[0]:.2f} at first, {np.mean(live[-5:]):.2f} after 40 steps, {shipped:.3f} of the shipped weights")
assert np.mean(live[-5:]) < live[0]

# %% tags=["folded"]
# @title One crop: given, after 40 steps, and of the shipped weights
with torch.no_grad():
    shown = {"given": crop, "after 40 steps": beginner(crop), "shipped weights": networks["ours"](crop)}
which = int(crop.flatten(1).mean(1).argmax())
figure, axes = panels(3, size=(6.6, 2.6))
for axis, (name, volume) in zip(axes, shown.items(), strict=True):
    image(axis, volume[which, 0, ..., 16], title=name)
figure.suptitle("Simulated: a crop of 32 voxels a side", fontsize=10)
alt = "One crop of a brain: as it was given; pale and coarse after 40 steps; sharp from the shipped weights."
show(figure, alt=alt)

# %% [markdown]
# ## What to take away
#
# - A style is mean and deviation of each channel. It knows no places: it can move a contrast, never a shading.
# - AdaIN of the intensities is a straight line. Many channels that see different parts of the range bend it.
# - Features that keep few numbers for a voxel cost anatomy that no decoder brings back. Look at the plain reconstruction before you judge a style transfer.
# - Over which voxels a statistic is taken is part of the method.
#
# **Traps.**
# Blur moves a histogram: a large distance from the input may be damage.
# A style taken over the air measures the size of a head.
# An encoder that was trained on all sites has seen the "unseen" one: notebook 41 asks what that is worth.

# %% [markdown] tags=["instructor"]
# ## For the instructor
#
# **A class of 50 minutes:** section 1 in 5, section 2 with 40.1 in 10, section 3 with 40.2 in 12, section 4 with 40.3 in 13, sections 5 to 7 in 10.
#
# **Ask before section 3:** "Can one scan of *another* person tell you a scanner's look?" Then show the histograms.
#
# **Frequent slips.** 40.1: the pooling is counted before the level's own convolution. 40.2: one mean for all channels. 40.3: voxel by voxel, which is content and not style.

# %% [markdown]
# ## References
#
# - Parida and colleagues, *Harmonization across imaging locations (HAIL): one-shot learning for brain MRI*, 2023.
# - Huang and Belongie, *Arbitrary style transfer in real-time with adaptive instance normalization*, ICCV 2017.
