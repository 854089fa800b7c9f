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
# # 50 · MISPEL: two steps
#
# **You will be able to** write MISPEL's two training steps, say what each of its losses can and cannot see, find the direction in which one of them is empty, and solve the second step without training.
#
# **From the paper:** MISPEL (Torbati and colleagues, ICCV Workshops 2021), sections 3, 4.1 and 4.2, Equations 1 to 6, Algorithm 1, Figure 2.
#
# **Before:** notebooks 01 to 03.
# **Measured:** 43 seconds and 1.3 GB on one processor core.
#
# All people and scans here are **simulated**.
# Expectations are written down before the numbers; where the two disagree, the numbers stay.

# %% tags=["colab"]
# Only on Colab, where the package has to be fetched; anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/harmony-lite/harmony-lite@main")  # noqa: F821

# %% tags=["setup"]
import copy
from dataclasses import replace
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch import nn

import harmony_lite as hl
from harmony_lite.evaluate.fits import Fitted
from harmony_lite.exercises import check, hint  # noqa: F401
from harmony_lite.papers import published
from harmony_lite.papers.mispel.decoder_optimum import solved_weights
from harmony_lite.papers.mispel.experiment import PEOPLE_ON, sweeps
from harmony_lite.papers.mispel.losses import coupling_loss, harmonization_loss, reconstruction_loss, step_two_loss
from harmony_lite.papers.mispel.networks import Encoder, Units, embeddings_of
from harmony_lite.papers.mispel.settings import VARIANTS
from harmony_lite.papers.mispel.steps import PairedSlices, fit_decoders, learn_embeddings
from harmony_lite.profiles import active
from harmony_lite.show import COLOURS, show, strip
from harmony_lite.show.widgets import mixing_desk
from harmony_lite.splits import travelling_people
from harmony_lite.storage import cache_folder

profile = active()
print(f"profile {profile.name}: {profile.spacing} mm voxels; harmony_lite {hl.__version__}, torch {torch.__version__}")

# %% [markdown]
# ## 1. Why one person four times
#
# **Question.** What do travelling subjects tell that two cohorts cannot?
#
# **Idea.** If the person is the same, whatever differs is the scanner.
#
# The paper has 18 people, each on four 3 T scanners within four months (Table 1): a GE with BRAVO, and a Philips, a Prisma and a Trio with ME-MPRAGE.
# $X_i^j$ is axial slice $j$ of $N$ on scanner $i$ of $M = 4$; the same $j$ means the same person and height.
# No scanner is the target domain: the four are to meet somewhere.
# "RAW" is not raw: registered, corrected by N4, skull-stripped, and divided by its own mean, zeros around the brain included (section 4.1).
#
# We take three training and two held-out people of a cohort of the same ages.
#
# **Expected.** Within a person, scanners differ far less than people do on one scanner.

# %%
train, _, test = travelling_people(PEOPLE_ON)
fitted = Fitted(cache_folder() / "corrected")  # keeps what N4 made
train, test = fitted.without_fields(train.subset(range(3))), fitted.without_fields(test.subset(range(2)))
methods = {variant: hl.load_method("mispel", variant=variant).on_corrected() for variant in VARIANTS}
paper = methods["paper"]


def slices_of(cohort, method=paper):
    """Evenly spaced axial slices of every person: images (N, M, H, W), the brain (N, 1, H, W)."""
    return method.slices_of(cohort.view(method.needs))


known, held_out = slices_of(train), slices_of(test)
names = [name.removeprefix("mispel_").capitalize().replace("Ge", "GE") for name in PEOPLE_ON]
M, L = len(names), paper.settings.embeddings
one = 11  # the slice that is shown, of the first held-out person
raw = held_out.images[one]
show(
    strip({name: image.numpy() for name, image in zip(names, raw, strict=True)}, window=(0, 6), title="Simulated: RAW"),
    alt="One axial slice of one person on four scanners: the same folds, fluid and grey matter of different brightness.",
)

by_person = known.images.unflatten(0, (3, -1)), known.brain.unflatten(0, (3, -1))
inside = by_person[1].all(0)[:, 0]  # brain in all three people
between_scanners = harmonization_loss(known.images, known.brain)
other_person = [
    (by_person[0][i] - by_person[0][k]).abs().transpose(0, 1)[:, inside] for i, k in ((0, 1), (0, 2), (1, 2))
]
between_people = torch.stack(other_person).mean()
brightness = known.images[known.brain.expand_as(known.images)].mean()
print(f"mean brightness of the brain {brightness:.2f}; it differs")
print(f"  between two scanners of one person by {between_scanners / brightness:.1%}")
print(f"  between two people on one scanner by  {between_people / brightness:.1%}")
assert between_people > 2 * between_scanners

# %% [markdown]
# **What to notice.** The scanner is a small difference beneath a large one.
# Two unpaired cohorts show the large one; only averages over many people, with the same ages and diseases, could reveal the rest.
# With pairs a subtraction does, pixel by pixel, as far as the scans lie on each other.
# The price is the data: people who travel.
#
# ## 2. Two steps
#
# **Question.** Why not simply train networks until the four outputs agree?
#
# **Idea.** First learn what the images are made of; then change only how it is mixed, so that no anatomy can be invented on the way to agreement (section 3.2).
#
# The paper's Figure 2, in our own drawing:

# %%
figure, axes = plt.subplots(2, 1, figsize=(8.4, 4.9), layout="constrained")
places, rows = (0.6, 2.5, 4.8, 7.1, 9.2), (0.75, 0.1)
frozen, moved = "#dddddd", "#ffe0c2"
for axis, step, encoder in zip(
    axes, ("Step 1: embedding learning", "Step 2: harmonization"), (moved, frozen), strict=True
):
    for y, i in zip(rows, ("1", "M"), strict=True):
        texts = (f"$X_{i}^j$", f"$Enc_{i}$\nU-Net", f"$Z_{i}^j$\nL images", f"$Dec_{i}$\nL numbers", rf"$\bar X_{i}^j$")
        for x, text, fill in zip(places, texts, ("white", encoder, "white", moved, "white"), strict=True):
            box = {"boxstyle": "round", "fc": fill, "ec": "grey"}
            axis.text(x, y, text, ha="center", va="center", fontsize=9.5, bbox=box)
        for a, b in zip(places[:-1], places[1:], strict=True):
            axis.annotate("", (b - 0.65, y), (a + 0.65, y), arrowprops={"arrowstyle": "-|>", "color": "grey"})
    first = step.startswith("Step 1")
    at, loss = (places[2], "coupling (Eq. 3)") if first else (places[4], "harmonization\n(Eq. 5)")
    axis.annotate("", (at, 0.26), (at, 0.59), arrowprops={"arrowstyle": "<|-|>", "color": COLOURS[0], "lw": 1.8})
    axis.text(
        at + (0.2 if first else -0.2), 0.425, loss, color=COLOURS[0], va="center", ha="left" if first else "right"
    )
    way = {"arrowstyle": "<|-|>", "color": COLOURS[2], "lw": 1.5, "connectionstyle": "arc3,rad=-0.16"}
    axis.annotate("", (places[4], 0.92), (places[0], 0.92), arrowprops=way)
    label = {"color": COLOURS[2], "fontsize": 9.5, "ha": "center", "va": "center"}
    axis.text(places[2], 1.3, "reconstruction (Eq. 2)", bbox={"fc": "white", "ec": "none", "pad": 1}, **label)
    axis.text(places[0], 0.43, "⋮", ha="center", va="center", fontsize=14)
    axis.set(xlim=(-0.2, 10), ylim=(-0.15, 1.42), title=step + " (orange: updated, grey: frozen)")
    axis.axis("off")
alt = "Each scanner has a U-Net encoder to L embeddings and a decoder back. Step 1 updates both, step 2 the decoders only."
show(figure, alt=alt)
moved_in_step_2 = paper.units.weights.numel()
print(f"numbers that step 2 moves: {M} x {L} = {moved_in_step_2}")
assert moved_in_step_2 == M * L == 24

# %% [markdown]
# ## 3. A mixing desk (Equation 1)
#
# **Question.** What does a network of half a million numbers hand on, and what does the decoder do with it?
#
# **Idea.** The encoder makes $L = 6$ images of the slice's own size; the decoder is six sliders.
#
# $$\bar X_i^j = \sum_{l=1}^{L}\gamma_{i,l}\, Z_{i,l}^j \tag{1}$$
#
# The paper says "2D U-Net" and no more; the public code has two poolings, widths 32, 64, 128, 64, 32, and LeakyReLU behind every convolution but the two that follow an upsampling.
# The quick profile has the same network with a quarter of the channels.
#
# > **Slip of print.**
# > Beside Equation 2 the paper writes $\bar X = Enc(Dec(X))$; the order is $Dec(Enc(X))$, as in Algorithm 1.

# %%
full_size = Encoder(width=32, embeddings=6)
layers = [layer for layer in full_size.modules() if isinstance(layer, nn.Conv2d)]
print("channels:", " ".join(str(layer.out_channels) for layer in layers))
count = sum(weight.numel() for weight in full_size.parameters())
print(f"parameters of one encoder: {count:,} (here {sum(w.numel() for w in paper.units.encoders[0].parameters()):,})")
assert count == 518_854

ge = 0  # the scanner that is shown
with torch.no_grad():
    z = paper.units.embed(raw[None])[0, ge]  # (L, H, W)
    gamma = paper.units.weights[ge].clone()
    mixed = (gamma[:, None, None] * z).sum(0)  # Equation 1
    assert torch.allclose(mixed, paper.units.decode(paper.units.embed(raw[None]))[0, ge], atol=1e-5)

here = held_out.brain[one, 0]
figure, axes = plt.subplots(2, L + 1, figsize=(9.4, 3.7), layout="constrained")
for number, (above, below) in enumerate(axes[:, :L].T):
    low, high = z[number][here].quantile(torch.tensor([0.01, 0.99])).tolist()
    above.imshow(z[number].T, origin="lower", cmap="gray", vmin=low, vmax=high)
    above.set_title(f"$Z_{number + 1}$: {low:.1f} to {high:.1f}", fontsize=8.5)
    shown = below.imshow((gamma[number] * z[number]).T, origin="lower", cmap="PuOr_r", vmin=-5, vmax=5)
    below.set_title(rf"$\gamma_{number + 1}Z_{number + 1}$, $\gamma$ = {gamma[number]:.2f}", fontsize=8.5)
for axis, image, text in zip(axes[:, L], (raw[ge], mixed), ("input", "sum"), strict=True):
    axis.imshow(image.T, origin="lower", cmap="gray", vmin=0, vmax=6)
    axis.set_title(text, fontsize=8.5)
for axis in axes.flat:
    axis.axis("off")
figure.colorbar(shown, ax=axes[1, :L], shrink=0.8, location="left")
figure.suptitle("Simulated, GE. Above: embeddings, each in its own window; below: what each adds", fontsize=9.5)
show(
    figure,
    alt="Six embeddings of one slice, their weighted parts in one color scale, and their sum, which is the input.",
)
off = (mixed - raw[ge])[here].abs().mean() / raw[ge][here].mean()
print(f"the sum differs from the input by {off:.1%} of the brain's brightness")
assert off < 0.03

# %% [markdown]
# **What to notice.** The embeddings are not tissues.
# One is nearly the slice itself and does most of the work; others are the slice under another tone curve, upside down; the faint ones hold rims and fine detail.
# The decoder can add them with signs, which bends contrast, but it cannot move an edge.
# Turn one slider:

# %%
strongest = int((gamma.abs() * z[:, here].std(1)).argmax())
factors = (0.0, 0.5, 1.0, 1.5, 2.0)
turned = {}
for factor in factors:
    changed = gamma.clone()
    changed[strongest] *= factor
    turned[rf"$\gamma_{strongest + 1}$ × {factor:g}"] = (changed[:, None, None] * z).sum(0).numpy()
alt = "Turning one weight from zero to twice its value changes brightness and contrast, and leaves every edge in place."
show(strip(turned, window=(0, 6), title="Simulated: one of six weights turned"), alt=alt)

# %% tags=["widget"]
mixing_desk(z.numpy(), gamma.tolist(), title="weighted sum of six embeddings")

# %% [markdown]
# ## 4. The losses of step 1 (Equations 2, 3 and 4)
#
# **Question.** What is asked of encoders and decoders together?
#
# **Idea.** What comes out is what went in, and the embeddings of the four scanners are alike.
#
# $$\mathcal L_{recon} = \sum_{i=1}^{M} \mathrm{MAE}\big(X_i^j, \bar X_i^j\big) \tag{2}$$
#
# $$\mathcal L_{coup} = \frac{1}{LP}\sum_{l=1}^{L}\sum_{p=1}^{P}\mathrm{var}\big(Z_{1,l}^j(p), \dots, Z_{M,l}^j(p)\big) \tag{3}$$
#
# $$\mathcal L_{step1} = \lambda_1\mathcal L_{recon} + \lambda_2\mathcal L_{coup} \tag{4}$$
#
# with $P$ pixels, $\lambda_1 = 1$ and $\lambda_2 = 0.3$.
# The paper does not say which variance; the public code divides by $M$.
#
# ### Exercise 50.1 · The coupling loss (6 minutes)
#
# Write Equation 3 for a batch of slices, with the mean over slices too.


# %% tags=["exercise", "exercise-50.1"]
def coupling_of(embeddings):
    """Equation 3 of embeddings (B, M, L, H, W)."""
    raise NotImplementedError("your turn")


check("50.1", coupling_of)


# %% tags=["solution", "exercise-50.1"]
def coupling_of(embeddings):
    """Equation 3 of embeddings (B, M, L, H, W)."""
    return embeddings.var(1, correction=0).mean()


assert check("50.1", coupling_of).passed


# %%
def reconstruction(images, outputs):
    """Equation 2: images (B, M, H, W), a mean for each scanner, summed."""
    return (images - outputs).abs().mean((0, 2, 3)).sum()


def coupling(z):
    """Equation 3: z (B, M, L, H, W)."""
    return (z - z.mean(1, keepdim=True)).square().mean()


def decoded(z, gamma):
    """Equation 1 for all scanners: gamma (M, L)."""
    return (z * gamma[..., None, None]).sum(2)


embedded = embeddings_of(paper.units, held_out.images)  # (N, M, L, H, W), no gradients
weights = paper.units.weights.detach()
outputs = decoded(embedded, weights)
terms = reconstruction(held_out.images, outputs), coupling(embedded)
print("held-out people: reconstruction {:.4f}, coupling {:.4f}".format(*terms))
assert torch.isclose(terms[0], reconstruction_loss(held_out.images, outputs), rtol=1e-5)
assert torch.isclose(terms[1], coupling_loss(embedded), rtol=1e-5)

# %% [markdown]
# ### Exercise 50.2 · One decoder, without training (6 minutes)
#
# Given the embeddings of some pixels and the image there, find the six weights that come closest in squares.


# %% tags=["exercise", "exercise-50.2"]
def decoder_for(embeddings, image):
    """Weights (L,) for embeddings (P, L) of P pixels and the image (P,)."""
    raise NotImplementedError("your turn")


check("50.2", decoder_for)
# hint("50.2", 1)  # take the first # away for a hint; there are three


# %% tags=["solution", "exercise-50.2"]
def decoder_for(embeddings, image):
    """Weights (L,) for embeddings (P, L) of P pixels and the image (P,)."""
    return torch.linalg.lstsq(embeddings, image[:, None], driver="gelsd").solution[:, 0]


assert check("50.2", decoder_for).passed

# %% [markdown]
# ## 5. A direction that costs nothing
#
# **Question.** What does $\lambda_2 = 0.3$ mean?
#
# **Idea.** Equation 1 holds a product, and a product does not know which of its factors is large.
#
# Put $Z/c$ for every embedding and $c\,\gamma$ for every weight.
# The image is the same and Equation 2 does not move; Equation 3, a variance, falls by $c^2$.
#
# **Expected.** Exactly that, for any $c$; and the share of an embedding's variance that the scanners do *not* have in common stays where it is.
# That share is the variance across scanners over the variance across scanners, slices and pixels together: 0 where the scanners agree, $(M-1)/M$ where they have nothing in common.

# %%
table = {}
for c in (0.5, 1.0, 2.0, 10.0):
    z_c, gamma_c = embedded / c, c * weights
    table[f"c = {c:g}"] = {
        "reconstruction": reconstruction(held_out.images, decoded(z_c, gamma_c)).item(),
        "coupling": coupling(z_c).item(),
        "coupling × c²": coupling(z_c).item() * c**2,
        "share not in common": coupling_loss(z_c, scale_free=True).item(),
    }
table = pd.DataFrame(table).T
spread = table.drop(columns="coupling").std() / table.drop(columns="coupling").mean()
assert spread.max() < 1e-4
chance = torch.randn(4, M, 2, 60, 60, generator=torch.Generator().manual_seed(0))
print(f"share not in common of pure noise: {coupling_loss(chance, scale_free=True):.3f}; (M - 1) / M = {(M - 1) / M}")
assert abs(coupling_loss(chance, scale_free=True) - (M - 1) / M) < 0.01
table.round(5)

# %% [markdown]
# **What to notice.** A tenfold smaller embedding buys a hundredfold smaller loss, and nothing has been harmonized.
# So $\lambda_2$ has a unit, one over the square of whatever scale the embeddings happen to have: the size of the first weights, the learning rate and the length of training decide what 0.3 asks for.
# The share (`scale_free=True`, our variant `ours`) has no unit.
# Does training run down this free slope by itself?
# Section 7 looks.
#
# ### Exercise 50.3 · Any coupling you like (6 minutes)
#
# Return embeddings and weights that make the same image with the coupling that somebody asks for.


# %% tags=["exercise", "exercise-50.3"]
def with_coupling(embeddings, weights, wanted):
    """Embeddings (B, M, L, H, W) and weights (M, L) whose coupling is `wanted`, with the image unchanged."""
    raise NotImplementedError("your turn")


check("50.3", with_coupling)


# %% tags=["solution", "exercise-50.3"]
def with_coupling(embeddings, weights, wanted):
    """Embeddings (B, M, L, H, W) and weights (M, L) whose coupling is `wanted`, with the image unchanged."""
    c = (embeddings.var(1, correction=0).mean() / wanted).sqrt()
    return embeddings / c, c * weights


assert check("50.3", with_coupling).passed

# %% [markdown]
# ## 6. Algorithm 1, written out
#
# **Question.** What is there beside the losses?
#
# **Idea.** Two loops: one over everything, one over 24 numbers.
#
# The paper goes through all slices $j$ in each of $T$ iterations; the package draws a batch of four at random, and $T$ iterations are as many batches as it takes to draw $TN$ slices.
#
# **Expected.** From the same seed, ours and the package's agree to five digits, in every loss and in every weight.


# %%
def step_one(slices, settings, steps, seed=0, watch=None):
    """Lines 1 to 11 of Algorithm 1: encoders, gamma, losses, and the generator of chance for what follows."""
    generator, losses = torch.Generator().manual_seed(seed), []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoders = [Encoder(settings.width, settings.embeddings) for _ in slices.scanners]
        gamma = nn.Parameter(settings.first_weights * torch.randn(len(encoders), settings.embeddings))
    encoders = nn.ModuleList(encoders).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam([*encoders.parameters(), gamma], lr=settings.learning_rate)
    for _ in range(steps):
        x = slices.images[torch.randint(len(slices.images), (settings.batch,), generator=generator)]
        torch.randint(2**62, (), generator=generator)  # the package draws a seed for dropout, which is not there
        z = torch.stack([encoder(x[:, i, None]) for i, encoder in enumerate(encoders)], 1).contiguous()
        loss = settings.lambda1 * reconstruction(x, decoded(z, gamma)) + settings.lambda2 * coupling(z)  # Equation 4
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
        if watch is not None:
            watch(x, z.detach(), gamma.detach())
    return encoders, gamma, losses, generator


def flat(module):
    """All parameters of a network in one vector."""
    return torch.cat([values.detach().flatten() for values in module.parameters()])


def step_two(encoders, gamma, slices, settings, steps, generator):
    """Lines 12 to 22: the decoders alone."""
    gamma, losses = nn.Parameter(gamma.detach().clone()), []
    adam = torch.optim.Adam([gamma], lr=settings.learning_rate)
    for _ in range(steps):
        x = slices.images[torch.randint(len(slices.images), (settings.batch,), generator=generator)]
        torch.randint(2**62, (), generator=generator)
        with torch.no_grad():  # nothing to learn there
            z = torch.stack([encoder(x[:, i, None]) for i, encoder in enumerate(encoders)], 1)
        y = decoded(z, gamma)
        between = sum((y[:, i] - y[:, k]).abs().mean() for i, k in combinations(range(len(encoders)), 2))
        pairs = len(encoders) * (len(encoders) - 1) / 2
        loss = settings.lambda3 * reconstruction(x, y) + settings.lambda4 * between / pairs  # Equation 6
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return gamma, losses


# %%
tiny = replace(paper.settings, width=2, batch=2)
few = PairedSlices(known.images[::10], known.brain[::10], known.scanners)
encoders, gamma_1, losses_1, chance = step_one(few, tiny, 8)
gamma_2, losses_2 = step_two(encoders, gamma_1, few, tiny, 8, chance)

chance = torch.Generator().manual_seed(0)
units, history_1 = learn_embeddings(few, tiny, generator=chance, progress=False, steps=8)
after_one = units.weights.detach().clone()
history_2 = fit_decoders(units, few, tiny, generator=chance, progress=False, steps=8)
apart = {
    "losses of step 1": np.abs(np.subtract(losses_1, history_1.losses)).max(),
    "weights after step 1": (gamma_1 - after_one).abs().max().item(),
    "losses of step 2": np.abs(np.subtract(losses_2, history_2.losses)).max(),
    "weights after step 2": (gamma_2 - units.weights).abs().max().item(),
}
apart["encoders"] = (flat(encoders) - flat(units.encoders)).abs().max().item()
for what, value in apart.items():
    print(f"{what}: agree to 1e-5 {value < 1e-5}")
assert max(apart.values()) < 1e-5

# %% [markdown]
# ## 7. Step 1, live
#
# **Question.** What happens in the first minutes of training?
#
# **Idea.** Run our own loop on three people, two slices a step to save time, and watch it.
#
# **Expected.** Both losses fall. $|\gamma|$ stays about where it began: nothing pushes along a direction that costs nothing.

# %%
watched = []


def watch(x, z, gamma):
    share = coupling_loss(z, scale_free=True)
    watched.append([reconstruction(x, decoded(z, gamma)) / x.mean(), coupling(z), share, gamma.abs().mean(), z.std()])


steps = 64
step_one(known, replace(paper.settings, batch=2), steps, watch=watch)
path = torch.tensor(watched)
texts = ("reconstruction\n(over the mean)", "coupling\n(Equation 3)", "share\nnot in common", "mean |γ|")
figure, axes = plt.subplots(1, 4, figsize=(9.2, 2.5), layout="constrained")
for axis, values, text, colour in zip(axes, path.T, texts, COLOURS, strict=False):
    axis.plot(values, ".", color=colour, markersize=3, alpha=0.5)
    axis.plot(np.arange(7, steps), values.unfold(0, 8, 1).mean(1), color=colour, linewidth=1.8)
    axis.set(xlabel="step", title=text, ylim=(0, None))
    axis.title.set_fontsize(9)
    axis.spines[["top", "right"]].set_visible(False)
alt = "In 64 steps reconstruction error and share not in common fall, coupling rises and falls, the mean weight grows."
show(figure, alt=alt)
begin, end = path[:8].mean(0), path[-8:].mean(0)
trained = weights.abs().mean()
print(f"reconstruction {begin[0]:.2f} to {end[0]:.2f}; mean |γ| {begin[3]:.3f} to {end[3]:.3f};", end=" ")
print(f"deviation of Z {begin[4]:.1f} to {end[4]:.1f}")
print(f"after the whole training: mean |γ| {trained:.3f}, deviation of Z {embedded.std():.1f}")
assert end[0] < 0.7 * begin[0] and end[3] > begin[3]

# %% [markdown]
# **What to notice.** Reconstruction falls, as expected; coupling does not, at first: embeddings begin near 0, where being alike is free, and have to grow before they can be coupled.
# $|\gamma|$ does not stay.
# It grows all the way, here and through the whole training, while the embeddings, once grown, shrink again.
# So training does go along the free direction for a while: first weights with a deviation of 0.05 are too small for the images, and Adam moves each of them by about 0.001 a step.
# How much of the fall of Equation 3 is that, its own curve does not say.
# The share does: the scanners really become more alike.
#
# From here on we use the weights that come with the package: the same loop, on 24 people, for many epochs.
#
# ## 8. Are the embeddings alike?
#
# **Question.** Step 2 can only mix what step 1 hands it. How much do the four scanners have in common there?
#
# **Idea.** Ask for the share of variance not in common, on held-out people, inside the brain, where the air cannot agree for us.
#
# **Expected.** RAW images disagree most, the paper's embeddings less, ours least; untrained encoders have nothing in common.

# %%
own_slices = {"paper": held_out, "released": held_out, "ours": slices_of(test, methods["ours"])}  # its unit differs
own_embedded = {v: embeddings_of(method.units, own_slices[v].images) for v, method in methods.items()}
with torch.random.fork_rng():
    torch.manual_seed(0)
    untrained = embeddings_of(Units(M, paper.settings), held_out.images)
compared = {"RAW": held_out.images[:, :, None], "untrained": untrained}
compared |= {variant: own_embedded[variant] for variant in ("paper", "released", "ours")}
shares = {name: coupling_loss(z, held_out.brain, scale_free=True).item() for name, z in compared.items()}
print("share not in common:", {name: round(share, 3) for name, share in shares.items()})
assert shares["ours"] < 0.5 * shares["paper"]

figure, axes = plt.subplots(2, 4, figsize=(9.2, 4.6), layout="constrained", width_ratios=(1, 1, 1, 1.5))
for row, variant in zip(axes, ("paper", "ours"), strict=True):
    z, gamma = own_embedded[variant], methods[variant].units.weights.detach()
    values = z.transpose(1, 2).transpose(0, 1)[:, held_out.brain[:, 0, None].expand_as(z[:, :, 0])]  # (L, P M)
    adds = gamma.abs().mean(0) * values.std(1)  # to the image
    lonely = [coupling_loss(z[:, :, [number]], held_out.brain, scale_free=True).item() for number in range(L)]
    number = int(adds.argmax())
    first, last = z[one, 0, number], z[one, -1, number]
    low, high = first[here].quantile(torch.tensor([0.01, 0.99])).tolist()
    for axis, image, name in zip(row, (first, last), (names[0], names[-1]), strict=False):
        axis.imshow(image.T, origin="lower", cmap="gray", vmin=low, vmax=high)
        axis.set_title(f"{variant}, $Z_{number + 1}$ on {name}", fontsize=9)
    apart = (first - last) / values[number].std() * here
    row[2].imshow(apart.T, origin="lower", cmap="PuOr_r", vmin=-1, vmax=1)
    row[2].set_title("difference, ±1 deviation", fontsize=9)
    for axis in row[:3]:
        axis.axis("off")
    row[3].plot(100 * adds / adds.sum(), lonely, "o", color=COLOURS[0])
    place = (100 * adds[number] / adds.sum(), lonely[number])
    row[3].annotate("shown", place, xytext=(0, 8), textcoords="offset points", fontsize=8.5, ha="center")
    row[3].axhline((M - 1) / M, color="grey", linestyle=":")
    row[3].set(ylim=(0, 0.85), xlim=(0, 100), xlabel="what it adds (%)", ylabel="share not in common")
    row[3].spines[["top", "right"]].set_visible(False)
figure.suptitle("Simulated; one window for each row; dotted: nothing in common", fontsize=9.5)
alt = "The strongest embedding on GE and Trio and their difference; at the right, weak embeddings have the least in common."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** The expectation fails in its first part.
# RAW images have nearly everything in common already, more than the paper's embeddings have on average.
# The right column, with a dot for each embedding, shows where: the strong one agrees as well as the images do, and the weak ones, which add a few per cent, hold what each scanner has for itself.
# Equation 3 does not mind, since small embeddings have small variances; the share counts every embedding alike, and in `ours` nothing hides in a small one.
# What agrees so well there is blurred: it is easier to agree on less.
# (Untrained encoders are above $(M-1)/M$ because their means differ too.)
#
# ## 9. The losses of step 2 (Equations 5 and 6)
#
# **Question.** How is harmonization asked for, and what does a step cost?
#
# **Idea.** The mean difference of all pairs of scanners, with reconstruction as the anchor.
#
# $$\mathcal L_{harm} = \frac{2}{M(M-1)}\sum_{i=1}^{M-1}\sum_{k=i+1}^{M}\mathrm{MAE}\big(\bar X_i^j, \bar X_k^j\big) \tag{5}$$
#
# $$\mathcal L_{step2} = \lambda_3\mathcal L_{recon} + \lambda_4\mathcal L_{harm} \tag{6}$$
#
# with $\lambda_3 = 1$ and $\lambda_4 = 4$.
# Encoders are frozen.
#
# ### Exercise 50.4 · The harmonization loss (6 minutes)
#
# Equation 5 for a batch of slices on any number of scanners.


# %% tags=["exercise", "exercise-50.4"]
def harmonization_of(outputs):
    """Equation 5 of outputs (B, M, H, W)."""
    raise NotImplementedError("your turn")


check("50.4", harmonization_of)


# %% tags=["solution", "exercise-50.4"]
def harmonization_of(outputs):
    """Equation 5 of outputs (B, M, H, W)."""
    i, k = torch.combinations(torch.arange(outputs.shape[1])).T
    return (outputs[:, i] - outputs[:, k]).abs().mean()


assert check("50.4", harmonization_of).passed

# %% [markdown]
# Since nothing changes in the encoders, the embeddings of a slice are the same in every step, and they need to be computed once.
#
# **Expected.** The same losses from kept embeddings, at more than five times the speed; the encoders the same bit for bit.

# %%
by_hand = sum((outputs[:, i] - outputs[:, k]).abs().mean() for i, k in combinations(range(M), 2)) / 6
loss, term, between = step_two_loss(held_out.images, outputs, paper.settings)
assert torch.isclose(by_hand, between, rtol=1e-5) and torch.isclose(between, harmonization_loss(outputs))
assert torch.isclose(loss, reconstruction(held_out.images, outputs) + 4 * by_hand, rtol=1e-5)

runs = {}
for cached in (True, False):
    units = copy.deepcopy(paper.units)
    before = flat(units.encoders).clone()
    chance = torch.Generator().manual_seed(0)
    runs[cached] = fit_decoders(units, known, paper.settings, generator=chance, cached=cached, progress=False, steps=16)
    assert torch.equal(before, flat(units.encoders))  # bit for bit
faster = runs[False].seconds / runs[True].seconds
print(f"kept embeddings: more than five times as fast {faster > 5}; largest difference of a loss below 1e-5", end=" ")
print(np.abs(np.subtract(runs[True].losses, runs[False].losses)).max() < 1e-5)
assert faster > 5 and np.allclose(runs[True].losses, runs[False].losses, atol=1e-5)

# %% [markdown]
# ## 10. Step 2 without a step
#
# **Question.** Are 15 epochs needed for 24 numbers?
#
# **Idea.** Equation 6 is a sum of absolute values of linear functions of $\gamma$: a convex problem whose optimum can be computed.
#
# $|r| = r^2/|r|$, so an absolute value is a square with the weight $1/|r|$.
# Take $|r|$ from the round before, solve weighted least squares, repeat: iteratively reweighted least squares (`solved_weights`).
#
# **Expected.** Adam ends within 2 % of the optimum; plain least squares, which minimizes something else, above it.

# %%
pair_index = torch.combinations(torch.arange(M)).T


def pixels_of(variant, count=5_000):
    """Embeddings (P, M, L) and images (P, M) of brain pixels of the three training people."""
    slices = slices_of(train, methods[variant])
    inside = slices.brain[:, 0]
    z = embeddings_of(methods[variant].units, slices.images).permute(0, 3, 4, 1, 2)[inside]
    chosen = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))[:count]
    return z[chosen], slices.images.permute(0, 2, 3, 1)[inside][chosen]


def objective(z, x, gamma, lambda4=4.0):
    """Equation 6 over pixels, and its two terms."""
    y = torch.einsum("pml,ml->pm", z, gamma)
    term, between = (x - y).abs().mean(0).sum(), (y[:, pair_index[0]] - y[:, pair_index[1]]).abs().mean()
    return term + lambda4 * between, term, between


z, x = pixels_of("paper")
settings = replace(paper.settings, lambda4=4.0)
best = solved_weights(z, x, settings)
optimum = objective(z, x, best)[0].item()
starts = {
    "Adam from random weights": 0.05 * torch.randn(M, L, generator=torch.Generator().manual_seed(1)),
    "Adam from reconstruction alone": solved_weights(z, x, replace(settings, lambda4=0.0)),
}
paths = {}
for name, start in starts.items():
    gamma = nn.Parameter(start.clone())
    adam, paths[name] = torch.optim.Adam([gamma], lr=1e-3), []
    for _ in range(1501):
        loss = objective(z, x, gamma)[0]
        paths[name].append(loss.item())
        adam.zero_grad()
        loss.backward()
        adam.step()
squares = objective(z, x, solved_weights(z, x, settings, absolute=False))[0].item()
table = {name: {f"{t} steps": values[t] / optimum for t in (0, 500, 1500)} for name, values in paths.items()}
figure, axis = plt.subplots(figsize=(6.6, 3.1), layout="constrained")
for (name, values), colour in zip(paths.items(), COLOURS, strict=False):
    axis.plot(np.array(values) / optimum, color=colour, label=name)
axis.axhline(squares / optimum, color=COLOURS[2], linestyle="--", label="least squares")
axis.axhline(1, color="black", linestyle=":", label="optimum (reweighted least squares)")
axis.set(xlabel="step", ylabel="Equation 6 / optimum", ylim=(0.98, 1.3))
axis.legend(frameon=False, fontsize=8.5)
axis.spines[["top", "right"]].set_visible(False)
show(
    figure,
    alt="From random weights Adam needs over a thousand steps to come near the optimum, from reconstruction a few hundred.",
)
assert all(values[-1] <= 1.02 * optimum for values in paths.values()) and squares > optimum
print(f"least squares: {squares / optimum:.3f} of the optimum")
pd.DataFrame(table).T.round(4)

# %% [markdown]
# **What to notice.** Adam gets there, but it matters where it starts: from weights that reconstruct, 500 steps are plenty; from random weights, 500 are far off and 1500 just suffice.
# Least squares lies above the optimum, as it has to, by several per cent.
# Solving takes about a second, and no learning rate has to be chosen.
# Equation 6 was taken over brain pixels here; the paper's mean over the frame adds the air, where all embeddings are constants that have to cancel.
#
# ### Exercise 50.5 · A round of reweighting (10 minutes)
#
# One round for a single scanner: new weights from the residuals of the old ones.


# %% tags=["exercise", "exercise-50.5"]
def reweighted(embeddings, image, weights, floor):
    """New weights (L,) for embeddings (P, L) and the image (P,); no residual counts as smaller than `floor`."""
    raise NotImplementedError("your turn")


check("50.5", reweighted)


# %% tags=["solution", "exercise-50.5"]
def reweighted(embeddings, image, weights, floor):
    """New weights (L,) for embeddings (P, L) and the image (P,); no residual counts as smaller than `floor`."""
    root = (image - embeddings @ weights).abs().clamp_min(floor).rsqrt()
    return torch.linalg.lstsq(embeddings * root[:, None], (image * root)[:, None]).solution[:, 0]


assert check("50.5", reweighted).passed

# %% [markdown]
# With the optimum at hand, $\lambda_4$ needs no trainings.
# The paper tried 1 to 6 and took 4, "based on the total loss for this step in addition to the quality of the harmonized images".
#
# **Expected.** With more $\lambda_4$ the scanners come closer and the reconstruction suffers; 4 lies before the bend.
# And somewhere there is an end: four black images agree perfectly.

# %%
sweep, strengths = {}, (0, 1, 2, 3, 4, 5, 6, 20, 100)
for variant in ("paper", "ours"):
    z, x = pixels_of(variant)
    apart = objective(z, x, torch.zeros(M, L))[1] / M, (x[:, pair_index[0]] - x[:, pair_index[1]]).abs().mean()
    for strength in strengths:
        gamma = solved_weights(z, x, replace(methods[variant].settings, lambda4=float(strength)), rounds=25)
        _, term, between = objective(z, x, gamma)
        bright = torch.einsum("pml,ml->pm", z, gamma).mean() / x.mean()
        sweep[variant, strength] = [100 * v.item() for v in (term / M / apart[0], between / apart[1], bright)]
columns = ["reconstruction error (%)", "differences left (%)", "brightness (%)"]
sweep = pd.DataFrame(sweep, index=columns).T
figure, axis = plt.subplots(figsize=(6.6, 3.6), layout="constrained")
for variant, colour, mark in zip(("paper", "ours"), COLOURS, "os", strict=False):
    rows = sweep.loc[variant].drop(100)
    axis.plot(
        rows[columns[0]], rows[columns[1]], color=colour, marker=mark, markersize=5, label=f"embeddings of `{variant}`"
    )
    for strength in (0, 4, 6, 20):
        place = rows.loc[strength, columns[0]], rows.loc[strength, columns[1]]
        axis.annotate(f"λ₄ = {strength}", place, xytext=(5, 4), textcoords="offset points", fontsize=8, color=colour)
axis.set(
    xscale="log", xlabel="reconstruction error (% of the brain's brightness)", ylabel="of RAW's differences left (%)"
)
axis.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"], minor=False)
axis.minorticks_off()
axis.legend(frameon=False, fontsize=8.5, loc="lower left")
axis.spines[["top", "right"]].set_visible(False)
show(
    figure,
    alt="Both curves fall slowly: at 4 most of the differences between scanners are left, at 20 less for a larger error.",
)
assert sweep.loc[("paper", 100), columns[2]] < 50
sweep.unstack(0).round(1)

# %% [markdown]
# **What to notice.** The expectation holds, but look at the scale.
# With the paper's embeddings, 4 takes away less than a tenth of the differences between scanners; with ours more, for a reconstruction that was worse to begin with.
# There is no sharp bend, and nothing singles 4 out between 1 and 6.
# The total loss cannot: it grows with $\lambda_4$ by construction.
# At 100, the paper's decoders turn the light down: dark scanners agree.
#
# ## 11. How L and $\lambda_2$ were chosen
#
# **Question.** The paper tried $L \in \{4, 6, 8\}$ and $\lambda_2 \in \{0.1, \dots, 0.5\}$ and took 6 and 0.3, "based on the total loss and the quality of the reconstructed images". What does such a grid say?
#
# **Idea.** Fifteen short trainings (a twelfth of the shipped ones), measured on validation people; the package carries the numbers.
#
# **Expected.** Reconstruction improves with $L$ and suffers from $\lambda_2$, so that the grid has a preference.

# %%
grid = sweeps()["grid"]
hyper = published.load("mispel").hyperparameters
counts, strengths = hyper["embeddings_tried"].value, hyper["lambda2_tried"].value
picked = hyper["embeddings"].value, hyper["lambda2"].value
cells = {(c, s): grid[f"L {c}, lambda2 {s}"] for c in counts for s in strengths}
measures = {
    "reconstruction": lambda cell: cell["reconstruction"],
    "share not in common (%)": lambda cell: 100 * cell["coupling, scale-free"],
    "differences left (% of RAW's)": lambda cell: 100 * cell["harmonization"] / cell["harmonization of RAW"],
    "SSIM minus RAW's": lambda cell: np.mean(cell["values"]["MISPEL | ssim"]) - np.mean(cell["values"]["RAW | ssim"]),
}
found = {
    text: pd.DataFrame({c: {s: of(cells[c, s]) for s in strengths} for c in counts}) for text, of in measures.items()
}
figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.9), layout="constrained")
for axis, (text, values) in zip(axes, found.items(), strict=True):
    for count, colour, mark in zip(counts, COLOURS, "o^s", strict=False):
        axis.plot(values.index, values[count], color=colour, marker=mark, label=f"L = {count}")
    axis.plot(picked[1], values.loc[picked[1], picked[0]], "o", markersize=13, fillstyle="none", color="black")
    axis.set(xlabel="λ₂", xticks=strengths)
    axis.set_title(text, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
figure.suptitle("Simulated validation people, short trainings; ring: the paper's choice", fontsize=9.5)
show(figure, alt="Four measures over lambda2 for three numbers of embeddings; the lines cross and jump.")
assert len(cells) == 15
total = found["reconstruction"] + pd.DataFrame({c: {s: s * cells[c, s]["coupling"] for s in strengths} for c in counts})
assert total.stack().idxmin()[0] == min(strengths)
for text, values in ({"total loss of step 1": total} | found).items():
    place = values.stack().idxmax() if "SSIM" in text else values.stack().idxmin()
    here_and_there = values.stack()[place], values.loc[picked[1], picked[0]]
    print(f"best {text}: L = {place[1]}, lambda2 = {place[0]}", end=" ")
    print("with {:.3g}; the paper's choice has {:.3g}".format(*here_and_there))

# %% [markdown]
# **What to notice.** Reconstruction behaves as expected: better with more embeddings, worse with more $\lambda_2$.
# The rest jumps from one training to the next by as much as it moves along a curve.
# The total loss of step 1 picks the smallest $\lambda_2$, as it must: the weight is inside the loss.
# That is no way to choose a weight, and reconstruction is no better, since by it one would not couple at all.
# One would need what neither loss measures, the quality of what comes out at the end, on people who took no part, with more than one seed.
#
# ## 12. Paper says, code does
#
# **Question.** What does the released program do?
#
# **Idea.** `released` follows the code where it departs from the page; measure all three variants on held-out people.
#
# > **Paper says / code does.**
# > *Decoder*: linear (Equation 1); the code has a ReLU behind it.
# > *Harmonization*: mean over pairs; the code divides the sum over pairs by $M$, which is 1.5 times as much for $M = 4$.
# > *Step 2*: $\lambda_3 = 1$, $\lambda_4 = 4$; the code never puts these weights into effect: harmonization has weight 0, and step 2 goes on reconstructing.
# > *Learning rate*: 0.001; the README's command has 0.0001.
# > *$\lambda_1, \lambda_2$*: 1 and 0.3; the README says that the paper swapped them.
# > *People*: not said; the code trains on all of them and writes those same people.
#
# **Expected.** RAW and `released` differ by the same amount; `paper` clearly less, `ours` least.

# %%
rows = {}
for variant in ("paper", "released", "ours"):
    slices, units = own_slices[variant], methods[variant].units
    with torch.no_grad():
        y = units.decode(own_embedded[variant])
    bright = slices.images[slices.brain.expand_as(slices.images)].mean()
    untouched = harmonization_loss(slices.images, slices.brain)
    rows[variant] = {
        "differences left (% of RAW's)": 100 * (harmonization_loss(y, slices.brain) / untouched).item(),
        "reconstruction error (%)": 100 * (reconstruction_loss(slices.images, y, slices.brain) / M / bright).item(),
    }
    rows[variant]["by pairs over M"] = (harmonization_loss(y, pairs_over_scanners=True) / harmonization_loss(y)).item()
    deviation = (y - y.mean(1, keepdim=True))[one] / bright * 100
    rows[variant]["picture"] = deviation * here
pictures = {"RAW": (raw - raw.mean(0)) / brightness * 100 * here} | {v: row.pop("picture") for v, row in rows.items()}
table = pd.DataFrame(rows).T
left = table["differences left (% of RAW's)"]
assert abs(left["released"] - 100) < 5 and left[["paper", "ours"]].max() < left["released"]
assert abs(table["by pairs over M"] - 1.5).max() < 1e-4

chances = torch.Generator().manual_seed(0)
first = 0.05 * torch.randn(1000, L, generator=chances)  # first weights of 1000 decoders
for i, name in enumerate(names):
    alive = (first @ untrained[one, i][:, here] > 0).float().mean(1)  # share of brain pixels with a gradient
    print(f"{name}: {(alive == 0).float().mean():.0%} of decoders with a ReLU start dead,", end=" ")
    print(f"{(alive < 0.05).float().mean():.0%} with less than a twentieth of the brain alive")

del pictures["released"]
figure, axes = plt.subplots(len(pictures), M, figsize=(7.4, 6.4), layout="constrained")
for row, (variant, images) in zip(axes, pictures.items(), strict=True):
    for axis, image, name in zip(row, images, names, strict=True):
        shown = axis.imshow(image.T, origin="lower", cmap="PuOr_r", vmin=-15, vmax=15)
        axis.set_title(f"{variant}, {name}", fontsize=9)
        axis.axis("off")
figure.colorbar(shown, ax=axes, shrink=0.5, label="% of the brain's brightness")
figure.suptitle("Simulated: each scanner minus the mean of the four", fontsize=9.5)
show(
    figure,
    alt="Deviations from the mean of the four scanners: strong and structured in RAW, hardly weaker in paper, weaker in ours.",
)
table.round(2)

# %% [markdown]
# **What to notice.** The first expectation holds: `released` leaves the scanners as they were.
# The second hardly does: `paper`, on people it has not seen, takes away a few per cent.
# `ours` takes away clearly more, and pays in reconstruction.
# The pictures say what: the broad color of white matter pales (Philips, Prisma), the rims stay.
# Rims are sharpness and alignment, and six numbers a scanner cannot sharpen or move.
# A dead decoder gets no gradient from Equation 2; the released code hopes for a good draw.
#
# ## What to take away
#
# - MISPEL splits a hard question in two: what is in the picture (encoders, half a million numbers each) and how it is shown (24 numbers). Only the second is moved towards agreement, which is why anatomy is not invented.
# - Equation 3 has a unit. Any coupling can be had for nothing by a change of scale; the share not in common cannot be had that way.
# - Step 2 is convex. Solve it, and $\lambda_4$ becomes a curve to look at instead of a number to believe.
# - What six numbers a scanner can harmonize is decided in step 1: embeddings that are copies of their own scan can only be rescaled.
# - A term that is written in the paper and in the code may still have weight 0 while it runs. Print the terms.
#
# **Traps.**
# $\lambda_2$ copied to other images, another width or other first weights is another $\lambda_2$.
# "Encoders are frozen" does not mean that nothing can be lost: 24 numbers are enough to flatten a contrast or to turn off the light.
# A total loss cannot choose between weights that stand inside it.
# A ReLU behind a decoder with random signs may start dead, and the training does not say so.

# %% [markdown] tags=["instructor"]
# ## For the instructor
#
# 80 minutes with exercises, 40 without; sections 5, 8 and 10 are the core, 2 and 6 can be read at home.
# Ask before section 5: "the coupling loss has fallen to a hundredth, what have we achieved?"
# Ask before section 10: "how many numbers does step 2 fit, and how would you fit them in a spreadsheet?"
# Let people turn the mixing desk until the ventricles are white: contrast can be inverted, edges cannot be moved.
# Expectations that fail and were left standing: coupling falls from the start and $|\gamma|$ stays (section 7), RAW disagrees most (8), a grid with a preference (11), the paper's variant takes away clearly more than `released` (12).
# Frequent slips: the sample variance, which is a third more for four scanners (50.1); an intercept, which Equation 1 does not have (50.2); neighboring pairs only (50.4); $c$ without its root (50.3); rows times $1/|r|$, which weighs with $1/r^2$ (50.5).

# %% [markdown]
# ## References
#
# - Eshaghzadeh Torbati, Tudorascu, Minhas, Maillard, DeCarli and Hwang, *Multi-scanner harmonization of paired neuroimaging data via structure preserving embedding learning*, ICCV Workshops 2021.
# - Ronneberger, Fischer and Brox, *U-Net: convolutional networks for biomedical image segmentation*, MICCAI 2015.
# - Schlossmacher, *An iterative technique for absolute deviations curve fitting*, Journal of the American Statistical Association 1973: reweighted least squares.
# - Tustison and colleagues, *N4ITK: improved N3 bias correction*, IEEE Transactions on Medical Imaging 2010.
