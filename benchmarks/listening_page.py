"""The listening page itself: one HTML file, its sounds and pictures beside it; works from a folder, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from benchmarks.listening_clips import Clip, draw_clip, write_sound

PAGE = "index.html"
_STYLE = """
:root { color-scheme: dark; }
body { margin: 0 auto; max-width: 1240px; padding: 1.5rem; background: #14121c; color: #e8e6e3;
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .3rem; font-size: 1.7rem; } h2 { margin: 2.6rem 0 .2rem; font-size: 1.25rem; }
h3 { margin: 1.4rem 0 .3rem; font-size: 1rem; font-weight: 600; }
p, .about { color: #b4b1bd; max-width: 76ch; } h3 .about { font-weight: 400; margin-left: .6em; }
code { color: #f0c05a; } a { color: #5ad1c8; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: .9rem; }
.styles { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: .2rem .9rem; }
figure { margin: 0; } figcaption { font-size: .9rem; margin-bottom: .2rem; }
figcaption .numbers { display: block; min-height: 1.3em; color: #b4b1bd; font-size: .82rem;
  font-variant-numeric: tabular-nums; }
.pic { position: relative; cursor: pointer; line-height: 0; }
.pic img { width: 100%; height: 96px; border-radius: 4px; }
.head { position: absolute; top: 0; bottom: 0; left: 0; width: 2px; background: #ff7b54; display: none; }
audio { width: 100%; height: 34px; margin-top: .25rem; }
.mark { display: inline-block; width: .9em; height: .9em; vertical-align: -1px; border-radius: 2px; }
"""
_SCRIPT = """
for (const figure of document.querySelectorAll("figure")) {
  const audio = figure.querySelector("audio"), picture = figure.querySelector(".pic");
  const head = figure.querySelector(".head"), seconds = Number(figure.dataset.seconds);
  const follow = () => {
    head.style.left = 100 * audio.currentTime / seconds + "%";
    if (!audio.paused) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    head.style.display = "block";
    follow();
  });
  audio.addEventListener("seeked", follow);
  picture.addEventListener("click", event => {
    const at = seconds * event.offsetX / picture.clientWidth;
    audio.play().then(() => { audio.currentTime = at; });
  });
}
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Clips that belong together, and plain figures of each, by the clip's place."""

    name: str  # of its files; unique
    title: str
    about: str
    clips: tuple[Clip, ...]
    numbers: tuple[str, ...]  # one text a clip; empty for none

    def __post_init__(self) -> None:
        if len(self.numbers) != len(self.clips):
            raise ValueError(f"row {self.name} has {len(self.clips)} clips and {len(self.numbers)} texts")


@dataclass(frozen=True, kw_only=True)
class Section:
    title: str
    text: str  # HTML
    rows: tuple[Row, ...]


def write_page(folder: Path, title: str, text: str, sections: Sequence[Section], footer: str) -> int:
    """Write index.html with audio/ and img/ into `folder`, in place of what was there; returns bytes in all.

    `text` and `footer` are HTML. Raises ValueError where two rows have one name.
    """
    names = [row.name for section in sections for row in section.rows]
    if len(set(names)) != len(names):
        raise ValueError(f"rows of one name: {sorted(name for name in names if names.count(name) > 1)}")
    for part, suffix in (("audio", "ogg"), ("img", "webp")):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for old in (folder / part).glob(f"*.{suffix}"):
            old.unlink()
    body, serial = [f"<h1>{escape(title)}</h1>", text], 0
    for section in sections:
        body += [f"<h2>{escape(section.title)}</h2>", section.text]
        single = all(len(row.clips) == 1 for row in section.rows)
        body += ['<div class="styles">'] if single else []
        for row in section.rows:
            figures = []
            peak = min(1.0, max(float(np.abs(clip.audio).max(initial=1e-3)) for clip in row.clips))
            for number, clip in enumerate(row.clips):
                serial += 1
                draw_clip(folder / "img" / f"{row.name}-{number}.webp", clip, peak=peak)
                write_sound(folder / "audio" / f"{row.name}-{number}.ogg", clip.audio, serial=serial)
                figures.append(_figure(f"{row.name}-{number}", clip, row.numbers[number]))
            heading = f'<h3>{escape(row.title)}<span class="about">{escape(row.about)}</span></h3>'
            body += (
                [f"<div>{heading}{figures[0]}</div>"]
                if single
                else [heading, '<div class="row">', *figures, "</div>"]
            )
        body += ["</div>"] if single else []
    html = "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            *body,
            footer,
            f"<script>{_SCRIPT}</script>\n</body>\n</html>\n",
        ]
    )
    (folder / PAGE).write_text(html, encoding="utf-8")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _figure(name: str, clip: Clip, numbers: str) -> str:
    return (
        f'<figure data-seconds="{clip.seconds:.4f}"><figcaption>{escape(clip.title)}'
        f'<span class="numbers">{escape(numbers)}</span></figcaption>'
        f'<div class="pic"><img src="img/{name}.webp" alt="waveform and spectrogram: {escape(clip.title)}">'
        f'<div class="head"></div></div><audio controls preload="none" src="audio/{name}.ogg"></audio></figure>'
    )
