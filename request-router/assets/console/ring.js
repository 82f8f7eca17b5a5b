// The ring as a picture: one turn is the hash space. The outer band shows the zone of each
// partition's first node, the bands within its replicas in order. What a node is to have and does
// not hold yet is hatched.

import { h, put } from './dom.js';
import { number } from './format.js';

const OUTER = 100;
const ZONES = [96.5, OUTER];
const BANDS = [54, 94.5];

// Above so many partitions there is no room for gaps between them.
const GAPS_MAX = 256;

// Outer and inner radius of the band of each replica; the first one is the widest.
function bands(n) {
  const [inner, outer] = BANDS;
  const width = (outer - inner - (n - 1)) / (n + 1);
  let top = outer;
  return Array.from({ length: n }, (_, index) => {
    const bottom = top - width * (index === 0 ? 2 : 1);
    const band = [bottom, top];
    top = bottom - 1;
    return band;
  });
}

const point = (radius, turn) => {
  const angle = 2 * Math.PI * turn - Math.PI / 2;
  return `${(radius * Math.cos(angle)).toFixed(3)} ${(radius * Math.sin(angle)).toFixed(3)}`;
};

// A piece of a band from `from` to `to`, in turns.
function piece([inner, outer], from, to) {
  const arc = (radius, first, last, sweep) => `A${radius} ${radius} 0 0 ${sweep} ${point(radius, (first + last) / 2)}A${radius} ${radius} 0 0 ${sweep} ${point(radius, last)}`;
  return `M${point(outer, from)}${arc(outer, from, to, 1)}L${point(inner, to)}${arc(inner, to, from, 0)}Z`;
}

// All pieces of one kind as one path: `at` gives the kind of a partition, or null.
function paths(count, band, at) {
  const gap = count <= GAPS_MAX ? Math.min(0.0012, 0.12 / count) : 0;
  const found = new Map();
  let from = 0;
  for (let partition = 0; partition < count; partition += 1) {
    const kind = at(partition);
    // Without gaps, neighbours of one kind are one piece.
    if (gap === 0 && partition + 1 < count && at(partition + 1) === kind) continue;
    if (kind !== null) {
      const text = piece(band, from / count + gap / 2, (partition + 1) / count - gap / 2);
      found.set(kind, (found.get(kind) ?? '') + text);
    }
    from = partition + 1;
  }
  return found;
}

// The picture. `partitions`: for each its list of {node, holds}; `about(id)`: {name, color,
// zone, zoneColor, reachable}.
export function picture({ partitions, n, about, id, label, moved = null }) {
  const count = partitions.length;
  const groups = new Map();
  const group = (node) => {
    if (!groups.has(node)) {
      groups.set(node, h('g.slices', { 'data-node': node, class: about(node).reachable === false ? 'away' : '', fill: about(node).color }));
    }
    return groups.get(node);
  };
  const hatched = [];
  bands(n).forEach((band, place) => {
    const at = (partition) => partitions[partition][place]?.node ?? null;
    for (const [node, d] of paths(count, band, at)) group(node).append(h('path', { d }));
    const waits = (partition) => {
      const entry = partitions[partition][place];
      return entry && (moved ? moved.has(`${partition} ${entry.node}`) : !entry.holds) ? 'waits' : null;
    };
    for (const d of paths(count, band, waits).values()) hatched.push(h('path.hatched', { d, fill: `url(#${id}-hatch)` }));
  });
  const zones = new Map();
  const zone = (partition) => {
    const first = partitions[partition][0];
    return first ? about(first.node).zoneColor : null;
  };
  for (const [color, d] of paths(count, ZONES, zone)) zones.set(color, d);
  return h('svg.ring', { viewBox: '-104 -104 208 208', role: 'img', 'aria-label': label },
    h('defs', {}, h('pattern', { id: `${id}-hatch`, width: '2.6', height: '2.6', patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
      h('rect.hatch-ground', { width: '2.6', height: '2.6' }), h('line.hatch-line', { x1: '0.7', y1: '0', x2: '0.7', y2: '2.6' }))),
    h('g.zones', {}, [...zones].map(([color, d]) => h('path', { d, fill: color }))),
    [...groups.values()], hatched,
    h('path.cursor', { d: '' }));
}

// The partition under the pointer, or null.
export function partitionAt(svg, count, event) {
  const box = svg.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width - 0.5) * 208;
  const y = ((event.clientY - box.top) / box.height - 0.5) * 208;
  const radius = Math.hypot(x, y);
  if (radius < BANDS[0] - 2 || radius > OUTER + 4) return null;
  const turn = (Math.atan2(y, x) / (2 * Math.PI) + 1.25) % 1;
  return Math.min(count - 1, Math.floor(turn * count));
}

// Marks one partition, or none.
export function mark(svg, count, partition) {
  const cursor = svg.querySelector('.cursor');
  cursor.setAttribute('d', partition === null ? '' : piece([BANDS[0] - 1, OUTER + 1.5], partition / count, (partition + 1) / count));
}

// Highlights the partitions of one node, or none.
export function highlight(root, node) {
  for (const svg of root.querySelectorAll('svg.ring')) {
    svg.classList.toggle('one', node !== null);
    for (const group of svg.querySelectorAll('.slices')) group.classList.toggle('lit', group.dataset.node === node);
  }
}

// In words: partition, its nodes in order, and what they lack.
export function describe(partition, entries, about) {
  const words = entries.map(({ node, holds }) => {
    const { name, reachable } = about(node);
    return `${name}${holds ? '' : ' (on its way)'}${reachable === false ? ' (unreachable)' : ''}`;
  });
  return `Partition ${partition}: ${words.join(', ') || 'no owner'}`;
}

// The same as a table, a page at a time.
const ROWS = 64;

export class PartitionTable {
  constructor(container) {
    this.container = container;
    this.first = 0;
  }

  show(ring, about) {
    this.latest = [ring, about];
    const count = ring.partitions.length;
    this.first = Math.min(this.first, Math.floor((count - 1) / ROWS) * ROWS);
    const last = Math.min(count, this.first + ROWS);
    const rows = [];
    for (let partition = this.first; partition < last; partition += 1) {
      const entries = ring.partitions[partition];
      const zones = entries.map(({ node }) => about(node).zone ?? '–');
      rows.push(h('tr', { 'data-key': `p${partition}` },
        h('th.num', { scope: 'row' }, number(partition)),
        h('td', {}, entries.map(({ node, holds }, index) => [index ? ', ' : '', about(node).name, holds ? '' : ' (on its way)'])),
        h('td', {}, zones.join(', '))));
    }
    const turn = (by) => () => {
      this.first = Math.max(0, this.first + by);
      this.show(...this.latest);
    };
    put(this.container,
      h('p.pager', {},
        h('button.plain', { type: 'button', disabled: this.first === 0, onclick: turn(-ROWS) }, 'Previous'),
        h('span', {}, `Partitions ${this.first} to ${last - 1} of ${number(count)}`),
        h('button.plain', { type: 'button', disabled: last >= count, onclick: turn(ROWS) }, 'Next')),
      h('table.compact', {},
        h('caption', { class: 'visually-hidden' }, 'Partitions and their replicas'),
        h('thead', {}, h('tr', {}, h('th.num', { scope: 'col' }, 'Partition'), h('th', { scope: 'col' }, 'Replicas in order'), h('th', { scope: 'col' }, 'Zones'))),
        h('tbody', {}, rows)));
  }
}
