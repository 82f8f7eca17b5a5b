// What is on its way: partitions to new owners, hints to nodes that were away, and how long ago
// replicas were last found equal.

import { nameOf, nodes, sources } from './cluster.js';
import { h, note, put, state, swatch, table } from './dom.js';
import { ago, bytes, duration, number, plural } from './format.js';

// Rows in view: the first ones, and all that make sense where somebody asks for more.
const ROWS_FIRST = 25;
const ROWS_MAX = 200;

let rowsShown = ROWS_FIRST;

const INCOMING = ['waiting', 'no_holder', 'offered', 'copying', 'closing'];
const WORDS = {
  waiting: ['wait', 'waiting', 'Wanted, and waiting for its turn'],
  no_holder: ['bad', 'no holder', 'Nobody is known to hold it: see docs/operations.md'],
  offered: ['wait', 'offered', 'A holder was asked whether it has it'],
  copying: ['warn', 'copying', 'Being copied'],
  closing: ['warn', 'closing', 'Copied; compared with every holder'],
  waiting_for_owners: ['wait', 'waiting for owners', 'Not needed here any more; waits until every owner holds it'],
  releasing: ['wait', 'releasing', 'Compared with every owner before it is given up'],
  grace: ['wait', 'grace', 'Given up; requests that began before end first'],
  pushing: ['wait', 'pushing', 'What came late goes to the owners'],
  dropping: ['wait', 'dropping', 'Being deleted'],
};

export function build(root) {
  root.append(
    h('section.card', { id: 'moves', 'aria-labelledby': 'moves-title' }),
    h('div.columns', {},
      h('section.card', { id: 'hints', 'aria-labelledby': 'hints-title' }),
      h('section.card', { id: 'exchanges', 'aria-labelledby': 'exchanges-title' })),
    h('section.card', { id: 'behind', 'aria-labelledby': 'behind-title' }));
}

export function render() {
  const { byId } = nodes();
  put(document.getElementById('moves'), moves(byId));
  put(document.getElementById('hints'), hints(byId));
  put(document.getElementById('exchanges'), exchanges(byId));
  put(document.getElementById('behind'), behind(byId));
}

const byName = (a, b) => a.localeCompare(b, 'en', { numeric: true });

const node = (id, byId) => h('span.name', {}, swatch(byId.get(id)?.color ?? 'var(--quiet)'), nameOf(id, byId));

function bar(done, whole, label) {
  if (!whole) return h('span.quiet', {}, '–');
  const percent = Math.min(100, Math.floor((100 * done) / whole));
  return h('span.bar', {}, h('progress', { max: whole, value: Math.min(done, whole), 'aria-label': label }), h('span.num', {}, `${percent} %`));
}

function moves(byId) {
  const { data, error } = sources.transfers;
  const head = h('div.card-head', {}, h('h2', { id: 'moves-title' }, 'Moves'), h('p.quiet.small', {}, data ? moveWords(data) : ''));
  if (!data) return [head, h('p.quiet', {}, error ? 'What moves is not known.' : 'Asking the workers …')];
  const rows = data.nodes.flatMap((report) => (report.report?.partitions ?? []).map((view) => ({ ...view, node: report.node })));
  const rank = Object.fromEntries(Object.keys(WORDS).map((name, index) => [name, name === 'copying' || name === 'closing' || name === 'no_holder' ? -1 : index]));
  rows.sort((a, b) => rank[a.state] - rank[b.state] || a.partition - b.partition);
  const silent = data.nodes.filter((report) => !report.report);
  return [
    head,
    silent.length > 0 && note('warn', `${plural(silent.length, 'worker')} did not answer and ${silent.length === 1 ? 'is' : 'are'} not counted: ${silent.slice(0, 8).map((report) => report.name).join(', ')}${silent.length > 8 ? ', …' : ''}`),
    data.paused > 0 && note('warn', `${plural(data.paused, 'worker')} told to pause.`),
    busy(data, byId),
    rows.length > 0 && h('h3', {}, 'Partitions on the move'),
    rows.length > 0 && table({
      caption: 'Partitions on the move',
      columns: [{ head: 'Partition', num: true }, { head: 'Node' }, { head: 'State' }, { head: 'From or with' }, { head: 'Copied' }, { head: 'Records', num: true }, { head: 'Size', num: true }, { head: 'Left', num: true }, { head: 'Trouble' }],
      rows: rows.slice(0, rowsShown).map((view) => ({
        key: `${view.node}-${view.partition}`,
        cells: [
          number(view.partition), node(view.node, byId), state(...(WORDS[view.state] ?? ['none', view.state])),
          view.peer ? nameOf(view.peer, byId) : '–',
          INCOMING.includes(view.state) ? bar(view.records, view.records_total, `Partition ${view.partition}`) : h('span.quiet', {}, '–'),
          view.records_total ? [number(view.records), h('span.of', {}, ` of ${number(view.records_total)}`)] : number(view.records),
          bytes(view.bytes), view.eta_ms === undefined ? '–' : duration(view.eta_ms),
          view.error ? h('span.bad-text', {}, view.error) : view.restarts ? plural(view.restarts, 'restart') : '–',
        ],
      })),
    }),
    rows.length > rowsShown && (rowsShown === ROWS_FIRST
      ? h('p', {}, h('button', { type: 'button', onclick: () => { rowsShown = ROWS_MAX; render(); } }, `Show ${number(Math.min(rows.length, ROWS_MAX) - rowsShown)} more`))
      : h('p.quiet.small', {}, `${number(rows.length - rowsShown)} more are not shown; atoll transfers lists all.`)),
  ];
}

function moveWords(data) {
  if (data.incoming === 0 && data.outgoing === 0) return `nothing moves; ${plural(data.totals.held ?? 0, 'replica')} held`;
  const left = data.eta_ms === undefined ? '' : `, about ${duration(data.eta_ms)} left`;
  return `${number(data.incoming)} to copy, ${number(data.outgoing)} to give up${left}`;
}

// One line per node that gets or gives up something.
function busy(data, byId) {
  const rows = data.nodes.filter(({ report }) => report && Object.entries(report.totals).some(([name, count]) => name !== 'held' && count > 0));
  const whose = data.silent ? 'Every node that answers' : 'Every node';
  if (rows.length === 0) return h('p', {}, state('ok', `${whose} holds what it owns, and nothing else.`));
  return table({
    caption: 'Moves by node',
    columns: [{ head: 'Node' }, { head: 'Partitions held' }, { head: 'To copy', num: true }, { head: 'To give up', num: true }, { head: 'Records copied', num: true }, { head: 'Size', num: true }],
    rows: rows.map(({ node: id, report }) => {
      const sum = (names) => names.reduce((total, name) => total + (report.totals[name] ?? 0), 0);
      const incoming = sum(INCOMING);
      const held = report.totals.held ?? 0;
      const outgoing = Object.values(report.totals).reduce((total, count) => total + count, 0) - incoming - held;
      return { key: id, cells: [node(id, byId), bar(held, held + incoming, `Held by ${nameOf(id, byId)}`), number(incoming), number(outgoing), number(report.records), bytes(report.bytes)] };
    }),
  });
}

function hints(byId) {
  const { data, error } = sources.hints;
  const head = h('div.card-head', {}, h('h2', { id: 'hints-title' }, 'Hints'), h('p.quiet.small', {}, data ? `${plural(data.hints, 'hint')}, ${bytes(data.bytes)}` : ''));
  if (!data) return [head, h('p.quiet', {}, error ? 'Hints are not known.' : 'Asking the nodes …')];
  const rows = data.nodes.flatMap((report) => (report.report?.targets ?? []).map((target) => ({ keeper: report.node, ...target })));
  rows.sort((a, b) => b.hints - a.hints);
  return [
    head,
    data.unreachable > 0 && note('warn', `${plural(data.unreachable, 'node')} did not answer; what ${data.unreachable === 1 ? 'it keeps' : 'they keep'} is not counted.`),
    table({
      caption: 'Hints by keeper and owner', compact: true,
      columns: [{ head: 'Kept at' }, { head: 'For' }, { head: 'Hints', num: true }, { head: 'Size', num: true }],
      empty: 'No write waits for a node.',
      rows: rows.slice(0, ROWS_MAX).map((row) => ({
        key: `${row.keeper}-${row.node}`,
        cells: [node(row.keeper, byId), node(row.node, byId), number(row.hints), bytes(row.bytes)],
      })),
    }),
  ];
}

function exchanges(byId) {
  const { data, at, error } = sources.exchange;
  const head = h('div.card-head', {}, h('h2', { id: 'exchanges-title' }, 'Exchanges'), h('p.quiet.small', {}, data ? exchangeWords(data) : ''));
  if (!data) return [head, h('p.quiet', {}, error ? 'Exchanges are not known.' : 'Asking the workers …')];
  return [
    head,
    table({
      caption: 'Comparisons of replicas by node', compact: true,
      columns: [{ head: 'Node' }, { head: 'All equal' }, { head: 'Last exchange' }, { head: 'Partners', num: true }, { head: 'Behind', num: true }, { head: 'Repaired', num: true }],
      empty: 'No workers are known.',
      rows: data.nodes.map((report) => {
        const said = report.report;
        const peers = said?.peers ?? [];
        const failing = peers.filter((peer) => peer.error);
        const last = Math.max(0, ...peers.map((peer) => peer.ended_at ?? 0));
        return {
          key: report.node,
          cells: said
            ? [
              node(report.node, byId),
              said.lag_ms === undefined ? h('span.quiet', {}, 'not yet') : ago(at - said.lag_ms),
              failing.length
                ? h('span', { title: failing.map((peer) => `${peer.name ?? peer.node}: ${peer.error}`).join('\n') }, state('warn', `${plural(failing.length, 'partner')} failing`))
                : peers.some((peer) => peer.running) ? state('wait', 'running') : last ? ago(last) : h('span.quiet', {}, 'not yet'),
              number(peers.length), number(said.keys_behind), number(peers.reduce((sum, peer) => sum + peer.keys_repaired, 0)),
            ]
            : [node(report.node, byId), state(report.reachable ? 'warn' : 'bad', report.refused ?? 'no answer'), '–', '–', '–', '–'],
        };
      }),
    }),
  ];
}

// Which partitions the last comparisons did not find equal, and which of their replicas.
function behind(byId) {
  const { data, error } = sources.exchange;
  const words = data ? (data.partitions_behind ? `${plural(data.partitions_behind, 'partition')} behind` : `none${data.silent ? ' that is known of' : ''}`) : '';
  const head = h('div.card-head', {}, h('h2', { id: 'behind-title' }, 'Partitions behind'), h('p.quiet.small', {}, words));
  if (!data) return [head, h('p.quiet', {}, error ? 'What is behind is not known.' : 'Asking the workers …')];
  const reasons = new Map(data.nodes.flatMap((report) => (report.report?.peers ?? []).map((peer) => [`${report.node} ${peer.node}`, peer.error])));
  const hidden = data.partitions_behind - data.behind.length;
  return [
    head,
    table({
      caption: 'Partitions whose replicas were not found equal', compact: true,
      columns: [{ head: 'Partition', num: true }, { head: 'Finding' }, { head: 'Replica to look at' }, { head: 'Apart from' }, { head: 'Last equal' }, { head: 'Why' }],
      empty: 'The last comparisons found the replicas of every partition equal.',
      rows: data.behind.map((one) => ({
        key: one.partition,
        cells: [
          number(one.partition),
          one.differs ? state('warn', 'differs', 'The replicas were compared, and differ') : state('wait', 'not compared', 'A replica or its worker does not answer'),
          ...suspects(one.replicas, byId),
          one.agreed_at === undefined ? h('span.quiet', {}, 'not yet') : ago(one.agreed_at),
          why(one.replicas, reasons, byId),
        ],
      })),
    }),
    hidden > 0 && h('p.quiet.small', {}, `${plural(hidden, 'further partition')} not shown: those that differ come first, then the longest ago.`),
  ];
}

// The one that is apart from more of the others than they are; where none is, all are suspects.
function suspects(replicas, byId) {
  const most = replicas.filter((replica) => replica.from.length === replicas[0].from.length);
  const from = most.length > 1 ? 'each other' : most[0].from.map((id) => nameOf(id, byId)).sort(byName).join(', ');
  return [most.map((replica, index) => [index > 0 && ' or ', node(replica.node, byId)]), from];
}

// What the nodes concerned say of their stores, then what the workers say of the comparisons.
function why(replicas, reasons, byId) {
  const stores = replicas.map(({ node: id }) => [id, byId.get(id)?.sight?.store]).filter(([, store]) => store && store !== 'healthy');
  const said = replicas.flatMap((replica) => replica.from.map((other) => reasons.get(`${replica.node} ${other}`))).filter(Boolean);
  return [...stores.map(([id, store]) => `${nameOf(id, byId)}: store ${store}`), ...new Set(said)].join('; ') || '–';
}

function exchangeWords(data) {
  const equal = data.lag_ms === undefined ? 'not all replicas were compared yet' : `all replicas equal ${duration(data.lag_ms)} before`;
  return `${equal}; ${plural(data.keys_repaired, 'key')} repaired, ${bytes(data.bytes)}`;
}
