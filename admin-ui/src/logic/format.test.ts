import { expect, test } from "vitest";

import { bytes, coordinates, percent, rate, roundTrip, span } from "./format";

test("a share is whole only if it is whole", () => {
  expect([0, 0.00001, 0.5, 0.99999, 1, null].map(percent)).toEqual(["0.0 %", "0.1 %", "50.0 %", "99.9 %", "100.0 %", "\u2013"]);
});

test("figures keep their unit", () => {
  expect([0, 999, 1_500, 250e6].map(bytes)).toEqual(["0 B", "999 B", "1.5 kB", "250 MB"]);
  expect([0, 0.01, 3.14159, 12_345.6].map(rate)).toEqual(["0", "<0.1", "3.1", "12,346"]);
  expect([null, 250, 1_234, 85_000].map(roundTrip)).toEqual(["\u2013", "250 \u00b5s", "1.2 ms", "85 ms"]);
  expect([-5, 59_000, 61_000, 3_661_000, 90_000_000].map(span)).toEqual(["0 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
  expect(coordinates(-33.87, 151.21)).toBe("33.9\u00b0 S, 151.2\u00b0 E");
});
