"""How the page looks, in light and in dark. No file, font or script is loaded from anywhere."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #faf9f6; --card: #ffffff; --ink: #202024; --soft: #6f6d68; --line: #e6e3dc; --track: #efece5;
  --good: #23784b; --good-ground: #e7f3ec; --bad: #b4541a; --bad-ground: #fbeee4; --accent: #3a5fc4; --chip: #f1efe9;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #17181b; --card: #1f2125; --ink: #ecebe7; --soft: #9c9a94; --line: #303339; --track: #2a2d33;
    --good: #6fce9b; --good-ground: #1d3328; --bad: #f0a36b; --bad-ground: #3a281b; --accent: #8fabf5; --chip: #2a2d33;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 1180px; margin: 0 auto; padding: 56px 32px 96px; }
h1 {
  font-size: 30px; line-height: 1.2; font-weight: 650; letter-spacing: -0.015em; margin: 0 0 6px;
  overflow-wrap: anywhere;
}
h2 { font-size: 20px; line-height: 1.3; font-weight: 650; letter-spacing: -0.01em; margin: 0 0 4px; }
h3 { font-size: 15px; font-weight: 600; margin: 0; }
p { margin: 0; }
.soft { color: var(--soft); }
.lead { color: var(--soft); font-size: 14.5px; margin-bottom: 20px; max-width: 74ch; }
nav { margin: 18px 0 0; display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 14.5px; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
section { margin-top: 56px; scroll-margin-top: 24px; }
.verdict { display: flex; gap: 12px; align-items: center; margin-top: 26px; padding: 14px 18px; border-radius: 12px; }
.verdict.good { background: var(--good-ground); color: var(--good); }
.verdict.bad { background: var(--bad-ground); color: var(--bad); }
.verdict b { font-weight: 650; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin-top: 16px; }
.tile {
  flex: 1 1 240px; background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 15px 18px 13px;
}
.tile .value {
  font-size: 27px; line-height: 1.15; font-weight: 640; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums;
}
.tile .name { color: var(--soft); font-size: 13.5px; margin-top: 3px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 26px 20px; }
figure { margin: 0; min-width: 0; }
figure .frame {
  aspect-ratio: 1; border-radius: 10px; background: var(--track); overflow: hidden;
  display: flex; align-items: center; justify-content: center; color: var(--soft); font-size: 13px;
  box-shadow: 0 0 0 1px var(--line);
}
figure img { display: block; width: 100%; height: 100%; object-fit: contain; }
figcaption { font-size: 14px; line-height: 1.4; margin-top: 9px; overflow-wrap: anywhere; }
figcaption .label { color: var(--soft); font-size: 12px; }
figcaption p + p { margin-top: 5px; }
.text { unicode-bidi: isolate; }
.chip {
  display: inline-block; font-size: 12px; line-height: 1; padding: 4px 8px; border-radius: 99px;
  background: var(--chip); color: var(--soft); white-space: nowrap;
}
.chip.good { background: var(--good-ground); color: var(--good); }
.chip.bad { background: var(--bad-ground); color: var(--bad); }
mark { background: var(--bad-ground); color: var(--bad); border-radius: 3px; padding: 0 2px; }
code, .key {
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 0.86em;
}
.key { color: var(--soft); }
.query { margin-top: 34px; }
.pictures + h3 { margin: 36px 0 14px; }
.query h3 { margin-bottom: 11px; display: flex; align-items: center; gap: 10px; }
.query h3 img { width: 44px; height: 44px; border-radius: 7px; box-shadow: 0 0 0 1px var(--line); }
.score { color: var(--soft); font-variant-numeric: tabular-nums; font-size: 12.5px; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 12px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 12.5px; padding: 11px 16px 9px; }
td { padding: 9px 16px; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td.url { max-width: 400px; min-width: 200px; }
td.nowrap { white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.bars {
  display: grid; grid-template-columns: max-content 1fr max-content; gap: 13px 18px; align-items: center;
  font-size: 14.5px;
}
.bars .track { height: 12px; border-radius: 6px; background: var(--track); overflow: hidden; }
.bars .fill { height: 100%; min-width: 3px; border-radius: 6px; background: var(--accent); }
.bars .fill.bad { background: var(--bad); }
.bars .figure { color: var(--soft); font-variant-numeric: tabular-nums; white-space: nowrap; text-align: right; }
.bars .figure b { color: var(--ink); font-weight: 600; }
.panel { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px 22px; }
ul.checks { list-style: none; margin: 0; padding: 0; display: grid; gap: 7px; font-size: 14.5px; }
ul.checks li::before { content: "✓"; color: var(--good); margin-right: 11px; font-weight: 600; }
.panel + .panel, .panel + .wide, .wide + .panel { margin-top: 16px; }
.empty {
  color: var(--soft); background: var(--card); border: 1px dashed var(--line); border-radius: 12px;
  padding: 18px 22px; font-size: 14.5px;
}
footer {
  margin-top: 72px; padding-top: 18px; border-top: 1px solid var(--line); color: var(--soft); font-size: 13.5px;
}
@media (max-width: 640px) {
  main { padding: 32px 18px 64px; }
  .pictures { grid-template-columns: repeat(auto-fill, minmax(138px, 1fr)); gap: 20px 14px; }
  .bars { grid-template-columns: 1fr max-content; gap: 4px 14px; }
  .bars .track { grid-column: 1 / -1; grid-row: auto; margin-bottom: 10px; order: 0; }
}
@media print { section { break-inside: avoid-page; } }
"""
