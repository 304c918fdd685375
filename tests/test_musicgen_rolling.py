"""Takes without end: segments change where they should, whoever made the frames, and positions stay in range."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")

from musicgen_fixtures import make_musicgen, save  # noqa: E402
from test_musicgen import Exported, NoConditions, token_ids  # noqa: E402

from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.musicgen import MusicgenDecoder  # noqa: E402
from attacca.engine.rolling import RollingDecoder  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
HORIZON, KEEP, TOTAL = 60, 25, 150  # segments begin at 0, 35, 70, 105 and take over at 60, 95, 130
SAMPLING = Sampling(seed=5, guidance=2.0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    model = make_musicgen()
    return Exported(model, save(model, tmp_path_factory.mktemp("rolling")))


def rolling(exported: Exported) -> RollingDecoder:
    prompt = exported.prompt(token_ids(1, 6))
    return RollingDecoder(lambda: exported.decoder(prompt), horizon=HORIZON, keep=KEEP, num_codebooks=4)


def planned(exported: Exported, slices: int | None = None) -> np.ndarray:
    """All codes [TOTAL, 4], planned in slices of so many steps."""
    decoder, parts = rolling(exported), []
    while decoder.frontier < TOTAL:
        before = decoder.frontier
        decoder.plan(min(TOTAL, before + 20), NoConditions(), SAMPLING, max_steps=slices)
        parts.append(decoder.read(before, decoder.frontier))
    return np.concatenate(parts)


def test_a_segment_is_a_decoder_that_heard_its_beginning(exported: Exported) -> None:
    codes = planned(exported)
    plain: MusicgenDecoder = exported.decoder(exported.prompt(token_ids(1, 6)))
    plain.plan(HORIZON, NoConditions(), SAMPLING)
    assert np.array_equal(plain.read(0, HORIZON), codes[:HORIZON])
    for base in (35, 70, 105):
        plain = exported.decoder(exported.prompt(token_ids(1, 6)))
        plain.origin = base
        for start in range(base, base + KEEP, 16):
            part = codes[start : min(start + 16, base + KEEP)]
            plain.listen(part, np.zeros((len(part), 0), np.float32))
        stop = min(base + HORIZON, TOTAL)
        plain.plan(stop - base, NoConditions(), SAMPLING)
        assert np.array_equal(plain.read(KEEP, stop - base), codes[base + KEEP : stop])


@pytest.mark.parametrize("slices", [1, 7])
def test_slices_change_nothing(exported: Exported, slices: int) -> None:
    assert np.array_equal(planned(exported, slices), planned(exported))


@pytest.mark.parametrize(("to", "reached"), [(20, 58), (50, 69), (59, 61), (61, 90), (96, 128)])
def test_rolling_back_and_forking_equal_never_having_planned(exported: Exported, to: int, reached: int) -> None:
    codes, decoder = planned(exported), rolling(exported)
    decoder.plan(to, NoConditions(), SAMPLING)
    decoder.plan(reached, NoConditions(), Sampling(seed=9, guidance=2.0))
    decoder.rollback(to)
    fork = decoder.fork()
    for each in (decoder, fork):
        each.plan(TOTAL, NoConditions(), SAMPLING)
        assert np.array_equal(each.read(TOTAL - HORIZON, TOTAL), codes[TOTAL - HORIZON :])
    with pytest.raises(ValueError, match="further back than the kept window"):
        decoder.rollback(20)
    with pytest.raises(TypeError, match="allowed: a RollingDecoder's snapshot"):
        decoder.restore(None)


def test_heard_frames_roll_too(exported: Exported) -> None:
    codes, decoder = planned(exported), rolling(exported)
    for start in range(0, 128, 8):
        decoder.listen(codes[start : start + 8], np.zeros((8, 0), np.float32))
    assert decoder.frontier == 128 and np.array_equal(decoder.read(70, 128), codes[70:128])
    decoder.plan(TOTAL, NoConditions(), SAMPLING)
    assert np.array_equal(decoder.read(128, TOTAL), codes[128:])
    decoder.reset()
    decoder.plan(30, NoConditions(), SAMPLING)
    assert np.array_equal(decoder.read(0, 30), codes[:30])


def test_a_known_end_is_kept_across_segments(exported: Exported) -> None:
    whole, ended = planned(exported), rolling(exported)
    ended.end_at(TOTAL)
    ended.plan(TOTAL, NoConditions(), SAMPLING)
    assert np.array_equal(ended.read(100, TOTAL - 3), whole[100 : TOTAL - 3])
    with pytest.raises(ValueError, match="end_frame 3 is below the frontier 150"):
        ended.end_at(3)
    with pytest.raises(ValueError, match=r"keep 60 is outside 1\.\.59"):
        RollingDecoder(lambda: exported.decoder(None), horizon=60, keep=60, num_codebooks=4)  # type: ignore[arg-type]
