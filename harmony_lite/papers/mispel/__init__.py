"""MISPEL: embeddings that hold the anatomy, decoders that agree on a look.

M. Eshaghzadeh Torbati, D. L. Tudorascu, D. S. Minhas, P. Maillard, C. S. DeCarli, S. J. Hwang, "Multi-scanner
Harmonization of Paired Neuroimaging Data via Structure Preserving Embedding Learning", ICCV Workshops 2021.

In reading order:

- settings.py: what is printed, and three readings of it;
- networks.py: encoders and decoders, Equation 1 and Figure 2; losses.py: Equations 2 to 6;
- steps.py: both steps of Algorithm 1 by gradient; decoder_optimum.py: the second without a step;
- harmonizer.py: all of it as a method; tone_curve.py: a control that the paper lacks;
- experiment.py: Tables 2 and 3, Figures 3, 5 and 6; recipe.py: whom the networks are trained on;
- exercises_50.py and exercises_51.py: of the notebooks; published.toml: what the paper prints, claims and numbers;
  results.PROFILE.json: what came out here, sweeps.PROFILE.json: what it depends on.
"""

METHODS = {
    "mispel": "harmony_lite.papers.mispel.harmonizer:Mispel",
    "tone-curve": "harmony_lite.papers.mispel.tone_curve:ToneCurve",
}
