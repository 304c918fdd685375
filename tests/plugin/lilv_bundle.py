"""An LV2 bundle as data, over liblilv: what a host learns of a plugin before it is made.

Between tests and a bundle's Turtle files. Lilv is what Ardour, qtractor and jalv load bundles with.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_float, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

LV2 = "http://lv2plug.in/ns/lv2core#"
EXT = "http://lv2plug.in/ns/ext/"
UNITS = "http://lv2plug.in/ns/extensions/units#"


@dataclass(frozen=True, kw_only=True)
class Port:
    """A port as the bundle's data describe it. `unit` is the unit's URI or symbol."""

    index: int
    symbol: str
    name: str
    kinds: frozenset[str]  # InputPort, ControlPort, ...
    properties: frozenset[str]
    minimum: float | None
    maximum: float | None
    default: float | None
    unit: str
    comment: str
    designation: str
    points: tuple[str, ...]  # labels of 0, 1, ...


def library() -> Any:
    """liblilv; skips without it. What is not declared here takes and gives pointers."""
    try:
        lilv = ctypes.CDLL("liblilv-0.so.0")
    except OSError:
        pytest.skip("liblilv is not installed")
    lilv.lilv_node_as_string.restype = c_char_p
    lilv.lilv_node_as_float.restype = c_float
    for name in (
        "world_new", "new_uri", "world_get_all_plugins", "plugins_get_by_uri", "plugin_get_name",
        "plugin_get_port_by_index", "port_get_name", "port_get_symbol", "port_get", "port_get_scale_points",
        "scale_points_begin", "scale_points_next", "scale_points_get", "scale_point_get_label",
        "scale_point_get_value", "world_get", "plugin_instantiate", "state_new_from_instance", "state_to_string",
        "state_new_from_string", "new_file_uri", "port_get_properties",
        "port_get_classes", "nodes_begin", "nodes_next", "nodes_get",
    ):  # fmt: skip
        getattr(lilv, f"lilv_{name}").restype = c_void_p
    return lilv


class Bundle:
    """One plugin of one bundle, as data."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.lilv = library()
        self.world = c_void_p(self.lilv.lilv_world_new())
        self.lilv.lilv_world_load_bundle(self.world, c_void_p(self._new_folder(folder)))
        plugins = c_void_p(self.lilv.lilv_world_get_all_plugins(self.world))
        found = self.lilv.lilv_plugins_get_by_uri(plugins, self.uri(uri))
        assert found, f"{uri} is not in {folder}"
        self.plugin = c_void_p(found)
        self.ports = [self._port(index) for index in range(self.lilv.lilv_plugin_get_num_ports(self.plugin))]

    def _new_folder(self, folder: Path) -> Any:
        return self.lilv.lilv_new_file_uri(self.world, None, f"{folder}/".encode())

    def uri(self, text: str) -> c_void_p:
        return c_void_p(self.lilv.lilv_new_uri(self.world, text.encode()))

    def port(self, symbol: str) -> Port:
        return next(port for port in self.ports if port.symbol == symbol)

    @property
    def name(self) -> str:
        return self._text(self.lilv.lilv_plugin_get_name(self.plugin))

    def _text(self, node: int | None) -> str:
        return "" if not node else self.lilv.lilv_node_as_string(c_void_p(node)).decode()

    def _number(self, port: c_void_p, key: str) -> float | None:
        node = self.lilv.lilv_port_get(self.plugin, port, self.uri(LV2 + key))
        return None if not node else float(self.lilv.lilv_node_as_float(c_void_p(node)))

    def _all(self, nodes: int | None) -> frozenset[str]:
        if not nodes:
            return frozenset()
        at, found = self.lilv.lilv_nodes_begin(c_void_p(nodes)), set()
        while at:
            found.add(self._text(self.lilv.lilv_nodes_get(c_void_p(nodes), c_void_p(at))).rpartition("#")[2])
            at = self.lilv.lilv_nodes_next(c_void_p(nodes), c_void_p(at))
        return frozenset(found)

    def _points(self, port: c_void_p) -> tuple[str, ...]:
        points = self.lilv.lilv_port_get_scale_points(self.plugin, port)
        if not points:
            return ()
        at, found = self.lilv.lilv_scale_points_begin(c_void_p(points)), {}
        while at:
            point = c_void_p(self.lilv.lilv_scale_points_get(c_void_p(points), c_void_p(at)))
            value = self.lilv.lilv_node_as_float(c_void_p(self.lilv.lilv_scale_point_get_value(point)))
            found[int(value)] = self._text(self.lilv.lilv_scale_point_get_label(point))
            at = self.lilv.lilv_scale_points_next(c_void_p(points), c_void_p(at))
        assert sorted(found) == list(range(len(found)))
        return tuple(found[value] for value in sorted(found))

    def _unit(self, port: c_void_p) -> str:
        unit = self.lilv.lilv_port_get(self.plugin, port, self.uri(UNITS + "unit"))
        if not unit:
            return ""
        symbol = self.lilv.lilv_world_get(self.world, c_void_p(unit), self.uri(UNITS + "symbol"), None)
        return self._text(symbol) or self._text(unit).removeprefix(UNITS)

    def _port(self, index: int) -> Port:
        lilv, plugin = self.lilv, self.plugin
        port = c_void_p(lilv.lilv_plugin_get_port_by_index(plugin, index))
        comment = self.uri("http://www.w3.org/2000/01/rdf-schema#comment")
        return Port(
            index=index,
            symbol=self._text(lilv.lilv_port_get_symbol(plugin, port)),
            name=self._text(lilv.lilv_port_get_name(plugin, port)),
            kinds=self._all(lilv.lilv_port_get_classes(plugin, port)),
            properties=self._all(lilv.lilv_port_get_properties(plugin, port)),
            minimum=self._number(port, "minimum"),
            maximum=self._number(port, "maximum"),
            default=self._number(port, "default"),
            unit=self._unit(port),
            comment=self._text(lilv.lilv_port_get(plugin, port, comment)),
            designation=self._text(lilv.lilv_port_get(plugin, port, self.uri(LV2 + "designation"))),
            points=self._points(port),
        )
