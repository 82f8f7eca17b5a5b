// Three questions that a new operator answers from the console alone: which host is slow, which
// partition is behind, and (in console.mjs) why a key has siblings. Each fault is a real one.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, open, rename, rm, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Browser } from './browser.mjs';
import { Cluster } from './cluster.mjs';
import { Load } from './load.mjs';

const [, , playwright, chromium, binary, screenshots] = process.argv;
const run = promisify(execFile);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A slow host stands still for most of the time, and never so long that it counts as away.
const STILL_MS = 350;
const AWAKE_MS = 150;
const SLOW_HOST = 2;

const FULL_HOST = 3;
const SMALL_DISK = '64m';
// Left on the full disk: too little for values, enough for deletes.
const LEFT_BYTES = 2 * 1024 * 1024;
const KEYS_BEHIND = 12;

const cluster = await Cluster.start(binary, 3, 0);
const browser = await Browser.open({ playwright, chromium, screenshots }, cluster.router());
const { page } = browser;
const load = new Load([cluster.router(1), cluster.router(3)], 3);
const row = (table, pattern) => page.locator(`${table} tbody tr`).filter({ hasText: pattern });
const cell = (host, label) => row('#nodes', new RegExp(`^host-${host}`)).locator(`td[data-label="${label}"]`);

// Stops and continues one process over and over, until it is told to end.
class Stutter {
  constructor(pid) {
    this.pid = pid;
    this.going = true;
    this.ended = this.#go();
  }

  async #go() {
    while (this.going) {
      process.kill(this.pid, 'SIGSTOP');
      await pause(STILL_MS);
      process.kill(this.pid, 'SIGCONT');
      await pause(AWAKE_MS);
    }
  }

  async end() {
    this.going = false;
    await this.ended;
  }
}

// What is to be undone however a step ends.
let undo = async () => {};

async function slowHost() {
  await page.goto(`${browser.origin}/console/#overview`);
  for (const host of [1, 2, 3]) await cell(host, 'p99 for its peers').filter({ hasText: /ms$/ }).waitFor();
  await browser.tile('Nodes reachable').filter({ hasText: /all of them/ }).waitFor();
  const stutter = new Stutter(await cluster.pid(SLOW_HOST, 'storage-node'));
  undo = () => stutter.end();

  await browser.tile('Nodes reachable').filter({ hasText: /host-2 is slow/ }).waitFor();
  await cell(SLOW_HOST, 'Reachable').filter({ hasText: /slow/ }).waitFor();
  await browser.sees('#ring-nodes li', /host-2.*slow/);
  assert.equal(await row('#nodes', /slow/).count(), 1, 'nobody else is called slow, though the slow one finds everybody so');
  const worst = await page.locator('#nodes tbody .warn-text').allTextContents();
  assert.equal(worst.length, 1);
  // Sorting by the figure brings it to the top: with the keyboard alone.
  const head = page.getByRole('button', { name: 'p99 for its peers' });
  await head.focus();
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await page.locator('#nodes th[aria-sort="descending"]').waitFor();
  assert.match(await page.locator('#nodes tbody tr').first().textContent(), /host-2/);
  await browser.shootBoth('fault-slow-host');
  await page.keyboard.press('Enter');
  assert.match(await cluster.atoll('peers'), /^slow over the last 30 s: host-2$/m);

  await stutter.end();
  await browser.tile('Nodes reachable').filter({ hasText: /all of them/ }).waitFor();
  await cell(SLOW_HOST, 'Reachable').filter({ hasText: /reachable/ }).waitFor();
  assert.equal(await row('#nodes', /slow/).count(), 0);
  assert.match(await cluster.atoll('peers'), /^no host stands out/m);
}

// Moves the data of a host's storage node to a small disk of its own.
async function toSmallDisk(host) {
  const data = cluster.data(host, 'storage');
  await cluster.dev('stop', String(host));
  await rename(data, `${data}-before`);
  await mkdir(data);
  await run('mount', ['-t', 'tmpfs', '-o', `size=${SMALL_DISK}`, 'tmpfs', data]);
  undo = async () => {
    await cluster.dev('stop', String(host));
    await run('umount', [data]);
  };
  await run('cp', ['-a', `${data}-before/.`, data]);
  await rm(`${data}-before`, { recursive: true });
  await cluster.dev('start', String(host));
  return data;
}

// Takes nearly all that is left of a disk. Returns the file that does.
async function fill(folder) {
  const path = join(folder, 'filler');
  const { bavail, bsize } = await statfs(folder);
  const file = await open(path, 'w');
  try {
    const block = Buffer.alloc(64 * 1024);
    for (let left = bavail * bsize - LEFT_BYTES; left > 0; left -= block.length) await file.write(block);
  } finally {
    await file.close();
  }
  return path;
}

// Keys whose place on the ring is one partition, by the rule of the ring itself.
function keysOfOnePartition(bucket, partitions, count) {
  const place = (key) => createHash('md5').update(`${bucket}\0${key}`).digest().readUInt32BE(0) >>> (32 - Math.log2(partitions));
  const partition = place('order-0');
  const keys = [];
  for (let number = 0; keys.length < count; number += 1) if (place(`order-${number}`) === partition) keys.push(`order-${number}`);
  return { partition, keys };
}

async function partitionBehind() {
  // Only reads from now on: what is written is written by this step.
  load.writes = false;
  const disk = await toSmallDisk(FULL_HOST);
  const moved = Date.now();
  await cluster.until('found equal since', async () => {
    const { silent, lag_ms: lag, partitions_behind: behind } = await cluster.json('/v1/anti-entropy?summary=true');
    return silent === 0 && behind === 0 && lag !== undefined && lag < Date.now() - moved;
  });
  const filler = await fill(disk);
  await browser.goTo('overview');
  await cell(FULL_HOST, 'Reachable').filter({ hasText: /store full/ }).waitFor();
  await browser.tile('All replicas equal').filter({ hasText: /asked/ }).waitFor();

  const { partitions } = await cluster.json('/v1/cluster');
  const { partition, keys } = keysOfOnePartition('orders', partitions, KEYS_BEHIND);
  assert.equal((await cluster.json(`/v1/ring/preference?bucket=orders&key=${keys[1]}`)).partition, partition);
  for (const key of keys) {
    const answer = await fetch(`${cluster.router()}/v1/kv/orders/${key}`, { method: 'PUT', body: 'x'.repeat(500) });
    assert.equal(answer.status, 204, 'the cluster takes writes all the same');
  }
  const sign = browser.tile('All replicas equal').getByRole('link', { name: '1 partition behind' });
  await sign.focus();
  await page.keyboard.press('Enter');
  // Once both of the others were compared with it.
  await browser.sees('#behind tbody tr', /differs[^]*host-1, host-2/);
  assert.equal(await page.locator('#behind tbody tr').count(), 1);
  const said = await page.locator('#behind tbody td').evaluateAll((cells) => Object.fromEntries(cells.map((one) => [one.dataset.label, one.textContent])));
  assert.equal(said.Partition, String(partition));
  assert.equal(said['Replica to look at'], 'host-3');
  assert.equal(said['Apart from'], 'host-1, host-2');
  assert.match(said['Last equal'], / ago$/);
  assert.match(said.Why, /host-3: store full/);
  await browser.sees('#hints tbody tr', /host-3/);
  await browser.shootBoth('fault-partition-behind');
  const printed = await cluster.atoll('anti-entropy');
  assert.match(printed, /^partitions behind 1$/m);
  assert.match(printed, new RegExp(`\\b${partition}\\b.*differs.*host-3.*host-1, host-2`));

  await unlink(filler);
  await browser.sees('#behind', /replicas of every partition equal/);
  await browser.tile('All replicas equal').filter({ hasText: /asked/ }).waitFor();
  await browser.sees('#hints', /No write waits for a node/);
  await browser.goTo('overview');
  await cell(FULL_HOST, 'Reachable').filter({ hasText: /reachable/ }).waitFor();
  // Ends with failure where replicas differ.
  await cluster.atoll('verify', '--bucket', 'orders');
}

async function faced(fault) {
  undo = async () => {};
  try {
    await fault();
  } finally {
    await undo();
  }
  assert.deepEqual(browser.complaints, []);
}

let holds = false;
try {
  holds = await browser.walk([
    ['a host that is slow is named, and no longer when it is well', () => faced(slowHost)],
    ['a partition that is behind is named with the replica that lags, and no longer when it has caught up', () => faced(partitionBehind)],
  ]);
  await load.stop();
} finally {
  await browser.close();
  await cluster.stop();
}
process.exit(holds ? 0 : 1);
