// Sources of data that are asked again and again: each with a pace, a timeout and a growing pause
// after failures. Nothing is asked while nobody looks, and the last answer stays with its age.

import { Failure, ask, askJson } from './api.js';

// Longest pause after failures.
const PAUSE_MAX_MS = 30_000;

export const changes = new EventTarget();

export class Source {
  // `wanted()` says whether the page in view needs the source; `tagged`: unchanged answers are
  // recognised by their entity tag, and not read again.
  constructor(name, path, { every, wanted = () => true, tagged = false }) {
    Object.assign(this, { name, path, every, wanted, tagged });
    Object.assign(this, { data: null, at: null, error: null, failures: 0, etag: null, asking: false, timer: null, due: 0, turn: 0 });
  }

  // Takes over what an action has just said, asks at once for the rest, and does not believe an
  // answer that is on its way since before.
  anew(change) {
    this.turn += 1;
    if (this.data) change?.(this.data);
    this.now();
  }

  // Asks at once, whatever the pace.
  now() {
    clearTimeout(this.timer);
    this.timer = null;
    if (document.hidden || !this.wanted()) return;
    if (this.asking) {
      this.again = true;
      return;
    }
    this.asking = true;
    this.#ask().finally(() => {
      this.asking = false;
      if (this.again) {
        this.again = false;
        this.now();
      } else {
        this.#plan();
      }
      changes.dispatchEvent(new CustomEvent('change', { detail: this.name }));
    });
  }

  // Asks when it is due; after the page was hidden or another one shown.
  wake() {
    if (this.timer === null && !this.asking) this.#plan(Math.max(0, this.due - Date.now()));
  }

  // Whether what is shown is older than it should be.
  get stale() {
    return this.at !== null && this.wanted() && Date.now() - this.at > 3 * this.every + 3000;
  }

  get retryIn() {
    return Math.max(0, this.due - Date.now());
  }

  async #ask() {
    const { turn } = this;
    try {
      const data = this.tagged ? await this.#askTagged() : await askJson(this.path);
      if (turn !== this.turn) return;
      Object.assign(this, { data, at: Date.now(), error: null, failures: 0 });
    } catch (error) {
      if (turn !== this.turn) return;
      // Anything but a Failure is a mistake in this page; it must show, too.
      if (!(error instanceof Failure)) console.error(error);
      this.error = error;
      this.failures += 1;
    }
  }

  async #askTagged() {
    const response = await ask(this.path, { headers: this.etag ? { 'If-None-Match': this.etag } : {} });
    if (response.status === 304) return this.data;
    const data = await response.json();
    this.etag = response.headers.get('ETag');
    return data;
  }

  #plan(pause = this.#pause()) {
    this.due = Date.now() + pause;
    if (document.hidden || !this.wanted()) return;
    this.timer = setTimeout(() => this.now(), pause);
  }

  #pause() {
    const grown = this.every * 2 ** Math.min(this.failures, 10);
    // Not all browsers at once after a router has restarted.
    return this.failures === 0 ? this.every : Math.min(grown, PAUSE_MAX_MS) * (0.8 + 0.4 * Math.random());
  }

  sleep() {
    clearTimeout(this.timer);
    this.timer = null;
  }
}

// Stops and starts all sources with the visibility of the page.
export function followVisibility(sources) {
  document.addEventListener('visibilitychange', () => {
    for (const source of sources) {
      if (document.hidden) source.sleep();
      else source.wake();
    }
    changes.dispatchEvent(new CustomEvent('change', { detail: 'visibility' }));
  });
}
