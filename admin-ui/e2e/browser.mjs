// A headless Chromium for the end-to-end checks. It talks to the given node only: it is told to fetch nothing of its own.

import { chromium } from "playwright-core";

const ARGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];


/** Opens a page that collects whatever goes wrong in it: script errors, and what the content security policy blocked. */
export async function open({ colorScheme = "light", width = 1440, height = 900, ...more } = {}) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ARGS,
    chromiumSandbox: false,
  });
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, ...more });
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(`script error: ${error.message}`));
  page.on("console", (message) => {
    // a refused login and an unreachable node are logged by the browser itself, and are part of the checks
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) faults.push(message.text());
  });
  page.setDefaultTimeout(10_000);
  return { browser, page, faults };
}
