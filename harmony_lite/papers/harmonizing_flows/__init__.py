"""Harmonizing Flows: a flow of the target domain guides a harmonizer. So far its comparators' rows only.

F. Beizaee, C. Desrosiers, G. A. Lodygensky, J. Dolz, "Harmonizing Flows: Unsupervised MR Harmonization Based on
Normalizing Flows", 2023.

experiment.py: Tables 1 and 4; published.toml: what the paper prints, claims and numbers; results.PROFILE.json: what
came out here.
"""
