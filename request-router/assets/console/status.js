// The strip above every page, the freshness of what is shown, and what could not be asked.

import { NAMES, sources } from './cluster.js';
import { h, put, state } from './dom.js';
import { gone } from './membership.js';
import { ago, bytes, duration, number, plural } from './format.js';

const STATES = {
  healthy: ['ok', 'Healthy', 'every replica in place', 'Every replica is in its place and reachable.'],
  degraded: ['warn', 'Degraded', 'a replica is missing', 'A replica is away or on its way; every partition has its quorum.'],
  unavailable: ['bad', 'Unavailable', 'a quorum is lost', 'Some partition has lost its quorum of primaries; fallbacks may still take writes.'],
};

const tile = (label, value, below, kind = '') =>
  h('div.tile', { class: kind }, h('dt', {}, label), h('dd', {}, h('span.value', {}, value), h('span.below', {}, below ?? '\u00a0')));

const of = (part, whole) => [number(part), h('span.of', {}, ` of ${number(whole)}`)];

function tiles() {
  const { health, hints, equal, cluster } = sources;
  const now = health.data;
  const [kind, word, brief, why] = STATES[now?.status] ?? ['none', '–', 'not known yet', null];
  const lag = equal.data?.lag_ms;
  const behind = equal.data?.partitions_behind ?? 0;
  const staged = cluster.data?.staged ?? 0;
  return h('dl', {},
    tile('Status', state(kind, word, why), staged ? h('a', { href: '#membership' }, `${plural(staged, 'change')} staged`) : brief, kind),
    reachable(now),
    tile('Partitions complete', now ? of(now.partitions_all_ok, now.partitions) : '–', now ? `${number(now.partitions_quorum_ok)} with a quorum` : null, now && now.partitions_quorum_ok < now.partitions ? 'bad' : ''),
    tile('Pending moves', number(now?.pending_moves), now?.pending_moves ? h('a', { href: '#movement' }, 'see what moves') : 'nothing moves'),
    tile('Hints waiting', number(now?.hints ?? hints.data?.hints), hints.data?.hints ? bytes(hints.data.bytes) : 'nothing to hand over'),
    tile('All replicas equal', lag === undefined || lag === null ? '–' : [duration(lag), h('span.of', {}, ' ago')],
      behind ? h('a', { href: '#movement' }, `${plural(behind, 'partition')} behind`)
        : equal.data ? (lag === undefined || lag === null ? unknownLag(equal.data) : `asked ${duration(Date.now() - equal.at)} ago`) : null,
      behind ? 'warn' : ''));
}

// Who is not there, then who is slow.
function reachable(now) {
  const label = 'Nodes reachable';
  if (!now) return tile(label, '–');
  const value = of(now.nodes_reachable, now.nodes);
  const slow = (sources.peers.data?.nodes ?? []).filter((node) => node.slow);
  if (now.nodes_reachable < now.nodes) return tile(label, value, `${number(now.nodes - now.nodes_reachable)} unreachable`, 'warn');
  if (slow.length > 0) return tile(label, value, h('a', { href: '#overview' }, slow.length === 1 ? `${slow[0].name} is slow` : `${number(slow.length)} are slow`), 'warn');
  return tile(label, value, 'all of them');
}

const unknownLag = (data) => (data.silent ? `${plural(data.silent, 'worker')} silent` : 'no full round yet');

const trouble = () => Object.values(sources).filter((source) => source.error && source.wanted() && !(source.name === 'plan' && gone(source.error)));

// What is being asked and cannot be had, one line each; the last answers stay in view.
function alarms(failing) {
  if (failing.length === 0) return [];
  const lines = failing.map((source) => h('li', { 'data-key': source.name },
    h('strong', {}, NAMES[source.name]), ': ', source.error.message, '. ',
    source.at ? ['What is shown is from ', ago(source.at), '. '] : 'Nothing is known yet. ',
    source.retryIn > 1000 ? `Next try in ${duration(source.retryIn)}.` : 'Trying again.'));
  const all = failing.length > 1 && failing.every((source) => source.error.message === failing[0].error.message);
  const shown = all
    ? h('p', {}, h('strong', {}, failing[0].error.message.replace(/^./, (first) => first.toUpperCase())), '. ',
      failing.some((source) => source.at) ? ['What is shown is from ', ago(Math.max(...failing.map((source) => source.at ?? 0))), '. '] : '',
      failing[0].retryIn > 1000 ? `Next try in ${duration(failing[0].retryIn)}.` : 'Trying again.')
    : h('ul', {}, lines);
  const retry = () => failing.forEach((source) => source.now());
  return h('div.note.bad', {}, h('div', {}, shown), h('button', { type: 'button', onclick: retry }, 'Try now'));
}

function freshness(failing) {
  if (document.hidden) return state('none', 'paused');
  const { health } = sources;
  if (health.at === null) return state(health.error ? 'bad' : 'wait', health.error ? 'no answer' : 'asking');
  const age = Date.now() - health.at;
  if (health.error || health.stale) return state('bad', `stale: ${duration(age)} old`);
  const late = failing[0] ?? Object.values(sources).find((source) => source.stale);
  return late ? state('warn', `live, but ${NAMES[late.name]}`) : state('ok', 'live');
}

// For those who listen: said when it changes, and not when an age grows.
function speak(failing) {
  const words = failing.length > 0
    ? `Cannot be asked: ${failing.map((source) => NAMES[source.name]).join(', ')}`
    : `The cluster is ${sources.health.data?.status ?? 'not known yet'}`;
  put(document.getElementById('spoken'), words);
}

export function showStatus() {
  const failing = trouble();
  speak(failing);
  put(document.getElementById('strip'), tiles());
  put(document.getElementById('alarms'), alarms(failing));
  put(document.getElementById('freshness'), freshness(failing));
  const { health, cluster, ring } = sources;
  document.body.classList.toggle('stale', Boolean(health.at && (health.error || health.stale)));
  const id = cluster.data?.cluster ?? ring.data?.cluster;
  if (id) put(document.getElementById('cluster-name'), h('span', { title: `cluster ${id}` }, `${id.slice(0, 8)}… · ring ${(ring.data ?? cluster.data).version.split('-')[0]}`));
  const word = STATES[health.data?.status]?.[1];
  document.title = word && word !== 'Healthy' ? `${word} – Atoll` : 'Atoll';
}
