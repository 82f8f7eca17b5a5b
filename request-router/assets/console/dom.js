// Elements from data, and bringing what is shown in line with what should be, so that focus,
// selection and what a person has opened stay as they are. Text is only ever set as text.

const SVG = 'http://www.w3.org/2000/svg';
const SVG_TAGS = new Set(['svg', 'g', 'path', 'circle', 'line', 'rect', 'text', 'pattern', 'defs', 'polyline', 'title']);

// An element: `h('td.num', {title: 'x'}, 'text', node, [more])`. Functions become listeners
// (`onclick`), `style` an object of CSS properties, false and null attributes are left out.
export function h(spec, attributes = {}, ...children) {
  const [tag, ...classes] = spec.split('.');
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (classes.length > 0) element.setAttribute('class', classes.join(' '));
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element[name] = value;
    else if (name === 'style') for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else if (name === 'class') element.classList.add(...value.split(' ').filter(Boolean));
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...flat(children));
  return element;
}

const flat = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

// Makes `children` the content of `parent`, keeping every element that need not change.
export function put(parent, ...children) {
  const fresh = flat(children).map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
  fresh.forEach((node, index) => {
    const old = parent.childNodes[index];
    if (old === undefined) parent.append(node);
    else if (old !== node) settle(parent, old, node);
  });
  while (parent.childNodes.length > fresh.length) parent.lastChild.remove();
}

const key = (node) => node.dataset?.key;

function settle(parent, old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || key(old) !== key(fresh)) {
    // A list that grew or shrank in the middle: reuse the element if it is further down.
    const later = key(fresh) && [...parent.children].find((child) => key(child) === key(fresh) && follows(old, child));
    if (!later) return void parent.insertBefore(fresh, old);
    parent.insertBefore(later, old);
    return settle(parent, later, fresh);
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return undefined;
  }
  if (old.isEqualNode(fresh)) return undefined;
  attributes(old, fresh);
  for (const listener of ['onclick', 'onsubmit', 'onchange', 'oninput', 'onpointerenter', 'onpointerleave', 'onfocus', 'onblur']) {
    if (fresh[listener] || old[listener]) old[listener] = fresh[listener];
  }
  if (!('own' in old.dataset)) put(old, ...fresh.childNodes);
  return undefined;
}

const follows = (first, second) => (first.compareDocumentPosition(second) & Node.DOCUMENT_POSITION_FOLLOWING) !== 0;

// What people change by themselves is theirs: whether details are open, what a field contains.
const THEIRS = new Set(['open', 'value', 'style']);

function attributes(old, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (!THEIRS.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!THEIRS.has(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  // The policy of the page forbids style attributes, and allows the object model.
  if (fresh.style && old.style.cssText !== fresh.style.cssText) old.style.cssText = fresh.style.cssText;
  if (fresh.nodeName === 'PROGRESS' && old.value !== fresh.value) old.value = fresh.value;
}

// A table with real rows and cells; on narrow screens each row becomes a block of labelled lines.
// `columns`: {head, label?, num?, sort?}; `rows`: {key, cells, attributes?}.
export function table({ caption, columns, rows, empty, sorted, onsort, compact }) {
  const head = columns.map((column, index) => {
    const direction = sorted?.column === index ? (sorted.down ? 'descending' : 'ascending') : column.sort ? 'none' : null;
    const label = column.sort && onsort
      ? h('button.sort', { type: 'button', onclick: () => onsort(index) }, column.head, h('span', { 'aria-hidden': 'true' }, { ascending: ' ▲', descending: ' ▼', none: '' }[direction]))
      : column.head;
    return h('th', { scope: 'col', role: 'columnheader', 'aria-sort': direction, class: column.num ? 'num' : '' }, label);
  });
  const body = rows.map(({ key: rowKey, cells, attributes: more }) =>
    h('tr', { role: 'row', 'data-key': rowKey, ...more },
      cells.map((cell, index) => h('td', { role: 'cell', class: columns[index].num ? 'num' : '', 'data-label': columns[index].label ?? columns[index].head }, cell))));
  if (rows.length === 0) body.push(h('tr', { role: 'row' }, h('td.quiet', { role: 'cell', colspan: columns.length }, empty ?? 'Nothing.')));
  return h('table', { role: 'table', class: compact ? 'cards compact' : 'cards' },
    h('caption', { class: 'visually-hidden' }, caption),
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, head)),
    h('tbody', { role: 'rowgroup' }, body));
}

export const swatch = (color, hollow) => h('span.swatch', { 'aria-hidden': 'true', class: hollow ? 'hollow' : '', style: { '--c': color } });

// A word of state with a mark of its own shape, so that colour is never alone.
const MARKS = { ok: '●', warn: '▲', bad: '■', wait: '◌', none: '–' };
export const state = (kind, text, title) =>
  h('span.state', { class: kind, title }, h('span', { 'aria-hidden': 'true' }, MARKS[kind]), ' ', text);

export const note = (kind, ...content) => h('div.note', { class: kind }, h('p', {}, content));
