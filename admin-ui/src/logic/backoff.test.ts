import { expect, test } from "vitest";

import { EVERY_MS, WAIT_MAX_MS, pauseMs } from "./backoff";

test("answers keep the step, failures lengthen the pause up to a limit", () => {
  expect(pauseMs(0, 1)).toBe(EVERY_MS);
  const pauses = [1, 2, 3, 4, 5, 6, 50].map((failures) => pauseMs(failures, 0.5));
  expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, 15_000, 15_000, WAIT_MAX_MS]);
});

test("chance spreads the questions, and a server's word counts", () => {
  expect(pauseMs(5, 0)).toBeLessThan(pauseMs(5, 1));
  expect(pauseMs(1, 0, 30)).toBe(30_000);
});
