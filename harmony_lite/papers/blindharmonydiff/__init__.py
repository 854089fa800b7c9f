"""BlindHarmonyDiff: a 3D rectified flow makes target images from edges. So far its comparators' rows only.

H. Jeong, H. Lee, S. Y. Chun, J. Lee, "Efficient and robust 3D blind harmonization for large domain gaps", 2025.

experiment.py: Tables 1, 2 and S2; published.toml: what the paper prints, claims and numbers; results.PROFILE.json: what
came out here.
"""
