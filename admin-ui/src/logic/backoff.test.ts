import { expect, test } from "vitest";

import { type Asked, EVERY_MS, PAUSE_MIN_MS, WAIT_MAX_MS, pauseMs } from "./backoff";

const asked: Asked = { failures: 0, tookMs: 0, chance: 0.5 };

test("while answers come, questions begin once in a step and never right after each other", () => {
  expect(pauseMs(asked)).toBe(EVERY_MS);
  expect(pauseMs({ ...asked, tookMs: 300 })).toBe(EVERY_MS - 300);
  expect(pauseMs({ ...asked, tookMs: 60_000 })).toBe(PAUSE_MIN_MS);
});

test("failures lengthen the pause up to a limit", () => {
  const pauses = [1, 2, 3, 4, 5, 6, 50].map((failures) => pauseMs({ ...asked, failures }));
  expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, 15_000, 15_000, WAIT_MAX_MS]);
});

test("chance spreads the questions, and a server's word counts", () => {
  expect(pauseMs({ ...asked, failures: 5, chance: 0 })).toBeLessThan(pauseMs({ ...asked, failures: 5, chance: 1 }));
  expect(pauseMs({ ...asked, failures: 1, chance: 0, retryAfterS: 30 })).toBe(30_000);
});
