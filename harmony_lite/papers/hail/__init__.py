"""HAIL: one-shot harmonization to a site seen once, by AdaIN. So far its comparators' rows only.

A. Parida, Z. Jiang, S. M. Anwar, and others, "Harmonization Across Imaging Locations (HAIL): One-Shot Learning for
Brain MRI", 2023.

experiment.py: Table 2; published.toml: what the paper prints, claims and numbers; results.PROFILE.json: what came out
here.
"""
