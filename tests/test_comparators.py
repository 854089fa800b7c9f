"""U-Net and CycleGAN, BlindHarmony's comparators: what they learn, whom they see, what they refuse."""

import math

import pytest
import torch

from harmony_lite.cohort import Cohort, Needs
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.methods import load_method
from harmony_lite.methods.trained.cyclegan import (
    RESIDUAL_BLOCKS,
    AdversarialSettings,
    CycleGAN,
    Generator,
    _Players,
    _Residual,
    discriminator,
    two_player_loss,
)
from harmony_lite.methods.trained.domain_networks import slices_of
from harmony_lite.methods.trained.unet import SupervisedSettings, UNetHarmonizer
from harmony_lite.nets.unet import UNet

CLASSES = {
    "unet": lambda: UNetHarmonizer(SupervisedSettings(width=3, training_steps=40, batch=4)),
    "cyclegan": lambda: CycleGAN(AdversarialSettings(width=3, training_steps=4, batch=2)),
}


@pytest.fixture(scope="module")
def cohort():
    """An axial slice has 32 x 48 pixels."""
    people = Cohort.simulate(4, ["oasis_trio"], spacing=(5.0, 4.0, 5.0), seed=3)
    return people.with_maps({"exp": MAPS["exp"], "gamma0.7": MAPS["gamma0.7"]})


@pytest.fixture(scope="module", params=list(CLASSES))
def fitted(request, cohort):
    method = CLASSES[request.param]()
    return method.fit(cohort.view(method.needs), progress=False)


def test_the_unet_is_as_the_supplement_says():
    network = UNet(4)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(network.down) == len(network.up) == 4 and len(convolutions) == 2 * 9 + 1
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules()) == 2 * 9
    network.eval()
    image = torch.rand(1, 1, 40, 48, generator=torch.Generator().manual_seed(0))
    filled = torch.nn.functional.pad(image, (0, 0, 0, 8))  # to a side that can be halved four times
    assert torch.equal(network(image), network(filled)[..., :40, :])


def test_a_far_pixel_reaches_the_output_through_the_deepest_level():
    """The skips alone see a few pixels; 40 pixels away only the bottom of the network does."""
    torch.manual_seed(0)
    network = UNet(8).eval()
    image = torch.rand(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    image.requires_grad_()
    network(image)[0, 0, 48, 48].backward()
    assert float(image.grad[0, 0, 48, 8].abs()) > 0


def test_cyclegan_is_as_the_supplement_says():
    generator, judge = Generator(3), discriminator(3)
    blocks = [m for m in generator.modules() if isinstance(m, _Residual)]
    convolutions = [m for m in generator.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(blocks) == RESIDUAL_BLOCKS == 9 and len(convolutions) == 2 + 2 * 9 + 3
    assert sum(isinstance(m, torch.nn.Conv2d) for m in judge.modules()) == 5
    assert sum(isinstance(m, torch.nn.LeakyReLU) for m in judge.modules()) == 4
    assert sum(isinstance(m, torch.nn.InstanceNorm2d) for m in judge.modules()) == 4
    images = torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(generator(images), images)  # where it begins


def test_each_player_is_pushed_by_its_own_losses_only():
    """Generators by adversarial, cycle and identity losses, judges by their own, as if trained one after the other."""
    torch.manual_seed(0)
    players = _Players(2)
    for generator in (players.to_target, players.to_source):
        torch.nn.init.normal_(generator.change[-1].weight)  # from the identity on, the way back would be nothing
    target, source = torch.rand(2, 2, 1, 32, 32).unbind()
    settings = AdversarialSettings(width=2, cycle=3.0, identity=2.0)
    two_player_loss(players, target, source, settings).backward()
    found = {name: weight.grad.clone() for name, weight in players.named_parameters()}

    def gradient_of(loss, module):
        return torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)

    there, back, judge = players.to_target, players.to_source, players.judge_target
    made = there(source)
    own = ((judge(target) - 1).square().mean() + judge(made.detach()).square().mean()) / 2
    for (name, _), wanted in zip(judge.named_parameters(), gradient_of(own, judge), strict=True):
        assert torch.allclose(found[f"judge_target.{name}"], wanted, atol=1e-6)
    loss = (judge(made) - 1).square().mean() + 3 * (back(made) - source).abs().mean()
    loss = loss + 2 * (there(target) - target).abs().mean() + 3 * (there(back(target)) - target).abs().mean()
    loss = loss + (players.judge_source(back(target)) - 1).square().mean()
    for (name, _), wanted in zip(there.named_parameters(), gradient_of(loss, there), strict=True):
        assert torch.allclose(found[f"to_target.{name}"], wanted, atol=1e-6), name


def test_a_unet_learns_the_map_back(cohort):
    method = UNetHarmonizer(SupervisedSettings(width=6, training_steps=120, batch=8))
    method.fit(cohort.view(Needs.PAIRED), progress=False)
    losses = method.histories["exp"].losses
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])


def test_cyclegan_sees_nobody_twice(cohort):
    view = cohort.view(Needs.UNPAIRED)
    brains = {name: {m.sum().item() for m in scans.mask} for name, scans in view.sources.items()}
    target = {m.sum().item() for m in view.target.mask}
    assert len(target) == 2 and all(len(own) == 2 and not own & target for own in brains.values())


def test_slices_are_those_with_brain(cohort):
    view = cohort.view(Needs.PAIRED)
    slices = slices_of(view.target, "target")
    assert len(slices) == int(view.target.mask.flatten(1, 3).any(1).sum())
    assert float(slices.min()) == 0 and torch.allclose(slices.amax((1, 2, 3)), torch.ones(len(slices)))


def test_volumes_in_and_out(fitted, cohort):
    images, mask = cohort.scans("exp")[:2], cohort.mask[:2]
    found = fitted.harmonize(images, scanner="exp", mask=mask)
    assert found.shape == images.shape and found.dtype == torch.float32 and bool((found[~mask] == 0).all())
    assert torch.allclose(fitted.harmonize(3 * images, scanner="exp", mask=mask), found, rtol=1e-3, atol=1e-2)
    other = fitted.harmonize(images, scanner="gamma0.7", mask=mask)
    assert not torch.allclose(other, found, rtol=0.01)  # each source has a network of its own
    one = torch.zeros_like(mask)
    one[..., 14] = mask[..., 14]
    assert torch.allclose(fitted.harmonize(images, scanner="exp", mask=one)[..., 14], found[..., 14], atol=1e-3)
    assert float(found.max()) <= float(fitted.tops.max()) * (1 + 1e-6)


def test_state_round_trip(fitted, cohort):
    again = CLASSES[fitted.name]().load_state(fitted.state())
    images, mask = cohort.scans("exp")[:1], cohort.mask[:1]
    pair = [m.harmonize(images, scanner="exp", mask=mask) for m in (fitted, again)]
    assert torch.equal(*pair)


def test_foreign_states_are_refused(fitted):
    state = fitted.state()
    with pytest.raises(ValueError, match=f"{fitted.name}: found the tensors"):
        CLASSES[fitted.name]().load_state({name: v for name, v in state.items() if name != "tops"})
    name = next(name for name in state if name.endswith("weight"))
    with pytest.raises(ValueError, match="wanted .* as the settings say"):
        CLASSES[fitted.name]().load_state({**state, name: state[name][:1].repeat(7, *[1] * (state[name].ndim - 1))})


def test_what_cannot_be_harmonized_is_refused(fitted, cohort):
    images, mask = cohort.scans("exp")[:1], cohort.mask[:1]
    with pytest.raises(ValueError, match="scanner: found 'log', wanted one that .* fitted to: exp, gamma0.7"):
        fitted.harmonize(images, scanner="log", mask=mask)
    with pytest.raises(ValueError, match="scanner: found None"):
        fitted.harmonize(images, mask=mask)
    with pytest.raises(ValueError, match="heights, wanted"):
        fitted.harmonize(images[..., 1:], scanner="exp", mask=mask[..., 1:])
    with pytest.raises(ValueError, match="wanted volumes"):
        fitted.harmonize(images[..., 14], scanner="exp", mask=mask[..., 14])
    with pytest.raises(ValueError, match="found no network, wanted `fit` or loaded weights"):
        load_method(fitted.name, fitted=False).harmonize(images, scanner="exp", mask=mask)


def test_an_interrupted_training_goes_on_to_the_same_numbers(cohort, tmp_path, monkeypatch):
    """Stopped in the second source's training, and called again."""
    view, file = cohort.view(Needs.PAIRED), tmp_path / "unet.checkpoint"
    whole = CLASSES["unet"]().fit(view, progress=False)
    drawn, randint = [], torch.randint

    def stops(*arguments, **options):
        if options.get("generator") is not None and len(arguments) == 2:
            drawn.append(1)
            if len(drawn) == 55:
                raise KeyboardInterrupt
        return randint(*arguments, **options)

    monkeypatch.setattr("harmony_lite.methods.trained.unet.torch.randint", stops)
    with pytest.raises(KeyboardInterrupt):
        CLASSES["unet"]().fit(view, progress=False, checkpoint=file)
    monkeypatch.undo()
    resumed = CLASSES["unet"]().fit(view, progress=False, checkpoint=file)
    assert resumed.history.losses == whole.history.losses and len(whole.history.losses) == 80
    assert all(torch.equal(a, b) for a, b in zip(resumed.state().values(), whole.state().values(), strict=True))


def test_pairs_that_do_not_fit_are_refused(cohort):
    view = cohort.view(Needs.PAIRED)
    view.target.mask[..., 14] = False
    with pytest.raises(ValueError, match="pairs: found .* source slices, wanted"):
        CLASSES["unet"]().fit(view, progress=False)


def test_first_steps_are_the_beginning_of_the_recipe(cohort):
    for make in CLASSES.values():
        method = make()
        method.settings = type(method.settings)(**{**vars(method.settings), "training_steps": 4})
        view = cohort.view(method.needs)
        method.fit(view, progress=False)
        wanted = [h.losses[:3] for h in method.histories.values()]
        found = make()
        found.settings = method.settings
        assert math.isclose(found.first_steps(view), sum(map(sum, wanted)) / 6, rel_tol=1e-6)
