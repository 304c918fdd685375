"""The exported decoder equals torch: the same logits step by step as teacher-forced, in every pattern."""

from __future__ import annotations

import numpy as np
import pytest
from decoder_fixtures import TINY_LAYOUT, Source, random_codes

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from attacca.engine.decoder import PatternDecoder  # noqa: E402
from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.runtime import StepRuntime  # noqa: E402
from attacca.export.calibrate import calibrate_cache, forced_logits  # noqa: E402
from attacca.export.decoder import DecoderExport, DecoderShape, build_decoder  # noqa: E402
from attacca.export.graph import block_size, quantize_blockwise  # noqa: E402
from attacca.export.verify import runtime_of, torch_logits  # noqa: E402
from attacca.training.decoder_model import Decoder, DecoderConfig  # noqa: E402

Logits = dict[tuple[int, int], np.ndarray]

pytestmark = pytest.mark.train
torch.set_num_threads(1)

CODEBOOKS, SIZE, WINDOW, FRAMES, GUIDANCE = 4, 32, 24, 60, 1.7
PATTERNS = [("stack-delay", p) for p in (1, 2, 3, 4)] + [
    (name, 1) for name in ("delay", "stack", "flat", "parallel")
]


def small_decoder(name: str = "stack-delay", p: int = 3) -> Decoder:
    """Random weights, none of them zero, so that every part of the graph counts."""
    config = DecoderConfig(
        num_codebooks=CODEBOOKS,
        codebook_size=SIZE,
        dim=128,
        layers=2,
        heads=2,
        ffn_dim=192,
        cond_width=TINY_LAYOUT.width,
        pattern=name,
        p=p,
        window_frames=WINDOW,
    )
    torch.manual_seed(1)
    model = Decoder(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            else:
                parameter.normal_(std=1.5 * parameter.shape[-1] ** -0.5)
    return model


def weights_of(model: Decoder) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def exported(
    model: Decoder, precision: str = "fp32", kv_scales: dict[str, np.ndarray] | None = None
) -> StepRuntime:
    bits = 32 if kv_scales is None else 8
    options = DecoderExport(heads=2, window_frames=WINDOW, precision=precision, kv_bits=bits)
    graph = build_decoder(weights_of(model), options, kv_scales)
    return runtime_of(model.config, graph, TINY_LAYOUT, precision=precision, kv_bits=bits)


def example(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes [FRAMES, K] and conditions of timesteps -1 .. FRAMES + lag."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, SIZE, (FRAMES, CODEBOOKS)).astype(np.uint16)
    return codes, rng.standard_normal((FRAMES + 40, TINY_LAYOUT.width)).astype(np.float32)


@pytest.mark.parametrize(("name", "p"), PATTERNS)
@pytest.mark.parametrize("prefix", [0, 13])
def test_steps_equal_teacher_forced_torch(name: str, p: int, prefix: int) -> None:
    model = small_decoder(name, p)
    runtime = exported(model)
    codes, conditions = example()
    pattern = model.config.make_pattern()
    stepped = forced_logits(runtime, pattern, codes, conditions, prefix=prefix, guidance=GUIDANCE)
    expected = torch_logits(model, codes, conditions[: FRAMES + 1], prefix=prefix, guidance=GUIDANCE)
    assert len(expected) >= CODEBOOKS * (FRAMES - prefix - 2 * pattern.lag_steps - 1)
    assert set(expected) <= set(stepped)
    for cell, logits in expected.items():
        np.testing.assert_allclose(stepped[cell], logits, atol=1e-4)


def distance(near: Logits, far: Logits) -> float:
    """RMS distance relative to the RMS of `far`."""
    apart, size = (np.sqrt(np.mean(np.square(x))) for x in ([near[c] - far[c] for c in far], list(far.values())))
    return float(apart / size)


@pytest.mark.parametrize(
    ("precision", "eight_bit_cache", "limit"),
    [
        ("fp16", False, 2e-3),
        ("int8", False, 0.06),
        ("int4", False, 0.6),
        ("fp32", True, 0.1),
        ("int8", True, 0.1),
    ],
)
def test_precisions_stay_near(precision: str, eight_bit_cache: bool, limit: float) -> None:
    model = small_decoder()
    codes, conditions = example()
    pattern, exact = model.config.make_pattern(), exported(model)
    scales = calibrate_cache(exact, pattern, Source(salt=3)) if eight_bit_cache else None
    near, far = (
        forced_logits(runtime, pattern, codes, conditions, prefix=5)
        for runtime in (exported(model, precision, scales), exact)
    )
    assert 0.0 < distance(near, far) < limit


@pytest.mark.parametrize(("precision", "eight_bit_cache"), [("int8", False), ("int8", True), ("int4", False)])
def test_quantized_decoding_is_equal_to_the_bit(precision: str, eight_bit_cache: bool) -> None:
    """A rounding that fell the other way would show: prefill in pieces, a rollback, compactions on the way."""
    model = small_decoder()
    pattern = model.config.make_pattern()
    scales = calibrate_cache(exported(model), pattern, Source(salt=3)) if eight_bit_cache else None
    runtime = exported(model, precision, scales)
    codes, conditions, sampling = random_codes(150, size=SIZE), Source().rows(0, 150), Sampling(guidance=1.5)
    at_once, in_pieces = (PatternDecoder(runtime, pattern) for _ in range(2))
    at_once.listen(codes, conditions)
    start = 0
    for size in (1, 2, 31, 7, 1, 64, 44):
        in_pieces.listen(codes[start : start + size], conditions[start : start + size])
        start += size
    in_pieces.plan(230, Source(salt=1), sampling)
    in_pieces.rollback(150)
    found = []
    for decoder in (at_once, in_pieces):
        decoder.plan(230, Source(), sampling)
        found.append((decoder.read(150, 230), decoder._lane.logits.copy()))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_same_weights_give_the_same_bytes() -> None:
    weights = weights_of(small_decoder())
    options = DecoderExport(heads=2, window_frames=WINDOW, precision="int8")
    first, second = (build_decoder(weights, options).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("columns", [32, 128, 200])
def test_blockwise_codes_give_back_the_weights(bits: int, columns: int) -> None:
    weight = np.random.default_rng(0).standard_normal((7, columns)).astype(np.float32)
    weight[3] = 0.0
    block = block_size(columns)
    packed, scales = quantize_blockwise(weight, bits=bits, block=block)
    codes = packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(7, -1, block)
    steps = scales.reshape(7, -1, 1)
    restored = ((codes.astype(np.float32) - 2.0 ** (bits - 1)) * steps).reshape(7, -1)[:, :columns]
    allowed = np.repeat(np.abs(steps), block, axis=2).reshape(7, -1)[:, :columns]
    assert (np.abs(restored - weight) <= allowed * 1.001).all()
    assert np.mean(np.abs(restored - weight)) < 0.3 * np.mean(allowed)
    np.testing.assert_array_equal(restored[3], 0.0)


def test_wrong_weights_are_named() -> None:
    weights = weights_of(small_decoder())
    with pytest.raises(ValueError, match="decoder weights lack 'tok_emb'"):
        DecoderShape.of({name: value for name, value in weights.items() if name != "tok_emb"})
    weights["layers.1.out.weight"] = weights["layers.1.out.weight"][:-1]
    with pytest.raises(ValueError, match=r"'layers.1.out.weight' has shape \(127, 128\), expected \(128, 128\)"):
        build_decoder(weights, DecoderExport(heads=2, window_frames=WINDOW))


@pytest.mark.parametrize(
    ("field", "value"), [("precision", "fp8"), ("kv_bits", 16), ("heads", 0), ("window_frames", 0)]
)
def test_options_are_checked(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} {value!r}"):
        DecoderExport(**({"heads": 2, "window_frames": 8} | {field: value}))
