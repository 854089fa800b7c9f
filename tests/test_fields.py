"""Boxes, warps and averaging against what they must be."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harmony_lite.simulate.fields import Box, average_down, exponentiate, jacobian_determinant, sample, smooth_noise

BOX = Box(corner=(-8.0, -10.0, -6.0), extent=(16.0, 20.0, 12.0))


def test_points_and_affine_agree():
    shape = BOX.shape((2.0, 1.0, 1.5))
    assert shape == (8, 20, 8)
    affine = torch.from_numpy(BOX.affine(shape)).float()
    index = torch.tensor([3.0, 7.0, 2.0, 1.0])
    torch.testing.assert_close((affine @ index)[:3], BOX.points(shape)[3, 7, 2])


def test_sample_reproduces_a_linear_field_between_voxels():
    shape = BOX.shape((1.0, 1.0, 1.0))
    points = BOX.points(shape)
    weights = torch.tensor([0.3, -1.2, 0.7])
    volume = (points @ weights)[None]
    inside = torch.rand(50, 3) * torch.tensor([13.0, 17.0, 9.0]) + torch.tensor([-6.5, -8.5, -4.5])
    torch.testing.assert_close(sample(volume, BOX, inside)[0], inside @ weights, rtol=1e-4, atol=1e-4)


def test_sample_takes_any_shape_of_points():
    volume = torch.rand(2, *BOX.shape((1.0, 1.0, 1.0)))
    assert sample(volume, BOX, torch.zeros(4, 5, 3)).shape == (2, 4, 5)


def test_flow_of_a_constant_velocity_is_a_shift():
    velocity = torch.tensor([0.5, -0.25, 0.1]).reshape(3, 1, 1, 1).expand(3, 16, 20, 12).contiguous()
    torch.testing.assert_close(exponentiate(velocity, BOX), velocity, rtol=1e-4, atol=1e-5)


def test_flow_backwards_undoes_the_flow_forwards():
    generator = torch.Generator().manual_seed(0)
    velocity = 0.5 * smooth_noise((32, 40, 24), 4.0, generator, count=3)
    forward, backward = exponentiate(velocity, BOX), exponentiate(-velocity, BOX)
    points = BOX.points((32, 40, 24))
    there = points + forward.movedim(0, -1)
    back = there + sample(backward, BOX, there).movedim(0, -1)
    inner = (slice(6, -6),) * 3  # the border repeats itself outward, where no inverse can hold
    assert float((back - points)[inner].norm(dim=-1).max()) < 0.05


def test_jacobian_of_a_stretch():
    shape = BOX.shape((1.0, 1.0, 1.0))
    displacement = (0.1 * BOX.points(shape)).movedim(-1, 0)
    torch.testing.assert_close(jacobian_determinant(displacement, BOX), torch.full(shape, 1.1**3), rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(coarse=st.tuples(*[st.integers(3, 9)] * 3), seed=st.integers(0, 1000))
def test_averaging_keeps_the_mean(coarse, seed):
    generator = torch.Generator().manual_seed(seed)
    fine = torch.rand(2, 13, 11, 12, generator=generator)
    torch.testing.assert_close(average_down(fine, coarse).mean((1, 2, 3)), fine.mean((1, 2, 3)), rtol=1e-4, atol=1e-5)


def test_averaging_by_a_whole_factor_is_pooling():
    fine = torch.rand(1, 8, 8, 8)
    torch.testing.assert_close(average_down(fine, (4, 4, 4)), torch.nn.functional.avg_pool3d(fine[None], 2)[0])


def test_smooth_noise_has_unit_deviation_and_belongs_to_its_generator():
    made = [smooth_noise((20, 20, 20), 2.0, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    np.testing.assert_allclose(float(made[0].std()), 1, atol=0.01)
