"""Style transfer of Liu et al. (2021): a comparator of HAIL and of Harmonizing Flows. All sites are one domain.

Source: M. Liu, P. Maiti, S. Thomopoulos, A. Zhu, Y. Chai, H. Kim, N. Jahanshad, "Style transfer using generative
adversarial networks for multi-site MRI harmonization", MICCAI 2021: StarGAN v2 (Y. Choi, Y. Uh, J. Yoo, J.-W. Ha,
CVPR 2020) with one domain. A generator draws a scan's anatomy in the style that an encoder reads from another scan.

In reading order: networks.py (settings, layers, networks), slices.py (three neighbours as three channels, and back),
players.py (copying first, then the two players' losses), harmonizer.py.
"""

from harmony_lite.methods.trained.style_transfer.harmonizer import StyleTransfer
from harmony_lite.methods.trained.style_transfer.networks import StyleTransferSettings

__all__ = ["StyleTransfer", "StyleTransferSettings"]
