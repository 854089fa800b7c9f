"""What a scan of 512 x 512 x 512 voxels costs by each classical method: time, and peak memory of the whole command.

Without the clock (`--benchmark-disable`), a scan of 96 x 96 x 96, which says that the bench runs.
"""

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from harmony_lite.methods import method_class, names
from harmony_lite.methods.own_grid import model_grid

MOST_GB = 6.0
ON_MODEL_GRID = [name for name in names() if method_class(name).on_template_grid and not method_class(name).is_trained]
CURVES = ["affine-match", "histogram-matching", "n4", "nyul", "percentile", "ssimh", "white-stripe"]
MEASURED = """
import resource, sys
from harmony_lite import cli
status = cli.main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
sys.exit(status)
"""


@pytest.fixture(scope="module")
def scan(request, tmp_path_factory):
    """A simulated brain, each voxel divided and noise added, in whole numbers of two bytes."""
    from harmony_lite.cohort import Cohort

    shape, affine = model_grid()
    side = 96 if request.config.getoption("benchmark_disable") else 512
    cohort = Cohort.simulate(1, ["oasis_vision"], spacing=2.0, seed=4)
    small = cohort.scans("oasis_vision")[0, 0].numpy()
    axes = [np.arange(side) * size // side for size in shape]
    large = small[np.ix_(*axes)]
    rng = np.random.default_rng(0)
    for slab in large:
        slab[slab > 0] += rng.normal(0, 8, int((slab > 0).sum())).round()
    path = tmp_path_factory.mktemp("large") / "scan.nii"
    scale = np.diag([size / side for size in shape] + [1.0])
    nib.save(nib.Nifti1Image(large.astype(np.int16), affine @ scale), path)
    return path


@pytest.mark.parametrize("method", [*CURVES, *ON_MODEL_GRID])
def test_memory_of_a_large_scan(benchmark, scan, tmp_path, method):
    # a swap of frequencies wants a target on the scan's grid; the others go by their shipped standards
    reference = ["--reference", str(scan)] if method == "ssimh" else []
    call = ["harmonize", "--method", method, *reference, str(scan), str(tmp_path / "out.nii")]

    def run():
        return subprocess.run([sys.executable, "-c", MEASURED, *call], capture_output=True, text=True)

    done = benchmark.pedantic(run, rounds=1)
    assert done.returncode == 0, done.stderr
    peak = float(done.stdout.rsplit("peak", 1)[1])
    benchmark.extra_info["peak"] = f"{peak:.2f} GB"
    print(f"\n{method}: {peak:.2f} GB at its peak")
    assert peak < MOST_GB
