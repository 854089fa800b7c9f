"""BlindHarmony: a flow learns what target slices look like, and a loop brings any source slice there.

H. Jeong, H. Byun, D. U. Kang, J. Lee, "BlindHarmony: 'Blind' Harmonization for MR Images via Flow Model", ICCV 2023.

In reading order:

- prior.py: the flow and its training, Equations 5 to 8;
- optimization.py: the distances of Equations 1 to 4, their gradients, and Algorithm 1 with Equations 9 to 13;
- harmonizer.py: both as a method;
- ncc_ascent.py: the loop without its flow, on whole volumes: what the flow has to beat;
- experiment.py: Tables 1 to 4 and the supplement's Table 3; recipe.py: whom the comparators and the judge are
  trained on (the prior: on the target's training people, as any method without a recipe);
- exercises_10.py to exercises_12.py: of the notebooks; published.toml: what the paper prints, claims and numbers;
  results.PROFILE.json: what came out here.

Its comparators U-Net and CycleGAN are in `harmony_lite.methods.trained`.
"""

METHODS = {
    "blindharmony": "harmony_lite.papers.blindharmony.harmonizer:BlindHarmony",
    "ncc-ascent": "harmony_lite.papers.blindharmony.ncc_ascent:NccAscent",
}
