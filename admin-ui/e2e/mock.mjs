// A stand-in for a node, for looking at the screens while there is none. It is not shipped, and it is no test of the API:
// it answers with made-up figures in the API's shapes, with the node's content security policy.
//
//   node e2e/mock.mjs [PORT]      then open http://127.0.0.1:PORT/#token=mock
//   POST /mock/REGION/STATE       puts a region into a state (a "down" region's nodes go down, too)

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const DIST = fileURLToPath(new URL("../dist", import.meta.url));
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const HOSTILE = '"><img src=x onerror=1>';

const started = Date.now();
const place = (name, latitude, longitude, jurisdiction, nodes) => ({ name, latitude, longitude, jurisdiction, nodes });
const regions = [
  place("frankfurt", 50.11, 8.68, "eu", ["fra-1", "fra-2"]),
  place("amsterdam", 52.37, 4.9, "eu", ["ams-1", "ams-2"]),
  place("virginia", 38.95, -77.45, "us", ["iad-1", "iad-2"]),
  place("oregon", 45.52, -122.68, "us", ["pdx-1"]),
  place("singapore", 1.35, 103.82, "apac", ["sin-1", "sin-2"]),
  place("sao-paulo", -23.55, -46.63, "latam", ["gru-1"]),
  place("sydney", -33.87, 151.21, "apac", ["syd-1", "syd-2"]),
].map((region) => ({ ...region, state: "up", since: started - 3_600_000 * (1 + region.nodes.length) }));
let epoch = 17;
const purges = [];

const step = (step, verdict, detail, reason, advice) => ({ step, verdict, detail, reason: reason ?? null, advice: advice ?? null, after_us: null });
const steps = [
  step("residency", "permitted", "This node may hold the site's data."),
  step("route", "/products/*", "class standard"),
  step("lookup", "lookup", "The request may be answered from the cache."),
  step("stored", "object", "status 200, 4711 bytes in one piece, in memory"),
  step("purges", "void", "The stored response was purged.", "purged", "Usual after a purge. If it is frequent, purge by finer tags, or softly."),
  step("origin", "asked", `${HOSTILE} is up, breaker closed, 3 of 100 places taken`),
];
const explanation = { site: "shop", tenant: "acme", pin: null, steps, key: null, steering: null, cache_status: "meridian.fra-1; fwd=stale; detail=purged" };
const trail = {
  id: "0".repeat(32), site: "shop", unix_ms: started, method: "GET", url: `shop.example/${HOSTILE}`, status: 200, outcome: "miss", reason: "purged",
  advice: steps[4].advice, cache_status: explanation.cache_status, micros: 23_456,
  steps: steps.map((step, index) => ({ ...step, after_us: index * 4_700 })),
};

const ledger = (node, realm) => {
  const late = node === "sin-2";
  const heard = ["fra-1", "iad-1", "sin-1"].map((witness) => ({ node: witness, age_ms: late ? 12_300 : 280, unread: late ? 1_204 : 0 }));
  const taken = node === "iad-1" ? { waiting: 3, waiting_oldest_ms: 1_900, backlog: [{ node: "sin-2", purges: 87 }] } : { waiting: 0, waiting_oldest_ms: null, backlog: [] };
  return { realm, lease_age_ms: node === "gru-1" ? null : late ? 12_300 : 280, witnesses: heard, stopped: node === "syd-2", ...taken };
};

const look = (region) => ({
  name: region.name,
  latitude: region.latitude,
  longitude: region.longitude,
  jurisdiction: region.jurisdiction,
  state: region.state,
  pending: false,
  since_unix_ms: region.since,
  votes: regions
    .filter((observer) => observer !== region && observer.state !== "down")
    .map((observer, index) => ({ observer: observer.name, healthy: region.state !== "down" && !(region.state === "degraded" && index === 0) })),
  nodes: region.nodes.map((name, index) => {
    const state = region.state === "down" || (region.state === "degraded" && index === 1) ? "down" : region.state === "unknown" ? "unknown" : "up";
    return {
      name,
      state,
      rtt_us: state === "up" && name !== "fra-1" ? 800 + 21_000 * regions.indexOf(region) + index * 130 : null,
      ready: state === "up" ? true : null,
      ledgers: state === "up" ? ["global", ...(region.jurisdiction === "eu" ? ["eu"] : [])].map((realm) => ledger(name, realm)) : [],
      addresses: [`203.0.113.${regions.indexOf(region) * 10 + index}`],
    };
  }),
});

function counters(scale, ratio) {
  const requests = Math.floor(((Date.now() - started) / 1000 + 4_000) * scale);
  const hits = Math.floor(requests * ratio);
  return {
    requests,
    hits,
    outcomes: { hit: hits - 40, stale: 40, revalidated: 12, miss: requests - hits - 12, pass: 0, refused: 0, error: 0 },
    hit_ratio: requests ? hits / requests : null,
    recent_hit_ratio: requests ? ratio : null,
    requests_per_s: scale * (0.9 + Math.random() * 0.2),
    bytes_per_s: scale * 14_200,
    bytes_out: requests * 14_200,
    origin_fetches: Math.floor((requests - hits) * 0.3),
    collapsed: Math.floor((requests - hits) * 0.6),
    stored: Math.floor((requests - hits) * 0.28),
  };
}

function site(name, tenant, pin, hosts, scale, ratio) {
  const inside = regions.filter((region) => (!pin || region.jurisdiction === pin) && region.state !== "down");
  const nodes = inside.flatMap((region) =>
    region.nodes.map((node, index) => ({ node, region: region.name, counters: counters(scale / (index + 1.5), ratio) })),
  );
  const total = counters(scale * nodes.length * 0.55, ratio);
  return {
    name,
    tenant,
    pin,
    hosts,
    total: scale ? total : { ...total, hit_ratio: null, outcomes: {} },
    not_hit: [
      { reason: "uri-miss", meaning: "Nothing is stored under this address.", count: 48_110 },
      { reason: "collapsed", meaning: "The request shared a fetch that another one had begun.", count: 9_204 },
      { reason: "purged", meaning: "The stored response was purged.", count: 512 },
    ],
    not_stored: [{ reason: "set-cookie", meaning: "The response sets a cookie.", count: 2_031 }],
    nodes,
  };
}

const sites = () => ({
  read_unix_ms: Date.now(),
  nodes: regions.filter((region) => region.state !== "down").flatMap((region) => region.nodes),
  missing: regions.filter((region) => region.state === "down").flatMap((region) => region.nodes),
  sites: [
    site("shop", "acme", null, ["shop.example", "*.shop.example"], 480, 0.9534),
    site("api", "acme", null, ["api.shop.example"], 122, 0.612),
    site("bank", "nordbank", "eu", ["konto.nordbank.example", "www.nordbank.example"], 64.4, 0.348),
    site("media", "kino", null, ["cdn.kino.example"], 901, 0.99991),
    site("idle", HOSTILE, "us", ["idle.example"], 0, 0),
  ],
});

function purge(order) {
  const pin = order.site === "bank" ? "eu" : undefined;
  const members = regions.filter((region) => !pin || region.jurisdiction === pin);
  const at = Date.now();
  const scope = order.everything
    ? [{ kind: "everything" }]
    : [
        ...(order.tags ?? []).map((tag) => ({ kind: "tag", tag })),
        ...(order.urls ?? []).map((url) => ({ kind: "url", host: new URL(url).host, target: new URL(url).pathname })),
      ];
  const nodes = members.flatMap((region) =>
    region.nodes.map((node, index) => ({ node, region: region.name, due: 4 + index + 260 * regions.indexOf(region), down: region.state === "down" })),
  );
  const id = Array.from({ length: 32 }, () => "0123456789abcdef"[Math.floor(Math.random() * 16)]).join("");
  return { id, site: order.site, mode: order.mode ?? "hard", scope, at, nodes };
}

function receipt({ id, site, mode, scope, at, nodes }) {
  const age = Date.now() - at;
  const told = nodes.map(({ node, region, due, down }) => ({
    node,
    region,
    state: down ? (age > 5_000 ? "fenced" : "pending") : age >= due ? "applied" : "pending",
    after_ms: !down && age >= due ? due : null,
  }));
  const stored = nodes.filter((_, index) => index % 3 === 0 && age >= 3 + index * 20).map((node, index) => ({ node: node.node, after_ms: 3 + index * 60 }));
  const state = told.every((node) => node.state !== "pending") ? "all" : stored.length > 1 ? "quorum" : "accepted";
  return { id, site, scope, mode, taken_unix_ms: at, state, stored, nodes: told };
}

const problem = (status, title, detail, more = {}) => [status, { type: `urn:meridian:problem:mock`, title, status, detail, ...more }];

function answer(method, path, body) {
  if (path === "/api/v1/status") return [200, { node: "fra-1" }];
  if (path === "/api/v1/fleet")
    return [200, { node: "fra-1", region: "frankfurt", now_unix_ms: Date.now(), epoch, minority: false, regions: regions.map(look) }];
  if (path === "/api/v1/sites") return [200, sites()];
  if (path === "/api/v1/purges" && method === "GET") return [200, { purges: purges.map(receipt).reverse() }];
  if (path === "/api/v1/purges") {
    const order = JSON.parse(body);
    if (order.site === "idle") {
      return problem(421, "The site is pinned elsewhere", "site `idle` is pinned to `us`, and this node is certified for `eu`", {
        expected: "one of the nodes named here",
        nodes: ["iad-1", "iad-2", "pdx-1"],
      });
    }
    purges.push(purge(order));
    return [200, receipt(purges.at(-1))];
  }
  if (path === "/api/v1/explain") return [200, explanation];
  if (path.startsWith("/api/v1/explain/requests/")) return [200, trail];
  const known = purges.find(({ id }) => path === `/api/v1/purges/${id}`);
  return known ? [200, receipt(known)] : problem(404, "Not found", "there is nothing here");
}

function file(path) {
  const name = normalize(path === "/" ? "/index.html" : path);
  return { type: TYPES[extname(name)] ?? "application/octet-stream", bytes: readFileSync(join(DIST, name)) };
}

const server = createServer(async (request, response) => {
  const path = new URL(request.url, "http://mock").pathname;
  let body = "";
  for await (const piece of request) body += piece;
  response.setHeader("content-security-policy", CSP);
  const [, mock, name, state] = path.split("/");
  if (mock === "mock") {
    const region = regions.find((region) => region.name === name);
    Object.assign(region, { state, since: Date.now() });
    epoch += 1;
    return response.end();
  }
  if (path.startsWith("/api/")) {
    const [status, json] = request.headers.authorization === "Bearer mock" ? answer(request.method, path, body) : problem(401, "Not logged in", "wrong token");
    response.writeHead(status, { "content-type": status < 400 ? "application/json" : "application/problem+json" });
    return response.end(JSON.stringify(json));
  }
  try {
    const { type, bytes } = file(path);
    response.writeHead(200, { "content-type": type });
    response.end(bytes);
  } catch {
    response.writeHead(404).end();
  }
});
server.listen(Number(process.argv[2] ?? 9099), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/#token=mock`));
