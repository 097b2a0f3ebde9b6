import { expect, test } from "vitest";

import type { Purge } from "../api/client";
import { type Draft, fault, named, newKey, orderOf, reached } from "./purge";

const draft: Draft = { site: "shop", scope: "tags", text: "", confirmation: "", mode: "hard", wait: "all" };

test("a draft that names nothing is not sent", () => {
  expect(fault({ ...draft, site: "" })).toContain("site");
  expect(fault(draft)).toContain("at least one tag");
  expect(fault({ ...draft, scope: "urls", text: " \n " })).toContain("at least one URL");
});

test("everything is purged only after the site's name was typed", () => {
  const everything: Draft = { ...draft, scope: "everything", text: "left over" };
  expect(fault(everything)).toContain("shop");
  expect(fault({ ...everything, confirmation: "sho" })).toBeDefined();
  expect(fault({ ...everything, confirmation: "shop" })).toBeUndefined();
  expect(orderOf({ ...everything, confirmation: "shop" }, "k")).toMatchObject({ everything: true, tags: [], urls: [] });
});

test("tags and URLs are taken apart, each once", () => {
  expect(named({ ...draft, text: "a, b\nc a" })).toEqual(["a", "b", "c"]);
  expect(named({ ...draft, scope: "urls", text: "https://a/x,y\nhttps://a/z\n" })).toEqual(["https://a/x,y", "https://a/z"]);
});

test("what is no absolute URL is found before it is sent", () => {
  for (const text of ["/path", "ftp://a/", "https://", "https://a/#b"]) {
    expect(fault({ ...draft, scope: "urls", text })).toContain("not an absolute");
  }
  expect(fault({ ...draft, scope: "urls", text: "https://shop.example?a=b" })).toBeUndefined();
  expect(fault({ ...draft, text: Array.from({ length: 31 }, (_, n) => `t${n}`).join(" ") })).toContain("at most 30");
});

test("prefixes end with a slash and hosts are bare", () => {
  const prefix = (text: string) => fault({ ...draft, scope: "prefixes", text });
  expect(prefix("https://shop.example/a/ https://shop.example/b/c/")).toBeUndefined();
  expect(prefix("https://shop.example/a")).toContain("does not end");
  expect(prefix("https://shop.example/")).toContain("whole host");
  expect(prefix("https://shop.example/a?b/")).toContain("without a query");
  expect(prefix("/a/")).toContain("absolute");
  const host = (text: string) => fault({ ...draft, scope: "hosts", text });
  expect(host("shop.example\n[::1]")).toBeUndefined();
  for (const text of ["https://shop.example", "shop.example/a", "shop.example:80"]) expect(host(text)).toContain("not a host");
  expect(orderOf({ ...draft, scope: "hosts", text: "shop.example" }, "k")).toMatchObject({ hosts: ["shop.example"], tags: [], urls: [], prefixes: [] });
});

test("a region is enough for who waits for a region", () => {
  const purge = { state: "region" } as Purge;
  expect([reached(purge, "quorum"), reached(purge, "region"), reached(purge, "all")]).toEqual([true, true, false]);
});

test("an idempotency key is new each time", () => {
  expect(newKey()).toMatch(/^[0-9a-f]{32}$/);
  expect(newKey()).not.toBe(newKey());
});
