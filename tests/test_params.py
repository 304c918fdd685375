"""The parameter table: what the native plugin has for itself never reaches the engine, and meters are sound."""

from __future__ import annotations

import pytest

from attacca.bridge.osc import CONTROL
from attacca.bridge.params import BY_CC, BY_NAME, METERS, PARAMETERS, PLUGIN_PARAMETERS, Meter, Parameter, Values


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
