import { expect, test } from "vitest";

import { formatHash, parseHash, takeToken } from "./route";

test("a hash reads back as it was written", () => {
  const route = { screen: "sites" as const, params: { open: "shop", sort: "rate" } };
  expect(parseHash(formatHash(route))).toEqual(route);
  expect(formatHash({ screen: "fleet", params: { region: undefined } })).toBe("#/fleet");
});

test("an unknown hash leads to the first screen and does no harm", () => {
  for (const hash of ["", "#", "#/", "#/nope", "#javascript:alert(1)", "#/%ff?%ff=%ff"]) {
    expect(parseHash(hash).screen).toBe("fleet");
  }
});

test("a token is taken out of the hash", () => {
  expect(takeToken("#token=abc")).toEqual({ token: "abc", rest: "#/fleet" });
  expect(takeToken("#/sites?open=shop")).toBeUndefined();
  expect(takeToken("#token=")).toBeUndefined();
});
