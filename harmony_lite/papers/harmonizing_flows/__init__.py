"""Harmonizing Flows: a flow of the target domain guides a harmonizer.

F. Beizaee, C. Desrosiers, G. A. Lodygensky, J. Dolz, "Harmonizing Flows: Unsupervised MR Harmonization Based on
Normalizing Flows", 2023. Its "source" is the target domain of this package, and its "target" a source.

In reading order:

- layers.py: ConcatELU, normalization of channels, U-shaped networks;
- flow.py: variational dequantization and affine couplings, Equations 1 to 3;
- augmentation.py: f_aug, slices with another look;
- guiding.py: Equation 4;
- network.py: h(x) = alpha x + beta;
- adaptation.py: Equation 6, and when to stop;
- settings.py: what is printed, the variants, sizes per profile;
- training.py: both trainings on the target, Equations 4 and 5;
- harmonizer.py: all of it as a method;
- judges.py: S_Phi, the network that judges, and the comparators that change it;
- recipe.py: whom the networks of the four settings are trained on;
- sites.py: what is adapted to one site;
- experiment.py: Tables 1 to 4; published.toml: what the paper prints, claims and numbers; results.PROFILE.json: what
  came out here.
"""

METHODS = {"harmonizing-flows": "harmony_lite.papers.harmonizing_flows.harmonizer:HarmonizingFlows"}
