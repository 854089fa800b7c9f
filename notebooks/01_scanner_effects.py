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
# # 01 · What a scanner does to a picture
#
# **You will be able to** say which knob of an MRI scan changes what in the picture, make a scan of a simulated person on any scanner that the five papers name, and judge how far such a simulation can be trusted.
#
# **From the papers:** the scanner tables of BlindHarmony (supplement, Table 1), BlindHarmonyDiff (Table S1), MISPEL (Table 1) and HAIL (Table 1); the fifteen label groups of Harmonizing Flows (section 3).
#
# **Before:** notebook 00.
# **Measured:** 9 seconds and 0.9 GB on one processor core.
#
# Everything shown here is **simulated**: people are made from the MNI152 template, which is the average of 152 real brains, and scans are made from the equations of MRI physics.
# What that buys is the truth: we know each voxel's tissue, each lesion, each age, and we can scan the same person again.

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

import harmony_lite as hl
from harmony_lite.exercises import check, hint  # noqa: F401
from harmony_lite.profiles import active
from harmony_lite.show import curves, difference, dots, histograms, orthogonal, show, strip
from harmony_lite.show.widgets import scanner_sliders
from harmony_lite.simulate import Protocol, contrast, preset, protocol_image, tissue_constants
from harmony_lite.simulate.physics import mprage_magnetization, spoiled_gradient_echo_signal

profile = active()
print(f"profile {profile.name}: {profile.spacing} mm voxels; harmony_lite {hl.__version__}, torch {torch.__version__}")

# %% [markdown]
# ## 1. One person
#
# **Question.** What is there to see, before any scanner comes into it?
#
# **Idea.** A head is a map of tissue fractions: how much of each voxel is cerebrospinal fluid (CSF), grey matter (GM) and white matter (WM).
# Everything else follows from that map and the scanner.
#
# A voxel at a border holds two tissues at once.
# This is called the *partial volume effect*, and at 2 mm it touches about half of the brain.

# %%
person = hl.Cohort.simulate(subjects=1, scanners=["oasis_trio"], spacing=profile.spacing, seed=11, ages=[66])
csf, gm, wm = person.tissues[0].numpy()
k = csf.shape[-1] * 58 // 100  # an axial slice at the height of the ventricles

maps = {"CSF": csf[..., k], "grey matter": gm[..., k], "white matter": wm[..., k]}
maps["labels"] = person.labels[0, 0, ..., k].numpy() / 14
show(
    strip(maps, title="One simulated person, 66 years: tissue fractions (0 black, 1 white) and fifteen labels"),
    alt="Axial slices of one simulated person: CSF fills ventricles and sulci, grey matter the cortex and deep nuclei, "
    "white matter the rest; the label map shows fifteen grey levels.",
)
person.volumes_ml.round(0)

# %% [markdown]
# **What to notice.** The grey ribbon of the cortex is two to three voxels wide, so nearly every voxel of it is mixed with CSF or white matter.
# Anything that we compute "per tissue" will feel that.

# %%
mask = person.mask[0, 0].numpy()
mixed = float((person.tissues[0].amax(0).numpy()[mask] < 0.9).mean())
print(f"{100 * mixed:.0f} % of brain voxels hold less than 90 % of any one tissue")
assert 0.3 < mixed < 0.7

# %% [markdown]
# ## 2. From tissue to signal: the MPRAGE
#
# **Question.** Why is white matter bright and CSF dark in a T1-weighted picture?
#
# **Idea.** An inversion pulse turns the magnetization upside down; each tissue recovers at its own pace, T1; the picture is taken while they differ most.
#
# The MPRAGE, the standard sequence for brain anatomy, repeats three events: invert, wait, read out with $n$ small pulses of angle $\alpha$.
# Each event takes the longitudinal magnetization $M_z$ to $p\,M_z + q$:
#
# $$\begin{aligned}
# \text{inversion:}&\quad p=-f, & q&=0,\\
# \text{waiting for } t\text{:}&\quad p=e^{-t/T_1}, & q&=1-e^{-t/T_1},\\
# \text{pulse:}&\quad p=\cos\alpha, & q&=0 .
# \end{aligned}$$
#
# A sequence of such maps is again such a map.
# Going once around the cycle must bring $M_z$ back to itself, $M = P\,M + Q$, so the steady state is $M = Q/(1-P)$, and the signal is
#
# $$S = \rho\,\bigl|M_z(\text{centre of } k\text{-space})\bigr|\,\sin\alpha\; e^{-T_E/T_2^*} .$$
#
# Here it is, event by event, in ten lines.


# %%
def stepped_mprage(t1, *, tr, ti, flip, n_shots, echo_spacing, efficiency, cycles=30):
    """Mz before the central pulse, by brute force: go through the sequence until it repeats itself."""
    mz, cosine, before = 1.0, math.cos(math.radians(flip)), n_shots // 2
    for _ in range(cycles):
        mz = 1 + (-efficiency * mz - 1) * math.exp(-(ti - before * echo_spacing) / t1)  # invert, wait
        for shot in range(n_shots):
            if shot == before:
                centre = mz
            mz = 1 + (mz * cosine - 1) * math.exp(-echo_spacing / t1)  # pulse, recover
        mz = 1 + (mz - 1) * math.exp(-(tr - ti - (n_shots - before) * echo_spacing) / t1)  # wait
    return centre


trio = {"tr": 2.4, "ti": 1.0, "flip": 8, "n_shots": 176, "echo_spacing": 0.007, "efficiency": 0.96}
for name, t1 in zip(("CSF", "GM", "WM"), tissue_constants(3.0).t1[:3].double(), strict=True):
    stepped, closed = stepped_mprage(float(t1), **trio), float(mprage_magnetization(t1, **trio))
    print(f"{name}: T1 {float(t1):.2f} s, Mz stepped {stepped:.6f}, closed form {closed:.6f}")
    assert abs(stepped - closed) < 1e-6

# %% [markdown]
# The package composes the maps instead of stepping, which gives the same number without a loop, for every voxel at once.
#
# **Check yourself.** With the T1 of CSF taken from an older table (2.57 s instead of 4.2 s) the CSF of this protocol would come out twice as bright.
# One constant can decide whether a simulation looks right.

# %% [markdown]
# ## 3. Turn the knobs
#
# **Question.** What happens to the contrast when the operator changes the inversion time TI?
#
# **Idea.** Grey and white matter cross zero at different times; TI chooses the moment at which we look.
#
# *Expected before looking: a short TI makes the contrast stronger, a long one makes everything alike.*

# %%
times = np.linspace(0.65, 1.7, 60)
tissue = tissue_constants(3.0)
weights = tissue.pd * torch.exp(-0.00316 / tissue.t2star)
by_time = torch.stack([mprage_magnetization(tissue.t1, **{**trio, "ti": float(t)}) * weights for t in times]).numpy()
lines = {name: np.abs(by_time[:, i]) / weights[2].item() for i, name in enumerate(("CSF", "GM", "WM"))}
figure = curves(
    times, lines, xlabel="inversion time TI (s)", ylabel="|signal|", title="OASIS Trio protocol, TI varied", mark=1.0
)
show(
    figure,
    alt="Signal of three tissues against inversion time: white matter highest, grey matter lower, CSF lowest and "
    "touching zero near 0.7 seconds; all rise and draw together as TI grows. A dotted line marks the protocol's 1.0 s.",
)
short, long = (np.abs(by_time[i, 1] / by_time[i, 2]) for i in (5, -5))
print(f"grey over white: {short:.2f} at TI {times[5]:.2f} s, {long:.2f} at TI {times[-5]:.2f} s")
assert short < long

# %% [markdown]
# The same in pictures: one slice of our person under four inversion times, without noise or shading.

# %%
slice_tissue = person.tissues[0, ..., k]


def picture(tr=2.4, te=0.00316, ti=1.0, flip=8.0, field=3.0):
    """One slice under a protocol; relative to white matter."""
    protocol = Protocol("mprage", tr=tr, te=te, flip=flip, ti=ti, n_shots=176, echo_spacing=0.007)
    return protocol_image(slice_tissue, protocol, field).numpy()


show(
    strip(
        {f"TI {ti:g} s": picture(ti=ti) for ti in (0.7, 0.85, 1.0, 1.4)},
        window=(0, 1.2),
        title="Simulated, window 0 to 1.2 times white matter",
    ),
    alt="The same axial slice at inversion times 0.7, 0.85, 1.0 and 1.4 seconds: grey matter goes from dark to light grey "
    "while white matter stays white; CSF is darkest at 0.7 s.",
)

# %% [markdown]
# If a kernel is running, play with all five knobs.
# (In print and in the book the figure above says the same.)

# %% tags=["widget"]
scanner_sliders(picture, {"tr": 2.4, "te": 0.003, "ti": 1.0, "flip": 8.0, "field": 3.0})

# %% [markdown]
# ### Exercise 01.1 · The flip angle that gives the most signal (8 minutes)
#
# Not every T1-weighted scan has an inversion: HAIL's site C is a plain *spoiled gradient echo*, whose signal is
#
# $$S = \rho\,\sin\alpha\,\frac{1-E}{1-E\cos\alpha}\,e^{-T_E/T_2^*},\qquad E=e^{-T_R/T_1}.$$
#
# Write a function that returns the flip angle, in degrees, at which this is largest.
# It is named after Richard Ernst.


# %% tags=["exercise", "exercise-01.1"]
def best_flip_angle(tr, t1):
    """Flip angle in degrees with the largest spoiled gradient echo signal; `tr` and `t1` in seconds, floats."""
    raise NotImplementedError("your turn")


check("01.1", best_flip_angle)
# hint("01.1", 1)  # take the first # away for a hint; there are three


# %% tags=["solution", "exercise-01.1"]
def best_flip_angle(tr, t1):
    """The derivative of S vanishes where cos(alpha) = E."""
    return math.degrees(math.acos(math.exp(-tr / t1)))


assert check("01.1", best_flip_angle).passed

# %%
angles = np.linspace(1, 40, 200)
signals = spoiled_gradient_echo_signal(
    tissue.t1[:3, None],
    tissue.t2star[:3, None],
    tissue.pd[:3, None],
    tr=0.00823,
    te=0.0038,
    flip=torch.from_numpy(angles),
)
show(
    curves(
        angles,
        dict(zip(("CSF", "GM", "WM"), signals.numpy(), strict=True)),
        xlabel="flip angle (degrees)",
        ylabel="signal",
        title="HAIL site C as a plain gradient echo",
        mark=8,
    ),
    alt="Signal of CSF, grey and white matter against flip angle: each rises to a maximum at a small angle and falls; "
    "at the protocol's 8 degrees grey and white matter are close together.",
)

# %% [markdown]
# **What to notice.** At 8 degrees white matter is near its own maximum, but grey matter is hardly darker.
# Without an inversion there is little contrast, and no processing of the picture can tell how much there would have been.

# %% [markdown]
# ## 4. The papers' scanners
#
# **Question.** How different are the protocols in print?
#
# Each preset of `harmony_lite.simulate` carries a printed protocol and says where it stands.
# The tables have their slips: both BlindHarmony papers print a repetition time of 9.7 *seconds* for the Vision scanner, which is its echo spacing in *milliseconds*; MISPEL prints 9500 ms for its GE scanner for the same reason.
# Flip angles are missing in MISPEL, inversion times in HAIL.
# What is corrected or chosen is said in `source`.

# %%
rows = []
for name in (
    "oasis_trio",
    "oasis_vida",
    "oasis_vision",
    "oasis_sonata",
    "mispel_ge",
    "mispel_philips",
    "hail_a",
    "hail_c",
    "onharmony_pri",
):
    scanner, shown = preset(name), contrast(name)
    p = scanner.protocol
    rows.append(
        {
            "scanner": name,
            "T": scanner.field,
            "sequence": p.sequence,
            "TR s": p.tr,
            "TI s": round(p.ti, 2) or "",
            "flip": p.flip,
            "GM/WM": round(shown["GM/WM"], 2),
            "CSF/WM": round(shown["CSF/WM"], 2),
        }
    )
print(preset("oasis_vision").source)
pd.DataFrame(rows).set_index("scanner")

# %% [markdown]
# Vida and BioGraph have the **same** protocol.
# Yet the papers measure different distances from the Trio for them (18.2 and 20.0 dB in BlindHarmonyDiff's Table 1).
# So coil, shading, resolution and reconstruction must make up the rest, and a scanner in this package is a protocol *plus* those.

# %% [markdown]
# ## 5. What else a scanner adds
#
# **Question.** What stands between the signal equation and the stored file?
#
# **Idea.** Fields, blur, noise, filter, scaling, and a head that never lies in quite the same place:
#
# 1. *transmit field*: the flip angle is larger in the middle of the head than at its rim, most of all at 3 T; this changes **contrast**, and no correction of brightness can undo it;
# 2. *receive field*: coils near the skull hear louder; this is smooth **shading**;
# 3. *resolution*: a native voxel that is coarser than the grid blurs (on 2 mm voxels, as here, hardly any is);
# 4. *noise*: the magnitude of a complex signal, hence Rician;
# 5. *reconstruction*: sharpening, tone curves, twelve bits, and an arbitrary gain;
# 6. *registration*: a rest of 0.45 mm and 0.45 degrees stays.
#
# Here is one travelling subject on nine scanners.
# Each image is scaled by its own 1st and 99th percentiles in the brain, which takes the gain away and nothing else.

# %%
nine = [
    "oasis_trio",
    "oasis_vida",
    "oasis_vision",
    "oasis_sonata",
    "mispel_ge",
    "mispel_prisma",
    "hail_a",
    "hail_c",
    "onharmony_gem",
]
traveller = hl.Cohort.simulate(subjects=1, scanners=nine, spacing=profile.spacing, seed=11, ages=[66])


def scaled(image, mask):
    """By the 1st and 99th percentiles inside the mask: 0 and 1."""
    low, high = np.percentile(image[mask], [1, 99])
    return (image - low) / (high - low) * mask


volumes = {name: scaled(traveller.scans(name)[0, 0].numpy(), mask) for name in nine}
show(
    strip(
        {name: volume[..., k] for name, volume in volumes.items()},
        columns=5,
        window=(0, 1.1),
        title="One simulated person on nine scanners (window 0 to 1.1)",
    ),
    alt="Nine axial slices of the same simulated person. The Vision scan is flat and shaded, the two HAIL sites A and C "
    "have little grey-white contrast, MISPEL's GE and the GE MR750 look crisp, the others are close to the Trio.",
)

# %%
show(
    histograms(
        {name: volumes[name][mask] for name in ("oasis_trio", "oasis_vision", "oasis_sonata", "hail_c")},
        span=(-0.2, 1.4),
        xlabel="intensity (1st to 99th percentile = 0 to 1)",
        title="Intensities inside the brain",
    ),
    alt="Histograms of four scanners inside the brain: the Trio has separate peaks for grey and white matter, the Sonata "
    "closer ones, HAIL site C one broad hump, and the Vision a smeared one.",
)

# %% [markdown]
# **What to notice.** Two histograms can differ because contrast differs (HAIL C: the peaks have merged) or because shading smears them (Vision).
# The first loses information, the second hides it.
# Keep the two apart when you judge a method.
#
# And this is the same person **on the same scanner again**: another session, another position, fresh noise.

# %%
again = scaled(traveller.scans("oasis_trio", repeat=1)[0, 0].numpy(), mask)
first = volumes["oasis_trio"]
rescan_db = -10 * math.log10(((again - first)[mask] ** 2).mean())
show(
    difference(
        again[..., k],
        first[..., k],
        names=("rescan", "first scan"),
        window=(0, 1.1),
        span=0.3,
        title=f"Same person, same scanner, simulated: {rescan_db:.1f} dB",
    ),
    alt="Rescan and first scan look the same; their difference, on a scale of plus and minus 0.3, shows thin outlines of "
    "sulci and ventricles from the small displacement and a smooth gradient from the session's shading.",
)
assert 20 < rescan_db < 31

# %% [markdown]
# That is the **noise floor** of every comparison in this course.
# A method that claims more agreement than a rescan has copied something that it should not have.

# %% [markdown]
# ### Exercise 01.2 · Take the shading away (10 minutes)
#
# The log of a shaded image is the log of the picture *plus* a smooth field.
# Estimate that field by blurring the log-ratio of two scans of the same person, and divide it out of the first.
# `blur(volume)` below blurs a volume inside the brain mask with a Gaussian of 8 mm.

# %% tags=["setup"]
from scipy.ndimage import gaussian_filter  # noqa: E402


def blur(volume, inside, sigma_mm=8.0, spacing=profile.spacing):
    """Gaussian blur of what lies inside the mask, normalised by the blurred mask; 0 outside."""
    width = sigma_mm / spacing
    weight = gaussian_filter(inside.astype(np.float32), width)
    return np.where(inside, gaussian_filter(np.where(inside, volume, 0.0), width) / np.maximum(weight, 1e-6), 0.0)


# %% tags=["exercise", "exercise-01.2"]
def remove_shading(image, reference, inside):
    """`image` without its shading relative to `reference`; (D, H, W) arrays, positive inside the bool mask."""
    raise NotImplementedError("your turn")


check("01.2", remove_shading)


# %% tags=["solution", "exercise-01.2"]
def remove_shading(image, reference, inside):
    """Blur the log-ratio, divide by its exponential; background stays 0."""
    ratio = np.log(np.maximum(image, 1e-3)) - np.log(np.maximum(reference, 1e-3))
    return np.where(inside, image * np.exp(-blur(ratio, inside)), 0.0)


assert check("01.2", remove_shading).passed

# %% tags=["solution"]
raw = {name: traveller.scans(name)[0, 0].numpy() for name in ("oasis_trio", "oasis_vision")}
flat = scaled(remove_shading(raw["oasis_vision"], raw["oasis_trio"], mask), mask)
psnr = {
    "Vision as it comes": -10 * math.log10(((volumes["oasis_vision"] - first)[mask] ** 2).mean()),
    "Vision, shading removed": -10 * math.log10(((flat - first)[mask] ** 2).mean()),
}
show(
    strip(
        {"Trio": first[..., k], "Vision": volumes["oasis_vision"][..., k], "Vision, shading removed": flat[..., k]},
        window=(0, 1.1),
        title="Simulated, window 0 to 1.1",
    ),
    alt="Three axial slices: the Trio scan, the shaded and flat Vision scan, and the Vision scan with the shading "
    "removed, which is evenly bright again but keeps its lower contrast.",
)
for name, value in psnr.items():
    print(f"{name}: {value:.1f} dB against the Trio")

# %% [markdown]
# **What to notice.** A smooth field carries much of the distance between two scanners, as the BlindHarmony paper says ("mostly in low frequency").
# Your function had an unfair advantage: it saw the same person on the target scanner.
# The methods of this course have to do without.

# %% [markdown]
# ## 6. Age and lesions
#
# **Question.** What changes in a person that a harmonization must *not* touch?
#
# **Idea.** With age, grey matter shrinks by about a third of a per cent a year, the ventricles grow, sulci widen, and white-matter lesions appear around the ventricles.
# One seed is one person, so the same person can be had at any age.

# %%
people = {age: hl.Cohort.simulate(1, ["oasis_trio"], profile.spacing, seed=11, ages=[age]) for age in (25, 84)}
sheet = {f"66 y, {name.removeprefix('oasis_')}": volumes[name] for name in nine[:5] + ["hail_c"]}
for age, someone in people.items():
    inside = someone.mask[0, 0].numpy()
    sheet[f"{age} y, trio"] = scaled(someone.scans("oasis_trio")[0, 0].numpy(), inside)
show(
    orthogonal(
        sheet,
        window=(0, 1.1),
        title="One simulated person: six scanners at 66, and the Trio at 25 and 84 (window 0 to 1.1)",
    ),
    alt="Contact sheet of one simulated person in sagittal, coronal and axial slices: six scanners at 66 years with "
    "different contrast and shading, then the Trio at 25 years with narrow sulci and small ventricles, and at 84 years "
    "with wide ones and dark spots beside the ventricles.",
)
pd.concat(
    {age: someone.volumes_ml.iloc[0] for age, someone in {25: people[25], 66: person, 84: people[84]}.items()}, axis=1
).round(0)

# %%
old = people[84]
brain, spots = old.mask[0, 0].numpy(), old.lesions[0, 0].numpy()
lesion_truth = {"simulated scan": sheet["84 y, trio"], "true lesions": spots.astype(float)}
level = int(np.argmax(spots.sum((0, 1))))
show(
    strip({name: volume[..., level] for name, volume in lesion_truth.items()}, window=(0, 1.1), size=2.8),
    alt="An axial slice of the 84-year-old with dark spots in the white matter, and the map of the true lesions at the "
    "same places.",
)
assert not spots[~brain].any() and old.volumes_ml["lesions"].iloc[0] > 1

# %% [markdown]
# ### Exercise 01.3 · How dark is a lesion? (6 minutes)
#
# A lesion is seen by its contrast to the white matter around it.
# Write a function that gives the *lesion contrast*: one minus the mean intensity of the lesions over the mean intensity of white matter (voxels with a white-matter fraction above 0.9 that are not lesions).


# %% tags=["exercise", "exercise-01.3"]
def lesion_contrast(image, white_fraction, lesions):
    """1 - mean(lesions) / mean(white matter outside lesions); arrays of one shape, `lesions` bool."""
    raise NotImplementedError("your turn")


check("01.3", lesion_contrast)


# %% tags=["solution", "exercise-01.3"]
def lesion_contrast(image, white_fraction, lesions):
    """Lesions lie inside the white-matter fraction, so they have to be taken out of it."""
    white = (white_fraction > 0.9) & ~lesions
    return 1 - image[lesions].mean() / image[white].mean()


assert check("01.3", lesion_contrast).passed

# %% tags=["solution"]
on_scanners = hl.Cohort.simulate(1, ["oasis_trio", "oasis_vision", "hail_c"], profile.spacing, seed=11, ages=[84])
white = old.tissues[0, 2].numpy()
for name in on_scanners.scanners:
    value = lesion_contrast(on_scanners.scans(name)[0, 0].numpy(), white, spots)
    print(f"{name}: lesion contrast {value:.2f}")

# %% [markdown]
# The same lesions are less visible on some scanners.
# A harmonization that makes two scans alike by hiding lesions has made them worse; later notebooks measure this.

# %% [markdown]
# ## 7. Is the simulation any good?
#
# **Question.** Are the differences between simulated scanners as large as those that the papers measured between real ones?
#
# Twelve people were scanned on every preset; PSNR is taken against the same person on the Trio, both images scaled by their own 1st and 99th percentiles in the brain.
# Dots are people, diamonds are the figures printed for real scans (BlindHarmony Table 2, BlindHarmonyDiff Tables 1 and S2).
# The numbers come from `data_scripts/calibrate_simulator.py`; two people are scanned again here to see that they still hold.

# %%
import json  # noqa: E402
from importlib import resources  # noqa: E402

measured = json.loads((resources.files("harmony_lite") / "simulate/calibration.quick.json").read_text())
shown = [
    "oasis_trio",
    "oasis_trio_b",
    "oasis_biograph",
    "oasis_vida",
    "oasis_sonata",
    "oasis_vision",
    "mispel_ge",
    "mispel_philips",
    "hail_a",
    "hail_b",
    "hail_c",
]
printed = {name: [float(v) for v in text.split(";")] for name, text in measured["published dB"].items()}
show(
    dots(
        {("rescan" if n == "oasis_trio" else n): measured["psnr dB"][n] for n in shown},
        marks=printed,
        xlabel="PSNR against the Trio scan of the same person (dB)",
        title=f"{measured['people']} simulated people; published values of real scans",
    ),
    alt="PSNR per simulated person for the rescan and ten presets. The rescan is highest at about 25 dB. Published values "
    "lie near the simulated ones for the BioGraph, Vida and Sonata; the Trio B is published at 24, three decibels "
    "above its simulated mean; for the Vision two of three published values are lower.",
)

# %% tags=["ledger-simulator-calibration"]
two = hl.Cohort.simulate(2, ["oasis_trio", "oasis_sonata"], measured["spacing mm"], seed=measured["seed"])
for i in range(2):
    inside = two.mask[i, 0].numpy()
    pair = [scaled(two.scans(s)[i, 0].numpy(), inside) for s in two.scanners]
    live = -10 * math.log10(((pair[0] - pair[1])[inside] ** 2).mean())
    stored = measured["psnr dB"]["oasis_sonata"][i]
    print(f"person {i + 1}, Sonata: {live:.2f} dB now, {stored:.2f} dB stored")
    assert abs(live - stored) < 0.02

# %% [markdown]
# **What to notice.** The order of magnitude is right, and the published figures of one scanner differ among themselves by up to seven decibels: the papers normalised and masked their images differently.
# Notebook 02 looks into that.
# Two misses stand out: the Trio B comes out three decibels too far from the Trio, and the Vision's lowest figures are *not* reached; nothing was tuned to reach them.
#
# ## 8. What this simulation cannot show
#
# - Everybody has the same average sulci, warped: rounder and more symmetric than yours.
# - White matter is even; there are no vessels, no dura, no choroid plexus, no cerebellar folia.
# - Heads are skull-stripped perfectly, and deep structures are landmark regions, not segmentations.
# - There is no motion, no ghosting, no gradient distortion.
# - A method that is trained on these people has met one anatomy in many disguises, which is easier than life.
#
# So a good result here is necessary, not sufficient.
# The real scans come in where they can: on the command line, on the pair of protocols in notebook 03, and on your own GPU.
#
# ## What to take away
#
# - A T1-weighted picture is tissue, protocol, fields and noise, in that order; harmonization is asked to undo the last three and leave the first alone.
# - Contrast that was never recorded cannot be restored, only invented.
# - Shading makes up much of the distance between scanners, and a rescan of the same person is the best that can be reached.
#
# **Traps.** The printed TR of a GE or Philips scan is often its echo spacing.
# The T1 of CSF is about 4.2 s; short values in old tables make it too bright.
# Two scanners with one protocol are still two scanners.
# A PSNR without its normalisation, mask and voxel size is not a number.

# %% [markdown] tags=["instructor"]
# ## For the instructor
#
# 90 minutes with exercises; 35 without.
# Let people predict the TI curve before section 3 runs: most expect the contrast to grow with TI.
# Exercise 01.1 is algebra, 01.2 needs the idea of working in logarithms (hint 1 says so), 01.3 is about excluding lesions from white matter, the usual slip.
# Question for the end: which of the six additions of section 5 could a method undo that sees only one image? (Shading and gain in part; blur and contrast not.)

# %% [markdown]
# ## References
#
# - Mugler and Brookeman, *Three-dimensional magnetization-prepared rapid gradient-echo imaging (3D MP RAGE)*, MRM 1990.
# - Fonov et al., *Unbiased average age-appropriate atlases for pediatric studies*, NeuroImage 2011 (the MNI152 template).
# - Storsve et al., *Differential longitudinal changes in cortical thickness, surface area and volume across the adult life span*, J Neurosci 2014.
# - Wen and Sachdev, *The topography of white matter hyperintensities on brain MRI in healthy 60- to 64-year-old individuals*, NeuroImage 2004.
# - The five papers: see notebook 00.
