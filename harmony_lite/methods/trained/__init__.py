"""Trained comparators that several papers share: they see the source domain while they are trained.

In reading order: domain_networks.py (a network for each source domain), unet.py (on pairs), cyclegan.py (unpaired),
deepharmony.py (volumes, on pairs), paired_cyclegan.py (slices, on pairs; no weights are shipped yet, so it has no name
among the methods).
"""

METHODS = {
    "cyclegan": "harmony_lite.methods.trained.cyclegan:CycleGAN",
    "deepharmony": "harmony_lite.methods.trained.deepharmony:DeepHarmony",
    "unet": "harmony_lite.methods.trained.unet:UNetHarmonizer",
}
