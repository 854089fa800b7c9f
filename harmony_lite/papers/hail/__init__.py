"""HAIL: one-shot harmonization to a site seen once, by adaptive instance normalization (AdaIN).

A. Parida, Z. Jiang, S. M. Anwar, N. Foreman, N. Stence, M. J. Fisher, R. J. Packer, R. A. Avery, M. G. Linguraru,
"Harmonization Across Imaging Locations (HAIL): One-Shot Learning for Brain MRI", 2023.

In reading order:

- settings.py: what is printed, what is left open, four readings of it;
- networks.py: encoder and decoder, Figures 3 and 4; adain.py: a style, and how features take on another;
- losses.py: reconstruction, content, style, consistency; phases.py: both phases of the training, Figure 1;
- parts.py: volumes larger than memory; harmonizer.py: all of it as a method;
- experiment.py: Table 2; published.toml: what the paper prints, claims and numbers; results.PROFILE.json: what came out
  here.
"""

METHODS = {"hail": "harmony_lite.papers.hail.harmonizer:Hail"}
