"use strict";
const by = (id) => document.getElementById(id);
let about, image = null, imageName = "", turn = 0, pointTurn = 0, mark = [0.5, 0.5], pointOf = null;

function say(text, wrong = false) {
  by("status").textContent = text;
  by("status").classList.toggle("wrong", wrong);
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer; is it still running?");
  }
  const values = await answer.json().catch(() => ({ error: `${answer.status} ${answer.statusText}` }));
  if (!answer.ok) throw new Error(values.error);
  return values;
}

function fill(select, entries, kept) {
  const before = kept === undefined ? select.value : kept;
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
  select.value = entries.some(([value]) => value === before) ? before : entries[0]?.[0] ?? "";
}

function listNetworks() {
  const mechanisms = [...new Set(about.networks.map((one) => one.mechanism))];
  fill(by("mechanism"), [["", "every"], ...mechanisms.map((name) => [name, name])]);
  const only = by("mechanism").value;
  const there = about.networks.filter((one) => !only || one.mechanism === only);
  fill(by("network"), there.map((one) => [one.key, one.label]));
  fill(by("other"), [["", "nothing"], ...about.networks.map((one) => [one.key, one.label])]);
  if (!there.length) say("No network is trained yet: this page lists each run when it is finished.");
}

const labelOf = (key) => about.networks.find((one) => one.key === key)?.label ?? key;

function question(path, values) {
  return ask(`${path}?${new URLSearchParams(values)}`, { method: "POST", body: image });
}

async function look() {
  if (!image || !by("network").value) return;
  const own = ++turn;
  say("Looking …");
  const chosen = { layer: by("layer").value, method: by("method").value, target: by("target").value };
  try {
    const found = await question("/api/look", { network: by("network").value, ...chosen });
    const other = by("other").value;
    const second = other ? await question("/api/look", { network: other, method: chosen.method, target: chosen.target }) : null;
    if (own === turn) draw(found, second);
  } catch (error) {
    if (own === turn) say(error.message, true);
  }
}

function draw(found, second) {
  by("answer").hidden = false;
  by("picture").src = found.picture;
  by("map").src = found.map;
  const what = found.target === null ? "" : `, of the class “${found.target}”`;
  by("map").alt = `Map of ${labelOf(by("network").value)}${what}: bright is what counts`;
  by("map-caption").textContent = `${by("method").value} at ${found.layer}${what}; bright is what counts.`;
  const notes = [...found.notes, ...(second ? second.notes.map((note) => `${labelOf(by("other").value)}: ${note}`) : [])];
  by("notes").replaceChildren(...notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
  fill(by("layer"), [["", "found by itself"], ...found.layers.map((name) => [name, name])]);
  fill(by("target"), [["", "the best"], ...found.targets.map((name, number) => [String(number), name])]);
  by("map-other").hidden = by("slide").hidden = by("other-head").hidden = second === null;
  if (second) {
    by("map-other").src = second.map;
    by("map-other").alt = `Map of ${labelOf(by("other").value)}`;
    by("left").textContent = labelOf(by("network").value);
    by("right").textContent = labelOf(by("other").value);
    slide();
  }
  const theirs = new Map((second?.scores ?? []).map((one) => [one.class, one.score]));
  by("scores").tBodies[0].replaceChildren(...found.scores.map((one) => {
    const row = document.createElement("tr");
    const cells = [one.class, `${(100 * one.score).toFixed(1)} %`];
    if (second) cells.push(theirs.has(one.class) ? `${(100 * theirs.get(one.class)).toFixed(1)} %` : "–");
    cells.forEach((text) => { row.insertCell().textContent = text; });
    return row;
  }));
  cards(by("gates"), found.gates);
  const more = found.left_out ? ` ${found.left_out} more are not shown.` : "";
  by("gates-text").textContent = found.gates.length ? `${found.gates.length} maps.${more}` : "This network has none.";
  if (pointOf && (pointOf.image !== image || pointOf.network !== by("network").value)) {
    by("rows").replaceChildren();
    by("point-text").textContent = "No position is chosen.";
    by("mark").style.display = "none";
    pointOf = null;
  }
  say(`${imageName}, ${found.size[0]} × ${found.size[1]} pixels.`);
}

function cards(place, pictures) {
  place.replaceChildren(...pictures.map((one) => {
    const figure = document.createElement("figure");
    figure.append(Object.assign(new Image(), { src: one.picture, alt: one.name }));
    figure.append(Object.assign(document.createElement("figcaption"), { textContent: one.name }));
    return figure;
  }));
}

function slide() {
  by("map-other").style.clipPath = `inset(0 0 0 ${by("slider").value}%)`;
}

function place() {
  by("mark").style.display = "block";
  by("mark").style.top = `${100 * mark[0]}%`;
  by("mark").style.left = `${100 * mark[1]}%`;
}

async function point() {
  place();
  const own = ++pointTurn;
  pointOf = { image, network: by("network").value };
  by("point-text").textContent = "Looking …";
  try {
    const found = await question("/api/point", { network: by("network").value, y: mark[0], x: mark[1] });
    if (own !== pointTurn) return;
    const where = `At ${Math.round(100 * mark[1])} % from the left and ${Math.round(100 * mark[0])} % from the top`;
    const masks = found.values.map((one) => `${one.name} gives it ${one.value.toPrecision(3)} (mean ${one.mean.toPrecision(3)})`);
    const none = found.rows.length ? "" : "; this network has no affinities between positions";
    by("point-text").textContent = `${where}${masks.length ? `: ${masks.join("; ")}` : ""}${none}.`;
    cards(by("rows"), found.rows);
  } catch (error) {
    if (own === pointTurn) by("point-text").textContent = error.message;
  }
}

function take(file) {
  if (!file) return;
  image = file;
  imageName = file.name;
  by("layer").value = by("target").value = "";
  look();
}

function seconds(value) {
  if (value < 90) return `about ${Math.max(1, Math.round(value))} s`;
  return value < 5400 ? `about ${Math.round(value / 60)} minutes` : `about ${(value / 3600).toFixed(1)} hours`;
}

let figuresOf = "", watching = 0;
async function watchStudy() {
  clearTimeout(watching);
  if (by("study").hidden) return;
  try {
    const found = await ask("/api/study");
    const parts = Object.entries(found.states).map(([state, count]) => `${count} ${state}`);
    const left = found.seconds_left === null ? "" : `; ${seconds(found.seconds_left)} left`;
    by("states").textContent = `${parts.join(", ")}${left}${found.working ? "" : "; nobody works in the folder"}.`;
    by("runs").tBodies[0].replaceChildren(...found.runs.map((run) => {
      const row = document.createElement("tr");
      [run.arm, run.seed, run.state, run.epoch || "", run.error ?? ""].forEach((text) => { row.insertCell().textContent = text; });
      return row;
    }));
    const now = JSON.stringify(found.runs.map((run) => [run.key, run.state, run.epoch]));
    if (now !== figuresOf) {
      const drawn = await ask("/api/figures");
      figuresOf = now;
      by("study-answer").textContent = `${drawn.question} ${drawn.answer}`;
      by("figures").replaceChildren(...drawn.figures.map(drawFigure));
      about = await ask("/api/about");
      listNetworks();
    }
    say("");
    if (found.working) watching = setTimeout(watchStudy, 2000);
  } catch (error) {
    say(error.message, true);
    watching = setTimeout(watchStudy, 4000);
  }
}

function drawFigure(one) {
  const section = document.createElement("section");
  section.append(Object.assign(document.createElement("h2"), { textContent: one.title }));
  const scroll = Object.assign(document.createElement("div"), { className: "scroll" });
  scroll.append(document.importNode(new DOMParser().parseFromString(one.svg, "text/html").querySelector("svg"), true));
  section.append(scroll, Object.assign(document.createElement("p"), { textContent: one.reading }));
  return section;
}

function show(view) {
  by("look").hidden = view !== "look";
  by("study").hidden = view !== "study";
  by("show-look").setAttribute("aria-pressed", view === "look");
  by("show-study").setAttribute("aria-pressed", view === "study");
  if (view === "study") watchStudy();
}

async function start() {
  try {
    about = await ask("/api/about");
  } catch (error) {
    say(error.message, true);
    return;
  }
  by("title").textContent = about.title;
  document.title = `foveate: ${about.title}`;
  by("views").hidden = !about.study;
  fill(by("method"), about.methods.map((name) => [name, name]), "gradcam");
  say("Drop an image, or choose a file.");
  listNetworks();
  by("choices").addEventListener("submit", (event) => event.preventDefault());
  by("mechanism").addEventListener("change", () => { listNetworks(); by("layer").value = ""; look(); });
  by("network").addEventListener("change", () => { by("layer").value = ""; look(); });
  for (const id of ["method", "layer", "target", "other"]) by(id).addEventListener("change", look);
  by("file").addEventListener("change", () => take(by("file").files[0]));
  by("slider").addEventListener("input", slide);
  by("pick").addEventListener("click", (event) => {
    const box = by("picture").getBoundingClientRect();
    mark = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width].map((share) => Math.min(1, Math.max(0, share)));
    point();
  });
  by("pick").addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-0.05, 0], ArrowDown: [0.05, 0], ArrowLeft: [0, -0.05], ArrowRight: [0, 0.05] };
    if (event.key in moves) {
      mark = mark.map((share, axis) => Math.min(1, Math.max(0, share + moves[event.key][axis])));
      place();
    } else if (event.key === "Enter" || event.key === " ") {
      point();
    } else {
      return;
    }
    event.preventDefault();
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      by("drop").classList.toggle("over", name === "dragover");
      if (name === "drop") take(event.dataTransfer.files[0]);
    });
  }
  by("show-look").addEventListener("click", () => show("look"));
  by("show-study").addEventListener("click", () => show("study"));
  if (about.study && !about.networks.length) show("study");
}

start();
