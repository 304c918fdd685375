"""Fast paths stay fast: each against its slow reference, in one process, by processor time. No absolute times.

Bounds are far from what is measured on an idle machine, and say so: what they catch is a fast path that is gone.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from attacca.bridge.bench_steps import Constant, fill, random_codes
from attacca.engine.bundle import Model, find_bundle, load_bundle
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Sampling

STEPS, ROUNDS = 12, 3
GUIDED = Sampling(guidance=3.0)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_bundle(find_bundle("ostinato"))


@pytest.fixture(scope="module")
def source(model: Model) -> Constant:
    return Constant(model.manifest.frames_per_second, model.conditioning)


@pytest.fixture(scope="module")
def full(model: Model, source: Constant) -> PatternDecoder:
    """A decoder whose window is full, warmed up."""
    decoder = PatternDecoder(model.runtime, model.pattern)
    manifest = model.manifest
    fill(decoder, random_codes(manifest.window_frames, manifest.num_codebooks, manifest.codebook_size), source)
    decoder.plan(decoder.frontier + 4, source, GUIDED)
    return decoder


def cost(*works: Callable[[], Any]) -> list[float]:
    """Processor seconds of each, the least of some rounds, taken in turn."""
    best = [float("inf")] * len(works)
    for _ in range(ROUNDS):
        for i, work in enumerate(works):
            began = time.process_time()
            work()
            best[i] = min(best[i], time.process_time() - began)
    return best


def test_a_step_costs_a_fraction_of_reading_its_context_again(
    full: PatternDecoder, model: Model, source: Constant
) -> None:
    """The references: no cache at all, and the graph alone without schedule, noise and rows around it."""
    manifest, lane = model.manifest, full._lane
    codes = random_codes(manifest.window_frames, manifest.num_codebooks, manifest.codebook_size)
    binding = lane._bindings[full._pattern.num_codebooks + 1]

    def graph_alone() -> None:
        for _ in range(STEPS):
            lane._session.run_with_iobinding(binding)

    def planned() -> None:
        full.plan(full.frontier + 10 * STEPS, source, GUIDED, max_steps=STEPS)

    def uncached() -> None:
        fill(PatternDecoder(model.runtime, model.pattern), codes, source)

    steps, graph, context = cost(planned, graph_alone, uncached)
    assert steps / STEPS < 0.3 * context, (steps, context)
    assert steps < 3.0 * graph, (steps, graph)


def test_a_step_leaves_the_cache_where_it_is_and_allocates_little(full: PatternDecoder, source: Constant) -> None:
    lane, cache = full._lane, full._cache
    where = [value.data_ptr() for _, value in lane._cache_values]
    assert where == [tensor.ctypes.data for tensor in cache.live]
    tracemalloc.start()
    full.plan(full.frontier + 1000, source, GUIDED, max_steps=80)  # until the table of noise is full
    room = cache.room(cache.count)
    if room < 2 * STEPS:  # the next compaction is not a step's
        full.plan(full.frontier + 1000, source, GUIDED, max_steps=room + 1)
    bindings = dict(lane._bindings)
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    full.plan(full.frontier + 1000, source, GUIDED, max_steps=STEPS)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [value.data_ptr() for _, value in lane._cache_values] == where
    assert dict(lane._bindings) == bindings  # nothing is bound anew
    assert peak - before < cache.live[0].nbytes  # a timestep's noise and some rows: not one tensor of the cache
    assert abs(after - before) < STEPS * 32_768  # bytes kept a step, while noise goes in and out


def test_a_trigger_costs_a_fork_and_no_prefill(full: PatternDecoder, model: Model, source: Constant) -> None:
    manifest = model.manifest
    codes = random_codes(manifest.window_frames, manifest.num_codebooks, manifest.codebook_size)
    forked, prefilled = cost(full.fork, lambda: fill(PatternDecoder(model.runtime, model.pattern), codes, source))
    assert forked < 0.5 * prefilled, (forked, prefilled)


def test_a_chunk_is_decoded_without_its_past(model: Model) -> None:
    """The reference decodes the whole prefix again, as streamers without a stateful codec do."""
    codes = random_codes(80, model.manifest.num_codebooks, model.manifest.codebook_size)
    decoder = model.codec.decoder()
    decoder.push(codes)
    chunk, prefix = cost(lambda: decoder.push(codes[:8]), lambda: model.codec.decoder().push(codes))
    assert chunk < 0.5 * prefix, (chunk, prefix)


def test_a_long_take_costs_what_a_short_one_does(full: PatternDecoder, source: Constant) -> None:
    """The window is full: what comes later costs what came before."""
    spent: list[float] = []
    for _ in range(4):
        began = time.process_time()
        full.plan(full.frontier + 2 * STEPS, source, GUIDED)
        spent.append(time.process_time() - began)
    assert np.median(spent[2:]) < 2.0 * np.median(spent[:2]), spent
