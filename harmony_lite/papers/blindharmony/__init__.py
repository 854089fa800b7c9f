"""BlindHarmony: a flow learns what target slices look like, and a loop brings any source slice there.

H. Jeong, H. Byun, D. U. Kang, J. Lee, "BlindHarmony: 'Blind' Harmonization for MR Images via Flow Model", ICCV 2023.

In reading order:

- prior.py: the flow and its training, Equations 5 to 8;
- optimization.py: the distances of Equations 1 to 3, their gradients, and Algorithm 1 with Equations 12 and 13;
- harmonizer.py: both as a method;
- ncc_ascent.py: the loop with its flow left out, which any claim for the flow is held against;
- experiment.py: Tables 1 to 4 and the supplement's Table 3; recipe.py: whom the networks are trained on;
- exercises_10.py to exercises_12.py: of the notebooks; published.toml: what the paper prints, claims and numbers;
  results.PROFILE.json: what came out here.

Its comparators U-Net and CycleGAN are in `harmony_lite.methods.trained`.
"""

METHODS = {
    "blindharmony": "harmony_lite.papers.blindharmony.harmonizer:BlindHarmony",
    "ncc-ascent": "harmony_lite.papers.blindharmony.ncc_ascent:NccAscent",
}
