"""Typical wrong answers of notebook 20: what was tried, and the property that must fail."""

import torch

# ------------------------------------------------------------------------------------------- 20.1


def sees_everything(z, kept, network):
    """The network is shown the values that it moves: no longer invertible."""
    log_scale, shift = network(z)
    log_scale, shift = log_scale * (1 - kept), shift * (1 - kept)
    return z * log_scale.exp() + shift, log_scale.flatten(1).sum(1)


def moves_everything(z, kept, network):
    log_scale, shift = network(z * kept)
    return z * log_scale.exp() + shift, log_scale.flatten(1).sum(1)


def counts_the_kept_too(z, kept, network):
    """Moves the right values, and adds up the scales of all."""
    log_scale, shift = network(z * kept)
    moved = z * (log_scale * (1 - kept)).exp() + shift * (1 - kept)
    return moved, log_scale.flatten(1).sum(1)


def one_number_for_the_batch(z, kept, network):
    log_scale, shift = network(z * kept)
    log_scale, shift = log_scale * (1 - kept), shift * (1 - kept)
    return z * log_scale.exp() + shift, log_scale.sum()


# ------------------------------------------------------------------------------------------- 20.2


def in_bytes(changed, levels):
    """The public code's: bytes wrap around."""
    apart = (levels - changed)[levels > 0].float()
    return apart.mean() + 2 * apart.std(correction=0)


def whole_slice(changed, levels):
    apart = (changed.float() - levels.float()).abs()
    return apart.mean() + 2 * apart.std(correction=0)


def mean_alone(changed, levels):
    return (changed.float() - levels.float()).abs()[levels > 0].mean()


def without_the_sign(changed, levels):
    """Forgets the absolute value."""
    apart = (changed.float() - levels.float())[levels > 0]
    return apart.mean() + 2 * apart.std(correction=0)


# ------------------------------------------------------------------------------------------- 20.3


def trains_the_margin(bits, is_changed, above):
    margin = bits[~is_changed].mean() + above
    return torch.where(is_changed, -torch.minimum(bits, margin), bits).mean()


def without_a_margin(bits, is_changed, above):
    return torch.where(is_changed, -bits, bits).mean()


def pulls_changed_slices_too(bits, is_changed, above):
    """The sign of the guiding term is wrong."""
    margin = bits[~is_changed].mean().detach() + above
    return torch.where(is_changed, torch.minimum(bits, margin), bits).mean()


def margin_of_the_whole_batch(bits, is_changed, above):
    margin = bits.mean().detach() + above
    return torch.where(is_changed, -torch.minimum(bits, margin), bits).mean()


WRONG_ANSWERS = {
    "20.1": [
        (sees_everything, "the others are scaled and shifted"),
        (moves_everything, "kept values stay"),
        (counts_the_kept_too, "the log-determinant is that of autograd"),
        (one_number_for_the_batch, "the log-determinant is that of autograd"),
    ],
    "20.2": [
        (in_bytes, "three levels brighter is three away"),
        (whole_slice, "three levels brighter is three away"),
        (mean_alone, "it is the mean and twice the standard deviation"),
        (without_the_sign, "three levels darker is three away too"),
    ],
    "20.3": [
        (trains_the_margin, "the margin itself is not trained"),
        (without_a_margin, "beyond the margin nothing pushes"),
        (pulls_changed_slices_too, "target's slices get likelier, changed ones less likely"),
        (margin_of_the_whole_batch, "its value"),
    ],
}
