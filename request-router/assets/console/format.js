// Numbers, sizes and times for people: units always stated, the exact value on hover.

import { h } from './dom.js';

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat('en-US', { maximumFractionDigits: 1 });

export const number = (value) => (value === null || value === undefined ? '–' : whole.format(value));

export const plural = (value, singular, several = `${singular}s`) => `${number(value)} ${value === 1 ? singular : several}`;

export function bytes(value) {
  if (value === null || value === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  let left = value;
  while (left >= 1024 && unit < units.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? whole.format(left) : one.format(left)} ${units[unit]}`;
}

export function rate(value) {
  if (value === null || value === undefined) return '–';
  return value > 0 && value < 10 ? one.format(value) : whole.format(value);
}

export function latency(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms >= 1000) return `${one.format(ms / 1000)} s`;
  return `${ms < 1 ? ms.toFixed(2) : ms < 10 ? ms.toFixed(1) : whole.format(ms)} ms`;
}

export function duration(ms) {
  if (ms === null || ms === undefined) return '–';
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60 ? `${s % 60} s` : ''}`.trim();
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60) ? `${Math.floor((s % 3600) / 60)} min` : ''}`.trim();
  return `${Math.floor(s / 86400)} days`;
}

export const absolute = (at) => new Date(at).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'long' });

// "34 s ago", with the moment itself on hover.
export function ago(at, now = Date.now()) {
  if (at === null || at === undefined) return 'never';
  const moment = new Date(at);
  return h('time', { datetime: moment.toISOString(), title: absolute(moment) }, `${duration(now - moment)} ago`);
}

export function deviation(milli) {
  if (milli === null || milli === undefined) return '–';
  const percent = milli / 10;
  const shown = Math.abs(percent) < 10 ? one.format(Math.abs(percent)) : whole.format(Math.abs(percent));
  return `${percent > 0 ? '+' : percent < 0 ? '−' : ''}${shown} %`;
}

export const short = (id) => (id ? `${id.slice(0, 8)}…` : '–');
