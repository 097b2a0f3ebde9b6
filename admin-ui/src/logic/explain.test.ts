import { expect, test } from "vitest";

import { type Draft, advice, after, fault, idFault, orderOf } from "./explain";

const draft: Draft = { url: "https://shop.example/a?b=c", method: "get", fields: "", client: "" };

test("what is no request is found before it is sent", () => {
  expect(fault(draft)).toBeUndefined();
  for (const url of ["", " ", "/a", "ftp://a/", "https://", "https://user@a/", "https://a/#b"]) {
    expect(fault({ ...draft, url }), url).toBeDefined();
  }
  expect(fault({ ...draft, method: "G T" })).toContain("method");
  expect(fault({ ...draft, fields: "Accept: a\n\nno colon" })).toContain("no colon");
  expect(fault({ ...draft, fields: "b ad: x" })).toBeDefined();
  expect(fault({ ...draft, fields: "a: b\n".repeat(65) })).toContain("64");
});

test("fields are read a line each, and repeated ones are one list", () => {
  const fields = "Accept: a\naccept:b\nCookie: x=1\nCookie: y=2\nX-Time: 10:30\n";
  expect(orderOf({ ...draft, fields, client: " 192.0.2.7 " })).toEqual({
    url: "https://shop.example/a?b=c",
    method: "GET",
    headers: { accept: "a, b", cookie: "x=1; y=2", "x-time": "10:30" },
    client: "192.0.2.7",
  });
  expect(orderOf(draft).client).toBeNull();
});

test("only the id of a request is asked for", () => {
  expect(idFault(` ${"0a".repeat(16)} `)).toBeUndefined();
  for (const id of ["", "xyz", "0".repeat(31), "../status", "g".repeat(32)]) expect(idFault(id), id).toBeDefined();
});

test("the advice is that of the last reason", () => {
  const step = { step: "a", verdict: "b", detail: "c" };
  expect(advice([step])).toBeUndefined();
  const steps = [{ ...step, reason: "stale", advice: "one" }, { ...step, reason: "purged", advice: "two" }, step];
  expect(advice(steps)).toEqual({ reason: "purged", advice: "two" });
});

test("times are short", () => {
  expect([0, 999, 1_500, 2_345_678, null].map(after)).toEqual(["0 \u00b5s", "999 \u00b5s", "1.5 ms", "2.35 s", ""]);
});
