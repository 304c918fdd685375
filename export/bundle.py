"""Writes a bundle directory: files beside a manifest that holds their sizes and hashes. The last step of export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attacca.engine.bundle import file_sha256
from attacca.engine.manifest import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    FileEntry,
    Manifest,
    check_manifest,
    encode_manifest,
)


def write_bundle(folder: Path, manifest_fields: Mapping[str, Any], files: Mapping[str, str]) -> Manifest:
    """Write manifest.json for the files {role: name} that lie in `folder` already.

    `manifest_fields` are Manifest's but format_version and files, which are filled in here.
    ManifestError if the result would not be accepted on loading.
    """
    entries = {
        role: FileEntry(path=name, sha256=file_sha256(folder / name), bytes=(folder / name).stat().st_size)
        for role, name in files.items()
    }
    manifest = Manifest(format_version=FORMAT_VERSION, files=entries, **manifest_fields)
    check_manifest(manifest)
    (folder / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
    return manifest
