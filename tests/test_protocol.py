"""What every method owes to whoever calls it, asked of all that `names()` lists, in each of their variants.

A new method gets these tests for nothing. One that is trained needs its small settings in `phantoms.SMALL`.
"""

import re
import signal
import textwrap
from types import SimpleNamespace

import numpy as np
import phantoms
import pytest
import torch
from graphs import as_if_captured, watched
from phantoms import SCANNERS, changed, fit, people, small, target_view, view_for

from harmony_lite import weights
from harmony_lite.cohort import Needs, OneReference, Scans
from harmony_lite.images.normalize import foreground, means
from harmony_lite.images.slices import axial_slices
from harmony_lite.methods import Harmonizer, Shipping, load_method, method_class, names
from harmony_lite.profiles import active
from harmony_lite.simulate import preset

pytestmark = pytest.mark.filterwarnings("ignore:no pixel of any source is flat")  # phantoms have no flat background

TARGET, SOURCE, OTHER = SCANNERS
EVERY = [(name, variant) for name in names() for variant in method_class(name).variants]


def that(condition):
    """Names and variants of the methods whose class says so, as a parametrization."""
    chosen = [(name, variant) for name, variant in EVERY if condition(method_class(name))]
    return pytest.mark.parametrize("case", chosen, indirect=True, ids=[f"{n}.{v}" for n, v in chosen])


def harmonized(method, images, **options):
    """By whatever scanner the method asks for."""
    return method.harmonize(images, **({"scanner": SOURCE} if method.scanners else {}) | options)


@pytest.fixture(scope="module", params=EVERY, ids=[f"{name}.{variant}" for name, variant in EVERY])
def case(request):
    """A method fitted once, people it has not seen, and what it makes of them."""
    name, variant = request.param
    method = fit(small(name, variant))
    images, inside = people(2)
    result = harmonized(method, images, mask=inside)
    return SimpleNamespace(
        name=name, variant=variant, method=method, images=images, inside=inside, result=result,
        unfitted=lambda: small(name, variant),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- what a class says


def test_the_smallest_method_of_the_docstring_works_as_printed():
    printed = re.search(r"The smallest method:\n\n(.*?)\n\n    Class attributes:", Harmonizer.__doc__, re.DOTALL)[1]
    made = {}
    exec(textwrap.dedent(printed), made)  # noqa: S102 (the package's text)
    method = made["MeanMatch"].from_variant("volume").fit(target_view())
    images, inside = people(2)
    result = method.harmonize(images, mask=inside)
    assert torch.allclose(means(result, inside), method.mean.expand(2), rtol=1e-4)
    again = made["MeanMatch"]().load_state(method.state())
    assert torch.equal(again.harmonize(images, mask=inside), result)


@pytest.mark.parametrize("name", names())
def test_class_attributes_mean_something(name):
    cls = method_class(name)
    assert cls.name == name and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert method_class(name.replace("-", "_").upper()) is cls
    assert isinstance(cls.needs, Needs) and cls.__doc__
    assert cls.variants and len(set(cls.variants)) == len(cls.variants)
    assert not cls.reference_is_enough or cls.needs in (Needs.TARGET_ONLY, Needs.ONE_REFERENCE)
    assert isinstance(cls.shipping, Shipping | None)
    for variant in cls.variants:
        method = cls.from_variant(variant)
        assert type(method) is cls and not method.is_fitted and method.scanners == ()
    with pytest.raises(ValueError, match=f"variant of {name}: found 'nonsense', wanted one of {cls.variants[0]}"):
        load_method(name, "nonsense", fitted=False)


@pytest.mark.parametrize("name", names())
def test_weights_come_with_the_package_or_a_message_says_how_to_fit(name):
    cls = method_class(name)
    if cls.shipping is None:
        with pytest.raises(FileNotFoundError, match=f"{name}: found no weights, none are shipped; wanted a fit on .*"):
            load_method(name)
    else:
        assert set(cls.shipping.variants) <= set(cls.variants) and preset(cls.shipping.target)
        with_file = cls.shipping.variants or cls.variants
        for variant, target in cls.shipping.also:
            assert variant in with_file and preset(target) and target != cls.shipping.target
            assert cls.shipped_weights(variant, target).stem == f"{name}.{variant}.{target}.quick"
        if not cls.shipping.shared:
            other = next(variant for variant in cls.variants if variant not in with_file)
            with pytest.raises(FileNotFoundError, match=f"{name}: found no weights, none are shipped; wanted a fit"):
                load_method(name, other)


def test_weights_for_another_target_are_asked_for_by_its_name():
    usual, same = (load_method("harmonizing-flows", target=target) for target in (None, "abide_caltech"))
    other = load_method("harmonizing-flows", target="abide_nyu")
    assert usual.target_bits == same.target_bits != other.target_bits
    with pytest.raises(
        ValueError, match="target of harmonizing-flows: found 'oasis_trio', wanted one of abide_caltech"
    ):
        load_method("harmonizing-flows", target="oasis_trio")
    with pytest.raises(ValueError, match="target of cyclegan: found 'abide_nyu', wanted one of oasis_trio"):
        load_method("cyclegan", "maps", target="abide_nyu")


@that(lambda cls: cls.is_trained)
def test_a_trained_method_without_small_settings_is_told_what_to_add(case, monkeypatch):
    monkeypatch.setattr(phantoms, "SMALL", {})
    settings = type(case.method.settings).__name__
    with pytest.raises(pytest.fail.Exception, match=rf"add to SMALL in tests/phantoms.py\n +{settings}: dict"):
        case.unfitted()


# ------------------------------------------------------------------------------------------------------------- fit


def test_unfitted_it_says_what_it_wants(case):
    wanted = "a reference image, `fit`, or" if case.method.reference_is_enough else "`fit` or"
    with pytest.raises(ValueError, match=f"{case.name}: found no weights, wanted {wanted} loaded weights"):
        case.unfitted().harmonize(case.images, mask=case.inside, scanner=SOURCE)
    try:
        state = case.unfitted().state()
    except ValueError as error:
        assert re.search(f"{case.name}: found no weights, wanted .* loaded weights", str(error))
    else:
        assert state == {}


def test_a_fit_is_repeated_and_leaves_what_it_saw_as_it_was(case):
    view = view_for(case.method.needs)
    before = changed(view, lambda scans: Scans(scans.images.clone(), scans.mask.clone()))
    again, unfitted = fit(case.unfitted(), view, generator=torch.Generator().manual_seed(0)), case.unfitted()
    assert case.method.is_fitted and not unfitted.is_fitted
    for name, tensor in case.method.state().items():
        assert torch.equal(again.state()[name], tensor), name
    pairs = []
    changed(view, lambda scans: pairs.append(scans))
    changed(before, lambda scans: pairs.append(scans))
    for now, then in zip(pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :], strict=True):
        assert torch.equal(now.images, then.images) and torch.equal(now.mask, then.mask)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: Scans(torch.full_like(s.images, 5.0), s.mask), "found image 0 constant at 5"),
        (lambda s: Scans(s.images / 0, s.mask), "found .* values that are NaN or infinite"),
        (lambda s: Scans(s.images, s.mask & False), "mask: found no voxel inside for image 0"),
        (lambda s: Scans(s.images, s.mask.float()), "mask: found torch.float32"),
        (lambda s: Scans(s.images[:, 0], s.mask), r"found shape \(3, 28, 32, 26\)"),
    ],
    ids=["constant", "NaN", "empty mask", "numbers as a mask", "no channel"],
)
def test_a_fit_refuses(case, spoil, message):
    with pytest.raises(ValueError, match=message):
        fit(case.unfitted(), changed(view_for(case.method.needs), spoil))


def test_a_fingerprint_is_one_number_that_comes_again(case):
    view = view_for(case.method.needs)
    found = [case.unfitted().fingerprint(view) for _ in range(2)]
    assert np.isfinite(found[0]) and found[0] == found[1]


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal, also where a test run ignores it (in the background)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@that(lambda cls: cls.is_trained)
def test_an_interrupted_training_goes_on_to_the_same_numbers(case, tmp_path, monkeypatch, ctrl_c):
    """Ctrl-C in the midst of each call until one comes to its end; a finished training is read, not repeated."""
    view, file, randint = view_for(case.method.needs), tmp_path / "some.checkpoint", torch.randint
    draws, interrupted, last = 0, 0, None

    def counted(*arguments, **options):  # each step of a training draws
        nonlocal draws
        draws += options.get("generator") is not None
        if draws == last:
            signal.raise_signal(signal.SIGINT)
        return randint(*arguments, **options)

    monkeypatch.setattr(torch, "randint", counted)
    whole = fit(case.unfitted(), view)
    draws, last, resumed = 0, draws // 3, None
    while resumed is None:
        try:
            resumed = fit(case.unfitted(), view, checkpoint=file)
        except KeyboardInterrupt:
            draws, interrupted = 0, interrupted + 1
            assert interrupted < 9, "it begins from the start each time"
    draws = 0
    read = fit(case.unfitted(), view, checkpoint=file)
    assert interrupted >= 2 and draws < last and whole.history.losses
    for other in (resumed, read):
        assert other.history.losses == whole.history.losses
        assert all(torch.equal(other.state()[name], tensor) for name, tensor in whole.state().items())


# ------------------------------------------------------------------------------------------------------- harmonize


def test_shape_type_and_device(case):
    result, images = case.result, case.images
    assert result.shape == images.shape and result.dtype == torch.float32 and result.device == images.device
    assert bool(result.isfinite().all()) and all(values.unique().numel() > 100 for values in result)
    other = harmonized(case.method, images.double().requires_grad_(), mask=case.inside)
    assert other.dtype == torch.float32 and not other.requires_grad
    torch.testing.assert_close(other, result)


def test_the_input_is_left_as_it_was(case):
    images, inside = case.images.clone(), case.inside.clone()
    harmonized(case.method, images, mask=inside)
    assert torch.equal(images, case.images) and torch.equal(inside, case.inside)


def test_nothing_is_random(case):
    state = torch.get_rng_state()
    again = harmonized(case.method, case.images, mask=case.inside)
    assert torch.equal(again, case.result) and torch.equal(torch.get_rng_state(), state)


def test_gain_of_the_source_does_not_matter(case):
    result = harmonized(case.method, 3 * case.images, mask=case.inside)
    assert float((result - case.result).abs().mean()) < 1e-3 * float(case.result.mean())


def test_background_stays_0(case):
    """Around the mask, and where the mask leaves a part of the head out."""
    assert not bool(case.result[~case.inside].any())
    part = case.inside & (phantoms.axes_of(phantoms.SIZE)[0] < 0.3)
    result = harmonized(case.method, case.images, mask=part)
    assert bool(result.isfinite().all()) and not bool(result[case.images == 0].any())


def test_people_do_not_depend_on_each_other(case):
    for person in (slice(0, 1), slice(1, 2)):
        alone = harmonized(case.method, case.images[person], mask=case.inside[person])
        torch.testing.assert_close(alone, case.result[person], rtol=1e-4, atol=1e-5 * float(case.result.max()))


def test_without_a_mask_it_is_the_foreground(case):
    found = foreground(case.images)
    without, given = (harmonized(case.method, case.images, mask=mask) for mask in (None, found))
    assert torch.equal(without, given)


@that(lambda cls: cls.is_straight_line)
def test_a_straight_line_is_one(case):
    """In every axial slice, so that a variant with one line for each is one as well."""
    for height in (8, 13, 18):
        inside = case.inside[0, 0, ..., height]
        x, y = (values[0, 0, ..., height][inside].double() for values in (case.images, case.result))
        gain, offset = np.polyfit(x, y, 1)
        torch.testing.assert_close(gain * x + offset, y, rtol=1e-5, atol=1e-3)


@that(lambda cls: cls.is_slicewise)
def test_slice_by_slice_a_mask_may_leave_heights_out(case):
    """To the same numbers in the default variant; in others the noise of a slice may depend on those before it."""
    one = torch.zeros_like(case.inside)
    one[..., 14] = case.inside[..., 14]
    found = harmonized(case.method, case.images, mask=one)
    if case.variant == type(case.method).variants[0]:
        slice_, wanted = found[..., 14], case.result[..., 14]
        if not case.method.steps_by_sign:
            torch.testing.assert_close(slice_, wanted, rtol=1e-4, atol=1e-2)
        else:
            apart = (slice_ - wanted).abs()
            assert float((apart <= 1e-2 + 1e-4 * wanted.abs()).float().mean()) > 0.9
            assert float(apart.max()) <= 0.01 * float(wanted.max())
    tops = case.method.tops
    with pytest.raises(ValueError, match=f"{case.name}: found no .*, wanted `fit` or loaded weights"):
        assert case.unfitted().tops is None
    assert tops.shape == case.images.shape[-1:] and not bool(found[..., 13].any())
    assert bool((case.result.amax((0, 1, 2, 3)) <= tops * (1 + 1e-6)).all())


@that(lambda cls: cls.on_template_grid)
def test_another_grid_is_refused_where_the_model_has_its_own(case):
    with pytest.raises(ValueError, match=r"images: found .*, wanted .*(that of the fit|as in the target's scans)"):
        harmonized(case.method, case.images[..., 1:], mask=case.inside[..., 1:])


@that(lambda cls: cls.takes_slices)
def test_slices_in_and_out(case):
    """Those of a person at evenly spaced heights, as `axial_slices` gives them."""
    count = active().slices
    slices, positions = axial_slices(case.images[:1], count, mask=case.inside[:1])
    inside, _ = axial_slices(case.inside[:1], count, positions=positions)
    result = harmonized(case.method, slices, mask=inside)
    assert result.shape == slices.shape == (count, 1, *phantoms.SIZE[:2]) and result.dtype == torch.float32
    assert bool(result.isfinite().all()) and bool(result.any()) and not bool(result[~inside].any())


@that(lambda cls: not cls.takes_slices)
def test_slices_are_refused_where_the_volume_is_needed(case):
    with pytest.raises(ValueError, match=r"images: found slices \(2, 1, 28, 32\), wanted volumes \(N, 1, D, H, W\)"):
        harmonized(case.method, case.images[..., 13], mask=case.inside[..., 13])


# -------------------------------------------------------------------------------------------------------- refusals

SPOILT = {
    "NaN": (
        lambda images: images * torch.where(images > images.amax() / 2, torch.nan, 1.0),
        "found .* values that are NaN or infinite, wanted finite",
    ),
    "infinite": (lambda images: images / 0, "found .* values that are NaN or infinite, wanted finite"),
    "constant": (lambda images: torch.full_like(images, 5.0), "found image 0 constant at 5, wanted one with contrast"),
    "nothing in it": (lambda images: torch.zeros_like(images), "found image 0 constant at 0, wanted one with contrast"),
    "empty": (lambda images: images[:0], r"found shape \(0, 1, .*\), wanted \(N, 1, H, W\) or \(N, 1, D, H, W\)"),
    "no channel": (lambda images: images[:, 0], r"found shape \(\d, 28, 32, 26\), wanted \(N, 1, H, W\) or"),
    "3D": (lambda images: images[0, 0], r"found shape \(28, 32, 26\), wanted \(N, 1, H, W\) or"),
    "two channels": (lambda images: torch.cat([images, images], 1), r"found shape \(\d, 2, .*\), wanted \(N, 1, H"),
    "numpy": (lambda images: images.numpy(), "found a ndarray, wanted a torch tensor"),
}
MASKS = {
    "another shape": (lambda mask: mask[..., 1:], r"torch.bool \(2, 1, 28, 32, 25\)"),
    "of one person": (lambda mask: mask[:1], r"torch.bool \(1, 1, 28, 32, 26\)"),
    "numbers": (lambda mask: mask.float(), r"torch.float32 \(2, 1, 28, 32, 26\)"),
    "numpy": (lambda mask: mask.numpy(), "ndarray"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_spoilt_images_are_refused(case, kind):
    spoil, message = SPOILT[kind]
    with pytest.raises(ValueError, match=f"images: {message}"):
        harmonized(case.method, spoil(case.images))


@pytest.mark.parametrize("kind", MASKS)
def test_masks_that_do_not_fit_are_refused(case, kind):
    spoil, found = MASKS[kind]
    with pytest.raises(
        ValueError, match=rf"mask: found {found}, wanted torch.bool \(2, 1, 28, 32, 26\), as the images"
    ):
        harmonized(case.method, case.images, mask=spoil(case.inside))


def test_masks_with_nothing_to_go_by_are_refused(case):
    empty = case.inside.clone()
    empty[1] = False
    with pytest.raises(ValueError, match="mask: found no voxel inside for image 1, wanted at least one"):
        harmonized(case.method, case.images, mask=empty)
    flat = torch.where(case.inside, 7.0, case.images + torch.rand(phantoms.SIZE))
    with pytest.raises(ValueError, match="images: found image 0 constant at 7 inside its mask, wanted one with"):
        harmonized(case.method, flat, mask=case.inside)


# ------------------------------------------------------------------------------------------------ odd values, taken in

AROUND = {"NaN": torch.nan, "-1024": -1024.0}


@pytest.mark.parametrize("kind", AROUND)
@pytest.mark.parametrize("with_mask", [True, False])
def test_a_background_of_another_value_comes_back(case, kind, with_mask):
    """What it holds changes nothing inside."""
    images = torch.where(case.inside, case.images, AROUND[kind])
    result = harmonized(case.method, images, mask=case.inside if with_mask else None)
    assert torch.equal(result[case.inside], case.result[case.inside])
    torch.testing.assert_close(result[~case.inside], images[~case.inside], equal_nan=True, rtol=0, atol=0)


def test_nan_in_the_brain_is_no_background(case):
    images = torch.where(case.inside, case.images, torch.nan)
    images[:, :, 14, 16, 13] = torch.nan
    for mask in (None, case.inside):
        with pytest.raises(ValueError, match="images: found .* values that are NaN or infinite, wanted finite"):
            harmonized(case.method, images, mask=mask)


@pytest.mark.parametrize("value", [1e6, -1e5], ids=["bright", "dark"])
def test_a_hot_voxel_moves_nothing_but_itself(case, value):
    """It takes the median of its neighbours: nothing else may notice, so the scale and the curve stay the same."""
    images = case.images.clone()
    hot = (0, 0, 14, 16, 13), (0, 0, 9, 20, 11)
    for place in hot:
        images[place] = value
    result = harmonized(case.method, images, mask=case.inside)
    scale = float(case.result[case.inside].std())
    apart = (result - case.result).abs()
    for place in hot:
        assert float(apart[place]) < 3 * scale
        apart[place] = 0
    if not case.method.steps_by_sign:
        assert float(apart.max()) < 0.5 * scale
    assert float(apart.mean()) < 2e-3 * scale


def test_values_below_0_are_refused_where_they_lose_their_meaning(case):
    """z-scored inside the mask: the same result, or a message."""
    brain = case.images[case.inside]
    images = torch.where(case.inside, (case.images - brain.mean()) / brain.std(), 0.0)
    if not type(case.method).takes_negatives:
        with pytest.raises(
            ValueError, match="images: found .* % of image 0 below 0 .*, wanted magnitudes of 0 and more"
        ):
            harmonized(case.method, images, mask=case.inside)
        return
    result = harmonized(case.method, images, mask=case.inside)
    torch.testing.assert_close(result[case.inside], case.result[case.inside], rtol=1e-3, atol=1e-2)


def test_a_few_values_below_0_are_ringing(case):
    """An interpolation leaves them at edges; they cost nothing."""
    images = case.images.clone()
    places = torch.nonzero(case.inside[0, 0])[::400]
    images[(0, 0, *places.T)] = -3.0
    result = harmonized(case.method, images, mask=case.inside)
    assert bool(result.isfinite().all())
    low, raised = harmonized(case.method, images.clamp_min(0), mask=case.inside), result
    if not type(case.method).takes_negatives:
        assert torch.equal(low, raised)


# ------------------------------------------------------------------------------------------------------- reference


@that(lambda cls: cls.reference_is_enough)
def test_a_reference_is_a_fit_on_it_and_goes_before_any_other(case):
    reference = target_view(count=1, seed=5).target
    images, inside = case.images, case.inside
    assert torch.equal(foreground(reference.images), reference.mask)
    given = case.unfitted().harmonize(images, reference=reference.images, mask=inside)
    torch.testing.assert_close(given, fit(case.unfitted(), OneReference(reference)).harmonize(images, mask=inside))
    assert torch.equal(case.method.harmonize(images, reference=reference.images, mask=inside), given)
    assert not torch.allclose(given, case.result) and torch.equal(
        case.method.harmonize(images, mask=inside), case.result
    )


@that(lambda cls: cls.reference_is_enough and cls.takes_slices)
def test_a_slice_is_a_reference_for_slices(case):
    (images, inside), reference = ([v[..., 13] for v in (case.images, case.inside)], target_view(1).target.images)
    result = case.unfitted().harmonize(images, reference=reference[..., 13], mask=inside)
    assert result.shape == images.shape and bool(result.isfinite().all()) and not bool(result[~inside].any())


@that(lambda cls: cls.reference_is_enough or cls.takes_reference)
@pytest.mark.parametrize("kind", [*SPOILT, "several"])
def test_spoilt_references_are_refused(case, kind):
    spoil, message = SPOILT.get(kind, (lambda images: images.repeat(2, 1, 1, 1, 1), "found 2 images, wanted one"))
    with pytest.raises(ValueError, match=f"reference: {message}"):
        case.method.harmonize(case.images, reference=spoil(target_view(count=1).target.images))


@that(lambda cls: cls.takes_reference)
def test_a_reference_names_another_target_for_a_fitted_method(case):
    images, inside, view = case.images, case.inside, view_for(case.method.needs)
    own, other = (scans.images[:1] for scans in (view.target, view.sources[SOURCE]))
    assert torch.equal(case.method.harmonize(images, reference=own, mask=inside), case.result)
    sent = [case.method.harmonize(images, reference=other, mask=inside) for _ in range(2)]
    assert torch.equal(*sent) and not torch.allclose(sent[0], case.result, rtol=0.01)
    assert torch.equal(case.method.harmonize(images, mask=inside), case.result)
    with pytest.raises(ValueError, match=f"{case.name}: found no weights, wanted `fit` or loaded weights"):
        case.unfitted().harmonize(images, reference=other, mask=inside)


@that(lambda cls: not cls.reference_is_enough and not cls.takes_reference)
def test_a_reference_is_refused_where_the_target_is_fixed(case):
    message = f"reference: found an image, wanted none: {case.name} is fitted on its target, which stays the target"
    for method in (case.method, case.unfitted()):
        with pytest.raises(ValueError, match=message):
            harmonized(method, case.images, reference=target_view(count=1).target.images, mask=case.inside)


# --------------------------------------------------------------------------------------------------------- scanner


def test_scanners_by_name(case):
    """Those of the fit, by their whole or their short names; where there are none, every source is alike."""
    method, image, mask = case.method, case.images[:1], case.inside[:1]
    short = SOURCE.partition("_")[2]
    torch.testing.assert_close(method.harmonize(image, scanner=short, mask=mask), case.result[:1])
    method.check_scanner(short)
    if not method.scanners:
        for scanner in (None, "oasis_vida"):
            assert torch.equal(method.harmonize(image, scanner=scanner, mask=mask), case.result[:1])
            method.check_scanner(scanner)
        return
    seen = view_for(method.needs)
    assert set(method.scanners) == set(getattr(seen, "sources", None) or seen.scanners)
    assert not torch.allclose(method.harmonize(image, scanner=OTHER, mask=mask), case.result[:1], rtol=0.01)
    wanted = f"wanted one that {case.name} was fitted to: {', '.join(method.scanners)}"
    for scanner, found in ((None, "none"), ("vida", "'vida'"), ("mispel_ge", "'mispel_ge'")):
        with pytest.raises(ValueError, match=f"scanner: found {found}, {wanted}"):
            method.harmonize(image, scanner=scanner, mask=mask)
        with pytest.raises(ValueError, match=f"scanner: found {found}, {wanted}"):
            method.check_scanner(scanner)


# ----------------------------------------------------------------------------------------------------------- state


def test_state_goes_round(case, tmp_path):
    """As it is, and through a file, which keeps no order; whoever changes a state that was given changes no method."""
    state = case.method.state()
    again = case.unfitted().load_state(state)
    path = tmp_path / "some.safetensors"
    card = {"command": "fit", "profile": "quick", "data_seed": 0, "minutes": 0.1}
    weights.save(state, path, **card, metric={}, recipe={}, half=False, limit=None)
    read = case.unfitted().load(path)
    for other in (again, read):
        assert other.is_fitted and set(other.scanners) == set(case.method.scanners)
        assert other.state().keys() == state.keys()
        assert all(torch.equal(other.state()[name], tensor) for name, tensor in state.items())
    results = [harmonized(method, case.images, mask=case.inside) for method in (again, read)]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(results[0], case.result)


@that(lambda cls: cls.shipping is not None and not cls.is_trained)
def test_half_precision_is_enough_for_a_fit_that_is_shipped(case, tmp_path):
    path = tmp_path / "some.safetensors"
    card = {"command": "make weights", "profile": "quick", "data_seed": 0, "minutes": 0.1}
    weights.save(case.method.state(), path, **card, metric={}, recipe={}, half=True)
    half, whole = case.unfitted().load(path), case.unfitted().load_state(case.method.state())
    results = [harmonized(method, case.images, mask=case.inside) for method in (half, whole)]
    assert float((results[0] - results[1]).abs().max()) < 3e-3 * float(results[1].max())


@that(lambda cls: cls.shipping is not None and not cls.shipping.by_profile)
def test_weights_for_every_profile_do_not_know_the_grid(case):
    size = (24, 36, 30)
    other, state = fit(case.unfitted(), view_for(case.method.needs, size=size)), case.method.state()
    assert {name: t.shape for name, t in other.state().items()} == {name: t.shape for name, t in state.items()}
    images, inside = people(1, size=size)
    assert harmonized(case.method, images, mask=inside).shape == images.shape


def test_foreign_states_are_refused(case):
    state = case.method.state()
    for foreign in ({}, {"other": torch.zeros(2)}, {**state, "other": torch.zeros(2)}):
        unfitted = case.unfitted()
        with pytest.raises(ValueError, match=f"{case.name}: found .*, wanted"):
            unfitted.load_state(foreign)
        assert not unfitted.is_fitted


# ----------------------------------------------------------------------------------------------------- CUDA graph


@pytest.mark.parametrize("name", [name for name in names() if method_class(name).is_trained])
def test_a_training_step_is_fit_for_a_cuda_graph(name, monkeypatch):
    method = small(name, method_class(name).variants[-1])
    found = []
    with as_if_captured(monkeypatch, recorded=watched(found, monkeypatch)):
        method.fit(view_for(method.needs), progress=False)
    assert found and all(one == [] for one in found)
