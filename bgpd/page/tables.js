// Tables with a million rows: the host searches, and gives one page after the other.

import { EMPTY, ask } from "./api.js";
import { age, el, fill, health, number, stamp, table } from "./dom.js";
import { go, link, moment, place, timeShown } from "./place.js";

const ADDRESS = /^[0-9a-f]*[.:][0-9a-f.:]*(\/[0-9]+)?$/i;
const best = (route) => route.candidates.find((one) => one.role === "best") ?? route.candidates[0] ?? {};
const KERNEL = { installed: "ok", local: "ok", pending: "warning", blocked: "warning", failed: "critical" };
const CLAIM = { announced: "ok", pending: "warning", suppressed: "warning", damped: "warning", moved: "warning", conflict: "critical", failed: "critical" };

function explained(prefix, vrf) {
  const address = prefix.split("/")[0];
  return el("a", { href: link({ view: "explain", q: address, vrf, at: place().at }), "data-key": `x ${vrf} ${prefix}` }, prefix);
}

const TABLES = {
  routes: {
    title: "Routes",
    noun: "route",
    hint: "10.0.0.0/8, 10.1.2.3, or a neighbor",
    states: ["installed", "pending", "failed", "blocked", "local"],
    hasFamily: true,
    columns: [
      ["Prefix", (one) => explained(one.prefix, one.vrf)],
      ["VRF", (one) => one.vrf || "main"],
      ["Kernel", (one) => health(KERNEL[one.fib] ?? "unknown", one.fib || "not wanted")],
      ["Best by", (one) => best(one).source ?? ""],
      ["Next hop", (one) => best(one).next_hop ?? ""],
      ["AS path", (one) => best(one).as_path ?? ""],
      ["Paths", (one) => one.candidates.length, "number"],
      ["Heard", (one, at) => age(best(one).heard_at, at)],
    ],
  },
  evpn: {
    title: "EVPN",
    noun: "EVPN route",
    hint: "a MAC, an address, an RD, or a neighbor",
    types: [1, 2, 3, 4, 5],
    columns: [
      ["Type", (one) => one.type],
      ["RD", (one) => one.rd],
      ["MAC", (one) => one.mac],
      ["Prefix", (one) => one.prefix],
      ["VRF", (one) => one.vrf],
      ["Best by", (one) => best(one).source ?? ""],
      ["Next hop", (one) => best(one).next_hop || "this host"],
      ["VNI", (one) => (best(one).labels ?? []).join(" ")],
      ["Resolved", (one) => (best(one).unresolved ? health("critical", best(one).unresolved) : health("ok", (best(one).resolution ?? []).join("; ") || "yes")), "wide"],
    ],
  },
  workloads: {
    title: "Workloads",
    noun: "workload",
    hint: "a part of ID, address, MAC or interface",
    states: ["announced", "pending", "suppressed", "damped", "conflict", "moved", "failed"],
    hasFamily: true,
    columns: [
      ["Workload", (one) => one.id],
      ["Prefix", (one) => explained(one.prefix, one.vrf)],
      ["VRF", (one) => one.vrf || "main"],
      ["State", (one) => health(CLAIM[one.state] ?? "unknown", one.state)],
      ["Since", (one, at) => age(one.since, at)],
      ["Announced to", (one) => one.neighbors.join(", ")],
      ["Interface", (one) => one.interface],
      ["Source", (one) => one.source],
      ["Reason", (one) => one.reason, "wide"],
    ],
  },
  services: {
    title: "Services",
    noun: "service",
    hint: "a part of name or address",
    states: ["announced", "withheld"],
    columns: [
      ["Service", (one) => one.name],
      ["Addresses", (one) => one.addresses.join(", ")],
      ["VRF", (one) => one.vrf || "main"],
      ["State", (one) => health(one.announced ? "ok" : "warning", one.announced ? "announced" : "withheld")],
      ["Healthy", (one) => `${one.healthy} of ${one.backends.length}`, "number"],
      ["Source", (one) => one.source],
      ["Reason", (one) => one.reason, "wide"],
    ],
  },
};

const NOT_KEPT = ["Kernel", "Resolved"];

const before = []; // the pages before this one, for the way back

export function tableView(root, shared, kind) {
  const query = place();
  const { title, noun, hint, states, types, hasFamily, columns } = TABLES[kind];
  const choice = (id, label, values, names = (value) => value) => (values
    ? [el("label", { for: id }, label), el("select", { id, onchange: () => submit() },
      ["", ...values].map((value) => el("option", { value, selected: String(query[id] ?? "") === String(value) }, value === "" ? "all" : names(value))))]
    : []);
  const vrfs = (shared.now?.tables ?? []).map((one) => one.vrf).filter(Boolean);
  const main = vrfs.includes("main") ? "@main" : "main"; // no VRF has an "@" in its name
  if (query.vrf && !vrfs.includes(query.vrf) && query.vrf !== main) vrfs.push(query.vrf);
  const form = el("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); submit(); } },
    el("label", { for: "q" }, "Search"), el("input", { id: "q", type: "search", value: query.q ?? "", placeholder: hint, autocomplete: "off", spellcheck: "false" }),
    choice("vrf", "VRF", [main, ...vrfs]), choice("state", "State", states), choice("type", "Type", types),
    choice("family", "Family", hasFamily ? ["ipv4-unicast", "ipv6-unicast"] : null), el("button", {}, "Search"));
  const status = el("p", { role: "status", class: "quiet" });
  const found = el("div", {});
  const note = el("p", { class: "not-then", role: "note" });
  const pages = el("nav", { class: "pages", "aria-label": "Pages" });

  function submit() {
    const values = Object.fromEntries([...form.elements].filter((one) => one.id).map((one) => [one.id, one.value.trim()]));
    before.length = 0;
    go({ view: kind, at: query.at, ...values });
  }

  function turn(after) {
    go({ ...place(), after });
  }

  /** Of an earlier time the history knows routes to a prefix, and the other tables; not what the kernel had, nor how
   *  EVPN routes resolved. Rows of now beside that time would be taken for those of then. */
  async function loadThen(vrf, signal) {
    const then = timeShown();
    shared.listed = [];
    fill(found);
    fill(pages);
    fill(note);
    status.textContent = "";
    if (kind === "routes" && (!ADDRESS.test(query.q ?? "") || query.state)) {
      fill(note, el("strong", {}, `The routes of ${stamp(then)} are not shown. `),
        "The history has routes by their prefixes, and not what the kernel had: search for a prefix or an address, in any state.");
      return;
    }
    const asked = kind === "routes" ? { prefix: query.q, longer_prefixes: query.q.includes("/") } : { search: query.q, state: query.state, type: query.type };
    const view = await ask(`past/${kind}`, { ...asked, vrf, family: query.family, at: moment(then) }, signal);
    const rows = view.rows ?? view.routes;
    shared.listed = rows;
    const of = view.total > rows.length ? ` of ${number(view.total)}` : "";
    status.textContent = [`${number(rows.length)}${of} ${noun}${view.total === 1 ? "" : "s"} as of ${stamp(then)}`,
      `the history begins at ${stamp(view.known_from)}`, view.remark].filter(Boolean).join("; ");
    const known = columns.filter(([name]) => !NOT_KEPT.includes(name)).map(([name, value, look]) => [name, (row) => value(row, then), look]);
    fill(found, table(title, known, rows, { empty: kind === "routes" ? "no neighbor had announced one, and this host had none" : "nothing is found" }));
  }

  async function load(signal) {
    const vrf = query.vrf === main ? EMPTY : query.vrf;
    if (timeShown()) {
      await loadThen(vrf, signal);
      return;
    }
    const asked = { search: query.q, vrf, state: query.state, type: query.type, family: query.family, after: query.after };
    const page = await ask(`pages/${kind}`, asked, signal);
    shared.listed = page.rows;
    const of = page.total === null ? "" : ` of ${number(page.total)}`;
    const more = page.rows.length || !page.after ? "" : " so far; the search goes on with the next page";
    status.textContent = `${number(page.rows.length)}${of} ${noun}${(page.total ?? page.rows.length) === 1 ? "" : "s"}${more}`;
    fill(note);
    fill(found, table(title, columns, page.rows, { empty: "nothing is found" }));
    fill(pages,
      el("button", { type: "button", "data-key": "first", disabled: !query.after, onclick: () => { before.length = 0; turn(""); } }, "First"),
      el("button", { type: "button", "data-key": "back", disabled: !before.length, onclick: () => turn(before.pop()) }, "Back"),
      el("button", { type: "button", "data-key": "next", disabled: !page.after, onclick: () => { before.push(query.after ?? ""); turn(page.after); } }, "Next"));
  }

  fill(root, el("h2", {}, title), form, note, status, found, pages);
  return { load, refresh: query.after ? null : load, status };
}
