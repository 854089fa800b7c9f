"""The training loop, on a small regression of this file's own: same numbers, whatever interrupts it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from graphs import as_if_captured
from torch import nn

from harmony_lite import training, weights
from harmony_lite.training import DECIBEL, History, steps, train

STEPS = 12
QUIET = {"accelerator": "cpu", "progress": False, "checkpoint_every": 4}
PEOPLE = torch.linspace(-1, 1, 64)[:, None]


class Regression(nn.Module):
    """A curve with all that makes resuming hard: running statistics, dropout, and noise drawn in the loss."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 1))
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3

    def forward(self, x):
        return self.layers(x)


def draw_batch(_, generator):
    x = PEOPLE[torch.randperm(len(PEOPLE), generator=generator)[:16]]
    return {"x": x, "y": torch.sin(3 * x)}


def batch_loss(model, batch, generator):
    noise = 0.05 * torch.randn(batch["x"].shape, generator=generator)
    return (model(batch["x"] + noise) - batch["y"]).square().mean()


def validation(model):
    return float((model(PEOPLE) - torch.sin(3 * PEOPLE)).square().mean())


def start(*, seed=0, rate=0.02, milestones=(3, 8), loss=batch_loss, draw=draw_batch, **options):
    """Train anew, or go on where `checkpoint` says; returns the model and the history."""
    model = Regression()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(milestones), gamma=0.3)
    generator = torch.Generator().manual_seed(seed)
    settings = {"steps": STEPS, "scheduler": scheduler, "generator": generator} | QUIET | options
    return model, train(model, optimizer, loss, draw, **settings)


def interrupting(step):
    """`draw_batch` that is interrupted when it has drawn the batch of `step` (from 0) but not yet returned it."""
    drawn = 0

    def draw(_, generator):
        nonlocal drawn
        batch = draw_batch(_, generator)
        drawn += 1
        if drawn > step:
            raise KeyboardInterrupt
        return batch

    return draw


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_same_seed_same_numbers_and_another_seed_others():
    model, history = start()
    again, history_again = start()
    assert history.losses == history_again.losses and len(history.losses) == STEPS
    assert_same_bits(model.state_dict(), again.state_dict())
    _, other = start(seed=1)
    assert other.losses[0] != history.losses[0]


def test_numbers_do_not_depend_on_torchs_global_state_and_leave_it_alone():
    losses = []
    for state in (3, 4):
        model = Regression()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        torch.manual_seed(state)
        before = torch.get_rng_state()
        options = {"steps": STEPS, "generator": torch.Generator().manual_seed(0)} | QUIET
        losses.append(train(model, optimizer, batch_loss, draw_batch, **options).losses)
        assert torch.equal(torch.get_rng_state(), before)
    assert losses[0] == losses[1]


def test_loss_falls():
    _, history = start(steps=300, milestones=[200])
    assert sum(history.losses[-20:]) / 20 < 0.5 * sum(history.losses[:20]) / 20
    assert history.device == "cpu" and history.seconds > 0


@pytest.mark.parametrize("step", [0, 1, 4, 7, 11])
def test_resuming_after_an_interruption_gives_the_same_bits(tmp_path, step):
    whole, expected = start(validate=validation, validate_every=3)
    path = tmp_path / "made" / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        start(draw=interrupting(step), checkpoint=path, validate=validation, validate_every=3)
    saved = torch.load(path, weights_only=True)
    assert saved["step"] == step and saved["history"]["losses"] == expected.losses[:step]
    resumed, history = start(checkpoint=path, validate=validation, validate_every=3)
    assert history.losses == expected.losses
    assert (history.validations, history.best_step) == (expected.validations, expected.best_step)
    assert_same_bits(resumed.state_dict(), whole.state_dict())


def test_a_cell_that_is_run_again_in_the_same_process_goes_on(tmp_path):
    """Model, optimizer, schedule and generator as the interruption left them, not made anew."""
    whole, expected = start()
    model = Regression()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 8], gamma=0.3)
    generator = torch.Generator().manual_seed(0)
    options = {"steps": STEPS, "scheduler": scheduler, "generator": generator, "checkpoint": tmp_path / "a.pt"} | QUIET
    for step in (5, 2):
        with pytest.raises(KeyboardInterrupt):
            train(model, optimizer, batch_loss, interrupting(step), **options)
    assert train(model, optimizer, batch_loss, draw_batch, **options).losses == expected.losses
    assert_same_bits(model.state_dict(), whole.state_dict())


def interrupted_in_step_six(**options):
    """A training in whose sixth step Ctrl-C is pressed; what answers to it is afterwards what it was before."""
    calls = []

    def pressed(model, batch, generator):
        calls.append(1)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return batch_loss(model, batch, generator)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            start(loss=pressed, **options)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_answered_after_the_step_and_resumes_to_the_same_bits(tmp_path):
    whole, expected = start()
    interrupted_in_step_six(checkpoint=tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True)["history"]["losses"] == expected.losses[:6]
    resumed, history = start(checkpoint=tmp_path / "a.pt")
    assert history.losses == expected.losses
    assert_same_bits(resumed.state_dict(), whole.state_dict())


def test_ctrl_c_in_the_last_validation_is_not_forgotten(tmp_path):
    """Every step is done and saved then, and what would come after the training does not begin."""
    whole, expected = start(validate=validation, validate_every=STEPS)

    def pressed(model):
        os.kill(os.getpid(), signal.SIGINT)
        return validation(model)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            start(validate=pressed, validate_every=STEPS, checkpoint=tmp_path / "a.pt")
    finally:
        signal.signal(signal.SIGINT, before)
    read, history = start(validate=validation, validate_every=STEPS, checkpoint=tmp_path / "a.pt")
    assert (history.losses, history.validations) == (expected.losses, expected.validations)
    assert_same_bits(read.state_dict(), whole.state_dict())


def test_a_second_ctrl_c_stops_at_once_and_leaves_the_last_checkpoint(tmp_path):
    whole, expected = start()
    calls = []

    def pressed_twice(model, batch, generator):
        calls.append(1)
        loss = batch_loss(model, batch, generator)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            start(loss=pressed_twice, checkpoint=tmp_path / "a.pt")
    finally:
        signal.signal(signal.SIGINT, before)
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 4
    resumed, history = start(checkpoint=tmp_path / "a.pt")
    assert history.losses == expected.losses
    assert_same_bits(resumed.state_dict(), whole.state_dict())


def test_an_ignored_ctrl_c_stays_ignored():
    def pressed(model, batch, generator):
        os.kill(os.getpid(), signal.SIGINT)
        return batch_loss(model, batch, generator)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert len(start(loss=pressed)[1].losses) == STEPS
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_finished_training_is_read_and_not_repeated(tmp_path):
    def never(*_):
        raise AssertionError("a finished training drew another batch")

    model, history = start(checkpoint=tmp_path / "a.pt", validate=validation, validate_every=5)
    again, read = start(checkpoint=tmp_path / "a.pt", validate=validation, validate_every=5, draw=never)
    assert read == history
    assert_same_bits(again.state_dict(), model.state_dict())


def test_the_model_ends_with_its_best_weights_and_in_its_own_modes():
    values = iter([0.5, 0.2, 0.4, 0.2])
    seen = []

    def validate(model):
        assert not model.training and not torch.is_grad_enabled()
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return next(values)

    model = Regression()
    model.layers[1].eval()  # frozen running statistics stay frozen
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(0)
    options = {"steps": 11, "generator": generator, "validate": validate, "validate_every": 3} | QUIET
    history = train(model, optimizer, batch_loss, draw_batch, **options)
    assert history.validations == [(3, 0.5), (6, 0.2), (9, 0.4), (11, 0.2)] and history.best_step == 6
    assert_same_bits(model.state_dict(), seen[1])
    assert model.training and model.layers[0].training and not model.layers[1].training
    assert torch.equal(model.layers[1].running_mean, torch.zeros(8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 20}, "steps 12, wanted 20"),
        ({"seed": 7}, "seed 0, wanted 7"),
        ({"rate": 0.5}, "'lr': 0.02.*wanted.*'lr': 0.5"),
        ({"milestones": [2]}, "schedule .*3: 1, 8: 1.*wanted.*2: 1"),
        ({"gradient_clip": 1.0}, "gradient_clip None, wanted 1.0"),
        ({"precision": "bf16-mixed"}, "precision '32-true', wanted 'bf16-mixed'"),
        ({"validate": validation}, "validation None, wanted 200"),
        ({"recipe": {"weight": 3.0}}, r"recipe \{'weight': 2.0\}, wanted \{'weight': 3.0\}"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, change, message):
    path = tmp_path / "a.pt"
    start(checkpoint=path, recipe={"weight": 2.0})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"a.pt: found a checkpoint of other settings, .*{message}"):
        start(**({"checkpoint": path, "recipe": {"weight": 2.0}} | change))
    assert path.read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    start(checkpoint=path)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    with pytest.raises(ValueError, match="other settings, model .*layers.0.weight.*wanted .*'weight'"):
        generator = torch.Generator().manual_seed(0)
        train(model, optimizer, batch_loss, draw_batch, steps=STEPS, generator=generator, checkpoint=path, **QUIET)


class Trap:
    """Unpickled, it would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("kind", ["text", "cut", "other", "code"])
def test_a_foreign_file_is_refused_and_runs_nothing(tmp_path, kind):
    path, mark = tmp_path / "a.pt", tmp_path / "mark"
    start(checkpoint=path)
    if kind == "text":
        path.write_text("no checkpoint")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "other":
        torch.save({"format": "of somebody else", "settings": {}}, path)
    else:
        torch.save({"format": Trap(mark)}, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="a.pt: found "):
        start(checkpoint=path)
    assert path.read_bytes() == before and not mark.exists()
    if kind == "code":  # the trap does work where a file's code is run
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_a_loss_that_is_not_finite_stops_the_training_and_keeps_the_checkpoint(tmp_path):
    _, expected = start()
    calls = []

    def diverging(model, batch, generator):
        calls.append(1)
        return batch_loss(model, batch, generator) * (float("nan") if len(calls) == 7 else 1.0)

    with pytest.raises(
        ValueError, match=r"stopped after 6 steps: found a loss of nan, .*a\.pt keeps the last good state"
    ):
        start(loss=diverging, checkpoint=tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 4
    assert start(checkpoint=tmp_path / "a.pt")[1].losses == expected.losses
    with pytest.raises(ValueError, match="stopped after 0 steps: found a loss of inf, wanted finite$"):
        start(loss=lambda *arguments: batch_loss(*arguments) * float("inf"))


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """The gradient of the square root at 0 is infinite though its value is finite."""
    calls = []

    def overflowing(model, batch, generator):
        calls.append(1)
        loss = batch_loss(model, batch, generator)
        return loss + (torch.sqrt((loss - loss.detach()).clamp(min=0)) if len(calls) == 8 else 0.0)

    with pytest.raises(ValueError, match=r"after 8 steps: found layers\..* of nan, .*keeps the last good state"):
        start(loss=overflowing, checkpoint=tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 4


def test_a_validation_that_is_not_finite_stops_the_training():
    with pytest.raises(ValueError, match="after 5 steps: found a validation of nan"):
        start(validate=lambda _: float("nan"), validate_every=5)


@pytest.mark.parametrize("number", ["steps", "validate_every", "checkpoint_every"])
def test_numbers_of_steps_are_at_least_one(number):
    with pytest.raises(ValueError, match=f"{number}: found 0, wanted at least 1"):
        start(**{number: 0})


def test_a_loss_per_image_is_refused():
    with pytest.raises(ValueError, match=r"found a loss of shape \(16, 1\), wanted a scalar"):
        start(loss=lambda model, batch, generator: (model(batch["x"]) - batch["y"]).square())


def test_a_failed_checkpoint_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    with pytest.raises(KeyboardInterrupt):
        start(draw=interrupting(2), checkpoint=path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(weights.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        start(checkpoint=path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"] and path.read_bytes() == before


def test_gradient_is_clipped():
    steps = []

    class Noting(torch.optim.SGD):
        def step(self, closure=None):
            steps.append(torch.cat([p.grad.flatten() for group in self.param_groups for p in group["params"]]).norm())
            return super().step(closure)

    model = Regression()
    options = {"steps": 3, "generator": torch.Generator().manual_seed(0), "gradient_clip": 0.01} | QUIET
    train(model, Noting(model.parameters(), lr=0.1), batch_loss, draw_batch, **options)
    assert torch.allclose(torch.stack(steps), torch.tensor(0.01), rtol=1e-3)


def test_half_width_floats_are_used_where_asked_for():
    seen = []

    def noting(model, batch, generator):
        seen.append(model.layers[0](batch["x"]).dtype)
        return batch_loss(model, batch, generator)

    model, _ = start(loss=noting, steps=2, precision="bf16-mixed")
    assert seen == [torch.bfloat16] * 2
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_progress_is_shown_with_the_loss_and_can_be_silenced(capsys):
    _, history = start(progress=True)
    shown = capsys.readouterr().err
    assert "training: 100%" in shown and f"{STEPS}/{STEPS}" in shown and f"loss={history.losses[-1]:.4g}" in shown
    start(progress=False)
    assert capsys.readouterr().err == ""


def test_two_processes_train_together_and_resume_to_the_same_bits(tmp_path):
    """Each draws its own batches; the gradients are averaged; an interruption is answered by both at once."""
    script = tmp_path / "train_together.py"
    script.write_text(
        textwrap.dedent(
            """
            import json, os, signal, sys, torch
            from harmony_lite.training import train

            def run(name, pressed_at=None, checkpoint=None):
                model = torch.nn.Linear(1, 1)
                torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
                drawn = []
                def draw(_, generator):
                    drawn.append(torch.rand(4, 1, generator=generator))
                    if len(drawn) == pressed_at and os.environ.get("LOCAL_RANK", "0") == "0":
                        os.kill(os.getpid(), signal.SIGINT)
                    return drawn[-1]
                def loss(model, x, generator):
                    return (model(x) - 2 * x).square().mean()
                optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
                try:
                    history = train(model, optimizer, loss, draw, steps=6, generator=torch.Generator().manual_seed(0),
                                    accelerator="cpu", devices=2, progress=False, checkpoint=checkpoint)
                except KeyboardInterrupt:
                    return
                rank = os.environ.get("LOCAL_RANK", "0")
                found = {"losses": history.losses, "weight": model.weight.item(), "drawn": torch.stack(drawn).tolist()}
                with open(f"{name}.{rank}.json", "w") as file:
                    json.dump(found, file)

            if __name__ == "__main__":
                # a shell starts what runs in its background with SIGINT ignored, and the tests may run there
                signal.signal(signal.SIGINT, signal.default_int_handler)
                run("whole")
                run("never", pressed_at=3, checkpoint="a.pt")
                run("resumed", checkpoint="a.pt")
            """
        )
    )
    package = Path(training.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert sorted(found) == ["resumed.0", "resumed.1", "whole.0", "whole.1"]
    assert found["whole.0"]["drawn"] != found["whole.1"]["drawn"]
    assert found["whole.0"]["weight"] == found["whole.1"]["weight"]
    for rank in "01":
        assert found[f"resumed.{rank}"]["drawn"] == found[f"whole.{rank}"]["drawn"][3:]
        assert found[f"resumed.{rank}"]["losses"] == found[f"whole.{rank}"]["losses"]
        assert found[f"resumed.{rank}"]["weight"] == found[f"whole.{rank}"]["weight"]
    first = [torch.tensor(found[f"whole.{rank}"]["drawn"][0]) for rank in "01"]
    assert found["whole.0"]["losses"][0] == pytest.approx(float((2 * torch.stack(first)).square().mean()), rel=1e-6)


# ------------------------------------------------------------------------------------------------- as from a CUDA graph


class WithoutDropout(Regression):
    """A recorded step draws dropout from the GPU's own state, an eager one from the training's generator."""

    def __init__(self):
        super().__init__()
        self.layers[3].p = 0.0


@pytest.fixture
def without_dropout(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "Regression", WithoutDropout)


def drawn_alone(model, batch, generator):
    """`batch_loss` without its noise: an eager step draws once more, for dropout."""
    return (model(batch["x"]) - batch["y"]).square().mean()


def every_batch(_, generator):
    return {"x": PEOPLE, "y": torch.sin(3 * PEOPLE)}


def test_captured_steps_give_the_losses_of_eager_ones(monkeypatch, without_dropout):
    """Three steps before the recording and the others after it, with the schedule, clipping and validation."""
    options = {"loss": drawn_alone, "draw": every_batch, "gradient_clip": 1.0, "validate": validation}
    whole, expected = start(steps=120, validate_every=30, **options)
    with as_if_captured(monkeypatch):
        model, history = start(steps=120, validate_every=30, **options)
    assert history.losses == expected.losses and history.validations == expected.validations
    assert_same_bits(model.state_dict(), whole.state_dict())


def test_captured_steps_resume_to_the_same_bits(tmp_path, monkeypatch, without_dropout):
    with as_if_captured(monkeypatch):
        whole, expected = start(validate=validation, validate_every=5)
        interrupted_in_step_six(validate=validation, validate_every=5, checkpoint=tmp_path / "a.pt")
        saved = torch.load(tmp_path / "a.pt", weights_only=True)
        assert saved["step"] == 6 and saved["history"]["losses"] == expected.losses[:6]
        resumed, history = start(validate=validation, validate_every=5, checkpoint=tmp_path / "a.pt")
    assert history.losses == expected.losses and history.validations == expected.validations
    assert_same_bits(resumed.state_dict(), whole.state_dict())


def test_a_captured_loss_that_is_not_finite_is_noticed_and_never_saved(tmp_path, monkeypatch, without_dropout):
    calls = []

    def diverging(model, batch, generator):
        calls.append(1)
        return batch_loss(model, batch, generator) * (float("nan") if len(calls) == 7 else 1.0)

    with as_if_captured(monkeypatch):
        _, expected = start()
        with pytest.raises(ValueError, match="stopped after 6 steps: found a loss of nan, .*keeps the last good state"):
            start(loss=diverging, checkpoint=tmp_path / "a.pt")
        assert len(calls) == 8, "losses are looked at before the checkpoint of step 8 is written"
        assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 4
        assert start(checkpoint=tmp_path / "a.pt")[1].losses == expected.losses
        calls.clear()
        with pytest.raises(ValueError, match="stopped after 6 steps"):
            start(loss=diverging, steps=200, checkpoint_every=200)
        assert len(calls) == steps.CHECK_EVERY


def test_a_step_that_cannot_be_recorded_goes_on_eagerly_with_a_warning(monkeypatch, without_dropout):
    def refuse(step, generators):
        raise RuntimeError("operation not permitted when stream is capturing\nand much more")

    options = {"loss": drawn_alone, "draw": every_batch}
    whole, expected = start(**options)
    with (
        as_if_captured(monkeypatch, recorded=refuse),
        pytest.warns(UserWarning, match="without a CUDA graph, .*: operation not permitted when stream is capturing$"),
    ):
        model, history = start(**options)
    assert history.losses == expected.losses
    assert_same_bits(model.state_dict(), whole.state_dict())


def test_steps_are_eager_on_a_cpu():
    assert isinstance(
        steps.new_steps(SimpleNamespace(device=torch.device("cpu")), draw_batch, None, capture=True), steps.EagerSteps
    )


# --------------------------------------------------------------------------------------------------------- long enough


def curve_of(*values, unit="loss"):
    return History(validations=[(10 * (i + 1), value) for i, value in enumerate(values)], unit=unit)


@pytest.mark.parametrize(
    ("history", "converged"),
    [
        (curve_of(*[5, 4, 3, 2, 2, 2, 2, 2, 1.995, 1.991]), True),  # 0.45 % better
        (curve_of(*[5, 4, 3, 2, 2, 2, 2, 2, 1.995, 1.989]), False),  # 0.55 %
        (curve_of(*[5, 4, 3, 2, 2, 2, 2, 2, 3, 4]), True),  # worse again: the best weights are kept
        (curve_of(*[-20, -25, -30, -30.05, -30.09], unit=DECIBEL), True),
        (curve_of(*[-20, -25, -30, -30.05, -30.16], unit=DECIBEL), False),
        (curve_of(1, 1, 1, 1), False),  # too few points to tell
        (History(losses=[1 / (1 + step) for step in range(100)]), False),  # without validation: by the losses
        (History(losses=[1.0] * 100), True),
        (History(), False),
    ],
)
def test_a_training_has_converged_when_its_last_fifth_gains_nothing(history, converged):
    assert history.converged is converged


def test_a_curve_has_at_most_twenty_points_and_the_last_one():
    history = curve_of(*range(50))
    assert len(history.curve()) == 20 and history.curve()[-1] == (500, 49)
    assert curve_of(3, 2).curve() == [(10, 3), (20, 2)]
    assert History(losses=[2.0, 4.0] * 20).curve() == [(2 * part, 3.0) for part in range(1, 21)]
    assert History().curve() == []
    card = History.described({"a": curve_of(*[2.0] * 6), "b": curve_of(*[1.0] * 4, 0.5, 0.2)})
    assert card["converged"] is False and card["curves"]["b"]["points"][-1] == [60, 0.2]
    assert History.described({}) == {"curves": {}, "converged": None}
