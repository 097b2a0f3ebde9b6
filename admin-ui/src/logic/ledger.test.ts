import { expect, test } from "vitest";

import type { RealmLedger } from "../api/client";
import { lease, unread } from "./ledger";

const QUIET: RealmLedger = { realm: "eu", lease_age_ms: 440, witnesses: [], waiting: 0, waiting_oldest_ms: null, backlog: [], stopped: false };

test("a lease is told by its age, and a missing one by a word", () => {
  const looks = [{}, { lease_age_ms: 61_000 }, { lease_age_ms: null }, { stopped: true }];
  const told = looks.map((look) => lease({ ...QUIET, ...look })).map(({ word, tone }) => [word, tone]);
  expect(told).toEqual([["0.4 s", "good"], ["1 min 1 s", "warn"], ["none", "bad"], ["disk failed", "bad"]]);
});

test("a node is as far behind as the witness says that has most for it", () => {
  const witnesses = [2, 7, 0].map((unread) => ({ node: "a", age_ms: null, unread }));
  expect(unread({ ...QUIET, witnesses })).toBe(7);
  expect(unread(QUIET)).toBe(0);
});
