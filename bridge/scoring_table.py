"""The table, or the JSON, of `attacca models score` (bridge/scoring.py)."""

from __future__ import annotations

import json
from dataclasses import asdict

from attacca.bridge.scoring import Report, Scored
from attacca.bridge.tables import console, print_rows

_COLUMNS = (
    *("bundle", "weights", "cache", "MB", "bits/frame"),
    *("logits max", "rms", "of spread", "KL bits by codebook", "top 1", "mel dB", "same frames"),
)


def print_report(report: Report, *, as_json: bool) -> None:
    """A table of the bundles, or JSON."""
    if as_json:
        print(json.dumps(asdict(report), indent=2))
        return
    rows = [_row(model) for model in report.models]
    print_rows(f"{report.frames} frames of {', '.join(report.audio)}", _COLUMNS, rows, numeric=_COLUMNS[3:])
    out = console()
    for model in report.models:
        if model.codec_mel_db is not None and model.codec_codes_equal is not None:
            out.print(f"{model.name}: its codec gives {model.codec_codes_equal:.1%} of the codes,"
                      f" and the same codes sound {model.codec_mel_db:.2f} dB apart")  # fmt: skip
    if report.another_seed_mel_db is not None:
        out.print(
            f"distances are from {report.reference}; mel dB and same frames: the second half of each file, sampled "
            f"with one seed (another seed is {report.another_seed_mel_db:.2f} dB apart)"
        )


def _row(model: Scored) -> tuple[str, ...]:
    cells = [
        model.name,
        model.precision,
        f"{model.kv_bits}",
        f"{model.megabytes:.1f}",
        f"{model.bits_per_frame:.3f}",
    ]
    if model.logits is None:
        return (*cells, *["-"] * 7)
    apart = model.logits
    cells += [f"{apart.max:.2g}", f"{apart.rms:.2g}", f"{apart.rms_share:.2%}"]
    cells += [" ".join(f"{bits:.2g}" for bits in apart.kl_bits), f"{apart.top_1:.1%}"]
    return (*cells, f"{model.sampled_mel_db:.2f}", f"{model.sampled_same_frames:.0f}")
