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
# # 31 · BlindHarmonyDiff: from edges to an image
#
# **You will be able to**
#
# - explain a rectified flow: a straight way from noise to data, and a network that learns its direction;
# - write its loss, and walk along it with Euler's and with the midpoint method;
# - say what more steps buy, and why PSNR does not thank you for them;
# - show where such a model makes things up, on a lesion whose place you know.
#
# **From the paper:** Jeong and colleagues, 2025, sections 3.3 and 5, Equations 5 and 6, supplement S3.1.
#
# **Before:** notebook 30.
# **Measured:** 40 seconds and 0.8 GB on one processor core.
#
# *Simulated people · expectations stated before results · three exercises, 20 minutes.*
#
# **Your functions run this notebook.**
# Once an exercise passes its check, the cells below use your function.
# Until then they use the package's, and say so.
#
# **Symbols in this notebook:**
#
# | symbol | meaning |
# | --- | --- |
# | $x_0$ | noise, from a normal distribution |
# | $x_1$ | an image of the target |
# | $x_t$ | a point on the straight way between them, at time $t$ from 0 to 1 |
# | $v_\theta(x_t, t; e, i, j, k)$ | the network's velocity, told the edges $e$ and the coordinates $i, j, k$ |

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
from harmony_lite.evaluate.planted_lesion import PlantedLesion
from harmony_lite.exercises import Mine, hint  # noqa: F401
from harmony_lite.images.normalize import subject_percentile
from harmony_lite.papers.blindharmonydiff.exercises_31 import ANSWERS
from harmony_lite.papers.blindharmonydiff.experiment import PEOPLE_ON, SOURCES
from harmony_lite.papers.blindharmonydiff.flow import velocity_loss
from harmony_lite.papers.blindharmonydiff.network import NetworkSizes, VelocityNetwork
from harmony_lite.papers.blindharmonydiff.patches import Patches, draw_patches, strides_for
from harmony_lite.papers.blindharmonydiff.sampler import SamplerSettings, sample, steps_of, velocity_of
from harmony_lite.show import COLOURS, image, panels, show
from harmony_lite.splits import people

BLUE, ORANGE, GREEN, PINK = COLOURS[:4]
GREY = "#777777"
mine = Mine(ANSWERS)  # your functions, once they have passed

# %% [markdown]
# ## 1. A straight way from noise to data
#
# **Question.** A network shall make an image out of noise. What exactly should it learn?
#
# **Idea.** Pair a noise sample $x_0$ with an image $x_1$ at random, draw a straight line between them, and learn which way the line goes at every point.
#
# $$dx_t = v(x_t, t)\,dt, \qquad x_t = t\,x_1 + (1 - t)\,x_0 \tag{5}$$
#
# $$\mathcal L = \mathbb E_{x_0}\Bigl[\int_0^1 \bigl\lVert (x_1 - x_0) - v_\theta(x_t, t; e, i, j, k)\bigr\rVert^2 dt\Bigr] \tag{6}$$
#
# ### Exercise 31.1 · The straight way and its direction (8 minutes, ★)
#
# Given noise, images and a time for each, write the point on the way and the velocity that Equation 6 wants there.


# %% tags=["exercise", "exercise-31.1"]
def way(noise, image, time):
    """x_t (B, n) of noise and images (B, n) at times (B,), and the velocity (B, n) wanted there."""
    raise NotImplementedError("your turn")


mine.check("31.1", way)
# hint("31.1", 1)  # take the first # away for a hint; there are three


# %% tags=["solution", "exercise-31.1"]
def way(noise, image, time):
    """x_t (B, n) of noise and images (B, n) at times (B,), and the velocity (B, n) wanted there."""
    t = time[:, None]
    return t * image + (1 - t) * noise, image - noise


assert mine.check("31.1", way).passed

# %% [markdown]
# ### One dimension, and no network
#
# Let the "images" be single numbers with two peaks.
# Then the best answer to Equation 6 is a formula.
# At a point $x$ and a time $t$ many lines pass; the squared error is smallest for the *mean* of their directions.
# For the lines that end at a peak $\mu$ of width $s$ everything is normally distributed, and that mean is
#
# $$v_\mu(x, t) = \frac{(1 - t)\,\mu + \bigl(t s^2 - (1 - t)\bigr)\,x}{t^2 s^2 + (1 - t)^2}.$$
#
# What remains is to weigh the peaks by how likely a line through $x$ is to end there.
#
# **Expected.** The formula agrees with the average over lines that you draw at random. The lines cross everywhere; the ways along $v$ cannot, because at each point and time there is one velocity only.

# %%
along = mine("31.1")
chance = torch.Generator().manual_seed(0)
peaks, width = torch.tensor([-1.0, 1.5]), 0.2


def exact_velocity(x, t):
    """Mean of x_1 - x_0 over all lines through x (B,) at time t."""
    variance = (t * width) ** 2 + (1 - t) ** 2
    weights = torch.softmax(-((x[:, None] - t * peaks) ** 2) / (2 * variance), 1)  # to which peak, (B, 2)
    towards = ((1 - t) * peaks + (t * width**2 - (1 - t)) * x[:, None]) / variance
    return (weights * towards).sum(1)


# %%
def two_peaks(count):
    """Points (count,) near the two peaks."""
    which = torch.randint(0, 2, (count,), generator=chance)
    return peaks[which] + width * torch.randn(count, generator=chance)


lines = 200_000
noise, data = torch.randn(lines, generator=chance), two_peaks(lines)
x, velocity = along(noise[:, None], data[:, None], torch.full((lines,), 0.6))
near = (x[:, 0] - 0.3).abs() < 0.02  # lines that pass 0.3 at t = 0.6
drawn, formula = velocity[near].mean(), exact_velocity(torch.tensor([0.3]), 0.6)[0]
print(f"{int(near.sum())} lines pass there: mean velocity {drawn:.3f}, by the formula {formula:.3f}")
assert abs(drawn - formula) < 4 * velocity[near].std() / near.sum().sqrt()

# %% tags=["folded"]
# @title In one dimension: lines of pairs, and ways along their mean
figure, axes = panels(2, size=(8.4, 3.2), sharey=True)
from_noise, fine = torch.linspace(-2.2, 2.2, 45), SamplerSettings(points=101, solver="euler")
ways = torch.stack(list(steps_of(exact_velocity, from_noise, fine)))
for n in range(60):
    axes[0].plot([0, 1], [noise[n], data[n]], color=BLUE if data[n] > 0.25 else ORANGE, alpha=0.4, linewidth=0.8)
for n in range(len(from_noise)):
    colour = BLUE if ways[-1, n] > 0.25 else ORANGE
    axes[1].plot(torch.linspace(0, 1, 101), ways[:, n], color=colour, alpha=0.6, linewidth=0.8)
for axis, title in zip(axes, ("lines of random pairs", "ways along the mean velocity"), strict=True):
    axis.set(xlabel="time t", title=title)
axes[0].set_ylabel("x: noise left, data right")
alt = "Left: straight lines from noise to two peaks cross everywhere. Right: the ways along their mean velocity part in the middle, bend, and never cross."
show(figure, alt=alt)
assert bool((ways.diff(dim=1) > 0).all())  # their order is kept: none crosses another

# %% [markdown]
# **What to notice.** Both hold.
# In the middle, where nobody can say to which peak a line goes, the mean velocity is small and the ways wait; later they part quickly.
# To avoid crossings the ways have to bend, and that is why one step is not enough.
#
# ### Two dimensions, and a network
#
# Now "images" of two numbers, which lie on two half circles, and no formula.
# The network is told which half circle is wanted, as the large one will be told the edges.


# %% tags=["algorithm"]
def half_circles(count):
    """Points (count, 2) on two half circles, and which of the two each is on, (count, 1), -1 or 1."""
    which = torch.randint(0, 2, (count,), generator=chance).float() * 2 - 1
    angle = torch.rand(count, generator=chance) * torch.pi
    points = torch.stack([which * 0.5 + angle.cos(), which * (angle.sin() - 0.25)], 1)
    return points + 0.05 * torch.randn(count, 2, generator=chance), which[:, None]


torch.manual_seed(0)  # of the first weights
small = nn.Sequential(nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))
optimizer = torch.optim.Adam(small.parameters(), lr=3e-3)
losses = []
for _ in range(1500):
    points, which = half_circles(256)
    noise, time = torch.randn(256, 2, generator=chance), torch.rand(256, generator=chance)
    x, velocity = along(noise, points, time)  # Equation 5
    guess = small(torch.cat([x, time[:, None], which], 1))
    loss = (guess - velocity).square().mean()  # Equation 6
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss: {np.mean(losses[:50]):.2f} in the first steps, {np.mean(losses[-50:]):.2f} in the last")
assert np.mean(losses[-50:]) < 0.8 * np.mean(losses[:50])

# %% [markdown]
# The loss does not go to zero, and it cannot.
# Many pairs of noise and data pass through the same point in different directions; the best a network can say there is their mean.
#
# ## 2. Walking along it
#
# **Question.** How do you get from noise to an image with a velocity in hand?
#
# **Idea.** Step by step. Euler's method goes on where the velocity points *here*. The midpoint method first looks half a step ahead.
#
# ### Exercise 31.2 · A midpoint step (6 minutes, ★★)


# %% tags=["exercise", "exercise-31.2"]
def midpoint_step(velocity, x, now, step):
    """x after one step, by the velocity(x, t) half a step ahead."""
    raise NotImplementedError("your turn")


mine.check("31.2", midpoint_step)


# %% tags=["solution", "exercise-31.2"]
def midpoint_step(velocity, x, now, step):
    """x after one step, by the velocity(x, t) half a step ahead."""
    middle = x + step / 2 * velocity(x, now)
    return x + step * velocity(middle, now + step / 2)


assert mine.check("31.2", midpoint_step).passed

# %%
step_of = mine("31.2")


def walked(velocity, noise, points=16):
    """x at each of the points in time (points, ...), by midpoint steps."""
    times = torch.linspace(0, 1, points).tolist()
    ways = [noise]
    for now, then in zip(times, times[1:], strict=False):
        ways.append(step_of(velocity, ways[-1], now, then - now))
    return torch.stack(ways)


def small_velocity(which):
    def at(x, t):
        with torch.no_grad():
            return small(torch.cat([x, torch.full((len(x), 1), t), which], 1))

    return at


start = torch.randn(300, 2, generator=chance)
which = torch.cat([torch.full((150, 1), -1.0), torch.full((150, 1), 1.0)])
ways = walked(small_velocity(which), start)
packaged = sample(small_velocity(which), start, SamplerSettings(points=16, solver="midpoint"))
assert torch.allclose(ways[-1], packaged, atol=1e-5)
print("by hand and in the package the same:", bool(torch.allclose(ways[-1], packaged, atol=1e-5)))

# %% tags=["folded"]
# @title Pairs, and the ways of the trained network
figure, axes = panels(2, size=(8.4, 3.6), sharex=True, sharey=True)
points, of_points = half_circles(300)
for side, colour in ((-1.0, ORANGE), (1.0, BLUE)):
    chosen = (of_points[:, 0] == side).nonzero()[:60, 0]
    for n in chosen:
        axes[0].plot(*torch.stack([start[n], points[n]]).T, color=colour, alpha=0.25, linewidth=0.8)
    axes[0].plot(*points[chosen].T, ".", color=colour)
    ours = (which[:, 0] == side).nonzero()[:60, 0]
    axes[1].plot(ways[:, ours, 0], ways[:, ours, 1], color=colour, alpha=0.25, linewidth=0.8)
    axes[1].plot(*ways[-1, ours].T, ".", color=colour)
axes[0].set_title("what it is trained on: random pairs")
axes[1].set_title("what it does: ways from noise to data")
alt = "Left: straight lines between random pairs cross everywhere. Right: the ways of the trained network bend and end on two half circles, one in each colour."
show(figure, alt=alt)

# %% [markdown]
# The noise on the left and on the right is the same.
# Told the colour, the network leads each point of noise to a place nearby on that half circle, and not to the partner that chance gave it.
# (Ways may cross in this picture where they pass the same place at different times.)
#
# ## 3. The same with brains
#
# **Question.** What changes when the "points" have half a million numbers?
#
# **Idea.** The network, and nothing else.
#
# It is a U-Net in three dimensions, with the time in every block.
# It has five channels in: $x_t$, the edges, and three coordinates.
# Below is its size in the paper and the size of ours.

# %%
method = hl.load_method("blindharmonydiff")
with torch.device("meta"):
    sizes = {
        "paper": VelocityNetwork(NetworkSizes()),
        "public code, with attention": VelocityNetwork(NetworkSizes(attention=True)),
        "ours": VelocityNetwork(method.settings.network),
    }
counts = {name: sum(p.numel() for p in network.parameters()) for name, network in sizes.items()}
for name, count in counts.items():
    print(f"{name:28} {count / 1e6:5.1f} million parameters")
assert abs(counts["public code, with attention"] / 1e6 - 98.5) < 0.1

# %% [markdown]
# > **Paper says / code does.**
# > The paper mentions no attention and no way in which the network learns the time. The public code has attention in every level, and a sine-and-cosine time that scales and shifts the features.
# > Ours has the second and not the first, and to be fast on a processor it moves blocks of 2 x 2 x 2 voxels into channels before the first layer.
#
# Ours departs in two things more.
# A velocity holds minus the noise of every voxel, and a narrow network cannot carry half a million random numbers through its layers.
# So ours *names the image*, and the velocity follows by the formula of section 1, with the image in the place of $\mu$ and $s = 0.08$ for how wrong it may be: what is left of the noise at the end is about that share.
# And a small network is slow to learn from three coordinates what lies where in a head.
# So ours looks up the averaged image of the target's people at each voxel's coordinates, and names what to add to that.
# The loss is Equation 6 as before.
# (Trained for three and a half minutes of one core, the network drew held-out people with 14.1 dB in one step, and with 17.4 dB when it could look up the average.)
#
# Train it for a moment, from the first weights, to see the loss fall.

# %%
target = "oasis_trio"
validation = people((target,))[1]
two = validation.subset(range(2))
scaled = (subject_percentile(two.scans(target), two.mask) * two.mask)[:, 0]
edges = method.edges_of(scaled[:, None])[:, 0]

# %%
torch.manual_seed(0)
beginner = VelocityNetwork(method.settings.network).look_up_in(method.network.averaged[0, 0]).train()
optimizer = torch.optim.Adam(beginner.parameters(), lr=1e-3)
settings, chance = method.settings.training.patches, torch.Generator().manual_seed(1)
strides, live = strides_for(scaled.shape[1:], settings), []
for _ in range(40):
    patches = draw_patches(2 * scaled - 1, edges, strides, settings, 2, chance)
    loss = velocity_loss(beginner, patches, chance)  # Equation 6
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    live.append(loss.item())
assert np.mean(live[-5:]) < np.mean(live[:5])

# %%
held = draw_patches(2 * scaled - 1, edges, strides, settings, 4, torch.Generator().manual_seed(9))
with torch.no_grad():
    long_trained = velocity_loss(
        method.network, Patches(held.images, held.conditions), torch.Generator().manual_seed(9)
    )
print(
    f"loss: {np.mean(live[:5]):.2f} at first, {np.mean(live[-5:]):.2f} after 40 steps, {long_trained:.3f} of the shipped weights"
)

# %% [markdown]
# ## 4. An image grows
#
# **Question.** What does the way from noise to a brain look like?
#
# **Idea.** Take the edges of a person whom the network has never seen, start at noise, and stop at every point.

# %%
person = validation.subset([3])
truth = subject_percentile(person.scans(target), person.mask) * person.mask
own_edges = method.edges_of(truth)
conditions = method.conditions_of(own_edges)
noise = torch.randn(1, 1, *conditions.shape[2:], generator=torch.Generator().manual_seed(0))
network = method.network


def psnr(found):
    """Of a volume in [-1, 1], inside the brain, in dB."""
    return float(metrics.psnr((found + 1) / 2 * person.mask, truth, person.mask, data_range=1.0))


velocity = velocity_of(network, conditions, SamplerSettings())
strip = [x for k, x in enumerate(steps_of(velocity, noise, SamplerSettings())) if k % 3 == 0]
image_at_16 = strip[-1]
print(f"asked {velocity.evaluations} times; PSNR to the person's own scan: {psnr(image_at_16):.1f} dB")
assert velocity.evaluations == 30

# %% tags=["folded"]
# @title A film strip from noise to a brain
z = truth.shape[-1] // 2 + 4
figure, axes = panels(8, size=(9.8, 2.1))
image(axes[0], own_edges[0, 0, ..., z].float(), title="edges")
for axis, x, k in zip(axes[1:7], strip, range(0, 16, 3), strict=True):
    image(axis, (x[0, 0, ..., z] + 1) / 2, title=f"t = {k / 15:.1f}")
image(axes[7], truth[0, 0, ..., z], title="the scan")
figure.suptitle("Simulated: from the edges of a person whom the network has not seen", fontsize=10)
alt = "Eight pictures of one slice: the edge map; noise; noise with a faint brain; a clearer brain at each step; the finished image; and the person's own scan beside it."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** At $t = 0.4$ the brain shows through the noise; from then on its shape stays and the noise fades.
# The image at the end has the person's ventricles and folds, in the greys of the target, at 17.9 dB.
# It is not the person's scan: what lies between the edges is the network's guess, and it has more grain than the scan.
#
# ## 5. How many steps?
#
# **Question.** Thirty evaluations take a while. Are they needed?
#
# **Idea.** Walk with 1, 2, 4, 8 Euler steps and with the paper's fifteen midpoint steps. Judge by PSNR, and by *sharpness*: how much the image changes from one voxel to the next, compared with the person's own scan.
#
# **Expected.** Sharpness rises with the steps. PSNR is best with few of them: one step from noise gives the *mean* of all images that fit the edges, and a mean is blurred but never far off.


# %%
def sharpness(volume):
    """Mean difference of neighbours inside the brain, as a share of the scan's own."""
    inside = person.mask[0, 0, 1:] & person.mask[0, 0, :-1]
    steps = [(v[0, 0, 1:] - v[0, 0, :-1])[inside].abs().mean() for v in (volume, 2 * truth - 1)]
    return float(steps[0] / steps[1])


# %%
rows, images = {}, {}
for name, way_of in {
    "1 step": SamplerSettings(2, "euler"),
    "2 steps": SamplerSettings(3, "euler"),
    "4 steps": SamplerSettings(5, "euler"),
    "8 steps": SamplerSettings(9, "euler"),
}.items():
    images[name] = sample(velocity_of(network, conditions, way_of), noise, way_of)
    rows[name] = [way_of.evaluations, psnr(images[name]), sharpness(images[name])]
images["15 midpoint steps"] = image_at_16
rows["15 midpoint steps"] = [30, psnr(image_at_16), sharpness(image_at_16)]
pd.DataFrame(rows, index=["evaluations", "PSNR, dB", "sharpness"]).T.round(2)

# %% tags=["folded"]
# @title The same slice after few and many steps
figure, axes = panels(6, size=(9.8, 2.4))
for axis, (name, volume) in zip(axes, images.items(), strict=False):
    image(axis, (volume[0, 0, ..., z] + 1) / 2, title=f"{name}\n{rows[name][1]:.1f} dB")
image(axes[5], truth[0, 0, ..., z], title="the scan")
figure.suptitle("Few steps are smooth, many are sharp (simulated)", fontsize=10)
alt = (
    "The slice after 1, 2, 4, 8 Euler steps and 15 midpoint steps, and the scan: from a smooth picture to a grainy one."
)
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** Both expectations hold.
# One step has the highest PSNR, 20.3 dB, and 85 % of the scan's sharpness; fifteen midpoint steps have 17.9 dB and 112 %.
# Theory says how large the gap may be.
# A sample misses the truth by as much as the mean does, and on top of it by as much as samples scatter round the mean: with a perfect network that is twice the squared error, 3.0 dB.
# Here it is 2.4 dB.
# PSNR does not thank you for sharpness that is not in its place.
# Which beginning is the better one for a harmonization is asked again in the paper's evaluation, where both are refined.
#
# ## 6. Edges of other scanners
#
# **Question.** The network has seen edges of the target's scans only. What does it draw from those of another scanner?
#
# **Idea.** Take the same person's scans on the paper's four source scanners, and draw from their edges, with four Euler steps.
#
# **Expected.** On every scanner a lower PSNR than from the person's own edges on the target: notebook 30 showed that edge maps differ between scanners.

# %%
few = SamplerSettings(5, "euler")  # four steps
quick = method.with_inference(sampler=few)
traveller = people(PEOPLE_ON)[1].subset([3])  # the same person, on all five scanners
assert traveller.subjects == person.subjects
from_scanners = {}
for name, scanner in SOURCES.items():
    scan, its_mask = traveller.scans(scanner), traveller.masks(scanner)
    from_scanners[name] = (subject_percentile(scan, its_mask) * its_mask, quick.begin(scan, its_mask))
table = {name: [psnr(2 * drawn - 1), psnr(2 * scan - 1)] for name, (scan, drawn) in from_scanners.items()}
table["own edges"] = [rows["4 steps"][1], np.nan]
pd.DataFrame(table, index=["drawn from its edges, dB", "the scan itself, dB"]).T.round(1)

# %% tags=["folded"]
# @title Scans of one person on four scanners, and what is drawn from their edges
figure, axes = panels(5, 2, size=(9.8, 4.6))
for column, (name, (scan, drawn)) in enumerate(from_scanners.items()):
    image(axes[0, column], scan[0, 0, ..., z], title=name)
    image(axes[1, column], drawn[0, 0, ..., z], title=f"drawn, {table[name][0]:.1f} dB")
image(axes[0, 4], truth[0, 0, ..., z], title="the target's scan")
image(axes[1, 4], (images["4 steps"][0, 0, ..., z] + 1) / 2, title=f"own edges, {rows['4 steps'][1]:.1f} dB")
figure.suptitle("One simulated person; each scan scaled by its own percentiles", fontsize=10)
alt = "Upper row: one slice on four scanners and on the target, with different contrasts. Lower row: what the network draws from the edges of each; all have the target's contrast."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** The expectation holds: 18.0 to 18.7 dB, and 19.4 dB from the own edges.
# All four have the target's contrast, although the scans have not: the edges are what they share.
# But look at the right column. On three of four scanners the *scan itself* is nearer to the target than what is drawn from its edges, by 5 dB on the BioGraph.
# Edges throw away too much to stand alone, and that is what the paper's refinement is for: it brings back what the scan shows.
#
# ## 7. Hallucination, on a lesion that you know
#
# **Question.** The model draws a *plausible* brain. What does it do with something that its training people hardly have?
#
# **Idea.** Plant a lesion in white matter, take the edges, and see what the model draws there.
#
# ### Exercise 31.3 · How much of a lesion is left (6 minutes, ★)
#
# Contrast is how far the lesion's mean lies from that of its surroundings, as a share of the latter.
# Write which share of the source's contrast an image keeps.


# %% tags=["exercise", "exercise-31.3"]
def share_left(image, source, lesion, around):
    """The lesion's contrast in the image, as a share of that in the source; lesion and around are bool."""
    raise NotImplementedError("your turn")


mine.check("31.3", share_left)


# %% tags=["solution", "exercise-31.3"]
def share_left(image, source, lesion, around):
    """The lesion's contrast in the image, as a share of that in the source; lesion and around are bool."""

    def contrast(values):
        return values[lesion].mean() / values[around].mean() - 1

    return float(contrast(image) / contrast(source))


assert mine.check("31.3", share_left).passed

# %%
left = mine("31.3")
lesion = PlantedLesion.deepest(person.tissues, lesions=person.lesions)  # where white matter is thickest
ill = lesion.into(truth)
drawn = sample(velocity_of(network, method.conditions_of(method.edges_of(ill)), few), noise, few)
kept = left((drawn[0, 0] + 1) / 2, ill[0, 0], lesion.inside, lesion.around)
print(f"lesion of {int(lesion.inside.sum())} voxels; {100 * kept:.0f} % of its contrast are left in the model's image")

# %% tags=["folded"]
# @title A planted lesion, its edges, and what the model draws
place = lesion.inside.nonzero().float().mean(0)
k = int(place[2])
figure, axes = panels(4, size=(8.2, 2.6))
image(axes[0], ill[0, 0, ..., k], title="scan with a lesion")
image(axes[1], method.edges_of(ill)[0, 0, ..., k].float(), title="its edges")
image(axes[2], (drawn[0, 0, ..., k] + 1) / 2, title="what the model draws")
image(axes[3], truth[0, 0, ..., k], title="without the lesion")
for axis in axes:
    axis.plot(*place[:2], "o", markersize=18, fillstyle="none", color=ORANGE)
figure.suptitle("Simulated: a lesion six voxels wide, planted in white matter", fontsize=10)
alt = "A slice with a dark round lesion in white matter; its edge map, without a ring at that place; the model's image, plain white matter there; and the slice without the lesion."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** The lesion is gone.
# Its contrast is too weak for a place among the 8 % strongest edges: there is no ring in the edge map, so the network sees plain white matter and draws it.
# And it looks convincing.
# Nothing in the picture tells you that something is missing; you know it because you put it there.
#
# ## What to take away
#
# - A rectified flow learns which way to go from noise to data; the loss is a plain squared error.
# - Edges and coordinates come in as further channels, and a network trained on patches draws whole volumes.
# - One step gives a mean, many steps give a sample. PSNR likes means.
# - The model knows its training people. What they do not have, it may leave out or make up.
#
# **Traps.**
# Sixteen points in time are fifteen steps, and thirty evaluations by the midpoint method.
# A solver with fixed steps has no tolerance, whatever the settings say.
# A sharp picture is not a true one.

# %% [markdown] tags=["instructor"]
# ## For the instructor
#
# **A class of 50 minutes:** section 1 with 31.1 in 14, section 2 with 31.2 in 10, sections 3 and 4 in 8, section 5 in 8, section 7 with 31.3 in 10; section 6 to read at home.
#
# **Ask before section 5:** "Which will have the higher PSNR, one step or thirty?"
#
# **Frequent slips.** 31.1: the time runs backwards, or is one for the whole batch. 31.2: going on from the middle. 31.3: differences where ratios are asked.

# %% [markdown]
# ## References
#
# - Jeong, Lee, Chun and Lee, *Efficient and robust 3D blind harmonization for large domain gaps*, 2025.
# - Liu, Gong and Liu, *Flow straight and fast: learning to generate and transfer data with rectified flow*, ICLR 2023.
# - Lipman, Chen, Ben-Hamu, Nickel and Le, *Flow matching for generative modeling*, ICLR 2023.
