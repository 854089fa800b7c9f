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
# # 11 · BlindHarmony: the optimization
#
# **You will be able to** write BlindHarmony's loop, derive its gradient and its step size, predict where it ends before it runs, and say what the flow, the start and each hyper-parameter contribute.
#
# **From the paper:** BlindHarmony (Jeong and colleagues, ICCV 2023), sections 3.1, 3.3 and 5.1, Equations 1 to 4 and 9 to 13, Algorithm 1, Figures 1 and 2; its supplement's section 4 with Figure 2, and section 3 with Table 3.
#
# **Before:** notebooks 02 and 03; notebook 10 for the flow itself.
# **Measured:** 55 seconds and 0.6 GB on one processor core; 15 seconds more the first time, when the people are simulated.
#
# All people and scans here are **simulated**.
# Expectations are written down before the numbers; where the two disagree, the numbers stay.

# %% tags=["colab"]
# Only on Colab, where the package has to be fetched; anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/harmony-lite/harmony-lite@main")  # noqa: F821

# %% tags=["setup"]
import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch.nn import functional

import harmony_lite as hl
from harmony_lite.cohort import Needs
from harmony_lite.evaluate import metrics
from harmony_lite.exercises import check, hint  # noqa: F401
from harmony_lite.images import normalize
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.images.slices import axial_slices
from harmony_lite.papers import published
from harmony_lite.papers.blindharmony.optimization import (
    STARTS,
    VARIANTS,
    edge_descent,
    flat_regions,
    ncc_and_gradient,
    optimise,
)
from harmony_lite.papers.blindharmony.prior import Encoding
from harmony_lite.profiles import active
from harmony_lite.show import COLOURS, show, strip
from harmony_lite.show.widgets import iteration_sliders

profile = active()
print(f"profile {profile.name}: {profile.spacing} mm voxels; harmony_lite {hl.__version__}, torch {torch.__version__}")

# %% [markdown]
# ## 1. What "blind" means
#
# **Question.** Can one harmonize scans of a scanner that nobody has seen before?
#
# **Idea.** Train on the target domain only; when a scan of any other scanner comes, look for the target-like image that follows it.
#
# The two steps, in our own drawing of the paper's Figures 1 and 2:

# %%
figure, axes = plt.subplots(2, 1, figsize=(8.2, 3.0), layout="constrained", height_ratios=(1, 2))
look = {"ha": "center", "va": "center", "fontsize": 8.5, "bbox": {"boxstyle": "round", "fc": "white", "ec": "grey"}}
arrow = {"arrowstyle": "-|>", "color": COLOURS[0], "lw": 1.6, "shrinkA": 2, "shrinkB": 2}


def draw(axis, boxes, arrows):
    for x, y, text in boxes.values():
        axis.text(x, y, text, **look)
    for start, end, label, bend in arrows:
        (a, b, _), (c, d, _) = boxes[start], boxes[end]
        way = arrow | {"connectionstyle": f"arc3,rad={bend}", "shrinkA": 48 * (b == d), "shrinkB": 48 * (b == d)}
        axis.annotate("", (c, d - 0.14 * np.sign(d - b)), (a, b + 0.14 * np.sign(d - b)), arrowprops=way)
        axis.text((a + c) / 2, (b + d) / 2 + 0.1, label, fontsize=8, color=COLOURS[0], ha="center")
    axis.set(xlim=(0, 10), ylim=(-0.25, 1))
    axis.axis("off")


training = {"t": (1.6, 0.4, "target scans only"), "f": (5.2, 0.4, "flow  z = f(x)")}
draw(axes[0], training, [("t", "f", "training, once", 0)])
axes[0].text(7.2, 0.4, "no source, no pairs, no scanner's name", fontsize=8.5, va="center", color="grey")
loop_boxes = {
    "x0": (1.1, 0.2, "x₀: average of\ntarget slices"),
    "x": (4.0, 0.2, "image  x"),
    "z": (8.2, 0.2, "latent  z"),
    "s": (4.0, 0.85, "source  xₛ"),
}
ways = [("x0", "x", "start", 0), ("x", "z", "", -0.3), ("z", "x", "", -0.3)]
draw(axes[1], loop_boxes, ways)
axes[1].annotate("", (4.0, 0.32), (4.0, 0.74), arrowprops=arrow | {"color": COLOURS[1]})
axes[1].text(3.85, 0.53, "follow me\n(Eq. 13)", fontsize=8, color=COLOURS[1], ha="right", va="center")
axes[1].text(6.1, 0.56, "f", fontsize=9, color=COLOURS[0], ha="center")
axes[1].text(6.1, -0.24, "f⁻¹ after the shrink (Eq. 12)", fontsize=8, color=COLOURS[0], ha="center")
alt = "Two steps. Target scans train a flow. Then, from the average of target slices, an image follows the source and passes through the flow, where the latent vector is shrunk, ten times."
show(figure, alt=alt)
assert hl.load_method("blindharmony").needs is Needs.TARGET_ONLY

# %% [markdown]
# The target is the Trio.
# As sources we take two kinds of shift: the Trio's own slices bent by four intensity maps (section 4.3 of the paper, tier i), and simulated scans on the Vision and the Vida (tier ii).
# Three held-out people, two axial slices each, all scaled to $[0, 1]$ by their own maximum as in the paper.

# %%
scanners = ["oasis_trio", "oasis_vision", "oasis_vida", "t2_spin_echo"]
sizes = profile.train_subjects, profile.validation_subjects, profile.test_subjects
everyone = hl.Cohort.simulate(sum(sizes), scanners, profile.spacing, seed=profile.seed)
cohort = everyone.split(*sizes)[2].subset(range(3))
scans = {name: cohort.scans(name) for name in ("trio", "vision", "vida", "t2_spin_echo")}
bent = cohort.with_maps()
scans |= {name: bent.scans(name) for name in MAPS}
heights = axial_slices(scans["trio"], 2, mask=cohort.mask)[1]  # (3, 2)


def cut(volumes):
    """Six slices, (6, 1, D, H) in [0, 1], 0 outside the brain."""
    return normalize.slice_minmax(axial_slices(volumes * cohort.mask, 2, positions=heights)[0])


brain = axial_slices(cohort.mask, 2, positions=heights)[0]
names = {
    "exp": "Exp",
    "log": "Log",
    "gamma0.7": "Gamma 0.7",
    "gamma1.5": "Gamma 1.5",
    "vision": "Vision",
    "vida": "Vida",
}
target, t2 = cut(scans["trio"]), cut(scans["t2_spin_echo"])
sources = {text: cut(scans[name]) for name, text in names.items()}

method = hl.load_method("blindharmony")  # a flow trained on 24 other people's Trio scans
still = method.with_loop(step=0.0, beta2=0.0, iterations=1, use_flow=False)  # a loop that does nothing gives x0
x0 = {}
for way in STARTS:
    rows = zip(scans["trio"], cohort.mask, heights, strict=True)
    x0[way] = torch.cat([still.with_loop(start=way).slices(v[0], m[0], h).images for v, m, h in rows])
start = x0["at the same height"]

one = 1  # the slice that is shown
looks = {"x₀: average of 24 people": start[one], "target": target[one]}
looks |= {name: sources[name][one] for name in ("Gamma 0.7", "Vision", "Vida")}
alt = (
    "A blurred average slice, the sharp target slice of one person, and that person bent by a map and on two scanners."
)
show(strip({name: image[0].numpy() for name, image in looks.items()}, title="Simulated"), alt=alt)

# %% [markdown]
# **What to notice.** $x_0$ has the place and the rough contrast of everybody and the folds of nobody.
# Averaging has made it flat (section 9).
#
# ## 2. What source and target have in common (Equations 1 and 2)
#
# **Question.** If we know nothing about the source scanner, what may we assume of its images?
#
# **Idea.** Bright stays bright, and edges stay where they are.
#
# $$\mathrm{NCC}(x_h, x_s) \approx 1 \tag{1}$$
#
# $$\lVert M G x_h \rVert_1 \approx 0 \tag{2}$$
#
# $x_s$ is the source slice, $x_h$ its harmonized version, $G$ the gradient (Sobel's filter in both directions), and $M$ keeps the pixels where the source has no edge: below the 30th percentile of its own gradient.
# The supplement's Figure 2 shows both for two scanners, and its section 4 names T1 against T2 as the case that fails.
#
# **Expected.** Trio against Vida: NCC above 0.9, and masks that overlap far more than the 0.3 of chance.
# Trio against T2: NCC far below 0, and masks not much above chance.


# %%
def overlap(first, second):
    """Dice of two masks of flat pixels; two random ones of 30 % have 0.3."""
    a, b = (flat_regions(v, brain, 0.3) for v in (first, second))
    return (2 * (a & b).sum((1, 2, 3)) / (a.sum((1, 2, 3)) + b.sum((1, 2, 3)))).mean().item()


pairs = {"Vida": sources["Vida"], "Vision": sources["Vision"], "T2 spin echo": t2}
ncc = {name: metrics.ncc(images, target, brain).mean().item() for name, images in pairs.items()}
dice = {name: overlap(images, target) for name, images in pairs.items()}
figure, axes = plt.subplots(2, 3, figsize=(7.6, 5.0), layout="constrained", height_ratios=(1, 1.1))
for (name, images), above, below in zip(pairs.items(), *axes, strict=True):
    inside = brain[one]
    above.plot(target[one][inside], images[one][inside], ".", color=COLOURS[0], markersize=1, alpha=0.3)
    above.set(xlim=(0, 1), ylim=(0, 1), xlabel="Trio", ylabel=name, title=f"NCC {ncc[name]:.2f}", aspect="equal")
    a, b = (flat_regions(v[one : one + 1], inside[None], 0.3)[0, 0].float() for v in (target, images))
    shown = torch.stack([1 - b, 1 - (a + b) / 2, 1 - a], -1)  # both flat: black; one alone: orange or blue
    shown = torch.where(inside[0, ..., None], shown, torch.tensor([0.85, 0.85, 0.85]))
    below.imshow(shown.transpose(0, 1), origin="lower")
    below.set_title(f"flat pixels, overlap {dice[name]:.2f}", fontsize=10)
    below.axis("off")
alt = "Scatter plots rise for Vida and Vision and fall for T2; the masks of flat pixels agree for all three."
figure.suptitle("Simulated; black: flat in both, colour: in one only, white: edges in both", fontsize=9)
show(figure, alt=alt)
assert ncc["Vida"] > 0.9 and ncc["T2 spin echo"] < -0.5 and dice["Vida"] > 0.6

# %% [markdown]
# **What to notice.** The first three expectations hold, the last fails: the T2 image is flat in nearly the same places, since edges belong to the anatomy and not to the contrast.
# So Equation 2 cannot tell a T1 from a T2 image.
# Equation 1 can, and it would pull the result the wrong way, towards a picture with bright fluid.
#
# ## 3. A distance, and what it does not fix (Equations 3 and 4)
#
# **Question.** How do the two assumptions become a problem to solve?
#
# **Idea.** Weigh their violations, and ask a prior of the target for the rest.
#
# $$D(x_h, x_s) = \beta_1\{1 - \mathrm{NCC}(x_h, x_s)\} + \beta_2\lVert M G x_h\rVert_1 \tag{3}$$
#
# $$\hat x_h = \arg\min_x\; D(x, x_s) - \alpha \log p_X(x) \tag{4}$$
#
# The paper calls $x_h = x_s$ a trivial solution of $D = 0$.
#
# **Expected.** $D(x_s, x_s) = 0$, and everything else has more.

# %%
settings = published.load("blindharmony").hyperparameters
alpha, beta1, beta2 = (settings[name].value for name in ("alpha", "beta1", "beta2"))
sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
sobel = torch.stack([sobel, sobel.T])[:, None]  # G: (2, 1, 3, 3)


def distance(images, source):
    flat = flat_regions(source, brain, 0.3)  # M: (B, 2, D, H)
    edges = (functional.conv2d(images, sobel, padding=1) * flat).abs().sum((1, 2, 3))
    ncc, _ = ncc_and_gradient(images, source, brain)
    return beta1 * (1 - ncc.flatten()) + beta2 * edges


vida = sources["Vida"]
candidates = {"the source itself": vida, "half its contrast": 0.5 * vida + 0.25, "nearly grey": 0.01 * vida + 0.5}
candidates |= {"the true target": target, "x₀": start}
found = {name: distance(images * brain, vida).mean().item() for name, images in candidates.items()}
assert found["nearly grey"] < found["half its contrast"] < found["the source itself"] < found["the true target"]
pd.Series(found, name="D").round(3).to_frame()

# %% [markdown]
# **What to notice.** $D(x_s, x_s)$ is not 0, and the source is not even the best: half its contrast has half its edges, and a nearly grey picture comes closest.
# NCC does not see a gain or an offset at all, and these are what two scanners differ in first.
# $D$ leaves them to the prior and the start.
#
# > **Slips of print.**
# > Equation 11 lacks a factor: $-\log p_Z$ of a unit Gaussian is $|z|^2/2$ plus a constant; with $\alpha|z|^2$, a unit step would give $(1-2\alpha)z$ and not Equation 12.
# > Equation 10 drops the determinant of Equation 9 (section 5).
# > Equation 13 differentiates $\lVert MGx_h\rVert_1$ where it means $x$.
# > Algorithm 1 never says what $z_0$ is; we read $z_0 = f(x_0)$, so that the first image is $x_0$.
# > And a density does not stay within $[0, 1]$, as section 3.2 writes.
#
# ## 4. The gradient of NCC
#
# **Question.** Which way is uphill?
#
# **Idea.** NCC is the cosine of the angle between two centred images; to raise it, turn towards the source.
#
# With $x$ and $s$ centred, $\hat x = x/\lVert x\rVert$, $\hat s = s/\lVert s\rVert$ and $\rho = \mathrm{NCC} = \hat x\cdot\hat s$, the quotient rule gives
#
# $$\nabla_x\rho = \frac{s}{\lVert x\rVert\lVert s\rVert} - \frac{(x\cdot s)\,x}{\lVert x\rVert^3\lVert s\rVert} = \frac{\hat s - \rho\,\hat x}{\lVert x\rVert}.$$
#
# It is orthogonal to $x$ and has mean 0: a small step keeps energy and mean, and changes the direction only.

# %% tags=["nbval-check-output"]
x, s, inside = (v[:1].double() for v in (start, vida, brain))
inside = inside.bool()
rho, gradient = ncc_and_gradient(x, s, inside)
leaf = x.clone().requires_grad_()
ncc_and_gradient(leaf, s, inside)[0].sum().backward()
by_autograd = (leaf.grad - gradient).abs().max() / gradient.abs().max()

pixel = tuple(inside.nonzero()[len(inside.nonzero()) // 2].tolist())
nudge = torch.zeros_like(x)
nudge[pixel] = 1e-5
up, down = (ncc_and_gradient(x + sign * nudge, s, inside)[0].item() for sign in (1, -1))
by_differences = abs((up - down) / 2e-5 / gradient[pixel].item() - 1)
along = (gradient * x)[inside].sum() / (gradient[inside].norm() * x[inside].norm())
print("agrees with autograd:", bool(by_autograd < 1e-9), "| with finite differences:", bool(by_differences < 1e-5))
print("orthogonal to the image:", bool(along.abs() < 1e-9), "| mean 0:", bool(gradient[inside].mean().abs() < 1e-12))
assert by_autograd < 1e-9 and by_differences < 1e-5 and along.abs() < 1e-9

# %% [markdown]
# ### Exercise 11.1 · The gradient, by hand (10 minutes)
#
# Write it for one slice with a mask: pixels outside the brain neither count nor move.


# %% tags=["exercise", "exercise-11.1"]
def ncc_gradient(image, source, inside):
    """Gradient of NCC inside the mask with respect to the image; all three (1, 1, H, W)."""
    raise NotImplementedError("your turn")


check("11.1", ncc_gradient)
# hint("11.1", 1)  # take the first # away for a hint; there are three


# %% tags=["solution", "exercise-11.1"]
def ncc_gradient(image, source, inside):
    """Gradient of NCC inside the mask with respect to the image; all three (1, 1, H, W)."""
    x, s = ((v - v[inside].mean()) * inside for v in (image, source))
    x_hat, s_hat = x / x.norm(), s / s.norm()
    return (s_hat - (x_hat * s_hat).sum() * x_hat) / x.norm()


assert check("11.1", ncc_gradient).passed

# %% [markdown]
# ## 5. From the prior to a shrink (Equations 9 to 12), and the determinant that is left out
#
# **Question.** What has $z \to (1-\alpha)z$ to do with $\log p_X(x)$?
#
# **Idea.** The flow splits the log-density into a simple term of $z$ and a determinant; the paper keeps the first.
#
# $$\log p_X(x) = \log p_Z(z) + \log\left|\det\frac{\partial f(x)}{\partial x}\right| \tag{9}$$
#
# $$\hat z_h = \arg\min_z D(f^{-1}(z), x_s) - \alpha\log p_Z(z) \tag{10}$$
#
# $$\phantom{\hat z_h} = \arg\min_z D(f^{-1}(z), x_s) + \tfrac{\alpha}{2}|z|^2 \quad\text{(the half is ours)} \tag{11}$$
#
# A gradient step of length 1 on $\frac\alpha2|z|^2$ is
#
# $$z \to (1 - \alpha)\,z, \tag{12}$$
#
# and instead of sending the gradient of $D$ through $f^{-1}$, the paper takes it in the image, between two shrinks.
# Section 5.1 admits the missing determinant and believes that it does no harm.
#
# **Expected.** If that is so, then, when $z$ is shrunk, $\log|\det|$ moves less than $|z|^2/2$ does.

# %%
flow, encoding = method.flow, Encoding(method.prior.bits)


@torch.no_grad()
def parts(images):
    """|z|^2 / 2 and log |det|, in nats for each slice, and z."""
    z, log_det = flow.encode(encoding.encode(images.clamp(0, 1)))
    return z.square().sum(1) / 2, log_det, z


def first_step():
    """What the loop hands to the flow first: the average after one step towards the Vida."""
    return optimise(None, start, vida, brain, replace(VARIANTS["ours"], iterations=1)).images


shares = np.array([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0])
gains, decoded = {}, {}
for name, images in {"target slices": target, "the loop's first image": first_step()}.items():
    half, log_det, z = parts(images)
    rows = []
    with torch.no_grad():
        for share in shares:
            back, negative = flow.decode((1 - share) * z)
            rows.append([(half - half * (1 - share) ** 2).mean().item(), (-negative - log_det).mean().item()])
            decoded[name, share] = encoding.decode(back)[one, 0].clamp(0, 1).numpy()
    gains[name] = np.array(rows)  # of log p_Z, and of the determinant
figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.9), layout="constrained", sharey=True)
for axis, (name, both) in zip(axes, gains.items(), strict=True):
    axis.plot(shares, both[:, 0], "o-", color=COLOURS[0], label="log p(z), kept in Equation 11")
    axis.plot(shares, both[:, 1], "s--", color=COLOURS[1], label="log |det|, dropped")
    axis.axvline(alpha, color="grey", linestyle=":")
    axis.set(xlabel="share of z taken away at once", xscale="log", title=name)
    axis.set_yscale("symlog", linthresh=1)
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("gain in nats per slice")
axes[1].legend(frameon=False, fontsize=8, loc="lower right")
alt = (
    "On target slices both terms start at a few nats; on the loop's image the dropped one is hundreds of times larger."
)
show(figure, alt=alt)
for name, both in gains.items():
    print(f"{name}, at the paper's alpha: {both[0, 0]:.1f} nats kept, {both[0, 1]:.1f} dropped")
assert (gains["the loop's first image"][:, 1] > gains["the loop's first image"][:, 0]).all()

# %% [markdown]
# **What to notice.** The expectation fails: what is left out is larger than what is kept, by far on the images that the loop is about.
# An average has a faint rim where other people's brains reach beyond this one, which the flow has never seen; its determinant changes steeply there.
# The dotted line is the paper's $\alpha$.
# Here both terms point the same way, so the shrink does raise $\log p_X$, though mainly by the term that nobody looked at.
#
# And raise it towards what? Below, the shrunk images; beside them the log-density that the flow gives to a few pictures.
#
# **Expected.** The target's own slices are likelier than those of other scanners, and an empty picture is unlikely.

# %%
picked = {f"z shrunk by {100 * share:g} %": decoded["target slices", share] for share in shares[[0, 2, 4, 5, 6]]}
alt = "The target slice shrunk by 0.1 to 100 per cent: it fades, loses its edge and ends black."
show(strip(picked, title="One simulated target slice, decoded"), alt=alt)
pictures = {"black": torch.zeros_like(target), "x₀, inside the brain": start * brain, "target (Trio)": target}
pictures |= {name: sources[name] for name in ("Vision", "Vida", "Gamma 0.7")}
density = {}
for name, images in pictures.items():
    half, log_det, _ = parts(images)
    density[name] = [(v / images[0].numel()).mean().item() for v in (log_det - half, -half, log_det)]
density = pd.DataFrame(density, index=["log p(x)", "-|z|²/2", "log |det|"]).T
assert density["log p(x)"]["black"] == density["log p(x)"].max()
density.sort_values("log p(x)", ascending=False).round(2)

# %% [markdown]
# **What to notice.** In nats per pixel, up to one constant.
# The likeliest picture of all is black, then the blurred average; among real slices the flat Vision beats the Trio on which the flow was trained.
# A flow's density rewards smoothness; the latent term alone does not know the target's contrast either.
# Shrinking $z$ pulls towards darkness and blur, and it is good that $\alpha$ is small.
#
# ## 6. Algorithm 1
#
# **Question.** How do ascent and shrink work together?
#
# **Idea.** Ten times: decode, climb in the image, encode, shrink.
#
# $$x \to x + \nabla_x\bigl[\beta_1\,\mathrm{NCC}(x, x_s) - \beta_2\lVert MGx\rVert_1\bigr] \tag{13}$$
#
# The loop below is the whole method; `step` replaces $\beta_1$ in our own variant (section 7).


# %%
@torch.no_grad()
def algorithm_1(x0, source, counted, *, alpha, beta1=None, step=1 / 3, beta2=0.001, iterations=10):
    """Slices (B, 1, D, H) in [0, 1]; `counted` says where NCC and edges are taken."""
    flat = flat_regions(source, counted, 0.3)  # M
    decoded = x0  # f^-1(z_0)
    for _ in range(iterations):
        _, uphill = ncc_and_gradient(decoded, source, counted)
        mean = (decoded * counted).sum((2, 3), keepdim=True) / counted.sum((2, 3), keepdim=True)
        total_variance = ((decoded - mean) * counted).square().sum((2, 3), keepdim=True)  # N var(x)
        weight = step * total_variance if beta1 is None else beta1
        x = decoded + weight * uphill + beta2 * edge_descent(decoded, flat)  # line 2
        z, _ = flow.encode(encoding.encode(x.clamp(0, 1)))
        z = (1 - alpha) * z  # line 3
        back, _ = flow.decode(z)
        decoded = encoding.decode(back).clamp(0, 1)
    return x.clamp(0, 1)  # line 5: before the last shrink


def loop(name, pick=slice(None), *, begin=start, watch=None, **changes):
    """The package's loop on slices of a source, variant `ours` unless changed."""
    settings = replace(VARIANTS["ours"], **changes)
    with torch.no_grad():
        return optimise(flow, begin[pick], sources[name][pick], brain[pick], settings, encoding=encoding, watch=watch)


def apart(first, second):
    """Mean difference; single pixels differ more, where round-off turns the sign of an edge over."""
    return (first - second).abs().mean().item()


way = {"Gamma 0.7": [], "Vida": []}
ends = {name: loop(name, watch=lambda _, x, seen=seen: seen.append(x)).images for name, seen in way.items()}
by_hand = algorithm_1(start[:2], vida[:2], brain[:2], alpha=alpha)
assert apart(by_hand, ends["Vida"][:2]) < 1e-4
everywhere = torch.ones_like(brain[:1])
as_printed = algorithm_1(start[:1], vida[:1], everywhere, alpha=alpha, beta1=beta1, iterations=3)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the empty edge mask: section 8
    printed = loop("Vida", slice(1), **vars(replace(VARIANTS["paper"], iterations=3)))
assert apart(as_printed, printed.images) < 1e-4
volume = method.slices(scans["vida"][0, 0], cohort.mask[0, 0], heights[0])  # the same from a whole scan
assert apart(volume.images, by_hand) < 1e-4

# %% [markdown]
# The loop and the package agree, in our reading and as printed.
#
# **Expected.** NCC with the source goes to 1, and PSNR against the target rises in every iteration above that of the source, for the map and for the scanner.
#
# PSNR is taken inside the brain with data range 1, each slice, the result's too, scaled by its own maximum first.
# The ledger (notebook 12) takes results in $[0, 1]$ as they are: there a wrong gain counts too, and its numbers are lower.


# %%
def psnr(images):
    """(6,) dB against the target slices."""
    return metrics.psnr(normalize.slice_minmax(images * brain), target, brain, data_range=1.0)


frames = {"x₀": start} | {f"after {n}": way["Gamma 0.7"][n - 1].clamp(0, 1) for n in (1, 2, 4, 10)}
frames |= {"source (Gamma 0.7)": sources["Gamma 0.7"], "target": target}
alt = "From a blurred average to a sharp slice: the source's folds come in within four iterations."
show(strip({name: (v * brain)[one, 0].numpy() for name, v in frames.items()}, size=1.4, title="Simulated"), alt=alt)

figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.8), layout="constrained")
for (name, images), colour, style in zip(way.items(), COLOURS, "os", strict=False):
    reached = [metrics.ncc(x, sources[name], brain).mean() for x in (start, *images)]
    quality = [psnr(x.clamp(0, 1)).mean() for x in (start, *images)]
    axes[0].plot(reached, style + "-", color=colour, markersize=4)
    axes[1].plot(quality, style + "-", color=colour, markersize=4, label=name)
    axes[1].axhline(psnr(sources[name]).mean(), color=colour, linestyle=":", label=f"{name}, source untouched")
axes[0].set(xlabel="iteration", ylabel="NCC with the source")
axes[1].set(xlabel="iteration", ylabel="PSNR against the target (dB)")
axes[1].legend(frameon=False, fontsize=8, loc="lower right")
for axis in axes:
    axis.spines[["top", "right"]].set_visible(False)
alt = "NCC rises to 1 for both. PSNR ends above the untouched source for Gamma 0.7 and below it for the Vida."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** NCC does what it should.
# PSNR passes the source for the map; for the Vida, already close to the Trio, the result is *worse than doing nothing*.
# And after the fifth iteration PSNR falls by some tenths: shrink and edges go on when there is nothing left to climb.
# Sections 8 to 10 find out why.
#
# ### Exercise 11.2 · One iteration (8 minutes)
#
# Write lines 2 and 3 with any invertible `f` and any `ascent` (it takes an image and gives what is added to it).
# Return the image and the next latent vector.


# %% tags=["exercise", "exercise-11.2"]
def iteration(z, f, f_inverse, ascent, alpha):
    """One iteration from the latent vector z: the image x and the next z."""
    raise NotImplementedError("your turn")


check("11.2", iteration)


# %% tags=["solution", "exercise-11.2"]
def iteration(z, f, f_inverse, ascent, alpha):
    """One iteration from the latent vector z: the image x and the next z."""
    x = f_inverse(z)
    x = x + ascent(x)
    return x, (1 - alpha) * f(x)


assert check("11.2", iteration).passed

# %% [markdown]
# ## 7. The step-size law
#
# **Question.** Why should $\beta_1$ be 1000?
#
# **Idea.** Split $x$ into a part along the source and a part $u$ that does not follow it, and see what one step does to $u$.
#
# Of $\nabla_x\rho = (\hat s - \rho\hat x)/\lVert x\rVert$, only $-\rho\,\hat x/\lVert x\rVert$ reaches $u$, so
#
# $$u \to \Bigl(1 - \frac{\beta_1\,\rho}{\lVert x\rVert^2}\Bigr)\,u, \qquad \lVert x\rVert^2 = N\,\mathrm{var}(x).$$
#
# Below 0 a step overshoots, below $-1$ it does more harm than good.
# $\lVert x\rVert^2$ grows with the number of pixels $N$, so a fixed $\beta_1$ suits *one* image size.
# Our own variant fixes $c$ in $\beta_1 = c\,N\mathrm{var}(x)$ instead: then the factor is $1 - c\,\rho$.
#
# **Expected.** At the paper's 144 × 176 pixels the printed 1000 gives a factor between 0 and 1, at half the side below 0.
# With equal $c$, all sizes end within 0.01 of NCC.

# %%
rows = {}
for width in (36, 48, 64, 80, 112, 144):
    size = width, round(width * start.shape[3] / start.shape[2])
    small, source = (functional.interpolate(v, size, mode="bilinear", antialias=True) for v in (start, vida))
    whole = torch.ones_like(small, dtype=torch.bool)
    runs = {}
    for name, chosen in {"beta1": {"beta1": float(beta1)}, "c": {"beta1": None, "step": 1 / 3}}.items():
        settings = replace(VARIANTS["ours"], use_flow=False, inside=False, beta2=0.0, **chosen)
        reached = []
        run = optimise(None, small, source, whole, settings, watch=lambda _, x, reached=reached: reached.append(x))
        contrast = (reached[-1].flatten(1).std(1) / small.flatten(1).std(1)).mean()
        runs[name] = [v.item() for v in (run.shrink[:, 0].mean(), contrast, run.ncc[:, -1].mean())]
    rows[f"{size[0]} × {size[1]}"] = [value for pair in zip(*runs.values(), strict=True) for value in pair]
columns = [f"{what}, {how}" for what in ("factor", "contrast", "final NCC") for how in ("β₁ = 1000", "c = 1/3")]
by_size = pd.DataFrame(rows, index=columns).T

figure, axes = plt.subplots(1, 2, figsize=(8.2, 2.9), layout="constrained")
axes[0].axhspan(-8, 0, color="#EEEEEE")
axes[0].text(2.6, -6, "overshoots", fontsize=8, color="grey")
for axis, what in zip(axes, ("factor", "contrast"), strict=True):
    for how, style, colour in zip(("β₁ = 1000", "c = 1/3"), ("o-", "s--"), COLOURS, strict=False):
        axis.plot(by_size[f"{what}, {how}"].to_numpy(), style, color=colour, label=how)
    axis.set(xticks=range(len(rows)), xlabel="pixels of the same slices")
    axis.set_xticklabels(list(rows), rotation=40, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set(ylabel="left of u after one step", ylim=(-8, 1.2))
axes[1].set(ylabel="deviation, end / start", ylim=(0, None))
axes[1].legend(frameon=False, fontsize=8)
alt = "The first step's factor at beta1 = 1000 falls far below 0 on small slices, and the contrast multiplies; at equal c both are level."
show(figure, alt=alt)
printed, equal = by_size["factor, β₁ = 1000"], by_size["final NCC, c = 1/3"]
assert 0 < printed.iloc[-1] < 1 and printed.iloc[0] < -1 and np.ptp(equal) < 0.01
by_size.round(3)

# %% [markdown]
# **What to notice.** Both expectations hold: 1000 leaves about half of $u$ at the paper's size, and overshoots on our 80 × 96 already.
# The ascent does not explode, because a step that is too long also multiplies the energy of $x$, which makes the next one relatively shorter.
# So NCC looks perfect everywhere, and the damage is in the contrast, which NCC cannot see.
# The range counts too: ten times the intensities need a hundred times the $\beta_1$.
# The paper's own remedy for a failing domain, $\beta_1 = 500$ (section 5.1), is a smaller $c$.
#
# ### Exercise 11.3 · A beta1 for any image (8 minutes)
#
# Given an image, its source and the brain: which $\beta_1$ leaves the share `share` of $u$ after one step?


# %% tags=["exercise", "exercise-11.3"]
def beta1_for(image, source, inside, share):
    """The beta1 with which one step multiplies the part that does not follow the source by `share`."""
    raise NotImplementedError("your turn")


check("11.3", beta1_for)


# %% tags=["solution", "exercise-11.3"]
def beta1_for(image, source, inside, share):
    """The beta1 with which one step multiplies the part that does not follow the source by `share`."""
    x, s = (v[inside] - v[inside].mean() for v in (image, source))
    ncc = x @ s / (x.norm() * s.norm())
    return (1 - share) * x @ x / ncc


assert check("11.3", beta1_for).passed

# %% [markdown]
# ## 8. The empty edge mask
#
# **Question.** What does $\beta_2$ do?
#
# **Idea.** Count the pixels of $M$ first.
#
# The released code takes the 30th percentile of the gradient over the *whole* slice and keeps what lies strictly below.
# Skull-stripped slices are more than 30 % background, whose gradient is exactly 0.
#
# **Expected.** Over the whole slice $M$ is empty, so $\beta_2$ changes nothing: in the paper's supplement Table 3, $\beta_2 = 0$ equals the baseline in all six numbers.
# Inside the brain $M$ holds 30 %, and $\beta_2 = 0.001$ still changes PSNR by less than 0.1 dB.

# %%
masks = {"whole slice": flat_regions(vida, None, 0.3), "inside the brain": flat_regions(vida, brain, 0.3)}
for name, flat in masks.items():
    print(f"{name}: {flat.sum() / (2 * brain.sum()):.0%} of the brain's pixels are flat")
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    plain = {"inside": False, "use_flow": False, "step": 1 / 3}
    with_edges, without = (loop("Vida", beta2=b, **plain).images for b in (beta2, 0.0))
print(f"the package warns: {said[0].message}")
assert torch.equal(with_edges, without) and not masks["whole slice"].any()

effect, moved = {}, {}
for name in sources:
    pair = [loop(name, beta2=b, use_flow=False).images for b in (beta2, 0.0)]
    effect[name] = (psnr(pair[0]) - psnr(pair[1])).mean().item()
    moved[name] = (pair[0] - pair[1])[brain].abs().max().item()
looks = {"source (Vida)": vida[one, 0], "M over the whole slice": masks["whole slice"][one].any(0).float()}
looks |= {"M inside the brain": masks["inside the brain"][one].any(0).float()}
alt = "A source slice, an empty mask, and a mask of scattered flat pixels inside the brain."
show(strip({name: v.numpy() for name, v in looks.items()}, title="Simulated"), alt=alt)
pd.DataFrame({"PSNR gained by beta2 (dB)": effect, "largest change of a pixel": moved}).round(3)

# %% [markdown]
# **What to notice.** The empty mask is found, and with it an explanation of the paper's six equal numbers: the term was probably never at work.
# Inside the brain our second expectation fails. The edge term is not small: a subgradient knows signs only, so a flat pixel can move by up to 8 × 0.001 for each direction in each iteration, whatever the size of the edge.
# And it costs rather than gains, on all six domains.
#
# ### Exercise 11.4 · Flat, inside the brain (6 minutes)


# %% tags=["exercise", "exercise-11.4"]
def flat_inside(size, inside, quantile):
    """Pixels of the brain whose gradient lies strictly below the quantile of the brain's gradients; (H, W) bool."""
    raise NotImplementedError("your turn")


check("11.4", flat_inside)


# %% tags=["solution", "exercise-11.4"]
def flat_inside(size, inside, quantile):
    """Pixels of the brain whose gradient lies strictly below the quantile of the brain's gradients; (H, W) bool."""
    return (size < torch.quantile(size[inside], quantile)) & inside


assert check("11.4", flat_inside).passed

# %% [markdown]
# ## 9. Where the ascent ends
#
# **Question.** Can we know the result without running the loop?
#
# **Idea.** Every step has mean 0 and is orthogonal to $x$, so the ascent carries the source's pattern at the mean and the energy of the *start*:
#
# $$x_\infty = \overline{x_0} + \lVert x_0 - \overline{x_0}\rVert\;\hat s .$$
#
# Orthogonal is not free of charge: a step of finite length adds its square, $\lVert x\rVert^2 \to \lVert x\rVert^2\,(1 + c^2(1-\rho^2))$.
#
# **Expected.** The prediction, with the few per cent that the steps add, is within 0.05 of the loop without flow at nearly every pixel.


# %%
def predicted(start, source, path, step):
    """The end of the ascent from the start's moments; `path` is NCC before each step, (B, N)."""
    longer = (1 + step**2 * (1 - path.square())).prod(1).sqrt()
    images = torch.zeros_like(start)
    for image, x, s, inside, factor in zip(images, start, source, brain, longer, strict=True):
        pattern = (s[inside] - s[inside].mean()) / s[inside].std()
        image[inside] = x[inside].mean() + factor * x[inside].std() * pattern
    return images


free = {}
for name in ("Gamma 0.7", "Vida"):
    walked = []
    run = loop(name, watch=lambda _, x, seen=walked: seen.append(x), use_flow=False, beta2=0.0, step=0.7)
    free[name] = predicted(start, sources[name], run.ncc[:, :-1], 0.7), walked[-1] * brain
off = {name: (guess - end)[brain].abs() for name, (guess, end) in free.items()}
grown = {c: loop("Vida", use_flow=False, beta2=0.0, step=c).ncc[:, :-1] for c in (1 / 3, 0.7)}
grown = {c: (1 + c**2 * (1 - path.square())).prod(1).sqrt().mean().item() for c, path in grown.items()}
print("deviation multiplied by", ", ".join(f"{factor:.3f} at c = {c:.2g}" for c, factor in grown.items()))
for name, values in off.items():
    print(f"{name}: 99 % of pixels within {values.quantile(0.99):.3f} of the prediction")
    assert values.quantile(0.99) < 0.05
guess, end = (v[one, 0].numpy() for v in free["Vida"])
looks = {"source (Vida)": vida[one, 0].numpy(), "predicted": guess, "found": end, "target": target[one, 0].numpy()}
show(
    strip(looks, title="Simulated; nothing was optimized for the second picture"), alt="Predicted and found look alike."
)


def moments(images):
    return torch.stack([torch.stack([v[m].mean(), v[m].std()]) for v, m in zip(images, brain, strict=True)]).mean(0)


table = {"target": target, "x₀ at the same height": start, "x₀ at full contrast": x0["at full contrast"], "Vida": vida}
table = pd.DataFrame({name: moments(v).tolist() for name, v in table.items()}, index=["mean", "deviation"]).T
assert table["deviation"].iloc[1] < table["deviation"].iloc[0]
table.round(3)

# %% [markdown]
# **What to notice.** To three decimals: without the flow, ten iterations are a gain and an offset, both read off $x_0$.
# But $x_0$ is an average of people, and averaging blurs: its deviation is well below that of a target slice.
# So every result is too flat.
# Where the source's contrast was far off (the maps) that is a gain; where it was right (the Vida), a loss.
# "At full contrast" is the ablation: the same average, stretched to the mean and deviation that *one* training person's slice has.
#
# ### Exercise 11.5 · The end, without the walk (6 minutes)
#
# Give $x_\infty$ for infinitely small steps.


# %% tags=["exercise", "exercise-11.5"]
def end_of_the_ascent(start, source, inside):
    """The image that the ascent approaches, 0 outside the brain; all (1, 1, H, W)."""
    raise NotImplementedError("your turn")


check("11.5", end_of_the_ascent)


# %% tags=["solution", "exercise-11.5"]
def end_of_the_ascent(start, source, inside):
    """The image that the ascent approaches, 0 outside the brain; all (1, 1, H, W)."""
    x, s = start[inside], source[inside]
    return (x.mean() + x.std() * (source - s.mean()) / s.std()) * inside


assert check("11.5", end_of_the_ascent).passed

# %% [markdown]
# ## 10. What each part buys
#
# **Question.** Flow, correlation, edges, step, start: which of them does the work?
#
# **Idea.** Change one at a time, on the same slices.
#
# **Expected**, before the numbers:
# (a) BlindHarmony is better than the source on all six domains;
# (b) without the shrink ($\alpha = 0$) it loses 0.1 to 0.3 dB, as in the paper's supplement Table 3;
# (c) with $\alpha = 0$ the flow is applied and undone, so that "no flow" is the same to 0.1 dB;
# (d) without correlation ($\beta_1 = 0$) nothing is left but $x_0$;
# (e) a full contrast of $x_0$ is worth more than flow, edges and step size together.

# %%
full, everyones = x0["at full contrast"], x0["of all heights"]
free = {"use_flow": False}
variations = {
    "BlindHarmony (ours)": {},
    "α = 0": {"alpha": 0.0},
    "no flow": free,
    "no flow, β₂ = 0": free | {"beta2": 0.0},
    "no flow, c = 0.7": free | {"step": 0.7},
    "no flow, x₀ of all heights": free | {"begin": everyones},
    "no flow, x₀ at full contrast": free | {"begin": full},
}
both = "Gamma 0.7", "Vida"  # α = 0 on these only, to save time
people = {("source untouched", name): psnr(images) for name, images in sources.items()}
for text, changes in variations.items():
    for name in sources:
        if text != "α = 0" or name in both:
            done = ends[name] if not changes and name in ends else loop(name, **changes).images
            people[text, name] = psnr(done)
nothing = loop("Exp", slice(2), step=0.0, beta2=0.0).images
nothing = metrics.psnr(normalize.slice_minmax(nothing * brain[:2]), target[:2], brain[:2], data_range=1.0)
people = {key: values.reshape(3, 2).mean(1) for key, values in people.items()}  # slices of a person are no new evidence
rows = ["source untouched", *variations]
means = pd.DataFrame({n: {r: people[r, n].mean().item() for r in rows if (r, n) in people} for n in sources}).loc[rows]
means.round(1)

# %%
figure, axis = plt.subplots(figsize=(8.0, 3.6), layout="constrained")
shown = {"source untouched": "x", "no flow": "o", "BlindHarmony (ours)": "s", "no flow, x₀ at full contrast": "^"}
colours = dict(zip(shown, ("grey", *COLOURS), strict=False))
for place, name in enumerate(sources):
    for shift, (row, mark) in enumerate(shown.items()):
        at = place + 0.17 * (shift - 1.5)
        values = people[row, name]
        axis.plot([at] * len(values), values, mark, color=colours[row], alpha=0.4, markersize=4)
        axis.plot(at, values.mean(), mark, color=colours[row], markersize=8, label=row if place == 0 else "")
axis.axhline(nothing.mean(), color="black", linestyle=":", label="β₁ = 0, person 1: x₀, shrunk")
axis.set(xticks=range(len(sources)), xticklabels=list(sources), ylabel="PSNR against the target (dB)")
axis.set_title("Three simulated people (small) and their mean (large)", fontsize=10)
axis.legend(frameon=False, fontsize=8, ncols=2, loc="upper right")
axis.set_ylim(top=axis.get_ylim()[1] + 4)
axis.spines[["top", "right"]].set_visible(False)
alt = "On four maps all variants beat the source, most of all with x0 at full contrast; on the Vida none beats it."
show(figure, alt=alt)
ours, source = means.loc["BlindHarmony (ours)"], means.loc["source untouched"]
assert (ours - source)[["Exp", "Log", "Gamma 0.7", "Gamma 1.5"]].min() > 1
gains = means.sub(means.loc["no flow"])
print("against no flow, mean over domains:", gains.dropna().mean(axis=1).drop("no flow").round(2).to_dict())
printed = {c.name: c.value for c in published.load("blindharmony").table("supplement Table 3").cells}
lost = [
    printed[f"supplement Table 3 | psnr | Baseline | {m}"] - printed[f"supplement Table 3 | psnr | alpha = 0 | {m}"]
    for m in ("Exp", "Log", "Gamma 0.7")
]
here = [people["BlindHarmony (ours)", n].mean() - people["α = 0", n].mean() for n in both]
print("what the shrink gains: in print", np.round(lost, 1), "| here, on", *both, np.round(here, 2))

# %% [markdown]
# **What to notice.**
# (a) holds on the maps and on the Vision, and fails on the Vida.
# (b) fails: here the shrink *costs*, a few tenths of a decibel, as the paper's gains. Our flow is smaller, with 8 bits and 2 mm; section 11 asks what happens with more of it.
# (c) holds to a few hundredths.
# (d) holds: without correlation nothing of the person comes in.
# (e) holds on the maps, and with it even the Vida ends no worse than it came: it was the start that was too flat.
# A longer step gains for the same reason, since it adds contrast (section 9); and $x_0$ averaged over *all* heights, the literal reading of "the averaged image", loses several decibels.
#
# ## 11. Play with it
#
# **Question.** What does each hyper-parameter look like?
#
# **Idea.** One slice (Gamma 0.7), one setting varied at a time, all iterations kept.

# %%
varied = {
    "α": {f"{a:g}": {"alpha": a} for a in (0.0, alpha, 0.01, 0.1)},
    "β₁": {f"{c:.2g} N var": {"step": c} for c in (0.05, 1 / 3, 1.0, 2.5)},
    "β₂": {f"{b:g}": {"beta2": b} for b in (0.0, beta2, 0.01, 0.05)},
}
frames, finals, known, shown = {}, {}, {}, slice(one, one + 1)
for setting, values in varied.items():
    frames[setting] = {}
    for value, changes in values.items():
        key = tuple(sorted((vars(replace(VARIANTS["ours"], **changes))).items()))
        if key not in known:  # the defaults stand in every row
            seen = [start[shown]]
            loop("Gamma 0.7", shown, watch=lambda _, x, seen=seen: seen.append(x.clamp(0, 1)), **changes)
            known[key] = [(x * brain[shown])[0, 0].numpy() for x in seen]
        frames[setting][value] = known[key]
        last = torch.from_numpy(known[key][-1])[None, None]
        quality = metrics.psnr(normalize.slice_minmax(last), target[shown], brain[shown], data_range=1.0).item()
        finals[f"{setting} = {value}\n{quality:.1f} dB"] = known[key][-1]
alt = "Twelve results: alpha from 0 to 0.1 darkens and blurs, beta1 too small stays blurred, beta2 large smears."
show(strip(finals, columns=4, size=1.5, title="After ten iterations (simulated, Gamma 0.7)"), alt=alt)

# %% [markdown]
# **What to notice.** More $\alpha$ is worse at once, and 0.1 goes black from the rim, as section 5 foretold: this is the ablation to section 10's (b).
# With $\beta_1 = N\,\mathrm{var}$ a longer step adds the contrast that $x_0$ lacks; 2.5 times that overshoots.
# $\beta_2 = 0.01$ scores well for the same reason, while it draws its mask into the picture: look before you trust a decibel.

# %% tags=["widget"]
iteration_sliders(frames)

# %% [markdown]
# ## 12. Paper says, code does
#
# **Question.** The public code departs from the page in five places; which of them matter?
#
# **Idea.** Start from our reading and change one at a time, on three slices of Gamma 0.7.
#
# > **Paper says / code does.**
# > *NCC*: the code computes the cosine without subtracting means, over the whole slice, background included.
# > *Dequantization*: silent in the paper; the code adds noise before the flow and rounds *down* behind it, in every iteration, at 12 bits.
# > *Returned image*: $x_N$ in Algorithm 1; the code returns the image after the last shrink.
# > *$x_0$*: "the averaged image"; the code averages slices of one index.
# > *$M$*: "by thresholding"; the code's 30th percentile is often empty (section 8).
#
# **Expected.** The cosine cannot change an offset, so its fixed point is a gain times the source, and a gain disappears when slices are scaled by their maximum: the result scores as the source does.
# Rounding down loses half a grey level per iteration: $10 \times 0.5/255 \approx 0.02$ of the mean at 8 bits, a sixteenth of that at 12.

# %%
chosen = slice(3)
departures = {
    "no flow": {"use_flow": False},
    "no flow, NCC over the whole slice": {"use_flow": False, "inside": False},
    "no flow, cosine over the whole slice": {"use_flow": False, "inside": False, "centred": False},
    "ours": {},
    "noise and floor, 8 bits": {"dequantize": "noise"},
    "noise and floor, 12 bits": {"dequantize": "noise"},
    "returned after the shrink": {"after_shrink": True},
}
rows = {"source untouched": [psnr(sources["Gamma 0.7"])[chosen].mean().item(), np.nan]}
pieces = start[chosen], sources["Gamma 0.7"][chosen], brain[chosen]
with torch.no_grad():
    for name, changes in departures.items():
        bits = Encoding(12) if "12" in name else encoding
        draws = torch.Generator().manual_seed(0)
        settings = replace(VARIANTS["ours"], beta2=0.0, **changes)
        images = optimise(flow, *pieces, settings, encoding=bits, generator=draws).images * pieces[2]
        quality = metrics.psnr(normalize.slice_minmax(images), target[chosen], pieces[2], data_range=1.0)
        rows[name] = [quality.mean().item(), images[pieces[2]].mean().item()]
table = pd.DataFrame(rows, index=["PSNR (dB)", "mean in the brain"]).T
lost = {n: table["mean in the brain"]["ours"] - table["mean in the brain"][n] for n in table.index[5:7]}
print("mean lost to rounding down:", {name: round(float(value), 4) for name, value in lost.items()})
whole = table["PSNR (dB)"].filter(like="whole slice") - table["PSNR (dB)"]["source untouched"]
assert lost["noise and floor, 8 bits"] > 5 * abs(lost["noise and floor, 12 bits"]) and whole.abs().max() < 1
table.round(3)

# %% [markdown]
# **What to notice.** The mask and the means decide.
# Over the whole slice the black background anchors the offset, with the cosine and with NCC alike: the harmonized slice is the source again but for a gain, which the evaluation divides out.
# All of section 10's gain comes from correlating *inside the brain*, which neither the page nor the code does; how the printed 28 dB came about we cannot tell from them.
# The loss by rounding is as computed, and NCC, blind to an offset, never gives it back; PSNR hardly notices, since each slice is scaled by its own maximum.
#
# ## What to take away
#
# - BlindHarmony is an ascent of NCC from an averaged slice, with a flow in the loop. Without the flow its end can be written down: the source's pattern, the start's mean and deviation.
# - The step has a natural unit, $N\,\mathrm{var}(x)$. Print $c$, not $\beta_1$.
# - The gradient term needs a mask that is not empty, and then it has to be asked whether it helps.
# - Most of the quality is decided by $x_0$ and by where correlation is counted, two things that the paper hardly mentions.
# - The determinant that was dropped is larger than the term that was kept, and the full prior would prefer a black picture.
#
# **Traps.**
# A gain over a bad source says nothing about a good one: compare with the untouched source for each scanner.
# "Blind" does not mean harmless: a T2 slice would be pulled the wrong way.
# A hyper-parameter copied to another image size is another hyper-parameter.
# An ablation row that equals the baseline in every digit may be a term that never ran.

# %% [markdown] tags=["instructor"]
# ## For the instructor
#
# 75 minutes with exercises, 35 without; sections 4, 7 and 9 are the mathematics, 5 and 10 the surprises.
# Expectations that fail and were left standing: the flat masks of T1 and T2 differ (section 2), $D(x_s, x_s) = 0$ (3), the determinant is small and the target's slices are the likeliest (5), better than the source on every domain (6 and 10), a negligible $\beta_2$ inside the brain (8), a shrink that gains (10).
# Exercises 11.1, 11.3 and 11.5 belong together: whoever has seen that the gradient is orthogonal gets the last one in a line.
# Frequent slips: the gradient without $-\rho\hat x$ (11.1), the quantile over the whole slice (11.4), the uncentred norm (11.3), the image after the shrink (11.2), the source's own deviation (11.5).

# %% [markdown]
# ## References
#
# - Jeong, Byun, Kang and Lee, *BlindHarmony: "Blind" Harmonization for MR Images via Flow model*, ICCV 2023, and its supplement.
# - Durkan, Bekasov, Murray and Papamakarios, *Neural Spline Flows*, NeurIPS 2019.
# - Theis, van den Oord and Bethge, *A note on the evaluation of generative models*, ICLR 2016: dequantization.
# - Kirichenko, Izmailov and Wilson, *Why normalizing flows fail to detect out-of-distribution data*, NeurIPS 2020: why a flow may prefer images of another domain.
