import { expect, test } from "vitest";

import type { Steering } from "../api/client";
import { from, wished } from "./steered";

const region: Steering["regions"][number] = { region: "a", chosen: true, reason: "chosen" };
const steering: Steering = { client: "192.0.2.1", outcome: "normal", ttl_s: 30, scope: 24, regions: [region] };

test("a place is told as far as it is known", () => {
  expect(from(steering)).toBe("not known");
  const location = { country: "DE", latitude: 51, longitude: 0, accuracy_km: 20, asn: 3320 };
  expect(from({ ...steering, location })).toBe("DE; 51, 0; within 20 km; AS3320");
});

test("only what is wished of a region is told", () => {
  expect(wished(region)).toEqual([]);
  expect(wished({ ...region, estimated_ms: 8.4, share: 0.254, weight: 0, bias_percent: -5, priority: 1 })).toEqual([
    "about 8.4 ms",
    "25 % of such clients",
    "weight 0",
    "bias -5 %",
    "priority 1",
  ]);
});
