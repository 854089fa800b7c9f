"""BlindHarmonyDiff: edges of a scan, and a 3D rectified flow that makes an image of the target's from them.

H. Jeong, H. Lee, S. Y. Chun, J. Lee, "Efficient and robust 3D blind harmonization for large domain gaps", 2025.

In reading order; the edges, Equations 1 and 2, are in `harmony_lite.images.edges`:

- layers.py: residual blocks that know the time, halving and doubling, attention;
- network.py: the velocity, for volumes and for slices;
- patches.py: multi-stride patches and their coordinates;
- settings.py: what is printed, the variants, sizes per profile;
- flow.py: Equations 3, 5 and 6, the training;
- sampler.py: from noise to an image;
- refinement.py: towards the source, by correlation or by mutual information;
- harmonizer.py: all of it as a method, Equation 4;
- recipe.py: on which people the shipped weights were trained, the comparators' and the judges' too;
- experiment.py: Tables 1 to 4, S2 and S3, Figures 6 and 7; published.toml: what the paper prints, claims and numbers;
  results.PROFILE.json and sweeps.PROFILE.json: what came out here.
"""

METHODS = {"blindharmonydiff": "harmony_lite.papers.blindharmonydiff.harmonizer:BlindHarmonyDiff"}
