"""How the page of the loop looks: one style for light and dark screens and for paper."""

from __future__ import annotations

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink:#1c2024; --soft:#60646c; --page:#f9f9fb; --card:#fff;
  --line:#e0e1e6; --main:#2f6fd0; --held:#0f8b8d; --left:#9aa0a8; --empty:#e8e8ec; --onmark:#fff;
  --good:#1d7a46; --bad:#c62a2f; --ask:#9a5b00; }
@media (prefers-color-scheme: dark) { :root { --ink:#edeef0; --soft:#b0b4ba; --page:#111113;
  --card:#18191b; --line:#363a3f; --main:#6ea6ff; --held:#3fc1b0; --left:#777b84; --empty:#2a2c30;
  --onmark:#0b0c0e; --good:#4cc38a; --bad:#ff9592; --ask:#ffb454; } }
* { box-sizing:border-box; }
body { margin:0 auto; max-width:76rem; padding:2rem 1.2rem 4rem; background:var(--page);
  color:var(--ink); font:15px/1.5 system-ui, "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC",
  "Microsoft YaHei", "Source Han Sans SC", sans-serif; }
h1 { font-size:1.4rem; margin:0; overflow-wrap:anywhere; }
h2 { font-size:1.25rem; margin:2.2rem 0 .6rem; overflow-wrap:anywhere; }
h3 { font-size:1rem; margin:0 0 .2rem; overflow-wrap:anywhere; }
p { margin:.2rem 0 .6rem; } .soft { color:var(--soft); }
section, .tile { background:var(--card); border:1px solid var(--line); border-radius:.6rem;
  padding:.9rem 1.1rem; margin-top:1rem; min-width:0; overflow-x:auto; }
.tiles { display:grid; grid-template-columns:repeat(auto-fit, minmax(15rem, 1fr)); gap:1rem; }
.tile { margin:0; display:flex; flex-direction:column; gap:.15rem; }
.tile b { font-size:1.1rem; font-weight:600; overflow-wrap:anywhere; }
.tile span { overflow-wrap:anywhere; }
.grid2 { display:grid; grid-template-columns:repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
  gap:0 1rem; align-items:start; } .wide { grid-column:1 / -1; }
.multiples { display:grid; grid-template-columns:repeat(auto-fill, minmax(16rem, 1fr)); gap:1rem; }
figure { margin:0; }
svg { display:block; width:100%; height:auto; overflow:visible; margin-top:.4rem; }
svg text { fill:var(--soft); font-size:12px; } svg .strong { fill:var(--ink); font-weight:600; }
svg .onmark { fill:var(--onmark); } svg .onempty { fill:var(--ink); }
.mono, svg .mono { font-family:ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", monospace;
  font-size:12px; } svg .mono { fill:var(--ink); }
.main, .dot, .keep { fill:var(--main); } .eval_fresh { fill:var(--held); }
.drop { fill:var(--left); } .pending, .empty { fill:var(--empty); } .ink { fill:var(--ink); }
svg.wide { min-width:36rem; }
.grid { stroke:var(--line); fill:none; } .tick { stroke:var(--ink); stroke-width:1.5; fill:none; }
.link { stroke:var(--left); stroke-width:2; fill:none; }
.ring { fill:var(--card); stroke:var(--soft); stroke-width:2; }
.held { stroke:var(--main); stroke-width:6; stroke-linecap:butt; fill:none; }
.forth { stroke:var(--left); fill:none; }
.back { stroke:var(--ask); stroke-dasharray:4 3; fill:none; } .undo { fill:var(--ask); }
.dot, .undo { stroke:var(--card); stroke-width:1.5; }
.legend { display:flex; flex-wrap:wrap; gap:.2rem 1.2rem; color:var(--soft); font-size:13px; }
.legend span { display:inline-flex; align-items:center; gap:.4rem; }
i { width:.75rem; height:.75rem; border-radius:.15rem; display:inline-block; }
i.keep { background:var(--main); } i.eval_fresh { background:var(--held); }
i.drop { background:var(--left); } i.pending { background:var(--empty); }
i.round { border-radius:50%; } i.o { border:2px solid var(--soft); border-radius:50%; }
i.diamond { background:var(--ask); transform:rotate(45deg) scale(.8); }
i.tri { background:var(--ink); clip-path:polygon(50% 0, 100% 100%, 0 100%); }
.scroll { overflow-x:auto; }
table { border-collapse:collapse; width:100%; font-size:14px; font-variant-numeric:tabular-nums; }
th, td { text-align:left; padding:.35rem .7rem .35rem 0; border-bottom:1px solid var(--line);
  vertical-align:top; } thead th { color:var(--soft); font-weight:500; vertical-align:bottom; }
tbody th { font-weight:600; white-space:nowrap; }
tbody th span { display:block; font-weight:400; font-size:12px; }
.keep4 td:nth-child(-n+4) { white-space:nowrap; }
td:last-child { min-width:14rem; }
.c { text-align:center; } .turn span { writing-mode:vertical-rl; transform:rotate(180deg);
  white-space:nowrap; } th.turn { text-align:center; padding-bottom:.4rem; }
.good { color:var(--good); } .bad { color:var(--bad); } .ask { color:var(--ask); }
td.c.good, td.c.bad, td.c.ask { font-weight:700; }
@media print { section, .tile { break-inside:avoid; } body { max-width:none; } }
"""
