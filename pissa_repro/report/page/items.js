// The items of a run: loaded by script elements when a reader asks, since a page from a file may not fetch. Long texts
// fill many files. One of each kind is in memory at a time, and the next is loaded when a reader wants more.
const MANY = 30;  // items that are drawn at once
const LONG = 3000;  // characters of a text that are drawn at once
const LOADING = new Map();  // by number of the file: a promise of its items
const waiting = new Map();
window[DATA.items.call] = (stamp, number, list) => waiting.get(number)?.(stamp, list);

function load(number) {
  if (!LOADING.has(number)) {
    const script = make("script", {src: `${DATA.items.folder}/${number}.js`});
    const promise = new Promise((resolve, reject) => {
      waiting.set(number, (stamp, list) =>
        (stamp === DATA.items.stamp ? resolve(list) : reject(new Error("the items beside this page are of another one; make it again"))));
      script.addEventListener("error", () => reject(new Error(`the folder ${decodeURIComponent(DATA.items.folder)} is not beside this page`)));
    });
    const end = () => { LOADING.delete(number); waiting.delete(number); script.remove(); };
    promise.then(end, end);
    LOADING.set(number, promise);
    document.head.append(script);
  }
  return LOADING.get(number);
}

// The items of several lists side by side, as many at a time as are there of all; each list is in files of its own.
async function* beside(...files) {
  const lists = files.map((numbers) => ({numbers, next: 0, items: [], at: 0}));
  const fill = async (list) => {
    while (list.at === list.items.length && list.next < list.numbers.length)
      Object.assign(list, {items: await load(list.numbers[list.next]), next: list.next + 1, at: 0});
    return list.items.length - list.at;
  };
  for (;;) {
    const count = Math.min(...await Promise.all(lists.map(fill)));
    if (!count) return;
    yield together(...lists.map((list) => list.items.slice(list.at, list.at += count)));
  }
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

let view = {};  // of the items that are shown: where they come from, and how far that has been read
function drawItems() {
  const place = runPlace();
  byId("items-bar").hidden = place < 0;
  if (place < 0) {
    view = {};
    byId("items-list").replaceChildren();
    byId("items-note").textContent = "Unfold a setting and choose “Items” at one of its runs: what was asked, answered, and read from the answer.";
    return;
  }
  const wanted = JSON.stringify([STATE.run, STATE.show, STATE.find]);
  if (wanted === view.wanted) return;  // a change elsewhere on the page
  const run = DATA.runs[place], row = rowOf(place), against = DATA.runs[run.against], other = against?.items && against;
  byId("items-bar").querySelector("[name=find]").value = STATE.find;
  for (const option of byId("items-bar").querySelectorAll("option")) {
    const needs = CHOICES[option.value][2];
    option.hidden = option.disabled = (needs === "percent" && row.unit !== "percent") || (needs === "other" && !other);
    option.selected = option.value === STATE.show;
  }
  const more = make("button", {type: "button", id: "items-more", on: {click: () => showItems(view)}}, "Show more");
  view = {wanted, run, row, other, more, fits: fitting(STATE.show, STATE.find.toLowerCase()),
    stream: beside(DATA.items.asked[row.task], run.items, ...(other ? [other.items] : [])), waiting: [], read: 0, found: 0};
  showItems(view);
}

// Draws some more of the items that fit, and reads on for them as far as it has to.
async function showItems(mine) {
  let room = MANY;
  mine.more.hidden = true;
  try {
    while (room > mine.waiting.length && mine.read < mine.run.many) {
      room -= putItems(mine, room);
      const {value} = await mine.stream.next();
      if (mine !== view) return;  // the reader has gone on
      if (!value) break;
      const found = value.filter(mine.fits);
      Object.assign(mine, {read: mine.read + value.length, found: mine.found + found.length, waiting: mine.waiting.concat(found)});
      sayItems(mine);
    }
    putItems(mine, room);
  } catch (error) {
    byId("items-list").replaceChildren();
    byId("items-note").textContent = `The items cannot be shown: ${error.message}.`;
  }
}

function fitting(show, word) {
  const [, fits] = CHOICES[show] ?? CHOICES[""];
  return (item) => fits(item) &&
    (!word || [item.prompt, item.target, item.text, item.read].some((text) => String(text ?? "").toLowerCase().includes(word)));
}

// Draws as many as there is room for of those that wait, after those of before; says how many these are.
function putItems(mine, room) {
  const now = mine.waiting.splice(0, room), list = byId("items-list");
  if (mine.more.parentNode !== list) list.replaceChildren(mine.more);
  mine.more.before(...now.map((item) => drawItem(item, mine.row)));
  const whole = mine.read >= mine.run.many;
  mine.more.textContent = whole ? `Show more (${mine.waiting.length} left)` : "Read on";
  mine.more.hidden = whole && !mine.waiting.length;
  return now.length;
}

function sayItems({run, row, other, read, found}) {
  const counted = read < run.many ? `${INT(found)} in the first ${INT(read)} of ${INT(run.many)} items, which are all that was read so far. `
    : `${INT(found)} of ${INT(run.many)} items. `;
  byId("items-note").textContent = `${named(row)}${known(run.seed) ? `, seed ${run.seed}` : ""}, task ${row.task}: ${counted}` +
    (other ? `Against the reference (${named(rowOf(run.against))}), same seed: ${run.higher} higher, ${run.lower} lower.` : "No reference beside it.");
}

function together(prompts, own, theirs) {
  return prompts.map(([id, prompt, target], n) => ({id, prompt, target, text: own[n][0], read: own[n][1], score: own[n][2],
    otherText: theirs?.[n][0], otherRead: theirs?.[n][1], other: theirs?.[n][2]}));
}

// A text of a record; of a long one the beginning, and the rest when it is asked for or holds the word that is searched.
function textOf(said) {
  const place = make("div", {class: "text", dir: "auto"}, said), word = STATE.find.toLowerCase();
  if (said.length <= LONG || (word && said.toLowerCase().indexOf(word) + word.length > LONG)) return [place];
  place.textContent = said.slice(0, LONG) + " …";
  const all = make("button", {type: "button", on: {click: () => { place.textContent = said; all.remove(); }}}, `All ${INT(said.length)} characters`);
  return [place, all];
}

function drawItem(item, row) {
  const judged = (score) => (row.unit !== "percent" ? score.toFixed(row.digits ?? 2) : score === 1 ? "right" : score === 0 ? "wrong" : String(score));
  const text = (head, said) => known(said) && make("div", {}, make("h3", {}, head), ...textOf(String(said)));
  const read = (said) => (known(said) ? `, read as ${said}` : "");
  const mark = make("p", {}, make("strong", {}, `Item ${item.id}: `), make("span", {class: {right: "good", wrong: "bad"}[judged(item.score)] ?? ""}, judged(item.score)),
    make("bdi", {}, read(item.read)), known(item.other) ? `; reference ${judged(item.other)}` : "", make("bdi", {}, known(item.other) ? read(item.otherRead) : ""));
  const parts = [text("Answer", item.text), text("Answer of the reference", item.otherText), text("Wanted", item.target)].filter(Boolean);
  return make("article", {class: "item"}, mark, text("Prompt", item.prompt) || "", make("div", {class: "pair"}, ...parts));
}
