// The table of nodes: what each is to the ring, what it has, and how much of the load.

import { sources } from './cluster.js';
import { h, state, swatch, table } from './dom.js';
import { bytes, deviation, latency, number, plural, rate, short } from './format.js';

const WINDOWS = { 60: 'last minute', 1800: 'last 30 minutes' };

// A column is sorted by `by`, where it has one.
const COLUMNS = [
  { head: 'Node', by: (node) => node.name },
  { head: 'Zone', by: (node) => node.zone ?? '' },
  { head: 'State', by: (node) => node.status },
  { head: 'Reachable', by: (node) => Number(node.reachable ?? -1) },
  { head: 'p99 for its peers', num: true, by: (node) => node.sight?.p99_us ?? -1 },
  { head: 'Weight', num: true, by: (node) => node.weight },
  { head: 'Owns', num: true, by: (node) => node.owns },
  { head: 'Replicas', num: true, by: (node) => node.replicas },
  { head: 'Holds', num: true, by: (node) => node.holds },
  { head: 'Pending', num: true, by: (node) => node.pending },
  { head: 'Load', label: 'Load', num: true, by: (node) => node.load?.per_s ?? -1 },
  { head: 'Against its share', by: (node) => node.load?.deviation_milli ?? 0 },
];

const view = { filter: '', sorted: null, window: 60 };

export function nodeTable(byId, rerender, highlightNode) {
  const window = sources.load.data?.windows.find((candidate) => candidate.window_s === view.window);
  const loads = new Map((window?.nodes ?? []).map((node) => [node.node, { ...node, per_s: (node.coordinated + node.replica) / Math.max(1, node.seconds) }]));
  let list = [...byId.values()].map((node) => ({ ...node, load: loads.get(node.node) }));
  const all = list.length;
  const wanted = view.filter.trim().toLowerCase();
  if (wanted) list = list.filter((node) => [node.name, node.zone ?? '', node.status, node.node, node.reachable === false ? 'unreachable' : '', node.sight?.slow ? 'slow' : ''].some((text) => text.toLowerCase().includes(wanted)));
  if (view.sorted) {
    const { by } = COLUMNS[view.sorted.column];
    const compare = (a, b) => (typeof by(a) === 'string' ? by(a).localeCompare(by(b), 'en', { numeric: true }) : by(a) - by(b));
    list.sort((a, b) => (view.sorted.down ? -compare(a, b) : compare(a, b)));
  }
  const onsort = (column) => {
    view.sorted = view.sorted?.column === column ? (view.sorted.down ? null : { column, down: true }) : { column, down: false };
    rerender();
  };
  return [
    h('div.card-head', {},
      h('h2', { id: 'nodes-title' }, 'Nodes'),
      all > 8 && h('label.filter', {}, h('span.visually-hidden', {}, 'Show nodes with'), h('input', { type: 'search', placeholder: 'Name, zone or state', 'data-own': '', oninput: (event) => { view.filter = event.target.value; rerender(); } })),
      windowChoice(rerender)),
    h('p.quiet.small', { class: 'evenness' }, evenness(window)),
    table({
      caption: 'Nodes with their partitions and load', columns: COLUMNS.map((column) => ({ ...column, sort: true })), sorted: view.sorted, onsort,
      empty: all ? 'No node matches.' : 'No nodes are known.',
      rows: list.map((node) => row(node, window, highlightNode)),
    }),
  ];
}

function windowChoice(rerender) {
  const choice = ([seconds, name]) => h('button', {
    type: 'button', 'aria-pressed': String(view.window === Number(seconds)), onclick: () => { view.window = Number(seconds); rerender(); },
  }, name);
  return h('div.choice', { role: 'group', 'aria-label': 'Load over the' }, Object.entries(WINDOWS).map(choice));
}

// In the paper's words: a node is in balance within 15 % of the average.
function evenness(window) {
  if (!window) return sources.load.error ? 'The load of the nodes is not known.' : 'Asking the nodes for their load …';
  if (window.operations === 0) return 'No operations in this window.';
  const out = window.nodes.filter((node) => node.out_of_balance).length;
  if (!window.judged) return `${plural(window.operations, 'operation')}: too few to say who is out of balance.`;
  return `${out === 0 ? 'All nodes are' : `${number(out)} of ${plural(window.nodes.length, 'node')} ${out === 1 ? 'is' : 'are'} not`} within 15 % of their share of ${plural(window.operations, 'operation')}.`;
}

function row(node, window, highlightNode) {
  return {
    key: node.node,
    attributes: { onpointerenter: () => highlightNode(node.node), onpointerleave: () => highlightNode(null) },
    cells: [
      h('span.name', { title: `node ${node.node}` }, swatch(node.color, node.status === 'candidate'), h('span', {}, h('b', {}, node.name), h('span.quiet.small.id', {}, ` ${short(node.node)}`))),
      node.zone ?? '–',
      node.status,
      reach(node),
      answers(node.sight),
      number(node.weight), number(node.owns), number(node.replicas), number(node.holds),
      node.pending ? h('b', {}, number(node.pending)) : '0',
      node.load ? h('span', { title: `${number(node.load.coordinated)} coordinated, ${number(node.load.replica)} for other coordinators, in ${node.load.seconds} s` }, rate(node.load.per_s), h('span.of', {}, '/s')) : '–',
      share(node.load, window?.judged),
    ],
  };
}

function reach(node) {
  if (node.status === 'candidate') return state('none', 'not asked', 'Candidates hold nothing, so they are not asked');
  if (node.reachable === null) return state('wait', 'asking');
  if (!node.reachable) return state('bad', 'unreachable');
  if (node.refused) return state('warn', node.refused, 'It answered with a refusal');
  if (node.sight?.slow) return state('warn', 'slow', slowWords(node.sight));
  // What it says of itself, as the word for it in the runbooks.
  if (node.sight?.store && node.sight.store !== 'healthy') return state('bad', `store ${node.sight.store}`, 'It answers, and takes no values');
  const kept = node.hints?.hints;
  return state('ok', 'reachable', kept ? `keeps ${plural(kept, 'hint')} for others, ${bytes(node.hints.bytes)}` : null);
}

const slowWords = ({ p99_us: p99, slow_for: slow, observers }) =>
  `99 of 100 messages to its replicas took up to ${latency(p99 / 1000)} even for the peer that sees it best; right now ${number(slow)} of ${plural(observers, 'peer')} find it slow`;

// How long its answers took for the peer that sees it best: its own figures would not tell a slow network.
function answers(sight) {
  if (!sight) return '–';
  if (sight.p99_us === undefined) return h('span.quiet', { title: `${plural(sight.messages, 'message')} are too few to tell` }, '–');
  const words = `half of ${plural(sight.messages, 'message')} of ${plural(sight.observers, 'peer')} took up to ${latency(sight.p50_us / 1000)}`;
  return h('span', { title: words, class: sight.slow ? 'warn-text' : '' }, latency(sight.p99_us / 1000));
}

// A bar to the right or left of the fair share; the marks are at 15 %.
function share(load, judged) {
  if (!load || load.deviation_milli === undefined) return h('span.quiet', {}, '–');
  const clipped = Math.max(-500, Math.min(500, load.deviation_milli));
  const x = 50 + Math.min(0, clipped) / 10;
  return h('span.share', { class: load.out_of_balance ? 'out' : judged ? '' : 'unsure' },
    h('svg', { viewBox: '0 0 100 10', 'aria-hidden': 'true', preserveAspectRatio: 'none' },
      h('line.limit', { x1: 35, x2: 35, y1: 0, y2: 10 }), h('line.limit', { x1: 65, x2: 65, y1: 0, y2: 10 }),
      h('rect', { x, y: 2.5, width: Math.max(0.8, Math.abs(clipped) / 10), height: 5 }), h('line.zero', { x1: 50, x2: 50, y1: 0, y2: 10 })),
    h('span.num', {}, deviation(load.deviation_milli)),
    load.out_of_balance && h('span.visually-hidden', {}, ' out of balance'));
}
