// The data, the state of the page, and small helpers. What records say reaches the page as text only, never as HTML.
const DATA = JSON.parse(document.getElementById("data").textContent);
const NAMES = ["model", "data", "task", "method", "quant", "rank", "learning_rate", "state"];  // that filter
const byId = (id) => document.getElementById(id);
const known = (value) => value !== undefined && value !== null && value !== "";

for (const row of DATA.settings) {
  const first = DATA.runs[row.runs[0]];
  row.key = row.task + "|" + first.cell.replace(/-s\d+$/, "");
  row.best_rate = row.tuned ? "yes" : undefined;
  if (row.score_mean === undefined && row.diverged) row.diff_verdict = "diverged";
  for (const name of ["diff_to_lora", "diff_low", "diff_high", "diff_verdict"])
    if (row.tuned && known(row.tuned[name])) row["tuned_" + name] = row.tuned[name];
}

const INT = (value) => value.toLocaleString("en-US");
const FIXED = (digits) => (value) => value.toFixed(digits);
const SHORT = (value) => String(Number(value.toPrecision(4)));
const SIGNED = (value, row) => (value > 0 ? "+" : "") + value.toFixed(row.digits ?? 2);
const SCORE = (value, row) => value.toFixed(row.digits ?? 2);
// better: 1 where more is better, -1 where less is, 0 where the row's task says which
const COLUMNS = [
  {key: "method", label: "Method", shown: true},
  {key: "model", label: "Model"}, {key: "data", label: "Training data"}, {key: "task", label: "Task"},
  {key: "quant", label: "Base", shown: true}, {key: "rank", label: "Rank", format: INT, shown: true},
  {key: "learning_rate", label: "Rate", format: SHORT, shown: true},
  {key: "best_rate", label: "Best rate", shown: true, about: "chosen on validation items"},
  {key: "seeds", label: "Seeds", format: INT, shown: true},
  {key: "score_mean", label: "Score", format: SCORE, spread: "score_std", better: 0, shown: true, unit: true,
    about: "mean over seeds ± their standard deviation"},
  {key: "diff_to_lora", label: "To reference", format: SIGNED, interval: ["diff_low", "diff_high"], better: 0, shown: true,
    about: "score less that of LoRA on the same base and rank, with a 95 % interval over items and seeds"},
  {key: "diff_half", label: "± half-width", format: SCORE, better: -1, about: "half of that interval"},
  {key: "diff_verdict", label: "In words", word: true, shown: true},
  {key: "diff_holm", label: "After Holm", word: true, about: "with all differences of the table taken together"},
  {key: "diff_equivalent", label: "Equivalent within", about: "points, where the interval shows it"},
  {key: "tuned_diff_to_lora", label: "To LoRA, each at its best rate", format: SIGNED,
    interval: ["tuned_diff_low", "tuned_diff_high"], better: 0, shown: true},
  {key: "tuned_diff_verdict", label: "In words, at best rate", word: true, shown: true},
  {key: "final_loss_mean", label: "Final loss", format: FIXED(4), spread: "final_loss_std", better: -1, shown: true,
    about: "mean over the last tenth of the training steps"},
  {key: "trainable_parameters", label: "Trained parameters", format: INT, better: -1, shown: true},
  {key: "train_seconds_mean", label: "Seconds", format: FIXED(1), better: -1, shown: true, about: "of the training"},
  {key: "peak_memory_gib", label: "Memory, GiB", format: FIXED(2), better: -1, shown: true,
    about: "peak of the training process, on a GPU from the first step on"},
  {key: "error_reduction_percent", label: "Error reduction, %", format: FIXED(1), better: 1,
    about: "of the quantization error against plain quantization"},
  {key: "second_mean", label: "Second metric", format: SCORE, spread: "second_std", better: 0},
  {key: "n", label: "Items", format: INT},
  {key: "score_stderr_items", label: "Standard error over items", format: SCORE},
  {key: "noise_floor", label: "Noise floor", format: SCORE,
    about: "in 95 of 100 cases two runs of one setting lie at most so far apart"},
  {key: "paper_value", label: "Paper", format: FIXED(2)}, {key: "paper_tier", label: "Tier"},
  {key: "verdict", label: "Against the paper", word: true},
  {key: "state", label: "State", shown: true},
].filter((column) => DATA.settings.some((row) => known(row[column.key])));
const COLUMN = Object.fromEntries(COLUMNS.map((column) => [column.key, column]));
const valuesOf = (key) => [...new Set(DATA.settings.map((row) => row[key]).filter(known))].sort(order);
const shared = (key) => valuesOf(key).length < 2 && DATA.settings.every((row) => known(row[key]));

function order(a, b) {
  if (known(a) !== known(b)) return known(a) ? -1 : 1;  // what has no number comes last
  return typeof a === "number" && typeof b === "number" ? a - b : String(a ?? "").localeCompare(String(b ?? ""));
}

// An element; children are elements or texts. on: listeners by event.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name === "on") for (const [event, does] of Object.entries(value)) element.addEventListener(event, does);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

function shown(column, row) {
  const value = row[column.key];
  if (!known(value)) return "";
  return typeof value === "number" && column.format ? column.format(value, row) : String(value);
}

// The state of the page is in the address, after "#", and is read from there.
const STATE = {};
const START = {sort: "", q: "", x: "", y: "", scale: "linear", columns: "", run: "", show: "", find: ""};
function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(START)) STATE[key] = given.get(key) ?? START[key];
  STATE.filter = Object.fromEntries(NAMES.map((name) => [name, given.get(name) ?? ""]));
  STATE.open = new Set(given.getAll("open"));
  STATE.front = given.get("front") !== "no";
}
let writing = 0;
function writeState() {
  const kept = new URLSearchParams();
  for (const [name, value] of Object.entries(STATE.filter)) if (value) kept.set(name, value);
  for (const key of Object.keys(START)) if (STATE[key] && STATE[key] !== START[key]) kept.set(key, STATE[key]);
  for (const key of STATE.open) kept.append("open", key);
  if (!STATE.front) kept.set("front", "no");
  clearTimeout(writing);  // a slider moves faster than browsers let the address change
  writing = setTimeout(() => history.replaceState(null, "", "#" + kept), 60);
}
function change(values) {
  Object.assign(STATE, values);
  writeState();
  draw();
}

function rowsShown() {
  const words = STATE.q.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (row) =>
    NAMES.every((name) => !STATE.filter[name] || String(row[name] ?? "") === STATE.filter[name]) &&
    words.every((word) => COLUMNS.some((column) => String(row[column.key] ?? "").toLowerCase().includes(word)));
  const rows = DATA.settings.filter(fits);
  const key = STATE.sort.replace(/^-/, ""), down = STATE.sort.startsWith("-");
  if (!COLUMN[key]) return rows;
  return rows.sort((a, b) =>
    known(a[key]) && known(b[key]) && down ? order(b[key], a[key]) : order(a[key], b[key]));
}
