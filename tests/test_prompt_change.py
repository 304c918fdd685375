"""Another text as it plays: from the next step on, faded, the same however often it is rolled back and planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")

from musicgen_fixtures import make_musicgen, save  # noqa: E402
from test_musicgen import GREEDY, Exported, NoConditions, random_codes, token_ids  # noqa: E402
from test_musicgen_stacked import Stacked  # noqa: E402

from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.musicgen import MusicgenDecoder, PromptBox  # noqa: E402
from attacca.engine.prompt_track import PromptTrack  # noqa: E402
from attacca.engine.prompted import Prompt  # noqa: E402
from attacca.engine.rolling import RollingDecoder  # noqa: E402
from attacca.engine.schedule import context_rows  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
CHANGE, FADE, FRAMES, TOTAL = 20, 10, 60, 150
SAMPLING = Sampling(seed=3, guidance=3.0)
DRAWS = pytest.mark.parametrize("sampling", [GREEDY, SAMPLING], ids=["greedy", "drawn"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(make_musicgen(), save(make_musicgen(), tmp_path_factory.mktemp("change")))


@pytest.fixture(scope="module")
def prompts(exported: Exported) -> list[Prompt]:
    """Of several lengths."""
    return [exported.prompt(token_ids(seed, length)) for seed, length in ((1, 6), (2, 9), (3, 4))]


def changed(exported: Exported, prompts: list[Prompt], fade: int, sampling: Sampling) -> MusicgenDecoder:
    """Planned up to CHANGE, told another prompt, planned on."""
    decoder = exported.decoder(prompts[0])
    decoder.plan(CHANGE, NoConditions(), sampling)
    decoder.tell(prompts[1], fade)
    decoder.plan(FRAMES, NoConditions(), sampling)
    return decoder


@DRAWS
@pytest.mark.parametrize("fade", [0, FADE])
def test_before_it_is_the_old_and_after_it_the_new(
    exported: Exported, prompts: list[Prompt], fade: int, sampling: Sampling
) -> None:
    found = changed(exported, prompts, fade, sampling)
    never = exported.decoder(prompts[0])
    never.plan(CHANGE, NoConditions(), sampling)
    books = exported.shape.num_codebooks
    assert never.next_row == CHANGE + books - 1  # codebook k of a frame is k steps behind
    never.plan(FRAMES, NoConditions(), sampling)
    old, new = never.read(0, FRAMES), found.read(0, FRAMES)
    for k in range(books):
        begin = CHANGE + books - 1 - k
        assert np.array_equal(new[:begin, k], old[:begin, k])
    assert not np.array_equal(new[CHANGE + books :], old[CHANGE + books :])

    over = CHANGE + books - 1 + fade  # the first row that attends to the new prompt alone
    told = exported.decoder(prompts[0])
    told.plan(CHANGE, NoConditions(), sampling)
    told.tell(prompts[1], fade)
    told.plan(FRAMES, NoConditions(), sampling, max_steps=fade)
    assert told.next_row == over
    same_past = exported.decoder(prompts[1])
    same_past.restore(replace(told.snapshot(), track=PromptTrack(prompts[1])))
    same_past.plan(FRAMES, NoConditions(), sampling)
    assert np.array_equal(same_past.read(0, FRAMES), new)


@DRAWS
def test_rolling_back_across_it_and_snapshots_reproduce_it(
    exported: Exported, prompts: list[Prompt], sampling: Sampling
) -> None:
    codes = changed(exported, prompts, FADE, sampling).read(0, FRAMES)
    again = exported.decoder(prompts[0])
    again.plan(CHANGE, NoConditions(), sampling)
    again.tell(prompts[1], FADE)
    start = again.snapshot()
    for reached, to in ((26, 24), (30, 22), (FRAMES, 23), (50, 12), (40, 0)):
        again.plan(reached, NoConditions(), sampling)
        again.rollback(to)
    fork = again.fork()
    restored = exported.decoder(prompts[2])
    restored.restore(start)
    for decoder in (again, fork, restored):
        decoder.plan(FRAMES, NoConditions(), sampling, max_steps=13)
        decoder.plan(FRAMES, NoConditions(), sampling)
        assert np.array_equal(decoder.read(0, FRAMES), codes)
    again.reset()
    again.plan(30, NoConditions(), sampling)  # what was told last holds for what comes after
    plain = exported.decoder(prompts[1])
    plain.plan(30, NoConditions(), sampling)
    assert np.array_equal(again.read(0, 30), plain.read(0, 30))


def test_heard_frames_stand_under_the_prompt_of_their_time(exported: Exported, prompts: list[Prompt]) -> None:
    """However they are grouped: told at frame 7, the rows from 7 on attend to the new one."""
    codes, nothing = random_codes(5, 24, 4), np.zeros((24, 0), np.float32)
    told = exported.decoder(prompts[0])
    told.listen(codes[:7], nothing[:7])
    told.tell(prompts[1], FADE)
    told.listen(codes[7:20], nothing[7:20])
    again = told.fork()
    again.rollback(3)
    again.listen(codes[3:20], nothing[3:20])  # in one call, split at the change
    parts = exported.decoder(prompts[0])
    parts.listen(codes[:7], nothing[:7])
    parts.track = PromptTrack(prompts[1])
    parts.listen(codes[7:20], nothing[7:20])
    for decoder in (told, again, parts):
        decoder.plan(40, NoConditions(), GREEDY)
    assert np.array_equal(told.read(0, 40), parts.read(0, 40)) and np.array_equal(
        again.read(0, 40), told.read(0, 40)
    )


def test_guided_logits_go_from_the_old_prompts_to_the_new_ones(exported: Exported, prompts: list[Prompt]) -> None:
    stack, level, timestep = context_rows(exported.pattern, 64, random_codes(2, 12, 4))
    lane = exported.runtime.lane()
    lane.guidance[0], lane.temperature[0] = 3.0, 0.0

    def logits(*shares: tuple[Prompt, float]) -> np.ndarray:
        lane.attend(shares)
        lane.cache.truncate(0)
        for i in range(len(stack)):
            row, none = slice(i, i + 1), np.zeros((1, 0), np.float32)
            lane.run(stack[row], level[row], timestep[row], none, slot=i)
            lane.cache.keep([i])
        return lane.logits.copy()

    old, new = logits((prompts[0], 1.0)), logits((prompts[1], 1.0))
    share = [i / 9 for i in range(1, 9)]
    between = [logits((prompts[0], 1 - w), (prompts[1], w)) for w in share]
    from_old = [float(np.abs(found - old).max()) for found in between]
    from_new = [float(np.abs(found - new).max()) for found in between]
    assert from_old == sorted(from_old) and from_new == sorted(from_new, reverse=True)
    whole = float(np.abs(new - old).max())
    assert whole > 1.0 and from_old[0] < whole / 2 and from_new[-1] < whole / 2
    assert np.abs(logits((prompts[0], 0.3), (prompts[0], 0.7)) - old).max() < 1e-4  # two halves of one are one
    assert np.abs(logits((prompts[0], 1 - 1e-7), (prompts[1], 1e-7)) - old).max() < 1e-3
    assert np.array_equal(logits((prompts[0], 1.0)), old)


def test_a_fade_within_a_fade_and_what_is_taken_back(exported: Exported, prompts: list[Prompt]) -> None:
    a, b, c = prompts
    track = PromptTrack(a).told(10, b, 3).told(12, c, 1)
    assert [track.shares(frame) for frame in (9, 10, 11)] == [
        ((a, 1.0),),
        ((a, 0.75), (b, 0.25)),
        ((a, 0.5), (b, 0.5)),
    ]
    assert track.shares(12) == ((a, 0.125), (b, 0.375), (c, 0.5)) and track.shares(13) == ((c, 1.0),)
    assert track.heard(11) is b and track.heard(12) is c and track.last is c
    back = track.told(10, c, 0)
    assert back.shares(10) == ((c, 1.0),) and back.shares(9) == ((a, 1.0),)
    assert track.told(20, c, 5).changes == track.changes  # told what it follows already
    assert [x.frame for x in PromptTrack(a).told(5, b, 0).told(9, c, 0).told(30000, a, 0).changes] == [9, 30000]
    with pytest.raises(ValueError, match=r"fade_steps -1 is outside 0\.\.4096"):
        track.told(1, a, -1)
    with pytest.raises(TypeError, match="allowed: a MusicgenDecoder's snapshot"):
        exported.decoder(a).restore(None)


@pytest.mark.parametrize("change", [30, 59, 61, 93, 96])
def test_takes_without_end_carry_it_into_later_segments(
    exported: Exported, prompts: list[Prompt], change: int
) -> None:
    """Segments begin at 0, 35, 70, 105 and take over at 60, 95, 130."""
    box = PromptBox(prompts[0])

    def rolling() -> RollingDecoder:
        make = lambda: MusicgenDecoder(exported.runtime, exported.pattern, box)  # noqa: E731
        decoder = RollingDecoder(make, horizon=60, keep=25, num_codebooks=4)
        decoder.plan(change, NoConditions(), SAMPLING)
        decoder.tell(prompts[1], FADE)
        return decoder

    whole = rolling()
    whole.plan(TOTAL, NoConditions(), SAMPLING)
    codes = whole.read(100, TOTAL)
    again = rolling()
    state = again.snapshot()
    for reached, to in ((change + 8, change - 8), (change + 9, change + 1)):
        again.plan(reached, NoConditions(), SAMPLING, max_steps=40)
        again.rollback(to)
    fork = again.fork()
    restored = rolling()
    restored.reset()
    restored.restore(state)
    for decoder in (again, fork, restored):
        while decoder.frontier < TOTAL:
            decoder.plan(TOTAL, NoConditions(), SAMPLING, max_steps=7)
        assert np.array_equal(decoder.read(100, TOTAL), codes)
    never = RollingDecoder(lambda: exported.decoder(prompts[0]), horizon=60, keep=25, num_codebooks=4)
    never.plan(TOTAL, NoConditions(), SAMPLING)
    assert not np.array_equal(never.read(100, TOTAL), codes)


def test_under_stack_patterns_it_is_rolled_back_as_exactly(tmp_path: Path) -> None:
    """Frames finish out of order there, and rows that stay are prefilled again: at once the new one, no fade."""
    stacked = Stacked(tmp_path, channels=1, p=3)
    old, new = stacked.prompt(token_ids(1, 6)), stacked.prompt(token_ids(2, 9))

    def told() -> MusicgenDecoder:
        decoder = stacked.decoder(old)
        decoder.plan(CHANGE, NoConditions(), SAMPLING)
        decoder.tell(new, FADE)
        return decoder

    once = told()
    once.plan(FRAMES, NoConditions(), SAMPLING)
    again = told()
    # Where a schedule begins anew the order differs: compared with others that began anew at the same frames.
    begun = told()
    for reached, to in ((24, 23), (40, CHANGE), (33, 30)):
        again.plan(reached, NoConditions(), SAMPLING)
        again.rollback(to)
    begun.plan(CHANGE, NoConditions(), SAMPLING)
    begun.rollback(CHANGE)
    begun.plan(30, NoConditions(), SAMPLING)
    begun.rollback(30)
    for decoder in (again, begun):
        decoder.plan(FRAMES, NoConditions(), SAMPLING)
    assert np.array_equal(again.read(0, FRAMES), begun.read(0, FRAMES))
    never = stacked.decoder(old)
    never.plan(FRAMES, NoConditions(), SAMPLING)
    assert np.array_equal(never.read(0, CHANGE), once.read(0, CHANGE))
    assert not np.array_equal(never.read(CHANGE, FRAMES), once.read(CHANGE, FRAMES))
