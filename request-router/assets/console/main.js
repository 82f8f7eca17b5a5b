// Puts the page together: which part is in view, and drawing it when something has changed.

import { keyWanted } from './api.js';
import { sources, show, start } from './cluster.js';
import { askForKey, isOpen } from './dialog.js';
import { h, put } from './dom.js';
import * as keys from './keys.js';
import * as membership from './membership.js';
import * as movement from './movement.js';
import * as overview from './overview.js';
import { changes } from './poll.js';
import { showStatus } from './status.js';

const PAGES = {
  overview: { title: 'Overview', part: overview },
  movement: { title: 'Movement', part: movement },
  keys: { title: 'Keys', part: keys },
  membership: { title: 'Membership', part: membership },
};

const content = document.getElementById('content');
let current = null;

// `#page/word/word`
function place() {
  const [page, ...words] = location.hash.slice(1).split('/');
  const decode = (word) => {
    try {
      return decodeURIComponent(word);
    } catch {
      return word;
    }
  };
  return page in PAGES ? [page, words.map(decode)] : ['overview', []];
}

function open() {
  const [page, words] = place();
  const moved = current !== null && current !== page;
  current = page;
  content.replaceChildren(h('h2.visually-hidden', {}, PAGES[page].title));
  PAGES[page].part.build(content, words);
  put(document.getElementById('pages'), Object.entries(PAGES).map(([name, { title }]) =>
    h('li', { 'data-key': name }, h('a', { href: `#${name}`, 'aria-current': name === page ? 'page' : null }, title))));
  show(page);
  draw();
  if (moved) content.focus({ preventScroll: true });
}

let planned = false;

// At most once per frame, whatever comes in.
function draw() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    showStatus();
    PAGES[current].part.render();
  });
}

changes.addEventListener('change', ({ detail }) => {
  if (detail === 'stats') overview.remember();
  // A plan is there as soon as something is staged.
  if (detail === 'cluster' && sources.plan.wanted()) sources.plan.wake();
  draw();
});

// Ages grow by themselves.
setInterval(() => {
  if (!document.hidden) draw();
}, 1000);

async function typeKey(why) {
  if (isOpen()) return;
  if (await askForKey(why)) {
    refused = 0;
    for (const source of Object.values(sources)) source.now();
    keys.again();
  }
}

// Asked for once by itself; who closed the dialog finds the button.
let refused = 0;
keyWanted.addEventListener('wanted', ({ detail }) => {
  refused += 1;
  if (refused === 1) typeKey(detail.status === 401 ? 'This cluster asks for an API key.' : `The key does not allow this: ${detail.message}`);
});

document.addEventListener('click', (event) => {
  const action = event.target.closest?.('[data-act]')?.dataset.act;
  if (action === 'key') typeKey();
  if (action === 'skip') {
    event.preventDefault();
    content.focus();
  }
});

addEventListener('hashchange', open);
open();
start();
