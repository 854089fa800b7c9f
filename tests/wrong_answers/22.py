"""Typical wrong answers of notebook 22: what was tried, and the property that must fail."""

import numpy as np
import torch

# ------------------------------------------------------------------------------------------- 22.1


def one_way(first, second):
    """From the first set to the second only: a false part in the second goes unseen."""
    return float(torch.cdist(first, second).amin(1).mean())


def the_smaller(first, second):
    apart = torch.cdist(first, second)
    return float(torch.minimum(apart.amin(1).mean(), apart.amin(0).mean()))


def hausdorff(first, second):
    """The largest of the nearest distances: Hausdorff's, not the modified one."""
    apart = torch.cdist(first, second)
    return float(torch.maximum(apart.amin(1).amax(), apart.amin(0).amax()))


def all_pairs(first, second):
    """The mean over all pairs: a surface is far from itself."""
    return float(torch.cdist(first, second).mean())


# ------------------------------------------------------------------------------------------- 22.2


def settings_as_people(ours, rival):
    """Every setting of a person counts as another person."""
    return (ours - rival).ravel()


def over_people(ours, rival):
    """One gain for each setting."""
    return (ours - rival).mean(1)


def best_setting(ours, rival):
    return (ours - rival).max(0)


def unpaired(ours, rival):
    """The rival's mean over all people is taken off: who is easier to segment gains more."""
    return ours.mean(0) - rival.mean()


def the_other_way(ours, rival):
    return np.mean(rival - ours, axis=0)


WRONG_ANSWERS = {
    "22.1": [
        (one_way, "a false part counts, whichever comes first"),
        (the_smaller, "a false part counts, whichever comes first"),
        (hausdorff, "it takes means, not the largest"),
        (all_pairs, "a surface is not away from itself"),
    ],
    "22.2": [
        (settings_as_people, "there is one for each person"),
        (over_people, "there is one for each person"),
        (best_setting, "it is the mean over the settings"),
        (unpaired, "how easy a person is does not matter"),
        (the_other_way, "it is the mean over the settings"),
    ],
}
