// The console of a cluster that speaks TLS and asks its clients for API keys.

import assert from 'node:assert/strict';
import { Browser } from './browser.mjs';
import { Cluster } from './cluster.mjs';

const [, , playwright, chromium, binary, screenshots] = process.argv;

const cluster = await Cluster.start(binary, 3, 0, { secure: true });
const browser = await Browser.open({ playwright, chromium, screenshots }, cluster.router(), { ignoreHTTPSErrors: true });
const { page } = browser;

// Types a key where one is asked for.
async function use(key) {
  await page.locator('dialog[open] input').fill(key);
  await page.keyboard.press('Enter');
}

const steps = [
  ['without a key nothing is shown, and one is asked for', async () => {
    await page.goto(`${browser.origin}/console/#overview`);
    await browser.sees('dialog[open]', /asks for an API key/);
    assert.equal(await page.locator('#nodes tbody tr', { hasText: /host-/ }).count(), 0);
    await browser.shoot('key-asked');
    await use('atoll_nobody_nothing');
    await browser.sees('dialog[open]', /asks for an API key/);
    browser.forgive();
  }],
  ['a key is taken, sent, and kept for the tab', async () => {
    await use(await cluster.adminKey());
    await browser.sees('.tile', /Healthy/);
    await browser.sees('#nodes tbody tr', /host-3/);
    await page.reload();
    await browser.sees('.tile', /Healthy/);
    await browser.goTo('movement');
    await browser.sees('#exchanges tbody tr', /host-3/);
    await browser.sees('#behind', /replicas of every partition equal/);
    assert.equal(await page.locator('dialog[open]').count(), 0);
    browser.forgive();
    const other = await browser.context.newPage();
    await other.goto(`${browser.origin}/console/`);
    await other.locator('dialog[open]', { hasText: /asks for an API key/ }).waitFor();
    await other.close();
  }],
  ['a key without a scope is told what it may not see', async () => {
    const reader = await cluster.newKey('reader', 'read');
    const valid = async () => (await page.evaluate(async ([path, key]) => (await fetch(path, { headers: { Authorization: `Bearer ${key}` } })).status, ['../v1/cluster', reader])) === 200;
    await cluster.until('taken over by the router', valid);
    await page.getByRole('button', { name: 'API key' }).click();
    await use(reader);
    await browser.sees('dialog[open]', /The key does not allow this/);
    await page.keyboard.press('Escape');
    await browser.goTo('overview');
    await browser.sees('#nodes tbody tr', /host-3/);
    await browser.goTo('movement');
    await browser.sees('#alarms', /does not permit 'admin'/);
    await browser.shoot('key-of-a-reader');
    browser.forgive();
  }],
];

let holds = false;
try {
  holds = await browser.walk(steps);
  assert.deepEqual(browser.elsewhere, []);
} finally {
  await browser.close();
  await cluster.stop();
}
process.exit(holds ? 0 : 1);
