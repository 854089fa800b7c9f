"""Style transfer of Liu et al.: stacks of slices, what a style does, who learns from whose loss, shipped weights."""

from dataclasses import replace

import pytest
import torch
from phantoms import SMALL, people, view_for
from torch import nn

from harmony_lite.cohort import Needs
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.measuring import histogram_distances
from harmony_lite.methods import load_method
from harmony_lite.methods.trained.style_transfer import StyleTransfer, StyleTransferSettings, players
from harmony_lite.methods.trained.style_transfer.networks import SIZES, Artist, reader
from harmony_lite.methods.trained.style_transfer.players import Players, learn_to_copy, play, players_loss
from harmony_lite.methods.trained.style_transfer.slices import brain_stacks, neighbours, unstacked
from harmony_lite.splits import people as split

SETTINGS = StyleTransferSettings(**SMALL[StyleTransferSettings])


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def test_each_slice_is_the_mean_of_its_three_appearances():
    volume = torch.rand(2, 1, 4, 6, 5, generator=chance())
    stacks = neighbours(volume)
    assert stacks.shape == (2, 5, 3, 4, 6)
    assert torch.equal(stacks[1, 2], volume[1, 0, ..., 1:4].movedim(-1, 0))
    for one, wanted in zip(stacks, volume, strict=True):
        assert torch.allclose(unstacked(one)[0], wanted)
    marked = torch.zeros(5, 3, 1, 1)
    marked[2, 2] = 3.0  # slice 3, as the stack of slice 2 shows it
    assert unstacked(marked).flatten().tolist() == [0, 0, 0, 1, 0]


def test_stacks_are_of_slices_with_brain_and_filled_up():
    images, mask = people(2, size=(7, 9, 6))
    mask[..., 0] = False
    stacks = brain_stacks(images, mask, 4)
    assert stacks.shape == (int(mask[:, 0].any((1, 2)).sum()), 3, 8, 12)
    assert not stacks[0, 0].any()  # below the first slice with brain there is none


@pytest.mark.parametrize(("halvings", "deepest"), [(1, 4), (3, 16), (5, 16)])
def test_a_generator_has_as_many_halvings_as_asked_and_at_most_eight_times_the_channels(halvings, deepest):
    generator = Artist(replace(SETTINGS, halvings=halvings)).generator
    side = 2**halvings
    assert generator.down(generator.first(torch.rand(1, 3, side, 2 * side))).shape == (1, deepest, 1, 2)
    assert generator(torch.rand(2, 3, side, 2 * side), torch.rand(2, 3)).shape == (2, 3, side, 2 * side)


def test_a_style_is_gain_and_offset_of_what_is_normalized():
    """AdaIN's moments: a channel's mean is its offset and its deviation the gain, whatever came in."""
    torch.manual_seed(0)
    layer = Artist(SETTINGS).generator.up[0].normalize[0]
    style, x = torch.rand(2, 3), 5 + 3 * torch.rand(2, 4, 8, 8)
    gain, offset = layer.from_style(style).chunk(2, 1)
    found = layer(x, style)
    torch.testing.assert_close(found.mean((2, 3)), offset, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.std((2, 3), correction=0), (1 + gain).abs(), rtol=1e-3, atol=1e-4)


def test_copying_learns_to_draw_slices_in_their_own_style():
    torch.manual_seed(0)
    settings = replace(SETTINGS, width=4, style=4, batch=8, copying_steps=150, copying_rate=1e-2)
    artist = Artist(settings)
    shape = nn.functional.interpolate(torch.rand(40, 3, 2, 2, generator=chance()), size=(8, 8), mode="bilinear")
    data = shape * (0.4 + torch.rand(40, 1, 1, 1, generator=chance(1)))
    history = learn_to_copy(artist, data, settings, chance(), None, False)
    assert sum(history.losses[-10:]) < sum(history.losses[:10]) / 2
    with torch.no_grad():
        assert float((artist.copy(data) - data).abs().mean()) < float((data - data.mean()).abs().mean()) / 2


def test_the_reference_says_the_style_and_the_units():
    settings = replace(SETTINGS, width=4, style=4, batch=4, copying_steps=30, copying_rate=1e-2)
    torch.manual_seed(0)
    view = view_for(Needs.UNPAIRED, count=1)  # nobody is held out: the last weights stay
    method = StyleTransfer(settings).fit(view, progress=False)
    images, mask = people(1)
    own = view.target.images[:1]
    assert torch.equal(method.harmonize(images, reference=own, mask=mask), method.harmonize(images, mask=mask))
    tenfold = method.harmonize(images, reference=10 * own, mask=mask)
    torch.testing.assert_close(tenfold, 10 * method.harmonize(images, mask=mask), rtol=1e-3, atol=1e-2)
    noisy = own * (1 + torch.rand(own.shape, generator=chance()))
    assert not torch.allclose(method.to_reference(noisy)._style, method._style, atol=1e-4)


def test_both_parts_are_trained_one_after_the_other_and_copying_can_be_left_out():
    view = view_for(Needs.UNPAIRED)
    method = StyleTransfer(SETTINGS).fit(view, progress=False)
    assert {name: len(h.losses) for name, h in method.histories.items()} == {"copying": 8, "players": 8}
    assert method.histories["players"].validations
    printed = StyleTransfer(replace(SETTINGS, copying_steps=0)).fit(view, progress=False)
    assert list(printed.histories) == ["players"]
    assert SIZES["full"] == StyleTransferSettings() and SIZES["full"].copying_steps == 0


def test_what_is_kept_is_the_average_of_the_weights():
    torch.manual_seed(0)
    artist, data = Artist(SETTINGS), torch.rand(6, 3, 8, 8, generator=chance())
    first = artist.generator.last.weight.detach().clone()
    average, _ = play(artist, data, [], SETTINGS, chance(), None, False)
    kept, last = (one.generator.last.weight.detach() for one in (average, artist))
    assert not torch.equal(kept, first) and not torch.equal(kept, last)
    assert float((kept - first).norm()) < float((last - first).norm())  # it lags behind


def test_the_judges_gradient_is_penalized_at_real_slices():
    """A judge that is a weighted sum has the same gradient everywhere: the weights."""
    judge = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    real, made = torch.rand(2, 5, 3, 2, 2, generator=chance())
    without, with_it = (players._judged(judge, real, made, gradient) for gradient in (0.0, 3.0))
    wanted = 1.5 * judge[1].weight.square().sum()
    torch.testing.assert_close(with_it - without, wanted)


def test_each_player_learns_from_its_own_loss_alone():
    """Each player's weights get the gradient of one loss: the judge's none of the cycle's, the artist's none of R1."""
    only_players = dict(cycle=0.0, style_weight=0.0, diversity=0.0, gradient=0.0)
    settings = replace(SETTINGS, **only_players)
    torch.manual_seed(0)
    both = Players(Artist(settings), reader(settings, 1), settings.decay)
    artist, judge = both.artist.network, both.judge
    slices, others = torch.rand(2, 4, 3, 8, 8, generator=chance())

    def gradients(settings):
        both.zero_grad()
        players_loss(both, slices, others, settings, chance(1)).backward()
        return {name: w.grad.clone() for name, w in both.named_parameters() if w.grad is not None}

    found = gradients(settings)
    with_cycle = gradients(replace(settings, cycle=7.0))
    with_gradient = gradients(replace(settings, gradient=7.0))
    for name, gradient in found.items():
        same = (with_cycle if name.startswith("judge") else with_gradient)[name]
        torch.testing.assert_close(gradient, same, msg=name)

    latent = torch.randn(2, 4, settings.latent, generator=chance(1))[0]
    style = torch.cat([artist.mapping(latent[:2]), artist.encoder(others[2:])])
    made = artist.generator(slices, style)
    softplus = nn.functional.softplus
    judge.zero_grad()
    (softplus(-judge(slices)).mean() + softplus(judge(made.detach())).mean()).backward()
    for name, weight in judge.named_parameters():
        torch.testing.assert_close(weight.grad, found[f"judge.{name}"], rtol=1e-4, atol=1e-6)
    artist.zero_grad()
    softplus(-judge(made)).mean().backward()
    for name, weight in artist.named_parameters():
        torch.testing.assert_close(weight.grad, found[f"artist.network.{name}"], rtol=1e-4, atol=1e-6)


def test_diversity_counts_less_as_the_training_goes_on():
    settings = replace(SETTINGS, cycle=0.0, style_weight=0.0, diversity=5.0, gradient=0.0, training_steps=10)
    torch.manual_seed(0)
    both = Players(Artist(settings), reader(settings, 1), settings.decay)
    slices, others = torch.rand(2, 4, 3, 8, 8, generator=chance())

    def loss(settings, step):
        both.artist.steps.fill_(step)
        return float(players_loss(both, slices, others, settings, chance(1)).detach())

    without = replace(settings, diversity=0.0)
    shares = [loss(without, step) - loss(settings, step) for step in (0, 5, 10, 20)]
    assert shares[0] > 0 and shares[1] == pytest.approx(shares[0] / 2, rel=1e-3)
    assert shares[2] == pytest.approx(0, abs=1e-6) == shares[3]


def test_sites_on_different_grids_are_refused():
    view = view_for(Needs.UNPAIRED)
    name, scans = next(iter(view.sources.items()))
    view.sources[name] = type(scans)(scans.images[:, :, 2:], scans.mask[:, :, 2:])
    with pytest.raises(ValueError, match="sites on different grids"):
        StyleTransfer(SETTINGS).fit(view, progress=False)


def test_shipped_weights_keep_the_brain_and_go_the_reference_s_way():
    """On a validation person: the anatomy stays, and the histogram comes nearer to a site's that differs clearly."""
    training, validation, _ = split(("hail_a", "hail_c"))
    person, reference = validation.subset([0]), training.subset([0]).scans("hail_c")
    scan, mask = person.scans("hail_a"), person.mask
    found = load_method("style-transfer").harmonize(scan, reference=reference, mask=mask)
    assert float(metrics.ncc(found, scan, mask)) > 0.95
    distances = histogram_distances(scan, found, reference, mask)
    assert distances["nWD(t,p)"] < 95 and distances["nWD(i,p)"] > 10
