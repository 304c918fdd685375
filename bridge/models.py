"""What `attacca models` and the doctor say of bundles: which there are, whether their hashes hold, what they are.

Beside the path; the bundles themselves are engine/manifest.py and engine/bundle.py.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import msgspec

from attacca.bridge.cli_group import UserError
from attacca.bridge.tables import console, print_rows
from attacca.engine.bundle import find_bundle, list_bundles, verify_bundle
from attacca.engine.manifest import Manifest, ManifestError, read_manifest


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """One bundle under the name it goes by here. `problem` says why it cannot be used, None if it can."""

    name: str
    folder: str
    problem: str | None
    version: str = ""
    licence: str = ""
    pattern: str = ""
    megabytes: float = 0.0


def inspect_bundle(name: str) -> Inspected:
    """Find a bundle by name or directory and verify every hash. Raises nothing: what is wrong is in `problem`."""
    try:
        folder = find_bundle(name)
    except (ManifestError, OSError) as error:
        return Inspected(name=name, folder="", problem=str(error))
    problems = verify_bundle(folder)
    if problems:
        return Inspected(name=name, folder=str(folder), problem="; ".join(problems))
    manifest = read_manifest(folder)
    return Inspected(
        name=name if name in list_bundles() else manifest.name,
        folder=str(folder),
        problem=None,
        version=manifest.version,
        licence=manifest.licence,
        pattern=pattern_text(manifest),
        megabytes=sum(entry.bytes for entry in manifest.files.values()) / 1e6,
    )


def pattern_text(manifest: Manifest) -> str:
    """E.g. "stack-delay (p = 3), 4 x 1024"."""
    permutation = f" (p = {manifest.pattern.p})" if manifest.pattern.name == "stack-delay" else ""
    return f"{manifest.pattern.name}{permutation}, {manifest.num_codebooks} x {manifest.codebook_size}"


def print_list(*, as_json: bool) -> None:
    """The bundles that can be named, each verified."""
    found = [inspect_bundle(name) for name in list_bundles()]
    if as_json:
        print(json.dumps([asdict(row) for row in found], indent=2))
        return
    columns = ("name", "version", "licence", "pattern", "MB", "state")
    rows = [
        (row.name, row.version, row.licence, row.pattern, f"{row.megabytes:.1f}", row.problem or "hashes hold")
        for row in found
    ]
    print_rows("model bundles", columns, rows, numeric=("MB",))
    console().print(
        "Any directory with a manifest.json will do too: --model DIRECTORY. ATTACCA_MODELS lists more folders."
    )


def print_verify(name: str | None) -> None:
    """Verify one bundle, or all that can be named. UserError names those that do not hold."""
    rows = [inspect_bundle(candidate) for candidate in (list_bundles() if name is None else [name])]
    for row in rows:
        if row.problem is None:
            print(f"{row.name}: every hash holds ({row.folder})")
    broken = [f"{row.name}: {row.problem}" for row in rows if row.problem is not None]
    if broken:
        raise UserError("; ".join(broken))


def print_show(name: str, *, as_json: bool) -> None:
    """A manifest, as JSON or as rows. ManifestError if there is none."""
    folder = find_bundle(name)
    manifest = read_manifest(folder)
    table: dict[str, object] = msgspec.to_builtins(manifest)
    if as_json:
        print(json.dumps(table, indent=2))
        return
    rows = [("folder", str(folder))]
    for key, value in table.items():
        if isinstance(value, dict):
            rows += [(f"{key}.{inner}", _shown(content)) for inner, content in value.items() if inner != "styles"]
        else:
            rows.append((key, _shown(value)))
    layout = manifest.conditioning.layout
    if layout.styles:
        rows.append(("styles", ", ".join(f"{number} {name}" for number, name in enumerate(layout.styles))))
    print_rows(f"model {manifest.name}", ("field", "value"), rows)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(content)}" for key, content in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return str(value)
