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
# # 00 · Start here
#
# **You will be able to** say what MRI harmonization is and what it is not, run your first method, and find your way through this series.
#
# **Measured:** 8 seconds and 0.8 GB on one processor core.
# No GPU and no network is needed; everything shown is **simulated** and says so.

# %% tags=["colab"]
# Only on Colab, where the package has to be fetched; anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/harmony-lite/harmony-lite@main")  # noqa: F821

# %% tags=["setup"]
import torch

import harmony_lite as hl
from harmony_lite.evaluate.report import summary
from harmony_lite.images.normalize import subject_percentile
from harmony_lite.profiles import active
from harmony_lite.show import difference, histograms, orthogonal, show, strip
from harmony_lite.show.widgets import swipe, swipe_picture

profile = active()
device = "a GPU" if torch.cuda.is_available() else "the processor"
print(f"profile {profile.name} on {device}; harmony_lite {hl.__version__}, torch {torch.__version__}")

# %% [markdown]
# ## 1. The problem, in one picture
#
# Below is one person in three scanners.
# Nothing about the person has changed; everything about the picture has.

# %%
scanners = ["oasis_trio", "oasis_vision", "hail_c"]
cohort = hl.Cohort.simulate(subjects=2, scanners=scanners, spacing=profile.spacing, seed=5, ages=[34, 71])
mask = cohort.mask
looks = {name: subject_percentile(cohort.scans(name), mask) * mask for name in scanners}
show(
    orthogonal(
        {name: look[0, 0].numpy() for name, look in looks.items()},
        window=(0, 1.1),
        title="One simulated person, 34 years, on three scanners",
    ),
    alt="Sagittal, coronal and axial slices of one simulated person on the OASIS Trio, the OASIS Vision and HAIL's site C: "
    "the Trio separates grey and white matter well, the Vision is dim in front and bright behind, site C is flat.",
)

# %% [markdown]
# A radiologist reads all three without trouble.
# A program that measures grey matter, or a network that was trained on the first scanner, does not: it takes the scanner for the person.
#
# **Harmonization** brings scans to one look, the *target domain*, and keeps the person as is.

# %%
inside = mask[0, 0].numpy()
show(
    histograms(
        {name: look[0, 0].numpy()[inside] for name, look in looks.items()},
        span=(-0.2, 1.4),
        xlabel="intensity (1st to 99th percentile = 0 to 1)",
        title="The same brain, three distributions",
    ),
    alt="Intensity histograms of the same brain on three scanners: two clear peaks for grey and white matter on the Trio, "
    "smeared ones on the Vision, one merged hump on HAIL's site C.",
)

# %% [markdown]
# ## 2. A first method
#
# The oldest answer is to bend the intensities until the histogram fits: *histogram matching*.
# Its target histogram comes from the Trio scans of other people, so it is **blind**: it has never seen a Vision scan.

# %%
method = hl.load_method("histogram-matching")
print(f"{method.name} needs: {method.needs}")
source = cohort.scans("oasis_vision")
harmonized = method.harmonize(source, mask=mask)

target = cohort.scans("oasis_trio")
white = float(target[mask].quantile(0.99))
k = source.shape[-1] * 55 // 100
show(
    strip(
        {
            "source: Vision": source[0, 0, ..., k].numpy(),
            "harmonized": harmonized[0, 0, ..., k].numpy(),
            "target: Trio": target[0, 0, ..., k].numpy(),
        },
        window=(0, white),
        title="Simulated; window 0 to the Trio's 99th percentile",
    ),
    alt="Three axial slices: the dark Vision scan, the harmonized one with the Trio's brightness and contrast but still "
    "shaded, and the Trio scan of the same person.",
)

# %% [markdown]
# Move the line, if a kernel is running.
# (The figure above holds the same two images.)

# %% tags=["widget"]
swipe(harmonized[0, 0, ..., k].numpy(), target[0, 0, ..., k].numpy(), window=(0, white))

# %%
show(
    swipe_picture(harmonized[0, 0, ..., k].numpy(), target[0, 0, ..., k].numpy(), 0.5, window=(0, white)),
    alt="One axial slice: the harmonized Vision scan left of a line, the Trio scan right of it; anatomy continues across.",
)

# %% [markdown]
# ## 3. Was it any good?
#
# A number means nothing alone, so this course always prints three more beside it: the untouched *source*; the source after *percentile* scaling, which costs nothing; and the *rescan*, the same person again on the target scanner, which nobody can honestly beat.

# %%
table = summary(hl.report(method, cohort, beside=True))
table.round(3)

# %%
rescan = table.xs("rescan", level="row")["psnr"].iloc[0]
best = table.drop("rescan", level="row")["psnr"].max()
print(f"best row without a rescan {best:.1f} dB, rescan {rescan:.1f} dB")
assert best < rescan

# %%
show(
    difference(
        subject_percentile(harmonized, mask)[0, 0, ..., k].numpy() * inside[..., k],
        looks["oasis_trio"][0, 0, ..., k].numpy(),
        names=("harmonized", "Trio"),
        window=(0, 1.1),
        title="What is left (simulated)",
    ),
    alt="Harmonized slice, Trio slice and their difference on a scale of plus and minus 0.4: the front is too dark and "
    "the back too bright, which a curve through all intensities cannot mend.",
)

# %% [markdown]
# **What to notice.** What is left is mostly *smooth*: the Vision's shading.
# One curve for all voxels cannot know where a voxel lies.
# Most of the methods in this series are attempts to do better without losing the person on the way.
#
# ## 4. The words
#
# | word | meaning here |
# |---|---|
# | target domain | the look that images are brought to |
# | source domain | where an image comes from |
# | scan, subject, cohort | one image, one person, people x scanners |
# | travelling subject | one person on several scanners |
# | reference | the one target image of a one-shot method |
# | harmonized | the result |
# | blind | has seen the target domain only |
# | profile | how big a run is: `quick` for a laptop, `full` for a GPU |
# | variant | which reading of a method: `paper` as printed, `released` as the public code behaves, `ours` |
#
# Harmonizing Flows uses *source* and *target* the other way round; this series keeps one meaning throughout.
#
# ## 5. Five papers, one notation
#
# | here | BlindHarmony | BlindHarmonyDiff | Harmonizing Flows | HAIL | MISPEL |
# |---|---|---|---|---|---|
# | source image | $x_s$ | source domain image | $\mathbf{x}\in\mathcal{X}_{\mathcal T}$ | input $i$ | $X_i^j$ |
# | harmonized image | $x_h$ | harmonized image | $h(\mathbf{x})$ | prediction $p$ | $\bar X_i^j$ |
# | target domain | distribution $p_X$ | target domain | $\mathcal{S}$ | one image $t$ | none: a middle ground |
# | what is learned | flow $f_\theta$, $z=f_\theta(x)$ | velocity, edges to image | flow and harmonizer $h$ | encoder, AdaIN, decoder | $Enc_i$, $Dec_i$, embeddings $Z_{i,l}^j$ |
# | weights of the loss | $\alpha,\beta_1,\beta_2$ | step, number of steps | margin $c$ | $\lambda$ of style, content, consistency | $\lambda_1\ldots\lambda_4$ |
# | what it may see | target only | target only | target only, then the images to harmonize | all sites once, then one reference | paired scans of all scanners |
# | how it is judged | PSNR, SSIM, IoU | PSNR, SSIM, two tasks | Dice, Hausdorff | nWD, rAVD | SSIM, volumes, Dice |
#
# ## 6. The map
#
# The notebooks of one paper share their first digit.
# A paper of section 5 that is not in this list has no notebooks yet.
#
# <!-- notebooks:start -->
# - **The ground:** [00 Start here](00_start_here.ipynb), [01 What a scanner does to a picture](01_scanner_effects.ipynb), [02 Measuring harmonization](02_measuring_harmonization.ipynb), [03 Classical baselines](03_classical_baselines.ipynb).
# - **BlindHarmony:** [10 the prior](10_blindharmony_prior.ipynb), [11 the optimization](11_blindharmony_optimization.ipynb), [12 the evaluation](12_blindharmony_evaluation.ipynb).
# - **Harmonizing Flows:** [20 the guided flow](20_harmonizing_flows_prior.ipynb), [21 adaptation](21_harmonizing_flows_adaptation.ipynb), [22 the evaluation](22_harmonizing_flows_evaluation.ipynb).
# - **BlindHarmonyDiff:** [30 edges and patches](30_edges_and_patches.ipynb), [31 from edges to an image](31_edge_to_image.ipynb), [32 refinement and evaluation](32_refinement_and_evaluation.ipynb).
# - **HAIL:** [40 features and AdaIN](40_hail_features_and_adain.ipynb), [41 harmonize by one reference scan](41_hail_one_shot.ipynb).
# - **MISPEL:** [50 two steps](50_mispel_two_steps.ipynb), [51 does it harmonize?](51_mispel_evaluation.ipynb).
# - **Your own scans:** [70 from a file to the quality page](70_your_own_scans.ipynb).
# <!-- notebooks:end -->
#
# ## 7. What runs where
#
# | place | what to expect |
# |---|---|
# | a laptop | all of it in the `quick` profile; `make lab` opens this page |
# | Binder | the same in a browser; a session ends after some idle minutes, so download what you change |
# | Colab | run the first code cell, which installs the package; a GPU serves the `full` profile |
# | your own GPU | `HARMONY_PROFILE=full` before the notebook starts: more people, 1.2 mm voxels |
#
# And your own scans, on the command line, in the orientation and resolution that they have:
#
# ```sh
# harmony-lite harmonize --method histogram-matching --reference target_T1w.nii.gz mine_T1w.nii.gz out_T1w.nii.gz
# ```

# %%
print("methods:", ", ".join(hl.methods.names()))
print("scanners:", len(hl.simulate.PRESETS))

# %% [markdown]
# ## What to take away
#
# - The person stays, the look changes; whoever improves the look by changing the person has lost.
# - Hold every result against percentile scaling and the rescan.
# - Simulated pictures teach and test; they do not prove.
#
# **Next:** 01, what a scanner does to a picture.

# %% [markdown] tags=["instructor"]
# ## For the instructor
#
# 20 minutes.
# Ask before section 3 whether histogram matching helped; most say yes from the picture.
# Then show the table, and ask which row is missing in the papers that your group reads.

# %% [markdown]
# ## References
#
# - Jeong, Byun, Kang, Lee. *BlindHarmony: "Blind" Harmonization for MR Images via Flow Model.* ICCV 2023.
# - Jeong, Lee, Chun, Lee. *Efficient and robust 3D blind harmonization for large domain gaps* (BlindHarmonyDiff).
# - Beizaee, Desrosiers, Lodygensky, Dolz. *Harmonizing Flows: Unsupervised MR Harmonization Based on Normalizing Flows.*
# - Parida et al. *Harmonization Across Imaging Locations (HAIL): One-Shot Learning for Brain MRI.*
# - Eshaghzadeh Torbati et al. *Multi-Scanner Harmonization of Paired Neuroimaging Data via Structure Preserving Embedding Learning* (MISPEL). ICCV Workshops 2021.
