// The console in a real browser, and what an operator sees of it. Steps say what holds; the first
// that does not ends the run with a picture of the page.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const PATIENCE_MS = 60_000;
export const DESKTOP = { width: 1360, height: 900 };

export class Browser {
  static async open({ playwright, chromium, screenshots }, origin, more = {}) {
    const browser = new Browser();
    browser.profile = await mkdtemp(join(tmpdir(), 'atoll-browser-'));
    const { chromium: launcher } = await import(playwright);
    browser.context = await launcher.launchPersistentContext(browser.profile, { executablePath: chromium, headless: true, args: FLAGS, viewport: DESKTOP, colorScheme: 'light', ...more });
    browser.context.setDefaultTimeout(PATIENCE_MS);
    const page = browser.context.pages()[0] ?? (await browser.context.newPage());
    Object.assign(browser, { page, origin, screenshots, complaints: [], elsewhere: [] });
    page.on('console', (message) => ['error', 'warning'].includes(message.type()) && browser.complaints.push(`${message.text()} (${message.location().url})`));
    page.on('pageerror', (error) => browser.complaints.push(`uncaught: ${error.stack}`));
    page.on('request', (request) => new URL(request.url()).origin === origin || browser.elsewhere.push(request.url()));
    return browser;
  }

  shoot(name, options = { fullPage: true }) {
    return this.page.screenshot({ path: join(this.screenshots, `${name}.png`), ...options });
  }

  // The same in both schemes of colour.
  async shootBoth(name) {
    await this.shoot(`${name}-light`);
    await this.page.emulateMedia({ colorScheme: 'dark' });
    await this.shoot(`${name}-dark`);
    await this.page.emulateMedia({ colorScheme: 'light' });
  }

  text(selector) {
    return this.page.locator(selector).textContent();
  }

  sees(selector, pattern) {
    return this.page.locator(selector).filter({ hasText: pattern }).first().waitFor();
  }

  seesNo(selector, pattern) {
    return this.page.locator(selector).filter({ hasText: pattern }).first().waitFor({ state: 'detached' });
  }

  tile(label) {
    return this.page.locator('.tile', { has: this.page.locator('dt', { hasText: label }) });
  }

  async goTo(name) {
    const link = (mark) => this.page.locator(`nav a${mark}`, { hasText: new RegExp(name, 'i') });
    await link('').click();
    await link('[aria-current]').waitFor();
  }

  // What the browser itself reports of a failed request is expected where a step makes it fail.
  forgive() {
    this.complaints.splice(0).filter((line) => !/Failed to load resource|ERR_/.test(line)).forEach((line) => assert.fail(line));
  }

  // Whether all steps hold.
  async walk(steps) {
    for (const [name, body] of steps) {
      const began = Date.now();
      try {
        await body();
        console.log(`ok ${name} (${Math.round((Date.now() - began) / 100) / 10} s)`);
      } catch (error) {
        console.error(`FAILED ${name}\n${error.stack}\ncomplaints: ${[...new Set(this.complaints.splice(0))].join('\n')}`);
        await this.shoot('failed').catch(() => {});
        return false;
      }
    }
    console.log(`all ${steps.length} steps hold; screenshots in ${this.screenshots}`);
    return true;
  }

  async close() {
    await this.context.close();
    await rm(this.profile, { recursive: true, force: true });
  }
}
