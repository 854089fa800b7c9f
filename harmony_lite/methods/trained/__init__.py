"""Trained comparators that several papers share: they see the source domain while they are trained.

In reading order: domain_networks.py (a network for each source domain), unet.py (on pairs), cyclegan.py (unpaired),
deepharmony.py (volumes, on pairs), paired_cyclegan.py (slices, on pairs), style_transfer (all sites as one domain).
"""

METHODS = {
    "cyclegan": "harmony_lite.methods.trained.cyclegan:CycleGAN",
    "deepharmony": "harmony_lite.methods.trained.deepharmony:DeepHarmony",
    "paired-cyclegan": "harmony_lite.methods.trained.paired_cyclegan:PairedCycleGAN",
    "style-transfer": "harmony_lite.methods.trained.style_transfer:StyleTransfer",
    "unet": "harmony_lite.methods.trained.unet:UNetHarmonizer",
}
