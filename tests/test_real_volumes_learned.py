"""Every real brain through every blind or one-shot method that is trained, or works on the model's grid."""

import pytest
from real_volumes import BLIND, BRAINS, CURVES, NEEDED, check, harmonized

from harmony_lite.methods import method_class

pytestmark = NEEDED


@pytest.mark.parametrize("method", [name for name in BLIND if name not in CURVES])
@pytest.mark.parametrize("name", BRAINS)
def test_a_method_on_the_models_grid_or_trained(tmp_path, capsys, method, name):
    status, said, out = harmonized(tmp_path, capsys, method, name, BRAINS[name])
    assert status == 0, said.err
    warnings = check(name, out, 0.9)
    if "FLAIR" in name:
        assert any(warning.startswith("contrast") for warning in warnings)


@pytest.mark.parametrize("method", [name for name in BLIND if method_class(name).on_template_grid])
def test_a_whole_head_is_refused_where_a_brain_is_wanted(tmp_path, capsys, method):
    name = "pumi_sub-001/sub-001_T1w.nii.gz"
    status, said, out = harmonized(tmp_path, capsys, method, name, "open_ms_patient26/T1.nii.gz")
    assert status == 2 and said.err.count("\n") == 1 and not out.exists()
    assert "mask: found none, and a whole head" in said.err
