// What a commit would do, before it is done: the ring now and after, what every node gains and
// loses, and what speaks against it.

import { listOf, nameOf, ring } from './cluster.js';
import { h, note, state, swatch, table } from './dom.js';
import { bytes, deviation, number, plural } from './format.js';
import { picture } from './ring.js';

// A change in words.
export function changeWords(change, byId) {
  const name = (id) => nameOf(id, byId);
  switch (change.kind) {
    case 'init': return `Found a cluster of ${plural(change.partitions, 'partition')}`;
    case 'join': return `${change.joiner.name} joins${change.joiner.zone ? ` in zone ${change.joiner.zone}` : ''} with weight ${change.joiner.weight}`;
    case 'leave': return change.forced ? `${name(change.node)} is removed, and its data given up` : `${name(change.node)} leaves`;
    case 'replace': return `${change.joiner.name} takes the place of ${name(change.node)}`;
    case 'set_weight': return `${name(change.node)} gets weight ${change.weight}`;
    case 'set_zone': return `${name(change.node)} is in zone ${change.zone ?? 'unknown'}`;
    case 'set_address': return `${name(change.node)} has other addresses`;
    default: return change.kind;
  }
}

export function planView(plan, byId) {
  const highest = plan.load_max_milli - 1000;
  return [
    h('ul.changes', {}, plan.changes.map((change) => h('li', {}, changeWords(change, byId)))),
    plan.refusals.map((refusal) => note('bad', h('strong', {}, 'Refused: '), refusal.detail, h('code', {}, refusal.code))),
    plan.warnings.map((warning) => note('warn', h('strong', {}, 'Warning: '), warning.detail, h('code', {}, warning.code))),
    h('dl.figures-row', {},
      figure('Members after', number(plan.members_after)),
      figure('Replicas to copy', number(plan.moves_total)),
      figure('To copy', plan.bytes === undefined ? 'unknown' : bytes(plan.bytes)),
      figure('Highest load', plan.load_max_milli ? deviation(highest) : '–', 'against the mean by weight'),
      figure('On distinct zones', [number(plan.spread.partitions_spread), h('span.of', {}, ` of ${number(plan.spread.partitions_spread + plan.spread.partitions_short)}`)], `${plural(plan.spread.zones, 'zone')}, ${number(plan.spread.zones_wanted)} wanted`)),
    pictures(plan, byId),
    table({
      caption: 'Every node before and after',
      columns: [{ head: 'Node' }, { head: 'Replicas before and after' }, { head: 'Replicas', label: 'Replicas before', num: true }, { head: 'after', label: 'Replicas after', num: true }, { head: 'Owns', label: 'Owns before', num: true }, { head: 'after', label: 'Owns after', num: true }, { head: 'Gains', num: true }, { head: 'Loses', num: true }],
      rows: plan.nodes.map((node) => ({
        key: node.node,
        cells: [
          h('span.name', {}, swatch(byId.get(node.node)?.color ?? 'var(--quiet)'), h('b', {}, node.name)),
          shift(node, plan),
          number(node.replicas_before), number(node.replicas_after), number(node.owned_before), number(node.owned_after),
          node.gained ? h('b', {}, `+${number(node.gained)}`) : '0', node.lost ? `−${number(node.lost)}` : '0',
        ],
      })),
    }),
    plan.moves_total > plan.moves.length && h('p.quiet.small', {}, `The picture shows the first ${number(plan.moves.length)} moves.`),
  ];
}

const figure = (label, value, below) => h('div', {}, h('dt', {}, label), h('dd', {}, h('b', {}, value), below && h('span.quiet.small', {}, below)));

// Before as a hollow bar, after as a full one.
function shift(node, plan) {
  const most = Math.max(1, ...plan.nodes.flatMap(({ replicas_before: before, replicas_after: after }) => [before, after]));
  const width = (count) => (100 * count) / most;
  return h('svg.shift', { viewBox: '0 0 100 14', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    h('rect.before', { x: 0, y: 1, width: width(node.replicas_before), height: 4 }),
    h('rect.after', { x: 0, y: 7, width: width(node.replicas_after), height: 6, class: node.replicas_after > node.replicas_before ? 'more' : node.replicas_after < node.replicas_before ? 'less' : '' }));
}

function pictures(plan, byId) {
  const now = ring();
  if (!now || !plan.owners_after?.length) return null;
  const ids = plan.nodes.map((node) => node.node);
  const owners = plan.owners_after.map((index) => (index === null ? null : ids[index]));
  const partitions = owners.map((_, partition) => listOf(owners, partition, now.n).map((node) => ({ node, holds: true })));
  const moved = new Set(plan.moves.map((move) => `${move.partition} ${move.to}`));
  const about = (id) => byId.get(id) ?? { name: id, color: 'var(--quiet)', zoneColor: 'var(--line)', reachable: null };
  const calm = (id) => ({ ...about(id), reachable: null });
  return h('div.pair', {},
    h('figure', {}, picture({ ...now, about: calm, id: 'before', label: 'The ring before the commit' }), h('figcaption', {}, 'Now')),
    h('figure', {}, picture({ partitions, n: now.n, about: calm, id: 'after', label: `The ring after the commit, with ${plural(plan.moves_total, 'replica')} to copy`, moved }), h('figcaption', {}, 'After; what is to be copied is hatched')));
}

export const verdict = (plan) => (plan.refusals.length ? state('bad', 'would be refused') : plan.warnings.length ? state('warn', plural(plan.warnings.length, 'warning')) : state('ok', 'nothing speaks against it'));
