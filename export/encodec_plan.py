"""What an EnCodec network consists of: its configuration, its layers in order and the weights that they need.

Between a checkpoint (export/encodec_checkpoint.py) and the streaming graphs (export/encodec.py). The layers are
those of SEANet as EnCodec uses it (Defossez et al. 2022, section 3.1), numbered as the published checkpoints do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from math import ceil, log2, prod

_MOST_RATIO = 64
PAD_MODES = ("reflect", "constant")
_LIMITS = {
    "sample_rate": (8000, 192000),
    "num_filters": (1, 1024),
    "num_residual_layers": (0, 8),
    "kernel": (1, 63),
    "last_kernel": (1, 63),
    "residual_kernel": (1, 63),
    "dilation_growth": (1, 8),
    "compress": (1, 64),
    "lstm_layers": (1, 8),
    "hidden": (1, 4096),
    "num_codebooks": (1, 32),
    "codebook_size": (2, 65536),
}


@dataclass(frozen=True, kw_only=True)
class EncodecConfig:
    """Sizes of one mono EnCodec. Convolutions look both ways; weight normalisation is folded in already."""

    sample_rate: int = 32000
    num_filters: int = 64
    num_residual_layers: int = 1
    ratios: tuple[int, ...] = (8, 5, 4, 4)  # in the decoder's order
    kernel: int = 7
    last_kernel: int = 7
    residual_kernel: int = 3
    dilation_growth: int = 2
    compress: int = 2
    lstm_layers: int = 2
    conv_shortcut: bool = False
    pad_mode: str = "reflect"
    hidden: int = 128
    num_codebooks: int = 4
    codebook_size: int = 2048

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name in _LIMITS:
                low, high = _LIMITS[entry.name]
                if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                    raise ValueError(f"EncodecConfig.{entry.name} is {value!r}, allowed: an integer {low}..{high}")
        for name in ("kernel", "last_kernel", "residual_kernel"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"EncodecConfig.{name} is {getattr(self, name)}, allowed: odd numbers")
        _ratios(self.ratios)
        if self.num_filters < self.compress:
            raise ValueError(
                f"EncodecConfig.compress is {self.compress}, allowed: up to {self.num_filters} filters"
            )
        if self.pad_mode not in PAD_MODES:
            raise ValueError(f"EncodecConfig.pad_mode is {self.pad_mode!r}, allowed: {', '.join(PAD_MODES)}")

    @property
    def hop_samples(self) -> int:
        """Samples of a frame."""
        return prod(self.ratios)

    @classmethod
    def of_transformers(cls, config: Mapping[str, object]) -> EncodecConfig:
        """From the `audio_encoder` section of a MusicGen config.json, or EnCodec's own config.json.

        Left-out fields have transformers' defaults. ValueError names what cannot be streamed exactly.
        """
        refused = {
            "model_type": ("encodec",),
            "audio_channels": (1,),
            "normalize": (False,),
            "chunk_length_s": (None,),
            "norm_type": ("weight_norm",),
            "use_causal_conv": (False,),
            "trim_right_ratio": (1, 1.0),
        }
        defaults = {
            "model_type": "encodec",
            "audio_channels": 1,
            "norm_type": "weight_norm",
            "use_causal_conv": True,
        }
        for name, allowed in refused.items():
            value = config.get(name, defaults.get(name, allowed[0]))
            if value not in allowed:
                raise ValueError(f"audio_encoder.{name} is {value!r}, allowed: {allowed[0]!r}")
        ratios = _ratios(config.get("upsampling_ratios", (8, 5, 4, 2)))
        rate, size = _integer(config, "sampling_rate", 24000), _integer(config, "codebook_size", 1024)
        hidden = _integer(config, "hidden_size", 128)
        if config.get("codebook_dim") not in (None, hidden):
            raise ValueError(f"audio_encoder.codebook_dim is {config['codebook_dim']!r}, allowed: {hidden}")
        bandwidths = config.get("target_bandwidths", (1.5, 3.0, 6.0, 12.0, 24.0))
        if not isinstance(bandwidths, list | tuple) or not bandwidths:
            raise ValueError(f"audio_encoder.target_bandwidths is {bandwidths!r}, allowed: a list of kbit/s")
        bits = max(1, ceil(rate / prod(ratios)) * ceil(log2(max(size, 2))))
        return cls(
            sample_rate=rate,
            num_filters=_integer(config, "num_filters", 32),
            num_residual_layers=_integer(config, "num_residual_layers", 1),
            ratios=ratios,
            kernel=_integer(config, "kernel_size", 7),
            last_kernel=_integer(config, "last_kernel_size", 7),
            residual_kernel=_integer(config, "residual_kernel_size", 3),
            dilation_growth=_integer(config, "dilation_growth_rate", 2),
            compress=_integer(config, "compress", 2),
            lstm_layers=_integer(config, "num_lstm_layers", 2),
            conv_shortcut=bool(config.get("use_conv_shortcut", True)),
            pad_mode=str(config.get("pad_mode", "reflect")),
            hidden=hidden,
            num_codebooks=int(1000 * float(bandwidths[-1]) // bits),
            codebook_size=size,
        )

    @classmethod
    def of_audiocraft(cls, config: Mapping[str, object]) -> EncodecConfig:
        """From the resolved `xp.cfg` of a compression checkpoint. ValueError names what is not understood."""
        parts: dict[str, Mapping[str, object]] = {}
        for name in ("encodec", "seanet", "rvq"):
            section = config.get(name)
            if not isinstance(section, Mapping):
                raise ValueError(f"xp.cfg has no section {name!r}")
            parts[name] = section
        seanet, rvq = dict(parts["seanet"]), parts["rvq"]
        for name in ("encoder", "decoder"):
            own = seanet.pop(name, None) or {}
            known = {"trim_right_ratio": 1.0, "final_activation": None, "final_activation_params": None}
            if not isinstance(own, Mapping) or any(key not in known or own[key] != known[key] for key in own):
                raise ValueError(
                    f"xp.cfg seanet.{name} is {own!r}, allowed: settings of its own only as in {known}"
                )
        checks = (
            ("encodec.autoencoder", parts["encodec"].get("autoencoder", "seanet"), "seanet"),
            ("encodec.quantizer", parts["encodec"].get("quantizer", "rvq"), "rvq"),
            ("encodec.renormalize", bool(parts["encodec"].get("renormalize", False)), False),
            ("seanet.channels", seanet.get("channels", 1), 1),
            ("seanet.causal", seanet.get("causal", False), False),
            ("seanet.activation", seanet.get("activation", "ELU"), "ELU"),
            ("seanet.norm", seanet.get("norm", "none"), "weight_norm"),
            ("seanet.disable_norm_outer_blocks", seanet.get("disable_norm_outer_blocks", 0), 0),
        )
        for name, value, allowed_value in checks:
            if value != allowed_value:
                raise ValueError(f"xp.cfg {name} is {value!r}, allowed: {allowed_value!r}")
        return cls(
            sample_rate=_integer(parts["encodec"], "sample_rate", 32000),
            num_filters=_integer(seanet, "n_filters", 32),
            num_residual_layers=_integer(seanet, "n_residual_layers", 3),
            ratios=_ratios(seanet.get("ratios", (8, 5, 4, 2))),
            kernel=_integer(seanet, "kernel_size", 7),
            last_kernel=_integer(seanet, "last_kernel_size", 7),
            residual_kernel=_integer(seanet, "residual_kernel_size", 3),
            dilation_growth=_integer(seanet, "dilation_base", 2),
            compress=_integer(seanet, "compress", 2),
            lstm_layers=_integer(seanet, "lstm", 0),
            conv_shortcut=not seanet.get("true_skip", True),
            pad_mode=str(seanet.get("pad_mode", "reflect")),
            hidden=_integer(seanet, "dimension", 128),
            num_codebooks=_integer(rvq, "n_q", 8),
            codebook_size=_integer(rvq, "bins", 1024),
        )


def _integer(config: Mapping[str, object], name: str, default: int) -> int:
    value = config.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, allowed: an integer")
    return value


def _ratios(value: object) -> tuple[int, ...]:
    if (
        not isinstance(value, list | tuple)
        or not value
        or not all(isinstance(ratio, int) and 1 < ratio <= _MOST_RATIO for ratio in value)
    ):
        raise ValueError(f"the ratios are {value!r}, allowed: integers 2..{_MOST_RATIO}")
    return tuple(value)


@dataclass(frozen=True, kw_only=True)
class Conv:
    """A convolution, or a transposed one, that keeps `length / stride` or makes `length * stride` of its input."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    transposed: bool = False
    elu: bool = True  # ELU stands before it

    @property
    def span(self) -> int:
        """Input samples from the first to the last that a kernel touches."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def pad_right(self) -> int:
        """Padding, or trimming of a transposed one, at the end; the odd sample is at the beginning."""
        return (self.span - self.stride) // 2

    @property
    def pad_left(self) -> int:
        """Padding, or trimming of a transposed one, at the beginning."""
        return self.span - self.stride - self.pad_right

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes."""
        pair = (self.inputs, self.outputs) if self.transposed else (self.outputs, self.inputs)
        return {f"{self.name}.weight": (*pair, self.kernel), f"{self.name}.bias": (self.outputs,)}


@dataclass(frozen=True, kw_only=True)
class Residual:
    """Two convolutions beside a shortcut."""

    first: Conv
    second: Conv
    shortcut: Conv | None

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes."""
        shortcut = {} if self.shortcut is None else self.shortcut.weights()
        return {**self.first.weights(), **self.second.weights(), **shortcut}


@dataclass(frozen=True, kw_only=True)
class Lstm:
    """One-way LSTM layers with a skip over all of them."""

    name: str
    size: int
    layers: int

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes; gates stand in torch's order i, f, g, o."""
        found: dict[str, tuple[int, ...]] = {}
        for layer in range(self.layers):
            for kind in ("ih", "hh"):
                found[f"{self.name}.weight_{kind}_l{layer}"] = (4 * self.size, self.size)
                found[f"{self.name}.bias_{kind}_l{layer}"] = (4 * self.size,)
        return found


Layer = Conv | Residual | Lstm


def _residuals(config: EncodecConfig, side: str, start: int, size: int) -> Iterator[Residual]:
    for j in range(config.num_residual_layers):
        name, hidden = f"{side}.layers.{start + j}", size // config.compress
        dilation = config.dilation_growth**j
        yield Residual(
            first=Conv(name=f"{name}.block.1.conv", inputs=size, outputs=hidden, kernel=config.residual_kernel,
                       dilation=dilation),
            second=Conv(name=f"{name}.block.3.conv", inputs=hidden, outputs=size, kernel=1),
            shortcut=Conv(name=f"{name}.shortcut.conv", inputs=size, outputs=size, kernel=1, elu=False)
            if config.conv_shortcut
            else None,
        )  # fmt: skip


def encoder_layers(config: EncodecConfig) -> list[Layer]:
    """Audio to latents. Numbers count the ELUs too, as in the checkpoints."""
    size = config.num_filters
    layers: list[Layer] = [
        Conv(name="encoder.layers.0.conv", inputs=1, outputs=size, kernel=config.kernel, elu=False)
    ]
    number = 1
    for ratio in reversed(config.ratios):
        layers += _residuals(config, "encoder", number, size)
        number += config.num_residual_layers + 1
        layers.append(
            Conv(
                name=f"encoder.layers.{number}.conv", inputs=size, outputs=2 * size, kernel=2 * ratio, stride=ratio
            )
        )
        number, size = number + 1, 2 * size
    layers.append(Lstm(name=f"encoder.layers.{number}.lstm", size=size, layers=config.lstm_layers))
    last = f"encoder.layers.{number + 2}.conv"
    layers.append(Conv(name=last, inputs=size, outputs=config.hidden, kernel=config.last_kernel))
    return layers


def decoder_layers(config: EncodecConfig) -> list[Layer]:
    """Latents to audio."""
    size = config.num_filters * 2 ** len(config.ratios)
    layers: list[Layer] = [
        Conv(name="decoder.layers.0.conv", inputs=config.hidden, outputs=size, kernel=config.kernel, elu=False),
        Lstm(name="decoder.layers.1.lstm", size=size, layers=config.lstm_layers),
    ]
    number = 3
    for ratio in config.ratios:
        name = f"decoder.layers.{number}.conv"
        layers.append(
            Conv(name=name, inputs=size, outputs=size // 2, kernel=2 * ratio, stride=ratio, transposed=True)
        )
        number, size = number + 1, size // 2
        layers += _residuals(config, "decoder", number, size)
        number += config.num_residual_layers + 1
    last = f"decoder.layers.{number}.conv"
    layers.append(Conv(name=last, inputs=size, outputs=1, kernel=config.last_kernel))
    return layers


def needed_weights(config: EncodecConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all that the graphs are made of."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in [*encoder_layers(config), *decoder_layers(config)]:
        found |= layer.weights()
    for k in range(config.num_codebooks):
        found[f"quantizer.layers.{k}.codebook.embed"] = (config.codebook_size, config.hidden)
    return found
