"""What a model's licence means to who plays it, in one line: shown when weights are pulled and when loaded.

Beside the path; knows names of licences only, as hubs and manifests write them.
"""

from __future__ import annotations

import re

_PERMISSIVE = frozenset(
    (
        "apache-2.0",
        "mit",
        "bsd-2-clause",
        "bsd-3-clause",
        "isc",
        "0bsd",
        "zlib",
        "unlicense",
        "cc0-1.0",
        "cc-by-4.0",
    )
)
_NON_COMMERCIAL = re.compile(r"(^|-)(nc|non-?commercial|research)(-|$)")


def licence_line(licence: str) -> str | None:
    """What there is to know before these weights are used; None for a permissive licence.

    `licence` is a name such as "cc-by-nc-4.0" or "Apache-2.0"; empty if none is stated.
    """
    name = re.sub(r"[\s_]+", "-", licence.strip().lower())
    if name in _PERMISSIVE:
        return None
    if not name:
        return "no licence is stated: ask the authors before you use these weights"
    if _NON_COMMERCIAL.search(name):
        return f"licence {licence.strip()}: these weights are for non-commercial use only"
    return f"licence {licence.strip()}: it may have conditions, read it before you use these weights"


def licence_of_card(text: str) -> str:
    """The licence that the front matter of a model card (README.md) states; empty if it states none."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---":
        return ""
    found: dict[str, str] = {}
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, colon, value = line.partition(":")
        if colon and key in ("license", "license_name"):
            found[key] = value.split(" #")[0].strip().strip("'\"")
    stated = found.get("license", "")
    return found.get("license_name", stated) if stated == "other" else stated
