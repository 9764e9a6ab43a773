// The picture of the host: where packets go. Leaves, uplinks, nexthop groups, tables and what is announced, from top to
// bottom; the way of the routes is the lines. Everything in it is in the tables below, too.

import { number, shapeOf, svg } from "./dom.js";
import { claimsOf, plural, servicesOf } from "./view.js";

const WIDTH = 172;
const HEIGHT = 48;
const GAP = 14;
const ROW = 92;
const MOST = 6;

const cut = (text, most = 24) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

export function levelOf(neighbor) {
  if (neighbor.state === "unknown") return "unknown";
  if (neighbor.state !== "established") return "critical";
  return neighbor.bfd && neighbor.bfd !== "up" ? "warning" : "ok";
}

export function levelOfTable(one) {
  if (one.failed) return "critical";
  return one.pending || one.blocked ? "warning" : "ok";
}

const ORDER = { critical: 0, warning: 1, unknown: 2, ok: 3 };

/** At most so many nodes, the broken ones first of all; one stands for the others. */
function shown(nodes) {
  if (nodes.length <= MOST) return nodes;
  const kept = nodes.toSorted((one, other) => ORDER[one.level] - ORDER[other.level]).slice(0, MOST - 1);
  const left = nodes.length - kept.length;
  const level = nodes.filter((one) => !kept.includes(one)).some((one) => one.level !== "ok") ? "warning" : "ok";
  return [...kept, { key: "", title: `${left} more`, text: "in the tables below", level, to: [] }];
}

function rowsOf(view) {
  const outside = view.neighbors.filter((one) => !one.guest);
  const leaves = outside.toSorted((one, other) => one.name.localeCompare(other.name, "en", { numeric: true })).map((one) => ({
    key: `n ${one.name}`, title: one.name, text: `AS ${one.asn} ${one.state}`, level: levelOf(one), to: [],
  }));
  const uplinks = (view.uplinks ?? []).map((one) => ({
    key: `u ${one.interface}`, title: one.interface, text: `${one.up ? "up" : "down"}${one.vrf ? `, VRF ${one.vrf}` : ""}`,
    level: one.up ? "ok" : "critical", to: one.neighbors.map((name) => `n ${name}`),
  }));
  const groups = (view.groups ?? []).map((one) => ({
    key: `g ${one.id}`, title: `group ${one.id}`, text: `${number(one.routes)} routes`,
    level: one.next_hops.every((hop) => hop.live) ? "ok" : one.next_hops.some((hop) => hop.live) ? "warning" : "critical",
    to: [...new Set(one.next_hops.map((hop) => `u ${hop.interface}`))],
  }));
  const tables = (view.tables ?? []).map((one) => ({
    key: `t ${one.vrf}`, title: one.vrf ? `VRF ${one.vrf}` : view.health.hostname || "main table",
    text: `${number(one.installed)} of ${number(one.desired)}`, level: levelOfTable(one), to: one.vrf ? [] : ["groups"],
  }));
  const claims = Object.entries(view.workloads ? claimsOf(view) : {}).map(([state, count]) => ({
    key: `w ${state}`, title: plural(count, "workload"), text: state, level: state === "announced" ? "ok" : "warning", to: ["t "],
  }));
  const services = Object.entries(view.services ? servicesOf(view) : {}).map(([state, count]) => ({
    key: `s ${state}`, title: plural(count, "service"), text: state, level: state === "announced" ? "ok" : "warning", to: ["t "],
  }));
  const guests = view.neighbors.filter((one) => one.guest).map((one) => ({
    key: `q ${one.name}`, title: one.name, text: `guest, ${one.state}`, level: levelOf(one), to: ["t "],
  }));
  return [
    ["Neighbors", leaves], ["Uplinks", uplinks], ["Groups", groups], ["Tables", tables], ["Announced", [...claims, ...services, ...guests]],
  ].filter(([, nodes]) => nodes.length).map(([title, nodes]) => [title, shown(nodes)]);
}

export function picture(view) {
  const rows = rowsOf(view);
  const widest = Math.max(1, ...rows.map(([, nodes]) => nodes.length));
  const width = 84 + widest * (WIDTH + GAP);
  const height = rows.length * ROW;
  const places = new Map();
  const boxes = [];
  rows.forEach(([title, nodes], line) => {
    const left = 84 + (width - 84 - nodes.length * (WIDTH + GAP) + GAP) / 2;
    boxes.push(svg("text", { class: "row", x: 4, y: line * ROW + 8 + HEIGHT / 2 }, title));
    nodes.forEach((node, index) => {
      const x = left + index * (WIDTH + GAP);
      const y = line * ROW + 8;
      places.set(node.key, { x: x + WIDTH / 2, y });
      boxes.push(svg("g", { class: `node ${node.level}`, "data-node": node.key },
        svg("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 6 }),
        svg("text", { class: "shape", x: x + 8, y: y + 20 }, shapeOf(node.level)),
        svg("text", { class: "name", x: x + 26, y: y + 20 }, cut(node.title, 19)),
        svg("text", { class: "more", x: x + 8, y: y + 38 }, cut(node.text))));
    });
  });
  const levels = new Map(rows.flatMap(([, nodes]) => nodes.map((node) => [node.key, node.level])));
  const lines = rows.flatMap(([, nodes]) => nodes.flatMap((node) => targets(node, rows).map((to) => line(node, to, places, levels))));
  const said = rows.map(([title, nodes]) => `${title}: ${nodes.map((node) => `${node.title} ${node.text} (${node.level})`).join(", ")}`);
  return svg("svg", { class: "picture", role: "img", viewBox: `0 0 ${width} ${height}`, width, height, "aria-label": said.join(". ") },
    lines, boxes);
}

function targets(node, rows) {
  if (!node.to.includes("groups")) return node.to;
  return (rows.find(([title]) => title === "Groups")?.[1] ?? []).map((group) => group.key);
}

/** The way from a node to the one above it; as broken as the more broken of both. */
function line(node, to, places, levels) {
  const from = places.get(node.key);
  const end = places.get(to);
  if (!from || !end) return null;
  const middle = (from.y + end.y + HEIGHT) / 2;
  const level = ORDER[levels.get(to)] < ORDER[node.level] ? levels.get(to) : node.level;
  return svg("path", { class: `way ${level}`, d: `M${from.x} ${from.y} C${from.x} ${middle} ${end.x} ${middle} ${end.x} ${end.y + HEIGHT}` });
}
