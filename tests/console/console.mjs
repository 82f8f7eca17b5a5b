// The console as an operator uses it, in a real browser, on a real cluster.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { Browser, DESKTOP } from './browser.mjs';
import { Cluster } from './cluster.mjs';
import { largeCluster } from './large.mjs';
import { Load } from './load.mjs';

const [, , playwright, chromium, binary, screenshots] = process.argv;
const curl = promisify(execFile).bind(null, 'curl');

const PHONE = { width: 360, height: 780 };
const PAGES = ['overview', 'movement', 'keys', 'membership'];

const cluster = await Cluster.start(binary, 3, 1);
const origin = cluster.router();
const browser = await Browser.open({ playwright, chromium, screenshots }, origin);
const { page, complaints, elsewhere } = browser;
const shoot = (name, options) => browser.shoot(name, options);
const text = (selector) => browser.text(selector);
const sees = (selector, pattern) => browser.sees(selector, pattern);
const tile = (label) => browser.tile(label);
const goTo = (name) => browser.goTo(name);
const forgive = () => browser.forgive();

const steps = [];
const step = (name, body) => steps.push([name, body]);

step('the page loads, says that all is well, and asks nobody but its router', async () => {
  await page.goto(`${origin}/console`);
  assert.equal(page.url(), `${origin}/console/`);
  await sees('.tile', /Healthy/);
  await sees('#nodes tbody tr', /host-3/);
  await sees('#requests .operation', /Writes/);
  assert.match(await tile('Partitions complete').innerText(), /64\s+of 64/);
  assert.match(await text('#freshness'), /live/);
  assert.deepEqual(complaints, []);
  assert.deepEqual(elsewhere, []);
});

step('the ring has every replica of every partition, as a picture and as a table', async () => {
  const { partitions, members } = await cluster.json('/v1/cluster');
  const slices = await page.locator('#ring-picture .slices path').evaluateAll((paths) => paths.map((path) => path.getAttribute('d').split('M').length - 1));
  assert.equal(slices.reduce((sum, count) => sum + count, 0), partitions * 3);
  assert.equal(await page.locator('.ring-frame').getAttribute('aria-valuemax'), String(partitions - 1));
  await page.getByText('The ring as a table').click();
  assert.equal(await page.locator('#ring-table tbody tr').count(), partitions);
  for (const member of members) assert.match(await text('#ring-table tbody'), new RegExp(member.name));
  await page.getByText('The ring as a table').click();
  const first = page.locator('#ring-nodes button').first();
  await first.hover();
  assert.equal(await page.locator('#ring-picture .slices.lit').count(), 1);
  await page.mouse.move(0, 0);
  await page.locator('.ring:not(.one)').first().waitFor();
});

step('requests and the load of the nodes are shown', async () => {
  await page.waitForFunction(() => Number.parseFloat(document.querySelector('.operation .big')?.textContent) > 0);
  await sees('#nodes', /operations/);
  // Until there is a course to be seen.
  await page.waitForFunction(() => document.querySelector('.operation path.rate')?.getAttribute('d').split(/[ML]/).length > 12);
  await shoot('overview-light');
  await page.emulateMedia({ colorScheme: 'dark' });
  const light = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).map(Number));
  assert.ok(Math.max(...light) < 60, `the ground is dark: ${light}`);
  await shoot('overview-dark');
  await page.emulateMedia({ colorScheme: 'light' });
});

step('a host that is stopped is shown as unreachable, and comes back', async () => {
  await cluster.dev('stop', '2');
  await sees('#nodes tbody tr', /host-2[\s\S]*unreachable/);
  await sees('.tile', /Degraded/);
  await sees('#ring-nodes li', /host-2[\s\S]*unreachable/);
  await shoot('host-stopped');
  await goTo('movement');
  await sees('#hints tbody tr', /host-2/);
  await shoot('hints');
  await cluster.dev('start', '2');
  await goTo('overview');
  await sees('.tile', /Healthy/);
  assert.doesNotMatch(await text('#nodes tbody'), /unreachable/);
});

step('two concurrent writers are two siblings, side by side', async () => {
  const put = (host, value) => curl(['-sS', '-f', '-X', 'PUT', `${cluster.router(host)}/v1/kv/carts/alice`, '-H', 'Content-Type: application/json', '-d', JSON.stringify(value)]);
  await Promise.all([put(1, { owner: 'alice', items: [{ book: 'Dynamo', amount: 1 }] }), put(2, { owner: 'alice', items: [{ pen: 'blue', amount: 3 }] })]);
  await goTo('keys');
  await page.getByLabel('Bucket').fill('carts');
  await page.getByLabel('Key', { exact: true }).fill('alice');
  await page.getByRole('button', { name: 'Explain' }).click();
  await sees('#versions-title', /2 siblings/);
  await sees('.sibling pre', /Dynamo/);
  await sees('.sibling pre', /blue/);
  const boxes = await page.locator('.sibling').evaluateAll((all) => all.map((element) => element.getBoundingClientRect().toJSON()));
  assert.equal(boxes.length, 2);
  assert.ok(boxes[0].top === boxes[1].top && boxes[1].left >= boxes[0].right, 'beside each other');
  assert.match(await text('#key-answer table'), /primary[\s\S]*reachable[\s\S]*has it/);
  await shoot('explain');
  assert.match(page.url(), /#keys\/carts\/alice$/);
  await page.reload();
  await sees('#versions-title', /2 siblings/);
  // A key of any characters, among them those that browsers take apart in paths.
  const odd = '../ä?#%2F <b>+';
  await fetch(`${origin}/v1/kv/carts/${encodeURIComponent(odd)}`, { method: 'PUT', body: '<script>alert(1)</script>' });
  await page.getByLabel('Key', { exact: true }).fill(odd);
  await page.getByRole('button', { name: 'Explain' }).click();
  await sees('.sibling pre', '<script>alert(1)</script>');
  await page.getByLabel('Key', { exact: true }).fill('nobody');
  await page.getByRole('button', { name: 'Explain' }).click();
  await sees('#versions-title', /Nothing is stored/);
  assert.deepEqual(complaints, []);
});

step('a new host joins by stage, plan and commit, and gets its partitions', async () => {
  await goTo('membership');
  await sees('#stage-form', /no candidate/);
  await cluster.dev('add-host');
  await page.locator('select[name=node] option', { hasText: 'host-4' }).waitFor({ state: 'attached' });
  await page.getByRole('button', { name: 'Stage', exact: true }).click();
  await sees('#plan', /host-4 joins/);
  await page.getByRole('button', { name: 'Drop staged' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Drop' }).click();
  await sees('#plan', /Nothing is staged/);
  await page.getByRole('button', { name: 'Stage', exact: true }).click();
  await sees('#plan', /host-4 joins/);
  await page.locator('svg.ring[aria-label^="The ring after"] .hatched').first().waitFor();
  await shoot('plan');
  await page.getByRole('button', { name: 'Commit …' }).click();
  await sees('dialog', /replicas will be copied/);
  await shoot('commit', {});
  const pending = sees('.tile', /Pending moves\s*[1-9]/);
  await page.getByRole('dialog').getByRole('button', { name: 'Commit' }).click();
  await sees('#membership-message', /Committed: ring/);
  await pending;
  await goTo('movement');
  await sees('#moves tbody tr', /host-4/);
  await shoot('moving');
  await sees('.tile', /Pending moves\s*0/);
  await goTo('overview');
  await sees('#nodes tbody tr', /host-4[\s\S]*member/);
  await sees('.tile', /Healthy/);
  assert.match(await tile('Nodes reachable').innerText(), /4\s+of 4/);
  assert.deepEqual(complaints, []);
});

step('a plan that has moved on is not committed', async () => {
  await goTo('membership');
  const stage = (json) => cluster.json('/v1/cluster/stage', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(json) });
  await page.locator('label', { hasText: 'Set weight' }).click();
  await page.getByLabel('Weight', { exact: true }).fill('150');
  await page.getByRole('button', { name: 'Stage', exact: true }).click();
  await sees('#plan', /host-1 gets weight 150/);
  await page.getByRole('button', { name: 'Commit …' }).click();
  await stage({ set: { node: 'host-2', weight: 120 } });
  await page.getByRole('dialog').getByRole('button', { name: 'Commit' }).click();
  await sees('#membership-message', /Nothing was done/);
  await sees('#plan', /host-2 gets weight 120/);
  await page.locator('label', { hasText: 'Leave' }).click();
  await page.getByRole('button', { name: 'Stage', exact: true }).click();
  await sees('#membership-message', /./);
  await cluster.json('/v1/cluster/stage', { method: 'DELETE' });
  await sees('#plan', /Nothing is staged/);
  forgive();
});

step('everything can be done with the keyboard', async () => {
  await page.goto(`${origin}/console/#overview`);
  await page.reload();
  await sees('.tile', /Healthy/);
  const focused = () => page.evaluate(() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    return { text: element.textContent.trim().slice(0, 40), label: element.getAttribute('aria-label'), role: element.getAttribute('role') ?? element.nodeName.toLowerCase(), outline: style.outlineStyle !== 'none' || element.matches('.choice input') };
  });
  const walk = [];
  for (let press = 0; press < 60; press += 1) {
    await page.keyboard.press('Tab');
    const at = await focused();
    if (at.role === 'body') break;
    assert.ok(at.outline, `the focus is visible on ${JSON.stringify(at)}`);
    walk.push(at.label ?? at.text);
  }
  for (const [index, wanted] of ['Skip to the content', 'Overview', 'Movement', 'Keys', 'Membership', 'API key'].entries()) assert.equal(walk[index], wanted);
  for (const wanted of ['Partition', /^host-1/, 'The ring as a table', 'last 30 minutes', /^Node/]) {
    assert.ok(walk.some((name) => (typeof wanted === 'string' ? name === wanted : wanted.test(name))), `${wanted} is reached: ${walk}`);
  }
  await page.locator('.ring-frame').focus();
  for (const [press, value] of [['Home', '0'], ['ArrowRight', '1'], ['ArrowLeft', '0'], ['ArrowLeft', '63'], ['PageUp', '15']]) {
    await page.keyboard.press(press);
    assert.equal(await page.locator('.ring-frame').getAttribute('aria-valuenow'), value);
  }
  assert.match(await page.locator('.ring-frame').getAttribute('aria-valuetext'), /^Partition 15: host-\d, host-\d, host-\d$/);
  // The dialog keeps the focus, and gives it back.
  await page.getByRole('button', { name: 'API key' }).focus();
  await page.keyboard.press('Enter');
  await page.locator('dialog input').waitFor();
  for (let press = 0; press < 8; press += 1) {
    await page.keyboard.press('Tab');
    const inside = await page.evaluate(() => document.activeElement === document.body || document.getElementById('dialog').contains(document.activeElement));
    assert.ok(inside, 'the focus stays in the dialog');
  }
  await page.keyboard.press('Escape');
  assert.equal((await focused()).text, 'API key');
  // Through the pages and to a staged change.
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Enter');
  await sees('#stage-title', /Stage/);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'content', 'the new page has the focus');
  await page.keyboard.press('Tab');
  await page.keyboard.press('ArrowRight');
  await sees('#stage-form', /A member hands over/);
  assert.equal(await page.evaluate(() => document.activeElement.value), 'leave', 'the focus stays on the choice');
  assert.deepEqual(complaints, []);
});

step('a phone shows all of it without scrolling sideways', async () => {
  await page.setViewportSize(PHONE);
  for (const name of PAGES) {
    await page.goto(`${origin}/console/#${name}${name === 'keys' ? '/carts/alice' : ''}`);
    if (name === 'keys') await sees('.sibling', /Dynamo/);
    await page.waitForFunction(() => !/Asking /.test(document.getElementById('content').textContent));
    const wide = await page.evaluate(() => [...document.querySelectorAll('body *')].filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest('.visually-hidden, thead, svg')).map((element) => element.outerHTML.slice(0, 120)));
    const width = await page.evaluate(() => document.scrollingElement.scrollWidth);
    assert.ok(width <= PHONE.width, `${name} is ${width} px wide: ${wide.slice(0, 4).join('\n')}`);
    await shoot(`phone-${name}`);
  }
  await page.setViewportSize(DESKTOP);
  assert.deepEqual(complaints, []);
});

step('an endpoint that fails is said, and the rest stays', async () => {
  await page.goto(`${origin}/console/#overview`);
  await sees('#requests .operation', /Reads/);
  await sees('#nodes tbody tr', /host-1/);
  await page.route('**/v1/stats', (route) => route.fulfill({ status: 503, contentType: 'application/problem+json', body: JSON.stringify({ title: 'Overloaded', status: 503, code: 'overloaded', detail: 'too many requests' }) }));
  await sees('#alarms', /request rates: too many requests \(503 overloaded\)/);
  assert.match(await text('#nodes'), /host-1/);
  await page.route('**/v1/**', (route) => route.abort());
  await sees('#alarms', /The router does not answer[\s\S]*What is shown is from/);
  await sees('#freshness', /stale/);
  assert.match(await text('#nodes'), /host-1/);
  await shoot('stale');
  await page.reload();
  await sees('#alarms', /does not answer/);
  assert.match(await text('#strip'), /Status/);
  await page.unroute('**/v1/**');
  await page.unroute('**/v1/stats');
  await page.getByRole('button', { name: 'Try now' }).click();
  await sees('#freshness', /live/);
  await page.waitForFunction(() => document.getElementById('alarms').textContent === '');
  forgive();
});

step('nothing is asked while nobody looks', async () => {
  const look = (hidden) => page.evaluate((value) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => value });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
  await look(true);
  let asked = 0;
  const count = () => { asked += 1; };
  page.on('request', count);
  // The longest pause between two questions of a source.
  await page.waitForTimeout(5000);
  assert.equal(asked, 0);
  assert.match(await text('#freshness'), /paused/);
  await look(false);
  await sees('#freshness', /live/);
  assert.ok(asked > 0);
  page.off('request', count);
});

step('hundreds of nodes and 1,024 partitions stay usable', async () => {
  const large = largeCluster(300, 1024, 6);
  for (const [path, body] of Object.entries(large)) {
    await page.route(`**${path}`, (route) => route.fulfill({ contentType: 'application/json', headers: { etag: '"large"' }, body: JSON.stringify(body) }));
  }
  await page.goto(`${origin}/console/#overview`);
  await page.reload();
  await sees('#nodes tbody tr', /node-300/);
  assert.equal(await page.locator('#nodes tbody tr').count(), 300);
  const slices = await page.locator('#ring-picture .slices').count();
  assert.equal(slices, 300);
  await page.getByPlaceholder('Name, zone or state').fill('unreachable');
  await page.waitForFunction(() => document.querySelectorAll('#nodes tbody tr').length === 3);
  await page.getByPlaceholder('Name, zone or state').fill('');
  await page.getByRole('button', { name: /^Zone/ }).click();
  await page.waitForFunction(() => document.querySelector('#nodes tbody tr').textContent.includes('zone-a'));
  const took = await page.evaluate(async () => {
    const times = [];
    for (let round = 0; round < 5; round += 1) {
      const begin = performance.now();
      await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
      times.push(Math.round(performance.now() - begin));
    }
    return times;
  });
  console.log(`   frames with 300 nodes: ${took.join(', ')} ms`);
  await shoot('large', {});
  await page.goto(`${origin}/console/#movement`);
  await sees('#moves tbody tr', /node-/);
  assert.deepEqual(complaints, []);
});

async function zones() {
  for (const [index, zone] of ['north', 'south', 'west'].entries()) {
    await cluster.json('/v1/cluster/stage', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ set: { node: `host-${index + 1}`, zone } }) });
  }
  const { plan } = await cluster.json('/v1/cluster/plan');
  await cluster.json('/v1/cluster/commit', { method: 'POST', headers: { 'If-Match': `"${plan}"` } });
  await cluster.until('settled', async () => {
    const health = await cluster.json('/v1/cluster/health');
    return health.status === 'healthy' && health.pending_moves === 0;
  });
}

let holds = false;
try {
  await zones();
  const load = new Load([cluster.router(1)]);
  holds = await browser.walk(steps);
  await load.stop();
} finally {
  await browser.close();
  await cluster.stop();
}
process.exit(holds ? 0 : 1);
