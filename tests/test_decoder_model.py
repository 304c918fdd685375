"""The decoder's training form equals step-by-step decoding, and the layout is what the schedule feeds."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attacca.engine.schedule import Schedule, context_rows  # noqa: E402
from attacca.training.decoder_model import Decoder, LayoutTensors, sized  # noqa: E402
from attacca.training.decoder_reference import ReferenceStepper  # noqa: E402
from attacca.training.layout import build_layout  # noqa: E402

pytestmark = pytest.mark.train
TIMESTEPS = 26
COND_WIDTH = 5
PATTERNS = [("stack-delay", p) for p in (1, 2, 3, 4)] + [("stack", 1), ("delay", 1), ("flat", 1), ("parallel", 1)]


def make_model(name: str, p: int, window: int = 500, books: int = 3) -> Decoder:
    torch.manual_seed(0)
    config = sized("2x128", num_codebooks=books, codebook_size=17, cond_width=COND_WIDTH, pattern=name, p=p,
                   window_frames=window)  # fmt: skip
    model = Decoder(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.5 * weight.shape[-1] ** -0.5) if weight.dim() > 1 else weight.uniform_(0.5, 1.5)
    return model


def teacher_forced(
    model: Decoder, codes, cond, prefix: int, fresh: bool = True
) -> dict[tuple[int, int], np.ndarray]:
    config = model.config
    layout = build_layout(config.make_pattern(), TIMESTEPS, prefix, config.window_frames, fresh=fresh)
    tensors = LayoutTensors(layout, torch.device("cpu"), torch.float32)
    outputs = model.forward_layout(codes[None], cond[None], tensors)[0]
    return {
        (int(t), k): model.logits(outputs[row], k).numpy()
        for k in range(config.num_codebooks)
        for row, t in zip(layout.target_rows[k], layout.target_timesteps[k], strict=True)
    }


def step_by_step(
    model: Decoder, codes, cond, prefix: int, drop_bos: bool = False
) -> dict[tuple[int, int], np.ndarray]:
    pattern, mask = model.config.make_pattern(), model.config.codebook_size
    known = codes[:prefix].numpy()
    stepper = ReferenceStepper(model, cond)
    rows = context_rows(pattern, mask, known)
    if drop_bos:
        rows = type(rows)(*(part[1:] for part in rows))
    if prefix:
        stepper.prefill(rows)
    schedule = Schedule(pattern, mask, prefix)
    schedule.prefix(known)
    found = {}
    while int((step := schedule.next_rows()).target.max()) < TIMESTEPS:
        logits = stepper.step(step)
        assert len(stepper.keys[0]) > 0
        for k, t in enumerate(step.target):
            if t >= 0:
                found[int(t), k] = logits[k].numpy()
        schedule.accept([int(codes[t, k]) if t >= 0 else -1 for k, t in enumerate(step.target)])
    return found


def material(books: int = 3):
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, 17, (TIMESTEPS, books), generator=generator)
    return codes, torch.randn(TIMESTEPS + 1, COND_WIDTH, generator=generator)


def assert_equal(one: dict, other: dict) -> None:
    assert one.keys() == other.keys() and len(one) > TIMESTEPS
    for cell, logits in one.items():
        np.testing.assert_allclose(logits, other[cell], rtol=1e-4, atol=1e-4, err_msg=str(cell))


@pytest.mark.parametrize(("name", "p"), PATTERNS)
@pytest.mark.parametrize("prefix", [0, 7])
@torch.no_grad()
def test_teacher_forced_equals_step_by_step(name: str, p: int, prefix: int) -> None:
    model, (codes, cond) = make_model(name, p), material()
    assert_equal(teacher_forced(model, codes, cond, prefix), step_by_step(model, codes, cond, prefix))


@pytest.mark.parametrize(("name", "p"), [("stack-delay", 3), ("stack", 1), ("delay", 1)])
@torch.no_grad()
def test_window_and_missing_bos(name: str, p: int) -> None:
    codes, cond = material()
    windowed, whole = make_model(name, p, window=8), make_model(name, p)
    forced = teacher_forced(windowed, codes, cond, 5)
    assert_equal(forced, step_by_step(windowed, codes, cond, 5))
    last = max(forced)
    assert not np.allclose(forced[last], teacher_forced(whole, codes, cond, 5)[last], atol=1e-3)
    if name.startswith("stack"):
        without = teacher_forced(whole, codes, cond, 5, fresh=False)
        assert_equal(without, step_by_step(whole, codes, cond, 5, drop_bos=True))
        assert not np.allclose(without[last], teacher_forced(whole, codes, cond, 5)[last], atol=1e-3)
