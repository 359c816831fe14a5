"""Rows as their tokens in one self-contained page: no script, no other file, every text escaped.

In: titled pieces (`preview.py`).  Out: HTML text. Learned tokens are underlined and coloured, so
that the mark survives printing in black; the id is shown while the pointer rests on a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ft2ollama.data.preview import Piece, hex_of, visible
from ft2ollama.language import Language

_WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "title": "What the model sees, and what it learns",
        "legend": "learned|read only|control token|bytes of a character",
        "hint": "Rest the pointer on a token to see its id.",
        "counts": "{tokens} tokens, {learned} learned",
        "cut": "cutoff_len {cutoff} ends here: {left} tokens, {lost} of them learned, do not fit",
    },
    "zh": {
        "title": "模型看到什么，学习什么",
        "legend": "要学的|只读的|控制 token|一个字的部分字节",
        "hint": "把鼠标停在 token 上可看到编号。",
        "counts": "{tokens} 个 token，其中 {learned} 个要学",
        "cut": "cutoff_len {cutoff} 到此为止：后面 {left} 个 token（{lost} 个要学）放不下",
    },
}
_STYLE = """
:root { color-scheme: light dark; --ink:#1c2024; --soft:#60646c; --page:#fcfcfd; --card:#fff;
  --line:#e0e1e6; --read:#f0f0f3; --read2:#e4e5ea; --learn:#d3f2dc; --learn2:#bde6ca;
  --learnline:#218358; --special:#8145b5; --bytes:#ab6400; --cut:#ce2c31; }
@media (prefers-color-scheme: dark) { :root { --ink:#edeef0; --soft:#b0b4ba; --page:#111113;
  --card:#18191b; --line:#363a3f; --read:#212225; --read2:#2a2c30; --learn:#113b29;
  --learn2:#174b34; --learnline:#3dd68c; --special:#d19dff; --bytes:#ffca16; --cut:#ff9592; } }
body { margin:0 auto; max-width:70rem; padding:2rem 1.2rem 4rem; background:var(--page);
  color:var(--ink); font:15px/1.5 system-ui, "Noto Sans CJK SC", "PingFang SC",
  "Microsoft YaHei", "Source Han Sans SC", sans-serif; }
h1 { font-size:1.35rem; margin:0 0 .3rem; } h2 { font-size:1rem; margin:0; overflow-wrap:anywhere; }
.soft { color:var(--soft); } .legend span { margin-right:.9rem; }
section { background:var(--card); border:1px solid var(--line); border-radius:.6rem;
  padding:1rem 1.2rem; margin-top:1.2rem; }
.tokens { margin-top:.7rem; line-height:2; white-space:pre-wrap; overflow-wrap:anywhere;
  font-family:ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", "Noto Sans Mono CJK SC",
  "PingFang SC", "Microsoft YaHei", monospace; font-size:14px; }
b { font-weight:inherit; background:var(--read); border-radius:.2rem; padding:.12em 0;
  position:relative; } b:nth-of-type(even) { background:var(--read2); }
b.l { background:var(--learn); border-bottom:2px solid var(--learnline); }
b.l:nth-of-type(even) { background:var(--learn2); }
b.s { color:var(--special); } b.y { color:var(--bytes); font-size:.85em; }
b:hover::after { content:attr(data-id); position:absolute; left:0; top:-1.7em; z-index:2;
  background:var(--ink); color:var(--page); border-radius:.3rem; padding:0 .4em; font-size:12px;
  line-height:1.5; white-space:nowrap; }
.cut { color:var(--cut); border-top:2px dashed var(--cut); display:block; margin:.4rem 0;
  font-family:system-ui, sans-serif; } .past { opacity:.5; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Shown:
    """A row to show. place: file and row.  pieces: its tokens.  cutoff: config's cutoff_len."""

    place: str
    pieces: Sequence[Piece]
    cutoff: int


def page(rows: Sequence[Shown], language: Language, about: str = "") -> str:
    """The whole page. about: the model and its template."""
    words = _WORDS[language]
    learned, read, special, part = words["legend"].split("|")
    legend = (
        f'<b class="l">{learned}</b>|<b>{read}</b>|<b class="s">{special}</b>|'
        f'<b class="y">{part}</b>'
    )
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="{"zh-CN" if language == "zh" else "en"}">',
            '<head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{words['title']}</title>",
            f"<style>{_STYLE}</style></head>",
            f"<body><h1>{words['title']}</h1>",
            f'<p class="soft">{escape(about)}</p>',
            '<p class="legend">'
            + "".join(f"<span>{mark}</span>" for mark in legend.split("|"))
            + f'<span class="soft">{words["hint"]}</span></p>',
            *(_section(row, words) for row in rows),
            "</body></html>",
            "",
        ]
    )


def _section(row: Shown, words: Mapping[str, str]) -> str:
    learned = sum(piece.learned for piece in row.pieces)
    counts = words["counts"].format(tokens=f"{len(row.pieces):,}", learned=f"{learned:,}")
    return (
        f'<section><h2>{escape(row.place)}</h2><div class="soft">{counts}</div>'
        f'<div class="tokens">{"".join(_marks(row, words))}</div></section>'
    )


def _marks(row: Shown, words: Mapping[str, str]) -> Iterator[str]:
    for place, piece in enumerate(row.pieces):
        if place == row.cutoff:
            rest = row.pieces[place:]
            lost = sum(one.learned for one in rest)
            text = words["cut"].format(cutoff=row.cutoff, left=len(rest), lost=lost)
            yield f'<span class="cut">{text}</span>'
        yield _mark(piece, past=place >= row.cutoff)


def _mark(piece: Piece, *, past: bool) -> str:
    classes = [
        name
        for name, wanted in (
            ("l", piece.learned),
            ("s", piece.special),
            ("y", bool(piece.raw) and not piece.text),
            ("past", past),
        )
        if wanted
    ]
    kind = f' class="{" ".join(classes)}"' if classes else ""
    shown = visible(piece).text or f"‹{hex_of(piece.raw)}›"
    note = f"{piece.id}" + (f" · {hex_of(piece.raw)}" if piece.raw else "")
    return f'<b{kind} data-id="{escape(note)}">{escape(shown)}</b>'
