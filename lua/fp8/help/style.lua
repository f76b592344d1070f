--- How the reference in HTML looks (reference.lua): in columns where there is room, one below the other where there is
-- not.
return [[
body { font-family: sans-serif; margin: 0; color: #1a1a1a; background: #fff; line-height: 1.45; }
a { color: #00508f; text-decoration: none; }
a:hover { text-decoration: underline; }
#product { display: none; }
#main { display: flex; align-items: flex-start; }
#navigation { flex: 0 0 12rem; box-sizing: border-box; padding: 1rem; background: #f4f4f4; position: sticky; top: 0;
  height: 100vh; overflow: auto; }
#navigation h2 { font-size: 1rem; margin: 1rem 0 0.3rem; }
#navigation ul { list-style: none; padding: 0; margin: 0; }
#content { flex: 1; min-width: 0; box-sizing: border-box; padding: 1rem 2rem; max-width: 78rem; }
#about { padding: 1rem 2rem; color: #555; font-size: 0.85rem; }
pre { overflow-x: auto; background: #f6f6f6; border: 1px solid #ddd; border-radius: 4px; padding: 0.6rem; }
pre.text { white-space: pre-wrap; }
code, pre, tt { font-family: monospace; font-size: 0.92rem; }
.keyword { color: #8a2be2; } .string { color: #00693e; } .number { color: #9a4a00; } .comment { color: #666; }
table { border-collapse: collapse; width: 100%; margin-bottom: 1.5rem; }
td { border: 1px solid #ddd; padding: 0.3rem 0.5rem; vertical-align: top; overflow-wrap: anywhere; }
td.name { width: 32%; background: #f8f8f8; }
dl.function > dt { border-top: 1px solid #bbb; padding-top: 0.8rem; margin-top: 1rem; overflow-wrap: anywhere; }
dl.function > dd { margin-left: 1rem; }
dl.function > dd > h3, dl.function > dd > h3 + ul { display: none; } /* names of parameters, which the text explains */
td.summary:empty { display: none; }
@media (max-width: 50rem) {
  #main { flex-direction: column; }
  #navigation { position: static; height: auto; flex: none; width: 100%; }
  #navigation ul { columns: 3; }
  #content { width: 100%; padding: 1rem; }
  td, td.name { display: block; width: auto; white-space: normal; }
}
]]
