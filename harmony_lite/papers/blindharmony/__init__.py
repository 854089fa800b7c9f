"""BlindHarmony: a flow learns what target slices look like, and a loop brings any source slice there.

H. Jeong, H. Byun, D. U. Kang, J. Lee, "BlindHarmony: 'Blind' Harmonization for MR Images via Flow Model", ICCV 2023.

In reading order:

- prior.py: the flow's training, Equations 6 to 9 (Equation 5, the flow itself, is `harmony_lite.nets.flows`);
- optimization.py: the distances of Equations 1 to 3 and their gradients, Equations 12 and 13, and Algorithm 1;
  Equations 4, 10 and 11 are steps of the derivation, which notebook 11 explains and no function computes;
- harmonizer.py: both as a method;
- ncc_ascent.py: the loop without its flow, on whole volumes: what the flow has to beat;
- experiment.py: Tables 1 to 4 and the supplement's Table 3;
- recipe.py: on which people the prior, the comparators and the judge are trained; the judge is the white-matter U-Net
  that scores Table 3;
- exercises_10.py to exercises_12.py: of the notebooks; published.toml: what the paper prints, claims and numbers;
  results.PROFILE.json: what came out here.

Its comparators U-Net and CycleGAN are in `harmony_lite.methods.trained`.
"""

METHODS = {
    "blindharmony": "harmony_lite.papers.blindharmony.harmonizer:BlindHarmony",
    "ncc-ascent": "harmony_lite.papers.blindharmony.ncc_ascent:NccAscent",
}
