// Draws everything from the state, once and again after each change.
function drawHeader() {
  const of = (key) => (shared(key) ? `${LABELS[key].toLowerCase()} ${valuesOf(key)[0]}` : null);
  const alike = ["model", "data", "task", "quant"].map(of).filter(Boolean);
  byId("summary").textContent = [`${DATA.settings.length} settings with ${DATA.runs.length} runs.`,
    alike.length && `The same in all: ${alike.join("; ")}.`, `Made ${DATA.made} of ${DATA.config}.`].filter(Boolean).join(" ");
  const counts = Object.entries(DATA.states).map(([state, count]) => `${count} ${state}`);
  byId("states").textContent = `Runs: ${counts.join(", ") || "none"}.`;
  const say = (word, text) => byId("words").append(make("dt", {}, word), make("dd", {}, text));
  for (const column of COLUMNS) if (column.about) say(column.label, column.about);
  for (const [state, meaning] of Object.entries(DATA.meanings)) say(`State: ${state}`, meaning);
  for (const [word, meaning] of Object.entries(DATA.words)) say(word, meaning);
}

// The tables and figures that were there when the page was made.
function drawFiles() {
  const entries = Object.entries(DATA.files);
  byId("files").hidden = !entries.length;
  for (const [place, paths] of entries) {
    const links = paths.map((path) => file(path, path.split(".").pop())).flatMap((link) => [" · ", link]).slice(1);
    byId("files-list").append(make("li", {}, place + ": ", ...links));
  }
}

let charts = 0;
function draw() {
  const rows = rowsShown();
  fillFilters();
  fillTools();
  fillAxes();
  drawTable(rows);
  drawItems();
  clearTimeout(charts);
  charts = setTimeout(() => { drawScatter(rows); drawCurves(rows); drawErrors(rows); }, 80);
}

readState();
drawHeader();
drawFiles();
drawFilters();
drawTools();
drawAxes();
drawItemsBar();
draw();
addEventListener("hashchange", () => { readState(); draw(); });
dark.addEventListener("change", draw);
let wide = innerWidth;
addEventListener("resize", () => { if (innerWidth !== wide) { wide = innerWidth; draw(); } });
