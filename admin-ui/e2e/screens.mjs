// Checks the admin UI of a running node in a real browser.
//
//   MERIDIAN_ADMIN=http://127.0.0.1:9000 MERIDIAN_TOKEN=... node e2e/screens.mjs [command]
//
//   all                 (default) the steps login, fleet, sites, purge, explain, leave
//   STEP ...            only these steps; login comes first
//   down REGION [MS]    opens the fleet, prints {"event":"watching"} when REGION is shown and not down, and fails unless it
//                       is shown as down within MS (3000) of the kill. Who kills: this script, if MERIDIAN_KILL holds
//                       process ids ("123,456"); or else the caller, who has 60 s and measures by the times printed.
//   up REGION [MS]      fails unless REGION is shown as up within MS (30000).
//
// MERIDIAN_SCREENSHOTS: a folder for screenshots. MERIDIAN_SITE: the site to purge (default: the first free one). MERIDIAN_TAG.
// Prints one JSON line an event; exits with 1 and the reason if a check fails.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { open } from "./browser.mjs";

const admin = process.env.MERIDIAN_ADMIN;
const token = process.env.MERIDIAN_TOKEN;
const shots = process.env.MERIDIAN_SCREENSHOTS;
assert(admin && token, "MERIDIAN_ADMIN and MERIDIAN_TOKEN must be given");
if (shots) mkdirSync(shots, { recursive: true });

const say = (event, facts = {}) => console.log(JSON.stringify({ event, at_unix_ms: Date.now(), ...facts }));
const shot = async (page, name) => shots && page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
const marker = (page, region) => page.locator(`svg [data-region="${region}"]`);

const STEPS = { login, fleet, sites, purge, explain, leave };

const { browser, page, faults } = await open({ colorScheme: process.env.MERIDIAN_SCHEME ?? "light" });
try {
  const [command = "all", ...rest] = process.argv.slice(2);
  if (command === "down") await down(...rest);
  else if (command === "up") await up(...rest);
  else for (const step of command === "all" ? Object.keys(STEPS) : [command, ...rest]) await STEPS[step]();
  assert.deepEqual(faults, [], "the page had errors");
  say("passed", { command });
} catch (error) {
  await shot(page, "failed").catch(() => {});
  console.error(error instanceof Error ? error.message : error, faults);
  process.exitCode = 1;
} finally {
  await browser.close();
}

/** A wrong token is refused; the right one is taken from the URL, and does not stay there. */
async function login() {
  await page.goto(admin);
  await page.getByLabel("Admin token").fill("0".repeat(64));
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").getByText(/not the admin token|Too many/).waitFor();
  await shot(page, "login");
  await page.goto(`${admin}/#token=${token}`);
  await page.getByRole("navigation").waitFor();
  assert(!page.url().includes(token), "the token stands in the URL");
  say("login");
}

async function fleet() {
  await page.goto(`${admin}/#/fleet`);
  const markers = page.locator("svg [data-region]");
  await markers.first().waitFor();
  const known = await api("/api/v1/fleet");
  assert.equal(await markers.count(), known.regions.length, "every region stands on the map");
  for (const region of known.regions) await marker(page, region.name).waitFor();
  await markers.first().click();
  const sheet = page.getByRole("region", { name: `Region ${known.regions[0].name}` });
  for (const node of known.regions[0].nodes) await sheet.locator(`[data-node="${node.name}"]`).waitFor();
  const purges = page.getByRole("region", { name: "Purges" });
  const ledgers = known.regions.flatMap((region) => region.nodes).flatMap((node) => node.ledgers.map((ledger) => [node.name, ledger]));
  assert(ledgers.length > 0, "nothing is told of purges");
  for (const [node, ledger] of ledgers) {
    const row = purges.locator(`[data-ledger="${node}/${ledger.realm}"]`);
    await row.waitFor();
    assert.match(await row.innerText(), /\d s|min/, `the lease of ${node} on ${ledger.realm} has an age`);
  }
  await page.keyboard.press("Tab");
  assert(page.url().includes(`region=${known.regions[0].name}`), "the chosen region stands in the URL");
  await shot(page, "fleet");
  say("fleet", { regions: known.regions.length, epoch: known.epoch });
}

async function sites() {
  await page.getByRole("link", { name: "Sites" }).click();
  const known = await api("/api/v1/sites");
  for (const site of known.sites) await page.locator(`[data-site="${site.name}"]`).waitFor();
  const first = known.sites[0];
  await page.locator(`[data-site="${first.name}"] button[aria-expanded]`).click();
  for (const { node } of first.nodes) await page.locator(`.below [data-node="${node}"]`).waitFor();
  await shot(page, "sites");
  say("sites", { sites: known.sites.length, missing: known.missing });
}

async function purge() {
  await page.getByRole("link", { name: "Purge", exact: true }).click();
  const known = await api("/api/v1/sites");
  const site = process.env.MERIDIAN_SITE ?? (known.sites.find((site) => !site.pin) ?? known.sites[0]).name;
  const send = page.getByRole("button", { name: "Purge", exact: true });
  assert(await send.isDisabled(), "an empty purge cannot be sent");
  await page.getByLabel("Site", { exact: true }).selectOption(site);
  await page.getByRole("radio", { name: "Everything" }).check();
  assert(await send.isDisabled(), "everything needs a confirmation");
  await page.getByRole("radio", { name: "Tags" }).check();
  await page.getByRole("textbox", { name: "Tags" }).fill(process.env.MERIDIAN_TAG ?? "e2e-check");
  await send.click();
  const result = page.getByRole("region", { name: "Result" });
  await result.locator("article[data-purge]").waitFor();
  await result.locator('[data-done="true"]').waitFor({ timeout: 20_000 });
  const receipts = await result.locator("tr[data-node]").evaluateAll((rows) => rows.map((row) => row.dataset.state));
  assert(receipts.length > 0 && receipts.every((state) => state !== "pending"), `receipts: ${receipts}`);
  const id = await result.locator("article").getAttribute("data-purge");
  await page.locator(`[data-history="${id}"]`).waitFor();
  await shot(page, "purge");
  say("purge", { id, receipts });
}

async function explain() {
  await page.getByRole("link", { name: "Explain", exact: true }).click();
  const known = await api("/api/v1/sites");
  const site = known.sites.find((site) => !site.pin) ?? known.sites[0];
  const ask = page.getByRole("button", { name: "Explain", exact: true });
  assert(await ask.isDisabled(), "nothing cannot be explained");
  await page.getByLabel("URL").fill(`http://${site.hosts[0].replace("*", "www")}/e2e?a=1`);
  await page.getByLabel("Header fields").fill("Accept: text/html");
  await ask.click();
  const result = page.getByRole("region", { name: "Result" });
  await result.locator('[data-step="stored"]').waitFor();
  await result.locator("[data-cache-status]").waitFor();
  const steps = await result.locator("li[data-step]").evaluateAll((rows) => rows.map((row) => row.dataset.step));
  assert.deepEqual(steps.slice(0, 2), ["residency", "target"], `steps: ${steps}`);
  assert(page.url().includes("url="), "what is explained stands in the URL");
  await shot(page, "explain");
  await page.getByRole("link", { name: "What was done" }).click();
  await page.getByLabel("Request id").fill("0".repeat(32));
  await ask.click();
  await page.getByText("answered no such request").waitFor();
  say("explain", { steps });
}

async function leave() {
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByLabel("Admin token").waitFor();
  assert.equal(await page.evaluate(() => JSON.stringify({ ...sessionStorage, ...localStorage })), "{}", "nothing is kept");
  say("logout");
}

async function down(region, ms = "3000") {
  await page.goto(`${admin}/#token=${token}`);
  await page.goto(`${admin}/#/fleet?region=${region}`);
  const alive = ["up", "degraded"].map((state) => `svg [data-region="${region}"][data-state="${state}"]`).join(", ");
  await page.locator(alive).waitFor({ timeout: 30_000 });
  say("watching", { region });
  const kill = (process.env.MERIDIAN_KILL ?? "").split(",").filter(Boolean).map(Number);
  const killed = Date.now();
  for (const pid of kill) process.kill(pid, "SIGKILL");
  if (kill.length > 0) say("killed", { pids: kill });
  await page.locator(`svg [data-region="${region}"][data-state="down"]`).waitFor({ timeout: kill.length > 0 ? Number(ms) : 60_000 });
  say("down", { region, ...(kill.length > 0 ? { after_ms: Date.now() - killed } : {}) });
  await shot(page, "down");
}

async function up(region, ms = "30000") {
  await page.goto(`${admin}/#token=${token}`);
  await page.locator(`svg [data-region="${region}"][data-state="up"]`).waitFor({ timeout: Number(ms) });
  say("up", { region });
  await shot(page, "up");
}

async function api(path) {
  const answer = await fetch(admin + path, { headers: { authorization: `Bearer ${token}` } });
  assert(answer.ok, `${path}: ${answer.status}`);
  return answer.json();
}
