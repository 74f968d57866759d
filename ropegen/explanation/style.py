"""The style of the page of a plan, for light and dark, and for wide and narrow screens."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #57606a; --ground: #fff; --paper: #f6f8fa; --rule: #d0d7de;
        --link: #0756b8; --compute: #3b6fd4; --memory: #b7791f; --launch: #6e7781; --warn: #b42318;
        --full: #0f2f57; --partial: #5b9be0; --empty: #c3cad3; --cross: #6e7781; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --dim: #9da7b1; --ground: #0d1117; --paper: #161b22; --rule: #30363d;
          --link: #79b8ff; --compute: #6ea0ff; --memory: #d9a441; --launch: #8b949e; --warn: #ff8f84;
          --full: #9ccbff; --partial: #2f6fb5; --empty: #3a424c; --cross: #868f99; }
}
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 0; }
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0 0 .6rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
a { color: var(--link); }
table { border-collapse: collapse; margin: 0 0 1rem; }
caption { text-align: left; color: var(--dim); padding: .2rem 0; }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid var(--rule); }
th { color: var(--dim); font-weight: 500; }
tbody th { white-space: nowrap; }
td, summary, .words { font-variant-numeric: tabular-nums; }
summary { cursor: pointer; padding: .25rem 0; }
.step { margin: .3rem 0 .8rem 1.2rem; scroll-margin-top: 4rem; }
.bars { list-style: none; margin: 0; padding: 0; }
.bars li { display: grid; grid-template-columns: minmax(10rem, 16rem) 1fr 21rem; gap: .1rem .8rem; align-items: center; padding: .15rem 0; }
.track { position: relative; height: 1rem; }
.bar, .small { height: 100%; min-width: 2px; border-radius: 2px; }
.tick { position: absolute; top: -.15rem; bottom: -.15rem; width: 0; border-left: 2px solid var(--ink); }
.tick.memory-floor { border-left-style: dotted; }
.compute { background: var(--compute); } .memory { background: var(--memory); } .launch { background: var(--launch); }
.small { height: .7rem; }
.key { display: inline-block; position: relative; width: 1.4rem; height: .8rem; vertical-align: -.1rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem 3rem; align-items: flex-start; }
figure { margin: 0; max-width: 100%; } figcaption { color: var(--dim); max-width: 26rem; padding-top: .3rem; }
.graph { width: 100%; max-width: 30rem; height: auto; display: block; }
.graph text { font: 11px ui-monospace, "DejaVu Sans Mono", monospace; fill: var(--ink); text-anchor: middle; }
.graph .name { font-weight: 700; } .graph .beside { fill: var(--dim); }
.graph .region-title { text-anchor: start; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.graph .op { fill: var(--ground); stroke: var(--ink); }
.graph .region { fill: var(--paper); stroke-width: 2; }
.graph .region.compute { stroke: var(--compute); } .graph .region.memory { stroke: var(--memory); }
.graph .region.launch { stroke: var(--launch); }
.graph .edge { fill: none; stroke: var(--dim); stroke-width: 1.3; } .graph .head { fill: var(--dim); }
.map { width: 18rem; max-width: 100%; height: auto; display: block; border: 1px solid var(--dim); background: var(--ground); }
.full { fill: var(--full); } .partial { fill: var(--partial); } .empty { fill: var(--empty); }
.cross { fill: none; stroke: var(--cross); stroke-width: .09; }
.swatch { width: 1rem; height: 1rem; vertical-align: -.15rem; border: 1px solid var(--dim); }
.dim { color: var(--dim); } .warn { color: var(--warn); }
@media (max-width: 640px) {
  .bars li { grid-template-columns: 1fr; padding: .35rem 0; }
  .step { margin-left: 0; }
  table, caption, tbody, tr, td, tbody th { display: block; }
  thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; white-space: nowrap; }
  tr { border-bottom: 1px solid var(--rule); padding: .3rem 0; } td, tbody th { border: 0; padding: 0; white-space: normal; }
  td[data-head]::before { content: attr(data-head) ": "; color: var(--dim); }
}
"""
