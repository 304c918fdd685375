"""Figures get into documents from a report alone, into the right cells, and nothing else of a document changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import card
from benchmarks.measures import MEASURES, ROWS


def made_report() -> dict[str, Any]:
    """Every figure another: measure number plus a hundredth of the row's."""
    values = {
        row: {measure: m + r / 100 for m, measure in enumerate(MEASURES)} for r, row in enumerate(ROWS, start=1)
    }
    values["chance"] = dict.fromkeys(MEASURES) | {"onset_f1_70ms": 0.25}
    own = values.pop("model")
    interval = {measure: [value - 0.5, value + 0.5] for measure, value in own.items()}
    return {
        **own,
        **values,
        "intervals_95": dict.fromkeys(ROWS, interval),
        "model": {"name": "toy", "version": "7"},
        "heldout_styles": {measure: 90.0 + m for m, measure in enumerate(MEASURES)},
        "variation": {"model": {"0": 1.0, "0.5": 0.6, "1": 0.1}},
        "drift_bars": 16,
    }


def test_cells_hold_their_measure() -> None:
    report = made_report()
    lines = card.obedience_table(report).splitlines()
    head, model, chance = (
        [cell.strip() for cell in next(line for line in lines if line.startswith(start)).split("|")]
        for start in ("|  |", "| **toy v7** ", "| chance")
    )
    place = head.index("chord match")
    value = report["chord_match"]
    assert model[place] == f"**{value:.2f}** ({value - 0.5:.2f} to {value + 0.5:.2f})"
    assert chance[head.index("beat onset F1, 70 ms")] == "0.25" and chance[place] == ""
    apart = [cell.strip() for cell in lines[-1].split("|")]
    assert apart[place] == f"{report['heldout_styles']['chord_match']:.2f}"
    long = card.long_table(report).splitlines()
    for heading, measure in (("drift over 16", "drift_ms_64_bars_played"), ("drift of the", "drift_ms_64_bars")):
        assert f"| {report['real'][measure]:.1f} |" in next(line for line in long if heading in line)
    assert "1.00 / 0.60 / 0.10" in long[-1]
    assert len({line.count("|") for line in long}) == 1 and len({line.count("|") for line in lines}) == 1


def test_documents_change_between_the_marks_only(tmp_path: Path) -> None:
    text = (
        "before\n<!-- scorecard: obedience -->\nold\n<!-- end -->\nbetween\n<!-- scorecard: long --><!-- end -->\n"
    )
    text = text.replace("long --><!--", "long -->\n<!--")
    once = card.filled(text, made_report())
    assert once.startswith("before\n<!-- scorecard: obedience -->\n|  |") and "old" not in once
    assert "<!-- end -->\nbetween\n<!-- scorecard: long -->\n|  |" in once and once.endswith("<!-- end -->\n")
    assert card.filled(once, made_report()) == once
    with pytest.raises(ValueError, match="'fame' is unknown"):
        card.filled("<!-- scorecard: fame -->\n<!-- end -->", made_report())
