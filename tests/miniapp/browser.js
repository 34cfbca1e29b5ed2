// A real Chromium, watched: what it complains about and what it asks of other hosts is kept.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import axe from 'axe-core';
import readQr from 'jsqr';
import { chromium } from 'playwright-core';
import { PNG } from 'pngjs';

import { address } from './init-data.js';

const PROGRAM = process.env.CHROMIUM ?? '/usr/bin/chromium';
// A sandbox of Chromium's own needs rights that containers do not have. Nothing but the page is opened.
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

export const SIZES = {
  narrow: { width: 320, height: 568 },
  phone: { width: 390, height: 844 },
  desktop: { width: 1100, height: 760 },
};

const pictures = process.env.USM_SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'usm-screenshots-'));
mkdirSync(pictures, { recursive: true });

/** With a profile of its own, which goes when it is closed. */
export const launch = () => chromium.launch({ executablePath: PROGRAM, args: FLAGS, headless: true });

/** A person at the page: opens it as Telegram would. */
export async function open(browser, origin, { size = 'phone', language = 'en-US', app, data, theme, before } = {}) {
  const context = await browser.newContext({ viewport: SIZES[size], locale: language, deviceScaleFactor: 2 });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const complaints = watch(page, origin);
  await before?.(page);
  await page.goto(address(origin, { data, theme, app }));
  return new Visit(page, context, complaints);
}

function watch(page, origin) {
  const complaints = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) {
      complaints.push(`${message.type()}: ${message.text()} (${new URL(message.location().url || origin).pathname})`);
    }
  });
  page.on('pageerror', (error) => complaints.push(`uncaught: ${error.message}`));
  page.on('request', (request) => {
    const { protocol, origin: asked } = new URL(request.url());
    if (protocol !== 'data:' && asked !== origin) {
      complaints.push(`asked of another host: ${request.url()}`);
    }
  });
  return complaints;
}

class Visit {
  constructor(page, context, complaints) {
    Object.assign(this, { page, context, complaints });
  }

  get code() {
    return this.page.getByRole('img', { name: /QR/ });
  }

  get open() {
    return this.page.getByRole('link', { name: /Open in Telegram|Открыть в Telegram/ });
  }

  get field() {
    return this.page.locator('input#password');
  }

  async link() {
    return this.open.getAttribute('href');
  }

  /** What a phone's camera sees: the code as it is on the screen. */
  async seen() {
    await this.page.locator('.screen').evaluate((screen) => Promise.all(screen.getAnimations().map((one) => one.finished)));
    const { data, width, height } = PNG.sync.read(await this.page.screenshot({ fullPage: true }));
    return readQr(new Uint8ClampedArray(data), width, height, { inversionAttempts: 'dontInvert' })?.data;
  }

  /** Waits for the end and gives its words. */
  async ending(outcome, limit = 20_000) {
    await this.page.locator(`[data-outcome=${outcome}]`).waitFor({ timeout: limit });
    return this.page.locator('#page').innerText();
  }

  async picture(name) {
    await this.page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
  }

  /** Nothing sticks out to the side. */
  async fits() {
    const [wide, seen, widest] = await this.page.evaluate(() => [
      document.documentElement.scrollWidth,
      document.documentElement.clientWidth,
      Math.max(...Array.from(document.querySelectorAll('main *'), (one) => one.getBoundingClientRect().right)),
    ]);
    assert.ok(wide <= seen && widest <= seen, `${wide} and ${widest} of ${seen} px`);
  }

  /** Names, roles, contrast and more, by axe's rules. */
  async isAccessible() {
    await this.page.locator('.screen').evaluate((screen) => Promise.all(screen.getAnimations().map((one) => one.finished)));
    // By the debugger: the page's policy lets no other script in.
    await this.page.evaluate(axe.source);
    const { violations, passes } = await this.page.evaluate(() =>
      globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`);
    assert.deepEqual(told, []);
    assert.ok(passes.some(({ id }) => id === 'color-contrast'), 'contrast was measured');
  }

  /** Ends the visit. The browser may have complained of what `expected` names and of nothing else. */
  async leave(...expected) {
    await this.context.close();
    const found = this.complaints.filter((one) => !expected.some((pattern) => pattern.test(one)));
    assert.deepEqual(found, []);
  }
}
