"""U-Net, CycleGAN and DeepHarmony, trained comparators: what they learn, whom they see, what they refuse."""

import math

import pytest
import torch
from phantoms import fit, small, view_for
from torch.nn import BatchNorm3d, Conv3d, ConvTranspose3d

from harmony_lite.cohort import Cohort, Needs
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.images.normalize import slice_minmax
from harmony_lite.images.slices import brain_slices
from harmony_lite.methods.trained.cyclegan import (
    RESIDUAL_BLOCKS,
    AdversarialSettings,
    Generator,
    discriminator,
    two_player_loss,
)
from harmony_lite.methods.trained.deepharmony import DeepHarmony, VolumeSettings, VolumeUNet, mirrored_crops
from harmony_lite.methods.trained.paired_cyclegan import PairedCycleGAN
from harmony_lite.methods.trained.unet import SupervisedSettings, UNetHarmonizer
from harmony_lite.nets.unet import UNet


@pytest.fixture(scope="module")
def cohort():
    """An axial slice has 32 x 48 pixels."""
    people = Cohort.simulate(4, ["oasis_trio"], spacing=(5.0, 4.0, 5.0), seed=3)
    return people.with_maps({"exp": MAPS["exp"], "gamma0.7": MAPS["gamma0.7"]})


@pytest.fixture(scope="module", params=["unet", "cyclegan"])
def fitted(request):
    return fit(small(request.param))


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


def test_cyclegan_is_as_the_supplement_says_but_for_one_normalization():
    generator, judge = Generator(3), discriminator(3)
    convolutions = [m for m in generator.modules() if isinstance(m, torch.nn.Conv2d)]
    blocks = [part for part in generator.change if sum(isinstance(m, torch.nn.Conv2d) for m in part.modules()) == 2]
    assert len(blocks) == RESIDUAL_BLOCKS == 9 and len(convolutions) == 2 + 2 * 9 + 3
    assert sum(isinstance(m, torch.nn.Conv2d) for m in judge.modules()) == 5
    assert sum(isinstance(m, torch.nn.LeakyReLU) for m in judge.modules()) == 4
    assert sum(isinstance(m, torch.nn.InstanceNorm2d) for m in judge.modules()) == 3  # the supplement: 4
    assert not isinstance(judge[1], torch.nn.InstanceNorm2d)  # the discriminator sees brightness and contrast
    images = torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(generator(images), images)  # where it begins
    features = torch.rand(2, 6, 8, 10, generator=torch.Generator().manual_seed(0))
    for block in blocks:
        assert not torch.allclose(block(features), features)
        for weight in block.parameters():
            torch.nn.init.zeros_(weight)
        assert torch.equal(block(features), features), "a residual block adds to what comes in"


def test_each_player_is_pushed_by_its_own_losses_only():
    """Generators by adversarial, cycle and identity losses, judges by their own, as if trained one after the other."""
    torch.manual_seed(0)
    generators = {name: Generator(2) for name in ("to_target", "to_source")}
    players = torch.nn.ModuleDict(generators | {f"judge_{side}": discriminator(2) for side in ("target", "source")})
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
    slices = brain_slices(slice_minmax(view.target.images * view.target.mask), view.target.mask)
    assert len(slices) == int(view.target.mask.flatten(1, 3).any(1).sum())
    assert float(slices.min()) == 0 and torch.allclose(slices.amax((1, 2, 3)), torch.ones(len(slices)))


def test_foreign_states_are_refused(fitted):
    state = fitted.state()
    with pytest.raises(ValueError, match=f"{fitted.name}: found the tensors"):
        small(fitted.name).load_state({name: v for name, v in state.items() if name != "tops"})
    name = next(name for name in state if name.endswith("weight"))
    with pytest.raises(ValueError, match="wanted .* as the settings say"):
        small(fitted.name).load_state({**state, name: state[name][:1].repeat(7, *[1] * (state[name].ndim - 1))})


def test_pairs_that_do_not_fit_are_refused():
    view = view_for(Needs.PAIRED)
    view.target.mask[..., 14] = False
    with pytest.raises(ValueError, match="pairs: found .* source slices, wanted"):
        fit(small("unet"), view)


def test_fingerprint_are_the_beginning_of_the_recipe(fitted):
    wanted = [loss for history in fitted.histories.values() for loss in history.losses[:3]]
    assert math.isclose(small(fitted.name).fingerprint(view_for(fitted.needs)), sum(wanted) / 6, rel_tol=1e-6)


def test_deepharmony_is_as_the_supplement_says():
    network = VolumeUNet(2, levels=4, side=5)
    kinds = {
        kind: [m for m in network.modules() if isinstance(m, kind)] for kind in (Conv3d, BatchNorm3d, ConvTranspose3d)
    }
    assert len(network.down) == len(network.up) == len(kinds[ConvTranspose3d]) == 4
    assert len(kinds[BatchNorm3d]) == 2 * 9 and len(kinds[Conv3d]) == 2 * 9 + 1
    assert all(convolution.kernel_size == (5, 5, 5) for convolution in kinds[Conv3d][:-1])


def test_crops_of_a_pair_are_of_one_person_and_place():
    numbers = torch.arange(3.0 * 8 * 9 * 10).reshape(3, 1, 8, 9, 10)
    first, second = mirrored_crops((numbers, numbers + 0.5), 4, 50, torch.Generator().manual_seed(0))
    assert first.shape == (50, 1, 4, 4, 4) and torch.equal(second, first + 0.5)
    along_x = first[:, 0, 1, 0, 0] - first[:, 0, 0, 0, 0]
    assert set(along_x.tolist()) == {90.0, -90.0}  # half are mirrored, left to right only
    assert set((first[:, 0, 0, 1, 0] - first[:, 0, 0, 0, 0]).tolist()) == {10.0}
    assert set((first[:, 0, 0, 0, 1] - first[:, 0, 0, 0, 0]).tolist()) == {1.0}


def test_deepharmony_learns_from_pairs_of_volumes(cohort):
    settings = VolumeSettings(
        4, levels=2, side=3, optimizer="adam", learning_rate=1e-2, training_steps=60, batch=2, crop=16
    )
    method = DeepHarmony(settings).fit(cohort.view(Needs.PAIRED), progress=False)
    losses = method.histories["exp"].losses
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    scan, mask = cohort.scans("exp")[:1], cohort.mask[:1]
    assert method.harmonize(scan, scanner="exp", mask=mask).shape == scan.shape


@pytest.mark.parametrize(
    ("settings", "message"), [(dict(crop=64), "wanted 64 a side"), (dict(optimizer="lion"), "sgd")]
)
def test_deepharmony_refuses(cohort, settings, message):
    with pytest.raises(ValueError, match=message):
        DeepHarmony(VolumeSettings(2, levels=2, side=3, **settings)).fit(cohort.view(Needs.PAIRED), progress=False)


def test_paired_style_transfer_sees_pairs_and_learns_from_them(cohort):
    method = PairedCycleGAN(AdversarialSettings(width=4, training_steps=30, batch=4, learning_rate=2e-3))
    method.fit(cohort.view(Needs.PAIRED), progress=False)
    history = method.histories["exp"]
    assert history.unit == "dB" and history.best_step > 2
    assert min(value for _, value in history.validations) < history.validations[0][1]
    scan, mask = cohort.scans("exp")[:1], cohort.mask[:1]
    found = method.harmonize(scan, scanner="exp", mask=mask)
    assert found.shape == scan.shape and not found[~mask].any()
    with pytest.raises(ValueError, match="that of the fit"):
        method.harmonize(scan[..., 2:], scanner="exp", mask=mask[..., 2:])
