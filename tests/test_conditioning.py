"""Conditioning: a bundle's layout says which columns there are, and what it does not have is not known to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attacca.engine.conditioning import (
    DEFAULT_LAYOUT,
    ConditioningLayout,
    Controls,
    encode,
    full_layout,
    group_slices,
    layout_of_width,
)
from attacca.engine.manifest import ConditioningSection

WIDTHS = {"beat": 13, "tempo": 3, "chord": 13, "instruments": 5, "style": 9}  # with their flags


def controls(styles: list[int]) -> Controls:
    """A frame of 3/4 at 90 BPM for each style: C major held, drums alone."""
    n = len(styles)
    yes = np.ones(n, np.bool_)
    return Controls(
        ppq=np.arange(n) * 0.3,
        bar_start_ppq=np.zeros(n),
        bpm=np.full(n, 90.0),
        meter_num=np.full(n, 3, np.int16),
        meter_den=np.full(n, 4, np.int16),
        pitch_classes=np.tile(np.isin(np.arange(12), (0, 4, 7)), (n, 1)),
        instruments=np.tile([True, False, False, False], (n, 1)),
        style=np.array(styles, np.int16),
        beat_known=yes,
        chord_known=yes,
        instruments_known=yes,
        style_known=yes,
    )


def test_models_trained_here_have_sixteen_styles_and_every_group() -> None:
    assert full_layout(16) == DEFAULT_LAYOUT
    assert DEFAULT_LAYOUT.width == 51
    assert [name for name, _ in DEFAULT_LAYOUT.groups] == list(WIDTHS)


def test_the_groups_lie_side_by_side_whatever_the_number_of_styles() -> None:
    for styles in (1, 8, 16, 64):
        slices = group_slices(full_layout(styles))
        assert {name: part.stop - part.start for name, part in slices.items()} == {**WIDTHS, "style": styles + 1}
        assert [part.start for part in slices.values()][1:] == [part.stop for part in slices.values()][:-1]


def test_more_styles_move_no_column_of_the_other_groups() -> None:
    told = controls([0, 3, 7])
    few, many = encode(told, full_layout(8)), encode(told, full_layout(16))
    assert (few.shape, many.shape) == ((3, 43), (3, 51))
    np.testing.assert_array_equal(few[:, :42], many[:, :42])
    np.testing.assert_array_equal(few[:, 42], many[:, 50])
    assert not many[:, 42:50].any()


def test_a_style_the_bundle_does_not_have_is_unknown_and_never_another_one() -> None:
    layout = full_layout(8)
    style = encode(controls([0, 7, 8, 15, -1]), layout)[:, group_slices(layout)["style"]]
    expected = np.zeros((5, 9), np.float32)
    expected[0, [0, 8]] = expected[1, [7, 8]] = 1.0
    np.testing.assert_array_equal(style, expected)


def test_fewer_groups_are_the_same_columns_without_the_rest() -> None:
    told, full = controls([1, 2]), full_layout(8)
    layout = ConditioningLayout(groups=(("chord", 12), ("beat", 12)))
    slices, rows = group_slices(full), encode(told, full)
    expected = np.hstack([rows[:, slices["chord"]], rows[:, slices["beat"]]])
    np.testing.assert_array_equal(encode(told, layout), expected)


def test_no_conditioning_is_no_columns() -> None:
    layout = ConditioningSection(width=0, groups=()).layout
    assert (layout.width, layout.num_styles, group_slices(layout)) == (0, 0, {})
    assert encode(controls([1, 2, 3]), layout).shape == (3, 0)
    with pytest.raises(ValueError, match="knows no styles"):
        layout.style("0")


def test_a_dropped_group_is_zero_flag_and_all() -> None:
    layout = full_layout(8)
    rows = encode(replace(controls([5, 5]), style_known=np.array([True, False])), layout)
    assert rows[0, group_slices(layout)["style"]].sum() == 2.0
    assert not rows[1, group_slices(layout)["style"]].any()


def test_a_layout_is_known_by_its_width_alone() -> None:
    assert layout_of_width(43) == full_layout(8)
    assert layout_of_width(51) == DEFAULT_LAYOUT
    for width in (35, 100):
        with pytest.raises(ValueError, match=f"conditioning width is {width}, allowed: 36..99"):
            layout_of_width(width)


def test_a_style_goes_by_name_or_number() -> None:
    layout = full_layout(3, ("dub", "bossa nova", "Waltz"))
    assert [layout.style(text) for text in ("dub", " Bossa Nova", "WALTZ", "0", "2")] == [0, 1, 2, 0, 2]
    for unknown in ("tango", "3", "-1", "1.5", ""):
        with pytest.raises(ValueError, match=r"allowed: 0\.\.2, dub, bossa nova, Waltz"):
            layout.style(unknown)
    with pytest.raises(ValueError, match=r"style is 'dub', allowed: 0\.\.2$"):
        full_layout(3).style("dub")


def test_a_section_states_a_layout_and_gives_it_back() -> None:
    layout = full_layout(2, ("one", "two"))
    assert ConditioningSection.of(layout).layout == layout
