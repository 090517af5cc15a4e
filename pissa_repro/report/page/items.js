// The items of a run: loaded by script elements when a reader asks, since a page from a file may not fetch.
const MANY = 30;  // items that are drawn at once
const LOADED = new Map();  // by number of the file: a promise of its items
const waiting = new Map();
window[DATA.items.call] = (stamp, number, list) => waiting.get(number)?.(stamp, list);

function load(number) {
  if (!LOADED.has(number))
    LOADED.set(number, new Promise((resolve, reject) => {
      waiting.set(number, (stamp, list) =>
        (stamp === DATA.items.stamp ? resolve(list) : reject(new Error("the items beside this page are of another one; make it again"))));
      const missing = () => reject(new Error(`the folder ${decodeURIComponent(DATA.items.folder)} is not beside this page`));
      document.head.append(make("script", {src: `${DATA.items.folder}/${number}.js`, on: {error: missing}}));
    }));
  return LOADED.get(number);
}

const runKey = (place) => DATA.runs[place].record;
const runPlace = () => DATA.runs.findIndex((run) => STATE.run && run.record === STATE.run && run.items);
const rowOf = (place) => DATA.settings.find((row) => row.runs.includes(place));
function openItems(place) {
  change({run: runKey(place), show: "", find: ""});
  byId("items-head").focus();
  byId("items").scrollIntoView();
}

function closeItems() {
  const place = runPlace();
  change({run: "", show: "", find: ""});
  (document.querySelector(`[data-keep="items ${place}"]`) ?? byId("items-head")).focus();  // its setting may be folded
}

const CHOICES = {
  "": ["all", () => true],
  right: ["right", (item) => item.score === 1, "percent"],
  wrong: ["wrong", (item) => item.score !== 1, "percent"],
  flips: ["other than the reference", (item) => item.score !== item.other, "other"],
  gained: ["higher than the reference", (item) => item.score > item.other, "other"],
  lost: ["lower than the reference", (item) => item.score < item.other, "other"],
};

function drawItemsBar() {
  const input = make("input", {type: "search", name: "find", on: {input: (event) => change({find: event.target.value})}});
  const select = make("select", {name: "show", on: {change: (event) => change({show: event.target.value})}},
    ...Object.entries(CHOICES).map(([value, [label]]) => make("option", {value}, label)));
  const close = make("button", {type: "button", id: "items-close", on: {click: closeItems}}, "Close");
  byId("items-bar").append(make("label", {class: "field"}, "Search in texts", input), make("label", {class: "field"}, "Show", select), close);
}

let asked = 0, drawnFor = "";
async function drawItems() {
  const place = runPlace();
  byId("items-bar").hidden = place < 0;
  if (place < 0) {
    drawnFor = "";
    byId("items-list").replaceChildren();
    byId("items-note").textContent = "Unfold a setting and choose “Items” at one of its runs: what was asked, answered, and read from the answer.";
    return;
  }
  const wanted = JSON.stringify([STATE.run, STATE.show, STATE.find]);
  if (wanted === drawnFor) return;  // a change elsewhere on the page
  drawnFor = wanted;
  const turn = ++asked, row = rowOf(place), run = DATA.runs[place], other = DATA.runs[run.against];
  byId("items-bar").querySelector("[name=find]").value = STATE.find;
  for (const option of byId("items-bar").querySelectorAll("option")) {
    const needs = CHOICES[option.value][2];
    option.hidden = option.disabled = (needs === "percent" && row.unit !== "percent") || (needs === "other" && !other?.items);
    option.selected = option.value === STATE.show;
  }
  try {
    const lists = [DATA.items.asked[row.task], run.items, ...(other?.items ? [other.items] : [])].map((numbers) => ({numbers, items: []}));
    const last = Math.max(...lists.map((list) => list.numbers.length)) - 1;
    for (let n = 0; n <= last; n++) {  // long texts are in many files: what is there is shown before the rest comes
      await Promise.all(lists.map(async (list) => {
        if (n < list.numbers.length) list.items = list.items.concat(await load(list.numbers[n]));
      }));
      if (turn !== asked) return;  // the reader has gone on
      if (n === 0 || n === last) listItems(together(...lists.map((list) => list.items)), row, run, other, n < last);
    }
  } catch (error) {
    byId("items-list").replaceChildren();
    byId("items-note").textContent = `The items cannot be shown: ${error.message}.`;
  }
}

// The items of which all parts are there.
function together(prompts, own, theirs) {
  const count = Math.min(prompts.length, own.length, theirs?.length ?? Infinity);
  return prompts.slice(0, count).map(([id, prompt, target], n) => ({id, prompt, target, text: own[n][0], read: own[n][1], score: own[n][2],
    otherText: theirs?.[n][0], otherRead: theirs?.[n][1], other: theirs?.[n][2]}));
}

function listItems(items, row, run, other, loading) {
  const [, fits] = CHOICES[STATE.show] ?? CHOICES[""], word = STATE.find.toLowerCase();
  const found = items.filter((item) => fits(item) &&
    (!word || [item.prompt, item.target, item.text, item.read].some((text) => String(text ?? "").toLowerCase().includes(word))));
  const gained = items.filter((item) => item.score > item.other).length, lost = items.filter((item) => item.score < item.other).length;
  byId("items-note").textContent = `${named(row)}${known(run.seed) ? `, seed ${run.seed}` : ""}, task ${row.task}: ${found.length} of ${items.length} items${loading ? " so far, more are loading" : ""}. ` +
    (other ? `Against the reference (${named(rowOf(run.against))}), same seed: ${gained} higher, ${lost} lower.` : "No reference beside it.");
  const list = byId("items-list"), more = make("button", {type: "button", on: {click: () => add()}});
  let count = 0;
  const add = () => {
    const first = count;
    count = Math.min(found.length, count + MANY);
    more.before(...found.slice(first, count).map((item) => drawItem(item, row)));
    more.textContent = `Show more (${found.length - count} left)`;
    more.hidden = count === found.length;
  };
  list.replaceChildren(more);
  add();
}

function drawItem(item, row) {
  const judged = (score) => (row.unit !== "percent" ? score.toFixed(row.digits ?? 2) : score === 1 ? "right" : score === 0 ? "wrong" : String(score));
  const text = (head, said) => known(said) && make("div", {}, make("h3", {}, head), make("div", {class: "text", dir: "auto"}, String(said)));
  const read = (said) => (known(said) ? `, read as ${said}` : "");
  const mark = make("p", {}, make("strong", {}, `Item ${item.id}: `), make("span", {class: {right: "good", wrong: "bad"}[judged(item.score)] ?? ""}, judged(item.score)),
    make("bdi", {}, read(item.read)), known(item.other) ? `; reference ${judged(item.other)}` : "", make("bdi", {}, known(item.other) ? read(item.otherRead) : ""));
  const parts = [text("Answer", item.text), text("Answer of the reference", item.otherText), text("Wanted", item.target)].filter(Boolean);
  return make("article", {class: "item"}, mark, text("Prompt", item.prompt) || "", make("div", {class: "pair"}, ...parts));
}
