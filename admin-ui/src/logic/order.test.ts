import { expect, test } from "vitest";

import type { Site } from "../api/client";
import { arranged } from "./order";

function site(name: string, requests: number, hit_ratio: number | null, pin: string | null = null): Site {
  const total = { requests, hit_ratio, requests_per_s: requests / 10, origin_fetches: 0, outcomes: {} };
  return { name, tenant: "acme", pin, hosts: [`${name}.example`], total, nodes: [], not_hit: [], not_stored: [] } as unknown as Site;
}

const sites = [site("b", 10, 0.5), site("a", 10, null), site("c", 99, 0, "eu")];
const names = (column: Parameters<typeof arranged>[1], filter = "") => arranged(sites, column, filter).map((s) => s.name);

test("names go up, figures go down, equals by name, and what has no ratio comes last", () => {
  expect(names("name")).toEqual(["a", "b", "c"]);
  expect(names("requests")).toEqual(["c", "a", "b"]);
  expect(names("hits")).toEqual(["b", "c", "a"]);
});

test("a filter's words must all be found", () => {
  expect(names("name", "EU acme")).toEqual(["c"]);
  expect(names("name", "b.example eu")).toEqual([]);
});
