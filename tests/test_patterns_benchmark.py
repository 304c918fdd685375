"""The comparison of patterns: words agree with figures, the command runs at toy size."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attacca.engine.conditioning import Controls  # noqa: E402
from attacca.engine.pattern import make_pattern  # noqa: E402
from attacca.export.codec import tiny_codec  # noqa: E402
from attacca.training.codec_model import tiny_config  # noqa: E402
from attacca.training.codec_train import State  # noqa: E402
from attacca.training.decoder_model import Decoder, LayoutTensors, sized  # noqa: E402
from attacca.training.layout import build_layout  # noqa: E402
from attacca.training.recipe import SIZES, run, run_process, stages  # noqa: E402
from attacca.training.tokenise import tokens_of  # noqa: E402
from benchmarks import patterns, patterns_figure, patterns_play, patterns_report, patterns_train  # noqa: E402
from benchmarks.patterns_play import MEASURES, Heard  # noqa: E402

pytestmark = pytest.mark.train


BOOKS, SIZE, FRAMES = 2, 16, 220
TOY = patterns_train.Training(
    size="1x64",
    codebooks=BOOKS,
    crop_frames=32,
    prefixes=(0, 8),
    updates=4,
    batch=2,
    curve_every=2,
    crops_per_song=2,
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """songs/ with tokens of three levels that follow a pulse, and codec/, an untrained codec of as many."""
    root = tmp_path_factory.mktemp("toy")
    net, quantizer = tiny_codec(replace(tiny_config(), num_codebooks=3, codebook_size=SIZE))
    (root / "codec").mkdir()
    State(net=net, quantizer=quantizer).save(root / "codec" / "codec.pt")
    t, known = np.arange(FRAMES), np.ones(FRAMES, bool)
    controls = Controls(
        ppq=t / 25.0, bar_start_ppq=np.floor(t / 100.0) * 4.0, bpm=np.full(FRAMES, 120.0),
        meter_num=np.full(FRAMES, 4, np.int16), meter_den=np.full(FRAMES, 4, np.int16),
        pitch_classes=np.zeros((FRAMES, 12), bool), instruments=np.ones((FRAMES, 4), bool),
        style=np.zeros(FRAMES, np.int16), beat_known=known, chord_known=known, instruments_known=known,
        style_known=known,
    )  # fmt: skip
    for split, index in itertools.product(("train", "heldout"), range(3)):
        folder, tokens = root / "songs" / split, root / "songs" / "tokens" / split
        folder.mkdir(parents=True, exist_ok=True)
        tokens.mkdir(parents=True, exist_ok=True)
        first = (t + index) // 3 % SIZE
        np.save(tokens / f"{index:05d}.npy", np.stack([first, 2 * first % SIZE, t % SIZE], 1).astype(np.uint16))
        np.savez(folder / f"{index:05d}.npz", **vars(controls))
    return root


def learned(toy: Path, folder: Path, pattern: str = "stack-delay", p: int = 3, **changes: int) -> dict:
    config = replace(TOY, **changes)
    songs, heldout = (patterns_train.load_songs(toy / "songs", split, BOOKS) for split in ("train", "heldout"))
    exam = patterns_train.Exam(heldout, [make_pattern(pattern, BOOKS, p=p)], config)
    patterns_train.coarse_codec(toy / "codec", folder / "codec", BOOKS)
    trainer = patterns_train.make_trainer(config, pattern, p, 0, songs, folder / "codec")
    return patterns_train.learn(trainer, config, songs, exam, folder / "model", lambda text: None)


def test_a_coarse_codec_gives_the_first_columns_of_the_whole_ones_tokens(toy: Path, tmp_path: Path) -> None:
    patterns_train.coarse_codec(toy / "codec", tmp_path, BOOKS)
    sound = np.random.default_rng(0).normal(0.0, 0.1, 32000).astype(np.float32)
    whole, coarse = (tokens_of(sound, State.load(folder / "codec.pt")) for folder in (toy / "codec", tmp_path))
    np.testing.assert_array_equal(coarse, whole[:, :BOOKS])
    assert len(np.unique(coarse)) > 2
    with pytest.raises(ValueError, match="fewer than 4 codebooks"):
        patterns_train.coarse_codec(toy / "codec", tmp_path, 4)


def test_every_pattern_is_asked_the_same_cells(toy: Path) -> None:
    heldout = patterns_train.load_songs(toy / "songs", "heldout", BOOKS)
    made = [make_pattern(n, BOOKS, p=q) for n, q in patterns.PATTERNS]
    exam = patterns_train.Exam(heldout, made, TOY)
    assert all(times[0] >= 8 and times == sorted(set(times)) for times in exam.times)
    assert patterns_train.Exam(heldout, made[:1], TOY).times != exam.times  # delay alone would predict more
    for pattern, (name, p) in zip(made, patterns.PATTERNS, strict=True):
        sizes = {"num_codebooks": BOOKS, "codebook_size": SIZE, "cond_width": heldout.layout.width}
        model = Decoder(sized("1x64", pattern=name, p=p, window_frames=pattern.context_slots(32), **sizes))
        with torch.no_grad():
            model.heads.normal_(std=0.3)
            found = exam.bits(model)
            np.testing.assert_allclose(found, _cell_by_cell(exam, model), atol=0.05)
            assert found.shape == (3, BOOKS) and np.ptp(found) > 0.2
            model.heads.zero_()
        np.testing.assert_allclose(exam.bits(model), 4.0, atol=1e-6)  # of 16 codes, all alike


def _cell_by_cell(exam: patterns_train.Exam, model: Decoder) -> np.ndarray:
    """The exam's bits the slow way, in full precision."""
    layout = build_layout(model.config.make_pattern(), 32, 8, model.config.window_frames)
    tensors = LayoutTensors(layout, torch.device("cpu"), torch.float32)
    bits = np.zeros((len(exam.codes), BOOKS))
    for crop, (codes, cond) in enumerate(zip(exam.codes, exam.cond, strict=True)):
        outputs = model.forward_layout(codes[None], cond[None], tensors)[0]
        for k in range(BOOKS):
            cells = zip(layout.target_rows[k], layout.target_timesteps[k], strict=True)
            row_of = {int(t): int(row) for row, t in cells}
            chances = [model.logits(outputs[row_of[t]], k).softmax(0)[codes[t, k]] for t in exam.times[k]]
            bits[crop, k] = -np.mean(np.log2(chances))
    return bits.reshape(-1, 3, BOOKS).mean(axis=0)


def test_a_model_stopped_and_trained_further_is_the_one_trained_at_once(toy: Path, tmp_path: Path) -> None:
    at_once = learned(toy, tmp_path / "once")
    learned(toy, tmp_path / "twice", updates=2)
    further = learned(toy, tmp_path / "twice")
    assert further["bits"] == at_once["bits"]
    assert [point["updates"] for point in further["curve"]] == [2, 4]
    assert [p["bits"] for p in further["curve"]] == [p["bits"] for p in at_once["curve"]]
    assert learned(toy, tmp_path / "twice") == further  # read, not trained again
    with pytest.raises(ValueError, match="had 4 updates, more than the 2 asked for"):
        learned(toy, tmp_path / "twice", updates=2)


def test_enough_updates_get_below_the_unigrams(toy: Path, tmp_path: Path) -> None:
    songs, heldout = (patterns_train.load_songs(toy / "songs", split, BOOKS) for split in ("train", "heldout"))
    unigram = patterns_train.unigram_bits(songs, heldout, SIZE)
    for name, p in (("flat", 1), ("stack", 1)):
        found = learned(toy, tmp_path / name, name, p, updates=60, curve_every=60)
        assert (np.mean(found["bits"], axis=0) < 0.8 * np.array(unigram)).all(), name


def test_a_folder_of_another_plan_is_refused_but_more_updates_and_seeds_are_not(toy: Path, tmp_path: Path) -> None:
    plan = patterns.Plan(data=toy / "songs", codec=toy / "codec", out=tmp_path, training=TOY)
    patterns.settle(plan)
    patterns.settle(replace(plan, seeds=5, training=replace(TOY, updates=400)))
    with pytest.raises(ValueError, match="take another folder"):
        patterns.settle(replace(plan, training=replace(TOY, size="2x64")))
    with pytest.raises(ValueError, match="take another folder"):
        patterns.settle(replace(plan, playing=patterns_play.Playing(guidance=2.0)))
    with pytest.raises(ValueError, match="played_seeds is 3, must be 0"):
        replace(plan, played_seeds=3)


# Per pattern: bits of each seed, processor seconds of training, milliseconds a second, how far off it sounds.
TOLD = {
    "delay": ((30.0, 30.4), 10.0, 10.0, 1.0),
    "flat": ((32.0, 32.2), 20.0, 40.0, 0.5),
    "stack": ((31.0, 31.1), 20.0, 38.0, 1.1),
    "stack-delay p=1": ((29.9, 30.1), 20.0, 11.0, 1.0),
    "stack-delay p=2": ((29.0, 29.1), 20.0, 11.0, 1.0),
    "stack-delay p=3": ((28.0, 28.1), 20.0, 11.0, 0.4),
    "stack-delay p=4": ((28.5, 28.6), 20.0, 11.0, 0.6),
}


def measured() -> tuple[dict, dict]:
    """What patterns_train and patterns_play would hand over, of 12 songs."""
    rng = np.random.default_rng(0)
    songs = rng.normal(0.0, 1.0, (12, 2)) * 0.2
    reference = [rng.normal(0.0, 1.0, (30, 4)) for _ in range(12)]
    models, heard, costs = {}, {}, {}
    for name, (bits, cpu_s, ms, off) in TOLD.items():
        curve = [{"updates": n, "cpu_s": cpu_s * n / 4, "bits_per_frame": 36.0 - n} for n in (2, 4)]
        rest = {"curve": curve, "cpu_s_per_update": cpu_s / 4, "parameters": 7, "updates": 4}
        models[name] = [{"bits": (songs + b / 2).tolist(), **rest} for b in bits]
        costs[name] = {"ms_per_s": ms, "rtf": ms / 1000, "steps_for_10_s": 9, "context_slots_for_10_s": 9}
        vectors = [r + off + rng.normal(0.0, 0.1) for r in reference]
        heard[name] = [Heard(vectors={"trained": vectors, "log_mel": vectors}, scores=[{"chord_match": 0.5}] * 12)]
    real = Heard(vectors={"trained": reference, "log_mel": reference}, scores=[dict.fromkeys(MEASURES, 1.0)] * 12)
    heard["codec"] = [replace(real)]
    trained = {"models": models, "unigram_bits": [18.0, 19.0], "cells": [9, 9]}
    return trained, {"costs": costs, "heard": heard, "real": real, "skill": {"style": 0.5}}


def test_words_say_what_the_figures_say(tmp_path: Path) -> None:
    trained, played = measured()
    report = json.loads(json.dumps(patterns_report.make_report({"updates": 4}, trained, played)))
    flat, stack, three, one = report["against_the_paper"]
    assert "lower; bits per frame +1.90" in flat and "higher; 4.00 x the time" in flat
    assert "higher; bits per frame -1.05" in stack and "lower; 0.95 x" in stack
    assert "1.10 x the time. The paper: 45 % lower" in three and "not told apart" not in three
    assert "not told apart; bits per frame -0.20 [-0.50, +0.10], not told apart" in one
    for found, expected in zip(report["comparisons"], (-75.0, 384.0, -84.0, 0.0), strict=True):
        low, high = found["frechet_trained_percent"]["interval_95"]
        assert low < found["frechet_trained_percent"]["value"] < high
        np.testing.assert_allclose(found["frechet_trained_percent"]["value"], expected, rtol=0.3, atol=20.0)
    delay, late = report["patterns"]["delay"], report["patterns"]["stack-delay p=3"]
    assert delay["bits_less_delays"]["interval_95"][0] == delay["bits_less_delays"]["interval_95"][1] == 0.0
    np.testing.assert_allclose(late["bits_per_frame"]["value"], 28.05, atol=0.2)
    np.testing.assert_allclose(np.diff(late["bits_per_frame"]["seeds"]), 0.1)
    assert report["delays_cpu_s"] == 10.0
    assert delay["bits_at_delays_cpu_s"] == 32.0 and late["bits_at_delays_cpu_s"] == 34.0  # half way in updates
    assert report["patterns"]["codec"]["frechet_trained"]["value"] < 1e-6 < delay["frechet_trained"]["value"]
    assert report["real"]["chord_match"] == 1.0 and late["chord_match"]["value"] == 0.5
    assert len(patterns_report.make_table(report).rows) == len(TOLD) + 1
    patterns_figure.make_figure(report, tmp_path / "played.png")
    assert (tmp_path / "played.png").stat().st_size > 20_000


def test_what_was_heard_is_kept_for_the_same_ears_only(tmp_path: Path) -> None:
    heard = measured()[1]["heard"]["flat"][0]
    heard.save(tmp_path / "heard.npz", "one")
    found = Heard.load(tmp_path / "heard.npz", "one")
    assert found is not None and found.scores == heard.scores and found.vectors.keys() == heard.vectors.keys()
    for kind, vectors in heard.vectors.items():
        np.testing.assert_array_equal(found.vectors[kind], vectors)
    assert Heard.load(tmp_path / "heard.npz", "other") is None
    assert Heard.load(tmp_path / "nothing.npz", "one") is None


def test_a_report_of_training_alone_can_be_read_and_drawn(tmp_path: Path) -> None:
    report = json.loads(json.dumps(patterns_report.make_report({"updates": 4}, measured()[0], None)))
    assert "codec" not in report["patterns"] and "time" not in report["comparisons"][0]
    assert report["against_the_paper"][0].startswith("flat against delay: bits per frame +1.90 [")
    assert len(patterns_report.make_table(report).rows) == len(TOLD)
    patterns_figure.make_figure(report, tmp_path / "bits.png")
    assert (tmp_path / "bits.png").stat().st_size > 20_000


@pytest.mark.slow
def test_the_whole_command_at_toy_size(tmp_path: Path) -> None:
    root = tmp_path / "run"
    run(root, stages(root, replace(SIZES["tiny"], seconds=24.0))[:4], runner=run_process)  # up to the tokens
    report = tmp_path / "p.json"
    for _ in range(2):  # the second goes on from what is there
        patterns.main(
            data=root / "data", codec=root / "codec", out=tmp_path / "out", json_path=report,
            plot=tmp_path / "p.png", updates=4, size="1x64", batch=2, crop_frames=48, codebooks=2, seeds=2,
            played=1, songs=2, longest_s=6.0, tiny=True,
        )  # fmt: skip
    found = json.loads(report.read_text())
    assert list(found["patterns"])[:7] == [patterns.name_of(*pair) for pair in patterns.PATTERNS]
    assert all(np.isfinite(row["frechet_trained"]["value"]) for row in found["patterns"].values())
    assert (tmp_path / "p.png").stat().st_size > 10_000
