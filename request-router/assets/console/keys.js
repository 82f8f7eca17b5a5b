// Where one key lies, who is responsible, and what each replica has of it.

import { Failure, ask, askJson, objectPath } from './api.js';
import { nameOf, nodes } from './cluster.js';
import { h, note, put, state, swatch, table } from './dom.js';
import { absolute, ago, bytes, number, plural } from './format.js';

// Values above this are not fetched to be shown.
const SHOWN_BYTES_MAX = 64 * 1024;

// Siblings of which the values are shown.
const SHOWN_SIBLINGS_MAX = 12;

// Bytes of a value that is not text, as shown.
const HEX_BYTES = 256;

let asked = null;
let turn = 0;

export function build(root, [bucket = '', key = '']) {
  root.append(
    h('section.card', { 'aria-labelledby': 'key-title' },
      h('div.card-head', {}, h('h2', { id: 'key-title' }, 'Explain a key'), h('p.quiet.small', {}, 'Asks its coordinator to read every replica. Repairs what is stale, as any read does.')),
      h('form.line-form', { id: 'key-form', onsubmit: submit },
        h('label', {}, 'Bucket', h('input', { name: 'bucket', required: true, maxlength: 64, autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', placeholder: 'carts' })),
        h('label.wide', {}, 'Key', h('input', { name: 'key', required: true, autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', placeholder: 'alice' })),
        h('button.main', { type: 'submit' }, 'Explain'))),
    h('div', { id: 'key-answer', 'aria-live': 'polite' }));
  const { elements } = document.getElementById('key-form');
  elements.bucket.value = bucket;
  elements.key.value = key;
  if (bucket && key) explain(bucket, key);
}

export function render() {}

function submit(event) {
  event.preventDefault();
  const { bucket, key } = event.target.elements;
  const wanted = `#keys/${encodeURIComponent(bucket.value)}/${encodeURIComponent(key.value)}`;
  // The address names the key, so that it can be handed on; asking again is asking again.
  if (location.hash !== wanted) history.pushState(null, '', wanted);
  explain(bucket.value, key.value);
}

async function explain(bucket, key) {
  const mine = (turn += 1);
  asked = { bucket, key };
  const holder = document.getElementById('key-answer');
  put(holder, h('p.quiet', {}, 'Asking …'));
  const path = objectPath(bucket, key);
  const settled = await Promise.allSettled([
    askJson(`v1/ring/preference?bucket=${encodeURIComponent(bucket)}&key=${encodeURIComponent(key)}`),
    askJson(`${path}?explain=true`),
  ]);
  if (mine !== turn || !document.getElementById('key-answer')) return;
  const [place, found] = settled.map((result) => (result.status === 'fulfilled' ? result.value : null));
  for (const { reason } of settled) if (reason && !(reason instanceof Failure)) console.error(reason);
  const failures = settled.filter((result) => result.reason).map((result) => result.reason.message);
  const values = new Map();
  const draw = () => mine === turn && document.getElementById('key-answer') && put(holder,
    [...new Set(failures)].map((failure) => note('bad', failure)),
    place && placement(place, found), found && versions(found, values));
  draw();
  await Promise.all((found?.versions ?? []).slice(0, SHOWN_SIBLINGS_MAX).map(async (version) => {
    values.set(version.etag, version.bytes > SHOWN_BYTES_MAX ? { large: true } : await valueOf(path, version));
    draw();
  }));
}

async function valueOf(path, { etag }) {
  try {
    const response = await ask(`${path}?sibling=${encodeURIComponent(etag)}`);
    return { bytes: new Uint8Array(await response.arrayBuffer()) };
  } catch (error) {
    return { failure: error.message };
  }
}

const RESULTS = { record: ['ok', 'has it'], absent: ['none', 'has nothing'] };

function placement(place, found) {
  const { byId } = nodes();
  const replicas = new Map((found?.replicas ?? []).map((replica) => [replica.node, replica]));
  const answered = [...replicas.values()].filter((replica) => replica.result in RESULTS);
  const digests = new Set(answered.map((replica) => replica.digest ?? 'nothing'));
  const dots = [...new Set([...replicas.values()].flatMap((replica) => replica.siblings ?? []))].sort();
  // Fallbacks that took no part are counted, not listed.
  const listed = place.list.filter((entry, index) => entry.role !== 'fallback' || replicas.has(entry.node) || index < place.n + 2);
  const rows = listed.map((entry) => {
    const replica = replicas.get(entry.node);
    const role = entry.role === 'former_holder' ? 'former holder' : entry.role;
    return {
      key: entry.node,
      cells: [
        number(place.list.indexOf(entry) + 1),
        h('span.name', {}, swatch(byId.get(entry.node)?.color ?? 'var(--quiet)', entry.role === 'fallback'), h('b', {}, entry.name ?? entry.node)),
        entry.zone ?? '–',
        replica?.fallback_for ? `fallback for ${nameOf(replica.fallback_for, byId)}` : role,
        entry.reachable ? state('ok', 'reachable') : state('bad', 'unreachable'),
        entry.holder ? 'holds it' : h('span.quiet', {}, entry.role === 'primary' ? 'not yet' : 'no'),
        replica ? state(...(RESULTS[replica.result] ?? ['bad', replica.result])) : h('span.quiet', {}, 'not asked'),
        h('span.dots', {}, (replica?.siblings ?? []).map((dot) => h('code.dot', { title: `written as ${dot}`, class: `dot-${dots.indexOf(dot) % 6}` }, letter(dots.indexOf(dot))))),
        replica?.digest ? h('code', { title: replica.digest }, replica.digest.slice(0, 8)) : '–',
      ],
    };
  });
  return h('section.card', { 'aria-labelledby': 'place-title' },
    h('div.card-head', {}, h('h2', { id: 'place-title' }, `Partition ${place.partition}`), h('p.quiet.small', {}, `n = ${place.n}, ring ${place.ring_version.split('-')[0]}, position `, h('code', {}, place.position))),
    answered.length > 1 && h('p', {}, digests.size > 1
      ? state('warn', 'Replicas differ; this read repairs those that are behind.')
      : state('ok', answered.length < replicas.size ? 'All replicas that answered are equal.' : 'All replicas are equal.')),
    table({
      caption: 'Preference list and replicas',
      columns: [{ head: '#', label: 'Place', num: true }, { head: 'Node' }, { head: 'Zone' }, { head: 'Role' }, { head: 'Reachable' }, { head: 'Partition' }, { head: 'Replica' }, { head: 'Versions' }, { head: 'Digest' }],
      rows,
    }),
    listed.length < place.list.length && h('p.quiet.small', {}, `and ${plural(place.list.length - listed.length, 'further fallback')}.`),
    found && h('p.quiet.small', {}, `Coordinated by ${nameOf(found.routing.coordinator, byId)} (${found.routing.reason.replaceAll('_', ' ')}); ${found.evidence.acks} of ${found.evidence.asked} replies needed, ${plural(found.evidence.primaries, 'primary', 'primaries')} of ${found.evidence.n}.`));
}

const letter = (index) => (index < 26 ? String.fromCharCode(65 + index) : number(index + 1));

function versions(found, values) {
  const count = found.versions.length;
  const title = count === 0 ? (found.deleted ? 'Deleted' : 'Nothing is stored') : count === 1 ? 'One version' : plural(count, 'sibling');
  const words = {
    0: found.deleted ? 'The key was deleted or has expired; its context lets you write it again.' : 'No replica that was asked has anything of this key.',
    1: '',
  }[count] ?? 'Written concurrently: neither knew of the other. A put with the context below replaces them all.';
  return h('section.card', { 'aria-labelledby': 'versions-title' },
    h('div.card-head', {}, h('h2', { id: 'versions-title' }, title), h('p.quiet.small', {}, words)),
    h('div.siblings', {}, found.versions.slice(0, SHOWN_SIBLINGS_MAX).map((version, index) => h('article.sibling', { 'data-key': version.etag, 'aria-label': `Version ${index + 1}` },
      h('dl.facts', {},
        h('dt', {}, 'Written'), h('dd', {}, ago(Date.parse(version.last_modified))),
        h('dt', {}, 'Type'), h('dd', {}, version.content_type ?? 'none'),
        h('dt', {}, 'Size'), h('dd', {}, bytes(version.bytes)),
        h('dt', {}, 'ETag'), h('dd', {}, h('code', {}, version.etag))),
      value(values.get(version.etag), version)))),
    count > SHOWN_SIBLINGS_MAX && note('warn', `${plural(count - SHOWN_SIBLINGS_MAX, 'further sibling')} not shown. Resolve them: a key takes at most 100.`),
    found.context && h('details', {}, h('summary', {}, 'Causal context'), h('code.block', {}, found.context)));
}

function value(loaded, version) {
  if (!loaded) return h('p.quiet', {}, 'Reading the value …');
  if (loaded.large) return h('p.quiet', {}, `Larger than ${bytes(SHOWN_BYTES_MAX)}: not shown.`);
  if (loaded.failure) return h('p.bad-text', {}, `The value could not be read: ${loaded.failure}`);
  if (loaded.bytes.length === 0) return h('p.quiet', {}, 'An empty value.');
  return h('pre', { tabindex: 0, 'aria-label': `Value of ${absolute(version.last_modified)}` }, text(loaded.bytes));
}

// JSON is laid out, other text stays, and anything else is shown as bytes.
function text(content) {
  let decoded;
  try {
    decoded = new TextDecoder('utf-8', { fatal: true }).decode(content);
  } catch {
    const shown = [...content.subarray(0, HEX_BYTES)].map((byte) => byte.toString(16).padStart(2, '0'));
    return shown.join(' ') + (content.length > HEX_BYTES ? ` … ${plural(content.length - HEX_BYTES, 'byte')} more` : '');
  }
  try {
    return JSON.stringify(JSON.parse(decoded), null, 2);
  } catch {
    return decoded;
  }
}

export const again = () => asked && explain(asked.bucket, asked.key);
