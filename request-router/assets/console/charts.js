// Small line charts of the last minutes. The figures beside them say the same in text.

import { h } from './dom.js';

export const SPAN_MS = 120_000;
const WIDTH = 240;
const HEIGHT = 44;

// What was seen since the page was opened, as far as it is drawn.
export class Trail {
  constructor() {
    this.points = [];
  }

  add(at, values) {
    if (this.points.at(-1)?.at === at) return;
    this.points.push({ at, values });
    while (this.points.length > 0 && at - this.points[0].at > SPAN_MS + 5000) this.points.shift();
  }
}

// A nice number at or above `value`, for the top of a scale.
export function top(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

// `lines`: {key, class}; a value of null, or a pause of more than a few seconds, is a gap.
export function sparkline(trail, lines, { now, label, format }) {
  const values = trail.points.flatMap((point) => lines.map((line) => point.values[line.key] ?? 0));
  const ceiling = top(Math.max(0, ...values));
  const x = (at) => WIDTH * (1 - (now - at) / SPAN_MS);
  const y = (value) => HEIGHT - 2 - (HEIGHT - 6) * (value / ceiling);
  const draw = (line) => {
    let d = '';
    let before = null;
    for (const point of trail.points) {
      const value = point.values[line.key];
      if (value === null || value === undefined || now - point.at > SPAN_MS) {
        before = null;
        continue;
      }
      const joined = before !== null && point.at - before < 6000;
      d += `${joined ? 'L' : 'M'}${x(point.at).toFixed(1)} ${y(value).toFixed(1)}`;
      before = point.at;
    }
    return h('path', { d, class: `line ${line.class}` });
  };
  return h('div.spark', {},
    h('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
      h('line.axis', { x1: 0, x2: WIDTH, y1: HEIGHT - 1.5, y2: HEIGHT - 1.5 }),
      h('line.axis.faint', { x1: 0, x2: WIDTH, y1: 4, y2: 4 }),
      lines.map(draw)),
    h('span.scale', { 'aria-hidden': 'true' }, format(ceiling)));
}
