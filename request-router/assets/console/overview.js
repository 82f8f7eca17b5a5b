// The first page: the ring, what requests experience, and the nodes.

import { Trail, sparkline } from './charts.js';
import { nodes, ring, sources } from './cluster.js';
import { h, put, state, swatch } from './dom.js';
import { latency, number, plural, rate } from './format.js';
import { nodeTable } from './nodes.js';
import { PartitionTable, describe, highlight, mark, partitionAt, picture } from './ring.js';

const trails = { get: new Trail(), put: new Trail(), delete: new Trail() };
const LATENCIES = [{ key: 'p50', class: 'p50' }, { key: 'p99', class: 'p99' }, { key: 'p999', class: 'p999' }];
const OPERATIONS = { get: 'Reads', put: 'Writes', delete: 'Deletes' };

let drawn = null;
let selected = null;
let pinned = null;
let partitionTable = null;

export function build(root) {
  drawn = null;
  const details = h('details', { ontoggle: () => showTable() }, h('summary', {}, 'The ring as a table'), h('div', { id: 'ring-table' }));
  root.append(
    h('div.columns', {},
      h('section.card.ring-card', { 'aria-labelledby': 'ring-title' },
        h('div.card-head', {}, h('h2', { id: 'ring-title' }, 'Ring'), h('p.quiet.small', { id: 'ring-words' })),
        h('div', { id: 'ring-picture' }),
        h('p.ring-legend.small.quiet', {}, h('span', {}, 'Outer band: zone'), h('span', {}, 'wide band: owner'), h('span', {}, 'inner bands: further replicas'), h('span', {}, h('span.hatch-key', { 'aria-hidden': 'true' }), ' not held yet')),
        h('ul.legend', { id: 'ring-nodes', 'aria-label': 'Nodes of the ring' }),
        details),
      h('section.card', { 'aria-labelledby': 'requests-title' },
        h('div.card-head', {}, h('h2', { id: 'requests-title' }, 'Requests'), h('p.quiet.small', { id: 'requests-words' })),
        h('div', { id: 'requests' }))),
    h('section.card', { 'aria-labelledby': 'nodes-title', id: 'nodes' }));
  partitionTable = new PartitionTable(document.getElementById('ring-table'));
}

export function render() {
  const { byId, zones } = nodes();
  const about = (id) => byId.get(id) ?? { name: id, color: 'var(--quiet)', zoneColor: 'var(--line)', reachable: null };
  showRing(about, zones);
  showRequests();
  put(document.getElementById('nodes'), nodeTable(byId, render, light));
}

function light(node) {
  highlight(document.getElementById('ring-picture'), node ?? pinned);
}

// Drawn anew only when something in it has changed; the rest is emphasis.
function showRing(about, zones) {
  const now = ring();
  const holder = document.getElementById('ring-picture');
  if (!now) {
    put(holder, h('p.quiet', {}, sources.ring.error ? 'The ring is not known.' : 'Asking for the ring …'));
    return;
  }
  const entries = [...new Set(now.owners.filter(Boolean))];
  const looks = [now.version, sources.ring.etag, ...entries.map((id) => `${about(id).name}${about(id).reachable}${about(id).zoneColor}`)].join(' ');
  if (looks !== drawn) {
    drawn = looks;
    drawRing(holder, now, about);
    showTable();
  }
  const waiting = now.partitions.flat().filter((entry) => !entry.holds).length;
  put(document.getElementById('ring-words'), `${plural(now.partitions.length, 'partition')}, ${plural(now.n, 'replica')} each${waiting ? `, ${number(waiting)} on their way` : ''}`);
  const owned = new Map();
  now.owners.forEach((id) => owned.set(id, (owned.get(id) ?? 0) + 1));
  const members = entries.map(about).sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  put(document.getElementById('ring-nodes'), members.map((node) => h('li', { 'data-key': node.node }, h('button', {
    type: 'button', 'aria-pressed': String(pinned === node.node), 'data-node': node.node,
    onpointerenter: () => light(node.node), onpointerleave: () => light(null), onfocus: () => light(node.node), onblur: () => light(null),
    onclick: () => { pinned = pinned === node.node ? null : node.node; light(null); render(); },
  }, swatch(node.color), h('b', {}, node.name), ' ', h('span.quiet', {}, `${number(owned.get(node.node))}`, node.zone ? ` · ${node.zone}` : ''),
  node.reachable === false ? [' ', state('bad', 'unreachable')] : node.sight?.slow && [' ', state('warn', 'slow')]))),
  zones.length > 0 && h('li.zones-key', { 'data-key': 'zones' }, zones.map(({ zone, color }) => h('span', {}, h('span.swatch.square', { 'aria-hidden': 'true', style: { '--c': color } }), ` ${zone} `))));
}

function drawRing(holder, now, about) {
  const count = now.partitions.length;
  const svg = picture({ ...now, about, id: 'now', label: `The ring: ${plural(count, 'partition')} by node` });
  const say = h('div.ring-say', { 'aria-hidden': 'true' });
  const select = (partition) => {
    selected = partition;
    mark(svg, count, partition);
    const words = partition === null ? 'Point at a partition, or walk with the arrow keys' : describe(partition, now.partitions[partition], about);
    slider.setAttribute('aria-valuetext', words);
    slider.setAttribute('aria-valuenow', partition ?? 0);
    put(say, partition === null
      ? [h('b', {}, number(count)), h('span', {}, 'partitions')]
      : [h('span', {}, 'Partition'), h('b', {}, number(partition)), now.partitions[partition].map(({ node, holds }) => h('span.line', {}, swatch(about(node).color, !holds), about(node).name))]);
  };
  const onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 16, PageDown: -16 }[event.key];
    if (step !== undefined) select(((selected ?? (step > 0 ? -1 : 0)) + step + count) % count);
    else if (event.key === 'Home') select(0);
    else if (event.key === 'End') select(count - 1);
    else if (event.key === 'Escape') select(null);
    else return;
    event.preventDefault();
  };
  const slider = h('div.ring-frame', {
    role: 'slider', tabindex: 0, 'aria-label': 'Partition', 'aria-valuemin': 0, 'aria-valuemax': count - 1,
    onpointermove: (event) => select(partitionAt(svg, count, event)), onpointerleave: () => select(null), onkeydown,
  }, svg, say);
  const focused = holder.contains(document.activeElement);
  holder.replaceChildren(slider);
  if (focused) slider.focus();
  select(selected !== null && selected < count ? selected : null);
  light(null);
}

function showTable() {
  const details = document.getElementById('ring-table')?.closest('details');
  const now = ring();
  if (!details?.open || !now) return;
  const { byId } = nodes();
  partitionTable.show(now, (id) => byId.get(id) ?? { name: id, zone: null });
}

// Called whenever new figures have come, whatever page is in view.
export function remember() {
  const { data, at } = sources.stats;
  for (const operation of data?.operations ?? []) {
    trails[operation.operation]?.add(at, {
      rate: operation.per_s, p50: operation.p50_ms, p99: operation.p99_ms, p999: operation.p999_ms,
    });
  }
}

function showRequests() {
  const { data, at, error } = sources.stats;
  const holder = document.getElementById('requests');
  if (!data) {
    put(holder, h('p.quiet', {}, error ? 'Rates and latencies are not known.' : 'Asking for rates …'));
    return;
  }
  const now = Math.max(at, Date.now() - 3000);
  put(document.getElementById('requests-words'), `at this router, over ${data.window_s} s; ${plural(data.in_flight, 'request')} in flight`);
  put(holder, data.operations.map((operation) => {
    const name = OPERATIONS[operation.operation];
    const trail = trails[operation.operation];
    return h('section.operation', { 'data-key': operation.operation, 'aria-label': name },
      h('div.figures', {},
        h('h3', {}, name),
        h('p.big', {}, rate(operation.per_s), h('span.of', {}, ' /s')),
        h('p.small', { class: operation.errors ? 'bad-text' : 'quiet' }, operation.errors ? `${plural(operation.errors, 'error')} (5xx)` : 'no errors')),
      h('figure', {}, h('figcaption', {}, 'Rate'), sparkline(trail, [{ key: 'rate', class: 'rate' }], { now, label: `${name} per second over two minutes`, format: (value) => `${rate(value)}/s` })),
      h('figure', {},
        h('figcaption', {}, h('span.p50', {}, 'p50 ', h('b', {}, latency(operation.p50_ms))), h('span.p99', {}, 'p99 ', h('b', {}, latency(operation.p99_ms))), h('span.p999', {}, 'p99.9 ', h('b', {}, latency(operation.p999_ms)))),
        sparkline(trail, LATENCIES, { now, label: `Latency of ${name.toLowerCase()} over two minutes`, format: latency })));
  }));
}
