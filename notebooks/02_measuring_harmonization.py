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
# # 02 · Measuring harmonization
#
# **You will be able to** derive every number that the five papers judge by, name what each of them cannot see, read a printed PSNR with its normalisation, mask and range, say how good a result can be at best, and count people instead of slices.
#
# **From the papers:** PSNR and SSIM as in BlindHarmony (Tables 1 and 2) and BlindHarmonyDiff (section 4.4, Tables 1 and S2); Dice and modified Hausdorff distance as in Harmonizing Flows (section 4.1); normalised Wasserstein distance and volume difference as in HAIL (section 2.2, Eqs. 1 and 2); SSIM and volumes across scanners as in MISPEL (sections 4.5 and 4.6).
#
# **Before:** notebooks 00 and 01.
# **Measured:** 26 seconds and 1.1 GB on one processor core.
#
# All people and scans here are **simulated**.
# Where we expect something of a measure, the expectation is written down before the number is computed.
# Some turn out wrong; then the number stays and the text says so.

# %% tags=["colab"]
# Only on Colab, where the package has to be fetched; anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/harmony-lite/harmony-lite@main")  # noqa: F821

# %% tags=["setup"]
import math

import numpy as np
import pandas as pd
import torch
from scipy import stats
from scipy.ndimage import binary_erosion, distance_transform_edt, fourier_gaussian, gaussian_filter
from skimage.filters import threshold_multiotsu

import harmony_lite as hl
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.report import summary
from harmony_lite.evaluate.statistics import bootstrap_interval, paired_t, wilcoxon
from harmony_lite.exercises import check, hint  # noqa: F401
from harmony_lite.images import normalize
from harmony_lite.images.slices import axial_slices
from harmony_lite.profiles import active
from harmony_lite.show import curves, difference, dots, show, strip, table
from harmony_lite.show.widgets import swipe

profile = active()
print(f"profile {profile.name}: {profile.spacing} mm voxels; harmony_lite {hl.__version__}, torch {torch.__version__}")

# %% [markdown]
# ## 1. The pair that we judge
#
# **Question.** One person, two scanners: how different are the two pictures?
#
# **Idea.** Put both on one scale, lay them over each other, subtract.
#
# The target is the Trio, as in both BlindHarmony papers; the sources are the Sonata and the Vision.
# A scan comes in its scanner's own units, so before we compare anything we bring the 1st and 99th percentile of the brain to 0 and 1, as BlindHarmonyDiff does.
# The person with the most white-matter lesions is the one we look at.

# %%
scanners = ["oasis_trio", "oasis_vision", "oasis_sonata"]
cohort = hl.Cohort.simulate(subjects=profile.lesson_subjects, scanners=scanners, spacing=profile.spacing, seed=2)
mask = cohort.mask
units = {name: cohort.scans(name) for name in ("trio", "vision", "sonata")}  # (N, 1, D, H, W), scanner units
units["rescan"] = cohort.scans("trio", repeat=1)


def scaled(images):
    """1st and 99th percentile inside the brain to 0 and 1, background 0."""
    return normalize.subject_percentile(images, mask) * mask


def axial(volume):
    return volume[0, 0, ..., k].numpy()  # (1, 1, D, H, W) -> (D, H)


trio, vision, sonata, rescan = (scaled(images) for images in units.values())
one = int(cohort.lesions.flatten(1).sum(1).argmax())
k = int(cohort.lesions[one, 0].sum((0, 1)).argmax())  # the axial slice with most lesion
target, source, brain = trio[one, None], sonata[one, None], mask[one, None]
picture = difference(axial(source), axial(target), names=("Sonata", "Trio"), window=(0, 1.2))
picture.suptitle("One simulated person on two scanners, percentiles matched", fontsize=10)
show(picture, alt="An axial slice on the Sonata and the Trio, and their difference, largest along the cortex.")

# %% [markdown]
# **What to notice.** The difference has three parts: broad patches (shading), tissue (contrast: grey matter stands apart), and outlines (the two scans are not perfectly aligned).
# A single number has to weigh the three against each other.
#
# In a running notebook you can move a line between the two; the figure above says the same.

# %% tags=["widget"]
swipe(axial(source), axial(target), window=(0, 1.2))

# %% [markdown]
# ## 2. PSNR
#
# **Question.** How large is the error, compared with the range of the picture?
#
# **Idea.** Average the squared error over the voxels of the brain, and express the range in units of it, in decibels.
#
# $$\mathrm{MSE} = \frac1n\sum_{v\in\text{mask}}(x_v-y_v)^2, \qquad \mathrm{PSNR} = 10\log_{10}\frac{R^2}{\mathrm{MSE}}$$
#
# $x$ is the image, $y$ the target, $R$ the *data range*.
# With $R=1$, 20 dB means a typical error of 0.1, and every 6 dB halves it.
#
# **Expected.** The choice of $R$ alone moves the number: twice the range adds $20\log_{10}2 \approx 6.02$ dB, with not a voxel changed.
# No thought experiment: BlindHarmonyDiff's public code computes PSNR with the range 2 of data in $[-1, 1]$.
# If the data are in $[0, 1]$, the printed number is 6 dB too good.


# %% tags=["nbval-check-output"]
def psnr_by_hand(image, reference, inside, data_range):
    mse = (image[inside].double() - reference[inside].double()).square().mean()
    return float(10 * torch.log10(data_range**2 / mse))


by_hand = psnr_by_hand(source, target, brain, 1.0)
assert abs(by_hand - metrics.psnr(source, target, brain, data_range=1.0).item()) < 1e-4
gained = psnr_by_hand(source, target, brain, 2.0) - by_hand
print(f"the same two images, range 2 instead of 1: {gained:+.2f} dB")

# %% [markdown]
# **The blind spot.** PSNR squares and adds, so it knows how much error there is and not of what kind.
# Below, the target is damaged in five ways, and each damage is scaled until PSNR is exactly 22 dB.
#
# **Expected.** The five look nothing alike, and a shift of about half a voxel is enough for 22 dB.

# %%
draw = torch.Generator().manual_seed(0)
across = torch.linspace(-1, 1, target.shape[2])[:, None, None]  # left to right
errors = {
    "offset": torch.ones_like(target),
    "shading": target * across,
    "noise": torch.randn(target.shape, generator=draw),
    "blur": torch.from_numpy(gaussian_filter(target.numpy(), (0, 0, 1, 1, 1))) - target,
    "shift": torch.roll(target, 1, dims=2) - target,  # by one voxel; a part of it is a part of a voxel
}
amount = {name: (10 ** (-22 / 10) / e[brain].square().mean()).sqrt().item() for name, e in errors.items()}
damaged = {name: (target + amount[name] * e) * brain for name, e in errors.items()}
for image in damaged.values():
    assert abs(metrics.psnr(image, target, brain, data_range=1.0).item() - 22) < 0.01
pictures = {name: axial(image) for name, image in ({"target (simulated)": target} | damaged).items()}
alt = "The target and five copies with equal PSNR: brighter, shaded from left to right, grainy, blurred, shifted."
show(strip(pictures, window=(0, 1.2), columns=3), alt=alt)
print(f"shading: ±{100 * amount['shading']:.0f} % from side to side; shift: {amount['shift']:.2f} voxels")

# %% [markdown]
# **What to notice.** A doctor would read the shaded picture as well as the first one, and a standard correction removes it.
# The blurred one has lost its fine folds for good.
# PSNR calls them equal.
# The shifted one is the same brain, about half a voxel away; few registrations are better than that, so hardly a paired PSNR of real scans is free of it.
#
# **And the thing that matters most can be missing.**
# Take the target and paint over every white-matter lesion with the intensity of healthy white matter.
#
# **Expected.** PSNR will rate this picture, which has lost the disease, above an honest rescan.

# %%
lesion = cohort.lesions[one, None]
erased = target.clone()
erased[lesion] = target[(cohort.labels[one, None] == 4) & ~lesion].median()  # label 4: cerebral white matter
again = rescan[one, None]
psnr_erased, psnr_again = (metrics.psnr(v, target, brain, data_range=1.0).item() for v in (erased, again))

places, sizes = axial(lesion).nonzero(), axial(lesion).shape
centre = [int(np.clip(place.mean(), 22, size - 22)) for place, size in zip(places, sizes, strict=True)]
near = tuple(slice(c - 22, c + 22) for c in centre)  # a close-up of the lesions
names = "target (simulated)", f"lesions erased: {psnr_erased:.1f} dB", f"honest rescan: {psnr_again:.1f} dB"
pictures = {name: axial(v)[near] for name, v in zip(names, (target, erased, again), strict=True)}
alt = "A close-up of the target with dark lesions in white matter, of a copy without them, and of the rescan with them."
show(strip(pictures, window=(0.3, 1.1), size=2.4), alt=alt)
assert lesion.sum() > 50 and psnr_erased > psnr_again + 5

# %% [markdown]
# **What to notice.** The lesions are a few hundred voxels among two hundred thousand.
# Any average over the brain forgives losing them, and so do all the measures of sections 3 to 5.
# That is why papers add a task, such as segmentation, and why this series looks at lesions separately.
#
# ### Exercise 02.1 · Two printed PSNRs on one range (5 minutes)
#
# One paper prints a PSNR computed with range `old_range`, another one used `new_range`.
# Bring the first number to the second range, without the images.


# %% tags=["exercise", "exercise-02.1"]
def psnr_for_range(psnr, old_range, new_range):
    """The PSNR in dB that the same two images have with another data range."""
    raise NotImplementedError("your turn")


check("02.1", psnr_for_range)
# hint("02.1", 1)  # take the first # away for a hint; there are three


# %% tags=["solution", "exercise-02.1"]
def psnr_for_range(psnr, old_range, new_range):
    """The PSNR in dB that the same two images have with another data range."""
    return psnr + 20 * math.log10(new_range / old_range)


assert check("02.1", psnr_for_range).passed

# %% [markdown]
# ## 3. SSIM
#
# **Question.** Can a measure look at structure rather than at single voxels?
#
# **Idea.** Compare local means, local spreads and local correlation in a small sliding window, and average the result.
#
# $$\mathrm{SSIM}(x,y) = \frac{(2\mu_x\mu_y + c_1)\,(2\sigma_{xy} + c_2)}{(\mu_x^2+\mu_y^2+c_1)\,(\sigma_x^2+\sigma_y^2+c_2)}, \qquad c_1=(0.01R)^2,\; c_2=(0.03R)^2$$
#
# $\mu$, $\sigma^2$ and $\sigma_{xy}$ are weighted by a Gaussian window, here with a standard deviation of 1.5 voxels and 11 voxels wide on each axis, as Wang and colleagues chose it.
# The window is two-dimensional for slices and three-dimensional for volumes, and the two do not give the same number.


# %%
def ssim_map(x, y, data_range=1.0):
    """SSIM at every voxel, in as many dimensions as the arrays have."""

    def local(values):
        return gaussian_filter(values, 1.5, truncate=3.5)  # 1.5 x 3.5, rounded: 5 voxels to each side

    mean_x, mean_y = local(x), local(y)
    var_x, var_y, cov = local(x * x) - mean_x**2, local(y * y) - mean_y**2, local(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    return (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


x, y, m = (volume[0, 0].double().numpy() for volume in (source, target, brain))
in_3d = ssim_map(x, y)[m > 0].mean()
in_2d = np.mean([ssim_map(x[..., j], y[..., j])[m[..., j] > 0].mean() for j in np.flatnonzero(m.any((0, 1)))])
assert abs(in_3d - metrics.ssim(source, target, brain, data_range=1.0).item()) < 1e-5
print(f"Sonata against Trio, one pair of volumes: SSIM {in_3d:.3f} in 3D, {in_2d:.3f} as a mean over slices in 2D")

# %% [markdown]
# **The blind spot.** The window's variances sit in the denominator, so whatever makes a picture grainy costs SSIM, and smoothness is cheap.
# It is often said that SSIM rewards blur.
# Does it, here?
#
# **Expected, before the numbers:** (a) a little blur of the source alone raises its SSIM; (b) blur of source *and* target raises it; (c) where the source has extra noise (standard deviation 0.1), blurring it alone raises SSIM.

# %%
targets, positions = axial_slices(trio, 4, mask=mask)  # four axial slices of each person
sources, inside = (axial_slices(v, 4, positions=positions)[0] for v in (sonata, mask))
noisy = (sources + 0.1 * torch.randn(sources.shape, generator=draw)) * inside


def blurred(images, width):
    """In frequency space: a Gaussian that is sampled at voxels would vanish below half a voxel."""
    spectrum = fourier_gaussian(np.fft.fft2(images.numpy()), (0, 0, width, width))
    return torch.from_numpy(np.fft.ifft2(spectrum).real.astype(np.float32)) * inside


widths = np.array([0, 0.3, 0.5, 0.7, 1.0])
scores = {"both blurred": [], "source blurred": [], "noisy source blurred": []}
for width in widths:
    soft, soft_targets, soft_noisy = (blurred(images, width) for images in (sources, targets, noisy))
    for name, pair in zip(scores, ((soft, soft_targets), (soft, targets), (soft_noisy, targets)), strict=True):
        scores[name].append(metrics.ssim(*pair, inside, data_range=1.0).mean().item())
picture = curves(widths, scores, xlabel="blur: standard deviation in voxels", ylabel="SSIM (2D), mean")
picture.axes[0].set(xlim=(0, 1.4), ylim=(0.65, 0.95), xticks=widths, title="Simulated Sonata against Trio")
alt = "SSIM against blur: rising with both images blurred, falling for the source alone, with a peak where it is noisy."
show(picture, alt=alt)
assert scores["both blurred"][-1] > scores["both blurred"][0]
assert max(scores["noisy source blurred"]) > scores["noisy source blurred"][0] + 0.02

# %% [markdown]
# **What to notice.** (b) and (c) hold; (a) does not, beyond the fourth decimal.
# The sharp target keeps its fine folds, and a blurred source that lacks them loses more than it gains; only where noise dominates is blur an advantage.
# But blur *both* and the score climbs steadily: two pictures with less in them differ less.
# So look out for methods that rebuild both sides of the comparison, as MISPEL does with all scanners.
# There SSIM must be read together with a control: the raw scans, blurred as much as the method blurs.
#
# ## 4. NCC and cosine
#
# **Question.** Do two images show the same pattern, whatever the brightness?
#
# **Idea.** Take the voxels as two long vectors and measure the angle between them, either after subtracting the means (NCC) or as they are (cosine).
#
# $$\mathrm{NCC} = \frac{\sum_v (x_v-\bar x)(y_v-\bar y)}{\sqrt{\sum_v (x_v-\bar x)^2}\sqrt{\sum_v (y_v-\bar y)^2}}, \qquad \cos = \frac{\sum_v x_v\,y_v}{\sqrt{\sum_v x_v^2}\sqrt{\sum_v y_v^2}}$$
#
# BlindHarmony writes "normalised cross-correlation", and its public code computes the cosine; BlindHarmonyDiff's subtracts the mean.
#
# **Expected.** NCC is exactly 1 for a copy of the target with half the gain and an offset.
# The cosine stays above 0.7 for any two bright images: even for the inverted picture, and for *another person*.


# %% tags=["nbval-check-output"]
def ncc_by_hand(x, y):
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    return float(x @ y / (x.norm() * y.norm()))


assert abs(ncc_by_hand(source[brain], target[brain]) - metrics.ncc(source, target, brain).item()) < 1e-9
flat, inverted, other = (0.5 * target + 0.3) * brain, (1.6 - target) * brain, trio[one - 1, None]
images = {"target (simulated)": target, "half gain, offset": flat, "inverted": inverted, "another person": other}
pictures, angles = {}, {}
for name, image in images.items():
    ncc, cosine = angles[name] = [f(image, target, brain).item() for f in (metrics.ncc, metrics.cosine)]
    pictures[f"{name}\nNCC {ncc:.2f}, cosine {cosine:.2f}"] = axial(image)
alt = "The target, a flat grey copy (NCC 1), an inverted copy (NCC -1) and another person; all have a high cosine."
show(strip(pictures, window=(0, 1.6)), alt=alt)
assert angles["half gain, offset"][0] > 0.9999 and angles["inverted"][0] < -0.9999
print("cosine above 0.7 for all four:", all(cosine > 0.7 for _, cosine in angles.values()))

# %% [markdown]
# **What to notice.** The half-gain copy is visibly flat and has an NCC of 1: NCC does not see gain and offset, which is just what a simple scanner effect consists of.
# As a measure of *harmonization* it is half blind; as a measure of *anatomy kept* it is useful for the same reason.
# The cosine does see the offset but is dominated by the brightness that all brains share: it gives a stranger's brain 0.87, where NCC gives 0.56, and an inverted picture 0.73.
#
# ## 5. Wasserstein distance and nWD
#
# **Question.** Are the *intensities* those of the target, wherever they are?
#
# **Idea.** Sort both images' voxels and measure how far, on average, each intensity has to be moved to turn one histogram into the other.
#
# $$W_1(x,y) = \frac1n\sum_{r=1}^{n}\bigl|x_{(r)}-y_{(r)}\bigr| \qquad (x_{(r)}: \text{the } r\text{th smallest})$$
#
# HAIL divides by the gap that there was.
# With $i$ the input, $p$ the prediction (the harmonized image) and $t$ the target (HAIL, Eq. 1):
#
# $$\mathrm{nWD}(i,p) = 100\,\frac{W(i,p)}{W(i,t)}, \qquad \mathrm{nWD}(t,p) = 100\,\frac{W(t,p)}{W(i,t)} \tag{1}$$
#
# The best result is 100 and 0 per cent: the histogram has moved all the way and nothing is left.
#
# **Expected.** The target with all its brain voxels shuffled at random scores exactly 100 and 0.
# Histogram matching to the target scores within one per cent of it, because that is its definition.


# %%
def wasserstein_by_hand(x, y):
    return float((x.double().sort().values - y.double().sort().values).abs().mean())


def nwd_by_hand(i, p, t):
    gap = wasserstein_by_hand(i, t)
    return 100 * wasserstein_by_hand(i, p) / gap, 100 * wasserstein_by_hand(t, p) / gap


start, goal = (units[name][one, None] for name in ("sonata", "trio"))  # scanner units
shuffled = goal.clone()
shuffled[brain] = goal[brain][torch.randperm(int(brain.sum()), generator=draw)]
matched = hl.load_method("histogram-matching", fitted=False).harmonize(start, reference=goal, mask=brain)
images = {"Sonata (simulated)": start, "histogram matched": matched, "shuffled target": shuffled, "target (Trio)": goal}
score = {name: nwd_by_hand(start[brain], image[brain], goal[brain]) for name, image in images.items()}
pictures = {f"{name}\nnWD {score[name][0]:.0f} / {score[name][1]:.0f} %": axial(v) for name, v in images.items()}
alt = "The Sonata scan, dark in these units; the matched scan; the target's voxels shuffled into noise; the target."
show(strip(pictures, window=(0, 1.2 * goal[brain].quantile(0.99).item())), alt=alt)
assert np.allclose(score["histogram matched"], torch.cat(metrics.nwd(start, matched, goal, brain)), atol=1e-3)
assert np.allclose(score["shuffled target"], (100, 0)) and score["histogram matched"][1] < 1

# %% [markdown]
# **What to notice.** Noise in the shape of a brain has the perfect score.
# So nWD alone proves nothing; HAIL rightly adds a measure of anatomy (section 7).
# And since histogram matching gets 100 and 0 for nothing, nWD cannot rank a method above it: only the *other* measure can.
#
# HAIL takes whole volumes, with another person's scan as the target.
# Then the size of the head is part of the histogram; with masks, as here, it is not.
#
# ### Exercise 02.2 · Fool the histogram (8 minutes)
#
# Write a function that takes a target and its mask and returns an image whose histogram inside the mask is the target's, whose NCC with it is nearly zero, and which leaves the background alone.


# %% tags=["exercise", "exercise-02.2"]
def fool(target, mask):
    """An image that the Wasserstein distance cannot tell from the target, and that anybody else can."""
    raise NotImplementedError("your turn")


check("02.2", fool)


# %% tags=["solution", "exercise-02.2"]
def fool(target, mask):
    """An image that the Wasserstein distance cannot tell from the target, and that anybody else can."""
    image, values = target.clone(), target[mask]
    image[mask] = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))]
    return image


assert check("02.2", fool).passed

# %% [markdown]
# ## 6. Who sees what
#
# **Question.** If each measure has its blind spot, which ones complement each other?
#
# **Idea.** Hold all of them against all damages; remember that the first five rows have one and the same PSNR.

# %%
images = damaged | {"lesions erased": erased, "shuffled": torch.zeros_like(target), "honest rescan": again}
images["shuffled"][brain] = target[brain][torch.randperm(int(brain.sum()), generator=draw)]
seen = pd.DataFrame(
    {
        name: {
            "PSNR (dB)": metrics.psnr(image, target, brain, data_range=1.0).item(),
            "SSIM (3D)": metrics.ssim(image, target, brain, data_range=1.0).item(),
            "NCC": metrics.ncc(image, target, brain).item(),
            "cosine": metrics.cosine(image, target, brain).item(),
            "Wasserstein": metrics.wasserstein(image, target, brain).item(),
        }
        for name, image in images.items()
    }
).T
title = "One simulated target, eight pictures, five measures (range 1)"
alt = "Five measures of eight pictures. " + "; ".join(f"{n}: SSIM {v:.2f}" for n, v in seen["SSIM (3D)"].items())
show(table(seen, digits=3, title=title), alt=alt)
better = seen.loc["lesions erased"] > seen.loc["honest rescan"]
assert better.drop("Wasserstein").all() and not better["Wasserstein"]  # of the distance, less is better

# %% [markdown]
# **What to notice.** Read down the columns.
# At one PSNR, SSIM forgives offset and shading and punishes noise and blur; the Wasserstein distance punishes offset and blur and forgives shift, shading and noise.
# The cosine hardly moves at all.
# And every measure prefers the picture without the lesions to an honest rescan of the person.
#
# ## 7. Segmentations: overlap, surfaces, volumes
#
# **Question.** Does a segmentation still find the same structures?
#
# **Idea.** Three kinds of numbers for structures $A$ (found) and $B$ (true): overlap, distance between surfaces, difference of volumes.
#
# $$\mathrm{Dice} = \frac{2|A\cap B|}{|A|+|B|}, \qquad \mathrm{IoU} = \frac{|A\cap B|}{|A\cup B|}, \qquad \mathrm{rAVD} = 100\,\frac{\bigl||A|-|B|\bigr|}{|B|}$$
#
# rAVD is HAIL's Eq. 2.
# For the distances, let $d(a,B)$ be the distance from a surface voxel $a$ to the nearest surface voxel of $B$.
# HD95 is the larger of the two 95th percentiles of $d(a,B)$ and $d(b,A)$; the *modified* Hausdorff distance takes the larger of the two means.
#
# **Expected.** One and the same error, a shift by one voxel, costs a thin or small structure far more Dice than a large compact one, while the surface distance stays about the same; and rAVD is zero for all of them, even for a hippocampus in the wrong place.

# %%
labels = cohort.labels[one, None]
true = {"brain": brain, "cerebral white matter": labels == 4, "hippocampus": labels == 6, "pallidum": labels == 11}
found = {name: torch.roll(shape, 1, dims=2) for name, shape in true.items()}
true["hippocampus, far off"] = true["hippocampus"]
found["hippocampus, far off"] = torch.roll(true["hippocampus"], round(12 / profile.spacing), dims=2)  # 12 mm
overlap = pd.DataFrame(
    {
        name: {
            "Dice": metrics.dice(found[name], shape).item(),
            "IoU": metrics.iou(found[name], shape).item(),
            "modified Hausdorff (mm)": metrics.modified_hausdorff(found[name], shape, spacing=profile.spacing).item(),
            "rAVD (%)": metrics.ravd(found[name], shape).item(),
        }
        for name, shape in true.items()
    }
).T
assert (overlap["rAVD (%)"] == 0).all() and overlap["Dice"]["brain"] - overlap["Dice"]["pallidum"] > 0.2
overlap.round(2)

# %% [markdown]
# **What to notice.** A mean Dice over fifteen labels mixes these scales: it is mostly a statement about the small structures.
# Compare Dice within a structure, not across structures.
#
# **The blind spot of surface distances.** Now leave the hippocampus where it is, and add a few stray voxels far away, as a segmentation does that mistakes a vessel for it.
#
# **Expected.** The plain (maximum) Hausdorff distance jumps at the first stray voxel; HD95 stays at zero until strays make up 5 % of the surface and then jumps; the modified one grows steadily; Dice hardly notices.

# %%
shape = true["hippocampus"]
surface = int(shape.sum()) - int(binary_erosion(shape[0, 0].numpy()).sum())  # voxels with a neighbour outside
distance = torch.from_numpy(distance_transform_edt(~shape[0, 0].numpy(), sampling=profile.spacing))  # mm
edge = torch.nonzero(brain[0, 0])[::5]  # scattered over one side of the brain, far from the structure
percent = np.arange(9)
lines = {"largest distance": [], "HD95": [], "modified Hausdorff": []}
for share in percent:
    strays = tuple(edge[: math.ceil(share / 100 * surface)].T)
    wrong = shape.clone()
    wrong[0, 0][strays] = True
    lines["largest distance"].append(float(distance[strays].max()) if share else 0.0)
    lines["HD95"].append(metrics.hd95(wrong, shape, spacing=profile.spacing).item())
    lines["modified Hausdorff"].append(metrics.modified_hausdorff(wrong, shape, spacing=profile.spacing).item())
picture = curves(percent, lines, xlabel="stray voxels, per cent of the surface", ylabel="mm", mark=5)
picture.axes[0].set(xlim=(0, 11), xticks=percent, title="Simulated hippocampus with stray voxels")
alt = "The largest distance jumps at once, HD95 beyond five per cent of stray voxels; the modified one grows evenly."
show(picture, alt=alt)
print(f"Dice with the most stray voxels: {metrics.dice(wrong, shape).item():.2f}")
assert lines["HD95"][4] == 0 and lines["HD95"][-1] > 20 and (np.diff(lines["modified Hausdorff"]) > 0).all()

# %% [markdown]
# **What to notice.** HD95 asks whether more than a twentieth of the surface is badly wrong: yes or no, and near the threshold a coin toss.
# Harmonizing Flows reports the modified distance, which is calmer.
#
# ## 8. Volumes across scanners and ICC
#
# **Question.** Would a study that pools the scanners measure the same volumes?
#
# **Idea.** Compare how much people differ with how much scanners differ about one person.
# With the mean squares of a people by scanners table ($n$ people, $k$ scanners; Shrout and Fleiss):
#
# $$\mathrm{ICC}(2,1) = \frac{MS_p - MS_e}{MS_p + (k-1)MS_e + \frac{k}{n}(MS_s - MS_e)}, \qquad \mathrm{ICC}(3,1) = \frac{MS_p - MS_e}{MS_p + (k-1)MS_e}$$
#
# ICC(2,1) asks for agreement: a scanner that always reads 30 ml more lowers it.
# ICC(3,1) asks for consistency and forgives that.
# Our segmenter is deliberately crude, two Otsu thresholds in the brain, so that it feels the scanner.
#
# **Expected.** The rescan has the highest ICC; ICC(3,1) is above ICC(2,1); and both fall when people are more alike, although every scanner error stays the same.


# %%
def grey_matter_ml(images):
    """The middle one of Otsu's three classes inside each brain, in millilitres."""
    volumes = []
    for image, inside in zip(images, mask, strict=True):
        low, high = threshold_multiotsu(image[inside].numpy(), 3)
        volumes.append(float(((image > low) & (image <= high) & inside).sum()) * profile.spacing**3 / 1000)
    return volumes


grey = {name: grey_matter_ml(images) for name, images in units.items()}
three = torch.tensor([grey["trio"], grey["vision"], grey["sonata"]]).T  # (people, scanners)
centre = three.mean(1, keepdim=True)
alike = three - (centre - centre.mean()) / 2  # people half as different, scanner errors untouched
tables = [three, alike, torch.tensor([grey["trio"], grey["rescan"]]).T]
icc = pd.DataFrame(index=["three scanners", "people half as different", "rescan"])
for form in ("ICC(2,1)", "ICC(3,1)"):
    icc[form] = [metrics.intraclass_correlation(volumes, form).item() for volumes in tables]
icc["Trio to second (ml)"] = [metrics.mean_absolute_volume_difference(v)[0, 1].item() for v in tables]
agreement = icc["ICC(2,1)"]
assert agreement["rescan"] > agreement["three scanners"] > agreement["people half as different"]
missed = np.array(grey["trio"]) - cohort.volumes_ml["GM"]
print(f"grey matter on the Trio minus the truth: {missed.mean():.0f} ml, mean over people")
icc.round(2)

# %% [markdown]
# **What to notice.** Two blind spots.
# An ICC says as much about *who* was measured as about the scanners: mix young and old people and it rises by itself, so it cannot be compared between cohorts.
# The mean absolute volume difference (MISPEL, Table 3) is the same in the first two rows; print it beside.
# And agreement is not truth: the Trio and its rescan agree well with each other and miss the true volume together.
#
# ## 9. The rescan floor
#
# **Question.** How good can a harmonized image be at best, and what does a trivial method get?
#
# **Idea.** Report every method between two reference rows that cost nothing: the same person scanned *again* on the target scanner (nobody can honestly beat that), and plain percentile scaling.
#
# `hl.report` does this for any method (SSIM is left out here for time).
# Histogram matching here gets its target histogram from the *other* people, one person being left out at a time.
#
# **Expected.** source < percentile < histogram matching < rescan in PSNR, for both scanners, since a histogram holds more than two percentiles.

# %%
parts = []
for person in range(len(cohort)):
    others = cohort.subset([p for p in range(len(cohort)) if p != person])
    method = hl.load_method("histogram-matching", fitted=False).fit(others.view("target only"))
    parts.append(hl.report(method, cohort.subset([person]), measures=("psnr", "ncc", "wasserstein"), beside=True))
results = pd.concat(parts)
psnr = results[results.measure == "psnr"].pivot_table(index="person", columns=["scanner", "row"], values="value")
names = {"source": "as it comes", "percentile": "percentile scaling", "harmonized": "histogram matching"}
groups = {"Trio, scanned again": psnr["oasis_trio", "rescan"].tolist()}
for scanner in ("vision", "sonata"):
    groups |= {f"{scanner.title()}, {text}": psnr[f"oasis_{scanner}", row].tolist() for row, text in names.items()}
picture = dots(groups, xlabel="PSNR against the Trio scan of the same person (dB)", title="Simulated people")
alt = "PSNR per person: rescan about 25 dB, sources as they come about 7, scaled or histogram-matched 14 to 18."
show(picture, alt=alt)
assert min(groups["Trio, scanned again"]) > psnr.drop(columns="oasis_trio", level=0).max().max()
summary(results).round(3)

# %% [markdown]
# **What to notice.** The rescan stands far above everything else and yet is nowhere near infinity: noise, a little shading and a fraction of a voxel separate two scans on *one* scanner.
# A method that printed 30 dB here should make us look for a leak.
# From source to percentile scaling is the longest step of all, and it is nothing but units.
# Whether histogram matching does better than percentile scaling is less clear than we expected; section 11 decides it.
# (The percentile row is a strict opponent: it uses the person's own target scan.)
#
# ## 10. Normalisation alone moves PSNR
#
# **Question.** BlindHarmony prints 19.4 dB for the untouched Vision scans (Table 2, Domain 2), BlindHarmonyDiff 14.5 dB in 3D and 12.2 dB in 2D (Tables 1 and S2).
# It is the same scanner model and the same public data set.
# How much of that can be normalisation?
#
# **Idea.** Take the very same voxels and change only the scaling, one paper's way after the other.
#
# **Expected.** Several decibels for one and the same pair, slice-wise min-max above subject percentiles as in print.

# %%
ways = {
    "slice min-max (BlindHarmony)": normalize.slice_minmax,
    "subject percentiles (BlindHarmonyDiff)": scaled,
    "full-range min-max (HAIL)": normalize.full_range_minmax,
    "divided by the mean (MISPEL)": normalize.divide_by_mean,
}
after = {name: (way(units["vision"]), way(units["trio"])) for name, way in ways.items()}
air = metrics.psnr(*after["slice min-max (BlindHarmony)"], data_range=1.0)
ranges = [1.0, 1.0, 1.0, None]  # None: the target's own range, since a scale by the mean has no top
four = torch.stack([metrics.psnr(*pair, mask, width) for pair, width in zip(after.values(), ranges, strict=True)])
groups = {"slice min-max, air counted too": air.tolist()} | dict(zip(ways, four.tolist(), strict=True))
marks = {"slice min-max (BlindHarmony)": [19.4], "subject percentiles (BlindHarmonyDiff)": [14.5, 12.2]}
picture = dots(groups, marks=marks, xlabel="PSNR (dB)", title="Simulated Vision against Trio, scaled four ways")
alt = "PSNR per person, 13 to 20 dB under four scalings and about 21 with the air counted; published 19.4, 14.5, 12.2."
show(picture, alt=alt)
means, spread = four.mean(1), four.amax(0) - four.amin(0)
print(f"four scalings: means {means.max() - means.min():.1f} dB apart, one person up to {spread.max():.1f} dB")
print(f"counting the air: {(air - four[0]).mean():+.1f} dB")
assert spread.max() > 2 and (air - four[0]).min() > 3

# %% [markdown]
# **What to notice.** For one person, four scalings of the same two scans lie several decibels apart, more than most methods gain.
# But the expected order is *not* found: slice-wise min-max and subject percentiles have about the same mean here, so for these people normalisation alone does not explain the gap between 19.4 and 14.5 dB.
# What moves the number most is the mask: count the air, where both images are zero, and five decibels appear from nowhere.
# Masks, grids and people all differ between the two papers, so their numbers cannot be compared with each other, and no paper's with ours.
# A PSNR is a number *with* its normalisation, mask, range and grid.
#
# ## 11. Statistics over people
#
# **Question.** Is the Sonata closer to the Trio than the Vision is, and how sure are we?
#
# **Idea.** Slices of one brain share its anatomy, its shading and its session; they are not new evidence.
# The mean is the same either way; the interval is not.
#
# With $m$ slices each, and $\rho$ the correlation of slices within a person, the variance of the mean is larger than slice-counting says by the factor
#
# $$1 + (m-1)\,\rho .$$
#
# **Expected.** The interval over people is wider than the one over slices, and a test that counts slices finds differences where there are none far more often than 5 % of the time.

# %%
m = profile.slices
targets, positions = axial_slices(trio, m, mask=mask)
others = [axial_slices(v, m, positions=positions)[0] for v in (sonata, vision, mask)]
gain = metrics.psnr(others[0], targets, others[2], 1.0) - metrics.psnr(others[1], targets, others[2], 1.0)
gain = gain.reshape(len(cohort), m)  # (people, slices), dB

groups = dict(zip(cohort.subjects, gain.tolist(), strict=True))
picture = dots(groups, xlabel="PSNR of the Sonata minus that of the Vision (dB)", title="Simulated: one dot per slice")
picture.axes[0].get_legend().remove()
show(picture, alt="Twenty slices in each person's row; the rows' means lie between -1 and 3 dB.")
draw = torch.Generator().manual_seed(1)
for name, values in (("slices", gain.flatten()), ("people", gain.mean(1))):
    interval = bootstrap_interval(values, generator=draw)
    print(f"{len(values):3d} {name}: {interval.mean:.2f} dB, 95 % interval {interval.low:.2f} to {interval.high:.2f}")

# %% [markdown]
# How wrong is the narrow interval?
# Invent 2,000 studies in which *nothing* differs, with the spread between people and within a person just measured, and test each of them both ways at $p < 0.05$.

# %%
between, within = gain.mean(1).std().item(), gain.std(1).mean().item()
chance = np.random.default_rng(0)
studies = chance.normal(0, between, (2000, len(cohort), 1)) + chance.normal(0, within, (2000, len(cohort), m))
by_slices = (stats.ttest_1samp(studies.reshape(2000, -1), 0, axis=1).pvalue < 0.05).mean()
by_people = (stats.ttest_1samp(studies.mean(2), 0, axis=1).pvalue < 0.05).mean()
print(f"false alarms: {by_slices:.0%} counting slices, {by_people:.0%} counting people")
assert by_slices > 0.15 and by_people < 0.08

# %% [markdown]
# **What to notice.** The mean is the same, the interval over people is about one and a half times as wide.
# Counting slices raises a false alarm in about a third of the empty studies; counting people keeps to the promised 5 %.
#
# Now to section 9's open question: histogram matching against percentile scaling.
# Three ways to ask, all over people: the paired t-test (MISPEL's), Wilcoxon's signed-rank test (HAIL's), and a bootstrap interval of the mean difference, which this series uses for its verdicts.
#
# **Expected**, as in section 9: histogram matching is better than percentile scaling for both scanners.
# As a control, the table also matches each scan to the person's *own* target histogram, which no blind method has.


# %%
def own_histogram(scanner):
    """PSNR of histogram matching to the person's own target scan, which no blind method has; scaled as the report."""
    matcher = hl.load_method("histogram-matching", fitted=False)
    trios = zip(units[scanner].split(1), units["trio"].split(1), mask.split(1), strict=True)
    images = torch.cat([matcher.harmonize(image, reference=own, mask=inside) for image, own, inside in trios])
    low, high = normalize.percentiles(units["trio"], mask)
    return metrics.psnr(images, units["trio"], mask, data_range=high - low).tolist()


rows = {}
for scanner in ("vision", "sonata"):
    source_row, percentile_row, matching = (psnr[f"oasis_{scanner}", row].tolist() for row in names)
    rows[f"{scanner.title()}: matching minus source"] = matching, source_row
    rows[f"{scanner.title()}: matching minus percentiles"] = matching, percentile_row
    rows[f"{scanner.title()}: own histogram minus percentiles"] = own_histogram(scanner), percentile_row
verdicts = []
for first, second in rows.values():
    found = bootstrap_interval(first, second, generator=draw)
    verdict = "undecided" if not found.excludes_zero else "holds here" if found.low > 0 else "contradicted here"
    p_values = [f"{test(first, second).p_value:.1g}" for test in (paired_t, wilcoxon)]
    verdicts.append([f"{found.mean:.2f}", f"{found.low:.2f} to {found.high:.2f}", *p_values, verdict])
assert verdicts[0][-1] == verdicts[3][-1] == "holds here"  # against the untouched source
pd.DataFrame(verdicts, index=list(rows), columns=["mean (dB)", "95 % interval", "p, t-test", "p, Wilcoxon", "verdict"])

# %% [markdown]
# **What to notice.** Against the raw source, histogram matching wins by nine decibels with a vanishing p-value: true, and empty, since percentile scaling wins as much.
# Against percentile scaling our expectation is undecided for the Vision and contradicted for the Sonata.
# The control says why: with the person's own histogram the Sonata's loss is gone and the Vision gains more than a decibel.
# Other people's brains hold other amounts of fluid and grey matter, and matching to them forces these amounts onto everybody.
# Six people are few: Wilcoxon's smallest possible p-value is 0.03, and the bootstrap interval is somewhat too narrow.
# More slices would not help; more people would.
#
# ### Exercise 02.3 · A standard error that counts people (8 minutes)
#
# You get one value per slice and, for each, whose slice it is.
# Return the standard error of the mean over people: people may have different numbers of slices, and copies of slices must change nothing.


# %% tags=["exercise", "exercise-02.3"]
def standard_error(values, people):
    """Standard error of the mean over people; `values` and `people` are arrays with one entry per slice."""
    raise NotImplementedError("your turn")


check("02.3", standard_error)


# %% tags=["solution", "exercise-02.3"]
def standard_error(values, people):
    """Standard error of the mean over people; `values` and `people` are arrays with one entry per slice."""
    means = [values[people == person].mean() for person in np.unique(people)]
    return np.std(means, ddof=1) / math.sqrt(len(means))


assert check("02.3", standard_error).passed

# %% [markdown]
# ## What to take away
#
# - Each measure answers one question and is blind to another: PSNR to the kind of error, SSIM to brightness, NCC to gain and offset, Wasserstein to place, Dice to scale, rAVD to position, ICC to truth.
# - Read them in pairs: one for intensity (PSNR or Wasserstein), one for anatomy (NCC, Dice, surface distance), and the lesions on their own.
# - Put every result between percentile scaling and the rescan.
# - Write the normalisation, mask, range, grid and window beside the number.
# - Intervals go over people.
#
# **Traps.**
# "NCC" may mean the cosine; look at the code.
# Improvement over the raw source is mostly a change of units.
# A method that smooths all scanners raises SSIM without harmonizing anything.
# A vanishing p-value over slices may be one odd person, twenty times.

# %% [markdown] tags=["instructor"]
# ## For the instructor
#
# 60 minutes with exercises, 30 without.
# Spend time on section 2's picture: let people rank the five damages before saying that PSNR calls them equal.
# Three expectations fail, and were left standing: SSIM does not reward blur of the source alone (section 3), histogram matching does not beat percentile scaling (sections 9 and 11), and the published order of the normalisations is not found (section 10).
# Section 11 follows its failure with a control; ask which control would settle the other two.
# Exercise 02.1 is algebra, 02.2 indexing, 02.3 the idea of the chapter.
# Frequent slip in 02.3: the deviation over all slices, divided by the root of the number of people.

# %% [markdown]
# ## References
#
# - Wang, Bovik, Sheikh and Simoncelli, *Image quality assessment: from error visibility to structural similarity*, IEEE Transactions on Image Processing 2004.
# - Dubuisson and Jain, *A modified Hausdorff distance for object matching*, ICPR 1994.
# - Shrout and Fleiss, *Intraclass correlations: uses in assessing rater reliability*, Psychological Bulletin 1979.
# - Efron, *Bootstrap methods: another look at the jackknife*, Annals of Statistics 1979.
# - The five papers: see notebook 00.
