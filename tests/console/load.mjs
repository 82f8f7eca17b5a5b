// Clients that read and write all the time, so that there is something to see.

const PAUSE_MS = 12;
const KEYS = 400;

export class Load {
  // `clients` of them at each of these routers.
  constructor(routers, clients = 2) {
    this.writes = true;
    this.working = true;
    this.clients = routers.flatMap((router) => Array.from({ length: clients }, () => this.#work(router)));
  }

  async #work(router) {
    for (let turn = 0; this.working; turn += 1) {
      const key = `${router}/v1/kv/sessions/user-${turn % KEYS}`;
      try {
        if (!this.writes || turn % 3 > 0) await this.#ask(key);
        else await this.#ask(key, { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ user: turn % KEYS, pages: turn, pad: 'x'.repeat(200) }) });
        if (this.writes && turn % 97 === 0) await this.#ask(key, { method: 'DELETE' });
      } catch {
        // A host is stopped on purpose.
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  async #ask(key, options) {
    const answer = await fetch(key, options);
    await answer.arrayBuffer();
  }

  async stop() {
    this.working = false;
    await Promise.all(this.clients);
  }
}
