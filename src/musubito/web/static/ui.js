// Draws graphs and curves, loads inner calls, keeps an open page up to date. The page works without it but for these.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function made(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function data(id) {
  const holder = document.getElementById(id);
  return holder ? JSON.parse(holder.textContent) : null;
}

function cut(text, most) {
  return text.length <= most ? text : "…" + text.slice(1 - most);
}

// -- graphs ----------
const WIDTH = 200, HEIGHT = 44;

const drawn = new WeakMap();

function isDrawn(place, id) {
  const text = document.getElementById(id)?.textContent;
  const is = drawn.get(place) === text;
  drawn.set(place, text);
  return is;
}

function arranged(graph, rankdir) {
  const layout = new dagre.graphlib.Graph({ multigraph: true });
  layout.setGraph({ rankdir, nodesep: 24, ranksep: 36, marginx: 8, marginy: 8 });
  layout.setDefaultEdgeLabel(() => ({}));
  for (const box of graph.boxes) layout.setNode(box.id, { width: WIDTH, height: HEIGHT });
  for (const [from, to, kind, label] of graph.arrows) {
    layout.setEdge(from, to, label ? { label, width: 7 * label.length, height: 16, labelpos: "c" } : {}, kind);
  }
  dagre.layout(layout);
  return layout;
}

// From side to side, in the direction of the layout; an arrow to its own box as dagre draws it.
function way(layout, edge) {
  const { points } = layout.edge(edge), from = layout.node(edge.v), to = layout.node(edge.w);
  if (from === to) return points;
  const right = layout.graph().rankdir === "LR", sign = Math.sign(right ? to.x - from.x : to.y - from.y);
  const side = ({ x, y }, off) => right ? { x: x + off * WIDTH / 2, y } : { x, y: y + off * HEIGHT / 2 };
  return [side(from, sign), ...points.slice(1, -1), side(to, -sign)];
}

function drawGraph(place) {
  if (place.closest("details:not([open])")) return; // it has no width yet
  if (isDrawn(place, place.dataset.graph)) return;
  const graph = data(place.dataset.graph);
  if (!graph || !graph.boxes.length) return place.replaceChildren();
  // A page has more room below than beside.
  const down = arranged(graph, "TB"), right = down.graph().width > place.clientWidth && arranged(graph, "LR");
  const layout = right && right.graph().width < down.graph().width ? right : down;
  const ways = layout.edges().map((edge) => [edge, way(layout, edge)]), points = ways.flatMap(([, points]) => points);
  // An arrow may lie outside of what dagre says is the size.
  const size = layout.graph(), xs = points.map(({ x }) => x), ys = points.map(({ y }) => y);
  const left = Math.min(8, ...xs) - 8, width = Math.max(size.width - 8, ...xs) + 8 - left;
  const top = Math.min(8, ...ys) - 8, height = Math.max(size.height - 8, ...ys) + 8 - top;
  const drawing = made("svg", {
    viewBox: `${left} ${top} ${width} ${height}`, width, height, role: "group", "aria-label": "Graph of calls",
  });
  drawing.style.minWidth = `${Math.round(0.8 * width)}px`; // smaller, its text could not be read
  drawing.append(made("defs", {}, made("marker", {
    id: "tip", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse",
  }, made("path", { d: "M0 0L8 4L0 8z", class: "tip" }))));
  for (const [edge, points] of ways) {
    const d = "M" + points.map(({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
    drawing.append(made("path", { d, class: "arrow " + edge.name, "marker-end": "url(#tip)" }));
    const { label, x, y } = layout.edge(edge);
    if (label) drawing.append(made("text", { x, y: y + 4, "text-anchor": "middle", class: "says decision" }, label));
  }
  for (const box of graph.boxes) {
    const { x, y } = layout.node(box.id);
    const link = made(box.href ? "a" : "g", { "data-key": box.key, class: "box " + box.outcome });
    if (box.href) link.setAttribute("href", box.href);
    if (box.id === place.dataset.here) link.setAttribute("aria-current", "true");
    const title = made("title", {});
    title.textContent = `${box.label}, ${box.outcome || box.says}`;
    const rounded = box.outcome === "replayed" ? 20 : box.outcome === "failed" ? 0 : 6;
    const name = made("text", { x, y: box.says ? y - 4 : y + 4, "text-anchor": "middle", class: "label" });
    name.textContent = cut(box.label, 24);
    const says = made("text", { x, y: y + 13, "text-anchor": "middle", class: "says" });
    says.textContent = cut(box.says, 32);
    link.append(title, made("rect", {
      x: x - WIDTH / 2, y: y - HEIGHT / 2, width: WIDTH, height: HEIGHT, rx: rounded,
    }), name, says);
    drawing.append(link);
  }
  const at = place.contains(document.activeElement) && document.activeElement.dataset.key;
  place.replaceChildren(drawing);
  if (at) place.querySelector(`[data-key="${CSS.escape(at)}"]`)?.focus();
}

// A call in the list and its box in the graph are chosen together.
let chosen = null;

function choose(key) {
  chosen = key;
  for (const element of document.querySelectorAll(".chosen")) element.classList.remove("chosen");
  const name = CSS.escape(key);
  const both = document.querySelectorAll(`[data-key="${name}"], li[data-fold="${name}"]`);
  for (const element of both) element.classList.add("chosen");
  return both;
}

document.addEventListener("click", (event) => {
  const box = event.target.closest(".graph .box");
  if (box && !event.ctrlKey && !event.metaKey && !event.shiftKey && document.querySelector("ul.tree")) {
    if (box.classList.contains("chosen")) return; // the second click follows the link
    event.preventDefault();
    for (const element of choose(box.dataset.key)) if (element.matches("li")) {
      element.scrollIntoView({ block: "nearest" });
      break;
    }
    return;
  }
  const row = event.target.closest("ul.tree li");
  if (row && !event.target.closest("a")) {
    const folded = document.querySelector(`.graph [data-key="${CSS.escape(row.dataset.fold)}"]`);
    choose(folded ? row.dataset.fold : row.dataset.key);
  }
});

document.addEventListener("focusin", (event) => {
  const row = event.target.closest("ul.tree li");
  const folded = row && document.querySelector(`.graph [data-key="${CSS.escape(row.dataset.fold)}"]`);
  if (row) choose(folded ? row.dataset.fold : row.dataset.key);
});

// -- curves ----------
function drawCurve(place) {
  if (isDrawn(place, place.dataset.curve)) return;
  const curve = data(place.dataset.curve);
  if (!curve || curve.days.length < 2) return place.replaceChildren();
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const colours = { spent: colour("--ran"), saved: colour("--replayed"), ran: colour("--ran"),
    replayed: colour("--replayed"), failed: colour("--failed") };
  const line = { stroke: colour("--line"), width: 1 }, axis = { stroke: colour("--quiet"), grid: line, ticks: line };
  const times = curve.days.map((day) => Date.parse(day) / 1000);
  place.replaceChildren();
  const chart = new uPlot({
    width: place.clientWidth || 600, height: 200, cursor: { show: false }, legend: { live: false },
    tzDate: (time) => uPlot.tzDate(new Date(1000 * time), "UTC"),
    axes: [{ ...axis, incrs: [1, 2, 7, 14, 28, 84].map((days) => 86400 * days), values: "{MM}-{DD}" },
      { ...axis, size: 64, label: curve.unit, labelSize: 18 }],
    series: [{},
      ...curve.series.map(([label]) => ({ label, stroke: colours[label] || colour("--quiet"), width: 2, points: { show: true } }))],
  }, [times, ...curve.series.map(([, values]) => values)], place);
  if (place.dataset.day) chart.over.onclick = ({ offsetX }) => { location.href = place.dataset.day + curve.days[chart.posToIdx(offsetX)]; };
}

function draw(within) {
  for (const place of within.querySelectorAll("[data-graph]")) drawGraph(place);
  for (const place of within.querySelectorAll("[data-curve]")) drawCurve(place);
  for (const button of within.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
}

// -- inner calls, and commands to copy ----------
async function fetched(address) {
  const answer = await fetch(address, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(answer.status);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

document.addEventListener("toggle", async (event) => {
  const outer = event.target;
  if (outer.open) draw(outer);
  if (outer.open && chosen) choose(chosen);
  if (!outer.open || !outer.dataset.load) return;
  const address = outer.dataset.load;
  delete outer.dataset.load;
  try {
    const inner = await fetched(address);
    outer.replaceChildren(outer.querySelector("summary"), ...inner.body.childNodes);
  } catch {
    outer.dataset.load = address; // the link inside still leads there
  }
}, true);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = [...document.querySelectorAll("ul.tree .call a, tbody th > a")].filter((row) => row.checkVisibility());
  const at = rows.indexOf(document.activeElement);
  const inner = rows[at]?.closest("ul.tree li")?.querySelector(":scope > details");
  if (event.key === "j" && rows.length) rows[Math.min(at + 1, rows.length - 1)].focus();
  else if (event.key === "k" && rows.length) rows[Math.max(at - 1, 0)].focus();
  else if (inner && event.key === "ArrowRight") inner.open = true;
  else if (inner && event.key === "ArrowLeft") inner.open = false;
  else if (event.key === "/") document.querySelector("form.filters input")?.focus();
  else return;
  event.preventDefault();
});

// -- zoom ----------
document.addEventListener("input", ({ target }) => {
  const form = target.closest("[data-window]");
  if (!form) return;
  const { from, to } = form.elements;
  if (+from.value >= +to.value) target.value = target === from ? +to.value - 1 : +from.value + 1;
  for (const bars of document.querySelectorAll("svg.bars")) bars.setAttribute("viewBox", `${from.value} 0 ${to.value - from.value} 8`);
});

document.addEventListener("change", ({ target }) => {
  const form = target.closest("[data-window]");
  if (!form) return;
  history.replaceState(null, "", "?" + new URLSearchParams(new FormData(form)));
  refresh();
});

// -- live ----------
let pending = false, again = false;

function keyOf(element) {
  return element.closest("[data-key]")?.dataset.key ?? element.getAttribute("href") ?? element.value;
}

// Replace a part of the page, but keep what its reader chose, opened, closed, scrolled and stands on.
function renew(old, fresh) {
  const at = old.contains(document.activeElement) ? document.activeElement : null;
  const opened = new Map([...old.querySelectorAll("details")].map((element) => [keyOf(element), element.open]));
  const checked = new Set([...old.querySelectorAll(":checked")].map(keyOf));
  const aside = [...old.querySelectorAll(".wide")].map((element) => element.scrollLeft);
  old.replaceWith(document.adoptNode(fresh));
  fresh.querySelectorAll(".wide").forEach((element, at) => { element.scrollLeft = aside[at] ?? 0; });
  for (const element of fresh.querySelectorAll("details")) element.open = opened.get(keyOf(element)) ?? element.open;
  for (const element of fresh.querySelectorAll("input")) element.checked = checked.has(keyOf(element));
  if (at) [...fresh.querySelectorAll(at.localName)].find((element) => keyOf(element) === keyOf(at))?.focus();
}

async function refresh() {
  if (pending) { again = true; return; }
  pending = true;
  try {
    const now = await fetched(location.href);
    let changed = false;
    for (const fresh of now.querySelectorAll("[data-live]")) {
      const old = document.getElementById(fresh.id);
      if (!old || old.innerHTML === fresh.innerHTML) continue;
      renew(old, fresh);
      changed = true;
    }
    if (changed) draw(document);
    if (changed && chosen) choose(chosen);
  } catch {
    // The server is away; the stream says when it is back.
  } finally {
    pending = false;
    if (again) { again = false; setTimeout(refresh, 300); }
  }
}

// A browser has six connections to a server: a hidden page gives its own back.
let stream = null;

function listen() {
  const says = document.getElementById("live"), address = document.body.dataset.events;
  stream?.close();
  if (document.hidden || !address || !document.querySelector("[data-live]")) return;
  stream = new EventSource(address);
  stream.addEventListener("change", refresh);
  stream.onopen = () => { says.textContent = "live"; };
  stream.onerror = () => { says.textContent = "not connected"; };
}

document.addEventListener("DOMContentLoaded", () => { draw(document); listen(); });
document.addEventListener("visibilitychange", listen);
function redrawCurves() {
  for (const place of document.querySelectorAll("[data-curve]")) drawn.delete(place);
  draw(document);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawCurves);
addEventListener("resize", redrawCurves);
