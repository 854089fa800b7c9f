"""Building blocks that two methods share: the spline, and the flow that is made of it."""

from harmony_lite.nets import flows, spline

__all__ = ["flows", "spline"]
