// The one dialog: a key to type in, or something to confirm. The browser keeps the focus inside
// and gives it back.

import { key } from './api.js';
import { h, put } from './dom.js';

const dialog = document.getElementById('dialog');

// Shows a form; resolves to what `submit` returned, or to null.
function form(title, content, { action, kind = '', submit }) {
  return new Promise((resolve) => {
    let result = null;
    const onsubmit = (event) => {
      event.preventDefault();
      result = submit(event.target);
      dialog.close();
    };
    const cancel = h('button.plain', { type: 'button', onclick: () => dialog.close() }, 'Cancel');
    dialog.replaceChildren();
    put(dialog, h('form', { method: 'dialog', onsubmit },
      h('h2', { id: 'dialog-title' }, title), content,
      h('div.buttons', {}, cancel, h('button', { type: 'submit', class: `main ${kind}` }, action))));
    dialog.onclose = () => resolve(result);
    dialog.showModal();
  });
}

export const isOpen = () => dialog.open;

export const confirm = (title, content, action, kind) => form(title, content, { action, kind, submit: () => true });

// Asks for an API key. True where it was changed.
export async function askForKey(why) {
  const known = key.get();
  const field = h('input', { type: 'password', name: 'key', autocomplete: 'off', spellcheck: 'false', autofocus: true });
  field.value = known ?? '';
  const content = [
    why && h('p.note.warn', {}, why),
    h('label', {}, 'API key', field),
    h('p.quiet.small', {}, 'Sent as a bearer token with every request of this tab, and forgotten when the tab is closed. Membership needs the scope ', h('code', {}, 'admin'), ', the values of keys ', h('code', {}, 'read'), '. Leave it empty to send none.'),
  ];
  const typed = await form('API key', content, { action: 'Use this key', submit: (element) => ({ text: element.elements.key.value.trim() }) });
  if (typed === null || typed.text === (known ?? '')) return false;
  key.set(typed.text);
  return true;
}
