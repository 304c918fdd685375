"""The fake backend keeps the interfaces' promises, so that what is proven with it is proven."""

from __future__ import annotations

import numpy as np
import pytest
from decoder_fixtures import Source

from attacca.engine.events import Model
from attacca.engine.fake import FakeConfig, FakeModel, fake_codes, fake_timesteps
from attacca.engine.generator import Sampling


@pytest.mark.parametrize(("rate", "hop", "codebooks", "delay"), [(32000, 640, 4, 0), (44100, 441, 8, 700)])
def test_audio_is_its_own_index(rate: int, hop: int, codebooks: int, delay: int) -> None:
    config = FakeConfig(sample_rate=rate, hop_samples=hop, num_codebooks=codebooks, delay_samples=delay)
    model: Model = FakeModel(manifest=config)
    encoder, generator, decoder = model.codec.encoder(), model.generator(), model.codec.decoder()
    heard = encoder.push(np.zeros(10 * hop + 3, np.float32))
    generator.listen(heard, np.zeros((10, 1), np.float32))
    generator.plan(30, Source(), Sampling())
    audio = np.concatenate([decoder.push(generator.read(t, t + 5)) for t in range(0, 30, 5)])
    np.testing.assert_array_equal(audio[delay:], np.arange(30 * hop - delay, dtype=np.float32))
    np.testing.assert_array_equal(audio[:delay], 0.0)


def test_rollback_starts_a_generation() -> None:
    generator = FakeModel().generator()
    generator.plan(20, Source(), Sampling())
    generator.rollback(12)
    generator.plan(20, Source(), Sampling())
    codes = generator.read(0, 20)
    np.testing.assert_array_equal(fake_timesteps(codes), np.arange(20))
    np.testing.assert_array_equal(codes[:, 2], np.arange(20) >= 12)


def test_cost_is_asked_at_every_step() -> None:
    spent: list[int] = []
    generator = FakeModel(manifest=FakeConfig(cost=spent.append, lag_steps=9)).generator()
    assert generator.plan(5, Source(), Sampling(), max_steps=6) == 6
    assert generator.frontier == 0
    generator.plan(5, Source(), Sampling())
    assert spent == [1] * 14


def test_snapshot_and_fork() -> None:
    generator = FakeModel().generator()
    generator.plan(8, Source(), Sampling())
    state, fork = generator.snapshot(), generator.fork()
    generator.rollback(2)
    fork.plan(30, Source(), Sampling())
    generator.restore(state)
    assert (generator.frontier, fork.frontier) == (8, 30)
    np.testing.assert_array_equal(generator.read(0, 8), fork.read(0, 8))


def test_codes_spell_timesteps_for_hours() -> None:
    at = np.array([0, 1023, 1024, 2**20 - 1])
    np.testing.assert_array_equal(fake_timesteps(fake_codes(at, 3, 4)), at)


@pytest.mark.parametrize("field", ["hop_samples", "num_codebooks", "sample_rate"])
def test_configuration_is_checked(field: str) -> None:
    with pytest.raises(ValueError, match=f"FakeConfig.{field} 0 is outside"):
        FakeConfig(**{field: 0})
