// A real `atoll dev` cluster on free ports in a directory of its own.

import { spawn, execFile } from 'node:child_process';
import { openSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

// Ports of one host, relative to its first, and the distance between hosts.
const OFFSETS = [0, 1, 10, 11, 20, 21, 30, 31];
const STRIDE = 100;

const free = (port) => new Promise((resolve) => {
  const server = createServer();
  server.once('error', () => resolve(false));
  server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
});

async function freeBlock(hosts) {
  for (let base = 31_000; base < 60_000; base += STRIDE * (hosts + 1)) {
    const ports = Array.from({ length: hosts }, (_, host) => OFFSETS.map((offset) => base + host * STRIDE + offset)).flat();
    const all = await Promise.all(ports.map(free));
    if (all.every(Boolean)) return base;
  }
  throw new Error('no free block of ports');
}

export class Cluster {
  // `room`: hosts that may be added later. `secure`: it speaks TLS and asks for API keys.
  static async start(binary, hosts, room, { secure = false } = {}) {
    const cluster = new Cluster();
    Object.assign(cluster, { binary, secure });
    cluster.dir = await mkdtemp(join(tmpdir(), 'atoll-console-'));
    cluster.base = await freeBlock(hosts + room);
    const log = openSync(join(cluster.dir, 'dev.log'), 'a');
    cluster.process = spawn(binary, ['dev', '--hosts', String(hosts), '--base-port', String(cluster.base), '--data', join(cluster.dir, 'data'), ...(secure ? ['--secure'] : [])], { stdio: ['ignore', log, log] });
    // However this process ends, its hosts end with it.
    process.once('exit', () => cluster.process.kill('SIGINT'));
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
    cluster.ended = new Promise((resolve) => cluster.process.once('exit', resolve));
    try {
      await cluster.until('healthy', async () => JSON.parse(await cluster.atoll('health', '--json')).status === 'healthy');
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  router(host = 1) {
    return `${this.secure ? 'https' : 'http'}://127.0.0.1:${this.base + (host - 1) * STRIDE}`;
  }

  async json(path, options) {
    const response = await fetch(this.router() + path, options);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  // Where a process of a host keeps its data.
  data(host, name) {
    return join(this.dir, 'data', `host-${host}`, name);
  }

  // The number of a process of a host.
  async pid(host, service) {
    const { stdout } = await this.dev('list', '--json');
    return JSON.parse(stdout).processes.find((one) => one.host === host && one.service === service).pid;
  }

  // The key that may do everything, where keys are asked for.
  async adminKey() {
    return (await readFile(join(this.dir, 'data', 'admin-key'), 'utf8')).trim();
  }

  // A further key, which may do only this.
  async newKey(name, scope) {
    const { stdout } = await run(this.binary, ['keys', 'new', name, '--file', join(this.dir, 'data', 'keys.json'), '--scope', scope]);
    return stdout.match(/atoll_\S+/)[0];
  }

  // What a command of the command line prints.
  async atoll(...words) {
    const access = this.secure ? ['--ca', join(this.dir, 'data', 'ca.crt'), '--api-key', await this.adminKey()] : [];
    const { stdout } = await run(this.binary, ['--endpoint', this.router(), ...access, ...words]);
    return stdout;
  }

  dev(...words) {
    return run(this.binary, ['dev', ...words, '--data', join(this.dir, 'data')]);
  }

  // Waits until `holds` is true; what it throws meanwhile is part of the story.
  async until(what, holds, patienceMs = 90_000) {
    const end = Date.now() + patienceMs;
    let last = null;
    while (Date.now() < end) {
      if (this.process.exitCode !== null) throw new Error(`the cluster ended:\n${await this.log()}`);
      try {
        if (await holds()) return;
      } catch (error) {
        last = error;
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`not ${what} after ${patienceMs / 1000} s${last ? `: ${last.message}` : ''}`);
  }

  log() {
    return readFile(join(this.dir, 'dev.log'), 'utf8');
  }

  async stop() {
    if (this.process.exitCode === null) this.process.kill('SIGINT');
    await this.ended;
    await rm(this.dir, { recursive: true, force: true });
  }
}
