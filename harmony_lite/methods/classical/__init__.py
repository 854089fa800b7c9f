"""Methods without training, which any learned one has to beat; no paper of the five owns them.

In reading order: standards.py (a standard and a curve: what four of them share), matching.py (percentile, affine,
histogram), nyul.py, white_stripe.py, ssimh.py, n4.py, field_swap.py; then those that work voxel by voxel in template
space: voxelwise.py (what they share), combat_table.py with combat.py, ravel_table.py with ravel.py.
"""

_HERE = "harmony_lite.methods.classical"
METHODS = {
    "affine-match": f"{_HERE}.matching:AffineMatch",
    "combat": f"{_HERE}.combat:ComBat",
    "field-swap": f"{_HERE}.field_swap:FieldSwap",
    "histogram-matching": f"{_HERE}.matching:HistogramMatching",
    "n4": f"{_HERE}.n4:N4",
    "nyul": f"{_HERE}.nyul:Nyul",
    "percentile": f"{_HERE}.matching:Percentile",
    "ravel": f"{_HERE}.ravel:Ravel",
    "ssimh": f"{_HERE}.ssimh:Ssimh",
    "white-stripe": f"{_HERE}.white_stripe:WhiteStripe",
}
