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
# # 70 · Your own scans: from a file to the quality page
#
# **You will be able to**
#
# - read what a scan's file says about its voxels, its place and its brain;
# - write the intake that makes odd values harmless, before any method sees them;
# - harmonize one scan, or a whole folder, at the scans' own resolution;
# - read the quality page, and say when a result must not be trusted or used.
#
# **Before:** notebooks 00 and 03.
# **Measured:** 45 seconds and 1.3 GB on one processor core.
#
# *A simulated scan stands in for yours · expectations stated before results · four exercises, 32 minutes.*
#
# **Your functions run this notebook.**
# Once an exercise passes its check, the cells below use your function.
# Until then they use the package's, and say so.
#
# **With scans of your own,** type the same commands in a terminal, with the names of your files.
# Everything here lies in a temporary folder, which goes when the notebook ends.

# %% tags=["colab", "folded"]
# @title Installation, on Colab only
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/harmony-lite/harmony-lite@main")  # noqa: F821

# %% tags=["setup", "folded"]
# @title Imports, a way to type commands, and which function an exercise gives to the notebook
import contextlib
import io
import json
import os
import shlex
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

import harmony_lite as hl
from harmony_lite.cli import main
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.planted_lesion import PlantedLesion
from harmony_lite.exercises import Mine, hint  # noqa: F401
from harmony_lite.exercises.your_own_scans import ANSWERS
from harmony_lite.images import nifti
from harmony_lite.images.intake import take_in
from harmony_lite.images.normalize import foreground, full_range_minmax, subject_percentile
from harmony_lite.own_scans import remarks
from harmony_lite.own_scans.found import scans_in
from harmony_lite.own_scans.job import Task
from harmony_lite.own_scans.one_scan import look_again
from harmony_lite.own_scans.quality import detail_kept
from harmony_lite.show import COLOURS, image, panels, show

BLUE, ORANGE = COLOURS[:2]
mine = Mine(ANSWERS)  # your functions, once they have passed


def command(*lines):
    """Run `harmony-lite LINE` as a terminal would, and say how each ended: 0 done, 2 something is wrong."""
    said = io.StringIO()
    for line in lines:
        print(f"$ harmony-lite {line}", file=said)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = main(shlex.split(line))
        print(f"(exit status {status})", file=said)
    print(said.getvalue())


# %% [markdown]
# ## 1. A stand-in for your scan
#
# **Question.** What do you need to begin?
#
# **Idea.** One file: a T1-weighted scan as NIfTI, the format that `dcm2niix` and most tools write.
# Here the simulator makes it. Two people are scanned on two scanners with voxels of 1.25 mm.
# The Vision's scan of the first person is *mine*. The Trio is the target.
#
# The networks of this package work on voxels of 2 mm in a standard place.
# So the folded cell makes the stand-in as awkward as a real scan: it turns and moves the head, and stores the axes as many scanners do.

# %%
folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
os.chdir(folder.name)
command("simulate people --subjects 2 --scanners oasis_trio,oasis_vision --spacing 1.25 --seed 70")

# %% tags=["folded"]
# @title The stand-in: another place, another order of the axes, whole numbers; and a target from another person
moved = np.eye(4)
moved[:3, :3] = Rotation.from_euler("xyz", [8, -5, 12], degrees=True).as_matrix()
moved[:3, 3] = 10, -20, 15
PERSON, OTHER = Path("people/sub-001"), Path("people/sub-002")
MINE, TRUTH = (PERSON / f"ses-{s}/anat/sub-001_ses-{s}_T1w.nii.gz" for s in ("oasisvision", "oasistrio"))
MASK = PERSON / "anat/sub-001_desc-brain_mask.nii.gz"


def as_scanners_store(source, out, dtype):
    """The same voxels with the first axis to the left and the second to the back, turned and moved in space."""
    simulated = nib.load(source)
    stored = nib.Nifti1Image(np.asarray(simulated.dataobj).astype(dtype), moved @ simulated.affine)
    ways = nib.io_orientation(stored.affine), nib.orientations.axcodes2ornt("LPS")
    stored = stored.as_reoriented(nib.orientations.ornt_transform(*ways))
    stored.header.set_xyzt_units("mm")
    nib.save(stored, out)


as_scanners_store(MINE, "mine_T1w.nii.gz", np.int16)
as_scanners_store(MASK, "mine_mask.nii.gz", np.uint8)
shutil.copy(OTHER / "ses-oasistrio/anat/sub-002_ses-oasistrio_T1w.nii.gz", "target_T1w.nii.gz")
print("made:", *sorted(path.name for path in Path().glob("*.nii.gz")))

# %% [markdown]
# ## 2. What the file says
#
# **Question.** Where in the head is a voxel?
#
# **Idea.** A NIfTI file holds numbers and an *affine*, a matrix of 4 x 4.
# It turns the index of a voxel into a place in millimetres, with $x$ to the right, $y$ to the front and $z$ upwards:
#
# $$(x, y, z, 1)^T = A\,(i, j, k, 1)^T$$
#
# `nifti.read` flips and exchanges the axes until they run to the right, to the front and upwards (*RAS*).
# No voxel is interpolated. The result is written back in the file's own order.

# %%
file = nib.load("mine_T1w.nii.gz")
edges, unit = file.header.get_zooms(), file.header.get_xyzt_units()[0]
print(f"shape {file.shape}, stored as {file.get_data_dtype()}")
print("voxels of", " x ".join(f"{edge:.2f}" for edge in edges), unit)
print("the axes run to", "".join(nib.aff2axcodes(file.affine)), "in the file")
scan = nifti.read("mine_T1w.nii.gz")
middle = scan.affine @ [*np.array(scan.volume.shape[2:]) / 2, 1]
print("the axes run to", "".join(nib.aff2axcodes(scan.affine)), "after reading;", tuple(scan.volume.shape))
print("the middle of the volume lies at", middle[:3].round().astype(int).tolist(), "mm")

# %% [markdown]
# **Look at** the forehead. Where is it in each picture?

# %% tags=["folded"]
# @title One slice in the file's order of axes, and after reading
figure, axes = panels(2, size=(5.6, 3.4))
stored, height = np.asarray(file.dataobj), int(0.55 * scan.volume.shape[-1])
for axis, picture, title in (
    (axes[0], stored[..., height], "as stored: L, P, S"),
    (axes[1], scan.volume[0, 0, ..., height], "after reading: R, A, S"),
):
    image(axis, picture, window=(0, 750), title=title)
figure.suptitle("A simulated scan: first axis to the right, second upwards", fontsize=10)
show(figure, alt="The same slice twice. As stored it is turned by half a circle; after reading the forehead is up.")

# %% [markdown]
# **What to notice.** As stored, the forehead points down, and left and right are exchanged with it.
# Both orders are correct, as long as the affine is.
# A wrong affine cannot be seen in the numbers. If a viewer shows your head upside down, mend the file first.
# (The back of the head is bright because of the Vision's shading. Keep an eye on it.)
#
# ## 3. Brain or head?
#
# **Question.** What does the program take for brain when you give no mask?
#
# **Idea.** It looks at the corners of the volume.
# If one value fills a fifth of the volume and stands in a corner, that value is background, and the rest is *foreground*.
# That is right for a skull-stripped scan.
# If the air is noisy, a threshold divides bright from dark. That finds a head, not a brain.
#
# ### Exercise 70.1 · The volume of a mask (6 minutes, ★)
#
# The volume is the quickest check of a mask: an adult's brain with its fluid has 800 to 1,900 ml.
# Return the volume in ml of a mask on a grid with this affine.


# %% tags=["exercise", "exercise-70.1"]
def millilitres(mask, affine):
    """Volume in ml of a mask (D, H, W) of True and False; affine (4, 4): voxel index to mm."""
    raise NotImplementedError("your turn")


mine.check("70.1", millilitres)
# hint("70.1", 1)  # take the first # away for a hint; there are three


# %% tags=["solution", "exercise-70.1"]
def millilitres(mask, affine):
    """Volume in ml of a mask (D, H, W) of True and False; affine (4, 4): voxel index to mm."""
    return mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000


assert mine.check("70.1", millilitres).passed

# %% [markdown]
# Now a whole head. The simulated people have no skull, so the folded cell puts a dark shell and a bright one around the brain, and noise everywhere.
#
# **Expected.** The foreground of the stripped scan is its brain.
# The foreground of the head is larger, because of the scalp, and yet it misses the dark parts of the brain.

# %% tags=["folded"]
# @title A head around the brain
brain = nifti.read_mask("mine_mask.nii.gz", scan)
far = torch.from_numpy(ndimage.distance_transform_edt(~brain[0, 0].numpy(), sampling=1.25))[None, None]
head = scan.volume.clone()
head[(far > 0) & (far <= 6)], head[(far > 6) & (far <= 12)] = 50.0, 600.0
noise = 11 * torch.randn(2, *head.shape, generator=torch.Generator().manual_seed(0))
head = torch.hypot(head + noise[0], noise[1])
nifti.write("head_T1w.nii.gz", head, scan)
print("made: head_T1w.nii.gz")

# %%
volume_of = mine("70.1")
masks = {
    "the true brain": brain,
    "found in the stripped scan": foreground(scan.volume),
    "found in the head": foreground(head),
}
sizes = {
    name: [volume_of(mask[0, 0].numpy(), scan.affine), 100 * float((mask & brain).sum() / brain.sum())]
    for name, mask in masks.items()
}
pd.DataFrame(sizes, index=["volume, ml", "of the brain in it, %"]).T.round(0)

# %% tags=["folded"]
# @title What is taken for brain, outlined
figure, axes = panels(3, size=(8.4, 3.4))
for axis, picture, mask, title in (
    (axes[0], scan.volume, masks["found in the stripped scan"], "stripped: found by itself"),
    (axes[1], head, masks["found in the head"], "head: found by itself"),
    (axes[2], head, brain, "head: your mask"),
):
    image(axis, picture[0, 0, ..., height], window=(0, 750), title=title)
    axis.contour(mask[0, 0, ..., height].numpy().T, [0.5], colors=ORANGE, linewidths=1.2)
figure.suptitle("Orange: the outline of what counts", fontsize=10)
alt = "Three slices with outlines. Around the stripped brain the outline is right; in the head it runs around the scalp and around folds and ventricles; your mask runs around the brain."
show(figure, alt=alt)
del masks, head, far, noise  # large, and no longer needed

# %% [markdown]
# **What to notice.** The foreground of the head holds the scalp, and 15 % of the brain are missing: fluid, and grey matter beside it.
# Percentiles of such a mixture say nothing about a brain.
# So the program does not try. It stops, and says what it wants.

# %%
command(
    "harmonize --method affine-match head_T1w.nii.gz out.nii.gz",
    "harmonize --method affine-match --mask mine_mask.nii.gz head_T1w.nii.gz out.nii.gz",
)

# %% [markdown]
# A mask is made by another program, such as SynthStrip, HD-BET or FreeSurfer. Look at each one before you use it.
#
# ## 4. Odd values
#
# **Question.** What else is in real files, and what does it do?
#
# Some tools mark the background by NaN ("not a number") or by -1024.
# A converter or a coil leaves one voxel a thousand times as bright as tissue.
# Somebody has *z-scored* the scan: its mean was subtracted, and half of the brain is below 0.
#
# **Idea.** Deal with all of it once, before a threshold or a network sees the image.
# The range of tissue is taken from percentiles $p_1$ and $p_{99}$ inside, which a few voxels cannot move:
#
# $$\bigl[\,p_1 - (p_{99} - p_1),\; p_{99} + 3\,(p_{99} - p_1)\,\bigr]$$
#
# A bright vessel lies within this range. What lies beyond it is no tissue, and takes the median of its neighbours.
#
# ### Exercise 70.2 · The median of the neighbours (8 minutes, ★★)
#
# Return the median of those of the 26 neighbours of a voxel that are `usable`.
# Take care at the border of the volume, where there are fewer. The voxel itself is not usable.


# %% tags=["exercise", "exercise-70.2"]
def around(image, usable, place):
    """Median of the usable neighbours; image and usable (D, H, W), place: three indices."""
    raise NotImplementedError("your turn")


mine.check("70.2", around)


# %% tags=["solution", "exercise-70.2"]
def around(image, usable, place):
    """Median of the usable neighbours; image and usable (D, H, W), place: three indices."""
    box = tuple(slice(max(i - 1, 0), i + 2) for i in place)  # -1 would count from the end
    return np.median(image[box][usable[box]])


assert mine.check("70.2", around).passed

# %% [markdown]
# Here is the whole intake for skull-stripped scans and scans with a mask.
# (For noisy air the package has the threshold of section 3, which is left out here.)

# %% tags=["algorithm"]
median_around = mine("70.2")


def taken_in(image, mask=None):
    """An image (D, H, W) as a method wants it, what counts, and its background; ValueError for a shifted scale."""
    # 1. background: NaN around the head, or one negative value that fills a fifth and stands in a corner
    background = np.isnan(image)
    values = np.where(background, 0, image)
    ends = np.ix_(*[(0, size - 1) for size in image.shape])
    for value in np.unique(values[ends]):
        if value < 0 and (values == value).mean() >= 0.2:
            background |= values == value
    values[background] = 0
    # 2. foreground: the mask, or all that is not background
    inside = values != 0 if mask is None else mask & ~background
    # 3. the range of tissue
    low, high = np.percentile(values[inside], [1, 99])
    least, most = low - (high - low), high + 3 * (high - low)
    # 4. hot voxels
    hot = inside & ((values < least) | (values > most))
    for place in map(tuple, np.argwhere(hot)):
        values[place] = median_around(values, inside & ~hot, place)
    # 5. a few values below 0 are ringing, many mean that somebody shifted the scale
    share = (values[inside] < 0).mean()
    if share > 0.01:
        raise ValueError(f"{share:.0%} of the voxels are below 0, wanted magnitudes")
    return np.maximum(values, 0), inside, background


# %% [markdown]
# **Expected.** The scan is spoilt in five ways. The intake above and the package's `take_in` agree on each, to the last bit.
# Z-scoring is refused, because nobody can know what it took away. The others give the scan back, up to the hot voxel, which is now a guess, and a few values below 0, which become 0.

# %%
whole, inside = scan.volume[0, 0].numpy(), brain[0, 0].numpy()
spot = (40, 50, 60)  # one voxel in the brain
deviates = ((whole - whole[inside].mean()) / whole[inside].std()).astype(np.float32)
spoilt = {"as it came": whole, "NaN around": np.where(inside, whole, np.float32(np.nan))}
spoilt["-1024 around"] = np.where(inside, whole, np.float32(-1024))
spoilt["one voxel of 1e6"] = whole.copy()
spoilt["one voxel of 1e6"][spot] = 1e6
spoilt["ringing"] = np.where(inside & (whole < 115), np.float32(-5), whole)
spoilt["z-scored"] = np.where(inside, deviates, np.float32(-20))

# %%
strict = partial(take_in, takes_negatives=False)  # for methods that cannot take values below 0


def attempt(take, given):
    """Values and what counts, or the refusal."""
    try:
        return take(given)
    except ValueError as error:
        return error


outcomes = {}
for name, copy in spoilt.items():
    own, packaged = attempt(taken_in, copy), attempt(strict, torch.from_numpy(copy)[None, None])
    assert isinstance(own, ValueError) == isinstance(packaged, ValueError)
    if isinstance(own, ValueError):
        outcomes[name] = f"refused: {own}"
        continue
    assert np.array_equal(own[0], packaged.images[0, 0]) and np.array_equal(own[1], packaged.mask[0, 0])
    outcomes[name] = f"{(own[0] != whole).sum()} voxels differ from the scan, {own[1].sum()} count"
print("\n".join(f"{name}: {outcome}" for name, outcome in outcomes.items()))

# %% [markdown]
# Now the hot voxel alone. **Expected:** one voxel of 740 thousand darkens the whole brain where an image is scaled by its minimum and maximum.

# %%
hot = torch.from_numpy(spoilt["one voxel of 1e6"])[None, None]
mended = take_in(hot)
print("\n".join(mended.remarks))
ways = {"the scan": scan.volume, "one hot voxel": hot, "after intake": mended.images}
scaled = {name: full_range_minmax(volume) for name, volume in ways.items()}
found = {n: [scaled[n][brain].mean(), ways[n][brain].std(), *np.percentile(ways[n][brain], [1, 99])] for n in ways}
columns = ["min-max mean", "deviation", "1st percentile", "99th percentile"]
pd.DataFrame(found, index=columns, dtype=float).T.round(4)

# %% tags=["folded"]
# @title One voxel, scaled by minimum and maximum
figure, axes = panels(3, size=(8.4, 3.4))
for axis, (name, volume) in zip(axes, scaled.items(), strict=True):
    image(axis, volume[0, 0, ..., spot[2]], title=name)
axes[1].annotate(
    "this voxel",
    spot[:2],
    (62, 128),
    color=ORANGE,
    fontsize=9,
    ha="center",
    arrowprops={"arrowstyle": "->", "color": ORANGE},
)
figure.suptitle("From the minimum, black, to the maximum, white", fontsize=10)
show(figure, alt="Three slices: a brain; a black picture with an arrow at one voxel; the brain again.")
del spoilt, scaled, ways, hot, mended  # a hundred megabytes, no longer needed

# %% [markdown]
# **What to notice.** One hot voxel takes the mean of the scaled brain from 0.46 to 0.0004.
# The deviation is nine times as large, so an affine match would leave a ninth of the contrast.
# The percentiles do not move.
# Without the intake nothing would raise an error. You would get a file like any other.
#
# ## 5. One command
#
# **Question.** How do you harmonize one scan?
#
# **Idea.** Choose a method, and a target.
# With `--reference` the target is one scan. Without it, the target is the Trio's standard that comes with the package.
# The first command is classical, from notebook 03. It sees your scan and the reference alone.

# %%
command("harmonize --method histogram-matching --reference target_T1w.nii.gz mine_T1w.nii.gz mine_histogram.nii.gz")

# %% [markdown]
# The second is BlindHarmony, a network of notebooks 10 to 12, which lives on voxels of 2 mm.
# Your scan does not have to. This happens:
#
# 1. The brain is aligned to the template, and sampled on the model's grid.
# 2. The method harmonizes it there.
# 3. Around each place $r$ a straight line from input to output is fitted under a window of 6 mm. Its gain $a$ and offset $b$ change slowly with the place.
# 4. The line is applied to your own voxels: $x_h(r) = a(r)\,x(r) + b(r)$.
#
# So no voxel of the network ends up in your file. An edge stays where it was.
# All this takes half a minute on one core.

# %%
command("harmonize --method blindharmony --mask mine_mask.nii.gz mine_T1w.nii.gz mine_blindharmony.nii.gz")

# %% [markdown]
# ### Exercise 70.3 · How much detail is kept (10 minutes, ★★★)
#
# Did the edges stay? Compare the *lengths* of the gradients of a scan and its result.
# Return their correlation over voxels whose neighbours all lie inside the mask. The step at the mask's rim would drown everything else.


# %% tags=["exercise", "exercise-70.3"]
def detail(before, after, inside):
    """Correlation of the lengths of two images' gradients; all (D, H, W), `inside` True and False."""
    raise NotImplementedError("your turn")


mine.check("70.3", detail)


# %% tags=["solution", "exercise-70.3"]
def detail(before, after, inside):
    """Correlation of the lengths of two images' gradients; all (D, H, W), `inside` True and False."""
    deep = ndimage.binary_erosion(inside, np.ones((3, 3, 3)), border_value=1)
    first, second = (np.sqrt(sum(part[deep] ** 2 for part in np.gradient(i))) for i in (before, after))
    return np.corrcoef(first, second)[0, 1]


assert mine.check("70.3", detail).passed

# %% [markdown]
# The simulator knows what your own scan on the Trio looks like. With a real scan nobody does, and the last column is missing.
# The last row is BlindHarmony's result as voxels of 2.5 mm would hold it.
#
# **Expected.** Both methods keep nearly all detail, the smooth change a little less than the curve.

# %%
my_detail, truth = mine("70.3"), nifti.read(TRUTH).volume
results = {"histogram matching": "mine_histogram.nii.gz", "BlindHarmony": "mine_blindharmony.nii.gz"}
volumes = {"the scan": scan.volume, **{name: nifti.read(path).volume for name, path in results.items()}}
coarse = torch.nn.functional.avg_pool3d(volumes["BlindHarmony"], 2)
coarse = torch.nn.functional.interpolate(coarse, size=tuple(brain.shape[2:]), mode="trilinear") * brain
rows = {}
for name, volume in {**volumes, "BlindHarmony, coarse": coarse}.items():
    kept = my_detail(whole, volume[0, 0].numpy(), inside)
    assert np.isclose(kept, detail_kept(scan.volume, volume, brain), atol=1e-4)
    rows[name] = [kept, float(metrics.ncc(scan.volume, volume, brain)), float(metrics.psnr(volume, truth, brain))]
pd.DataFrame(rows, index=["detail kept", "correlation", "PSNR to the truth, dB"]).T.round(3)

# %% [markdown]
# **Look at** the lower row. It shows what each method changed, after gain and offset are taken out.

# %% tags=["folded"]
# @title The scan, two results, the truth, and what was changed
figure, axes = panels(3, 2, size=(7.8, 6.4))
looks = {
    name: (subject_percentile(v, brain) * brain)[0, 0, ..., height] for name, v in {**volumes, "truth": truth}.items()
}
for axis, name in zip(axes[0], volumes, strict=True):
    image(axis, looks[name], title=name)
image(axes[1, 0], looks["truth"], title="the same person on the Trio")
for axis, name in zip(axes[1, 1:], results, strict=True):
    image(axis, looks[name] - looks["the scan"], window=(-0.3, 0.3), title=f"{name} minus scan", colours="PuOr_r")
figure.suptitle("Percentiles of each brain to 0 and 1; orange brighter, purple darker, up to 0.3", fontsize=10)
alt = "Six slices: the scan, shaded from back to front; histogram matching; BlindHarmony; the same person on the Trio. Histogram matching changes intensities all over by tissue; BlindHarmony's change is smooth."
show(figure, alt=alt)

# %% [markdown]
# **What to notice.** Histogram matching changes *tissues*: white matter becomes brighter, and a dark line runs along each border.
# Its curve is steep in one place and flat in another, so it makes some edges sharper and others weaker. That is why it keeps 0.908 of the detail, less than expected.
# BlindHarmony changes *places*, mostly: the bright corner at the back becomes darker. It keeps 0.988, and its own coarse voxels would have kept 0.884.
#
# Neither result is the truth. The back of the head is still too bright.
# PSNR rises from 9.7 to 17.6 and 20.0 dB, and most of that is the Trio's unit.
#
# ## 6. A folder
#
# **Question.** And a hundred scans?
#
# **Idea.** Give the folder instead of the file. In a BIDS tree the scans are the files `sub-*_T1w.nii.gz`; in any other folder, every NIfTI file is one.
# Masks beside the scans are found by their names.
# Useful options are `--jobs 4` (four scans at once), `--suffix T2w` (another kind of image) and `--force` (do all again).
#
# The folded cell makes a small study. One of its files is broken: a copy that ended too early.

# %% tags=["folded"]
# @title A study of two people, with masks, a T2-weighted scan and a broken file
for person in ("sub-001", "sub-002"):
    place = Path("study") / person / "anat"
    place.mkdir(parents=True)
    shutil.copy(
        f"people/{person}/ses-oasisvision/anat/{person}_ses-oasisvision_T1w.nii.gz", place / f"{person}_T1w.nii.gz"
    )
    shutil.copy(f"people/{person}/anat/{person}_desc-brain_mask.nii.gz", place)
    shutil.copy(f"people/{person}/anat/{person}_label-lesion_mask.nii.gz", place)
cohort = hl.Cohort.simulate(1, ["oasis_vision", "t2_spin_echo"], spacing=2.0, seed=70)  # the first person, at 2 mm
own_grid = nifti.NiftiScan.from_volume(cohort.mask, cohort.affine())
nifti.write("study/sub-001/anat/sub-001_T2w.nii.gz", cohort.scans("t2_spin_echo") * cohort.mask, own_grid)
broken = Path("study/sub-002/anat/sub-002_T1w.nii.gz")
complete = broken.read_bytes()
broken.write_bytes(complete[:100_000])
print("\n".join(str(path) for path in sorted(Path("study").rglob("*.nii.gz"))))

# %% [markdown]
# ### Exercise 70.4 · The mask that belongs to a scan (8 minutes, ★★)
#
# A BIDS name is a chain of *entities*, such as `sub-01` or `ses-b`, and a suffix.
# The brain mask of `sub-01_ses-b_run-2_T1w.nii.gz` is called `sub-01_ses-b_run-2_desc-brain_mask.nii.gz`.
# Where there is none, that of the session `sub-01_ses-b` will do, then that of the person `sub-01`.
# Return the name of the mask, or None.


# %% tags=["exercise", "exercise-70.4"]
def mask_for(scan, names):
    """Name of the brain mask of a scan's file name, out of the names in its folder; None where there is none."""
    raise NotImplementedError("your turn")


mine.check("70.4", mask_for)


# %% tags=["solution", "exercise-70.4"]
def mask_for(scan, names):
    """Name of the brain mask of a scan's file name, out of the names in its folder; None where there is none."""
    parts = scan.split("_")[:-1]  # without the suffix
    for count in range(len(parts), 0, -1):
        wanted = "_".join(parts[:count]) + "_desc-brain_mask.nii.gz"
        if wanted in names:
            return wanted
    return None


assert mine.check("70.4", mask_for).passed

# %%
mask_of, found = mine("70.4"), scans_in(Path("study"))
for path, mask in found.scans:
    assert mask.name == mask_of(path.name, {other.name for other in path.parent.iterdir()})
    print(f"{path.name}: {mask.name}")
print("left out:", found.left_out_line)

# %% [markdown]
# **Expected.** The broken scan costs one line, and the other one is done.

# %%
command("harmonize --method histogram-matching study harmonized")

# %% [markdown]
# Copy the broken file again, and type the same command.
# **Expected.** Only what is missing is done.

# %%
broken.write_bytes(complete)
command("harmonize --method histogram-matching study harmonized --report quality.html")
print("\n".join(str(path) for path in sorted(Path("harmonized").rglob("*.*"))))

# %% [markdown]
# Beside each result lies a JSON file of the same name. It says how the result came about.

# %%
record = json.loads(Path("harmonized/sub-001/anat/sub-001_desc-histogrammatching_T1w.json").read_text())
own = record.pop("HarmonyLite")
print(json.dumps(record, indent=1))
print(own["command"], "| warnings:", own["warnings"])
print({key: value[:12] if isinstance(value, str) else value for key, value in own["identity"].items()})

# %% [markdown]
# **What to notice.** The second run did one scan, and one was there.
# The *identity* holds the hashes of the scan, its mask and the weights.
# If all are as they were, the result is left alone. If you change the mask, the scan is done again.
#
# ## 7. The quality page
#
# **Question.** Nobody looks at a hundred results. Which ones do you look at?
#
# **Idea.** `--report` writes one file, `quality.html`. What changed most stands first.
# For each scan it has three views before, after, and their difference, at the place that changed most.
# Both are scaled by their own percentiles, so a mere gain leaves no difference.

# %%
page = Path("quality.html").read_text()
looks_by_name = {}
for path, mask in found.scans:
    out = Path("harmonized") / path.parent.relative_to("study") / f"{path.name[:7]}_desc-histogrammatching_T1w.nii.gz"
    looks_by_name[path.name] = look_again(Task(path, out, mask, is_done=True)).look
worst = max(looks_by_name, key=lambda name: abs(looks_by_name[name].changed))
print(f"a page of {len(page) / 1000:.0f} kB; first stands {worst}")
shown = {n: [x.ncc, x.detail, 100 * x.changed, *np.round(x.place)] for n, x in looks_by_name.items()}
pd.DataFrame(shown, index=["correlation", "detail", "most changed, %", "at x", "y", "z, mm"]).T.round(3)

# %% tags=["folded"]
# @title The page's pictures of the scan that changed most
figure, axes = panels(1, 3, size=(6.4, 6.6))
for axis, part in zip(axes, ("before", "after", "difference"), strict=True):
    axis.imshow(Image.open(io.BytesIO(getattr(looks_by_name[worst], part).webp)))
    axis.set(xticks=[], yticks=[], title=part)
    axis.spines[:].set_visible(False)
axes[2].set_title("difference: orange brighter, blue darker, up to 25 % of the brain's range")
show(
    figure,
    alt=f"{looks_by_name[worst].before.alt} {looks_by_name[worst].after.alt} {looks_by_name[worst].difference.alt}",
)

# %% [markdown]
# **What to notice.** The second person's scan stands first. Its largest change is 26 % darker, at the back of the brain.
# There the Vision's shading makes tissue brightest. Histogram matching knows no places; it squeezes all bright voxels together.
# In the rest of the brain white and grey matter became brighter against that corner.
# No fold came or went, and the correlation is 0.990. A new edge, or a lesion that is gone, would be a reason to throw the result away.
#
# The program also says what is odd. Each line has a kind, and each kind has its limit in the package.

# %%
kinds = {
    "spacing": f"an edge above {remarks.THICK:g} mm, or {remarks.UNEVEN:g} times another: thick slices stay thick",
    "coverage": f"not {remarks.BRAIN_ML[0]:g} to {remarks.BRAIN_ML[1]:g} ml: look at the mask",
    "field of view": f"{remarks.CUT:.0%} of the widest section on an outer face: the brain is cut off",
    "mask": f"more than {remarks.LEFT_OUT:.0%} of a skull-stripped scan lies outside the mask: look at the mask",
    "contrast": "unlike a T1-weighted template, or unlike the target from the rim inwards: another kind of scan",
    "far from training": f"correlation below {remarks.FOLLOWS:g} of the result with the scan: look, and think",
    "hot voxels": "voxels beyond the range of section 4: look at where they are",
}
with pd.option_context("display.max_colwidth", None):
    display(pd.DataFrame({"when, and what it means": kinds}))

# %% [markdown]
# ## 8. When not to trust the result
#
# **Question.** Which mistakes are found, and which are not?
#
# **Idea.** Make four mistakes on purpose.
#
# **A T2-weighted scan.** Its contrast is turned over: fluid is bright and white matter dark.
# **Expected.** Both methods say so. NCC ascent of notebook 03 is on the model's grid, and is compared with the template.
# A curve knows no template. There the program asks whether brightness rises from the rim of the brain inwards: in T1-weighted scans it does, because the fluid outside is dark.

# %%
T2 = "study/sub-001/anat/sub-001_T2w.nii.gz"
command(
    f"harmonize --method ncc-ascent {T2} t2_ascent.nii.gz",
    f"harmonize --method histogram-matching {T2} t2_histogram.nii.gz",
)
mostly = cohort.tissues > 0.9
for name, volume in (("before", nifti.read(T2).volume), ("after", nifti.read("t2_histogram.nii.gz").volume)):
    medians = [float(volume[0, 0][mostly[0, tissue]].median()) for tissue in (0, 2)]
    print(f"{name} histogram matching: fluid {medians[0]:.0f}, white matter {medians[1]:.0f}")

# %% [markdown]
# **What to notice.** Both warn, and both write a result.
# Histogram matching has given fluid the brightness that white matter should have.
# A warning is no refusal: you may know better, for example with weights of your own for T2-weighted scans.
#
# **Half a brain, and thick slices.** **Expected.** Both are told from the voxels and the mask alone, by every method.

# %%
half, first = scan.affine.copy(), scan.volume.shape[2] // 2
half[:3, 3] = (scan.affine @ [first, 0, 0, 1])[:3]
thick = scan.affine @ np.diag([1, 1, 4, 1.0])
slabs = torch.nn.functional.avg_pool3d(scan.volume, (1, 1, 4))
for name, volume, affine in (("half", scan.volume[:, :, first:], half), ("thick", slabs, thick)):
    nifti.write(f"{name}_T1w.nii.gz", volume, nifti.NiftiScan.from_volume(volume, affine))
command(*[f"harmonize --method histogram-matching {name}_T1w.nii.gz out.nii.gz" for name in ("half", "thick")])

# %% [markdown]
# **A mask that is too small.** It is the true one without its outer layers, so it cuts off grey matter first.
# This uses the first person's scan with voxels of 2 mm.
# The table has the median of white matter after histogram matching, and how much of the brain is black after NCC ascent.
# **Expected.** A warning comes before much of the brain is lost: the scan is skull-stripped already, so the program can see what the mask leaves out.

# %%
well, own_brain = cohort.scans("oasis_vision") * cohort.mask, cohort.mask[0, 0].numpy()
nifti.write("well_T1w.nii.gz", well, own_grid)
deep = mostly[:, 2:] & torch.from_numpy(ndimage.binary_erosion(own_brain, iterations=6))
small = {}
for layers in (0, 2, 4, 6):
    mask = ndimage.binary_erosion(own_brain, iterations=layers) if layers else own_brain
    nifti.write("small_mask.nii.gz", torch.from_numpy(mask)[None, None].float(), own_grid, dtype="uint8")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        for method in ("histogram-matching", "ncc-ascent"):
            command(f"harmonize --method {method} --mask small_mask.nii.gz well_T1w.nii.gz small_{method}.nii.gz")
    curve, ascent = (nifti.read(f"small_{m}.nii.gz").volume for m in ("histogram-matching", "ncc-ascent"))
    black = float((ascent[cohort.mask] == 0).float().mean())
    warned = "warning" in said.getvalue()
    small[f"{2 * layers} mm"] = [volume_of(mask, cohort.affine()), float(curve[deep].median()), 100 * black, warned]
columns = ["mask, ml", "white matter", "black, %", "warned"]
pd.DataFrame(small, index=columns).T.infer_objects().round(0)

# %% [markdown]
# **What to notice.** The warning comes once more than 15 % of the brain are left out.
# With 12 mm cut off, 43 % of the brain are black: a method on the model's grid leaves what is outside the mask empty.
# Histogram matching changes all voxels, but by a curve of the wrong tissues. White matter went from 1,164 to 1,122.
# Around a whole head there is no such warning, because a mask has to leave the skull out: this mask of 817 ml would pass there. Look at each mask.
#
# **A lesion.** Plant a dark ball into the white matter, and harmonize with two methods.
# HAIL as printed drew a lesion away in notebook 41.
# **Expected.** NCC ascent keeps the lesion. HAIL loses it, and the correlation with the scan gives it away.

# %%
lesion = PlantedLesion.deepest(cohort.tissues, lesions=cohort.lesions)
ill = lesion.into(cohort.scans("oasis_vision")) * cohort.mask
nifti.write("ill_T1w.nii.gz", ill, own_grid)
command(
    "harmonize --method ncc-ascent ill_T1w.nii.gz ill_ascent.nii.gz",
    "harmonize --method hail --variant paper --reference target_T1w.nii.gz ill_T1w.nii.gz ill_hail.nii.gz",
)
after = {"NCC ascent": nifti.read("ill_ascent.nii.gz").volume, "HAIL as printed": nifti.read("ill_hail.nii.gz").volume}
print("of the lesion's contrast is left:", {name: f"{lesion.share_left(v):.0%}" for name, v in after.items()})

# %% tags=["folded"]
# @title The lesion before and after
figure, axes = panels(3, size=(6.6, 2.7))
cx, cy, cz = (int(where.float().mean()) for where in lesion.inside.nonzero(as_tuple=True))
near = (slice(max(cx - 16, 0), cx + 17), slice(max(cy - 16, 0), cy + 17), cz)
for axis, (name, volume) in zip(axes, {"planted": ill, **after}.items(), strict=True):
    image(axis, (subject_percentile(volume, cohort.mask) * cohort.mask)[0, 0][near], title=name)
figure.suptitle("A dark ball in the white matter of one simulated person", fontsize=10)
show(figure, alt="Three crops: a dark ball in white matter; the same ball; a blurred picture without a ball.")

# %% [markdown]
# **What to notice.** NCC ascent keeps the ball, with 113 % of its contrast. HAIL as printed leaves 1 %.
# *Far from training* is what the program can see: the result correlates with the scan by 0.66.
# It cannot see a lesion. A method that wiped out this ball alone would keep a correlation near 1, and no warning would come.
#
# ## 9. What harmonization must never be used for
#
# - **Diagnosis.** Nobody should read a single harmonized scan for a patient. Read the scan as it came.
# - **Groups that were scanned apart.** If all patients were on one scanner and all controls on the other, no method can tell the scanner from the illness. What it takes out may be the illness. Only new scans help.
# - **Making a case look normal.** A method that was trained on healthy people may draw what healthy people have.
# - **Quantitative maps.** A T1 time in milliseconds, a diffusion coefficient or an uptake value has a unit. Harmonization gives it another look, and takes the unit away.
# - **Silence.** Say in the paper which method, variant, weights and target were used, and show the page. The record has it all.
# - **Tuning on test people.** Choose the method on other people than those you report.
#
# ## What to take away
#
# - Most faults are in the file: its affine, its mask, its values. Look there first.
# - A result at your own resolution is your own scan, changed smoothly.
# - No warning means that nothing odd was found. It does not mean that nothing is.
# - The page shows where to look. You have to look.
#
# **Traps.**
# A reference with a skull for a scan without one.
# A mask that lies on another grid than its scan.
# A folder of results taken for a folder of scans.
# A quality number that is high because nothing was changed.

# %% [markdown] tags=["instructor"]
# ## For the instructor
#
# **A class of 50 minutes:** sections 1 to 3 with 70.1 in 12, section 4 with 70.2 in 12, section 5 in 8, sections 6 and 7 in 8, sections 8 and 9 in 10. Exercises 70.3 and 70.4 are homework.
# One expectation fails and was left standing: how much detail histogram matching keeps (section 5).
# Ask people to bring one scan each, and a mask. Most questions come from what is in those files.
#
# **Frequent slips.** 70.1: the diagonal of a turned affine. 70.2: an index of -1. 70.3: the rim. 70.4: the mask of another session.

# %% [markdown]
# ## References
#
# - Gorgolewski and colleagues, *The brain imaging data structure*, Scientific Data 3, 2016.
# - Mattes and colleagues, *PET-CT image registration in the chest using free-form deformations*, IEEE Transactions on Medical Imaging 22, 2003 (mutual information, as the alignment uses it).
# - He, Sun and Tang, *Guided image filtering*, IEEE Transactions on Pattern Analysis and Machine Intelligence 35, 2013 (a local straight line).
# - Jeong and colleagues, *BlindHarmony*, ICCV 2023. Parida and colleagues, *HAIL*, 2023.
