// Changing who is a member: stage changes, look at the plan, commit it by its name.

import { Failure, ask, askJson } from './api.js';
import { defaults, nodes, sources } from './cluster.js';
import { confirm } from './dialog.js';
import { h, note, put } from './dom.js';
import { ago, number, plural } from './format.js';
import { changeWords, planView, verdict } from './plan.js';

// What can be staged: which nodes it is about, and what else it takes.
const KINDS = {
  join: { title: 'Join', says: 'A candidate becomes a member. It is empty until its partitions have been copied.', node: 'candidate', fields: ['weight', 'zone'] },
  leave: { title: 'Leave', says: 'A member hands over what it has, and leaves.', node: 'member' },
  replace: { title: 'Replace', says: 'A candidate takes everything that a member has. Nothing else moves. The member may be dead.', node: 'member', fields: ['with'] },
  weight: { title: 'Set weight', says: 'Partitions are assigned in proportion to weight.', node: 'member', fields: ['weight'], needs: 'weight' },
  zone: { title: 'Set zone', says: 'Replicas are spread over as many zones as there are. Empty for unknown.', node: 'member', fields: ['zone'] },
  force_remove: { title: 'Force remove', says: 'A member that will not come back is removed, and its data given up.', node: 'member', fields: ['accept_data_loss'] },
};

let kind = 'join';
let message = null;
let busy = false;

export function build(root, [wanted] = []) {
  if (wanted in KINDS) kind = wanted;
  root.append(
    h('section.card', { 'aria-labelledby': 'stage-title' },
      h('div.card-head', {}, h('h2', { id: 'stage-title' }, 'Stage a change'), h('p.quiet.small', {}, 'Nothing happens until a plan is committed.')),
      h('div', { id: 'stage-form' })),
    h('div', { id: 'membership-message', role: 'status' }),
    h('section.card', { id: 'plan', 'aria-labelledby': 'plan-title' }));
  message = null;
}

export function render() {
  put(document.getElementById('stage-form'), stageForm());
  put(document.getElementById('membership-message'), message);
  put(document.getElementById('plan'), plan());
}

function stageForm() {
  const { byId } = nodes();
  const all = [...byId.values()];
  const options = (status) => all.filter((node) => node.status === status).map((node) => {
    // Two nodes may have one name as long as not both are members.
    const twice = all.filter((other) => other.name === node.name).length > 1;
    return h('option', { value: twice ? node.node : node.name, 'data-key': node.node }, node.name, node.zone ? ` · ${node.zone}` : '', node.reachable === false ? ' · unreachable' : '', twice ? ` · ${node.node.slice(0, 8)}` : '');
  });
  const { says, node, fields = [] } = KINDS[kind];
  const choices = options(node);
  const has = (field) => fields.includes(field);
  return h('form.stage', { onsubmit: stage },
    h('fieldset', {}, h('legend', { class: 'visually-hidden' }, 'Kind of change'),
      h('div.choice', {}, Object.entries(KINDS).map(([name, { title }]) => h('label', {}, h('input', { type: 'radio', name: 'kind', value: name, checked: name === kind, onchange: () => { kind = name; render(); } }), h('span', {}, title))))),
    h('p.quiet', {}, says),
    choices.length === 0
      ? h('p.empty', {}, node === 'candidate' ? 'There is no candidate. Start a new host with a seed of this cluster; it appears here.' : 'There are no members.')
      : h('div.line-form', { 'data-key': kind },
        h('label', {}, node === 'candidate' ? 'Candidate' : 'Member', h('select', { name: 'node', required: true }, choices)),
        has('with') && h('label', {}, 'With the candidate', h('select', { name: 'with', required: true }, options('candidate'))),
        has('weight') && h('label', {}, 'Weight', h('input', { name: 'weight', type: 'number', min: 1, max: 10_000, step: 1, required: KINDS[kind].needs === 'weight', placeholder: kind === 'join' ? 'its own' : '100' })),
        has('zone') && h('label', {}, 'Zone', h('input', { name: 'zone', maxlength: 64, autocomplete: 'off', spellcheck: 'false', placeholder: kind === 'join' ? 'its own' : 'unknown' })),
        has('accept_data_loss') && h('label.check', {}, h('input', { type: 'checkbox', name: 'accept_data_loss' }), h('span', {}, 'Accept that partitions which nobody else holds are lost')),
        h('button.main', { type: 'submit' }, 'Stage')));
}

// The body of `/v1/cluster/stage`.
function change({ elements }) {
  const node = elements.node.value;
  const text = (name) => elements[name]?.value.trim() ?? '';
  const weight = text('weight') === '' ? undefined : Number(text('weight'));
  switch (kind) {
    case 'join': return { join: { node, weight, zone: text('zone') || undefined } };
    case 'leave': return { leave: { node } };
    case 'replace': return { replace: { node, with: elements.with.value } };
    case 'weight': return { set: { node, weight } };
    case 'zone': return { set: { node, zone: text('zone') } };
    default: return { force_remove: { node, accept_data_loss: elements.accept_data_loss.checked } };
  }
}

function stage(event) {
  event.preventDefault();
  act(async () => {
    const { staged } = await askJson('v1/cluster/stage', { method: 'POST', json: change(event.target) });
    message = note('ok', `Staged; ${plural(staged.length, 'change')} in all.`);
    return staged.length;
  });
}

// Runs one action at a time, says how it ended, and asks for the news. The action returns how many
// changes are staged after it, where it knows.
async function act(action) {
  if (busy) return;
  busy = true;
  let staged;
  try {
    staged = await action();
  } catch (error) {
    if (!(error instanceof Failure)) console.error(error);
    message = note('bad', error.message);
  }
  busy = false;
  sources.cluster.anew((data) => { data.staged = staged ?? data.staged; });
  if (staged === 0) sources.plan.data = null;
  sources.plan.anew();
  render();
}

function plan() {
  const staged = sources.cluster.data?.staged ?? 0;
  const { data, at, error } = sources.plan;
  const head = (words, ...buttons) => h('div.card-head', {}, h('h2', { id: 'plan-title' }, 'Plan'), h('p.quiet.small', {}, words), h('div.buttons', {}, buttons));
  if (staged === 0 || gone(error)) return [head(''), h('p.quiet', {}, sources.cluster.data ? 'Nothing is staged.' : 'Asking for what is staged …')];
  const drop = h('button.plain', { type: 'button', onclick: dropAll }, 'Drop staged');
  if (!data || error) return [head(plural(staged, 'staged change'), drop), error ? note('bad', `There is no plan: ${error.message}`) : h('p.quiet', {}, 'Asking for the plan …')];
  const { byId } = nodes();
  const commit = h('button.main', { type: 'button', disabled: data.refusals.length > 0, onclick: commitPlan }, 'Commit …');
  return [
    head([h('code', {}, data.plan), ` on ring ${data.parent.split('-')[0]}, made `, ago(at)], verdict(data), drop, commit),
    planView(data, byId),
    replicasNote(data),
  ];
}

// Somebody else committed or dropped it; the number of staged changes will follow.
export const gone = (error) => error?.status === 409;

function replicasNote(data) {
  const n = defaults()?.n;
  return n && data.members_after < n && note('warn', `${plural(data.members_after, 'member')} cannot hold ${number(n)} copies of an object.`);
}

async function commitPlan() {
  const looked = sources.plan.data;
  const { byId } = nodes();
  const content = [
    h('ul.changes', {}, looked.changes.map((staged) => h('li', {}, changeWords(staged, byId)))),
    h('p', {}, looked.moves_total ? `${plural(looked.moves_total, 'replica')} will be copied while clients read and write.` : 'Nothing moves.'),
    looked.warnings.map((warning) => note('warn', warning.detail)),
    h('p.quiet.small', {}, 'Plan ', h('code', {}, looked.plan), '. If the membership has moved on since, nothing is done.'),
  ];
  if (!(await confirm('Commit this plan?', content, 'Commit'))) return;
  act(async () => {
    try {
      const { version } = await askJson('v1/cluster/commit', { method: 'POST', headers: { 'If-Match': `"${looked.plan}"` } });
      message = note('ok', `Committed: ring ${version.split('-')[0]}. `, h('a', { href: '#movement' }, 'See what moves'), '.');
      for (const name of ['ring', 'health']) sources[name].now();
      return 0;
    } catch (error) {
      if (error.status !== 412) throw error;
      message = note('warn', 'Nothing was done: the plan has changed since you looked at it. Look at the new one below.');
      return undefined;
    }
  });
}

async function dropAll() {
  const staged = sources.cluster.data?.staged ?? 0;
  if (!(await confirm('Drop what is staged?', h('p', {}, `${plural(staged, 'staged change')}, also those of others, will be forgotten. The cluster stays as it is.`), 'Drop', 'danger'))) return;
  act(async () => {
    await ask('v1/cluster/stage', { method: 'DELETE' });
    message = note('ok', 'Nothing is staged any more.');
    return 0;
  });
}
