"""What the command line says of itself: the texts of `harmony-lite --help` and of each command."""

from __future__ import annotations

DESCRIPTION = """\
Bring brain MRI scans of different scanners to one look.

  simulate    make people and scans to try things on, with the truth known
  methods     list the methods
  train       fit a method to a folder of your own scans
  harmonize   bring a scan, or a folder of scans, to the target's look
  evaluate    compare two scans of one person on one grid
  ledger      what five papers claim, and what comes out here
"""
EXAMPLES = """\
first steps:
  harmony-lite simulate people --subjects 2 --scanners oasis_trio,oasis_vision
  harmony-lite harmonize --method histogram-matching --reference target_T1w.nii.gz mine_T1w.nii.gz out_T1w.nii.gz
  harmony-lite evaluate out_T1w.nii.gz reference_T1w.nii.gz

harmony-lite COMMAND --help explains each command.
"""
SIMULATE = """\
Simulate people and scan each of them on each scanner.

OUT is a new folder in the form of BIDS, which Cohort.from_files and `harmonize` read:
  OUT/sub-001/ses-oasistrio/anat/sub-001_ses-oasistrio_T1w.nii.gz   a scan; session = scanner without underscores
  OUT/sub-001/anat/sub-001_desc-brain_mask.nii.gz                   the brain
  OUT/sub-001/anat/sub-001_dseg.nii.gz                              labels; lesions and tissue fractions beside
  OUT/participants.tsv                                              age in years, volumes in ml
"""
SIMULATE_EXAMPLES = """\
example:
  harmony-lite simulate people --subjects 2 --scanners oasis_trio,oasis_vision --spacing 2 --seed 0
"""
TRAIN = """\
Fit a method to scans of your own.

FOLDER is in the form of BIDS, as `simulate` writes it: sub-*/ses-SCANNER/anat/*_T1w.nii.gz, a mask beside it as
*_desc-brain_mask.nii.gz or in sub-*/anat. What the method needs has to be there (`harmony-lite methods`). A method
for paired scans, or for several scanners of the same people, wants the same people on every scanner, at least two,
registered to each other on one grid and skull-stripped or with masks. What works on the model's grid is applied
afterwards to scans that lie where those of the training did.

The weights are kept as your own and come before the shipped ones in the next `harmonize` by the same method and
variant; with --out they go to a file of their own, which `harmonize --weights` takes. One person in five, and one of
three or four, is held out and measured afterwards, where the method treats scanners alike. An interrupted training goes
on when it is called again.
"""
TRAIN_EXAMPLES = """\
example:
  harmony-lite simulate people --subjects 6 --scanners mispel_ge,mispel_trio
  harmony-lite train mispel --cohort people --out own.safetensors
  harmony-lite harmonize --method mispel --weights own.safetensors --scanner mispel_ge \\
    people/sub-006/ses-mispelge/anat/sub-006_ses-mispelge_T1w.nii.gz out_T1w.nii.gz
"""
HARMONIZE = """\
Bring a scan to the target's look.

INPUT is one NIfTI file (.nii, .nii.gz) and OUTPUT the file to write; or INPUT is a folder, and every scan below it is
written below the folder OUTPUT. The result is float32 and has the shape, affine, orientation and header of its input.
Beside each result lies a JSON that says how it was made, and what was odd. Nothing is left half written.

In a folder whose files have names in the form of BIDS, the scans are sub-*_T1w.nii.gz (--suffix chooses another kind);
else every NIfTI file is one. Masks and labels, sourcedata, derivatives and earlier results are left out; to harmonize
those, name their folder as INPUT. A brain mask beside a scan (*_desc-brain_mask.nii.gz, NAME_mask.nii.gz) is taken. The
results are a BIDS derivative: *_desc-METHOD_T1w.nii.gz. A bad scan, or a process that is killed, stops no other. Run it
again, and it does only what is missing or was made in another way. --report writes a page with what changed most first.

A method that works on the model's grid (`harmony-lite methods` says which) keeps the resolution of a scan on another
grid: the brain is aligned to the template and harmonized on the model's grid, and the smooth change is
applied to the scan's own voxels. That wants a skull-stripped scan or --mask, and takes some 20 seconds. Such a method
gives 0 outside the brain; a curve, such as histogram-matching, goes on outside, so that a skull stays.

With --reference, the target is that one scan. Without it, the target is the one that the shipped standards and weights
were made from. Compare like with like: a skull-stripped scan wants a skull-stripped reference, a whole head another one
(or masks for both). Two of different kinds are refused.
"""
HARMONIZE_EXAMPLES = """\
examples:
  harmony-lite harmonize --method affine-match --reference target.nii.gz scan.nii.gz harmonized.nii.gz
  harmony-lite harmonize --method histogram-matching --variant slice --mask brain.nii.gz scan.nii.gz harmonized.nii.gz
  harmony-lite harmonize --method percentile --reference target.nii.gz --jobs 4 --report page.html scans/ harmonized/
  harmony-lite harmonize --method blindharmony --scheduler tcp://host:8786 bids/ bids/derivatives/blindharmony/
"""
EVALUATE = """\
Compare a scan with a reference scan of the same person on the same grid.

Both are scaled by the reference's 1st and 99th percentile inside the mask; then, inside the mask:
  psnr          dB, peak = the distance of the two percentiles; higher is closer
  ssim          structural similarity in 3D, at most 1
  ncc           correlation, at most 1; blind to gain and offset
  wasserstein   distance of the two histograms, 0 where they are equal
"""
EVALUATE_EXAMPLES = """\
examples:
  harmony-lite evaluate harmonized.nii.gz target.nii.gz --mask brain.nii.gz
  harmony-lite evaluate harmonized.nii.gz target.nii.gz --json
"""
