// The page: one place at a time (place.js), kept up to date by the host's stream (api.js).

import { ask, follow } from "./api.js";
import { el, fill, hostTime, printable, shapeOf, stamp } from "./dom.js";
import { explainView } from "./explain.js";
import { journalView } from "./journal.js";
import { overview } from "./overview.js";
import { overviewAt } from "./past.js";
import { go, link, place, timeShown } from "./place.js";
import { tableView } from "./tables.js";
import { copyTicket, ticketText } from "./ticket.js";
import { verdictOf } from "./view.js";

const VIEWS = { overview: "Overview", routes: "Routes", evpn: "EVPN", workloads: "Workloads", services: "Services", explain: "Explain", journal: "Journal" };
const KEPT = 500;
const REFRESH_S = 5;

const byId = (id) => document.getElementById(id);
const root = byId("main");

/** What several views use: `now` and `past` are overviews, `events` the newest first. */
const shared = { now: null, past: null, events: [], pastEvents: [], explained: null, listed: [] };
let shown = null;
let loading = new AbortController();
let changed = false;

function present() {
  return timeShown() === null ? shared.now : shared.past;
}

function showHead() {
  const view = present();
  const at = timeShown();
  byId("host").textContent = shared.now ? `${shared.now.health.hostname} ${shared.now.health.version}` : "";
  document.title = `${shared.now?.health.hostname ?? ""} bgpd ${VIEWS[place().view] ?? ""}`.trim();
  const level = view?.level ?? "unknown";
  const text = view ? verdictOf(view, shared.events) : "Nothing is known yet.";
  const line = byId("verdict");
  line.className = `verdict ${level}`;
  line.firstElementChild.textContent = shapeOf(level);
  const shown = printable(text);
  if (byId("verdict-text").textContent !== shown) byId("verdict-text").textContent = shown;
  document.body.classList.toggle("past", at !== null);
  fill(byId("views"), Object.entries(VIEWS).map(([name, title]) => el("li", {},
    el("a", { href: link({ view: name, at: place().at }), "aria-current": place().view === name ? "page" : undefined, "data-key": name }, title))));
}

function showTime() {
  const at = timeShown();
  const span = Number(byId("time-window").value);
  const slider = byId("time-slider");
  const text = at === null ? "now" : stamp(at);
  byId("time-shown").value = text;
  slider.value = at === null ? 1000 : Math.round(1000 * Math.max(0, 1 - (hostTime() - at) / span));
  slider.setAttribute("aria-valuetext", text);
  byId("time-exact").value = at === null ? "" : stamp(at).replace(" ", "T");
  byId("time-now").disabled = at === null;
}

function showOverview() {
  const view = present();
  const events = timeShown() === null ? shared.events : shared.pastEvents;
  if (view) fill(root, overview(view, events, timeShown()));
  else fill(root, el("p", { class: "quiet" }, "Nothing is known yet."));
}

function problem(error) {
  const text = error.message || String(error);
  if (shown?.status) shown.status.replaceChildren(el("strong", { class: "problem" }, text));
  else fill(root, el("p", { class: "problem", role: "alert" }, text));
}

async function loadPast(at, signal) {
  const past = await overviewAt(at, shared.now, signal);
  const events = await ask("events", { until: at, limit: 200 }, signal);
  if (signal.aborted) return;
  shared.past = past;
  shared.pastEvents = events.reverse();
  showHead();
  if (place().view === "overview") showOverview();
}

/** Shows the place that the address names. */
async function show() {
  loading.abort();
  loading = new AbortController();
  const { signal } = loading;
  const { view } = place();
  const at = timeShown();
  shared.past = at === null ? null : shared.past;
  showHead();
  showTime();
  try {
    if (view === "journal") shown = journalView(root, shared);
    else if (view === "explain") shown = explainView(root, shared);
    else if (["routes", "evpn", "workloads", "services"].includes(view)) shown = tableView(root, shared, view);
    else {
      shown = null;
      showOverview();
    }
    await Promise.all([shown?.load(signal), at === null ? null : loadPast(at, signal)]);
  } catch (error) {
    if (!signal.aborted) problem(error);
  }
}

/** Once in a while, and only if something changed: what is shown of now is asked for anew. */
async function refresh() {
  if (!changed || document.hidden || timeShown() !== null || !shown?.refresh) return;
  changed = false;
  const { signal } = loading;
  try {
    await shown.refresh(signal);
  } catch (error) {
    if (!signal.aborted) problem(error);
  }
}

async function loadEvents() {
  const events = await ask("events", { limit: 200 });
  take(events);
}

/** Adds events, the newest first; each once, also over a reconnection and a restart. */
function take(events) {
  const known = new Map([...shared.events, ...events].map((one) => [`${one.sequence} ${one.at}`, one]));
  shared.events = [...known.values()].sort((one, other) => other.at - one.at || other.sequence - one.sequence).slice(0, KEPT);
}

function nowChanged() {
  changed = true;
  showHead();
  if (timeShown() === null && place().view === "overview") showOverview();
}

function connect() {
  let version = "";
  follow({
    overview(view) {
      const isFirst = shared.now === null;
      if (version && version !== view.health.version) location.reload(); // an upgrade: this page is the former version's
      version = view.health.version;
      shared.now = view;
      nowChanged();
      if (isFirst && (place().view !== "overview" || timeShown() !== null)) show();
    },
    happened(event) {
      take([event]);
      nowChanged();
    },
    connection(state) {
      byId("connection").textContent = { live: "live", lost: "connection lost, trying again", paused: "paused" }[state];
      byId("connection").className = state;
      if (state === "live") loadEvents().then(nowChanged, () => undefined);
    },
  });
}

function setUpTime() {
  const slider = byId("time-slider");
  let wait = 0;
  const chosen = () => (Number(slider.value) >= 1000 ? "" : (hostTime() - Number(byId("time-window").value) * (1 - slider.value / 1000)).toFixed(0));
  slider.addEventListener("input", () => {
    const at = chosen();
    byId("time-shown").value = at ? stamp(Number(at)) : "now";
    slider.setAttribute("aria-valuetext", byId("time-shown").value);
    clearTimeout(wait);
    wait = setTimeout(() => go({ ...place(), at }, { replace: true }), 200);
  });
  byId("time-window").addEventListener("change", showTime);
  byId("time-exact").addEventListener("change", (event) => {
    const at = new Date(event.target.value).getTime() / 1000;
    if (Number.isFinite(at)) go({ ...place(), at });
  });
  byId("time-now").addEventListener("click", () => go({ ...place(), at: "" }));
  byId("time").addEventListener("submit", (event) => event.preventDefault());
}

function setUpKeys() {
  document.addEventListener("keydown", (event) => {
    const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      const field = root.querySelector("input[type=search]");
      if (field) field.focus();
      else go({ view: "explain", at: place().at });
    }
  });
}

byId("ticket").addEventListener("click", () => {
  const view = present();
  const events = timeShown() === null ? shared.events : shared.pastEvents;
  if (view) copyTicket(ticketText({ view, events, explained: shared.explained, at: timeShown(), now: hostTime(), query: place() }));
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the place that is shown
  root.focus();
});
window.addEventListener("hashchange", show);
setInterval(refresh, REFRESH_S * 1000);
setInterval(() => timeShown() === null && place().view === "overview" && shared.now && showOverview(), 10_000);
setUpTime();
setUpKeys();
show();
connect();
