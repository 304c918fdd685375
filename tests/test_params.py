"""The parameter table: what the native plugin has for itself never reaches the engine, and meters are sound."""

from __future__ import annotations

import pytest

from attacca.bridge.osc import CONTROL
from attacca.bridge.params import BY_CC, BY_NAME, METERS, PARAMETERS, PLUGIN_PARAMETERS, Meter, Parameter, Values
from attacca.engine.conditioning import full_layout


def test_what_is_the_plugins_alone_has_no_way_into_the_engine() -> None:
    assert [row.name for row in PLUGIN_PARAMETERS] == ["trigger", "solo"]
    assert all(row.plugin_only for row in PLUGIN_PARAMETERS)
    assert not any(row.plugin_only for row in PARAMETERS)
    addresses = {row.address for row in CONTROL}
    for row in PLUGIN_PARAMETERS:
        assert row.name not in BY_NAME
        assert row.osc_address not in addresses
        assert row not in BY_CC.values()
        with pytest.raises(ValueError, match="no parameter"):
            Values().set(row.name, 1.0)
    with pytest.raises(ValueError, match="no controller"):
        Parameter(
            name="x", label="x", description="x", default=0, minimum=0, maximum=1, midi_cc=3, plugin_only=True
        )


def test_names_that_hosts_see_are_unique() -> None:
    rows = (*PARAMETERS, *PLUGIN_PARAMETERS, *METERS)
    for names in ([row.name for row in rows], [row.label for row in rows]):
        assert len(set(names)) == len(names)
    for row in rows:
        assert not row.choices or row.maximum == len(row.choices) - 1
    with pytest.raises(ValueError, match="not below"):
        Meter(name="x", label="x", description="x", minimum=1, maximum=1)


def test_words_stand_for_the_values_of_a_list() -> None:
    values = Values()
    assert values.set("mode", "vamp") and values.choice("mode") == "vamp"
    assert values.set("quantum", " 2 Bars ") and values.choice("quantum") == "2 bars"
    assert not values.set("style", "auto")
    for name, word, message in (
        ("mode", "loop", "mode is 'loop', allowed: continue, fill, vamp, answer"),
        ("mix", "loud", "mix is 'loud', allowed: a number"),
        ("style", "16", r"style is '16', allowed: 0\.\.15$"),
    ):
        with pytest.raises(ValueError, match=message):
            values.set(name, word)
    assert values.refused == 3
    assert (values.choice("mode"), values["mix"]) == ("vamp", BY_NAME["mix"].default)


def test_a_style_goes_by_the_loaded_models_name_for_it() -> None:
    values = Values(layout=full_layout(20, tuple(f"style {chr(97 + n)}" for n in range(20))))
    for word, choice in (("Style C", "2"), ("style p", "15"), ("7", "7"), ("auto", "auto")):
        assert values.set("style", word)
        assert values.choice("style") == choice
    with pytest.raises(ValueError, match=r"'waltz', allowed: 0\.\.19, style a, style b"):
        values.set("style", "waltz")
    with pytest.raises(ValueError, match=r"'style t' has number 19, can be chosen: 0\.\.15"):
        values.set("style", "style t")
