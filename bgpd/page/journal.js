// The journal: what happened, filtered by the host. The time of each event is a link to the page of that time.

import { ask } from "./api.js";
import { clock, day, el, fill, health, hostTime, table } from "./dom.js";
import { go, link, moment, place, timeShown } from "./place.js";

const LEVELS = { info: "ok", warning: "warning", error: "critical", critical: "critical" };
const SHOWN = 200;

const told = (event) => Object.entries(event.fields).map(([name, value]) => `${name}=${value}`).join(" ");

export function eventTable(events, at) {
  const today = day(at ?? hostTime());
  return table("Events", [
    ["Time", (one) => el("a", { href: link({ ...place(), at: moment(one.at) }), "data-key": `e ${one.sequence} ${one.at}` },
      day(one.at) === today ? clock(one.at) : `${day(one.at)} ${clock(one.at)}`)],
    ["Level", (one) => health(LEVELS[one.level] ?? "unknown", one.level)],
    ["Event", (one) => one.event],
    ["What", (one) => told(one), "wide"],
  ], events, { empty: "no event" });
}

export function eventLine(event) {
  return `${day(event.at)} ${clock(event.at)} ${event.level} ${event.event} ${told(event)}`;
}

/** The journal's view; `shared` has the overview, for the names of neighbors. */
export function journalView(root, shared) {
  const query = place();
  const at = timeShown();
  const field = (id, label, value, more = {}) => [el("label", { for: id }, label), el("input", { id, type: "search", value: value ?? "", ...more })];
  const level = el("select", { id: "level" }, ["", "warning", "error"].map((one) =>
    el("option", { value: one, selected: (query.level ?? "") === one }, one ? `${one} and worse` : "all")));
  const form = el("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); submit(); } },
    field("neighbor", "Neighbor", query.neighbor, { list: "neighbors" }), field("event", "Event", query.event, { placeholder: "session" }),
    field("prefix", "Prefix", query.prefix), el("label", { for: "level" }, "Level"), level,
    el("datalist", { id: "neighbors" }, (shared.now?.neighbors ?? []).map((one) => el("option", { value: one.name }))),
    el("button", {}, "Search"));
  const status = el("p", { role: "status", class: "quiet" });
  const found = el("div", {});

  function submit() {
    const values = Object.fromEntries(["neighbor", "event", "prefix", "level"].map((name) => [name, form.querySelector(`#${name}`).value.trim()]));
    go({ view: "journal", at: query.at, ...values });
  }

  async function load(signal) {
    const asked = {
      neighbor: query.neighbor, event: query.event, prefix: query.prefix, level: query.level, until: at, limit: SHOWN,
      longer_prefixes: query.prefix ? "true" : "",
    };
    const events = (await ask("events", asked, signal)).reverse();
    shared.listed = events;
    fill(found, eventTable(events, at));
    status.textContent = events.length === SHOWN ? `The last ${SHOWN} events` : `${events.length} events`;
  }

  fill(root, el("h2", {}, "Journal"), form, status, found);
  return { load, refresh: load, status };
}
