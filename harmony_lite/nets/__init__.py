"""Building blocks that two methods share: the spline, the flow that is made of it, the U-Net, what trainings draw."""

from harmony_lite.nets import draws, flows, spline, unet

__all__ = ["draws", "flows", "spline", "unet"]
