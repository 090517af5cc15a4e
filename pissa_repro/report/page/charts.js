// Two charts by Vega-Lite, of the rows that the table shows.
const MOST_CURVES = 12, MOST_ERRORS = 40, MOST_NAMES = 15, REST = "other methods";
const dark = matchMedia("(prefers-color-scheme: dark)");

function themed() {
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
  const words = {labelColor: colour("--ink"), titleColor: colour("--ink")};
  return {
    background: null, font: "system-ui, sans-serif", view: {stroke: colour("--line")},
    axis: {...words, gridColor: colour("--line"), gridOpacity: 0.5, domainColor: colour("--line"), tickColor: colour("--line"), labelFontSize: 12, titleFontSize: 12, labelSeparation: 6},
    legend: {...words, labelFontSize: 12, labelLimit: 260, orient: "bottom", symbolOpacity: 1, symbolBaseFillColor: colour("--ink"), symbolBaseStrokeColor: colour("--ink"), columns: byId("scatter").clientWidth > 700 ? 4 : 1},
    text: {color: colour("--ink")}, rule: {color: colour("--soft")},
    range: {category: dark.matches
      ? ["#79b8ff", "#ffab70", "#85e89d", "#f97583", "#b392f0", "#ffdf5d", "#56d4dd", "#f692ce", "#c9d1d9", "#d8a657", "#9ecbff", "#7ee787"]
      : ["#0a58ca", "#c2410c", "#116329", "#a40e26", "#6f42c1", "#8a6100", "#0b7285", "#b0307f", "#444c56", "#7a4a12", "#3b5bdb", "#2b8a3e"]},
  };
}

// A chart, and its data for those who want to draw it themselves.
const DRAWN = {}, CALLED = {scatter: "points", curves: "curves", errors: "errors"};
function embed(id, spec, data) {
  if (!byId(id + "-data")) {
    const buttons = downloads(CALLED[id], () => DRAWN[id]);
    buttons.id = id + "-data";
    byId(id + "-note").after(buttons);
  }
  byId(id + "-data").hidden = false;
  DRAWN[id] = data;
  const options = {mode: "vega-lite", renderer: "svg", actions: {export: true, source: false, compiled: false, editor: false},
    config: themed(), tooltip: {theme: dark.matches ? "dark" : "light"}};
  const whole = {width: "container", autosize: {type: "fit-x", contains: "padding"}, ...spec};
  embed.last = (embed.last ?? Promise.resolve()).then(() => vegaEmbed(byId(id), whole, options))  // one after the other
    .then(() => byId(id).querySelector("summary").setAttribute("aria-label", "Save this chart"));
}

function nothing(id, text) {
  byId(id).replaceChildren();
  if (byId(id + "-data")) byId(id + "-data").hidden = true;
  byId(id + "-note").textContent = text;
}

// What is not the same in all rows: enough to tell them apart. A start has no rate.
function named(row, start = false) {
  const more = {model: row.model, data: row.data, quant: row.quant !== "none" && row.quant, rank: row.rank && `r${row.rank}`,
    learning_rate: !start && row.learning_rate && `lr ${row.learning_rate}`};
  return [row.method, ...Object.keys(more).filter((key) => !shared(key) && more[key]).map((key) => more[key])].join(", ");
}

// A method has one colour in all charts, as long as there are enough of them.
const METHODS = valuesOf("method");
function colourOf(method) {
  const palette = themed().range.category;
  return METHODS.length <= palette.length ? palette[METHODS.indexOf(method)] : undefined;
}

const numeric = () => COLUMNS.filter((column) => column.format && column.key !== "seeds");
function axes() {
  const usable = numeric().map((column) => column.key), first = (...keys) => keys.find((key) => usable.includes(key));
  return {x: usable.includes(STATE.x) ? STATE.x : first("train_seconds_mean", "n"),
    y: usable.includes(STATE.y) ? STATE.y : first("score_mean", "final_loss_mean")};
}

function drawAxes() {
  const options = () => numeric().map((column) => make("option", {value: column.key}, column.label));
  for (const axis of ["x", "y"])
    byId("axes").append(make("label", {class: "field"}, axis === "x" ? "Across" : "Up",
      make("select", {name: axis, on: {change: (event) => change({[axis]: event.target.value})}}, ...options())));
  byId("axes").append(make("label", {class: "tick"},
    make("input", {type: "checkbox", name: "front", on: {change: (event) => change({front: event.target.checked})}}), "Line of the best trade-offs"));
  byId("scales").append(make("label", {class: "tick"},
    make("input", {type: "checkbox", name: "scale", on: {change: (event) => change({scale: event.target.checked ? "log" : "linear"})}}), "Logarithmic"));
}

function fillAxes() {
  const chosen = axes();
  for (const axis of ["x", "y"]) byId("axes").querySelector(`[name=${axis}]`).value = chosen[axis] ?? "";
  byId("axes").querySelector("[name=front]").checked = STATE.front;
  byId("scales").querySelector("[name=scale]").checked = STATE.scale === "log";
}

// 1 where more of a column is better, -1 where less is, undefined where neither is.
function better(column, row) {
  return column.better === 0 ? (row.higher ? 1 : -1) : column.better;
}

// Those points that no other point beats in both columns.
function front(points, x, y) {
  const signs = (point) => [better(x, point.row), better(y, point.row)];
  const beats = (one, other) => {
    const [a, b] = signs(one), dx = a * (one.x - other.x), dy = b * (one.y - other.y);
    return dx >= 0 && dy >= 0 && (dx > 0 || dy > 0);
  };
  return points.filter((point) => !points.some((other) => beats(other, point)));
}

function drawScatter(rows) {
  const {x: keyX, y: keyY} = axes(), x = COLUMN[keyX], y = COLUMN[keyY];
  if (!x || !y) return nothing("scatter", "There is no number yet.");
  const there = rows.filter((row) => known(row[keyX]) && known(row[keyY]));
  const unit = there[0]?.unit, alike = there.filter((row) => row.unit === unit);
  if (!alike.length) return nothing("scatter", "No row shown has a number in both columns.");
  const points = alike.map((row) => ({row, x: row[keyX], y: row[keyY], name: named(row), method: row.method, quant: row.quant,
    task: row.task, says: row.diff_verdict ?? "", sx: shown(x, row), sy: shown(y, row),
    low: known(row[y.spread]) ? row[keyY] - row[y.spread] : row[keyY], high: known(row[y.spread]) ? row[keyY] + row[y.spread] : row[keyY]}));
  const ways = better(x, alike[0]) && better(y, alike[0]) && keyX !== keyY;
  const best = STATE.front && ways ? front(points, x, y) : [];
  const names = points.length <= MOST_NAMES;  // else of the best alone: there is no room, and hover has all
  const plain = (some) => some.map(({row, ...rest}) => rest);
  const wide = (name, column) => {  // rates and sizes, which double from one to the next; scores do not
    if (column.better === 0) return false;
    const values = points.map((point) => (name === "x" ? point.x : Math.min(point.y, point.low)));
    return Math.min(...values) > 0 && Math.max(...values) > 20 * Math.min(...values);
  };
  const field = (name, column) => ({field: name, type: "quantitative", title: column.label + (column.unit && unit === "percent" ? ", %" : ""), scale: wide(name, column) ? {type: "log"} : {zero: false, nice: true}});
  const tooltip = [["name", "Setting"], ["task", "Task"], ["sx", x.label], ["sy", y.label], ["says", "To reference"]].map(([name, title]) => ({field: name, title}));
  const palette = themed().range.category, all = new Set([...best, ...points].map((point) => point.method));
  const coloured = [...all].slice(0, palette.length).sort(order), rest = all.size > coloured.length ? [REST] : [];
  for (const point of points) point.colour = coloured.includes(point.method) ? point.method : REST;  // no colour has two methods
  const colours = {domain: [...coloured, ...rest], range: [...coloured.map((method, n) => colourOf(method) ?? palette[n]), ...rest.map(() => themed().rule.color)]};
  const layer = [
    {mark: "rule", encoding: {x: field("x", x), y: field("low", y), y2: {field: "high"}, opacity: {value: 0.5}}},
    {mark: {type: "point", filled: true, size: 90, opacity: 1}, encoding: {x: field("x", x), y: field("y", y), tooltip,
      color: {field: "colour", type: "nominal", scale: colours, legend: names ? null : {title: null}},
      shape: {field: "quant", type: "nominal", legend: shared("quant") ? null : {title: "base"}}}},
  ];
  if (best.length)
    layer.unshift({mark: {type: "line", strokeDash: [5, 4], color: themed().rule.color}, data: {values: plain(best)}, encoding: {x: field("x", x), y: field("y", y), order: {field: "x"}}});
  if (byId("scatter").clientWidth > 600 && (names || best.length))
    layer.push({data: {values: plain(names ? points : best)}, mark: {type: "text", align: "left", dx: 8, fontSize: 11}, encoding: {x: field("x", x), y: field("y", y), text: {field: "method"}}});
  embed("scatter", {height: 380, data: {values: plain(points)}, layer},
    points.map((point) => ({setting: point.name, task: point.task, [x.key]: point.x, [y.key]: point.y, low: point.low, high: point.high})));
  const left = rows.length - points.length;
  byId("scatter-note").textContent = [`${points.length} settings; a line through a point is its spread over seeds where that is known.`,
    best.length && `No other setting is better in both than these: ${best.map((point) => point.name).join("; ")}.`,
    rest.length && `${coloured.length} of ${all.size} methods have a colour, the best trade-offs first.`,
    left && `${left} ${left === 1 ? "row is" : "rows are"} not drawn: without a number, or in another unit.`].filter(Boolean).join(" ");
}

function drawCurves(rows) {
  const kept = new Map();
  for (const row of rows) if (known(row.curve) && !kept.has(row.curve)) kept.set(row.curve, row);
  const drawn = [...kept].slice(0, MOST_CURVES).map(([place, row]) => [place, named(row), row.method]), lines = drawn.map(([place]) => DATA.curves[place]);
  if (!drawn.length) return nothing("curves", "No row shown has a training that is finished.");
  const values = drawn.flatMap(([place, name]) => {
    const curve = DATA.curves[place];
    return curve.steps.map((step, n) => ({name, step, mean: curve.mean[n], low: curve.low[n], high: curve.high[n], seeds: curve.seeds}));
  }).filter((point) => point.mean !== null);
  const x = {field: "step", type: "quantitative", title: "training step", scale: {zero: false, nice: false}};
  const y = (name) => ({field: name, type: "quantitative", title: "loss", scale: STATE.scale === "log" ? {type: "log"} : {zero: false}});
  const hues = drawn.map(([, , method]) => colourOf(method)), apart = new Set(hues).size === drawn.length;
  const color = {field: "name", type: "nominal", title: null, sort: drawn.map(([, name]) => name),
    ...(apart ? {scale: {domain: drawn.map(([, name]) => name), range: hues}} : {}),
    legend: {symbolType: "stroke", symbolStrokeWidth: 3, symbolOpacity: 1}};
  const strokeDash = {field: "name", type: "nominal", legend: null, sort: color.sort, scale: {range: [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]}};
  const tooltip = [["name", "Setting"], ["step", "Step"], ["mean", "Mean"], ["low", "Least"], ["high", "Greatest"], ["seeds", "Seeds"]].map(([field, title]) => ({field, title, format: field === "name" ? undefined : ".4~g"}));
  const near = {name: "near", select: {type: "point", nearest: true, on: "pointermove", clear: "pointerout"}};
  const layer = [
    {mark: {type: "area", opacity: 0.15}, encoding: {x, y: y("low"), y2: {field: "high"}, color}},
    {mark: {type: "line", strokeWidth: 2}, encoding: {x, y: y("mean"), color, strokeDash}},
    {params: [near], mark: {type: "point", filled: true, size: 70}, encoding: {x, y: y("mean"), color, tooltip,
      opacity: {condition: {param: "near", empty: false, value: 1}, value: 0}}},
  ];
  embed("curves", {height: 360, data: {values}, layer}, values);
  const size = Math.max(...lines.map((curve) => (curve.steps.length > 1 ? Math.round(curve.steps[1] - curve.steps[0]) : 1)));
  byId("curves-note").textContent = [`Mean over seeds, band from least to greatest; each point is the mean of up to ${size} steps.`,
    kept.size > MOST_CURVES && `The first ${MOST_CURVES} of ${kept.size} curves: filter or sort to see others.`].filter(Boolean).join(" ");
}

function drawErrors(rows) {
  const kept = new Map();
  for (const row of rows) if (row.errors && !kept.has(named(row, true))) kept.set(named(row, true), row.errors);
  byId("heat").hidden = !DATA.settings.some((row) => row.errors);
  if (byId("heat").hidden) return;
  if (!kept.size) return nothing("errors", "No row shown is on a quantized base.");
  const drawn = [...kept].slice(0, MOST_ERRORS);
  const values = drawn.flatMap(([name, errors]) => Object.entries(errors).map(([type, less]) => ({name, type: type === "avg" ? "mean" : type, less})));
  const most = Math.max(1, ...values.map((value) => Math.abs(value.less)));
  const roomy = byId("errors").clientWidth > 600;  // else hover has the numbers
  const types = [...new Set(values.map((value) => value.type))];
  const x = {field: "type", type: "ordinal", title: null, sort: types, axis: {orient: "top", labelAngle: roomy ? 0 : -90}};
  const y = {field: "name", type: "nominal", title: null, sort: drawn.map(([name]) => name), axis: {labelLimit: byId("errors").clientWidth / 3}};
  const tooltip = [{field: "name", title: "Setting"}, {field: "type", title: "Modules"}, {field: "less", title: "Less error, %", format: ".2f"}];
  const ends = dark.matches ? ["#8c2f39", "#1a2129", "#1f6f43"] : ["#f2a0a8", "#ffffff", "#7fcf9a"];
  const layer = [
    {mark: "rect", encoding: {x, y, tooltip, color: {field: "less", type: "quantitative", legend: null, scale: {domain: [-most, 0, most], range: ends, interpolate: "rgb"}}}},
    ...(roomy ? [{mark: {type: "text", fontSize: 11}, encoding: {x, y, tooltip, text: {field: "less", format: ".1f"}}}] : []),
  ];
  embed("errors", {height: 24 * drawn.length, data: {values}, layer}, values);
  byId("errors-note").textContent = ["By how many percent less than plain quantization the start errs, in the nuclear norm, by type of module. Below 0 it errs more.",
    kept.size > MOST_ERRORS && `The first ${MOST_ERRORS} of ${kept.size} settings.`].filter(Boolean).join(" ");
}
