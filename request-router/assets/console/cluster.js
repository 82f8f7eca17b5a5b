// What the sources say, put together: nodes with everything known of them, and the ring.

import { Source, followVisibility } from './poll.js';

let page = 'overview';
const on = (...pages) => () => pages.includes(page);

export const sources = {
  health: new Source('health', 'v1/cluster/health', { every: 2000 }),
  hints: new Source('hints', 'v1/hints', { every: 2000 }),
  cluster: new Source('cluster', 'v1/cluster', { every: 3000 }),
  ring: new Source('ring', 'v1/ring', { every: 3000, tagged: true }),
  equal: new Source('equal', 'v1/anti-entropy?summary=true', { every: 5000 }),
  exchange: new Source('exchange', 'v1/anti-entropy', { every: 5000, wanted: on('movement') }),
  transfers: new Source('transfers', 'v1/transfers', { every: 3000, wanted: on('movement') }),
  stats: new Source('stats', 'v1/stats', { every: 1000, wanted: on('overview') }),
  load: new Source('load', 'v1/cluster/load', { every: 5000, wanted: on('overview') }),
  peers: new Source('peers', 'v1/cluster/peers', { every: 5000 }),
  plan: new Source('plan', 'v1/cluster/plan', {
    every: 5000,
    wanted: () => page === 'membership' && (sources.cluster.data?.staged ?? 0) > 0,
  }),
};

// For people: what each source is about.
export const NAMES = {
  health: 'health', hints: 'hints', cluster: 'members', ring: 'the ring', equal: 'equality of replicas', exchange: 'exchanges',
  transfers: 'moves', stats: 'request rates', load: 'load of the nodes', peers: 'what the nodes say of each other', plan: 'the plan',
};

export function start() {
  followVisibility(Object.values(sources));
  for (const source of Object.values(sources)) source.now();
}

export function show(next) {
  page = next;
  for (const source of Object.values(sources)) {
    if (source.wanted()) source.wake();
    else source.sleep();
  }
}

// Colours of nodes: the first ones picked by hand, further ones by the golden angle. Lightness
// varies as well, so that neighbours differ without colour.
const PICKED = [
  [0.64, 0.105, 195], [0.76, 0.125, 75], [0.58, 0.125, 265], [0.68, 0.14, 30],
  [0.72, 0.12, 145], [0.62, 0.13, 320], [0.83, 0.11, 105], [0.52, 0.09, 225],
];

function colorAt(index) {
  const [l, c, hue] = PICKED[index] ?? [0.56 + 0.09 * (index % 3), 0.115, (index * 137.508) % 360];
  return `oklch(${l} ${c} ${hue.toFixed(1)})`;
}

const zoneColor = (index, count) => {
  const l = 0.42 + (0.4 * index) / Math.max(1, count - 1);
  return `oklch(${l.toFixed(3)} 0.025 ${(200 + index * 40) % 360})`;
};

// The partitions of a text `v1:Q:HEX`: of every digit the lowest bit is the lowest partition.
export function partitionSet(text) {
  const digits = text?.split(':')[2] ?? '';
  return (partition) => {
    const digit = digits[partition >> 2];
    return digit !== undefined && ((Number.parseInt(digit, 16) >> (partition & 3)) & 1) === 1;
  };
}

// Distinct nodes met clockwise from a partition, at most `n` of them.
export function listOf(owners, partition, n) {
  const list = [];
  for (let step = 0; step < owners.length && list.length < n; step += 1) {
    const owner = owners[(partition + step) % owners.length];
    if (owner !== null && owner !== undefined && !list.includes(owner)) list.push(owner);
  }
  return list;
}

let memory = { tag: null, ring: null };

// The ring as it is drawn: for every partition its first N nodes and whether they hold it.
export function ring() {
  const { data, etag } = sources.ring;
  if (!data) return null;
  if (memory.tag === etag && memory.ring) return memory.ring;
  const ids = data.nodes.map((node) => node.id);
  const holds = new Map(data.nodes.map((node) => [node.id, partitionSet(node.holds)]));
  const owners = data.owners.map((index) => (index === null ? null : ids[index]));
  const n = data.spacing;
  const partitions = owners.map((_, partition) =>
    listOf(owners, partition, n).map((node) => ({ node, holds: holds.get(node)?.(partition) ?? false })));
  memory = { tag: etag, ring: { version: data.version, partitions, owners, n } };
  return memory.ring;
}

// All nodes but removed ones: members first, by name.
export function nodes() {
  const byId = new Map();
  const rank = { member: 0, leaving: 1, candidate: 2 };
  const known = sources.cluster.data?.members
    ?? (sources.ring.data?.nodes ?? []).filter((node) => node.status !== 'removed').map((node) => ({ ...node, node: node.id }));
  const sorted = [...known].sort((a, b) =>
    rank[a.status] - rank[b.status] || a.name.localeCompare(b.name, 'en', { numeric: true }) || (a.node < b.node ? -1 : 1));
  // A colour stays with its node as long as the page does.
  for (const node of sorted) if (!colors.has(node.node)) colors.set(node.node, colorAt(colors.size));
  const reports = new Map((sources.hints.data?.nodes ?? []).map((node) => [node.node, node]));
  const sights = new Map((sources.peers.data?.nodes ?? []).map((node) => [node.node, node]));
  const zones = [...new Set(sorted.map((node) => node.zone).filter(Boolean))].sort();
  for (const node of sorted) {
    const said = reports.get(node.node);
    byId.set(node.node, {
      ...node,
      color: colors.get(node.node),
      zoneColor: node.zone ? zoneColor(zones.indexOf(node.zone), zones.length) : 'var(--line)',
      // Candidates are not asked.
      reachable: said ? said.reachable : null,
      refused: said?.refused ?? null,
      hints: said?.report ?? null,
      sight: sights.get(node.node) ?? null,
    });
  }
  return { byId, zones: zones.map((zone, index) => ({ zone, color: zoneColor(index, zones.length) })) };
}

const colors = new Map();

export const nameOf = (id, byId) => byId.get(id)?.name ?? sources.ring.data?.nodes.find((node) => node.id === id)?.name ?? id;

export const defaults = () => sources.ring.data?.defaults ?? sources.cluster.data?.defaults ?? null;
