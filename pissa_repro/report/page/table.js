// The filters, the table, and what a row unfolds.
const LABELS = {model: "Model", data: "Training data", task: "Task", method: "Method", quant: "Base", rank: "Rank",
  learning_rate: "Learning rate", state: "State"};

function drawFilters() {
  const form = byId("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.append(make("label", {class: "field"}, "Search",
    make("input", {type: "search", name: "q", on: {input: (event) => change({q: event.target.value})}})));
  for (const name of NAMES) {
    const values = valuesOf(name);
    if (values.length < 2 && !STATE.filter[name]) continue;
    const pick = (value) => { STATE.filter[name] = value; change({}); };
    const select = make("select", {name, on: {change: (event) => pick(event.target.value)}},
      make("option", {value: ""}, "all"), ...values.map((value) => make("option", {value: String(value)}, String(value))));
    form.append(make("label", {class: "field"}, LABELS[name], select));
    if (name === "learning_rate" && values.length > 2)
      form.append(make("label", {class: "field"}, "Slide through the rates",
        make("input", {type: "range", name: "slide", min: 0, max: values.length, step: 1,
          on: {input: (event) => pick(event.target.value === "0" ? "" : String(values[event.target.value - 1]))}})));
  }
  form.append(make("button", {type: "button", id: "reset", on: {click: () => { location.hash = ""; }}}, "Show all"));
}

function fillFilters() {
  const form = byId("filters").elements;
  form.q.value = STATE.q;
  for (const name of NAMES) if (form[name]) form[name].value = STATE.filter[name];
  if (!form.slide) return;
  const rates = valuesOf("learning_rate").map(String);
  form.slide.value = rates.indexOf(STATE.filter.learning_rate) + 1;
  form.slide.setAttribute("aria-valuetext", STATE.filter.learning_rate || "all rates");
}

function columnsShown() {
  const chosen = STATE.columns ? STATE.columns.split(",") : null;
  const usual = (column) => column.shown || (["model", "data", "task"].includes(column.key) && !shared(column.key));
  return COLUMNS.filter((column) => (chosen ? chosen.includes(column.key) : usual(column)));
}

function drawTable(rows) {
  const columns = columnsShown(), body = make("tbody");
  rows.forEach((row, index) => body.append(...drawRow(row, index, columns)));
  const head = make("tr", {}, make("th", {scope: "col"}, make("span", {class: "spread"}, "#")), ...columns.map(drawHead));
  const table = make("table", {}, make("thead", {}, head), body);
  table.prepend(make("caption", {class: "skip"}, "Settings over their seeds; each unfolds to its runs"));
  const focused = document.activeElement?.dataset?.keep, place = byId("table");
  place.replaceChildren(table);
  if (focused) place.querySelector(`[data-keep="${CSS.escape(focused)}"]`)?.focus();
  const runs = rows.reduce((sum, row) => sum + row.runs.length, 0);
  byId("count").textContent = `${rows.length} of ${DATA.settings.length} settings, ${runs} runs`;
}

function drawHead(column) {
  const down = STATE.sort === "-" + column.key, up = STATE.sort === column.key;
  const first = column.format && column.better !== -1 ? "-" : "";  // numbers that should be large come largest first
  const next = up ? "-" + column.key : down ? column.key : first + column.key;
  return make("th", {scope: "col", class: column.format && "number", "aria-sort": up ? "ascending" : down ? "descending" : "none"},
    make("button", {type: "button", title: column.about, "data-keep": "sort " + column.key,
      on: {click: () => change({sort: next})}}, column.label + (up ? " ▲" : down ? " ▼" : "")));
}

function tone(word) {
  if (/^(better|agrees|equivalent)/.test(word)) return "good";
  if (/^(worse|differs|failed|diverged)/.test(word)) return "bad";
  return /failed|stopped|diverged|missing|outdated/.test(word) ? "warn" : "";
}

function drawCell(column, row) {
  const text = shown(column, row), cell = make("td", {class: column.format && "number"});
  if (column.word || column.key === "state") cell.append(make("span", {class: `word ${tone(text)}`}, text));
  else cell.append(text);
  if (column.key === "seeds" && row.seeds !== row.of_seeds) cell.append(` of ${row.of_seeds}`);
  if (!text) return cell;
  const spread = row[column.spread], [low, high] = (column.interval ?? []).map((key) => row[key]);
  if (column.unit && row.unit === "percent") cell.append(" %");
  if (known(spread)) cell.append(make("span", {class: "spread"}, " ± " + column.format(spread, row)));
  if (known(low)) cell.append(make("span", {class: "spread"}, ` [${column.format(low, row)}, ${column.format(high, row)}]`));
  if (column.unit && row.unit !== "percent") cell.append(make("span", {class: "spread"}, " " + row.unit));
  return cell;
}

function drawRow(row, index, columns) {
  const open = STATE.open.has(row.key), id = "detail-" + index;
  const toggle = () => { open ? STATE.open.delete(row.key) : STATE.open.add(row.key); change({}); };
  const button = make("button", {type: "button", "aria-expanded": String(open), "aria-controls": open ? id : undefined,
    "data-keep": "open " + row.key, on: {click: toggle}}, (open ? "▾\u00a0" : "▸\u00a0") + (row.method ?? ""));
  const cells = columns.filter((column) => column.key !== "method").map((column) => drawCell(column, row));
  const line = make("tr", {class: open ? "row open" : "row"}, make("td", {class: "number spread"}, String(index + 1)),
    make("th", {scope: "row"}, button), ...cells);
  return open ? [line, make("tr", {id}, make("td", {class: "detail", colspan: cells.length + 2}, drawDetail(row)))] : [line];
}

function drawDetail(row) {
  const said = [row.claim?.replace(/^- /, ""), row.note && `Against the paper: ${row.verdict}. ${row.note}`,
    row.third_party && `Reported by others: ${row.third_party}`, ...row.reasons.map((why) => `Override: ${why}`)];
  const heads = ["Seed", "State", "Score ± standard error", "Final loss", "Seconds", "Memory, GiB", "Commit", "Where", "Items", "Again"];
  const runs = row.runs.map((place) => drawRun(row, DATA.runs[place], place));
  return make("div", {class: "inner"}, ...said.filter(Boolean).map((text) => make("p", {}, text)),
    make("div", {class: "runs"}, make("table", {},
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", {scope: "col"}, head)))), make("tbody", {}, ...runs))));
}

function drawRun(row, run, place) {
  const number = (text) => make("td", {class: "number"}, text);
  const error = known(run.stderr) ? ` ± ${SCORE(run.stderr, row)}` : "";
  const where = make("td", {}, file(run.record, "record"), " · ", file(run.log, "log"));
  const items = run.items && make("button", {type: "button", class: "items-button", "data-keep": "items " + place,
    on: {click: () => openItems(place)}}, "Items");
  const copy = make("button", {type: "button", on: {click: () => copyText(run.command, copy)}}, "Copy");
  return make("tr", {},
    make("th", {scope: "row"}, known(run.seed) ? String(run.seed) : "–"),
    make("td", {}, make("span", {class: `word ${tone(run.state)}`}, run.state + (run.why ? `: ${run.why}` : ""))),
    number(known(run.value) ? SCORE(run.value, row) + error : ""),
    number(known(run.final_loss) ? run.final_loss.toFixed(4) : ""),
    number(known(run.train_seconds) ? run.train_seconds.toFixed(1) : ""),
    number(known(run.memory_gib) ? run.memory_gib.toFixed(2) : ""),
    make("td", {}, make("code", {}, (run.commit ?? "").split(" ").map((one) => one.slice(0, 10)).join(" ")), run.dirty ? " + changes" : ""),
    where, make("td", {}, items), make("td", {}, make("details", {}, make("summary", {}, "reproduce this"), make("code", {}, run.command), " ", copy)));
}

// A link to a file of the sweep, from where the page lies.
function file(path, word) {
  const [place, rest] = path.startsWith("results/") ? [DATA.places.results, path.slice(8)] : [DATA.places.home, path];
  return make("a", {href: place + rest.split("/").map(encodeURIComponent).join("/"), title: path}, word);
}

function copyText(text, button) {
  const area = make("textarea", {style: "position:fixed;opacity:0"}, text);  // a page from a file has no clipboard of its own
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  button.focus();
  button.textContent = done ? "Copied" : "Select the text";
}

// A browser takes a head of which a strip is in sight for one that is seen. By keyboard only: a click must not be moved.
byId("table").addEventListener("focusin", ({target}) => {
  if (target.matches(":focus-visible")) target.scrollIntoView({block: "nearest", inline: "nearest"});
});

function drawTools() {
  const tick = (column) => make("label", {class: "tick"},
    make("input", {type: "checkbox", name: "column", value: column.key, on: {change: pickColumns}}), column.label);
  byId("tools").append(make("details", {}, make("summary", {}, "Columns"), make("div", {class: "bar"}, ...COLUMNS.slice(1).map(tick))),
    downloads("settings", settingsAsText, "Download the rows shown:"), downloads("runs", runsAsText, "and their runs:"));
}
function pickColumns() {
  const ticked = [...byId("tools").querySelectorAll("input:checked")].map((box) => box.value);
  change({columns: ["method", ...ticked].join(",")});
}
function fillTools() {
  const keys = columnsShown().map((column) => column.key);
  for (const box of byId("tools").querySelectorAll("input")) box.checked = keys.includes(box.value);
}

const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const latex = (text) => text.replace(/[\\&%$#_{}~^]/g, (sign) => ({"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}[sign] ?? "\\" + sign));
const FORMATS = {
  CSV: (heads, lines) => [heads, ...lines].map((line) => line.map(quoted).join(",")).join("\n"),
  Markdown: (heads, lines) => [heads, heads.map(() => "---"), ...lines].map((line) => `| ${line.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`).join("\n"),
  LaTeX: (heads, lines) => [`\\begin{tabular}{${"l".repeat(heads.length)}}`, ...[heads, ...lines].map((line) => line.map(latex).join(" & ") + " \\\\"), "\\end{tabular}"].join("\n"),
};
function settingsAsText(kind) {
  const columns = columnsShown().flatMap((column) => [column.key, column.spread, ...(column.interval ?? [])]).filter(Boolean);
  const field = (row, key) => (kind === "CSV" ? row[key] : COLUMN[key] ? shown(COLUMN[key], row) : known(row[key]) ? SCORE(row[key], row) : "");
  return rowsShown().map((row) => Object.fromEntries(columns.map((key) => [key, field(row, key)])));
}

const OF_RUN = ["cell", "seed", "state", "value", "stderr", "n", "final_loss", "train_seconds", "memory_gib", "commit", "record"];
function runsAsText() {
  const own = (row) => NAMES.filter((key) => key !== "state").map((key) => [key, row[key]]);
  return rowsShown().flatMap((row) => row.runs.map((place) =>
    Object.fromEntries([...own(row), ...OF_RUN.map((key) => [key, DATA.runs[place][key]])])));
}

// Buttons that save a list of rows, each {name: value}, in every format. of: gives the rows for a format.
function downloads(name, of, label = "Download its data:") {
  const button = (kind) => make("button", {type: "button", "aria-label": `${kind} of the ${name}`, on: {click: () => save(kind, name, of(kind))}}, kind);
  return make("span", {class: "bar downloads"}, make("span", {class: "note"}, label), ...Object.keys(FORMATS).map(button));
}

function save(kind, name, rows) {
  const heads = Object.keys(rows[0] ?? {}), lines = rows.map((row) => heads.map((key) => String(row[key] ?? "")));
  const text = FORMATS[kind](heads, lines) + "\n";
  const link = make("a", {href: URL.createObjectURL(new Blob([text], {type: "text/plain"})), download: `${name}.${{CSV: "csv", Markdown: "md", LaTeX: "tex"}[kind]}`});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
