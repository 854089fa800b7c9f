"""Before and after a method: files, checks, normalisation, slices, the receive field, intensity maps."""

from harmony_lite.images import bias_field, checks, intensity_maps, nifti, normalize, slices

__all__ = ["bias_field", "checks", "intensity_maps", "nifti", "normalize", "slices"]
