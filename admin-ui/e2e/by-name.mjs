// Opens URLs in a real browser, which finds out by itself where their hosts are.
//
//   node e2e/by-name.mjs URL...
//
// Prints one JSON line a URL: status, the address that answered, `Cache-Status`, and the beginning of the text. Exits with 1 and
// the reason if one does not open.

import { open } from "./browser.mjs";

const { browser, page } = await open({ ignoreHTTPSErrors: true });
try {
  for (const url of process.argv.slice(2)) {
    const answer = await page.goto(url, { timeout: 20_000 });
    const [server, headers, text] = await Promise.all([answer.serverAddr(), answer.allHeaders(), answer.text()]);
    const cache = headers["cache-status"] ?? "";
    console.log(JSON.stringify({ url, status: answer.status(), address: server?.ipAddress, cache, text: text.slice(0, 200) }));
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  await browser.close();
}
