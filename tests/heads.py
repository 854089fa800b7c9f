"""Whole heads and bare brains to try the command line on: ellipsoids of brain, dark skull and bright scalp."""

import nibabel as nib
import numpy as np

SHAPE = (60, 72, 60)
AFFINE = np.array([[2.6, 0, 0, -78], [0, 2.6, 0, -94], [0, 0, 2.6, -78], [0, 0, 0, 1.0]])
BRAIN, SKULL, SCALP = 0.6, 0.67, 0.75  # where each ends, as a share of the half axes


def radius(shape=SHAPE):
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    return np.sqrt(sum(axis**2 for axis in axes)), axes[0]


def bare_brain(gain=1.0, seed=0, shape=SHAPE):
    """CSF, grey and white matter with noise, exactly 0 around; and the brain, bool."""
    r, x = radius(shape)
    rng = np.random.default_rng(seed)
    tissue = np.where(r < 0.38, 170.0, np.where(r < 0.53, 110.0, 50.0)) * (1 + 0.1 * x) + rng.normal(0, 4, shape)
    return np.where(r < BRAIN, gain * tissue.clip(1), 0.0), r < BRAIN


def whole_head(gain=1.0, seed=0, noise=3.0, shape=SHAPE):
    """A brain in its skull and scalp, in Rician air; and the brain, bool."""
    brain, inside = bare_brain(gain, seed, shape)
    r, _ = radius(shape)
    rng = np.random.default_rng(seed + 100)
    scalp = gain * rng.normal(210, 12, shape)
    head = np.where(inside, brain, np.where(r < SKULL, 12 * gain, np.where(r < SCALP, scalp, 0.0)))
    real, imaginary = noise * gain * rng.normal(size=(2, *shape))
    return np.hypot(head + real, imaginary), inside


def save(path, data, affine=AFFINE, dtype=np.float32):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.asarray(data).astype(dtype), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def values(path):
    return np.asarray(nib.load(path).dataobj).astype(float)
