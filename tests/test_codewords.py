"""Shared codewords are a way to train, not another model: folded, the decoder is plain with the same logits."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from attacca.training.codec_model import CodecNet, tiny_config  # noqa: E402
from attacca.training.codec_train import State  # noqa: E402
from attacca.training.codewords import SharingDecoder, codewords_of, fold  # noqa: E402
from attacca.training.decoder_model import Decoder, LayoutTensors, sized  # noqa: E402
from attacca.training.layout import build_layout  # noqa: E402
from attacca.training.quantizer import fit_quantizer  # noqa: E402

pytestmark = pytest.mark.train
BOOKS, SIZE, WIDTH, FRAMES = 3, 11, 5, 12
CONFIG = sized(
    "2x64", num_codebooks=BOOKS, codebook_size=SIZE, cond_width=7, pattern="stack-delay", p=3, window_frames=64
)


def sharing() -> SharingDecoder:
    torch.manual_seed(1)
    model = SharingDecoder(CONFIG, torch.randn(BOOKS, SIZE, WIDTH))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


def logits(model: Decoder) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(SIZE, (2, FRAMES, BOOKS), generator=generator)
    cond = torch.randn(2, FRAMES + 1, 7, generator=generator)
    layout = LayoutTensors(
        build_layout(CONFIG.make_pattern(), FRAMES, 4, 64, fresh=True), torch.device("cpu"), torch.float32
    )
    outputs = model.forward_layout(codes, cond, layout)
    return [model.logits(outputs, k) for k in range(BOOKS)]


def test_folded_is_a_plain_decoder_with_the_same_logits() -> None:
    model = sharing()
    plain = fold(CONFIG, model.state_dict())
    assert type(plain) is Decoder
    for ours, theirs in zip(logits(model), logits(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    moved = logits(model)[0]
    with torch.no_grad():
        model.head_map.zero_()
    assert (moved - logits(model)[0]).abs().max() > 0.1  # the maps do take part


def test_a_plain_state_folds_to_itself() -> None:
    plain = Decoder(CONFIG)
    for name, weight in fold(CONFIG, plain.state_dict()).state_dict().items():
        assert torch.equal(weight, plain.state_dict()[name])


def test_what_one_code_learns_its_twin_knows() -> None:
    model = sharing()
    with torch.no_grad():
        model.codewords[0, 1] = model.codewords[0, 0]
    before = model.head(0)[:, 1].clone()
    model.head(0)[:, 0].sum().backward()
    with torch.no_grad():
        model.head_map -= model.head_map.grad
    assert not torch.allclose(before, model.head(0)[:, 1])


def test_codewords_come_from_the_codec_at_one_scale(tmp_path: Path) -> None:
    config = tiny_config()
    points = torch.randn(400, config.latent_dim).numpy() * 3 + 5
    quantizer = fit_quantizer(points, num_codebooks=config.num_codebooks, codebook_size=16, whitening=-0.5, seed=0)
    State(net=CodecNet(config), stage="fit", quantizer=quantizer).save(tmp_path / "codec.pt")
    found = codewords_of(tmp_path)
    assert found.shape[:2] == (config.num_codebooks, 16)
    torch.testing.assert_close(found.mean(1), torch.zeros_like(found[:, 0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.square().mean((1, 2)), torch.ones(len(found)))
    State(net=CodecNet(config)).save(tmp_path / "codec.pt")
    with pytest.raises(ValueError, match="no quantiser"):
        codewords_of(tmp_path)


def test_codewords_of_another_codec_are_refused() -> None:
    with pytest.raises(ValueError, match="3 x 12 codes"):
        SharingDecoder(CONFIG, torch.randn(BOOKS, 12, WIDTH))
